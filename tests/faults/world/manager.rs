//! A secret manager in the operator's own process, whose every answer the
//! campaign decides.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use botsecret::{
    fetch::{Fetcher, KubeCredentials, KubeTokens},
    secret::SecretBytes,
    stores::{
        Audience, Backend, Capabilities, ErrorClass, Identity, Issuer, Login, Payload, QuotaDomain, RemoteKey,
        RemoteSecret, ServiceAccount, Session, StoreError, WriteBack,
    },
};
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use super::{
    super::{
        clock,
        faults::{Fault, Faults},
    },
    leases::Leases,
};

pub type Fields = BTreeMap<String, Vec<u8>>;

/// What it holds: the versions of one remote secret.
#[derive(Clone, Debug)]
pub struct Manager {
    versions: Arc<Mutex<Vec<(Fields, Timestamp)>>>,
    pub leases: Leases,
    faults: Faults,
}

/// The fields of a version that nobody but the manager made.
pub fn fields(version: usize) -> Fields {
    let field = |name: &str| (name.to_owned(), format!("{name}-{version}").into_bytes());
    [field("KEY"), field("TOKEN")].into_iter().collect()
}

impl Manager {
    pub fn new(faults: &Faults) -> Self {
        let manager = Self { versions: Arc::default(), leases: Leases::new(faults), faults: faults.clone() };
        manager.rotate();
        manager
    }

    fn versions(&self) -> MutexGuard<'_, Vec<(Fields, Timestamp)>> {
        self.versions.lock().expect("nobody panics with it")
    }

    /// How many versions there are: the number of the newest.
    pub fn version(&self) -> usize {
        self.versions().len()
    }

    pub fn newest(&self) -> Fields {
        self.versions().last().expect("it begins with one").0.clone()
    }

    /// Which version this is, as a whole.
    pub fn number_of(&self, data: &Fields) -> Option<usize> {
        self.versions().iter().position(|(fields, _)| fields == data).map(|index| index + 1)
    }

    pub fn rotate(&self) {
        let mut versions = self.versions();
        let next = fields(versions.len() + 1);
        versions.push((next, clock::wall()));
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
        let versions = self.versions();
        let named = key.version.as_deref().map(|text| text.parse().expect("a version that we gave"));
        let number = named.unwrap_or(versions.len());
        let (fields, made) = &versions[number - 1];
        let fields = fields.iter().map(|(name, value)| (name.clone(), SecretBytes::new(value.clone()))).collect();
        let version = u64::try_from(number).ok();
        RemoteSecret { version, changed: Some(*made), ..RemoteSecret::of(Payload::Fields(fields)) }
    }

    /// Takes a new value, if it follows the newest version.
    fn take(&self, write: &WriteBack<'_>) -> Result<(), StoreError> {
        let mut versions = self.versions();
        let (mut next, _) = versions.last().expect("it begins with one").clone();
        if write.base != u64::try_from(versions.len()).ok() {
            return Err(StoreError::new(ErrorClass::Conflict, "somebody else was faster"));
        }
        for (property, value) in write.properties {
            next.insert(property.clone().expect("a property"), value.expose().to_vec());
        }
        versions.push((next, clock::wall()));
        Ok(())
    }
}

#[async_trait]
impl Backend for Manager {
    fn capabilities(&self) -> Capabilities {
        Capabilities { batch: 1, leases: true, write_back: true, change_events: false, dates_apart: false }
    }

    fn identity(&self, _: &ServiceAccount) -> Result<Identity, StoreError> {
        let quota = QuotaDomain { name: "memory".to_owned(), requests_per_second: None, in_flight: 16 };
        Ok(Identity { audience: Some(Audience::Of("memory".to_owned())), role: String::new(), quota })
    }

    fn issuer(&self) -> Option<&dyn Issuer> {
        Some(&self.leases)
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

    async fn write(&self, write: &WriteBack<'_>) -> Result<(), StoreError> {
        call(&self.faults, "write to the manager", || self.take(write)).await
    }
}

/// A call that has an effect at the manager, and whatever goes wrong with it.
pub async fn call<T>(
    faults: &Faults,
    label: &str,
    effect: impl FnOnce() -> Result<T, StoreError> + Send,
) -> Result<T, StoreError> {
    let lost = || Err(StoreError::new(ErrorClass::Unavailable, "the connection broke"));
    match faults.at_write(label.to_owned()) {
        None | Some(Fault::WatchesGone | Fault::WatchesLag | Fault::WatchesMiss) => effect(),
        Some(Fault::CrashBefore | Fault::Late | Fault::Deposed | Fault::DeposedSoon) => faults.crash().await,
        Some(Fault::CrashAfter | Fault::CrashStale) => {
            drop(effect());
            faults.crash().await
        }
        Some(Fault::ReplyLost | Fault::LateTimeout) => {
            drop(effect());
            lost()
        }
        Some(Fault::HangAfter) => {
            drop(effect());
            std::future::pending().await
        }
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Status(409)) => Err(StoreError::new(ErrorClass::Conflict, "somebody else was faster")),
        Some(Fault::Status(429)) => Err(StoreError::new(ErrorClass::Throttled, "patience")),
        Some(Fault::Reset | Fault::Status(_)) => lost(),
    }
}
