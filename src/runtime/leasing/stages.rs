//! Stages and places of credentials, by what the Secret shows.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::{super::syncing, Entry, on_secret};
use crate::{
    api::{BotSecret, Revision, WorkloadChoice},
    leases::{self, Fingerprint, Holdings, Shown, Stage},
    rollout::CLOCKS_APART,
    watch::Observed,
};

/// Whether the Secret is as the status records it, so that no write of it was
/// cut off before the status told of it.
pub(super) fn is_untouched(observed: &Observed) -> bool {
    let recorded = observed.bot_secret.status.as_ref().and_then(|status| status.target.as_ref());
    match (recorded, observed.secret.as_deref()) {
        (None, None) => true,
        (Some(recorded), Some(facts)) => {
            recorded.uid == facts.uid && recorded.resource_version == facts.resource_version
        }
        _ => false,
    }
}

/// What was being issued when the operator died may have come into a Secret
/// that is another by now, and pods may hold it.
pub(super) fn doubt(observed: &Observed, holdings: &mut Holdings, now: Timestamp) {
    let written = written_at(observed, now).max(now);
    for held in holdings.held.iter_mut().filter(|held| held.record.stage == Stage::Issuing && held.values.is_none()) {
        (held.record.stage, held.record.retired) = (Stage::Retiring, Some(written));
    }
}

/// Makes stages and places what the Secret shows.
pub(super) fn align(observed: &Observed, entries: &[Entry<'_>], holdings: &mut Holdings, now: Timestamp) {
    let object = &observed.bot_secret;
    let Some(facts) = observed.secret.as_ref().filter(|facts| !facts.deleting) else { return };
    let asked: Vec<Fingerprint> = entries.iter().map(|entry| entry.fingerprint.clone()).collect();
    let shown = Shown {
        secret: &facts.name,
        sealed: &on_secret(observed),
        revision: syncing::state_of(observed).map_or(0, |state| state.revision.number.min(i64::MAX.unsigned_abs())),
        recorded: recorded_revision(observed),
        written: written_at(observed, now),
        now,
        asked: &asked,
        in_sight: entries.len() == object.spec.data_from.iter().filter(|entry| entry.dynamic.is_some()).count(),
        named: names_workloads(object),
        taken_back: syncing::state_of(observed).is_some_and(|state| state.taken_back.is_some()),
    };
    holdings.came_back = shown.taken_back;
    let retired = leases::align(&mut holdings.held, &shown);
    // What hangs on nothing cannot be revoked.
    holdings.held.retain(|held| held.record.stage != Stage::Retiring || held.record.is_revocable());
    if retired {
        holdings.rolling_since.get_or_insert_with(Instant::now);
        (holdings.look, holdings.looks) = (None, 0);
    }
}

/// The number of this Secret's revision as the status has it. `None` where a
/// credential may be replaced without a revision of its own (`rolls: false`).
fn recorded_revision(observed: &Observed) -> Option<u64> {
    let facts = observed.secret.as_ref()?;
    let state = syncing::state_of(observed).filter(|state| state.quiet.is_empty());
    let target = observed.bot_secret.status.as_ref().and_then(|status| status.target.as_ref())?;
    let same = state.is_some() && (&target.name, &target.uid) == (&facts.name, &facts.uid);
    target.revision.parse::<Revision>().ok().filter(|_| same).map(|revision| revision.number)
}

/// When the API server took the operator's last write of the Secret: that clock
/// dates pods too. Where somebody stripped it, no earlier than any of them can
/// be dated.
fn written_at(observed: &Observed, now: Timestamp) -> Timestamp {
    let object = &observed.bot_secret;
    let policy = object.spec.target().creation_policy.unwrap_or_default();
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let written = observed.secret.as_ref().and_then(|facts| facts.written_at(policy, name));
    written.unwrap_or_else(|| now.checked_add(SignedDuration::from_secs(CLOCKS_APART)).unwrap_or(now))
}

/// Whether workloads are named, which may use the Secret in ways unseen.
pub(super) fn names_workloads(object: &BotSecret) -> bool {
    matches!(object.spec.workload_choice(), WorkloadChoice::List | WorkloadChoice::Selector)
}
