//! What is known of the cluster, and whom a change concerns. No I/O: events go
//! in, keys of BotSecrets come out.

mod bot_secrets;
mod elsewhere;
mod observe;
mod referred;
mod secrets;
#[cfg(test)]
mod tests;
mod types;
mod workloads;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use kube::api::ObjectMeta;

use super::{SecretFacts, WorkloadFacts, WorkloadId, tracked::Tracked};
use crate::{
    api::{BotSecret, BotSecretStore, ClusterBotSecretStore, State, StoreKind, StoreRef},
    fetch::SecretVersion,
    report::{Reason, Reasons},
};

pub use types::{AccountFacts, Change, Departed, Elsewhere, ObjectKey, Observed, Scoped, StoreProblem, Wake};

/// The conditions that metrics tell of.
const TOLD: [&str; 4] = ["Ready", "Synced", "RolledOut", "Rotated"];

/// The index.
#[derive(Debug, Default)]
pub struct World {
    bot_secrets: Tracked<ObjectKey, Arc<BotSecret>>,
    stores: Tracked<ObjectKey, Arc<BotSecretStore>>,
    cluster_stores: Tracked<ObjectKey, Arc<ClusterBotSecretStore>>,
    accounts: Tracked<ObjectKey, AccountFacts>,
    /// Secrets that stores refer to, those that were looked for: only whether
    /// they are there, and which version.
    referred: HashMap<ObjectKey, Option<SecretVersion>>,
    /// Where the Secrets lie that the cluster's stores refer to.
    operator_namespace: String,
    secrets: Tracked<ObjectKey, Arc<SecretFacts>>,
    merged: Tracked<ObjectKey, Arc<SecretFacts>>,
    workloads: Tracked<WorkloadId, Arc<WorkloadFacts>>,
    /// BotSecrets by the Secret that they write.
    by_target: HashMap<ObjectKey, BTreeSet<String>>,
    /// Workloads by the Secrets that they use. Mostly one each: a set would cost
    /// ten times its content.
    by_use: HashMap<ObjectKey, Vec<WorkloadId>>,
    /// Rollouts by the Deployment whose template they take.
    by_template: HashMap<ObjectKey, Vec<WorkloadId>>,
    /// Whether the API server has Rollouts.
    rollouts_served: bool,
    /// State of Secrets that were deleted under a living BotSecret.
    lost: HashMap<ObjectKey, Arc<State>>,
    /// UID and last version of such Secrets: the answer to a write may come in
    /// after the news that somebody deleted what was written.
    gone: HashMap<ObjectKey, (String, u64)>,
    /// What has gone since somebody asked.
    departed: Vec<Departed>,
}

impl World {
    /// An empty index. The Secrets that the cluster's stores refer to lie in
    /// the operator's own namespace.
    #[must_use]
    pub fn new(operator_namespace: &str) -> Self {
        Self { operator_namespace: operator_namespace.to_owned(), ..Self::default() }
    }

    /// Takes a change in and says whom it concerns. `scope` is the namespace
    /// that the watch covers, or "" for the cluster.
    pub fn take(&mut self, scope: &str, change: Change) -> Vec<(ObjectKey, Wake)> {
        match change {
            Change::BotSecret(change) => self.take_bot_secret(scope, change),
            Change::Store(change) => {
                let (keys, gone) = take(&mut self.stores, scope, change, |store| &store.metadata, |store| &store.spec);
                self.departed.extend(gone.into_iter().map(Departed::Store));
                keys.into_iter()
                    .flat_map(|key| self.users_of_store(&key.namespace, &key.name, StoreKind::BotSecretStore))
                    .collect()
            }
            Change::ClusterStore(change) => {
                let (keys, gone) =
                    take(&mut self.cluster_stores, scope, change, |store| &store.metadata, |store| &store.spec);
                self.departed.extend(gone.into_iter().map(Departed::Store));
                keys.into_iter()
                    .flat_map(|key| self.users_of_store("", &key.name, StoreKind::ClusterBotSecretStore))
                    .collect()
            }
            Change::ServiceAccount(change) => self.take_account(scope, change),
            Change::Referred(secret, version) => self.take_referred(secret, version),
            Change::Secret(change) => self.take_secret(scope, change),
            Change::MergedSecret(change) => self.take_merged(scope, change),
            Change::Workload(kind, change) => self.take_workload(scope, kind, change),
            Change::Absent(kind) => self.take_absent(scope, kind),
        }
    }

    /// What the changes that were taken in since the last time have ended.
    pub fn take_departed(&mut self) -> Vec<Departed> {
        std::mem::take(&mut self.departed)
    }

