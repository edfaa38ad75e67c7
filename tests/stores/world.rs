//! What the tests share: one cluster, one OpenBao, and a bot of one's own.

use std::{error::Error, sync::Arc};

use botsecret::{
    api::{Limits, Provider, StoreRef},
    fetch::{Fetcher, KubeCredentials, KubeTokens, ReferredSecrets, ResolvedStore, ServiceAccount},
    stores::{ClusterEndpoint, ErrorClass, HttpClients, Payload, RemoteKey, RemoteSecret, Scope, StoreError},
};
use botsecret_testbed::{BaoClient, Cluster, OpenBao, OpenBaoOptions, Role};
use k8s_openapi::api::core::v1 as core;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use tokio::{sync::OnceCell, time::Instant};

pub type Outcome = Result<(), Box<dyn Error>>;

/// Who the operator is to the API server.
pub const OPERATOR: &str = "stores-operator";

/// The one with TLS that tests share; those that break it start their own.
pub async fn shared_bao() -> Result<&'static OpenBao, Box<dyn Error>> {
    static BAO: OnceCell<OpenBao> = OnceCell::const_new();
    let cluster = Cluster::shared().await?;
    Ok(BAO.get_or_try_init(|| OpenBao::start(cluster, OpenBaoOptions { tls: true })).await?)
}

/// A namespace, its ServiceAccount `bot`, and a fetcher.
pub struct Bot {
    pub cluster: &'static Cluster,
    pub namespace: String,
    pub account: ServiceAccount,
    pub fetcher: Arc<Fetcher>,
}

impl Bot {
    pub async fn new(prefix: &str) -> Result<Self, Box<dyn Error>> {
        let cluster = Cluster::shared().await?;
        let namespace = cluster.namespace(prefix).await?;
        let accounts: Api<core::ServiceAccount> = Api::namespaced(cluster.client()?, &namespace);
        let made = accounts.create(&PostParams::default(), &from(json!({"metadata": {"name": "bot"}}))).await?;
        let account = ServiceAccount {
            namespace: namespace.clone(),
            name: "bot".into(),
            uid: made.metadata.uid.unwrap_or_default(),
            ..ServiceAccount::default()
        };
        let config = cluster.config(OPERATOR, &["system:masters"])?;
        let clients = HttpClients::new(ClusterEndpoint::from_config(&config));
        let client = kube::Client::try_from(config)?;
        let credentials = Arc::new(KubeCredentials::new(client.clone()));
        let tokens = KubeTokens::new(client).refusing(vec![cluster.audience().to_owned()]);
        let fetcher = Arc::new(Fetcher::new(Arc::new(tokens), credentials, clients));
        Ok(Self { cluster, namespace, account, fetcher })
    }

    /// A KV engine and, as `auth/kubernetes` and `auth/jwt` role, the rights
    /// to what the policy says; mount and role are named as the namespace.
    pub async fn with_role(&self, bao: &OpenBao, policy: &str) -> Result<BaoClient, Box<dyn Error>> {
        let root = bao.root()?;
        root.policy(&self.namespace, policy).await?;
        let role = Role {
            name: &self.namespace,
            namespaces: &[&self.namespace],
            service_accounts: &["bot"],
            policies: &[&self.namespace],
            audience: "vault",
            ttl: "20m",
        };
        root.kubernetes_role(&role).await?;
        root.jwt_role(&role).await?;
        Ok(root)
    }

    /// The store, with the bot's role, and more fields.
    pub fn vault(&self, bao: &OpenBao, more: &Value) -> ResolvedStore {
        let mut spec = json!({
            "address": bao.url(),
            "caBundle": bao.ca_pem(),
            "auth": {"kubernetes": {"role": self.namespace}},
        });
        merge(&mut spec, more);
        self.store(Provider::Vault(from(spec)))
    }

    pub fn kubernetes(&self, more: &Value) -> ResolvedStore {
        self.store(Provider::Kubernetes(from(more.clone())))
    }

    fn store(&self, provider: Provider) -> ResolvedStore {
        ResolvedStore {
            reference: StoreRef { name: "store".into(), kind: None },
            uid: format!("store-of-{}", self.namespace),
            generation: 1,
            scope: Scope::Namespace,
            provider,
            proxy: None,
            limits: Limits::default(),
            allows_rotation: false,
            credentials: ReferredSecrets { namespace: self.namespace.clone(), ..ReferredSecrets::default() },
        }
    }

    pub async fn read(&self, store: &ResolvedStore, key: &str) -> Result<Arc<RemoteSecret>, StoreError> {
        self.read_all(store, &[self::key(key)]).await.remove(0)
    }

    pub async fn read_version(
        &self,
        store: &ResolvedStore,
        key: &str,
        version: &str,
    ) -> Result<Arc<RemoteSecret>, StoreError> {
        let key = RemoteKey { key: key.into(), version: Some(version.into()), metadata: false, dated: false };
        self.read_all(store, &[key]).await.remove(0)
    }

    pub async fn read_all(
        &self,
        store: &ResolvedStore,
        keys: &[RemoteKey],
    ) -> Vec<Result<Arc<RemoteSecret>, StoreError>> {
        self.fetcher.read(store, &self.account, keys, Instant::now()).await
    }
}

pub fn key(name: &str) -> RemoteKey {
    RemoteKey { key: name.into(), version: None, metadata: false, dated: false }
}

/// The JSON text of a secret.
pub fn text(secret: &RemoteSecret) -> &str {
    match &secret.payload {
        Payload::Json(text) => text.expose(),
        _ => panic!("not JSON"),
    }
}

/// The refusal, and that it is of this class.
pub fn refusal<T>(result: Result<T, StoreError>, class: ErrorClass) -> String {
    match result {
        Ok(_) => panic!("not refused"),
        Err(error) => {
            assert_eq!(error.class, class, "{error}");
            assert!(!error.session_dead);
            error.message
        }
    }
}

pub fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("the shape of a type")
}

fn merge(into: &mut Value, more: &Value) {
    let (Some(into), Some(more)) = (into.as_object_mut(), more.as_object()) else { return };
    for (key, value) in more {
        into.insert(key.clone(), value.clone());
    }
}
