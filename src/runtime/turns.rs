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
        let permits = store.limits.in_flight() * reads_per_request(&store.provider);
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

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::Lanes;
    use crate::{
        api::{KubernetesStore, Limits, Provider, StoreRef},
        fetch::{ReferredSecrets, ResolvedStore},
        stores::Scope,
    };

    fn store(limits: Limits) -> ResolvedStore {
        let provider = KubernetesStore { remote_namespace: "vault".to_owned(), server: None, audience: None };
        ResolvedStore {
            reference: StoreRef { name: "vault".to_owned(), kind: None },
            uid: "s".to_owned(),
            generation: 1,
            scope: Scope::Namespace,
            proxy: None,
            provider: Provider::Kubernetes(provider),
            limits,
            allows_rotation: false,
            credentials: ReferredSecrets::default(),
        }
    }

    #[tokio::test]
    async fn p6_a_store_that_is_older_than_the_bounds_of_its_limits_is_read_all_the_same() {
        for (said, queued) in [(Some(0), 2), (Some(1), 2), (Some(3), 6), (None, 32)] {
            let store = store(Limits { max_in_flight: said, ..Limits::default() });
            let lanes = Lanes::default();
            let mut turns = Vec::new();
            // As many as the store takes, and as many again queued before it.
            while let Some(turn) = lanes.turn(&store).now_or_never() {
                turns.push(turn.expect("a turn"));
            }
            assert_eq!(turns.len(), queued, "{said:?}");
        }
    }
}
