//! Secrets that the operator writes, whole or in part.

use std::{collections::BTreeSet, sync::Arc};

use super::{ObjectKey, Scoped, Wake, World, sort, version};
use crate::{
    api::CreationPolicy,
    watch::{SecretFacts, tracked::Tracked},
};

type Secrets = Tracked<ObjectKey, Arc<SecretFacts>>;

impl World {
    pub(super) fn take_secret(&mut self, scope: &str, change: Scoped<Box<SecretFacts>>) -> Vec<(ObjectKey, Wake)> {
        let (put, gone) = sort(&mut self.secrets, scope, change);
        let mut wakes = BTreeSet::new();
        for (key, old) in gone {
            let writers = self.writers_of(&key);
            if !writers.is_empty() {
                self.gone.insert(key.clone(), (old.uid.clone(), version(&old.resource_version)));
                if let Some(mut state) = old.state.clone() {
                    state.settle(old.written_at(CreationPolicy::Owner, ""));
                    self.lost.insert(key.clone(), Arc::new(state));
                }
            }
            wakes.extend(writers.into_iter().map(|key| (key, Wake::Read)));
        }
        if let Some(facts) = put {
            let key = ObjectKey::new(&facts.namespace, &facts.name);
            if put_newer(&mut self.secrets, &key, *facts) {
                self.lost.remove(&key);
                wakes.extend(self.writers_of(&key).into_iter().map(|key| (key, Wake::Look)));
            }
        }
        wakes.into_iter().collect()
    }

    pub(super) fn take_merged(&mut self, scope: &str, change: Scoped<Box<SecretFacts>>) -> Vec<(ObjectKey, Wake)> {
        let (put, gone) = sort(&mut self.merged, scope, change);
        let mut keys = Vec::new();
        for (key, old) in gone {
            if !self.writers_of(&key).is_empty() {
                self.gone.insert(key.clone(), (old.uid.clone(), version(&old.resource_version)));
            }
            keys.push(key);
        }
        if let Some(facts) = put {
            let key = ObjectKey::new(&facts.namespace, &facts.name);
            if put_newer(&mut self.merged, &key, *facts) {
                keys.push(key);
            }
        }
        keys.iter().flat_map(|key| self.writers_of(key)).map(|key| (key, Wake::Look)).collect()
    }

    /// Takes in what a write of our own answered, ahead of the watch, so that
    /// the next pass does not mistake a lagging cache for somebody else's edit.
    pub fn wrote_secret(&mut self, facts: SecretFacts, policy: CreationPolicy) {
        let key = ObjectKey::new(&facts.namespace, &facts.name);
        // One that only lost our label is written anew at a later version.
        let is_gone = self
            .gone
            .get(&key)
            .is_some_and(|(uid, last)| *uid == facts.uid && version(&facts.resource_version) <= *last);
        if is_gone {
            return;
        }
        if policy == CreationPolicy::Merge {
            put_newer(&mut self.merged, &key, facts);
        } else if put_newer(&mut self.secrets, &key, facts) {
            self.lost.remove(&key);
        }
    }
}

/// Keeps the newer of two versions of one Secret. Answers whether that is news.
fn put_newer(secrets: &mut Secrets, key: &ObjectKey, facts: SecretFacts) -> bool {
    let known = secrets.get(key);
    let is_older = known.is_some_and(|known| {
        known.uid == facts.uid && version(&known.resource_version) >= version(&facts.resource_version)
    });
    if is_older {
        secrets.keep(key);
    } else {
        secrets.put(key.clone(), Arc::new(facts));
    }
    !is_older
}
