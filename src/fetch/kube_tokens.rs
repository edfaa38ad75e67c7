//! TokenRequest, with bounds on the answer and without the client's own
//! parsing: that logs an answer which it cannot parse, token and all.

use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt, Limited};
use kube::{
    api::{PostParams, Request},
    client::Body,
};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{ServiceAccount, Token, TokenSource};
use crate::{
    secret::SecretText,
    stores::{
        Audience, ErrorClass, StoreError,
        names::{is_dns_label, is_dns_subdomain},
    },
};

/// The API server gives nothing shorter.
const LIFE: Duration = Duration::from_secs(600);
/// And nothing is taken to live longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
const LARGEST_ANSWER: usize = 256 << 10;
/// How much of the API server's own explanation is repeated.
const LONGEST_REASON: usize = 300;

/// Tokens from the API server, by TokenRequest.
pub struct KubeTokens {
    client: kube::Client,
    reserved: Vec<String>,
}

impl KubeTokens {
    /// With the operator's own client.
    #[must_use]
    pub fn new(client: kube::Client) -> Self {
        Self { client, reserved: Vec::new() }
    }

    /// Never asks for a token of these audiences by name: the API server's
    /// own. The admission policy refuses them too; this is the second lock.
    #[must_use]
    pub fn refusing(mut self, audiences: Vec<String>) -> Self {
        self.reserved = audiences;
        self
    }

    fn audiences<'a>(&self, audience: &'a Audience) -> Result<Vec<&'a str>, StoreError> {
        match audience {
            // None asked for is the API server's own.
            Audience::ApiServer => Ok(Vec::new()),
            Audience::Of(name) if name.is_empty() || self.is_reserved(name) => {
                let message = "the store asks for the API server's own audience, which no manager may receive: \
                               set another audience";
                Err(StoreError::new(ErrorClass::Invalid, message))
            }
            Audience::Of(name) => Ok(vec![name]),
        }
    }

    fn is_reserved(&self, audience: &str) -> bool {
        // What clusters call their own API by default, whatever their domain.
        let host = audience.strip_prefix("https://").unwrap_or(audience);
        host == "kubernetes.default"
            || host.starts_with("kubernetes.default.svc")
            || self.reserved.iter().any(|own| own == audience)
    }
}

#[async_trait]
impl TokenSource for KubeTokens {
    async fn token(&self, account: &ServiceAccount, audience: &Audience) -> Result<Token, StoreError> {
        self.token_for(account, audience, LIFE).await
    }

    async fn token_for(
        &self,
        account: &ServiceAccount,
        audience: &Audience,
        life: Duration,
    ) -> Result<Token, StoreError> {
        let audiences = self.audiences(audience)?;
        // The path is built from both.
        if !is_dns_label(&account.namespace) || !is_dns_subdomain(&account.name) {
            return Err(StoreError::new(ErrorClass::Identity, "serviceAccountName is not a ServiceAccount's name"));
        }
        let question = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": { "audiences": audiences, "expirationSeconds": life.clamp(LIFE, LONGEST).as_secs() },
        });
        let path = format!("/api/v1/namespaces/{}/serviceaccounts", account.namespace);
        let request = Request::new(path)
            .create_subresource("token", &account.name, &PostParams::default(), question.to_string().into_bytes())
            .map_err(|_| StoreError::new(ErrorClass::Invalid, "the TokenRequest cannot be written"))?;
        let asked = Instant::now();
        let answer = self.client.send(request.map(Body::from)).await.map_err(|_| unreachable())?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), LARGEST_ANSWER).collect().await.map_err(|_| unreachable())?;
        let body = Zeroizing::new(body.to_bytes().to_vec());
        if (200..300).contains(&status) { granted(&body, asked) } else { Err(refused(status, &body, account)) }
    }
}

fn unreachable() -> StoreError {
    StoreError::new(ErrorClass::Unavailable, "the API server did not answer the TokenRequest")
}

