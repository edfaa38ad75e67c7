//! What the suite must know of a manager to put it through every case.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Result;
use async_trait::async_trait;
use botsecret::{
    api::{Limits, Provider, StoreRef},
    fetch::{Fetcher, KubeCredentials, KubeTokens, ReferredSecrets, ResolvedStore, ServiceAccount},
    stores::{ClusterEndpoint, ErrorClass, HttpClients, Scope},
};
use botsecret_testbed::{Cluster, FaultKind, FaultProxy};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1 as core;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

/// What a remote secret is to hold.
#[derive(Clone, Debug)]
pub enum Content {
    /// One value. A manager whose secrets have fields keeps it in the field
    /// [`Subject::plain_property`].
    Plain(Vec<u8>),
    /// An object, as JSON text. A manager whose secrets have fields makes each
    /// member a field: text as it is, anything else as JSON.
    Json(Value),
}

/// Makes a subject; its proxy and peer live as long as it does.
pub type Make = fn(Arc<World>) -> BoxFuture<'static, Result<Box<dyn Subject>>>;

/// A manager, or a way to use one. Everything goes through a [`FaultProxy`] of
/// its own, so that subjects run beside each other; its cases run one by one.
///
/// The names that the suite gives to secrets are of lower-case letters, digits
/// and hyphens, and each is used by one case alone.
#[async_trait]
pub trait Subject: Send + Sync {
    /// As the table shows it, such as `aws-secrets-manager`.
    fn name(&self) -> &'static str;

    /// Why a case says nothing about this manager. Its nature ("keeps no
    /// versions"), never a lack of ours. The names of the cases are in
    /// `cases.rs`; what a case would call is then never called.
    fn why_not(&self, case: &str) -> Option<&'static str>;

    /// The proxy that [`Subject::store`] names.
    fn proxy(&self) -> &FaultProxy;

    /// The names that reads go to, as the proxy knows them.
    fn read_hosts(&self) -> Vec<String>;

    /// The names that logins go to. Empty where a login asks nobody.
    fn login_hosts(&self) -> Vec<String>;

    /// The store, with the proxy and its certificates, whose identity may read
    /// whatever [`Subject::put`] makes. Each call gives the same UID.
    fn store(&self) -> ResolvedStore;

    /// Whose identity reads.
    fn account(&self) -> ServiceAccount;

    /// A fetcher that has read nothing yet.
    fn fetcher(&self) -> Result<Fetcher>;

    /// Makes a secret, or gives the one of that name a new version. The answer
    /// is what pins that version in `remoteRef.version`, where there are any.
    async fn put(&self, name: &str, content: &Content) -> Result<Option<String>>;

    /// What `remoteRef.key` is for a secret that was put under this name.
    fn key(&self, name: &str) -> String {
        name.to_owned()
    }

