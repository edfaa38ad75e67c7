//! One pass over one BotSecret, through the stages in their order.

use std::{sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use super::{
    Context,
    done::Done,
    emergency, leasing,
    noting::{failed, log_failure, note_written, stale_from, succeeded, was_read},
    overlapping, rolling, rotating,
    syncing::{self, Synced},
    taking_back::{self, Back},
    telling::report,
    trying,
};
use crate::{
    api::{BotSecret, CreationPolicy, State},
    apply::{Applied, ApplyError},
    audit::{self, Why},
    leases::{Part, Stage},
    plan::{Due, Memory, Renewal, Retry, due, emergency_due, refresh_requested, unrecorded, why},
    report::{CandidateReport, Outcome, Problem, Reason, RolloutReport, SyncReport},
    traces,
    watch::{Observed, SecretFacts},
};

/// However much is due at once: no pass follows another sooner.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
/// How long an object is left alone on which the operator itself failed.
const AFTER_FAULT: Duration = Duration::from_secs(60);

/// Looks at one BotSecret, does what is due, and counts how that went.
pub(super) async fn pass(context: &Context, observed: Observed, memory: Box<Memory>) -> Done {
    let started = Instant::now();
    let (done, failure) = Box::pin(looked(context, observed, memory, started)).await;
    context.metrics.passed(started.elapsed().as_secs_f64(), failure);
    traces::note_outcome(failure);
    done
}

/// What the pass leaves behind, and why it failed, if it did.
async fn looked(
    context: &Context,
    mut observed: Observed,
    mut memory: Box<Memory>,
    started: Instant,
) -> (Done, Option<Reason>) {
    let mut secret = None;
    if leasing::is_ending(&observed.bot_secret) {
        let ended = Box::pin(leasing::conclude(context, &observed, &mut memory)).await;
        return match ended {
            Ok(()) => (Done { memory, secret, object: None, again: None }, None),
            Err(stopped) => stopped.done(memory),
        };
    }
    if unrecorded(&observed.bot_secret).is_some()
        && let Err(stopped) = Box::pin(emergency::take_up(context, &mut observed, &mut memory)).await
    {
        return stopped.done(memory);
    }
    let mut fresh = None;
    match Box::pin(leasing::first_look(context, &mut observed, &mut memory)).await {
        Ok(Some(found)) => (fresh, secret) = (found.object, found.secret),
        Ok(None) => {}
        Err(error) => return Box::pin(unseen(context, &observed, memory, &error)).await,
    }
    Box::pin(leasing::tend(context, &observed, &mut memory)).await;
    take_written(&mut observed, &mut memory);
    let mut outcome = renewed(context, &mut observed, &mut memory, &mut secret, started).await;
    take_written(&mut observed, &mut memory);
    leasing::after_write(context, &observed, &mut memory);
    Box::pin(leasing::let_go_of_nothing(context, &observed.bot_secret, &mut memory)).await;
    take_written(&mut observed, &mut memory);
    let failure = match &outcome.sync {
        SyncReport::Failed { problem, .. } => Some(problem.reason),
        _ => None,
    };
    let mut ends = None;
    if let SyncReport::Suspended { ended } = &mut outcome.sync {
        memory.next_look = None;
        if let Some(rotation) = &mut memory.rotation {
            rotation.again = None;
        }
        rolling::let_go(context, &observed.bot_secret);
        let live = memory.leases.held.iter().filter(|held| held.record.stage == Stage::Live);
        (*ended, ends) = known_ends(live.filter_map(|held| held.parts.as_deref()).flatten(), Instant::now());
    } else {
        outcome.rollout = Box::pin(roll(context, &observed, &mut memory)).await;
        outcome.forgot_previous = Box::pin(taking_back::forget(context, &observed, &outcome, &mut memory.room)).await;
        let tended = Box::pin(rotating::tend(context, &observed, &mut memory));
        audit::because(Some(Why::Rotation), tended).await;
    }
    let (object, retry) = Box::pin(report(context, &observed.bot_secret, outcome, &mut memory)).await;
    let told = object.as_ref().unwrap_or(&observed.bot_secret);
    let overlap_over = overlapping::is_over(told, syncing::state_of(&observed), &memory, Instant::now());
    if retry.is_none() && memory.failures == 0 && overlap_over && !memory.overlap_over {
        memory.next_read = Some(Instant::now());
    }
    if retry.is_none() && taking_back::is_due(&observed, object.as_ref(), &memory) {
        memory.back.again = Some(Instant::now());
    }
    let too_old = stale_from(&observed.bot_secret, &memory).filter(|at| *at > Instant::now());
    let overlap = memory.overlap_ends.filter(|at| *at > Instant::now());
    let turn = memory.rotation.as_ref().and_then(|rotation| rotation.again);
    let again = [
        retry,
        memory.next_read,
        memory.next_look,
        memory.leases.next,
        memory.back.again,
        too_old,
        ends,
        overlap,
        turn,
    ];
    let again = again.into_iter().flatten().min();
    let again = again.map(|at| at.max(Instant::now() + SHORTEST_PAUSE));
    // Later passes are to go on from what was found.
    (Done { memory, secret, object: object.or(fresh), again }, failure)
}

/// Whether one of these clocks is known to have run out, and when the next one
/// does.
fn known_ends<'a>(parts: impl Iterator<Item = &'a Part>, now: Instant) -> (bool, Option<Instant>) {
    let (over, left): (Vec<_>, Vec<_>) =
        parts.filter(|part| part.sure).map(|part| part.ends).partition(|at| *at <= now);
    (!over.is_empty(), left.into_iter().min())
}

