//! Workloads, by the Secrets that they use.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{ObjectKey, Scoped, Wake, World};
use crate::{
    api::WorkloadKind,
    watch::{WorkloadFacts, WorkloadId},
};

impl World {
    pub(super) fn take_workload(
        &mut self,
        scope: &str,
        kind: WorkloadKind,
        change: Scoped<Box<WorkloadFacts>>,
    ) -> Vec<(ObjectKey, Wake)> {
        let (put, gone) = match change {
            Scoped::Begin => {
                // Each kind is relisted apart.
                let scope_of_kind = format!("{}/{scope}", kind.name());
                self.workloads
                    .begin(&scope_of_kind, |id| id.kind == kind && (scope.is_empty() || id.namespace == scope));
                return Vec::new();
            }
            Scoped::Put(facts) => (Some(facts), Vec::new()),
            Scoped::Gone(key) => {
                let id = WorkloadId { namespace: key.namespace, kind, name: key.name };
                (None, self.workloads.remove(&id).map(|old| (id, old)).into_iter().collect())
            }
            Scoped::End => {
                self.rollouts_served |= kind == WorkloadKind::Rollout;
                (None, self.workloads.finish(&format!("{}/{scope}", kind.name())))
            }
        };
        let mut concerned = BTreeSet::new();
        for (id, old) in gone {
            self.forget_uses(&id, &old, &mut concerned);
        }
        if let Some(facts) = put {
            let id = facts.id.clone();
            // Only a fresh read selects pods; 20,000 selectors would be kept for
            // nothing.
            let mut facts = facts;
            facts.selector = LabelSelector::default();
            if let Some(old) = self.workloads.remove(&id) {
                if old == Arc::from(facts.clone()) {
                    self.workloads.put(id, old);
                    return Vec::new();
                }
                self.forget_uses(&id, &old, &mut concerned);
            }
            let template = template_of(&facts);
            // One that uses no Secret is not kept: there may be 20,000 of them.
            if !facts.uses.is_empty() || template.is_some() {
                if let Some(template) = template {
                    concerned.extend(self.used_by_deployment(&template));
                    self.by_template.entry(template).or_default().push(id.clone());
                }
                for used in &facts.uses {
                    let secret = ObjectKey::new(&id.namespace, &used.secret);
                    let users = self.by_use.entry(secret.clone()).or_insert_with(|| Vec::with_capacity(1));
                    users.push(id.clone());
                    concerned.insert(secret);
                }
                self.workloads.put(id, Arc::from(facts));
            }
        }
        let writers: BTreeSet<_> = concerned.iter().flat_map(|secret| self.writers_of(secret)).collect();
        writers.into_iter().map(|key| (key, Wake::Look)).collect()
    }

    /// The kind is not, or no longer, there: nor are its objects.
    pub(super) fn take_absent(&mut self, scope: &str, kind: WorkloadKind) -> Vec<(ObjectKey, Wake)> {
        self.take_workload(scope, kind, Scoped::Begin);
        let concerned = self.take_workload(scope, kind, Scoped::End);
        self.rollouts_served &= kind != WorkloadKind::Rollout;
        concerned
    }

    /// The Rollouts that take this Deployment's template, as if it were theirs.
    pub(super) fn with_template_of(&self, facts: &WorkloadFacts) -> Vec<Arc<WorkloadFacts>> {
        let deployment =
            (facts.id.kind == WorkloadKind::Deployment).then(|| ObjectKey::new(&facts.id.namespace, &facts.id.name));
        let ids = deployment.and_then(|deployment| self.by_template.get(&deployment)).into_iter().flatten();
        ids.filter_map(|id| self.workloads.get(id))
            .map(|rollout| {
                let (uses, markers) = (facts.uses.clone(), facts.markers.clone());
                Arc::new(WorkloadFacts { uses, markers, ..(**rollout).clone() })
            })
            .collect()
    }

    pub(super) fn used_by_deployment(&self, key: &ObjectKey) -> Vec<ObjectKey> {
        let id =
            WorkloadId { namespace: key.namespace.clone(), kind: WorkloadKind::Deployment, name: key.name.clone() };
        let uses = self.workloads.get(&id).into_iter().flat_map(|facts| &facts.uses);
        uses.map(|used| ObjectKey::new(&key.namespace, &used.secret)).collect()
    }

    fn forget_uses(&mut self, id: &WorkloadId, old: &WorkloadFacts, concerned: &mut BTreeSet<ObjectKey>) {
        for used in &old.uses {
            let secret = ObjectKey::new(&id.namespace, &used.secret);
            if let Some(users) = self.by_use.get_mut(&secret) {
                users.retain(|user| user != id);
                if users.is_empty() {
                    self.by_use.remove(&secret);
                }
            }
            concerned.insert(secret);
        }
        if let Some(template) = template_of(old) {
            concerned.extend(self.used_by_deployment(&template));
            if let Some(users) = self.by_template.get_mut(&template) {
                users.retain(|user| user != id);
                if users.is_empty() {
                    self.by_template.remove(&template);
                }
            }
        }
    }
}

/// The Deployment whose template it takes. Other kinds of reference are refused
/// where such a Rollout is to roll.
pub(super) fn template_of(facts: &WorkloadFacts) -> Option<ObjectKey> {
    let from = facts.template_from.as_ref().filter(|from| from.kind == WorkloadKind::Deployment.name())?;
    Some(ObjectKey::new(&facts.id.namespace, &from.name))
}
