//! Entra ID and Key Vault, as far as their clients can tell: a protocol server
//! of our own, since none that checks anything can be had.
//!
//! It verifies ServiceAccounts' tokens against the cluster's published keys
//! and the federated credentials' issuer, subject and audience, and lets each
//! client do what it was granted and no more. Plain HTTP: the fault proxy
//! stands before it, under the names that the clients expect.

mod answers;
mod entra;
mod state;
mod vault;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::Result;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State as Extracted};
use axum::http::{StatusCode, header};
use axum::response::Response;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::FaultProxy;
use crate::cluster::lock;
use crate::runtime;
use crate::tokens::ClusterKeys;

pub use state::{Federated, Secret};
use state::{Grant, State, Vault};

/// The name of Entra ID.
pub const LOGIN: &str = "login.entra.test";
/// What tokens for a vault are for; vaults are named below it.
pub const RESOURCE: &str = "https://vault.test";
/// The audience that federated credentials have by default.
pub const AUDIENCE: &str = "api://AzureADTokenExchange";

/// Larger than any request that a vault takes.
const LARGEST_REQUEST: usize = 1 << 20;

/// A running cloud; dropped, it is gone.
pub struct AzureCloud {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

struct Shared {
    keys: ClusterKeys,
    state: Mutex<State>,
}

/// A request as both services read it.
struct Asked {
    method: String,
    host: String,
    path: Vec<String>,
    query: Vec<(String, String)>,
    authorization: Option<String>,
    identity_header: Option<String>,
    body: Vec<u8>,
}

impl Asked {
    fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl std::fmt::Debug for AzureCloud {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AzureCloud").field("address", &self.address).finish_non_exhaustive()
    }
}

impl AzureCloud {
    /// Listens on a free loopback port; `proxy` then shows it as [`LOGIN`] and
    /// as every vault's name.
    pub async fn start(keys: ClusterKeys, proxy: &FaultProxy) -> Result<Self> {
        let shared = Arc::new(Shared { keys, state: Mutex::default() });
        let app = axum::Router::new().fallback(serve).with_state(Arc::clone(&shared));
        let (address, task) = runtime::run(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            let task = tokio::spawn(async move {
                let _ = axum::serve(listener, app).await;
            });
            Ok((address, task))
        })
        .await?;
        proxy.route(LOGIN, address);
        proxy.route("*.vault.test", address);
        Ok(Self { shared, address, task })
    }