/// What was written in mid-pass is what later writes go on from.
fn take_written(observed: &mut Observed, memory: &mut Memory) {
    if let Some(written) = memory.leases.written.take() {
        observed.bot_secret = Arc::new(*written);
    }
}

/// What must be known before anything else could not be looked at.
async fn unseen(
    context: &Context,
    observed: &Observed,
    mut memory: Box<Memory>,
    error: &ApplyError,
) -> (Done, Option<Reason>) {
    let problem = Problem::of_apply(error);
    let reason = problem.reason;
    let sync = not_synced(observed, &mut memory, problem);
    let outcome = Outcome { sync, ..Outcome::default() };
    let (object, retry) = report(context, &observed.bot_secret, outcome, &mut memory).await;
    let again = [retry, memory.next_read].into_iter().flatten().min();
    let again = again.map(|at| at.max(Instant::now() + SHORTEST_PAUSE));
    (Done { memory, secret: None, object, again }, Some(reason))
}

/// Says on the object that a pass over it ended in a panic.
pub(super) async fn after_fault(context: &Context, object: &BotSecret) -> Done {
    let message = "the operator itself failed on this object: see its log for where, and report that; it is tried again in a minute";
    let problem = Problem::new(Reason::InternalError, Retry::Slow, message);
    let outcome = Outcome { sync: SyncReport::Failed { problem, stale: true }, ..Outcome::default() };
    let again = Instant::now() + AFTER_FAULT;
    // Counts as a failure, so that no event starts a pass before its time.
    let generation = object.metadata.generation;
    let uid = object.metadata.uid.clone();
    let memory = Memory { uid, failures: 1, read_generation: generation, next_read: Some(again), ..Memory::default() };
    let mut memory = Box::new(memory);
    let (object, retry) = report(context, object, outcome, &mut memory).await;
    Done { memory, secret: None, object, again: Some(retry.map_or(again, |retry| retry.min(again))) }
}

