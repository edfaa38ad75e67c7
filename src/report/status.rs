//! The status that an outcome amounts to. Pure: kstatus conditions, and no
//! change where nothing of meaning changed.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use super::{Outcome, Reason, RolloutReport, SyncReport};
use crate::{
    api::{BotSecret, BotSecretStatus, RolloutState},
    rollout::WorkloadState,
};

/// The status after this outcome. Equal to the present one where there is
/// nothing to write.
#[must_use]
pub fn status(object: &BotSecret, outcome: &Outcome, now: Timestamp) -> BotSecretStatus {
    let mut next = object.status.clone().unwrap_or_default();
    let mut conditions = Conditions { list: &mut next.conditions, generation: object.metadata.generation, now };
    let target = object.target_name();
    let mut told = true;
    match &outcome.sync {
        SyncReport::Synced(synced) => {
            conditions.set("Ready", true, Reason::Synced, &format!("Secret {target} holds the current values"));
            conditions.set("Synced", true, Reason::Synced, &format!("Secret {target} holds the current values"));
            conditions.clear("Stalled");
            next.target = Some(synced.clone());
        }
        SyncReport::NotDue => told = false,
        SyncReport::Failed { problem, stale } => {
            // One outage flips nothing while the data is young enough. What
            // needs somebody to act is said at once.
            if *stale || !problem.reason.is_outage() {
                conditions.set("Ready", false, problem.reason, &problem.message);
                conditions.set("Synced", false, problem.reason, &problem.message);
                if problem.reason.is_outage() {
                    conditions.clear("Stalled");
                } else {
                    conditions.set("Stalled", true, problem.reason, &problem.message);
                }
            } else {
                told = false;
            }
        }
        SyncReport::Suspended { ended } => {
            let mut message = "suspended: nothing is read, written or rolled until spec.suspend is false".to_owned();
            if *ended {
                let told =
                    format!("; meanwhile a leased credential in Secret {target} has ended: resume to replace it");
                message.push_str(&told);
            }
            conditions.set("Ready", false, Reason::Suspended, &message);
            conditions.clear("Stalled");
        }
        SyncReport::Deleted(problem) => {
            conditions.set("Ready", false, problem.reason, &problem.message);
            conditions.set("Synced", false, problem.reason, &problem.message);
            conditions.set("Stalled", true, problem.reason, &problem.message);
            next.target = None;
        }
    }
    let mut conditions = Conditions { list: &mut next.conditions, generation: object.metadata.generation, now };
    report_rollout(&mut conditions, &mut next.rollout, &outcome.rollout);
    conditions.derive_reconciling();
    // Without conditions for it, a generation counts as not looked at: kstatus
    // would take it for done.
    if told {
        next.observed_generation = object.metadata.generation;
    }
    if let Some(handled) = &outcome.handled_refresh {
        next.last_handled_refresh = Some(handled.clone());
    }
    next
}

