//! How much is under way at once: reads of a store, writes to the Kubernetes API.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit},
    time::timeout,
};

use super::API_IN_FLIGHT;
use crate::{api::Provider, fetch::ResolvedStore};

/// How long a write waits for its turn. An API server that does not answer must not
/// hold up what a pass does beside writing.
const PATIENCE: Duration = Duration::from_secs(5);

/// Turns of writes. The client sends no more requests at once either; but a pass
/// that waits here has not made its request yet, which takes several times the room.
pub(super) struct Writes(Semaphore);

impl Default for Writes {
    fn default() -> Self {
        Self(Semaphore::new(API_IN_FLIGHT))
    }
}

impl Writes {
    /// Waits for a turn, which lasts until it is dropped. `None` where none came in
    /// time: the write goes on without.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        timeout(PATIENCE, self.0.acquire()).await.ok()?.ok()
    }
}

/// How many BotSecrets' reads one request may serve: a manager that takes
/// several at a time is let have them.
fn reads_per_request(provider: &Provider) -> usize {
    if matches!(provider, Provider::Aws(_)) { 10 } else { 1 }
}

/// Turns of periodic reads. At most as many as the store takes at once are
/// queued before it, so an urgent read waits behind no more than these.
#[derive(Default)]
pub(super) struct Lanes(Mutex<HashMap<String, (i64, Arc<Semaphore>)>>);

impl Lanes {
    /// The store is gone.
    pub(super) fn forget(&self, store: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(store);
    }

    pub(super) async fn turn(&self, store: &ResolvedStore) -> Option<OwnedSemaphorePermit> {
        let permits = store.limits.max_in_flight.unwrap_or(16) as usize * reads_per_request(&store.provider);
        let lane = {
            let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = || (store.generation, Arc::new(Semaphore::new(permits * 2)));
            let lane = lanes.entry(store.uid.clone()).or_insert_with(fresh);
            if lane.0 != store.generation {
                *lane = fresh();
            }
            lane.1.clone()
        };
        lane.acquire_owned().await.ok()
    }
}
