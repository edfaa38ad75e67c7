//! An OAuth 2 issuer that takes ServiceAccounts' tokens as client assertions,
//! as Entra ID and Keycloak do with federated credentials: the assertion's
//! issuer is the cluster, not the client (RFC 7523 says otherwise, so that
//! issuers which keep to it refuse such tokens).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use axum::extract::{Form, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::oidc_provider::TokenRequest;
use crate::tokens::{ClusterKeys, TokenProblem};
use crate::{ports, runtime};

const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A client and the one ServiceAccount that may act as it.
#[derive(Clone, Debug)]
pub struct FederatedClient {
    /// The client id.
    pub id: String,
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub subject: String,
    /// What it may ask for.
    pub scopes: Vec<String>,
}

/// A running issuer; dropped, it is gone.
#[derive(Debug)]
pub struct FederatedIssuer {
    address: SocketAddr,
    known: Arc<Known>,
    serving: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Known {
    keys: ClusterKeys,
    life: Duration,
    clients: Mutex<Vec<FederatedClient>>,
    requests: Mutex<Vec<TokenRequest>>,
    problems: Mutex<Vec<TokenProblem>>,
    granted: Mutex<HashMap<String, (String, Instant)>>,
}

impl Drop for FederatedIssuer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl FederatedIssuer {
    /// The audience that it expects of assertions.
    pub const AUDIENCE: &str = "https://federated.test";

    /// Starts an issuer that trusts the cluster with these keys, and whose
    /// tokens live so long.
    pub async fn start(keys: ClusterKeys, life: Duration) -> Result<Self> {
        let known = Arc::new(Known {
            keys,
            life,
            clients: Mutex::default(),
            requests: Mutex::default(),
            problems: Mutex::default(),
            granted: Mutex::default(),
        });
        let state = Arc::clone(&known);
        let (address, serving) = runtime::run(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            let router = axum::Router::new().route("/token", post(token)).with_state(state);
            let serving = tokio::spawn(async move {
                // Ends with its task.
                let _ = axum::serve(listener, router).await;
            });
            Ok((address, serving))
        })
        .await?;
        Ok(Self { address, known, serving })
    }

    /// Its token endpoint.
    #[must_use]
    pub fn token_url(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client more, or more scopes for one.
    pub fn grant(&self, client: FederatedClient) {
        let mut clients = held(&self.known.clients);
        match clients.iter_mut().find(|known| known.id == client.id && known.subject == client.subject) {
            Some(known) => known.scopes.extend(client.scopes),
            None => clients.push(client),
        }
    }

    /// The token requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<TokenRequest> {
        held(&self.known.requests).clone()
    }

    /// Why assertions were refused so far.
    #[must_use]
    pub fn problems(&self) -> Vec<TokenProblem> {
        held(&self.known.problems).clone()
    }

    /// Whose token this is, if it lives.
    #[must_use]
    pub fn client_of(&self, token: &str) -> Option<String> {
        let granted = held(&self.known.granted);
        granted.get(token).filter(|(_, ends)| Instant::now() < *ends).map(|(client, _)| client.clone())
    }
}

async fn token(State(known): State<Arc<Known>>, Form(form): Form<HashMap<String, String>>) -> Response {
    let (status, body) = known.answer(&form);
    let field = |name: &str| form.get(name).cloned();
    held(&known.requests).push(TokenRequest {
        grant: field("grant_type"),
        scope: field("scope"),
        client: field("client_id"),
        status: status.as_u16(),
        error: body["error"].as_str().map(str::to_owned),
    });
    (status, Json(body)).into_response()
}

impl Known {
    fn answer(&self, form: &HashMap<String, String>) -> (StatusCode, Value) {
        let refused = |status: StatusCode, code: &str| (status, json!({ "error": code }));
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        if field("grant_type") != "client_credentials" {
            return refused(StatusCode::BAD_REQUEST, "unsupported_grant_type");
        }
        if field("client_assertion_type") != ASSERTION || form.contains_key("client_secret") {
            return refused(StatusCode::BAD_REQUEST, "invalid_request");
        }
        let claims = match self.keys.verify(field("client_assertion"), FederatedIssuer::AUDIENCE) {
            Ok(claims) => claims,
            Err(problem) => {
                held(&self.problems).push(problem);
                return refused(StatusCode::UNAUTHORIZED, "invalid_client");
            }
        };
        let clients = held(&self.clients);
        let client = clients.iter().find(|client| client.id == field("client_id") && client.subject == claims.subject);
        let Some(client) = client else { return refused(StatusCode::UNAUTHORIZED, "invalid_client") };
        let asked = field("scope").split(' ').filter(|scope| !scope.is_empty());
        if !asked.clone().all(|scope| client.scopes.iter().any(|known| known == scope)) {
            return refused(StatusCode::BAD_REQUEST, "invalid_scope");
        }
        let token = ports::random_name(32);
        held(&self.granted).insert(token.clone(), (client.id.clone(), Instant::now() + self.life));
        let scope = asked.collect::<Vec<_>>().join(" ");
        let seconds = self.life.as_secs();
        let body = json!({ "access_token": token, "token_type": "Bearer", "expires_in": seconds, "scope": scope });
        (StatusCode::OK, body)
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
