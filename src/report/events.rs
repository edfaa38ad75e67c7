//! Events: only for what a person should notice, and each once.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{Outcome, Reason, RolloutReport, SyncReport, emergency::LEFT_TO_END};
use crate::{
    api::{BotSecret, BotSecretStatus, EmergencyPhase},
    rollout::WorkloadState,
};

/// One thing worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whether it is trouble.
    pub warning: bool,
    /// Its reason.
    pub reason: &'static str,
    /// What was done.
    pub action: &'static str,
    /// For people.
    pub note: String,
}

/// What a pass gives to tell: failures when they begin or change, their end,
/// rotations, repairs and rollouts. A plain first sync needs no event.
#[must_use]
pub fn notices(before: &BotSecret, after: &BotSecretStatus, outcome: &Outcome) -> Vec<Notice> {
    let mut notices = Vec::new();
    let old = before.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let target = before.target_name();
    let ready = find(&after.conditions, "Ready");
    let was_ready = find(old, "Ready");
    if let Some(ready) = ready.filter(|ready| ready.status == "False" && changed(was_ready, ready)) {
        let reason = Reason::from_name(&ready.reason).unwrap_or(Reason::InternalError);
        if !matches!(reason, Reason::Suspended | Reason::CandidatePending) {
            notices.push(Notice { warning: true, reason: reason.name(), action: "Sync", note: ready.message.clone() });
        }
    }
    let is_back = matches!(outcome.sync, SyncReport::TakenBack { .. });
    if outcome.rotated && !is_back {
        let note = format!("a value changed at the source: Secret {target} was written");
        notices.push(Notice { warning: false, reason: "Rotated", action: "Write", note });
    }
    if outcome.repaired {
        let note = format!("Secret {target} had been changed or deleted by somebody else: its data was put right");
        notices.push(Notice { warning: true, reason: "Repaired", action: "Write", note });
    }
    let no_trouble = [Reason::Suspended, Reason::CandidatePending].map(Reason::name);
    let recovered = was_ready.is_some_and(|was| was.status == "False" && !no_trouble.contains(&was.reason.as_str()));
    if recovered && ready.is_some_and(|ready| ready.status == "True") && matches!(outcome.sync, SyncReport::Synced(_)) {
        let note = format!("Secret {target} holds the current values again");
        notices.push(Notice { warning: false, reason: "Recovered", action: "Sync", note });
    }
    let rotated = find(&after.conditions, "Rotated").filter(|now| now.status == "False");
    if let Some(late) = rotated.filter(|now| changed(find(old, "Rotated"), now)) {
        let reason = Reason::from_name(&late.reason).unwrap_or(Reason::InternalError).name();
        notices.push(Notice { warning: true, reason, action: "Rotate", note: late.message.clone() });
    }
    notices.extend(rollout_notices(old, after, outcome));
    notices.extend(end_of_emergency(before, after));
    notices
}

/// That a rotation at once has come to its end.
fn end_of_emergency(before: &BotSecret, after: &BotSecretStatus) -> Option<Notice> {
    let was_open = before.status.as_ref()?.emergency.as_ref()?.is_open();
    let ended = after.emergency.as_ref().filter(|record| was_open && !record.is_open())?;
    let warning = ended.phase() != Some(EmergencyPhase::RolledOut) || ended.revocation == LEFT_TO_END;
    let note = format!("the rotation at once {} has ended: {}", ended.id, ended.message);
    Some(Notice { warning, reason: "RotationEnded", action: "Rotate", note })
}

fn rollout_notices(old: &[Condition], after: &BotSecretStatus, outcome: &Outcome) -> Vec<Notice> {
    let mut notices = Vec::new();
    let RolloutReport::Standing { workloads, .. } = &outcome.rollout else { return notices };
    for workload in workloads.iter().filter(|workload| workload.patched) {
        let status = &workload.status;
        let again = if status.patches > 1 { " again, since its first rollout was undone" } else { "" };
        let note = format!("rolling {} {}{again}: a value that it uses changed", status.kind, status.name);
        notices.push(Notice { warning: status.patches > 1, reason: "RollingOut", action: "RollOut", note });
    }
    let (was, is) = (find(old, "RolledOut"), find(&after.conditions, "RolledOut"));
    if let Some(is) = is.filter(|is| changed(was, is)) {
        let finished =
            is.status == "True" && workloads.iter().any(|workload| workload.state == WorkloadState::RolledOut);
        let rolling = is.reason == Reason::RollingOut.name();
        if finished {
            notices.push(Notice { warning: false, reason: "RolledOut", action: "RollOut", note: is.message.clone() });
        } else if is.status == "False" && !rolling {
            let reason = Reason::from_name(&is.reason).unwrap_or(Reason::InternalError).name();
            notices.push(Notice { warning: true, reason, action: "RollOut", note: is.message.clone() });
        }
    }
    notices
}

fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

fn changed(old: Option<&Condition>, new: &Condition) -> bool {
    old.is_none_or(|old| old.status != new.status || old.reason != new.reason || old.message != new.message)
}
