//! What stands before an AWS peer and checks what the peer does not: the
//! signature and end of a web-identity token, and requests against AWS's own
//! service model. It also counts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::model::Model;
use super::rights::{Abroad, Rights};
use crate::cluster::{Cluster, lock};
use crate::runtime;
use crate::tokens::{ClusterKeys, TokenProblem};

const LARGEST_REQUEST: usize = 1 << 20;
/// What a role's identity provider takes tokens for.
pub(super) const AUDIENCE: &str = "sts.amazonaws.com";

/// One request to an AWS service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsRequest {
    /// `secretsmanager`, `ssm` or `sts`.
    pub service: String,
    /// Such as `GetSecretValue`.
    pub action: String,
    /// The region that it was signed for, where it was.
    pub region: Option<String>,
    /// The host that it was sent to.
    pub host: String,
    /// Its members; of a query, the top ones.
    pub input: Value,
    /// Why AWS would refuse it, whatever the peer says.
    pub refused: Option<String>,
}

pub(super) struct Front {
    pub(super) address: SocketAddr,
    pub(super) requests: Arc<Mutex<Vec<AwsRequest>>>,
}

struct Shared {
    cluster: &'static Cluster,
    keys: ClusterKeys,
    model: Model,
    peer: SocketAddr,
    client: reqwest::Client,
    rights: Rights,
    requests: Arc<Mutex<Vec<AwsRequest>>>,
}

impl Front {
    /// Before this peer. On the bed's runtime.
    pub(super) async fn start(cluster: &'static Cluster, peer: SocketAddr, rights: Rights) -> Result<Self> {
        let requests: Arc<Mutex<Vec<AwsRequest>>> = Arc::default();
        let seen = Arc::clone(&requests);
        runtime::run(async move {
            let shared = Shared {
                cluster,
                keys: ClusterKeys::fetch(cluster).await?,
                model: Model::load().await?,
                peer,
                client: reqwest::Client::builder().no_proxy().build()?,
                rights,
                requests: seen,
            };
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            let router = Router::new().fallback(answer).with_state(Arc::new(shared));
            // Ends with the process; nothing waits for it.
            tokio::spawn(async move { axum::serve(listener, router).await });
            Ok(Self { address, requests })
        })
        .await
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LARGEST_REQUEST).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let Some(mut asked) = understood(&head.headers, &body) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    asked.refused = shared.model.refusal(&asked.service, &asked.action, &asked.input);
    lock(&shared.requests).push(asked.clone());
    if let Some(why) = &asked.refused {
        return refusal(&asked.service, "ValidationException", why);
    }
    if let Some(response) = shared.denied(&asked, &head.headers) {
        return response;
    }
    let mut headers = head.headers.clone();
    match shared.rights.abroad(&access_key(&headers), &asked.action, asked.input["SecretId"].as_str().unwrap_or("")) {
        Some(Abroad::Denied(why)) => {
            let why = format!("User is not authorized to perform: secretsmanager:{}, because {why}", asked.action);
            return refusal("secretsmanager", "AccessDeniedException", &why);
        }
        Some(Abroad::In(account)) => as_owner(&mut headers, account),
        None => {}
    }
    let forwarded = match asked.action.as_str() {
        "AssumeRoleWithWebIdentity" => match shared.vouched(&body).await {
            Ok(body) => body,
            Err((code, why)) => return refusal("sts", code, why),
        },
        _ => body,
    };
    match shared.forward(&head.method, &head.uri.to_string(), &headers, forwarded, asked.service == "sts").await {
        Ok(response) => response,
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
    }
}

fn understood(headers: &HeaderMap, body: &Bytes) -> Option<AwsRequest> {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let scope = text(header::AUTHORIZATION).split_once("Credential=").map(|(_, rest)| rest);
    let region = scope.and_then(|scope| scope.split('/').nth(2)).map(str::to_owned);
    let host = text(header::HOST).to_owned();
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok());
    let (service, action, input) = if let Some((prefix, action)) = target.and_then(|target| target.split_once('.')) {
        let service = if prefix == "AmazonSSM" { "ssm" } else { "secretsmanager" };
        (service.to_owned(), action.to_owned(), serde_json::from_slice(body).ok()?)
    } else {
        let fields = fields(body);
        let action = fields.get("Action")?.clone();
        ("sts".to_owned(), action, members(&fields))
    };
    Some(AwsRequest { service, action, region, host, input, refused: None })
}

fn access_key(headers: &HeaderMap) -> String {
    let signed = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let scope = signed.split_once("Credential=").map(|(_, rest)| rest).unwrap_or_default();
    scope.split('/').next().unwrap_or_default().to_owned()
}

/// Signed for the account itself, which the peer takes without looking at the
/// signature.
fn as_owner(headers: &mut HeaderMap, account: &str) {
    let signed = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let owned = signed.replacen(&access_key(headers), account, 1);
    if let Ok(owned) = owned.parse() {
        headers.insert(header::AUTHORIZATION, owned);
    }
    headers.remove("x-amz-security-token");
}