/// The Secret, as it is to be: what failed on a workload is taken back, or else
/// what is due is read.
async fn renewed(
    context: &Context,
    observed: &mut Observed,
    memory: &mut Memory,
    written: &mut Option<(SecretFacts, CreationPolicy)>,
    now: Instant,
) -> Outcome {
    match audit::because(Some(Why::RollBack), taking_back::step(context, observed, memory)).await {
        Back::Written(value) => {
            let mut outcome = Outcome::default();
            *written = Some(applied(context, observed, memory, *value, &mut outcome));
            // Nothing was read.
            memory.next_read = Some(now);
            outcome
        }
        Back::Waiting => {
            let why = memory.back.why.clone();
            let why = why.unwrap_or_else(|| "the value before is tried first".to_owned());
            Outcome { not_rolled_back: Some(why), ..Outcome::default() }
        }
        Back::No(why) => {
            let outcome = sync(context, observed, memory, written, now).await;
            Outcome { not_rolled_back: why, ..outcome }
        }
    }
}

/// Fetch, build and apply, where a read is due.
async fn sync(
    context: &Context,
    observed: &mut Observed,
    memory: &mut Memory,
    written: &mut Option<(SecretFacts, CreationPolicy)>,
    now: Instant,
) -> Outcome {
    let mut outcome = Outcome::default();
    let object = observed.bot_secret.clone();
    if memory.read_generation.is_none() && memory.renewal.is_none() {
        let recorded = syncing::state_of(observed).and_then(|state| state.renewal);
        memory.renewal = recorded.map(|times| Renewal::from_times(times, now, context.now()));
        if let Some(state) = syncing::state_of(observed) {
            overlapping::note(state, context.now(), memory);
        }
    }
    memory.overlap_over = overlapping::is_over(&object, syncing::state_of(observed), memory, now);
    let (since, urgent) = match due(observed, memory, now) {
        Due::Read { since, urgent } => (since, urgent),
        Due::Later(at) => {
            memory.next_read = at;
            if object.spec.suspend == Some(true) {
                memory.wanted_since = None;
                outcome.sync = SyncReport::Suspended { ended: false };
            } else if let Some((_, unreported)) =
                memory.unreported.take().filter(|(generation, _)| *generation == object.metadata.generation)
            {
                outcome = *unreported;
            } else if stale_from(&object, memory).is_some_and(|from| from <= now)
                && let Some(problem) = memory.problem.clone()
            {
                outcome.sync = SyncReport::Failed { problem, stale: true };
            }
            return outcome;
        }
        Due::Contested(until) => {
            memory.next_read = Some(until);
            let message = format!(
                "Secret {} is changed by somebody else again and again: find the other writer (kubectl get secret --show-managed-fields) and stop it",
                object.target_name()
            );
            let problem = Problem::new(Reason::Contested, Retry::Slow, message);
            outcome.sync = SyncReport::Failed { problem, stale: true };
            return outcome;
        }
    };
    let why = why(observed, memory, now);
    traces::note_why(why);
    // What arrives while this pass runs makes the next one due, not this one.
    memory.wanted_since = None;
    if let Some((_, unreported)) = memory.unreported.take() {
        (outcome.rotated, outcome.repaired) = (unreported.rotated, unreported.repaired);
    }
    let asked = refresh_requested(&object).map(str::to_owned);
    match audit::because(why, syncing::sync(context, observed, memory, since, urgent)).await {
        Ok(Synced::Applied(value)) => {
            *written = Some(applied(context, observed, memory, *value, &mut outcome));
            was_read(context, memory);
            outcome.handled_refresh = asked;
            outcome.handled_rotation = emergency_due(&object).map(|request| request.id);
        }
        Ok(Synced::Deleted(problem)) => {
            observed.secret = None;
            failed(observed, memory, &problem);
            outcome.sync = SyncReport::Deleted(problem);
            outcome.handled_refresh = asked;
        }
        Ok(Synced::Tried(candidate)) => {
            outcome.sync = tried(observed, memory, &candidate);
            outcome.candidate = candidate;
            outcome.handled_refresh = asked;
        }
        Ok(Synced::GivenUp) => {}
        Ok(Synced::Unwritten(problem, found)) => {
            if let Some(fingerprint) = found {
                outcome.candidate = CandidateReport::Detected { fingerprint, message: problem.message.clone() };
            }
            outcome.handled_refresh = asked;
            outcome.sync = not_synced(observed, memory, problem);
        }
        Err(problem) => {
            if problem.retry != Retry::Soon {
                outcome.handled_refresh = asked;
            }
            outcome.sync = not_synced(observed, memory, problem);
        }
    }
    outcome
}

