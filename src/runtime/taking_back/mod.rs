//! The part of a pass that takes a value back on which a workload failed: it
//! writes the one before, where that is known to be good still.
//!
//! What is written says which revision it took back, in the same request: as
//! long as the source gives that value, it is not written again.

mod good;

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

pub(super) use self::good::gives_awsprevious;
use self::good::{Verdict, verdict};
use super::{Context, leasing, syncing, trying};
use crate::{
    api::{
        BotSecret, Revision, Rollout, RotationPhase, RotationStatus, State, WorkloadChoice, WorkloadStatus,
        previous_secret,
    },
    apply::{Applied, ApplyProblem, AsideError, Before, Desired, Kept, Origin, Previous, apply},
    plan::{BackNotes, Memory, Retry},
    report::{Outcome, Problem, Reason, RolloutReport},
    rollout::WorkloadState,
    watch::Observed,
};

/// How soon it is looked again whether the value before is good, at first and at
/// most.
const FIRST_LOOK: Duration = Duration::from_secs(1);
const LONGEST_LOOK: Duration = Duration::from_secs(15);

/// What came of it.
pub(super) enum Back {
    /// The value before was written.
    Written(Box<Applied>),
    /// It is being tried.
    Waiting,
    /// Nothing is to be taken back, or it cannot be, and why.
    No(Option<String>),
}

/// Takes a failed value back, one step on.
pub(super) async fn step(context: &Context, observed: &Observed, memory: &mut Memory) -> Back {
    let Some(failed) = failed(observed) else {
        memory.back = BackNotes::default();
        return Back::No(None);
    };
    let asked_for = (failed.to_string(), observed.bot_secret.metadata.generation);
    if let Some((_, why)) = memory.back.refused.as_ref().filter(|(about, _)| *about == asked_for) {
        return Back::No(Some(why.clone()));
    }
    if memory.back.again.is_some_and(|at| at > Instant::now()) {
        return if memory.back.is_tried { Back::Waiting } else { Back::No(memory.back.why.clone()) };
    }
    let wait = FIRST_LOOK.saturating_mul(1 << memory.back.looks.min(4)).min(LONGEST_LOOK);
    memory.back.looks = memory.back.looks.saturating_add(1);
    memory.back.again = Some(Instant::now() + wait);
    let (namespace, bot_secret) = (&observed.bot_secret.metadata.namespace, &observed.bot_secret.metadata.name);
    match take_back(context, observed, memory, &failed).await {
        Ok(Step::Written(applied)) => {
            memory.back = BackNotes::default();
            context.metrics.rollbacks.inc();
            tracing::warn!(namespace, bot_secret, revision = %failed, "a value was taken back: a workload failed on it");
            Back::Written(applied)
        }
        Ok(Step::Tried) => {
            memory.back.is_tried = true;
            Back::Waiting
        }
        Ok(Step::Refused(why)) => {
            tracing::warn!(namespace, bot_secret, revision = %failed, "a failed value is not taken back: {why}");
            memory.back.again = None;
            memory.back.refused = Some((asked_for, why.clone()));
            Back::No(Some(why))
        }
        Err(problem) => {
            (memory.back.is_tried, memory.back.why) = (false, Some(problem.message));
            Back::No(memory.back.why.clone())
        }
    }
}

/// The revision that is to be taken back: a workload failed on what the Secret
/// holds, and that is not the value before already.
fn failed(observed: &Observed) -> Option<Revision> {
    let object = &observed.bot_secret;
    let rolls_back = object.spec.rollout.as_ref().is_some_and(Rollout::rolls_back);
    let state = syncing::state_of(observed).filter(|state| state.taken_back.is_none())?;
    let is_halted = is_halted(object.status.as_ref()?.rotation.as_ref()?, state);
    (rolls_back && is_halted && object.spec.suspend != Some(true)).then(|| state.revision.clone())
}

fn is_halted(rotation: &RotationStatus, state: &State) -> bool {
    rotation.phase == RotationPhase::Halted && rotation.revision == state.revision.to_string()
}

