//! How far a rotation is that somebody wants now. Pure.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use super::{Outcome, Problem, Reason, SyncReport, status::bounded};
use crate::{
    api::{BotSecret, BotSecretStatus, EmergencyPhase, EmergencyStatus, RotationPhase, WorkloadChoice},
    plan::{Retry, rotation_requested},
    rollout::is_open,
};

pub(super) const LEFT_TO_END: &str = "LeftToEnd";
const REVOKED: &str = "Revoked";
const NOTHING_TO_REVOKE: &str = "NothingToRevoke";
/// Said of a request to revoke for which there is no new value.
const IN_VAIN: &str = "; the old credential was revoked all the same: what uses it fails until there is a new one";

/// What became of the credentials that the request wants to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OldCredentials {
    /// Some live still.
    pub pending: bool,
    /// One was revoked.
    pub revoked: bool,
    /// One could not be, and ends with its login.
    pub left: bool,
}

/// What else the end of a request hangs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct News<'a> {
    /// The credentials that it wants to end.
    pub old: OldCredentials,
    /// Whether a value that the operator has made is still to come.
    pub is_made: bool,
    /// What holds that up.
    pub problem: Option<&'a Problem>,
}

/// Takes the record of the last request one step on.
pub fn report_emergency(
    object: &BotSecret,
    outcome: &Outcome,
    news: News<'_>,
    next: &mut BotSecretStatus,
    now: Timestamp,
) {
    let Some(mut record) = next.emergency.take() else { return };
    if record.is_open() {
        step(object, outcome, news, next, &mut record, now);
    }
    next.emergency = Some(record);
}

fn step(
    object: &BotSecret,
    outcome: &Outcome,
    News { old, is_made, problem }: News<'_>,
    next: &BotSecretStatus,
    record: &mut EmergencyStatus,
    now: Timestamp,
) {
    if record.revoke && old.left {
        LEFT_TO_END.clone_into(&mut record.revocation);
    } else if record.revoke && old.revoked && record.revocation != LEFT_TO_END {
        REVOKED.clone_into(&mut record.revocation);
    }
    if rotation_requested(object).is_none_or(|request| request.id != record.id) {
        let message = "the request was taken back, or another took its place".to_owned();
        return end(record, EmergencyPhase::Withdrawn, message, now);
    }
    if object.spec.suspend == Some(true) {
        return;
    }
    if outcome.handled_rotation.as_ref() == Some(&record.id) {
        EmergencyPhase::Written.name().clone_into(&mut record.phase);
        record.message.clear();
    }
    if record.phase() == Some(EmergencyPhase::Requested) {
        let before = record.message.strip_suffix(IN_VAIN).unwrap_or(&record.message).to_owned();
        let why = why_not_yet(outcome).map_or(before, |why| format!("no new value could be had yet: {why}"));
        let is_killed = record.revocation == REVOKED && !why.is_empty();
        record.message = if is_killed { format!("{why}{IN_VAIN}") } else { why };
        return;
    }
    let refused = problem.filter(|problem| is_made && problem.retry == Retry::Slow);
    if is_made && refused.is_none() {
        record.message = problem.map_or_else(
            || "a new value is being made at the source".to_owned(),
            |problem| bounded(&format!("no new value could be made yet: {}", problem.message)),
        );
        return;
    }
    if let Some(refused) = refused {
        let message = bounded(&format!("no new value could be made: {}", refused.message));
        return end(record, EmergencyPhase::NotRotated, message, now);
    }
    let rolled = rolled(object, next, record);
    if let Some((phase, message)) = rolled.filter(|_| !(record.revoke && old.pending)) {
        if record.revoke && record.revocation.is_empty() {
            NOTHING_TO_REVOKE.clone_into(&mut record.revocation);
        }
        let old = match record.revocation.as_str() {
            REVOKED => "; the old credentials are revoked",
            LEFT_TO_END => "; an old credential could not be revoked, and ends with its login",
            NOTHING_TO_REVOKE => "; there was no leased credential to revoke",
            _ => "",
        };
        end(record, phase, format!("{message}{old}"), now);
    }
}

fn end(record: &mut EmergencyStatus, phase: EmergencyPhase, message: String, now: Timestamp) {
    phase.name().clone_into(&mut record.phase);
    record.finished_at = Some(Time(now));
    record.message = message;
}

fn why_not_yet(outcome: &Outcome) -> Option<&str> {
    match &outcome.sync {
        // A lost race is run again at once.
        SyncReport::Failed { problem, .. } if problem.retry == Retry::Soon => None,
        SyncReport::Failed { problem, .. } | SyncReport::Deleted(problem) => Some(&problem.message),
        SyncReport::Trying { message } => Some(message),
        _ => None,
    }
}

/// How the rollout of what the Secret holds ended, if it did.
fn rolled(object: &BotSecret, next: &BotSecretStatus, record: &EmergencyStatus) -> Option<(EmergencyPhase, String)> {
    let target = next.target.as_ref()?;
    let value = if target.revision == record.from {
        "the manager gave no other value than before: change it there"
    } else {
        "the Secret holds a new value"
    };
    if object.spec.workload_choice() == WorkloadChoice::None {
        return Some((EmergencyPhase::RolledOut, format!("{value}; no workload is rolled for it (rollout.workloads)")));
    }
    let rollout = next.rollout.as_ref().filter(|rollout| rollout.revision == target.revision)?;
    let told = next.conditions.iter().find(|condition| condition.type_ == "RolledOut")?;
    let phase = next.rotation.as_ref().map(|rotation| rotation.phase);
    let reason = Reason::from_name(&told.reason);
    if phase == Some(RotationPhase::RolledBack) {
        let message = "a workload failed on the value that the source gives, and the one before is back";
        return Some((EmergencyPhase::RolledBack, message.to_owned()));
    }
    if reason == Some(Reason::RolloutHalted) {
        return Some((EmergencyPhase::Halted, told.message.clone()));
    }
    if matches!(reason, Some(Reason::WaitingForWorkload | Reason::Reverted)) {
        return Some((EmergencyPhase::WaitingForWorkload, format!("{value}; {}", told.message)));
    }
    // Those which hold it are watched for a while.
    let is_over = rollout.complete && told.status == "True" && !phase.is_some_and(is_open);
    is_over.then(|| (EmergencyPhase::RolledOut, format!("{value}; {}", told.message)))
}

#[cfg(test)]
#[path = "emergency_tests.rs"]
mod tests;
