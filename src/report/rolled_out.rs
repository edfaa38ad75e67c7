//! What is said of a rollout.

use super::{Reason, RolloutReport, WorkloadReport, status::Conditions};
use crate::{
    api::{RolloutState, RotationPhase, RotationStatus},
    rollout::WorkloadState,
};

/// The parts of the status that a rollout has.
pub(super) struct Kept<'a> {
    pub(super) rollout: &'a mut Option<RolloutState>,
    pub(super) rotation: &'a mut Option<RotationStatus>,
}

/// Sets RolledOut, the list of workloads and where the rotation stands.
pub(super) fn report_rollout(conditions: &mut Conditions<'_>, kept: &mut Kept<'_>, report: &RolloutReport) {
    match report {
        RolloutReport::NotLooked => {}
        RolloutReport::Off => {
            conditions.clear("RolledOut");
            *kept.rollout = None;
            // What is kept for it is still to be deleted.
            *kept.rotation = kept.rotation.take().filter(|rotation| !rotation.previous.is_empty());
        }
        RolloutReport::Standing { revision, workloads, rotation, problem } => {
            let joined = rotation.as_ref().filter(|rotation| rotation.phase == RotationPhase::Halted);
            let is_back = rotation.as_ref().is_some_and(|rotation| !rotation.taken_back.is_empty());
            let told = Told { workloads, is_back };
            // What does not exist has no pod that holds an older value.
            let complete = problem.is_none()
                && workloads
                    .iter()
                    .all(|workload| matches!(workload.state, WorkloadState::RolledOut | WorkloadState::Missing));
            let (holds, reason, message) = match problem {
                // Of another BotSecret's rollout that this value went along with.
                _ if joined.is_some() && told.none(WorkloadState::Failed) => {
                    (false, Reason::RolloutHalted, joined.map(|one| one.message.clone()).unwrap_or_default())
                }
                Some(problem) if told.none(WorkloadState::Failed) => (false, problem.reason, problem.message.clone()),
                _ if complete && told.none(WorkloadState::Missing) => told.done(),
                _ => told.open(),
            };
            conditions.set("RolledOut", holds, reason, &message);
            *kept.rollout = Some(RolloutState {
                revision: revision.clone(),
                complete,
                workloads: workloads.iter().map(|workload| workload.status.clone()).collect(),
            });
            *kept.rotation = rotation.as_deref().cloned();
        }
    }
}

/// The workloads, in words.
struct Told<'a> {
    workloads: &'a [WorkloadReport],
    /// Whether they are given the value before.
    is_back: bool,
}

impl Told<'_> {
    fn of(&self, wanted: WorkloadState) -> impl Iterator<Item = &WorkloadReport> {
        self.workloads.iter().filter(move |workload| workload.state == wanted)
    }

    fn none(&self, state: WorkloadState) -> bool {
        self.of(state).next().is_none()
    }

    fn names(&self, wanted: WorkloadState) -> String {
        let names: Vec<_> =
            self.of(wanted).map(|workload| format!("{} {}", workload.status.kind, workload.status.name)).collect();
        names.join(", ")
    }

    fn done(&self) -> (bool, Reason, String) {
        if self.workloads.is_empty() {
            return (true, Reason::UpToDate, "no workload holds an older value".to_owned());
        }
        (true, Reason::RolledOut, format!("no pod of {} holds an older value", self.names(WorkloadState::RolledOut)))
    }

    fn open(&self) -> (bool, Reason, String) {
        let (reason, message) = if let Some(failed) = self.of(WorkloadState::Failed).next() {
            (Reason::RolloutHalted, self.halted(failed))
        } else if !self.none(WorkloadState::Reverted) {
            let message = format!(
                "somebody undid the rollout of {} twice, so pods with an older value are left: stop what strips or reverts the pod template's annotations, then restart the workload",
                self.names(WorkloadState::Reverted)
            );
            (Reason::Reverted, message)
        } else if !self.none(WorkloadState::Rolling) {
            let waiting = match self.of(WorkloadState::Waiting).count() {
                0 => String::new(),
                1 => "; another waits for its turn".to_owned(),
                count => format!("; {count} more wait for their turn"),
            };
            (Reason::RollingOut, format!("rolling {}{waiting}", self.names(WorkloadState::Rolling)))
        } else if let Some(first) = self.of(WorkloadState::Waiting).next() {
            let status = &first.status;
            let others = match self.of(WorkloadState::Waiting).count() {
                1 => String::new(),
                count => format!(" and {} more", count - 1),
            };
            let why = if status.message.is_empty() { "its turn has not come" } else { &status.message };
            (Reason::RollingOut, format!("{} {}{others} must roll still: {why}", status.kind, status.name))
        } else {
            (Reason::WaitingForWorkload, self.waiting_for_somebody())
        };
        (false, reason, message)
    }

    fn halted(&self, failed: &WorkloadReport) -> String {
        let status = &failed.status;
        let untouched = match self.of(WorkloadState::Waiting).count() {
            0 => "no other workload waits for it".to_owned(),
            1 => "1 workload was not touched and keeps the old one".to_owned(),
            count => format!("{count} workloads were not touched and keep the old one"),
        };
        let (value, untouched) = if self.is_back {
            ("value that came back", "no further one is touched".to_owned())
        } else {
            ("new value", untouched)
        };
        format!(
            "{} {} failed on the {value}: {}; {untouched}. Correct the value at its source: the next one is tried by itself",
            status.kind, status.name, status.message
        )
    }

    fn waiting_for_somebody(&self) -> String {
        let mut parts = Vec::new();
        for (state, advice) in [
            (WorkloadState::Paused, "resume or promote to roll"),
            (WorkloadState::OnDelete, "delete its pods to roll (updateStrategy OnDelete)"),
            (WorkloadState::Partitioned, "lower its partition to roll the rest"),
        ] {
            if !self.none(state) {
                parts.push(format!("{}: {advice}", self.names(state)));
            }
        }
        match self.of(WorkloadState::Missing).count() {
            0 => {}
            1 => parts.push(format!(
                "{} does not exist: create it, or take it out of rollout.list",
                self.names(WorkloadState::Missing)
            )),
            _ => parts.push(format!(
                "{} do not exist: create them, or take them out of rollout.list",
                self.names(WorkloadState::Missing)
            )),
        }
        parts.join("; ")
    }
}
