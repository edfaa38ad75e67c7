//! A session of one's own at a store, logged in as `fetch` logs in: for what is
//! asked of a manager besides reads.

use std::sync::Arc;

use anyhow::Result;
use botsecret::{
    fetch::{KubeTokens, ResolvedStore, ServiceAccount, TokenSource},
    secret::SecretBytes,
    stores::{
        self, Capabilities, ClusterEndpoint, Credentials, HttpClients, LARGEST_ANSWER, Login, Opening, Pace, Payload,
        RemoteKey, RemoteSecret, Session, StoreError, WriteBack,
    },
};

/// One login.
pub struct Opened {
    pub session: Arc<dyn Session>,
    pub can: Capabilities,
}

/// Logs in at the store with the account's own token, which the API server that
/// `config` names hands out.
pub async fn open(
    config: kube::Config,
    store: &ResolvedStore,
    account: &ServiceAccount,
    credentials: Credentials,
) -> Result<Opened> {
    let clients = HttpClients::new(ClusterEndpoint::from_config(&config));
    let opening = Opening {
        scope: store.scope,
        credentials,
        clients: &clients,
        proxy: store.proxy.clone(),
        largest_answer: LARGEST_ANSWER,
    };
    let backend = stores::open(&store.provider, &opening)?;
    let tokens = KubeTokens::new(kube::Client::try_from(config)?);
    let token = match backend.identity(account)?.audience {
        Some(audience) => Some(tokens.token(account, &audience).await?),
        None => None,
    };
    let login = Login { account, token: token.as_ref().map(|token| &token.text), pace: Pace::default() };
    Ok(Opened { session: backend.login(login).await?, can: backend.capabilities() })
}

impl Opened {
    /// Writes a property, or the whole.
    pub async fn write(
        &self,
        key: &RemoteKey,
        property: Option<&str>,
        value: &[u8],
        base: Option<u64>,
        attempt: &str,
    ) -> Result<(), StoreError> {
        let properties = [(property.map(str::to_owned), SecretBytes::new(value.to_vec()))];
        self.session.write(&WriteBack { key, properties: &properties, base, attempt }).await
    }

    /// What is there now.
    pub async fn read(&self, key: &RemoteKey) -> Result<RemoteSecret, StoreError> {
        self.session.read(std::slice::from_ref(key)).await.remove(0)
    }

    /// The same as bytes.
    pub async fn bytes(&self, key: &RemoteKey) -> Result<Vec<u8>, StoreError> {
        match self.read(key).await?.payload {
            Payload::Bytes(bytes) => Ok(bytes.into_exposed()),
            Payload::Json(text) => Ok(text.expose().as_bytes().to_vec()),
            Payload::Fields(_) => panic!("fields"),
        }
    }
}
