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
    api::{BotSecret, Revision, Rollout, RotationPhase, State, WorkloadChoice, WorkloadStatus, previous_secret},
    apply::{Applied, ApplyProblem, AsideError, Before, Desired, Kept, Origin, Previous, apply},
    plan::{BackNotes, Memory, Refused, Retry, is_forced},
    report::{Outcome, Problem, Reason, RolloutReport, SyncReport},
    rollout::{WorkloadState, is_open},
    watch::Observed,
};

/// How soon it is looked again whether the value before is good, at first and at
/// most.
const FIRST_LOOK: Duration = Duration::from_secs(1);
const LONGEST_LOOK: Duration = Duration::from_secs(60);

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
    let Some(failed) = failed(&observed.bot_secret, observed) else {
        memory.back = BackNotes { looked: memory.back.looked, ..BackNotes::default() };
        return Back::No(None);
    };
    let (revision, generation) = (failed.to_string(), observed.bot_secret.metadata.generation);
    let is_same = |known: &&Refused| known.revision == revision && known.generation == generation;
    if let Some(refused) = memory.back.refused.as_deref().filter(is_same) {
        return Back::No(Some(refused.why.clone()));
    }
    if memory.back.again.is_some_and(|at| at > Instant::now()) {
        return if memory.back.is_tried { waiting(memory) } else { Back::No(memory.back.why.clone()) };
    }
    let wait = FIRST_LOOK.saturating_mul(1 << memory.back.looks.min(6)).min(LONGEST_LOOK);
    memory.back.looks = memory.back.looks.saturating_add(1);
    memory.back.again = Some(Instant::now() + wait);
    let (namespace, bot_secret) = (&observed.bot_secret.metadata.namespace, &observed.bot_secret.metadata.name);
    match Box::pin(take_back(context, observed, memory, &failed)).await {
        Ok(Step::Written(applied)) => {
            memory.back = BackNotes { looked: memory.back.looked, ..BackNotes::default() };
            context.metrics.rollbacks.inc();
            tracing::warn!(namespace, bot_secret, revision = %failed, "a value was taken back: a workload failed on it");
            Back::Written(applied)
        }
        Ok(Step::Tried) => {
            (memory.back.is_tried, memory.back.why) = (true, None);
            waiting(memory)
        }
        Ok(Step::Refused(why)) => {
            tracing::warn!(namespace, bot_secret, revision = %failed, "a failed value is not taken back: {why}");
            memory.back.again = None;
            memory.back.refused = Some(Box::new(Refused { revision, generation, why: why.clone() }));
            Back::No(Some(why))
        }
        Err(problem) => {
            // Of the next value's trial nothing must come before this is decided.
            memory.back.is_tried = observed.bot_secret.spec.verify.is_some();
            memory.back.why = Some(problem.message);
            if memory.back.is_tried { waiting(memory) } else { Back::No(memory.back.why.clone()) }
        }
    }
}

/// Nothing is read while the value before is tried.
fn waiting(memory: &mut Memory) -> Back {
    memory.next_read = memory.back.again;
    Back::Waiting
}

/// The revision that is to be taken back: a workload failed on what the Secret
/// holds, and that is not the value before already. One that failed for another
/// BotSecret is that one's to mend. What somebody asks for by an edit is read first.
fn failed(object: &BotSecret, observed: &Observed) -> Option<Revision> {
    let state = syncing::state_of(observed).filter(|state| state.taken_back.is_none())?;
    let status = object.status.as_ref()?;
    let rotation = status.rotation.as_ref()?;
    let is_halted = rotation.phase == RotationPhase::Halted && rotation.revision == state.revision.to_string();
    let workloads = status.rollout.iter().flat_map(|rollout| &rollout.workloads);
    let is_ours = workloads.into_iter().any(WorkloadStatus::has_failed);
    let is_read = status.observed_generation == object.metadata.generation;
    let may = object.spec.suspend != Some(true) && object.metadata.deletion_timestamp.is_none();
    (rolls_back(object) && is_halted && is_ours && is_read && may).then(|| state.revision.clone())
}

pub(super) fn rolls_back(object: &BotSecret) -> bool {
    object.spec.rollout.as_ref().is_some_and(Rollout::rolls_back)
}

/// Whether a value before may be kept.
fn keeps(object: &BotSecret) -> bool {
    rolls_back(object) && object.spec.workload_choice() != WorkloadChoice::None
}