/// Whether the next pass is to take back what this one found to have failed.
pub(super) fn is_due(observed: &Observed, outcome: &Outcome, memory: &Memory) -> bool {
    let object = &observed.bot_secret;
    let rolls_back = object.spec.rollout.as_ref().is_some_and(Rollout::rolls_back);
    let RolloutReport::Standing { rotation: Some(rotation), .. } = &outcome.rollout else { return false };
    let state = syncing::state_of(observed).filter(|state| state.taken_back.is_none());
    rolls_back
        && memory.back.refused.is_none()
        && memory.back.again.is_none()
        && state.is_some_and(|state| is_halted(rotation, state))
}

enum Step {
    Written(Box<Applied>),
    Tried,
    Refused(String),
}

async fn take_back(
    context: &Context,
    observed: &Observed,
    memory: &mut Memory,
    failed: &Revision,
) -> Result<Step, Problem> {
    let object = &observed.bot_secret;
    let Some(previous) = kept(context, observed).await? else {
        let name = previous_secret(object.target_name());
        return Ok(Step::Refused(format!(
            "the value before was not kept: Secret {name} is not there, or is not as it was written"
        )));
    };
    let back = match verdict(context, observed, memory, &previous).await? {
        Verdict::Good(back) => back,
        Verdict::Tried => return Ok(Step::Tried),
        Verdict::NotGood(why) => return Ok(Step::Refused(format!("the value before is not known to be good: {why}"))),
    };
    leasing::restore(memory, back);
    let applied = write(context, observed, previous, failed).await?;
    if object.spec.verify.is_some() {
        memory.candidate.is_clean = false;
        let desired = beside(object)?;
        trying::clean(context, observed, &desired, memory).await;
    }
    Ok(Step::Written(Box::new(applied)))
}

/// Writes the value before over the one that failed, or what it was written as
/// over what somebody made of it since.
async fn write(
    context: &Context,
    observed: &Observed,
    previous: Previous,
    failed: &Revision,
) -> Result<Applied, Problem> {
    let object = &observed.bot_secret;
    let before_state = syncing::state_of(observed).or(observed.lost.as_deref());
    // The source still gives what failed: its versions are the newest applied.
    let versions = before_state.map_or_else(|| previous.state.versions.clone(), |state| state.versions.clone());
    let digests = previous.state.digests.clone();
    let mut desired = Desired::new(object, previous.data, digests, versions).ok_or_else(Problem::nameless)?;
    desired.quiet = previous.state.quiet;
    desired.renewal = previous.state.renewal;
    desired.takes_over.clone_from(&observed.younger_rivals);
    desired.annotations.extend(leasing::sealed(object, &previous.issued));
    desired.origin = Origin::Previous { failed: failed.clone(), same_before: previous.kept_at };
    let before = syncing::before(context, observed, &desired);
    apply(&context.client, &desired, &context.digest_key, &Before { lost: before_state, ..before }, context.now())
        .await
        .map_err(|error| Problem::of_apply(&error))
}

/// The value before, where it was kept.
async fn kept(context: &Context, observed: &Observed) -> Result<Option<Previous>, Problem> {
    let beside = beside(&observed.bot_secret)?;
    let kept = Kept::of(&context.client, &beside).get(&context.digest_key).await;
    kept.map_err(|error| Problem::of_apply(&error))
}

/// What the Secret that keeps it lies beside.
fn beside(object: &BotSecret) -> Result<Desired, Problem> {
    Desired::new(object, BTreeMap::new(), BTreeMap::new(), BTreeMap::new()).ok_or_else(Problem::nameless)
}

/// What the Secret is to hold while the source gives what was taken back. `None`
/// where it gives another value.
pub(super) async fn pinned(
    context: &Context,
    observed: &Observed,
    desired: &Desired,
) -> Result<Option<Applied>, Problem> {
    let state = syncing::state_of(observed).or(observed.lost.as_deref());
    let Some(failed) = state.and_then(|state| state.taken_back.as_ref()).map(|taken| &taken.revision) else {
        return Ok(None);
    };
    let key = &context.digest_key;
    if failed.key != key.id() || failed.fingerprint != key.fingerprint(&desired.rolling_digests()) {
        return Ok(None);
    }
    if let Some(applied) = as_recorded(observed) {
        return Ok(Some(applied));
    }
    // Without the value before there is nothing but the one that failed.
    let Some(previous) = kept(context, observed).await? else { return Ok(None) };
    write(context, observed, previous, failed).await.map(Some)
}

