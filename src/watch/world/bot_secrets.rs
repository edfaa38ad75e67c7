//! BotSecrets and the ServiceAccounts that they name.

use std::sync::Arc;

use super::{AccountFacts, Departed, ObjectKey, Scoped, Wake, World, is_older, key_of, sort};
use crate::api::{ANNOTATION_REFRESH, BotSecret};

impl World {
    pub(super) fn take_bot_secret(&mut self, scope: &str, change: Scoped<Box<BotSecret>>) -> Vec<(ObjectKey, Wake)> {
        let (put, gone) = sort(&mut self.bot_secrets, scope, change);
        let mut wakes = Vec::new();
        for (key, old) in gone {
            wakes.push((key.clone(), Wake::Look));
            wakes.extend(self.wakes_of_rollouts(&key, Some(&old), None));
            let target = ObjectKey::new(&key.namespace, old.target_name());
            self.untarget(&target, &key.name);
            wakes.extend(self.writers_of(&target).into_iter().map(|key| (key, Wake::Read)));
        }
        if let Some(object) = put {
            let key = key_of(&object.metadata);
            let known = self.bot_secrets.get(&key).cloned();
            let same = |known: &&Arc<BotSecret>| {
                known.metadata.uid == object.metadata.uid
                    && known.metadata.resource_version == object.metadata.resource_version
            };
            if let Some(known) =
                known.as_ref().filter(|known| same(known) || is_older(&object.metadata, &known.metadata))
            {
                self.bot_secrets.put(key, known.clone());
                return wakes;
            }
            let target = ObjectKey::new(&key.namespace, object.target_name());
            if let Some(old) = &known {
                let old_target = ObjectKey::new(&key.namespace, old.target_name());
                if old_target != target {
                    self.untarget(&old_target, &key.name);
                    wakes.extend(self.writers_of(&old_target).into_iter().map(|key| (key, Wake::Read)));
                }
            }
            self.by_target.entry(target).or_default().insert(key.name.clone());
            wakes.extend(self.wakes_of_rollouts(&key, known.as_deref(), Some(&object)));
            let wake = if known.is_some_and(|old| !asks_for_a_read(&old, &object)) { Wake::Look } else { Wake::Read };
            wakes.push((key.clone(), wake));
            self.bot_secrets.put(key, Arc::new(*object));
        }
        wakes
    }

    fn untarget(&mut self, target: &ObjectKey, name: &str) {
        if let Some(names) = self.by_target.get_mut(target) {
            names.remove(name);
            if names.is_empty() {
                self.by_target.remove(target);
                self.lost.remove(target);
                self.gone.remove(target);
            }
        }
    }

    pub(super) fn take_account(
        &mut self,
        scope: &str,
        change: Scoped<(ObjectKey, AccountFacts)>,
    ) -> Vec<(ObjectKey, Wake)> {
        let (put, gone) = sort(&mut self.accounts, scope, change);
        let mut keys = Vec::new();
        for (key, old) in gone {
            self.departed.push(Departed::Account(old.uid));
            keys.push(key);
        }
        if let Some((key, facts)) = put {
            let old = self.accounts.put(key.clone(), facts.clone());
            if old.as_ref() != Some(&facts) {
                keys.push(key);
            }
            // It was deleted and made anew between two looks.
            let other = old.map(|old| old.uid).filter(|uid| *uid != facts.uid);
            self.departed.extend(other.map(Departed::Account));
        }
        keys.into_iter()
            .flat_map(|account| {
                self.in_namespace(&account.namespace)
                    .filter(move |(_, object)| {
                        object.spec.service_account_name == account.name
                            || object.spec.rotator() == Some(account.name.as_str())
                    })
                    .map(|(key, _)| (key.clone(), Wake::Read))
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// The same for a BotSecret whose status was written. Says whom else that
    /// concerns.
    pub fn wrote_bot_secret(&mut self, object: BotSecret) -> Vec<(ObjectKey, Wake)> {
        let key = key_of(&object.metadata);
        let known = self
            .bot_secrets
            .get(&key)
            .filter(|known| known.metadata.uid == object.metadata.uid && !is_older(&object.metadata, &known.metadata));
        let Some(known) = known.cloned() else { return Vec::new() };
        let wakes = self.wakes_of_rollouts(&key, Some(&known), Some(&object));
        self.bot_secrets.put(key, Arc::new(object));
        wakes
    }
}

/// Whether an edit asks for a read: of the spec, or of the refresh annotation.
/// A status write, a label or an unrelated annotation does not.
fn asks_for_a_read(old: &BotSecret, new: &BotSecret) -> bool {
    let refresh =
        |object: &BotSecret| object.metadata.annotations.as_ref().and_then(|a| a.get(ANNOTATION_REFRESH).cloned());
    old.metadata.uid != new.metadata.uid || old.spec != new.spec || refresh(old) != refresh(new)
}
