//! The part of a pass that stands before the write where the spec asks for it:
//! new data is tried first, and only what works gets any further.

use std::time::Duration;

use tokio::time::Instant;

use super::Context;
use crate::{
    api::{BotSecret, RotationPhase, Verify, candidate_secret},
    apply::{self, Before, Desired},
    candidate::{self, CandidateError, Trial, Tried},
    plan::{CandidateNotes, Memory, Retry},
    report::{CandidateReport, Problem, Reason},
    watch::Observed,
};

/// How soon a trial is looked at again, at first and at most.
const FIRST_LOOK: Duration = Duration::from_secs(1);
const LONGEST_LOOK: Duration = Duration::from_secs(10);
/// How soon it is tried again to delete what is left of one.
const CLEAN_AGAIN: Duration = Duration::from_secs(10);

/// What cannot be tried. A leased credential cannot: it would have to be issued
/// for each try, and be revoked where it is rejected.
pub(super) fn check(object: &BotSecret) -> Result<(), Problem> {
    let invalid = |message: String| Err(Problem::new(Reason::VerifyInvalid, Retry::Slow, message));
    if object.spec.verify.is_none() {
        return Ok(());
    }
    if object.spec.data_from.iter().any(|entry| entry.dynamic.is_some()) {
        return invalid(
            "leased credentials (dataFrom.dynamic) cannot be tried before they are written: take them, or verify, into a BotSecret of their own".to_owned(),
        );
    }
    let candidate = candidate_secret(object.target_name());
    if candidate.len() > 253 {
        return invalid(format!(
            "the target's name leaves no room for that of its candidate ({} characters, 253 fit): give the target a shorter name",
            candidate.len()
        ));
    }
    Ok(())
}

/// Whether this data may be written now: `None`, or where its trial stands.
pub(super) async fn gate(
    context: &Context,
    observed: &Observed,
    desired: &Desired,
    before: &Before<'_>,
) -> Result<Option<CandidateReport>, Problem> {
    let object = &observed.bot_secret;
    let Some(verify) = object.spec.verify.as_ref() else { return Ok(None) };
    if !is_news(context, observed, desired, before).await? {
        return Ok(None);
    }
    let fingerprint = context.digest_key.fingerprint(&desired.rolling_digests());
    let trial = Trial { object, verify, desired, fingerprint: &fingerprint };
    match candidate::take_step(&context.client, &trial, context.now()).await.map_err(|error| problem(&error))? {
        Tried::Passed => Ok(None),
        Tried::Pending => {
            let message = format!("a new value is being tried by CronJob {}'s Job {}", verify.cron_job, trial.job());
            Ok(Some(CandidateReport::Pending { fingerprint, message }))
        }
        Tried::Rejected(message) => Ok(Some(CandidateReport::Rejected { fingerprint, message })),
    }
}

/// Whether the data is other than what the Secret holds, or held when it was
/// lost: drift that is put right needs no trial.
async fn is_news(
    context: &Context,
    observed: &Observed,
    desired: &Desired,
    before: &Before<'_>,
) -> Result<bool, Problem> {
    let key = &context.digest_key;
    let live = observed.secret.as_deref().filter(|facts| !facts.deleting);
    let state = live.and_then(|facts| facts.state_in(&desired.state_annotation()));
    if state.is_none() && before.recorded.is_some_and(|recorded| apply::is_as_recorded(desired, key, recorded)) {
        return Ok(false);
    }
    let state = state.or(before.lost);
    match candidate::changes(state, &key.id(), &desired.digests, &desired.quiet) {
        Some(changes) => Ok(changes),
        // Made with a digest key that was lost: the bytes themselves say it.
        None => apply::differs(&context.client, desired).await.map_err(|error| Problem::of_apply(&error)),
    }
}

/// Keyed fingerprint of data that is other than what the Secret is known to hold.
pub(super) fn detected(context: &Context, observed: &Observed, desired: &Desired) -> Option<String> {
    let live = observed.secret.as_deref().filter(|facts| !facts.deleting)?;
    let state = live.state_in(&desired.state_annotation())?;
    let changes = candidate::changes(Some(state), &context.digest_key.id(), &desired.digests, &desired.quiet);
    (changes == Some(true)).then(|| context.digest_key.fingerprint(&desired.rolling_digests()))
}