#[derive(Deserialize)]
struct Granted {
    spec: GrantedSpec,
    status: GrantedStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GrantedSpec {
    expiration_seconds: u64,
}

#[derive(Deserialize)]
struct GrantedStatus {
    token: String,
}

/// Its life counts from the question and by seconds, so that a clock that
/// differs from the API server's does no harm.
pub(crate) fn granted(body: &[u8], asked: Instant) -> Result<Token, StoreError> {
    let granted: Granted = serde_json::from_slice(body).map_err(|_| unreachable())?;
    let life = Duration::from_secs(granted.spec.expiration_seconds).min(LONGEST);
    Ok(Token { text: SecretText::new(granted.status.token), expires: asked + life })
}

#[derive(Default, Deserialize)]
struct Refused {
    #[serde(default)]
    message: String,
}

pub(crate) fn refused(status: u16, body: &[u8], account: &ServiceAccount) -> StoreError {
    let said = serde_json::from_slice::<Refused>(body).unwrap_or_default().message;
    let reason: String = said.chars().filter(|character| !character.is_control()).take(LONGEST_REASON).collect();
    let ServiceAccount { namespace, name, .. } = account;
    match status {
        404 => StoreError::new(
            ErrorClass::Identity,
            format!("namespace {namespace} has no ServiceAccount {name}: create it or correct serviceAccountName"),
        ),
        // A policy's denial is 422 unless it says otherwise.
        403 | 422 => StoreError::new(
            ErrorClass::Identity,
            format!("the API server gives no token for ServiceAccount {namespace}/{name}: {reason}"),
        ),
        429 => StoreError::new(ErrorClass::Throttled, "the API server asks for patience with TokenRequests (429)"),
        _ => {
            StoreError::new(ErrorClass::Unavailable, format!("the API server answered the TokenRequest with {status}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{Arc, Mutex},
        time::Duration,
    };

    use http_body_util::{BodyExt, Full};
    use hyper::{Request, Response, body::Bytes};
    use kube::client::Body;
    use tokio::time::Instant;

    use super::{KubeTokens, ServiceAccount, TokenSource};
    use crate::stores::Audience;

    type Asked = Arc<Mutex<Vec<u64>>>;

    /// Gives what is asked for, up to an hour; with the seconds that were asked.
    fn source() -> (KubeTokens, Asked) {
        let asked = Asked::default();
        let seen = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<Body>| {
            let seen = Arc::clone(&seen);
            async move {
                let body = request.into_body().collect().await.expect("a body").to_bytes();
                let mut answer: serde_json::Value = serde_json::from_slice(&body).expect("a TokenRequest");
                let seconds = answer["spec"]["expirationSeconds"].as_u64().expect("seconds");
                seen.lock().expect("a lock").push(seconds);
                answer["spec"]["expirationSeconds"] = seconds.min(3600).into();
                answer["status"]["token"] = "token".into();
                let answer = Response::builder().status(201).body(Full::new(Bytes::from(answer.to_string())));
                Ok::<_, Infallible>(answer.expect("an answer"))
            }
        });
        (KubeTokens::new(kube::Client::new(service, "default")), asked)
    }

    #[tokio::test]
    async fn p10_a_token_is_asked_for_ten_minutes_unless_a_login_needs_longer_and_for_a_day_at_most() {
        let (source, asked) = source();
        let account = ServiceAccount { namespace: "trading".into(), name: "bot".into(), ..ServiceAccount::default() };
        let audience = Audience::Of("vault".into());
        source.token(&account, &audience).await.expect("a token");
        for life in [1, 86_400, 1_000_000] {
            let now = Instant::now();
            let token = source.token_for(&account, &audience, Duration::from_secs(life)).await.expect("a token");
            let given = Duration::from_secs(life.clamp(600, 3600));
            assert!(token.expires >= now + given && token.expires <= Instant::now() + given, "what was given counts");
        }
        assert_eq!(*asked.lock().expect("a lock"), [600, 600, 86_400, 86_400]);
    }
}
