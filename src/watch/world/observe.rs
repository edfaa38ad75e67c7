//! What a pass over one BotSecret looks at.

use std::sync::Arc;

use super::{ObjectKey, Observed, StoreProblem, World, store_refs};
use crate::{
    api::{BotSecret, CreationPolicy, StoreKind, StoreRef, WorkloadChoice},
    fetch::{ResolvedStore, ServiceAccount},
    stores::Scope,
};

impl World {
    /// Everything that a pass over this BotSecret looks at; `None` where it is
    /// gone.
    #[must_use]
    pub fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let object = self.bot_secrets.get(key)?.clone();
        let target = ObjectKey::new(&key.namespace, object.target_name());
        let policy = object.spec.target().creation_policy.unwrap_or_default();
        let secrets = if policy == CreationPolicy::Merge { &self.merged } else { &self.secrets };
        let by_template = matches!(object.spec.workload_choice(), WorkloadChoice::Auto);
        let users = self.by_use.get(&target).into_iter().flatten().filter(|_| by_template);
        let (older_rival, younger_rivals) = self.rivals(key, &object, &target);
        let mut workloads: Vec<_> = users.filter_map(|id| self.workloads.get(id)).cloned().collect();
        let by_reference: Vec<_> = workloads.iter().flat_map(|facts| self.with_template_of(facts)).collect();
        workloads.extend(by_reference);
        let of_another = |secret: &str| {
            secret != target.name && self.by_target.contains_key(&ObjectKey::new(&key.namespace, secret))
        };
        let shared = workloads.iter().filter(|facts| facts.uses.iter().any(|usage| of_another(&usage.secret)));
        Some(Observed {
            shared: shared.map(|facts| (facts.uid.clone(), self.elsewhere(key, facts))).collect(),
            stores: store_refs(&object)
                .map(|reference| (reference.clone(), self.resolve(&key.namespace, reference)))
                .collect(),
            lenders: object
                .status
                .iter()
                .flat_map(|status| &status.leases)
                .filter_map(|lease| Some((lease.store.clone(), self.resolve(&key.namespace, &lease.store).ok()?)))
                .collect(),
            account: self.account(&key.namespace, &object.spec.service_account_name),
            rotator: object.spec.rotator().and_then(|name| self.account(&key.namespace, name)),
            secret: secrets.get(&target).cloned(),
            lost: self.lost.get(&target).cloned(),
            workloads,
            rollouts_served: self.rollouts_served,
            older_rival,
            younger_rivals,
            bot_secret: object,
        })
    }

    fn account(&self, namespace: &str, name: &str) -> Option<ServiceAccount> {
        self.accounts.get(&ObjectKey::new(namespace, name)).map(|facts| ServiceAccount {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: facts.uid.clone(),
            annotations: facts.annotations.clone(),
        })
    }

    /// Other BotSecrets that write this Secret whole: the oldest of those that
    /// are older, which wins, and the younger ones. Merges keep to their own
    /// keys and have no rivals.
    fn rivals(&self, key: &ObjectKey, object: &BotSecret, target: &ObjectKey) -> (Option<String>, Vec<String>) {
        let age = |object: &BotSecret| {
            (object.metadata.creation_timestamp.as_ref().map(|time| time.0), object.metadata.uid.clone())
        };
        let merges = |object: &BotSecret| object.spec.target().creation_policy == Some(CreationPolicy::Merge);
        if merges(object) {
            return (None, Vec::new());
        }
        let others = self.writers_of(target).into_iter().filter(|other| other != key);
        let rivals = others.filter_map(|other| self.bot_secrets.get(&other).map(|object| (other.name, object)));
        let rivals = rivals.filter(|(_, other)| !merges(other));
        let (older, younger): (Vec<_>, Vec<_>) = rivals.partition(|(_, other)| age(other) < age(object));
        let oldest = older.into_iter().min_by_key(|(_, other)| age(other)).map(|(name, _)| name);
        (oldest, younger.into_iter().map(|(name, _)| name).collect())
    }

    fn resolve(&self, namespace: &str, reference: &StoreRef) -> Result<Arc<ResolvedStore>, StoreProblem> {
        let (meta, scope, spec) = match reference.kind.unwrap_or_default() {
            StoreKind::BotSecretStore => {
                let store =
                    self.stores.get(&ObjectKey::new(namespace, &reference.name)).ok_or(StoreProblem::NotFound)?;
                (&store.metadata, Scope::Namespace, &store.spec.store)
            }
            StoreKind::ClusterBotSecretStore => {
                let store =
                    self.cluster_stores.get(&ObjectKey::new("", &reference.name)).ok_or(StoreProblem::NotFound)?;
                if !store.spec.allows(namespace) {
                    return Err(StoreProblem::NotAllowed);
                }
                (&store.metadata, Scope::Cluster, &store.spec.store)
            }
        };
        let provider = spec.provider().ok_or(StoreProblem::NoProvider)?;
        let credentials = self.credentials(scope, namespace, &provider);
        Ok(Arc::new(ResolvedStore {
            reference: reference.clone(),
            uid: meta.uid.clone().unwrap_or_default(),
            generation: meta.generation.unwrap_or_default(),
            scope,
            proxy: spec.proxy.clone(),
            provider,
            limits: spec.limits.clone().unwrap_or_default(),
            allows_rotation: spec.allow_rotation == Some(true),
            credentials,
        }))
    }
}