/// Notes and logs why the Secret is not as it is to be.
fn not_synced(observed: &Observed, memory: &mut Memory, problem: Problem) -> SyncReport {
    let news = memory.problem.as_ref().is_none_or(|before| before.message != problem.message);
    let stale = failed(observed, memory, &problem);
    log_failure(&observed.bot_secret, &problem, memory.failures, news);
    SyncReport::Failed { problem, stale }
}

/// Takes over what was written, or found to be so already.
fn applied(
    context: &Context,
    observed: &mut Observed,
    memory: &mut Memory,
    applied: Applied,
    outcome: &mut Outcome,
) -> (SecretFacts, CreationPolicy) {
    let object = observed.bot_secret.clone();
    succeeded(context, observed, memory);
    note_written(context, &object, &applied, memory);
    overlapping::note(&applied.state, context.now(), memory);
    let fingerprint = context.digest_key.fingerprint(&applied.state.rolling_digests());
    outcome.candidate = CandidateReport::Over { fingerprint };
    outcome.rotated |= applied.rotated;
    outcome.repaired |= applied.repaired;
    let target = syncing::target_status(&context.digest_key, &applied.facts, &applied.state);
    outcome.sync = match applied.state.taken_back {
        Some(_) => SyncReport::TakenBack { target, problem: taking_back::told(&object) },
        None => SyncReport::Synced(target),
    };
    let facts = with_state(&object, applied.facts, applied.state);
    observed.secret = Some(Arc::new(facts.clone()));
    (facts, object.spec.target().creation_policy.unwrap_or_default())
}

/// Notes where the trial of a new value stands.
fn tried(observed: &Observed, memory: &mut Memory, candidate: &CandidateReport) -> SyncReport {
    let object = &observed.bot_secret;
    match candidate {
        CandidateReport::Pending { message, .. } => {
            trying::note_look(object, memory);
            SyncReport::Trying { message: message.clone() }
        }
        CandidateReport::Rejected { message, .. } => {
            memory.candidate.looks = 0;
            let problem = trying::rejection(observed, message);
            not_synced(observed, memory, problem)
        }
        CandidateReport::NotLooked | CandidateReport::Detected { .. } | CandidateReport::Over { .. } => {
            SyncReport::NotDue
        }
    }
}

/// The state that was written, where the answer's metadata may lag behind it.
fn with_state(object: &BotSecret, mut facts: SecretFacts, state: State) -> SecretFacts {
    if object.spec.target().creation_policy == Some(CreationPolicy::Merge) {
        facts.merged.insert(syncing::state_annotation(object), state);
    } else {
        facts.state = Some(state);
    }
    facts
}

/// The rollout of whatever revision the Secret holds.
async fn roll(context: &Context, observed: &Observed, memory: &mut Memory) -> RolloutReport {
    let facts = observed.secret.as_ref().filter(|facts| !facts.deleting);
    let Some((facts, state)) = facts.zip(syncing::state_of(observed)) else {
        // Without a Secret there is nothing to look at until there is one: its
        // coming is an event.
        memory.next_look = None;
        rolling::let_go(context, &observed.bot_secret);
        return RolloutReport::NotLooked;
    };
    let object = &observed.bot_secret;
    if syncing::is_outdated(object, state) {
        // What is on record of its rollout is of the newer revision, and the pass
        // that brings that back goes on from there.
        memory.next_look = None;
        return RolloutReport::NotLooked;
    }
    let policy = object.spec.target().creation_policy.unwrap_or_default();
    let written_at = facts.written_at(policy, object.metadata.name.as_deref().unwrap_or_default());
    traces::rolling(rolling::roll(context, observed, state, written_at, memory)).await
}

pub(super) fn since_epoch(now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(Timestamp::UNIX_EPOCH)).unwrap_or_default()
}

#[cfg(test)]
#[path = "pass_tests.rs"]
mod tests;
