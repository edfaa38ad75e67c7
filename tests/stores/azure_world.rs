//! What the tests of Azure share: a cloud behind the fault proxy, and stores
//! that lead there.

use std::{error::Error, sync::Arc};

use botsecret::{
    api::{Limits, Provider, StoreRef},
    fetch::{Fetcher, KubeCredentials, KubeTokens, ReferredSecrets, ResolvedStore, TokenSource},
    stores::{ClusterEndpoint, HttpClients, Payload, RemoteSecret, Scope},
};
use botsecret_testbed::{
    FaultProxy,
    clouds::azure::{AzureCloud, LOGIN, RESOURCE},
    tokens::ClusterKeys,
};
use serde_json::{Value, json};

use crate::world::{Bot, OPERATOR, from};

pub const TENANT: &str = "tenant-a";
pub const VAULT: &str = "bots";
pub const VAULT_HOST: &str = "bots.vault.test";

pub struct Azure {
    pub proxy: FaultProxy,
    pub cloud: AzureCloud,
}

impl Azure {
    /// A cloud with the one vault.
    pub async fn start(bot: &Bot) -> Result<Self, Box<dyn Error>> {
        let proxy = FaultProxy::start().await?;
        let cloud = AzureCloud::start(ClusterKeys::fetch(bot.cluster).await?, &proxy).await?;
        cloud.vault(VAULT, TENANT);
        Ok(Self { proxy, cloud })
    }

    /// The client that bots of this namespace log in as, which may read these
    /// secrets.
    pub fn may_read(&self, bot: &Bot, client: &str, secrets: &[&str]) {
        self.cloud.trust(TENANT, client, &bot.namespace, "bot");
        for secret in secrets {
            self.cloud.grant(VAULT, client, "secrets/get", Some(secret));
        }
    }

    /// A store of the cluster that leads here, with more fields.
    pub fn store(&self, bot: &Bot, more: &Value) -> ResolvedStore {
        let mut spec = json!({
            "vaultUrl": format!("https://{VAULT_HOST}"),
            "tenantId": TENANT,
            "caBundle": self.proxy.ca_pem(),
            "authority": {
                "url": format!("https://{LOGIN}"), "caBundle": self.proxy.ca_pem(), "vaultResource": RESOURCE,
            },
        });
        for (key, value) in more.as_object().expect("an object") {
            spec[key] = value.clone();
        }
        ResolvedStore {
            reference: StoreRef { name: "store".into(), kind: None },
            uid: format!("azure-of-{}-{more}", bot.namespace),
            generation: 1,
            scope: Scope::Cluster,
            provider: Provider::Azure(from(spec)),
            proxy: Some(self.proxy.url()),
            limits: Limits::default(),
            allows_rotation: false,
            credentials: ReferredSecrets { namespace: bot.namespace.clone(), ..ReferredSecrets::default() },
        }
    }

    /// The same, for bots that log in as this client.
    pub fn store_of(&self, bot: &Bot, client: &str) -> ResolvedStore {
        self.store(bot, &json!({"auth": {"workloadIdentity": {"clientId": client}}}))
    }

    /// How many requests went to this name.
    pub fn asked(&self, host: &str) -> usize {
        self.proxy.requests().iter().filter(|request| request.host == host).count()
    }
}

/// The same bot with a fetcher that knows of nothing yet.
pub fn again(bot: &Bot) -> Result<Bot, Box<dyn Error>> {
    let config = bot.cluster.config(OPERATOR, &["system:masters"])?;
    let tokens = KubeTokens::new(kube::Client::try_from(config)?);
    with_tokens(bot, Arc::new(tokens))
}

/// The same bot, with tokens from elsewhere.
pub fn with_tokens(bot: &Bot, tokens: Arc<dyn TokenSource>) -> Result<Bot, Box<dyn Error>> {
    let config = bot.cluster.config(OPERATOR, &["system:masters"])?;
    let clients = HttpClients::new(ClusterEndpoint::from_config(&config));
    let credentials = Arc::new(KubeCredentials::new(kube::Client::try_from(config)?));
    let fetcher = Arc::new(Fetcher::new(tokens, credentials, clients));
    Ok(Bot { cluster: bot.cluster, namespace: bot.namespace.clone(), account: bot.account.clone(), fetcher })
}

/// The bytes of a secret.
pub fn bytes(secret: &RemoteSecret) -> &[u8] {
    match &secret.payload {
        Payload::Bytes(bytes) => bytes.expose(),
        Payload::Json(text) => text.expose().as_bytes(),
        Payload::Fields(_) => panic!("fields"),
    }
}
