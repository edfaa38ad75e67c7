//! A Google Cloud of one's own, behind a proxy that shows it under Google's
//! names.

use std::{error::Error, sync::Arc};

use botsecret::{
    api::{Limits, Provider, StoreRef},
    fetch::{Fetcher, KubeCredentials, ReferredSecrets, ResolvedStore, ServiceAccount, TokenSource},
    stores::{ClusterEndpoint, HttpClients, Payload, RemoteSecret, Scope},
};
use botsecret_testbed::{
    FaultProxy,
    clouds::gcp::{Gcp, Role},
};
use k8s_openapi::api::core::v1 as core;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

use crate::world::{Bot, OPERATOR, from};

pub const PROJECT: &str = "trading-prod";
pub const NUMBER: u64 = 123_456_789;
const POOL: &str = "projects/123456789/locations/global/workloadIdentityPools/clusters";

/// The provider's full name.
pub fn provider() -> String {
    format!("//iam.googleapis.com/{POOL}/providers/one")
}

/// As IAM names a ServiceAccount of the pool.
pub fn principal(account: &ServiceAccount) -> String {
    format!(
        "principal://iam.googleapis.com/{POOL}/subject/system:serviceaccount:{}:{}",
        account.namespace, account.name
    )
}

/// A secret's full name.
pub fn secret(id: &str) -> String {
    format!("projects/{PROJECT}/secrets/{id}")
}

pub struct World {
    pub gcp: Gcp,
    pub proxy: FaultProxy,
    pub bot: Bot,
}

impl World {
    pub async fn new(prefix: &str) -> Result<Self, Box<dyn Error>> {
        let bot = Bot::new(prefix).await?;
        let (gcp, proxy) = (Gcp::start(bot.cluster).await?, FaultProxy::start().await?);
        gcp.route(&proxy);
        gcp.project(PROJECT, NUMBER);
        gcp.provider(&provider(), &[]);
        Ok(Self { gcp, proxy, bot })
    }

    /// With the right to read these of its secrets, which hold their names.
    pub async fn with(prefix: &str, ids: &[&str]) -> Result<Self, Box<dyn Error>> {
        let world = Self::new(prefix).await?;
        for id in ids {
            world.gcp.put(&secret(id), id.as_bytes());
            world.gcp.grant(&principal(&world.bot.account), Role::Accessor, &secret(id));
        }
        Ok(world)
    }

    /// A store of the pool's provider.
    pub fn federated(&self, more: &Value) -> ResolvedStore {
        let mut federation = json!({"audience": provider()});
        extend(&mut federation, more);
        self.store(&json!({"auth": {"workloadIdentityFederation": federation}}))
    }

    /// An administrator's store, which alone may say which certificates count
    /// at Google's token endpoints.
    pub fn store(&self, more: &Value) -> ResolvedStore {
        let ca = self.proxy.ca_pem();
        let endpoint = |host: &str| json!({"url": format!("https://{host}"), "caBundle": ca});
        let mut spec = json!({
            "projectID": PROJECT,
            "caBundle": ca,
            "tokenEndpoints": {
                "sts": endpoint("sts.googleapis.com"),
                "iamCredentials": endpoint("iamcredentials.googleapis.com"),
                "oauth2": endpoint("oauth2.googleapis.com"),
                "metadata": {"url": format!("http://{}", self.gcp.address())},
            },
        });
        extend(&mut spec, more);
        self.resolved(spec, Scope::Cluster)
    }

    /// A store with exactly these fields.
    pub fn resolved(&self, spec: Value, scope: Scope) -> ResolvedStore {
        let namespace = &self.bot.namespace;
        ResolvedStore {
            reference: StoreRef { name: "gcp".into(), kind: None },
            uid: format!("gcp-of-{namespace}-{scope:?}-{spec}"),
            generation: 1,
            scope,
            provider: Provider::Gcp(from(spec)),
            proxy: Some(self.proxy.url()),
            limits: Limits::default(),
            allows_rotation: false,
            credentials: ReferredSecrets { namespace: namespace.clone(), ..ReferredSecrets::default() },
        }
    }

    /// One more ServiceAccount, in a namespace of its own.
    pub async fn another(&self, prefix: &str) -> Result<ServiceAccount, Box<dyn Error>> {
        let namespace = self.bot.cluster.namespace(prefix).await?;
        let accounts: Api<core::ServiceAccount> = Api::namespaced(self.bot.cluster.client()?, &namespace);
        let made = accounts.create(&PostParams::default(), &from(json!({"metadata": {"name": "bot"}}))).await?;
        let uid = made.metadata.uid.unwrap_or_default();
        Ok(ServiceAccount { namespace, name: "bot".into(), uid, ..ServiceAccount::default() })
    }

    /// A fetcher whose tokens come from elsewhere.
    pub fn fetcher(&self, tokens: Arc<dyn TokenSource>) -> Result<Fetcher, Box<dyn Error>> {
        let config = self.bot.cluster.config(OPERATOR, &["system:masters"])?;
        let clients = HttpClients::new(ClusterEndpoint::from_config(&config));
        let credentials = Arc::new(KubeCredentials::new(kube::Client::try_from(config)?));
        Ok(Fetcher::new(tokens, credentials, clients))
    }

    /// How often a service was asked.
    pub fn asked(&self, service: &str) -> usize {
        self.gcp.requests().iter().filter(|request| request.service == service).count()
    }
}

/// The value that was read.
pub fn bytes(secret: &RemoteSecret) -> &[u8] {
    match &secret.payload {
        Payload::Bytes(bytes) => bytes.expose(),
        _ => panic!("not bytes"),
    }
}

fn extend(into: &mut Value, more: &Value) {
    for (key, value) in more.as_object().into_iter().flatten() {
        into[key] = value.clone();
    }
}
