//! Whether new data must be tried, and what to do about its trial. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::job::{JobFacts, JobState};
use crate::api::{RotationPhase, RotationStatus, State};

/// How much longer than it may a Job is waited for: it is its controller that
/// ends it, and whose clock may be another.
const SLACK: SignedDuration = SignedDuration::from_secs(60);

/// Whether this data differs from what the Secret's state records, in a key that
/// rolls workloads. `None` where that cannot be told: the digests were made with
/// another key.
#[must_use]
pub fn changes(
    state: Option<&State>,
    digest_key: &str,
    digests: &BTreeMap<String, String>,
    quiet: &BTreeSet<String>,
) -> Option<bool> {
    let Some(state) = state else { return Some(true) };
    if state.digest_key != digest_key {
        return None;
    }
    let rolls = |key: &String| !quiet.contains(key) && !state.quiet.contains(key);
    let mut keys = state.digests.keys().chain(digests.keys()).filter(|key| rolls(key));
    Some(keys.any(|key| state.digests.get(key) != digests.get(key)))
}

/// Why this data is rejected without another try, where it is: nothing that
/// bears on it has changed since.
pub(super) fn standing<'a>(recorded: Option<&'a RotationStatus>, fingerprint: &str, is_told: bool) -> Option<&'a str> {
    let rejected = recorded.filter(|rotation| rotation.phase == RotationPhase::Rejected)?;
    (rejected.revision == fingerprint && is_told).then_some(rejected.message.as_str())
}

/// The data that the status says is being tried or was rejected.
pub(super) fn tried(recorded: &RotationStatus) -> Option<&str> {
    matches!(recorded.phase, RotationPhase::Candidate | RotationPhase::Rejected).then_some(recorded.revision.as_str())
}

/// What is known of a trial.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    /// The data that is to be tried.
    pub(super) fingerprint: &'a str,
    /// For which generation and which forced refresh.
    pub(super) attempt: &'a str,
    /// By which CronJob.
    pub(super) cron_job: &'a str,
    /// Whether the status speaks of this generation, and of no refresh that is
    /// still asked for.
    pub(super) is_told: bool,
    /// How long the Job may take.
    pub(super) timeout: Duration,
    /// The Job, if there is one.
    pub(super) job: Option<&'a JobFacts>,
    /// The time.
    pub(super) now: Timestamp,
}

/// How a Job failed, by its own condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Failure {
    /// Its reason.
    pub(super) reason: String,
    /// In words.
    pub(super) message: String,
}

/// Reason of a Job that took too long.
pub(super) const TOO_LONG: &str = "DeadlineExceeded";

/// What to do about a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Make candidate and Job.
    Start,
    /// Delete the Job of this UID, which is about something else; then the same.
    Replace(String),
    /// Look again later.
    Wait,
    /// Write the target.
    Commit,
    /// Leave the target as it is.
    Reject(Failure),
    /// Somebody else's Job has the name.
    Foreign,
}

pub(super) fn decide(facts: &Facts<'_>) -> Step {
    let Some(job) = facts.job else { return Step::Start };
    if !job.has_our_label {
        return Step::Foreign;
    }
    if job.deleting {
        return Step::Wait;
    }
    let about_this = job.is_owned && job.fingerprint == facts.fingerprint && job.cron_job == facts.cron_job;
    if !about_this {
        return Step::Replace(job.uid.clone());
    }
    match &job.state {
        JobState::Complete => Step::Commit,
        // Asked for anew, by an edit or a forced refresh: once.
        JobState::Failed(_) if !facts.is_told && job.attempt != facts.attempt => Step::Replace(job.uid.clone()),
        JobState::Failed(failure) => Step::Reject(failure.clone()),
        JobState::Running if is_overdue(job, facts) && !facts.is_told && job.attempt != facts.attempt => {
            Step::Replace(job.uid.clone())
        }
        JobState::Running if is_overdue(job, facts) => {
            Step::Reject(Failure { reason: TOO_LONG.to_owned(), message: String::new() })
        }
        JobState::Running => Step::Wait,
    }
}

/// Whether nobody ended it in time: one that is held back has no deadline of its
/// own.
fn is_overdue(job: &JobFacts, facts: &Facts<'_>) -> bool {
    let may = SignedDuration::try_from(facts.timeout).unwrap_or(SignedDuration::MAX).saturating_add(SLACK);
    job.created.is_some_and(|created| facts.now.duration_since(created) > may)
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
