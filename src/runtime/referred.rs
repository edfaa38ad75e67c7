//! Watches of the Secrets that stores refer to: one for each, begun and ended
//! as references come and go.

use std::collections::HashMap;

use futures::StreamExt;
use tokio::{sync::mpsc, task::AbortHandle};

use crate::watch::{Change, ObjectKey, World, streams};

/// The watches that run.
pub(super) struct ReferredWatches {
    client: kube::Client,
    running: HashMap<ObjectKey, Watch>,
    changes: mpsc::UnboundedSender<Change>,
}

/// Ends with what holds it.
struct Watch(AbortHandle);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ReferredWatches {
    /// None yet, and where their changes will come from.
    pub(super) fn new(client: kube::Client) -> (Self, mpsc::UnboundedReceiver<Change>) {
        let (changes, receiver) = mpsc::unbounded_channel();
        (Self { client, running: HashMap::new(), changes }, receiver)
    }

    /// Watches what stores refer to now, and nothing else.
    pub(super) fn follow(&mut self, world: &mut World) {
        let wanted = world.referred_secrets();
        self.running.retain(|secret, _| {
            let keep = wanted.contains(secret);
            if !keep {
                world.forget_referred(secret);
            }
            keep
        });
        for secret in wanted {
            let (client, changes) = (&self.client, &self.changes);
            self.running.entry(secret).or_insert_with_key(|secret| {
                let mut states = Box::pin(streams::referred(client, secret));
                let (secret, changes) = (secret.clone(), changes.clone());
                let task = tokio::spawn(async move {
                    while let Some(state) = states.next().await {
                        // The engine is gone: so is this, in a moment.
                        let _ = changes.send(Change::Referred(secret.clone(), state));
                    }
                });
                Watch(task.abort_handle())
            });
        }
    }

    /// Whether this is of a watch that runs: what an ended one had sent before
    /// may come in after its end.
    pub(super) fn is_of_one(&self, change: &Change) -> bool {
        matches!(change, Change::Referred(secret, _) if self.running.contains_key(secret))
    }

    /// Whether each has said what there is.
    pub(super) fn has_answers(&self, world: &World) -> bool {
        self.running.keys().all(|secret| world.has_looked_for(secret))
    }
}

#[cfg(test)]
#[path = "referred_tests.rs"]
mod tests;