    /// The property that holds a [`Content::Plain`]. `None`: it is the whole.
    fn plain_property(&self) -> Option<&'static str> {
        None
    }

    /// Whether the value that was read is right. Only for managers that make
    /// values themselves (tokens) and so cannot hold what was put.
    async fn agrees(&self, put: &[u8], read: &[u8]) -> Result<bool> {
        Ok(put == read)
    }

    /// Bytes of the largest [`Content::Plain`] that the manager takes, and a
    /// Secret can hold.
    fn largest(&self) -> usize;

    /// Names at the edge of what the manager allows (case, dots, slashes,
    /// spaces, percent signs, length), to be put and read.
    fn odd_names(&self) -> Vec<String>;

    /// Whether versions are numbered in ascending order, so that an older one
    /// can be known as such ([`botsecret::stores::RemoteSecret::version`]).
    fn numbers_versions(&self) -> bool {
        true
    }

    /// Makes an alias (label, stage) of this version, as `remoteRef.version`
    /// names it.
    async fn alias(&self, name: &str, version: &str) -> Result<String> {
        anyhow::bail!("cases \"alias or stage\" needs this for {name}, {version}, or a reason in why_not")
    }

    /// Removes it for good.
    async fn delete(&self, name: &str) -> Result<()>;

    /// Removes it so that it could be had back.
    async fn soft_delete(&self, name: &str) -> Result<()> {
        anyhow::bail!("case \"soft-deleted\" needs this for {name}, or a reason in why_not")
    }

    /// Makes its newest version one that is there but is not handed out.
    async fn disable(&self, name: &str) -> Result<()> {
        anyhow::bail!("case \"disabled version\" needs this for {name}, or a reason in why_not")
    }

    /// A version, in the manager's own form, that no secret here has.
    fn absent_version(&self) -> &'static str {
        "99"
    }

    /// Puts a secret that the identity may not read; the answer is the store
    /// and the `remoteRef.key` that lead to it.
    async fn put_denied(&self, name: &str, content: &Content) -> Result<(ResolvedStore, String)>;

    /// A store and key whose mount, vault, project or namespace is not there,
    /// and the class that is documented for it: managers that hide what one
    /// may not see say `Denied`.
    async fn missing_place(&self) -> Result<(ResolvedStore, String, ErrorClass)>;

    /// A store and account that the manager does not let in.
    async fn not_let_in(&self) -> Result<(ResolvedStore, ServiceAccount)>;

    /// Ends the login that a fetcher has, before its time, so that the next
    /// read is refused as if the login were dead. By the manager itself where
    /// it can do that; else the proxy answers the next read with what the
    /// manager says to a dead login.
    async fn end_logins(&self) -> Result<()>;

    /// Whether the manager is asked to log somebody in. Where the token is the login, none
    /// is sent.
    fn asks_to_log_in(&self) -> bool {
        true
    }

    /// What the manager answers to too many requests; `Retry-After` in seconds.
    fn throttled(&self, retry_after: Option<u64>) -> FaultKind {
        let seconds = retry_after.map(|seconds| seconds.to_string());
        let headers: Vec<_> = seconds.iter().map(|seconds| ("retry-after", seconds.as_str())).collect();
        FaultKind::answer(429, &headers, r#"{"errors":["request limit reached"]}"#)
    }

    /// What the manager answers where it cannot work; each is an outage.
    fn broken(&self) -> Vec<FaultKind> {
        [500, 502, 503, 504].map(|code| FaultKind::answer(code, &[], "upstream connect error")).into()
    }

    /// How many requests may read so many secrets with one login that is there
    /// already, what is looked up once for all of them included.
    fn requests_for(&self, secrets: usize) -> usize {
        secrets + 1
    }
}

/// What subjects share: one cluster, whose ServiceAccounts the bots are.
pub struct World {
    pub cluster: &'static Cluster,
}

impl World {
    pub async fn new() -> Result<Self> {
        Ok(Self { cluster: Cluster::shared().await? })
    }

    /// A new namespace with this ServiceAccount in it.
    pub async fn account(&self, prefix: &str, name: &str) -> Result<ServiceAccount> {
        let namespace = self.cluster.namespace(prefix).await?;
        self.account_in(&namespace, name).await
    }

    /// One more ServiceAccount.
    pub async fn account_in(&self, namespace: &str, name: &str) -> Result<ServiceAccount> {
        let accounts: Api<core::ServiceAccount> = Api::namespaced(self.cluster.client()?, namespace);
        let account = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        let made = accounts.create(&PostParams::default(), &account).await?;
        Ok(ServiceAccount {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: made.metadata.uid.unwrap_or_default(),
            annotations: BTreeMap::new(),
        })
    }

    /// A fetcher whose tokens are the cluster's, as the operator's.
    pub fn fetcher(&self) -> Result<Fetcher> {
        let config = self.config()?;
        self.fetcher_with(ClusterEndpoint::from_config(&config))
    }

    /// As [`World::fetcher`], with the API server of `kubernetes` stores at
    /// this address.
    pub fn fetcher_with(&self, endpoint: ClusterEndpoint) -> Result<Fetcher> {
        let client = kube::Client::try_from(self.config()?)?;
        let credentials = KubeCredentials::new(client.clone());
        let tokens = KubeTokens::new(client).refusing(vec![self.cluster.audience().to_owned()]);
        Ok(Fetcher::new(Arc::new(tokens), Arc::new(credentials), HttpClients::new(endpoint)))
    }

    /// As the operator asks the API server.
    pub fn config(&self) -> Result<kube::Config> {
        self.cluster.config("contract-operator", &["system:masters"])
    }
}

/// A store of this provider behind this proxy, with a deadline of 3 s.
pub fn store(name: &str, provider: Provider, proxy: &FaultProxy) -> ResolvedStore {
    ResolvedStore {
        reference: StoreRef { name: name.to_owned(), kind: None },
        uid: format!("contract-{name}"),
        generation: 1,
        scope: Scope::Cluster,
        provider,
        proxy: Some(proxy.url()),
        limits: limits(),
        allows_rotation: false,
        credentials: ReferredSecrets::default(),
    }
}

/// A short deadline, which the cases about slow managers wait for.
pub fn limits() -> Limits {
    serde_json::from_value(json!({"timeout": "3s"})).unwrap_or_default()
}
