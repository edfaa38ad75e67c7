//! Google Cloud as far as a bot sees it: Secret Manager, the Security Token
//! Service, IAM Credentials, the OAuth 2 token endpoint and the metadata
//! server, as one plain-HTTP server.
//!
//! It verifies the cluster's tokens, knows who may read which secret and who
//! may impersonate whom, and its answers have the shape of Google's discovery
//! documents. What it does not have: organisations, conditions, deny
//! policies, replication, delays between a change and its effect. A GKE
//! cluster's issuer is the test cluster's own.

mod answers;
mod iam;
mod secrets;
mod state;
mod token_apis;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::body::Bytes;
use axum::extract::State as Extracted;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::tokens::ClusterKeys;
use crate::{Cluster, FaultProxy, runtime};

pub use iam::Role;
pub use state::{GcpRequest, VersionState};

use state::State;

/// The names that the server is reached under, through a proxy.
pub const HOSTS: [&str; 5] = [
    "secretmanager.googleapis.com",
    "sts.googleapis.com",
    "iamcredentials.googleapis.com",
    "oauth2.googleapis.com",
    "metadata.google.internal",
];

/// A running server; dropped, it is gone.
pub struct Gcp {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl std::fmt::Debug for Gcp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gcp").field("address", &self.address).finish_non_exhaustive()
    }
}

/// One request, parsed as far as all services need it.
struct Asked {
    method: Method,
    host: String,
    path: String,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
}

impl Asked {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

impl Gcp {
    /// Listens on a free loopback port. Trusts the keys that this cluster
    /// publishes.
    pub async fn start(cluster: &Cluster) -> Result<Self> {
        let state = Arc::new(Mutex::new(State::new(ClusterKeys::fetch(cluster).await?)));
        let shared = Arc::clone(&state);
        let (address, task) = runtime::run(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            let router = axum::Router::new().fallback(serve).with_state(shared);
            let task = tokio::spawn(async move {
                // It ends when it is aborted.
                let _ = axum::serve(listener, router).await;
            });
            Ok((address, task))
        })
        .await?;
        Ok(Self { address, state, task })
    }

    /// Where it listens, plain HTTP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets a proxy lead Google's names here, those of regional endpoints too.
    pub fn route(&self, proxy: &FaultProxy) {
        for host in HOSTS {
            proxy.route(host, self.address);
        }
        proxy.route("*.rep.googleapis.com", self.address);
    }

    /// A project, by id and number. Answers name it by its number.
    pub fn project(&self, id: &str, number: u64) {
        self.state().projects.insert(id.to_owned(), number);
    }

    /// A provider that trusts the cluster, by its full name (`//iam.…`). It
    /// takes tokens for these audiences; for its own name where there are none.
    pub fn provider(&self, name: &str, audiences: &[&str]) {
        self.state().iam.provider(name, audiences);
    }

    /// From now on the provider takes only ServiceAccounts of this namespace.
    pub fn condition(&self, provider: &str, namespace: &str) {
        self.state().iam.condition(provider, namespace);
    }

    /// A GKE cluster with Workload Identity, which is the test cluster.
    pub fn gke_cluster(&self, project: &str, location: &str, name: &str) {
        self.state().iam.gke_cluster(project, location, name);
    }

    /// A Google service account.
    pub fn service_account(&self, email: &str) {
        self.state().iam.accounts.insert(email.to_owned());
    }

    /// A new key of an account, as the JSON file that Google hands out.
    pub fn key(&self, email: &str) -> Result<Value> {
        self.state().iam.new_key(email)
    }

    /// The account's keys are deleted.
    pub fn delete_keys(&self, email: &str) {
        self.state().iam.delete_keys(email);
    }

    /// The machine's account, for the metadata server.
    pub fn machine(&self, email: &str) {
        self.state().iam.machine = Some(email.to_owned());
    }

    /// Lets a principal impersonate an account.
    pub fn allow_impersonation(&self, principal: &str, email: &str) {
        self.state().iam.impersonations.insert((principal.to_owned(), email.to_owned()));
    }

    /// Gives a role on `projects/…`, or on one secret by its full name.
    pub fn grant(&self, principal: &str, role: Role, resource: &str) {
        self.state().grant(principal, role, resource);
    }

    /// Takes everything from a principal.
    pub fn revoke(&self, principal: &str) {
        self.state().iam.grants.retain(|(holder, _, _)| holder != principal);
    }