/// Sets RolledOut and the list of workloads.
fn report_rollout(conditions: &mut Conditions<'_>, state: &mut Option<RolloutState>, report: &RolloutReport) {
    match report {
        RolloutReport::NotLooked => {}
        RolloutReport::Off => {
            conditions.clear("RolledOut");
            *state = None;
        }
        RolloutReport::Standing { revision, workloads, problem } => {
            let open = |wanted: WorkloadState| workloads.iter().filter(move |workload| workload.state == wanted);
            let names = |wanted: WorkloadState| {
                let names: Vec<_> =
                    open(wanted).map(|workload| format!("{} {}", workload.status.kind, workload.status.name)).collect();
                names.join(", ")
            };
            // What does not exist has no pod that holds an older value.
            let complete = problem.is_none()
                && workloads
                    .iter()
                    .all(|workload| matches!(workload.state, WorkloadState::RolledOut | WorkloadState::Missing));
            let all_there = complete && open(WorkloadState::Missing).next().is_none();
            if let Some(problem) = problem {
                conditions.set("RolledOut", false, problem.reason, &problem.message);
            } else if all_there && workloads.is_empty() {
                conditions.set("RolledOut", true, Reason::UpToDate, "no workload holds an older value");
            } else if all_there {
                conditions.set(
                    "RolledOut",
                    true,
                    Reason::RolledOut,
                    &format!("no pod of {} holds an older value", names(WorkloadState::RolledOut)),
                );
            } else if open(WorkloadState::Reverted).next().is_some() {
                let message = format!(
                    "somebody undid the rollout of {} twice, so pods with an older value are left: stop what strips or reverts the pod template's annotations, then restart the workload",
                    names(WorkloadState::Reverted)
                );
                conditions.set("RolledOut", false, Reason::Reverted, &message);
            } else if open(WorkloadState::Rolling).next().is_some() {
                conditions.set(
                    "RolledOut",
                    false,
                    Reason::RollingOut,
                    &format!("rolling {}", names(WorkloadState::Rolling)),
                );
            } else {
                let mut parts = Vec::new();
                for (state, advice) in [
                    (WorkloadState::Paused, "resume to roll"),
                    (WorkloadState::OnDelete, "delete its pods to roll (updateStrategy OnDelete)"),
                    (WorkloadState::Partitioned, "lower its partition to roll the rest"),
                ] {
                    if open(state).next().is_some() {
                        parts.push(format!("{}: {advice}", names(state)));
                    }
                }
                match open(WorkloadState::Missing).count() {
                    0 => {}
                    1 => parts.push(format!(
                        "{} does not exist: create it, or take it out of rollout.list",
                        names(WorkloadState::Missing)
                    )),
                    _ => parts.push(format!(
                        "{} do not exist: create them, or take them out of rollout.list",
                        names(WorkloadState::Missing)
                    )),
                }
                conditions.set("RolledOut", false, Reason::WaitingForWorkload, &parts.join("; "));
            }
            *state = Some(RolloutState {
                revision: revision.clone(),
                complete,
                workloads: workloads.iter().map(|workload| workload.status.clone()).collect(),
            });
        }
    }
}

struct Conditions<'a> {
    list: &'a mut Vec<Condition>,
    generation: Option<i64>,
    now: Timestamp,
}

impl Conditions<'_> {
    /// Sets a condition; its transition time moves only with its status.
    fn set(&mut self, type_: &str, holds: bool, reason: Reason, message: &str) {
        let status = if holds { "True" } else { "False" };
        let same = |condition: &&Condition| condition.type_ == type_ && condition.status == status;
        let since =
            self.list.iter().find(same).map_or(Time(self.now), |condition| condition.last_transition_time.clone());
        let condition = Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.name().to_owned(),
            message: bounded(message),
            last_transition_time: since,
            observed_generation: self.generation,
        };
        match self.list.iter_mut().find(|known| known.type_ == type_) {
            Some(known) => *known = condition,
            None => self.list.push(condition),
        }
    }

    fn clear(&mut self, type_: &str) {
        self.list.retain(|condition| condition.type_ != type_);
    }

    /// Reconciling follows from the others: an outage that is waited for, or
    /// pods that are being replaced.
    fn derive_reconciling(&mut self) {
        let waiting = |condition: &&Condition| match condition.type_.as_str() {
            "Ready" => Reason::from_name(&condition.reason).is_some_and(Reason::is_outage),
            "RolledOut" => condition.reason == Reason::RollingOut.name(),
            _ => false,
        };
        let found = self.list.iter().filter(|condition| condition.status == "False").find(waiting);
        match found.map(|condition| (Reason::from_name(&condition.reason), condition.message.clone())) {
            Some((Some(reason), message)) => self.set("Reconciling", true, reason, &message),
            _ => self.clear("Reconciling"),
        }
    }
}

/// The schema of a Condition takes 32,768 characters; nobody reads so many.
fn bounded(message: &str) -> String {
    const MOST: usize = 1024;
    if message.chars().count() <= MOST {
        return message.to_owned();
    }
    message.chars().take(MOST - 1).chain(['…']).collect()
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