/// Whether the next pass is to take back what this one found to have failed: the
/// status, as it is written now, says so.
pub(super) fn is_due(observed: &Observed, written: Option<&BotSecret>, memory: &Memory) -> bool {
    let object = written.unwrap_or(&observed.bot_secret);
    memory.back.refused.is_none() && memory.back.again.is_none() && failed(object, observed).is_some()
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
    let live = syncing::state_of(observed).map(State::rolling_digests);
    if live.is_some_and(|live| live == previous.state.rolling_digests()) {
        return Ok(Step::Refused("the value before is the same".to_owned()));
    }
    memory.candidate.is_clean &= object.spec.verify.is_none();
    let back = match verdict(context, observed, memory, &previous).await? {
        Verdict::Good(back) => back,
        Verdict::Tried => return Ok(Step::Tried),
        Verdict::NotGood(why) => return Ok(Step::Refused(format!("the value before is not known to be good: {why}"))),
    };
    leasing::restore(memory, back, context.now());
    let applied = write(context, observed, previous, failed, None).await?;
    if object.spec.verify.is_some() {
        memory.candidate.is_clean = false;
        let desired = beside(object)?;
        trying::clean(context, observed, &desired, memory).await;
    }
    Ok(Step::Written(Box::new(applied)))
}

/// Writes the value before over the one that failed, or over what somebody made
/// of it since. Keys that roll nobody are as the source gives them now, where that
/// was read.
async fn write(
    context: &Context,
    observed: &Observed,
    previous: Previous,
    failed: &Revision,
    source: Option<&Desired>,
) -> Result<Applied, Problem> {
    let object = &observed.bot_secret;
    let before_state = syncing::state_of(observed).or(observed.lost.as_deref());
    // The source still gives what failed: its versions are the newest applied.
    let versions = before_state.map_or_else(|| previous.state.versions.clone(), |state| state.versions.clone());
    let mut digests = previous.state.digests.clone();
    let mut data = previous.data;
    for (key, value) in fresh(source, &previous.state) {
        data.insert(key.clone(), value.duplicate());
        digests.extend(
            source
                .and_then(|source| source.digests.get_key_value(key))
                .map(|(key, digest)| (key.clone(), digest.clone())),
        );
    }
    let mut desired = Desired::new(object, data, digests, versions).ok_or_else(Problem::nameless)?;
    desired.quiet = previous.state.quiet;
    desired.renewal = source.map_or(previous.state.renewal, |source| source.renewal);
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

/// The keys that roll nobody, as the source gives them.
fn fresh<'a>(
    source: Option<&'a Desired>,
    state: &'a State,
) -> impl Iterator<Item = (&'a String, &'a crate::secret::SecretBytes)> {
    let all = source.into_iter().flat_map(|source| source.data.iter().map(move |one| (source, one)));
    let is_quiet =
        |(source, (key, _)): &(&Desired, (&String, _))| source.quiet.contains(*key) && state.quiet.contains(*key);
    all.filter(is_quiet).map(|(_, one)| one)
}

/// What the Secret holds while the source gives what was taken back. `None` where
/// it gives another value, or somebody asks for it all the same.
pub(super) async fn hold_off(
    context: &Context,
    observed: &Observed,
    source: &Desired,
) -> Result<Option<Applied>, Problem> {
    let object = &observed.bot_secret;
    // A credential that came back is the source's own answer as long as it is good.
    let is_leased = leasing::origin(object) == Origin::Pinned;
    let Some(failed) = taken_back(observed).filter(|_| rolls_back(object) && !is_leased) else { return Ok(None) };
    let key = &context.digest_key;
    let same = failed.fingerprint == key.fingerprint(&source.rolling_digests());
    // Made with a digest key that was lost it cannot be compared: losing the key
    // must roll nothing.
    let comparable = failed.key == key.id();
    if is_forced(object) || comparable && (!same || is_asked_for(object, &failed)) {
        return Ok(None);
    }
    if let Some(applied) = as_recorded(observed, source, comparable) {
        return Ok(Some(applied));
    }
    let beside = beside(object)?;
    let kept = Kept::of(&context.client, &beside);
    let previous = match kept.get(key).await.map_err(|error| Problem::of_apply(&error))? {
        Some(previous) => Some(previous),
        None => kept.live(key).await.map_err(|error| Problem::of_apply(&error))?,
    };
    // Without the value before there is nothing but the one that failed.
    let Some(previous) = previous else { return Ok(None) };
    write(context, observed, previous, &failed, Some(source)).await.map(Some)
}

/// Whether it is being tried once more, since somebody asked for it.
fn is_asked_for(object: &BotSecret, failed: &Revision) -> bool {
    let rotation = object.status.as_ref().and_then(|status| status.rotation.as_ref());
    let on_its_way = [RotationPhase::Detected, RotationPhase::Candidate];
    rotation.is_some_and(|one| on_its_way.contains(&one.phase) && one.revision == failed.fingerprint)
}

/// What the Secret says that it took back, or the status where the Secret is gone.
fn taken_back(observed: &Observed) -> Option<Revision> {
    let state = syncing::state_of(observed).or(observed.lost.as_deref());
    let Some(state) = state else {
        let status = observed.bot_secret.status.as_ref()?;
        return status.rotation.as_ref()?.taken_back.parse().ok();
    };
    state.taken_back.as_ref().map(|taken| taken.revision.clone())
}

