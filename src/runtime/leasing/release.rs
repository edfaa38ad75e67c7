//! Whether a credential that was replaced may go: when no pod may hold it.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::jiff::Timestamp;
use kube::{Api, api::ListParams};
use tokio::time::Instant;

use super::{super::Context, super::syncing, names_workloads};
use crate::{
    api::{BotSecret, Revision, RotationPhase, WorkloadChoice},
    deadline::within,
    leases::{Holdings, Judge, Record, Rollouts, Stage, may_hold},
    report::Reason,
    rollout::{PodFacts, PodView, is_open},
    watch::Observed,
};

/// When pods are looked at for the first time, and how seldom at most.
pub(super) const FIRST_LOOK: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(8);
/// The same once every workload has rolled.
const LONGEST_STUCK: Duration = Duration::from_secs(300);

/// The accessors of those that may go.
pub(super) async fn released(context: &Context, observed: &Observed, holdings: &mut Holdings) -> BTreeSet<String> {
    let now = context.now();
    let retiring: Vec<&Record> =
        holdings.held.iter().map(|held| &held.record).filter(|record| record.stage == Stage::Retiring).collect();
    if retiring.is_empty() {
        (holdings.look, holdings.looks) = (None, 0);
        // What hangs on nothing does not retire, but its rollout takes its time too.
        if is_rolled_out(observed)
            && let Some(since) = holdings.rolling_since.take()
        {
            holdings.rollout = since.elapsed();
        }
        return BTreeSet::new();
    }
    let over = retiring.iter().filter(|record| record.is_over(now));
    let mut free: BTreeSet<String> = over.map(|record| record.accessor.clone()).collect();
    if holdings.look.is_some_and(|look| look > Instant::now()) {
        return free;
    }
    let object = &observed.bot_secret;
    if is_unproven(object) {
        // The old one may be needed still; what ends by its own clock is over.
        let (wait, looks) = wait(holdings.looks, false, None);
        (holdings.look, holdings.looks) = (Some(Instant::now() + wait), looks);
        return free;
    }
    let rollouts = rollouts(object);
    let by_pods: Vec<&Record> =
        retiring.iter().filter(|record| Judge::of(record, rollouts) == Judge::Pods).copied().collect();
    if !by_pods.is_empty()
        && let Some(pods) = pods(context, object).await
    {
        let newest = syncing::state_of(observed).map(|state| (object.target_name(), state.revision.number));
        let is_held = |record: &Record| pods.iter().any(|pod| may_hold(pod, record, newest));
        free.extend(by_pods.iter().filter(|record| !is_held(record)).map(|record| record.accessor.clone()));
    }
    let is_rolled = is_rolled(object, rollouts, &retiring);
    let is_stuck = is_rolled || rollouts.named && by_pods.is_empty();
    let next_over = retiring.iter().filter(|record| !record.is_over(now)).filter_map(|record| left(record, now)).min();
    let (wait, looks) = wait(holdings.looks, is_stuck, next_over);
    (holdings.look, holdings.looks) = (Some(Instant::now() + wait), looks);
    // Not how long a job holds on to it: that is no reason to replace earlier.
    if (is_rolled || !free.is_empty())
        && let Some(since) = holdings.rolling_since.take()
    {
        holdings.rollout = since.elapsed();
    }
    free
}

/// Whether every workload has what the Secret holds, and stayed well on it.
fn is_rolled_out(observed: &Observed) -> bool {
    let status = observed.bot_secret.status.as_ref();
    let complete = status.and_then(|status| status.rollout.as_ref()).filter(|rollout| rollout.complete);
    let is_current = complete.zip(syncing::state_of(observed));
    let is_open = status.and_then(|status| status.rotation.as_ref()).is_some_and(|rotation| is_open(rotation.phase));
    !is_open && is_current.is_some_and(|(rollout, state)| rollout.revision == state.revision.to_string())
}

/// Whether workloads have the newest values and have not stayed well on them
/// yet, or failed on them.
fn is_unproven(object: &BotSecret) -> bool {
    let rotation = object.status.as_ref().and_then(|status| status.rotation.as_ref());
    rotation.is_some_and(|rotation| match rotation.phase {
        RotationPhase::Rolling => !waits_for_a_person(object),
        // Of a later version: this pass finds out where it stands.
        phase => matches!(phase, RotationPhase::Halted | RotationPhase::Unknown),
    })
}

/// Whether nothing but somebody's act can end the rollout.
fn waits_for_a_person(object: &BotSecret) -> bool {
    let conditions = object.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|one| one.type_ == "RolledOut" && one.reason == Reason::WaitingForWorkload.name())
}

fn rollouts(object: &BotSecret) -> Rollouts {
    let rollout = object.status.as_ref().and_then(|status| status.rollout.as_ref());
    let revision = rollout.filter(|rollout| rollout.complete).and_then(|rollout| rollout.revision.parse().ok());
    Rollouts { named: names_workloads(object), complete: revision.map(|revision: Revision| revision.number) }
}

/// Whether no workload is left to roll for what took their places: whatever
/// holds them now takes its own time.
fn is_rolled(object: &BotSecret, rollouts: Rollouts, retiring: &[&Record]) -> bool {
    let newest = retiring.iter().map(|record| record.replaced_by).max();
    object.spec.workload_choice() == WorkloadChoice::None || rollouts.complete >= newest
}

/// How long until the next look, and how many there have been then. While a
/// rollout goes on it ends any moment; what holds an old credential afterwards,
/// such as a job, takes its time, and each look lists every pod.
fn wait(looks: u32, is_stuck: bool, next_over: Option<Duration>) -> (Duration, u32) {
    let (most, longest) = if is_stuck { (10, LONGEST_STUCK) } else { (3, LONGEST) };
    let wait = FIRST_LOOK.saturating_mul(1 << looks.min(most)).min(longest);
    (next_over.map_or(wait, |over| wait.min(over.max(FIRST_LOOK))), looks.saturating_add(1).min(most))
}

/// How much of its grace is left.
fn left(record: &Record, now: Timestamp) -> Option<Duration> {
    Duration::try_from(record.over_at()?.duration_since(now)).ok()
}

/// Every pod in the namespace, whoever owns it, by a list that no cache
/// answers. `None` where there was no answer.
async fn pods(context: &Context, object: &BotSecret) -> Option<Vec<PodFacts>> {
    let api: Api<PodView> =
        Api::namespaced(context.client.clone(), object.metadata.namespace.as_deref().unwrap_or_default());
    let pods = within(api.list(&ListParams::default())).await.ok()?;
    Some(pods.items.iter().map(PodView::facts).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::wait;

    #[test]
    fn a_job_that_holds_an_old_credential_for_a_day_costs_few_lists() {
        let (mut looks, mut time, mut lists) = (0, Duration::ZERO, 0);
        while time < Duration::from_secs(24 * 3600) {
            // A rollout of a minute first.
            let (next, count) = wait(looks, time > Duration::from_secs(60), None);
            assert!(time > Duration::from_secs(60) || next <= Duration::from_secs(8));
            (looks, time, lists) = (count, time + next, lists + 1);
        }
        assert!(lists < 320, "{lists}");
        // It does not sleep through the end of a grace.
        assert_eq!(wait(looks, true, Some(Duration::from_secs(90))).0, Duration::from_secs(90));
        // After a rollout it is near again.
        assert!(wait(3, true, None).0 <= Duration::from_secs(8));
    }
}
