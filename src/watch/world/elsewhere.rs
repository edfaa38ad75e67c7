//! What becomes of one workload under other BotSecrets. A workload is in one
//! rollout at a time, so whatever waits for it takes part in how that ends.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Elsewhere, ObjectKey, Wake, World, workloads::template_of};
use crate::{
    api::{BotSecret, WorkloadKind, WorkloadStatus},
    watch::{WorkloadFacts, WorkloadId},
};

impl World {
    /// How this workload fares with the other BotSecrets that it uses.
    pub(super) fn elsewhere(&self, key: &ObjectKey, facts: &WorkloadFacts) -> Elsewhere {
        let others = self.users_of(facts).into_iter().filter(|other| other != key);
        let recorded: Vec<_> = others
            .filter_map(|other| Some((self.bot_secrets.get(&other)?, other.name)))
            .flat_map(|(object, name)| recorded(object).map(move |workload| (name.clone(), workload)))
            .filter(|(_, workload)| workload.uid == facts.uid)
            .collect();
        // The newest of each.
        let newest = |since: fn(&WorkloadStatus) -> Option<&Time>| {
            let found = recorded.iter().filter_map(|(name, workload)| Some((name.clone(), since(workload)?.0)));
            found.max_by_key(|(_, since)| *since)
        };
        Elsewhere {
            failed: newest(|one| one.rolled_at.as_ref().or(one.since.as_ref()).filter(|_| one.has_failed())),
            rolls: newest(|one| one.since.as_ref().filter(|_| one.is_rolling())),
            mends: newest(|one| one.since.as_ref().filter(|_| one.failed_before && one.is_waiting())),
        }
    }

    /// Whom it concerns that other workloads roll, fail or are mended for this
    /// BotSecret than before.
    pub(super) fn wakes_of_rollouts(
        &self,
        key: &ObjectKey,
        before: Option<&BotSecret>,
        now: Option<&BotSecret>,
    ) -> Vec<(ObjectKey, Wake)> {
        let told = |object| {
            let open = recorded(object).filter(|one| one.is_rolling() || one.has_failed() || one.failed_before);
            open.map(|one| (&one.kind, &one.name, &one.state)).collect::<BTreeSet<_>>()
        };
        let (before, now) = (before.map(told).unwrap_or_default(), now.map(told).unwrap_or_default());
        let changed = before.symmetric_difference(&now).filter_map(|(kind, name, _)| {
            let kind = WorkloadKind::from_name(kind)?;
            self.workloads.get(&WorkloadId { namespace: key.namespace.clone(), kind, name: (*name).clone() })
        });
        let others: BTreeSet<_> = changed.flat_map(|facts| self.users_of(facts)).filter(|other| other != key).collect();
        others.into_iter().map(|key| (key, Wake::Look)).collect()
    }

    /// The BotSecrets whose Secrets it uses.
    fn users_of(&self, facts: &WorkloadFacts) -> BTreeSet<ObjectKey> {
        let own = facts.uses.iter().map(|usage| ObjectKey::new(&facts.id.namespace, &usage.secret));
        let by_reference = template_of(facts).into_iter().flat_map(|template| self.used_by_deployment(&template));
        own.chain(by_reference).flat_map(|secret| self.writers_of(&secret)).collect()
    }
}

/// The workloads of a BotSecret that goes on: of any other nothing will change.
fn recorded(object: &BotSecret) -> impl Iterator<Item = &WorkloadStatus> {
    let goes_on = object.spec.suspend != Some(true) && object.metadata.deletion_timestamp.is_none();
    let status = object.status.as_ref().filter(|status| goes_on && status.target.is_some());
    status.and_then(|status| status.rollout.as_ref()).into_iter().flat_map(|rollout| &rollout.workloads)
}