    /// Where it listens, in plain HTTP: the machine's token service is at
    /// `/msi/token`.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.state)
    }

    /// An application of a tenant. Either is made by being named.
    pub fn client(&self, tenant: &str, client: &str) {
        self.state().tenants.entry(tenant.into()).or_default().entry(client.into()).or_default();
    }

    /// Lets a client log in with the cluster's tokens of this issuer, subject
    /// and audience.
    pub fn federate(&self, tenant: &str, client: &str, credential: Federated) {
        self.client(tenant, client);
        self.state().with_client(tenant, client, |known| known.federated.push(credential));
    }

    /// Lets a client log in as this ServiceAccount of the cluster.
    pub fn trust(&self, tenant: &str, client: &str, namespace: &str, service_account: &str) {
        let credential = Federated {
            issuer: self.shared.keys.issuer().to_owned(),
            subject: format!("system:serviceaccount:{namespace}:{service_account}"),
            audience: AUDIENCE.to_owned(),
        };
        self.federate(tenant, client, credential);
    }

    /// Lets a client log in with this secret.
    pub fn client_secret(&self, tenant: &str, client: &str, secret: &str) {
        self.client(tenant, client);
        self.state().with_client(tenant, client, |known| known.secrets.push(secret.to_owned()));
    }

    /// The machine's own identity logs in as this client, to callers that know
    /// this header.
    pub fn machine(&self, tenant: &str, client: &str, header: &str) {
        self.client(tenant, client);
        self.state().machine = Some((tenant.to_owned(), client.to_owned(), header.to_owned()));
    }

    /// How long logins live from now on.
    pub fn login_life(&self, seconds: u64) {
        self.state().login_life = seconds;
    }

    /// No login made before now counts any more.
    pub fn end_logins(&self) {
        self.state().logins.clear();
    }

    /// A vault of a tenant, at `https://NAME.vault.test`.
    pub fn vault(&self, name: &str, tenant: &str) {
        let vault = Vault::new(tenant, RESOURCE);
        self.state().vaults.insert(format!("{name}.vault.test"), vault);
    }

    /// What the vault's challenge names from now on, in place of [`RESOURCE`].
    pub fn challenge(&self, name: &str, resource: &str) {
        self.in_vault(name, |vault| resource.clone_into(&mut vault.resource));
    }

    /// Grants a client a permission such as `secrets/get`, on the object of
    /// that name, or on all of them.
    pub fn grant(&self, name: &str, client: &str, permission: &str, object: Option<&str>) {
        let grant =
            Grant { client: client.to_owned(), permission: permission.to_owned(), object: object.map(str::to_owned) };
        self.in_vault(name, |vault| vault.grants.push(grant));
    }

    /// Writes a new version of a secret, and says which.
    #[allow(clippy::must_use_candidate, reason = "it writes; which version that was matters to few")]
    pub fn put(&self, name: &str, secret: &str, value: Secret) -> String {
        self.in_vault(name, |vault| vault.put(secret, value)).unwrap_or_default()
    }

    /// A secret's versions, the newest last.
    #[must_use]
    pub fn versions(&self, name: &str, secret: &str) -> Vec<Secret> {
        let all = |vault: &mut Vault| {
            let versions = vault.secrets.get(secret).map(|object| object.versions.as_slice()).unwrap_or_default();
            versions.iter().map(|version| version.secret.clone()).collect()
        };
        self.in_vault(name, all).unwrap_or_default()
    }

    /// Disables the newest version of a secret.
    pub fn disable(&self, name: &str, secret: &str) {
        self.in_vault(name, |vault| vault.disable(secret));
    }

    /// Deletes a secret softly, or brings it back.
    pub fn delete(&self, name: &str, secret: &str, deleted: bool) {
        self.in_vault(name, |vault| vault.delete(secret, deleted));
    }

    /// Deletes a secret for good.
    pub fn purge(&self, name: &str, secret: &str) {
        self.in_vault(name, |vault| vault.secrets.remove(secret));
    }

    /// A key, and its public part as a JWK.
    pub fn key(&self, name: &str, key: &str) -> Result<Value> {
        let jwk = state::public_key(name, key)?;
        let shown = jwk.clone();
        self.in_vault(name, |vault| vault.keys.insert(key.to_owned(), jwk));
        Ok(shown)
    }

    /// A certificate, whose secret holds what `secret` says.
    pub fn certificate(&self, name: &str, certificate: &str, der: &[u8], secret: Secret) {
        self.put(name, certificate, Secret { managed: true, ..secret });
        self.in_vault(name, |vault| vault.certificates.insert(certificate.to_owned(), der.to_vec()));
    }

    fn in_vault<T>(&self, name: &str, change: impl FnOnce(&mut Vault) -> T) -> Option<T> {
        self.state().vaults.get_mut(&format!("{name}.vault.test")).map(change)
    }
}

impl Drop for AzureCloud {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(Extracted(shared): Extracted<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let host = header(header::HOST.as_str()).unwrap_or_default();
    let Ok(body) = to_bytes(body, LARGEST_REQUEST).await else { return plain(StatusCode::PAYLOAD_TOO_LARGE) };
    let asked = Asked {
        method: parts.method.to_string(),
        host: host.split(':').next().unwrap_or_default().to_owned(),
        path: parts.uri.path().split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect(),
        query: answers::form(parts.uri.query().unwrap_or_default().as_bytes()),
        authorization: header(header::AUTHORIZATION.as_str()),
        identity_header: header("x-identity-header"),
        body: body.to_vec(),
    };
    let mut state = lock(&shared.state);
    if asked.host == LOGIN {
        entra::answer(&asked, &mut state, &shared.keys)
    } else if asked.path == ["msi", "token"] {
        entra::machine(&asked, &mut state)
    } else {
        vault::answer(&asked, &mut state)
    }
}

fn plain(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
