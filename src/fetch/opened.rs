//! Stores that are open: their backends, made once for everyone, with their
//! own credentials where they have any.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{CredentialSource, ResolvedStore, SecretVersion, credentials::gather, lane::StoreLimits, locked};
use crate::{
    audit::StoreName,
    stores::{Backend, Credentials, StoreError},
};

/// A store that cannot be opened answers those who ask again this soon.
const FAILURE_KEPT: Duration = Duration::from_secs(1);

/// Makes a backend of a store and its credentials.
pub type Open = dyn Fn(&ResolvedStore, Credentials) -> Result<Arc<dyn Backend>, StoreError> + Send + Sync;

/// A store at one generation with one state of its credentials.
pub(super) struct Store {
    /// Another for each that was ever opened: what sessions go by.
    pub(super) number: u64,
    pub(super) name: StoreName,
    /// Its manager, as its spec names it.
    pub(super) provider: &'static str,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) limits: Arc<StoreLimits>,
}

/// As the watch sees the Secrets that a store refers to.
type Seen = BTreeMap<String, Option<SecretVersion>>;

struct Opened {
    store: Arc<Store>,
    /// What the watch saw when it was opened or last compared, unless it has had news
    /// since that could not be looked into …
    seen: Option<Seen>,
    /// … and what was read.
    read: BTreeMap<String, SecretVersion>,
}

impl Opened {
    /// Whether the watch has no news: it shows what it showed before, or has
    /// caught up with what was read.
    fn is_current(&self, seen: &Seen) -> bool {
        let caught_up = || {
            seen.len() == self.read.len()
                && self.read.iter().all(|(name, read)| seen.get(name).is_some_and(|seen| seen.as_ref() == Some(read)))
        };
        self.seen.as_ref() == Some(seen) || caught_up()
    }
}

/// The lock is held while the store is opened, so that it is opened once.
#[derive(Default)]
struct Slot {
    opened: Option<Opened>,
    failed: Option<(Instant, Seen, StoreError)>,
}

type SharedSlot = Arc<tokio::sync::Mutex<Slot>>;

/// All open stores, by UID and generation.
pub(super) struct Stores {
    open: Box<Open>,
    source: Arc<dyn CredentialSource>,
    slots: Mutex<HashMap<(String, i64), SharedSlot>>,
    numbers: AtomicU64,
}

impl Stores {
    pub(super) fn new(source: Arc<dyn CredentialSource>, open: Box<Open>) -> Self {
        Self { open, source, slots: Mutex::default(), numbers: AtomicU64::new(0) }
    }

    /// The store, opened if it is not or if its credentials have changed.
    pub(super) async fn get(&self, resolved: &ResolvedStore) -> Result<Arc<Store>, StoreError> {
        let key = (resolved.uid.clone(), resolved.generation);
        let slot = Arc::clone(locked(&self.slots).entry(key).or_default());
        let mut slot = slot.lock().await;
        let seen = &resolved.credentials.seen;
        if let Some(opened) = &mut slot.opened
            && opened.is_current(seen)
        {
            opened.seen = Some(seen.clone());
            return Ok(Arc::clone(&opened.store));
        }
        if let Some((when, known, error)) = &slot.failed
            && when.elapsed() < FAILURE_KEPT
            && known == seen
        {
            return Err(error.clone());
        }
        let opened = match gather(&*self.source, resolved).await {
            Ok((credentials, read)) => self.opened(resolved, slot.opened.take(), credentials, read),
            Err(error) => {
                // Nobody uses it until its Secrets are read again. Where they only could not
                // be, it and its logins are good still, should they say what they said (P2);
                // where the API server says that they are gone, are no credentials or may not
                // be read, it is over (P5).
                match &mut slot.opened {
                    Some(opened) if error.class.is_outage() => opened.seen = None,
                    opened => *opened = None,
                }
                Err(error)
            }
        };
        match opened {
            Ok(opened) => {
                let store = Arc::clone(&opened.store);
                (slot.opened, slot.failed) = (Some(opened), None);
                Ok(store)
            }
            Err(error) => {
                slot.failed = Some((Instant::now(), seen.clone(), error.clone()));
                Err(error)
            }
        }
    }

    /// The store with what was read for it: the old one, if that is the same.
    fn opened(
        &self,
        resolved: &ResolvedStore,
        old: Option<Opened>,
        credentials: Credentials,
        read: BTreeMap<String, SecretVersion>,
    ) -> Result<Opened, StoreError> {
        let seen = Some(resolved.credentials.seen.clone());
        // The watch lagged behind what was read.
        if let Some(old) = old.filter(|old| old.read == read) {
            return Ok(Opened { seen, ..old });
        }
        let store = Store {
            number: self.numbers.fetch_add(1, Ordering::Relaxed),
            name: StoreName::of(&resolved.reference, &resolved.uid),
            provider: resolved.provider.name(),
            backend: (self.open)(resolved, credentials)?,
            limits: Arc::new(StoreLimits::new(&resolved.limits)),
        };
        Ok(Opened { store: Arc::new(store), seen, read })
    }

    pub(super) fn forget(&self, uid: &str) {
        locked(&self.slots).retain(|(known, _), _| known != uid);
    }

    /// Drops those that nobody sits at.
    pub(super) fn sweep(&self) {
        locked(&self.slots).retain(|_, slot| match slot.try_lock() {
            Ok(slot) => {
                let used = slot.opened.as_ref().is_some_and(|opened| Arc::strong_count(&opened.store) > 1);
                used || slot.failed.as_ref().is_some_and(|(when, ..)| when.elapsed() < FAILURE_KEPT)
            }
            // It is being opened.
            Err(_) => true,
        });
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        locked(&self.slots).is_empty()
    }
}