/// What is said of data that was rejected.
pub(super) fn rejection(observed: &Observed, message: &str) -> Problem {
    let target = observed.bot_secret.target_name();
    let is_there = observed.secret.as_ref().is_some_and(|facts| !facts.deleting);
    let left = if is_there {
        format!("Secret {target} keeps the last value")
    } else {
        format!("there is no Secret {target} until one works")
    };
    let message = format!(
        "the new value was tried and does not work: {message}; {left}. Correct it at its source: the next one is tried by itself, this one again when the annotation botsecret.dev/refresh or the spec changes"
    );
    Problem::new(Reason::CandidateRejected, Retry::Slow, message)
}

/// Deletes what is left of a trial once the target holds the data. What fails
/// is tried again: nothing depends on it.
pub(super) async fn clean(context: &Context, observed: &Observed, desired: &Desired, memory: &mut Memory) {
    let object = &observed.bot_secret;
    let rotation = object.status.as_ref().and_then(|status| status.rotation.as_ref());
    let is_on_record = rotation.is_some_and(|rotation| rotation.phase == RotationPhase::Candidate);
    // A trial of an earlier spec, or of an earlier process, is over as well.
    let has_one = object.spec.verify.is_some() || memory.candidate.looks > 0;
    if !is_on_record && (memory.candidate.is_clean || !has_one) {
        memory.candidate = CandidateNotes { is_clean: true, looks: 0 };
        return;
    }
    memory.candidate.looks = 0;
    let verify = object.spec.verify.clone().unwrap_or_else(|| Verify { cron_job: String::new(), timeout: None });
    let fingerprint = context.digest_key.fingerprint(&desired.rolling_digests());
    let trial = Trial { object, verify: &verify, desired, fingerprint: &fingerprint };
    match candidate::clean(&context.client, &trial).await {
        Ok(()) => memory.candidate.is_clean = true,
        Err(error) => {
            let (namespace, bot_secret) = (&object.metadata.namespace, &object.metadata.name);
            tracing::debug!(namespace, bot_secret, "what is left of a trial was not deleted: {error}");
            // Without the right there is nothing to wait for.
            memory.candidate.is_clean = matches!(error, CandidateError::Forbidden(_));
        }
    }
}

/// When to look again at what [`clean`] could not delete.
pub(super) fn clean_again(memory: &Memory) -> Option<Instant> {
    (!memory.candidate.is_clean).then(|| Instant::now() + CLEAN_AGAIN)
}

/// Notes a look at a trial that goes on: it is no failure. Answers when to look
/// again.
pub(super) fn note_look(object: &BotSecret, memory: &mut Memory) {
    let wait = FIRST_LOOK.saturating_mul(1 << memory.candidate.looks.min(4)).min(LONGEST_LOOK);
    memory.candidate.looks = memory.candidate.looks.saturating_add(1);
    memory.candidate.is_clean = false;
    let now = Instant::now();
    memory.failures = 0;
    (memory.failed_at, memory.failing_since, memory.waits_for, memory.problem) = (None, None, None, None);
    memory.last_success = Some(now);
    memory.read_generation = object.metadata.generation;
    memory.next_read = Some(now + wait);
}

pub(super) fn problem(error: &CandidateError) -> Problem {
    let (reason, retry) = match error {
        CandidateError::Secret(error) => return Problem::of_apply(error),
        CandidateError::Foreign(_) => (Reason::TargetForeign, Retry::Slow),
        CandidateError::Invalid(_) => (Reason::VerifyInvalid, Retry::Slow),
        CandidateError::Forbidden(_) => (Reason::OperatorForbidden, Retry::Slow),
        CandidateError::Terminating => (Reason::TargetTerminating, Retry::Backoff),
        CandidateError::Conflict(_) => (Reason::KubernetesUnavailable, Retry::Soon),
        CandidateError::Unavailable(_) => (Reason::KubernetesUnavailable, Retry::Backoff),
    };
    Problem::new(reason, retry, error.to_string())
}
