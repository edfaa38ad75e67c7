//! A secret manager in the operator's own process, whose every answer the
//! campaign decides.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use botsecret::{
    fetch::{Fetcher, KubeCredentials, KubeTokens},
    secret::SecretBytes,
    stores::{
        Audience, Backend, Capabilities, ErrorClass, Identity, Login, Payload, QuotaDomain, RemoteKey, RemoteSecret,
        ServiceAccount, Session, StoreError,
    },
};
use tokio::time::Instant;

use super::super::faults::{Fault, Faults};

/// What it holds: one remote secret, of which each version fills all fields.
#[derive(Clone, Debug)]
pub struct Manager {
    version: Arc<Mutex<u64>>,
    faults: Faults,
}

/// The fields of one version.
pub fn fields(version: u64) -> BTreeMap<String, Vec<u8>> {
    let field = |name: &str| (name.to_owned(), format!("{name}-{version}").into_bytes());
    [field("KEY"), field("TOKEN")].into_iter().collect()
}

impl Manager {
    pub fn new(faults: &Faults) -> Self {
        Self { version: Arc::new(Mutex::new(1)), faults: faults.clone() }
    }

    pub fn version(&self) -> u64 {
        *self.version.lock().expect("nobody panics with it")
    }

    pub fn rotate(&self) {
        *self.version.lock().expect("nobody panics with it") += 1;
    }

    /// What the operator reads with.
    pub fn fetcher(&self, client: kube::Client) -> Fetcher {
        let manager = self.clone();
        let open = move |_: &_, _| Ok(Arc::new(manager.clone()) as Arc<dyn Backend>);
        let tokens = Arc::new(KubeTokens::new(client.clone()));
        Fetcher::opening(tokens, Arc::new(KubeCredentials::new(client)), Box::new(open))
    }

    /// The newest version, or the one that the key names.
    fn secret(&self, key: &RemoteKey) -> RemoteSecret {
        let named = key.version.as_deref().map(|text| text.parse().expect("a version that we gave"));
        let version = named.unwrap_or_else(|| self.version());
        let fields = fields(version).into_iter().map(|(name, value)| (name, SecretBytes::new(value))).collect();
        RemoteSecret { payload: Payload::Fields(fields), version: Some(version), renew: None, changed: None }
    }
}

#[async_trait]
impl Backend for Manager {
    fn capabilities(&self) -> Capabilities {
        Capabilities { batch: 1, leases: false, write_back: false, change_events: false }
    }

    fn identity(&self, _: &ServiceAccount) -> Result<Identity, StoreError> {
        let quota = QuotaDomain { name: "memory".to_owned(), requests_per_second: None, in_flight: 16 };
        Ok(Identity { audience: Some(Audience::Of("memory".to_owned())), role: String::new(), quota })
    }

    async fn login(&self, _: Login<'_>) -> Result<Arc<dyn Session>, StoreError> {
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait]
impl Session for Manager {
    fn expires(&self) -> Option<Instant> {
        None
    }

    async fn read(&self, keys: &[RemoteKey]) -> Vec<Result<RemoteSecret, StoreError>> {
        let mut answers = Vec::new();
        for key in keys {
            answers.push(match self.faults.at_read() {
                None => Ok(self.secret(key)),
                Some(Fault::Status(429)) => Err(StoreError::new(ErrorClass::Throttled, "patience")),
                Some(Fault::Hang) => std::future::pending().await,
                Some(Fault::CrashBefore | Fault::CrashAfter | Fault::CrashStale) => self.faults.crash().await,
                Some(_) => Err(StoreError::new(ErrorClass::Unavailable, "out of order")),
            });
        }
        answers
    }
}