    /// Adds a version, and the secret where it is not there; its number. By
    /// full name: `projects/…/secrets/…`.
    #[allow(clippy::must_use_candidate, reason = "it is called to add")]
    pub fn put(&self, secret: &str, value: &[u8]) -> u64 {
        self.state().put(secret, value)
    }

    /// Labels of a secret that is there.
    pub fn label(&self, secret: &str, labels: &[(&str, &str)]) -> Result<()> {
        self.state().change(secret, |secret| {
            secret.labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        })
    }

    /// An annotation of a secret that is there.
    pub fn annotate(&self, secret: &str, key: &str, value: &str) -> Result<()> {
        self.state().change(secret, |secret| {
            secret.annotations.insert(key.to_owned(), value.to_owned());
        })
    }

    /// An alias of a version.
    pub fn alias(&self, secret: &str, alias: &str, version: u64) -> Result<()> {
        self.state().change(secret, |secret| {
            secret.aliases.insert(alias.to_owned(), version);
        })
    }

    /// Enables, disables or destroys a version.
    pub fn set_state(&self, secret: &str, version: u64, state: VersionState) -> Result<()> {
        self.state().change(secret, |secret| secret.set_state(version, state))
    }

    /// The newest version's number, whatever its state.
    #[must_use]
    pub fn newest(&self, secret: &str) -> Option<u64> {
        let state = self.state();
        state.secrets.get(&state.canonical(secret))?.number("latest")
    }

    /// The secret is gone.
    pub fn delete(&self, secret: &str) -> Result<()> {
        let mut state = self.state();
        let name = state.canonical(secret);
        state.secrets.remove(&name).map(drop).context("there is no such secret")
    }

    /// Access tokens that are issued from now on live this long.
    pub fn token_life(&self, life: Duration) {
        self.state().iam.token_life = life;
    }

    /// Every access token ends now.
    pub fn end_tokens(&self) {
        self.state().iam.tokens.clear();
    }

    /// The next so many values arrive with a bit turned over, their checksum
    /// as it was.
    pub fn damage_next(&self, values: usize) {
        self.state().damage = values;
    }

    /// From now on `latest` is so many versions behind, as it may be for
    /// minutes.
    pub fn lag(&self, versions: u64) {
        self.state().lag = versions;
    }

    /// Everything that was asked, in its order.
    #[must_use]
    pub fn requests(&self) -> Vec<GcpRequest> {
        self.state().requests.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Gcp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    Extracted(state): Extracted<Arc<Mutex<State>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let host = headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
    let asked = Asked {
        host: host.rsplit_once(':').map_or(host, |(name, _)| name).to_owned(),
        path: uri.path().to_owned(),
        query: answers::pairs(uri.query().unwrap_or_default()),
        method,
        headers,
        body,
    };
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let (service, outcome) = dispatch(&mut state, &asked);
    let principal = iam::bearer(&asked.headers).and_then(|token| state.iam.holder(token));
    let response = outcome.unwrap_or_else(answers::Refusal::into_answer);
    state.requests.push(GcpRequest {
        service,
        method: asked.method.to_string(),
        path: asked.path,
        principal,
        status: response.0,
    });
    response.into_response()
}

/// The service is known by its path, which no two share; a request under one
/// of Google's names must be for the service of that name.
fn dispatch(state: &mut State, asked: &Asked) -> (&'static str, answers::Outcome) {
    let (service, host) = match asked.path.as_str() {
        "/v1/token" => ("sts", "sts.googleapis.com"),
        "/token" => ("oauth2", "oauth2.googleapis.com"),
        path if path.starts_with("/computeMetadata/") => ("metadata", "metadata.google.internal"),
        path if path.starts_with("/v1/projects/-/serviceAccounts/") => {
            ("iamcredentials", "iamcredentials.googleapis.com")
        }
        _ => ("secretmanager", ""),
    };
    let google = asked.host.contains("google");
    let secrets = asked.host == "secretmanager.googleapis.com" || asked.host.ends_with(".rep.googleapis.com");
    if google && (if host.is_empty() { !secrets } else { asked.host != host }) {
        return (service, Err(answers::Refusal::not_here()));
    }
    let outcome = match service {
        "sts" => token_apis::exchange(state, asked),
        "oauth2" => token_apis::use_key(state, asked),
        "metadata" => token_apis::machine(state, asked),
        "iamcredentials" => token_apis::impersonate(state, asked),
        _ => secrets::serve(state, asked),
    };
    (service, outcome)
}