/// The Secret, where the watch and the status agree on it (P2).
fn as_recorded(observed: &Observed, source: &Desired, comparable: bool) -> Option<Applied> {
    let facts = observed.secret.as_deref().filter(|facts| !facts.deleting)?;
    let recorded = observed.bot_secret.status.as_ref()?.target.as_ref()?;
    let same = recorded.uid == facts.uid && recorded.resource_version == facts.resource_version;
    let state = syncing::state_of(observed).filter(|_| same || !comparable)?;
    let mut quiet = fresh(Some(source), state).map(|(key, _)| key);
    let is_current = quiet.all(|key| state.digests.get(key) == source.digests.get(key));
    (!comparable || is_current && source.metadata_matches(facts)).then(|| Applied::unchanged(facts, state))
}

/// Keeps what the Secret holds before it is written over, where that may have to
/// come back. What can never be kept is no reason not to write.
pub(super) async fn keep(context: &Context, observed: &Observed, desired: &Desired) -> Result<(), Problem> {
    let object = &observed.bot_secret;
    let live = observed.secret.as_deref().filter(|facts| !facts.deleting);
    let state = live.and_then(|facts| facts.state_in(&desired.state_annotation()));
    let Some(state) = state.filter(|state| keeps(object) && is_proven(object, state)) else { return Ok(()) };
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
        Err(AsideError::Leaving) => {
            not_kept(object, &format!("Secret {name} is being deleted"));
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

/// Whether the status says that every workload was well on what the Secret
/// holds: only that may come back.
pub(super) fn is_proven(object: &BotSecret, state: &State) -> bool {
    let Some(status) = object.status.as_ref() else { return false };
    let unproven = |phase| is_open(phase) || phase == RotationPhase::Halted;
    let is_open = status.rotation.as_ref().is_some_and(|rotation| unproven(rotation.phase));
    let is_well = |workload: &WorkloadStatus| workload.state != WorkloadState::Failed.name();
    let rollout = status.rollout.as_ref().filter(|rollout| rollout.revision == state.revision.to_string());
    !is_open && rollout.is_some_and(|rollout| rollout.complete && rollout.workloads.iter().all(is_well))
}

/// Keeps the value before no longer once every workload is well on the one that
/// came after it, or it can be of no use any more. Answers whether that is done.
pub(super) async fn forget(
    context: &Context,
    observed: &Observed,
    outcome: &Outcome,
    room: &mut Option<String>,
) -> bool {
    let object = &observed.bot_secret;
    let is_needed = |name: &str| keeps(object) && name == previous_secret(object.target_name());
    let recorded = object.status.as_ref().and_then(|status| status.rotation.as_ref());
    let rotation = match &outcome.rollout {
        RolloutReport::Standing { rotation, .. } => rotation.as_deref(),
        RolloutReport::NotLooked | RolloutReport::Off => recorded,
    };
    // A rotation that is not written yet is none of the rollout's, and what was not
    // written may have been all the same.
    let not_yet = [RotationPhase::Detected, RotationPhase::Candidate, RotationPhase::Rejected];
    let is_open = recorded.is_some_and(|recorded| not_yet.contains(&recorded.phase))
        || matches!(outcome.sync, SyncReport::Failed { .. });
    let Some(rotation) = rotation.filter(|rotation| !rotation.previous.is_empty()) else {
        // Of no rotation, so it is empty.
        if let Some(left) = room.clone().filter(|left| !is_needed(left))
            && empty(context, object, &left, false).await
        {
            *room = None;
        }
        return false;
    };
    let over = !is_open && [RotationPhase::Verified, RotationPhase::OldRetired].contains(&rotation.phase);
    let is_off = matches!(outcome.rollout, RolloutReport::Off) || matches!(outcome.sync, SyncReport::Deleted(_));
    let name = &rotation.previous;
    if !over && !is_off && *name == previous_secret(object.target_name()) {
        return false;
    }
    let another_may_follow = !is_off && is_needed(name);
    let is_done = empty(context, object, name, another_may_follow).await;
    if is_done {
        *room = another_may_follow.then(|| name.clone());
    }
    is_done
}

/// Empties the Secret that keeps it, or deletes it where no other value follows.
async fn empty(context: &Context, object: &BotSecret, name: &str, another_may_follow: bool) -> bool {
    let Ok(beside) = beside(object) else { return false };
    let kept = Kept::named(&context.client, &beside, name.to_owned());
    let done = if another_may_follow { kept.forget().await } else { kept.clear_away().await };
    done.is_ok()
}

/// What is said of a value that was taken back.
pub(super) fn told(object: &BotSecret) -> Problem {
    let message = format!(
        "a workload failed on the new value, so Secret {} holds the one before; status.rotation says which workload and how. Correct the value at its source: the next one is tried by itself",
        object.target_name()
    );
    Problem::new(Reason::RolledBack, Retry::Slow, message)
}