/// The Secret, where the watch and the status agree on it (P2).
fn as_recorded(observed: &Observed) -> Option<Applied> {
    let facts = observed.secret.as_deref().filter(|facts| !facts.deleting)?;
    let recorded = observed.bot_secret.status.as_ref()?.target.as_ref()?;
    let same = recorded.uid == facts.uid && recorded.resource_version == facts.resource_version;
    let state = syncing::state_of(observed).filter(|_| same)?;
    Some(Applied::unchanged(facts, state))
}

/// Keeps what the Secret holds before it is written over, where that may have to
/// come back. What can never be kept is no reason not to write.
pub(super) async fn keep(context: &Context, observed: &Observed, desired: &Desired) -> Result<(), Problem> {
    let object = &observed.bot_secret;
    let rolls_back = object.spec.rollout.as_ref().is_some_and(Rollout::rolls_back);
    let live = observed.secret.as_deref().filter(|facts| !facts.deleting);
    let state = live.and_then(|facts| facts.state_in(&desired.state_annotation()));
    let rolls_back = rolls_back && object.spec.workload_choice() != WorkloadChoice::None;
    let Some(state) = state.filter(|_| rolls_back && is_proven(object)) else { return Ok(()) };
    let changes = crate::candidate::changes(Some(state), &context.digest_key.id(), &desired.digests, &desired.quiet);
    if changes != Some(true) {
        return Ok(());
    }
    let name = previous_secret(object.target_name());
    match Kept::of(&context.client, desired).keep(state).await {
        Ok(()) => Ok(()),
        Err(AsideError::Changed) => Err(Problem::new(
            Reason::KubernetesUnavailable,
            Retry::Soon,
            format!("Secret {} or {name} changed in between; it is tried again", object.target_name()),
        )),
        Err(AsideError::Secret(error))
            if matches!(
                error.problem,
                ApplyProblem::Conflict | ApplyProblem::Unavailable | ApplyProblem::Terminating
            ) =>
        {
            Err(Problem::of_apply(&error))
        }
        Err(AsideError::Secret(error)) => {
            not_kept(object, &error.message);
            Ok(())
        }
        Err(AsideError::Foreign) => {
            not_kept(object, &format!("Secret {name} exists and is not this BotSecret's"));
            Ok(())
        }
    }
}

fn not_kept(object: &BotSecret, why: &str) {
    tracing::warn!(
        namespace = object.metadata.namespace,
        bot_secret = object.metadata.name,
        "the value before is not kept, so the next one cannot be taken back: {why}"
    );
}

/// Whether every workload was well on what the Secret holds, as far as is on
/// record: only that may come back.
fn is_proven(object: &BotSecret) -> bool {
    let Some(status) = object.status.as_ref() else { return true };
    let open = [RotationPhase::Written, RotationPhase::Rolling, RotationPhase::Halted];
    let is_open = status.rotation.as_ref().is_some_and(|rotation| open.contains(&rotation.phase));
    let is_well = |workload: &WorkloadStatus| workload.state != WorkloadState::Failed.name();
    let rollout = status.rollout.as_ref();
    !is_open && rollout.is_none_or(|rollout| rollout.complete && rollout.workloads.iter().all(is_well))
}

/// Deletes the value before once every workload is well on the one that came
/// after it. Answers whether that is done.
pub(super) async fn forget(context: &Context, observed: &Observed, outcome: &Outcome) -> bool {
    let object = &observed.bot_secret;
    let rotation = match &outcome.rollout {
        RolloutReport::Standing { rotation, .. } => rotation.as_deref(),
        RolloutReport::NotLooked => object.status.as_ref().and_then(|status| status.rotation.as_ref()),
        RolloutReport::Off => None,
    };
    let over = [RotationPhase::Verified, RotationPhase::OldRetired];
    if rotation.is_none_or(|rotation| rotation.previous.is_empty() || !over.contains(&rotation.phase)) {
        return false;
    }
    let Ok(beside) = beside(object) else { return false };
    Kept::of(&context.client, &beside).forget().await.is_ok()
}

/// What is said of a value that was taken back.
pub(super) fn told(object: &BotSecret) -> Problem {
    let message = format!(
        "a workload failed on the new value, so Secret {} holds the one before; status.rotation says which workload and how. Correct the value at its source: the next one is tried by itself",
        object.target_name()
    );
    Problem::new(Reason::RolledBack, Retry::Slow, message)
}