    fn in_namespace<'a>(
        &'a self,
        namespace: &str,
    ) -> impl Iterator<Item = (&'a ObjectKey, &'a Arc<BotSecret>)> + use<'a> {
        let start = ObjectKey::new(namespace, "");
        let namespace = namespace.to_owned();
        self.bot_secrets.range(start..).take_while(move |(key, _)| key.namespace == namespace)
    }

    fn writers_of(&self, secret: &ObjectKey) -> Vec<ObjectKey> {
        self.by_target.get(secret).into_iter().flatten().map(|name| ObjectKey::new(&secret.namespace, name)).collect()
    }

    fn users_of_store(&self, namespace: &str, name: &str, kind: StoreKind) -> Vec<(ObjectKey, Wake)> {
        let uses = |object: &BotSecret| {
            store_refs(object).any(|reference| reference.name == name && reference.kind.unwrap_or_default() == kind)
        };
        let concerned: Vec<_> = if kind == StoreKind::BotSecretStore {
            self.in_namespace(namespace).filter(|(_, object)| uses(object)).map(|(key, _)| key.clone()).collect()
        } else {
            self.bot_secrets.iter().filter(|(_, object)| uses(object)).map(|(key, _)| key.clone()).collect()
        };
        concerned.into_iter().map(|key| (key, Wake::Read)).collect()
    }

    /// Whether there is such a BotSecret.
    #[must_use]
    pub fn contains(&self, key: &ObjectKey) -> bool {
        self.bot_secrets.get(key).is_some()
    }

    /// How many BotSecrets are ready, and how many are not.
    #[must_use]
    pub fn count_ready(&self) -> (usize, usize) {
        let is_ready = |object: &BotSecret| {
            let conditions = object.status.iter().flat_map(|status| &status.conditions);
            conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        };
        let ready = self.bot_secrets.iter().filter(|(_, object)| is_ready(object)).count();
        (ready, self.bot_secrets.len() - ready)
    }

    /// How many BotSecrets there are of which a condition gives which reason.
    #[must_use]
    pub fn reasons(&self) -> Reasons {
        let mut reasons = Reasons::new();
        for object in self.bot_secrets() {
            // Nothing is done about what is suspended, and it says so under Ready.
            let suspended = object.spec.suspend == Some(true);
            for condition in object.status.iter().flat_map(|status| &status.conditions) {
                let is_told = |type_: &&&str| **type_ == condition.type_ && (!suspended || **type_ == "Ready");
                let type_ = TOLD.iter().find(is_told);
                if let Some((type_, reason)) = type_.zip(Reason::from_name(&condition.reason)) {
                    *reasons.entry((*type_, reason)).or_default() += 1;
                }
            }
        }
        reasons
    }

    /// Every BotSecret with its key, by namespace and name.
    pub fn by_key(&self) -> impl Iterator<Item = (&ObjectKey, &BotSecret)> {
        self.bot_secrets.iter().map(|(key, object)| (key, &**object))
    }

    /// Every BotSecret.
    pub fn bot_secrets(&self) -> impl Iterator<Item = &BotSecret> {
        self.bot_secrets.iter().map(|(_, object)| &**object)
    }

    /// How many BotSecrets there are.
    #[must_use]
    pub fn bot_secret_count(&self) -> usize {
        self.bot_secrets.len()
    }
}

/// What is there and what is gone by this change.
fn sort<T, V>(tracked: &mut Tracked<ObjectKey, V>, scope: &str, change: Scoped<T>) -> (Option<T>, Vec<(ObjectKey, V)>) {
    match change {
        Scoped::Begin => {
            tracked.begin(scope, |key| scope.is_empty() || key.namespace == scope);
            (None, Vec::new())
        }
        Scoped::Put(object) => (Some(object), Vec::new()),
        Scoped::Gone(key) => (None, tracked.remove(&key).map(|old| (key, old)).into_iter().collect()),
        Scoped::End => (None, tracked.finish(scope)),
    }
}

/// The common part of taking in a change of a kind that is kept whole. Answers the keys
/// of which something changed, and the UIDs of objects that are no more.
fn take<T, S: PartialEq>(
    tracked: &mut Tracked<ObjectKey, Arc<T>>,
    scope: &str,
    change: Scoped<Box<T>>,
    meta: impl Fn(&T) -> &ObjectMeta,
    spec: impl Fn(&T) -> &S,
) -> (Vec<ObjectKey>, Vec<String>) {
    let (put, mut gone) = sort(tracked, scope, change);
    if let Some(object) = put {
        let key = key_of(meta(&object));
        let object = Arc::new(*object);
        let Some(old) = tracked.put(key.clone(), object.clone()) else { return (vec![key], Vec::new()) };
        if meta(&old).uid == meta(&object).uid {
            let is_same = spec(&old) == spec(&object);
            return (if is_same { Vec::new() } else { vec![key] }, Vec::new());
        }
        gone.push((key, old));
    }
    let uids = gone.iter().filter_map(|(_, old)| meta(old).uid.clone()).collect();
    (gone.into_iter().map(|(key, _)| key).collect(), uids)
}

fn key_of(meta: &ObjectMeta) -> ObjectKey {
    ObjectKey::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

fn store_refs(object: &BotSecret) -> impl Iterator<Item = &StoreRef> {
    let spec = &object.spec;
    let own = spec.data.iter().map(|entry| &entry.store_ref).chain(spec.data_from.iter().map(|entry| &entry.store_ref));
    let rotates = spec.rotation.as_ref().and_then(|rotation| rotation.store_ref.as_ref());
    own.filter_map(move |reference| reference.as_ref().or(spec.store_ref.as_ref())).chain(rotates)
}

/// resourceVersions of one resource can be compared as numbers (KEP-5504).
fn version(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

fn is_older(one: &ObjectMeta, other: &ObjectMeta) -> bool {
    let number = |meta: &ObjectMeta| meta.resource_version.as_deref().map_or(0, version);
    one.uid == other.uid && number(one) < number(other)
}