fn fields(body: &Bytes) -> BTreeMap<String, String> {
    // The one parser of forms at hand is that of URLs.
    let text = String::from_utf8_lossy(body);
    reqwest::Url::parse(&format!("http://form/?{text}"))
        .map(|url| url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
        .unwrap_or_default()
}

/// The query's fields as the members that they stand for.
fn members(fields: &BTreeMap<String, String>) -> Value {
    let mut input = serde_json::Map::new();
    for (name, value) in fields.iter().filter(|(name, _)| !matches!(name.as_str(), "Action" | "Version")) {
        if let Some((list, rest)) = name.split_once(".member.") {
            let items = input.entry(list).or_insert_with(|| json!([]));
            let Some((place, member)) = rest.split_once('.') else { continue };
            let Ok(place) = place.parse::<usize>() else { continue };
            if let Some(items) = items.as_array_mut().filter(|_| (1..1000).contains(&place)) {
                items.resize(items.len().max(place), json!({}));
                items[place - 1][member] = json!(value);
            }
        } else if name == "DurationSeconds" {
            input.insert(name.clone(), value.parse::<u64>().map_or(json!(value), |number| json!(number)));
        } else {
            input.insert(name.clone(), json!(value));
        }
    }
    Value::Object(input)
}

fn refusal(service: &str, code: &str, why: &str) -> Response {
    let (kind, body) = if service == "sts" {
        let xml = format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
             <Code>{code}</Code><Message>{why}</Message></Error><RequestId>0</RequestId></ErrorResponse>"
        );
        ("text/xml", xml)
    } else {
        ("application/x-amz-json-1.1", json!({"__type": code, "message": why}).to_string())
    };
    (StatusCode::BAD_REQUEST, [(header::CONTENT_TYPE, kind)], body).into_response()
}

impl Shared {
    /// The request with a token that the peer understands, once the one in it
    /// has been verified as AWS verifies it.
    async fn vouched(&self, body: &Bytes) -> Result<Bytes, (&'static str, &'static str)> {
        let invalid = |why| ("InvalidIdentityToken", why);
        let mut fields = fields(body);
        let token = fields.get("WebIdentityToken").cloned().unwrap_or_default();
        let claims = self.keys.verify(&token, AUDIENCE).map_err(|problem| match problem {
            TokenProblem::Expired => ("ExpiredTokenException", "Token expired"),
            TokenProblem::Audience => invalid("Incorrect token audience"),
            TokenProblem::Issuer => invalid("No OpenIDConnect provider found in your account"),
            TokenProblem::Signature => invalid("Couldn't retrieve verification key from your identity provider"),
            TokenProblem::Malformed | TokenProblem::NotYet => invalid("The token is not valid"),
        })?;
        // The same claims, but for a list of audiences, which the peer refuses.
        let single = json!({
            "iss": claims.issuer, "sub": claims.subject, "aud": AUDIENCE, "exp": claims.expires,
        });
        let token = self.cluster.sign_token(&single).await.map_err(|_| ("InternalFailure", "no key"))?;
        fields.insert("WebIdentityToken".to_owned(), token);
        let mut url = reqwest::Url::parse("http://form/").map_err(|_| ("InternalFailure", "no form"))?;
        url.query_pairs_mut().extend_pairs(&fields);
        Ok(Bytes::from(url.query().unwrap_or_default().to_owned()))
    }

    fn denied(&self, asked: &AwsRequest, headers: &HeaderMap) -> Option<Response> {
        if asked.service != "ssm" {
            return None;
        }
        let region = asked.region.as_deref().unwrap_or_default();
        let resource = self.rights.denied(&access_key(headers), region, &asked.action, &asked.input)?;
        let why = format!("not authorized to perform ssm:{} on resource {resource}: none allows it", asked.action);
        Some(refusal("ssm", "AccessDeniedException", &why))
    }

    async fn forward(
        &self,
        method: &axum::http::Method,
        path: &str,
        headers: &HeaderMap,
        body: Bytes,
        is_sts: bool,
    ) -> Result<Response> {
        let mut headers = headers.clone();
        headers.remove(header::CONTENT_LENGTH);
        // The host stays as it was signed.
        let request = self.client.request(method.clone(), format!("http://{}{path}", self.peer));
        let answer = request.headers(headers).body(body).send().await?;
        let mut response = Response::builder().status(answer.status());
        for (name, value) in answer.headers() {
            if !matches!(name.as_str(), "content-length" | "transfer-encoding" | "connection") {
                response = response.header(name, value);
            }
        }
        let body = answer.bytes().await?;
        if is_sts {
            self.rights.issued(&String::from_utf8_lossy(&body));
        }
        Ok(response.body(Body::from(body))?)
    }
}
