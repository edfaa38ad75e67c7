//! Tries a new value before the Secret is written that everybody reads: it goes
//! into a Secret of its own, and a Job made from a CronJob of the user's says
//! whether it works.
//!
//! `decide`, `job` and `verdict` are pure; [`take_step`] asks for the
//! present state, does one thing about it and is done: whatever is lost with
//! the process is found again.

mod decide;
#[cfg(test)]
mod fixture;
mod job;
mod requests;
mod verdict;

use k8s_openapi::jiff::Timestamp;
use kube::Client;

pub use self::decide::changes;
#[cfg(any(test, fuzzing))]
pub(crate) use self::verdict::said;
use self::{
    decide::{Facts, Step, decide, standing},
    requests::Requests,
    verdict::verdict,
};
use crate::{
    api::{ANNOTATION_REFRESH, BotSecret, Timeout, Verify, candidate_attempt, candidate_job, candidate_secret},
    apply::{ApplyError, Desired, may_be_written},
    plan::{is_forced, rotation_requested},
};

/// How long a Job may take where the spec does not say.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(300);

/// What is to be tried.
#[derive(Clone, Copy, Debug)]
pub struct Trial<'a> {
    /// For which BotSecret.
    pub object: &'a BotSecret,
    /// By what.
    pub verify: &'a Verify,
    /// The Secret as it is to be.
    pub desired: &'a Desired,
    /// Keyed fingerprint of its data.
    pub fingerprint: &'a str,
}

/// What is known after a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// It works.
    Passed,
    /// It is being tried.
    Pending,
    /// It does not, and why.
    Rejected(String),
}

/// Why a candidate could not be tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CandidateError {
    /// The candidate, or the target itself, cannot be written.
    #[error(transparent)]
    Secret(#[from] ApplyError),
    /// A Secret or Job of that name is somebody else's.
    #[error("{0}")]
    Foreign(String),
    /// The CronJob is not there or not as it must be.
    #[error("{0}")]
    Invalid(String),
    /// The operator lacks the right.
    #[error("{0}")]
    Forbidden(String),
    /// The namespace is being deleted.
    #[error("the namespace is being deleted, so nothing is tried in it any more")]
    Terminating,
    /// Somebody else wrote it in between: try again at once.
    #[error("{0} changed in between; it is tried again")]
    Conflict(String),
    /// The API server failed or did not answer.
    #[error("the Kubernetes API did not answer while {0} was asked for; it is tried again")]
    Unavailable(String),
}

impl Trial<'_> {
    /// The Secret with the data that is tried.
    #[must_use]
    pub fn secret(&self) -> String {
        candidate_secret(&self.desired.name)
    }

    /// The Job that tries it.
    #[must_use]
    pub fn job(&self) -> String {
        candidate_job(&self.desired.name, self.fingerprint)
    }

    /// How long that may take.
    #[must_use]
    pub fn timeout(&self) -> std::time::Duration {
        self.verify.timeout.map_or(TIMEOUT, |Timeout(timeout)| timeout)
    }

    fn attempt(&self) -> String {
        let refresh = self.object.metadata.annotations.as_ref().and_then(|all| all.get(ANNOTATION_REFRESH));
        let asked = match (refresh, rotation_requested(self.object)) {
            (refresh, None) => refresh.cloned(),
            (refresh, Some(request)) => {
                Some(format!("{}/{}", refresh.map(String::as_str).unwrap_or_default(), request.id))
            }
        };
        candidate_attempt(self.object.metadata.generation, asked.as_deref())
    }

    /// Whether the status speaks of this generation and of the last refresh or
    /// rotation that somebody forced: else what was rejected is tried once more.
    fn is_told(&self) -> bool {
        let observed = self.object.status.as_ref().and_then(|status| status.observed_generation);
        observed == self.object.metadata.generation && !is_forced(self.object)
    }
}

/// Takes the trial one step on.
///
/// # Errors
/// As [`CandidateError`]; the next pass goes on from whatever is there then.
pub async fn take_step(client: &Client, trial: &Trial<'_>, now: Timestamp) -> Result<Tried, CandidateError> {
    let recorded = trial.object.status.as_ref().and_then(|status| status.rotation.as_ref());
    if let Some(why) = standing(recorded, trial.fingerprint, trial.is_told()) {
        return Ok(Tried::Rejected(why.to_owned()));
    }
    let requests = Requests::new(client, trial);
    let job = requests.job().await?;
    let attempt = trial.attempt();
    let facts = Facts {
        fingerprint: trial.fingerprint,
        attempt: &attempt,
        cron_job: &trial.verify.cron_job,
        is_told: trial.is_told(),
        timeout: trial.timeout(),
        job: job.as_ref(),
        now,
    };
    match decide(&facts) {
        Step::Wait => Ok(Tried::Pending),
        Step::Commit => Ok(Tried::Passed),
        Step::Foreign => Err(CandidateError::Foreign(format!(
            "Job {} exists and is not BotSecret's: delete it, so that the new value can be tried",
            trial.job()
        ))),
        Step::Reject(failure) => {
            let pods = match &job {
                Some(job) => requests.pods_of(&job.uid).await?,
                None => Vec::new(),
            };
            let why = verdict(trial, &failure, &pods);
            requests.delete_secret().await?;
            Ok(Tried::Rejected(why))
        }
        Step::Start => {
            start(client, &requests, trial).await?;
            Ok(Tried::Pending)
        }
        Step::Replace(uid) => {
            requests.delete_job(&trial.job(), &uid).await?;
            start(client, &requests, trial).await?;
            Ok(Tried::Pending)
        }
    }
}

/// Makes the candidate, and the Job that tries it.
async fn start(client: &Client, requests: &Requests<'_>, trial: &Trial<'_>) -> Result<(), CandidateError> {
    // What could never be committed need not be tried.
    may_be_written(client, trial.desired).await?;
    let cron_job = requests.cron_job().await?;
    job::check(cron_job.as_ref(), trial).map_err(CandidateError::Invalid)?;
    let live = requests.secret().await?;
    let recorded = trial.object.status.as_ref().and_then(|status| status.rotation.as_ref());
    let before = [live.as_ref().and_then(requests::fingerprint_of), recorded.and_then(decide::tried)];
    for other in before.into_iter().flatten().filter(|other| *other != trial.fingerprint) {
        requests.delete_job_of(other).await?;
    }
    requests.put_secret(live.as_ref()).await?;
    if let Some(cron_job) = cron_job {
        requests.create_job(&job::made_from(&cron_job, trial)).await?;
    }
    Ok(())
}

/// Deletes what is left of a trial that is over: the candidate, the Job that
/// tried it, and the Job of the data that the target holds. Nothing is tried in
/// there any more; a Job whose data was rejected is kept for its log.
///
/// # Errors
/// As [`CandidateError`].
pub async fn clean(client: &Client, trial: &Trial<'_>) -> Result<(), CandidateError> {
    let requests = Requests::new(client, trial);
    let live = requests.secret().await?;
    let tried = live.as_ref().filter(|secret| requests.is_ours(&secret.metadata)).and_then(requests::fingerprint_of);
    if let Some(other) = tried.filter(|tried| *tried != trial.fingerprint) {
        requests.delete_job_of(other).await?;
    }
    requests.delete_job_of(trial.fingerprint).await?;
    // Last: it tells which Job there is.
    if live.is_some() {
        requests.delete_secret().await?;
    }
    Ok(())
}
