//! When each BotSecret was last read and written whole, for metrics: a series each, for
//! so many of them.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::jiff::Timestamp;

use super::pass::since_epoch;
use crate::{
    api::{BotSecretStatus, RotationPhase},
    plan::Memory,
    watch::{ObjectKey, World},
};

/// Those of the first so many BotSecrets, by namespace and name: always the same ones
/// have a series, whichever process leads.
#[derive(Debug, Default)]
pub(super) struct Successes {
    most: usize,
    known: BTreeMap<ObjectKey, Success>,
}

#[derive(Debug)]
struct Success {
    /// Of the BotSecret: one of the same name that was made anew is another.
    uid: Option<String>,
    at: Timestamp,
}

impl Successes {
    /// Of so many BotSecrets at most.
    pub(super) fn of(most: usize) -> Self {
        Self { most, known: BTreeMap::new() }
    }

    /// Counts anew. Answers how many BotSecrets there was no room for. What is suspended
    /// counts for neither.
    pub(super) fn count(&mut self, world: &World, memories: &HashMap<ObjectKey, Box<Memory>>) -> usize {
        let mut before = std::mem::take(&mut self.known);
        let mut objects = 0;
        for (key, object) in world.by_key().filter(|(_, object)| object.spec.suspend != Some(true)) {
            objects += 1;
            if objects > self.most {
                continue;
            }
            let uid = &object.metadata.uid;
            let noted = memories.get(key).filter(|memory| memory.uid == *uid).and_then(|memory| memory.synced_at);
            // While a pass is under way its notes are with it.
            let known = before.remove(key).filter(|known| known.uid == *uid).map(|known| known.at);
            let at = noted.or(known).or_else(|| object.status.as_ref().and_then(on_record));
            if let Some(at) = at {
                self.known.insert(key.clone(), Success { uid: uid.clone(), at });
            }
        }
        objects.saturating_sub(self.most)
    }

    /// Namespace, name, and the seconds since 1970.
    pub(super) fn times(&self) -> impl Iterator<Item = (&str, &str, f64)> {
        let known = self.known.iter();
        known.map(|(key, known)| (key.namespace.as_str(), key.name.as_str(), since_epoch(known.at).as_secs_f64()))
    }
}

/// What another process left of it. A status has no moving timestamp. Of what was well it
/// shows since when, which is before the last success; of what failed, when that was said,
/// which is after it, by three intervals at most.
fn on_record(status: &BotSecretStatus) -> Option<Timestamp> {
    // Nothing was written yet, or what was is deleted.
    status.target.as_ref()?;
    let synced = status.conditions.iter().filter(|condition| condition.type_ == "Synced");
    let rotation = status.rotation.iter().flat_map(|rotation| &rotation.times);
    let written = rotation.filter(|time| time.phase == RotationPhase::Written).map(|time| time.at.0);
    synced.map(|condition| condition.last_transition_time.0).chain(written).max()
}

#[cfg(test)]
#[path = "successes_tests.rs"]
mod tests;
