//! What a fresh read of one workload says: how it takes its value, and whether it
//! was well before.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::seen::{Eye, is_underway, kept_report, signed};
use crate::{
    api::WorkloadStatus,
    report::WorkloadReport,
    rollout::{Health, Looked, Patience, PodFacts, Step, Task, WorkloadState, health, was_ill},
};

impl Eye<'_> {
    /// What is to be reported of a workload that was just read.
    pub(super) fn judge(
        self,
        task: &Task<'_>,
        looked: &Looked,
        recorded: Option<&WorkloadStatus>,
        earlier: Option<&WorkloadStatus>,
    ) -> WorkloadReport {
        let was = recorded.and_then(|recorded| WorkloadState::from_name(&recorded.state));
        let mut found = match looked.step {
            Step::Patch(_) => WorkloadState::Waiting,
            Step::Report(state) => state,
        };
        let is_concerned = recorded.is_some() || looked.to_record;
        let ill = self.was_ill_before(looked, recorded, earlier);
        let up = looked.workload.progress.settled && looked.new_pods(task).all(|pod| pod.health.ready);
        if found == WorkloadState::RolledOut && was != Some(found) && is_concerned && !up && !ill {
            // It is watched from when its new pods are up, not from when the old
            // ones are gone.
            found = if looked.workload.paused { WorkloadState::Paused } else { WorkloadState::Rolling };
        }
        let mut status = WorkloadStatus {
            kind: task.id.kind.name().to_owned(),
            name: task.id.name.clone(),
            uid: looked.workload.uid.clone(),
            revision: task.requirement.revision.to_string(),
            state: found.name().to_owned(),
            patches: looked.patches,
            since: recorded
                .filter(|_| was == Some(found))
                .map_or(Some(Time(self.now)), |recorded| recorded.since.clone()),
            rolled_at: earlier.and_then(|earlier| earlier.rolled_at.clone()),
            verified: false,
            unhealthy_before: ill,
            failed_before: earlier.is_some_and(|earlier| match recorded {
                Some(recorded) => recorded.failed_before,
                None => earlier.state == WorkloadState::Failed.name(),
            }),
            message: String::new(),
        };
        let begins = matches!(found, WorkloadState::Rolling | WorkloadState::RolledOut)
            && !matches!(was, Some(WorkloadState::Rolling | WorkloadState::RolledOut | WorkloadState::Failed));
        if begins && is_concerned {
            // The report of the patch was lost, or its pods go for another reason.
            status.rolled_at = Some(Time(self.now));
        }
        let report = |state: WorkloadState, mut status: WorkloadStatus| {
            state.name().clone_into(&mut status.state);
            WorkloadReport { status, state, patched: false }
        };
        match found {
            WorkloadState::Waiting => {
                if was == Some(WorkloadState::Failed) {
                    // Undone by somebody while it was failing: not once more.
                    return recorded.map_or_else(|| report(found, status), kept_report);
                }
                let new_ill = looked.pods.iter().any(|pod| pod.health.crash_looping && pod.health.restarts > 1);
                let recent = self.in_time(status.rolled_at.as_ref());
                // What was ill before the last value says nothing about it.
                let ill_already = earlier.is_some_and(|earlier| earlier.unhealthy_before);
                if recent && new_ill && !ill_already && earlier.is_some_and(is_underway) {
                    status.failed_before = true;
                }
                let older = looked.pods.iter().filter(|pod| !pod.terminating);
                let ours = status.failed_before || recent && !looked.workload.progress.settled && !ill_already;
                status.unhealthy_before = !ours && was_ill(&looked.workload, older);
                report(found, status)
            }
            WorkloadState::Rolling | WorkloadState::RolledOut | WorkloadState::Paused => {
                let (state, status) = self.judge_health(task, looked, recorded, found, status);
                report(state, status)
            }
            other => report(other, status),
        }
    }

    /// Whether it was ill before this revision: as it was found then, or as it is
    /// now where it needed no patch and so was never asked.
    fn was_ill_before(
        self,
        looked: &Looked,
        recorded: Option<&WorkloadStatus>,
        earlier: Option<&WorkloadStatus>,
    ) -> bool {
        if let Some(recorded) = recorded {
            return recorded.unhealthy_before;
        }
        let ours = looked.patches > 0
            || earlier.is_some_and(|earlier| {
                let failed = earlier.state == WorkloadState::Failed.name();
                let moves = self.in_time(earlier.rolled_at.as_ref()) && !looked.workload.progress.settled;
                !earlier.unhealthy_before && (failed || moves)
            });
        !ours && was_ill(&looked.workload, looked.pods.iter().filter(|pod| !pod.terminating))
    }

    /// How it takes the value, once it has it.
    fn judge_health(
        self,
        task: &Task<'_>,
        looked: &Looked,
        recorded: Option<&WorkloadStatus>,
        found: WorkloadState,
        mut status: WorkloadStatus,
    ) -> (WorkloadState, WorkloadStatus) {
        let done = found == WorkloadState::RolledOut;
        if done && looked.workload.progress.settled && looked.new_pods(task).next().is_none() {
            // Scaled to zero: there is nothing to watch.
            status.since = None;
            status.verified = true;
            return (found, status);
        }
        let since = status.since.as_ref().map_or(self.now, |since| since.0);
        let patience = Patience {
            rolled_at: status.rolled_at.as_ref().map_or(since, |at| at.0),
            new_since: done.then_some(since),
            // Whoever paused it takes the time that they need.
            deadline: if found == WorkloadState::Paused {
                SignedDuration::MAX
            } else {
                signed(self.rollout.deadline())
            },
            watched_for: signed(self.rollout.watched_for(task.id.kind, &task.id.name)),
        };
        if let Some(recorded) = recorded.filter(|recorded| recorded.state == WorkloadState::Failed.name()) {
            // One that keeps ending is up in between: it has recovered when it ran
            // through for as long as it is watched.
            let ran = |pod: &PodFacts| {
                let began = pod.health.last_started.and_then(|began| began.checked_add(patience.watched_for).ok());
                pod.health.ready && began.is_some_and(|end| end <= self.now)
            };
            if done && looked.workload.progress.settled && looked.new_pods(task).all(ran) {
                return (found, WorkloadStatus { since: Some(Time(self.now)), verified: true, ..status });
            }
            return (
                WorkloadState::Failed,
                WorkloadStatus { rolled_at: recorded.rolled_at.clone(), ..recorded.clone() },
            );
        }
        match health(&looked.workload, looked.new_pods(task), patience, self.now) {
            Health::Well if done => {
                status.verified = true;
                (found, status)
            }
            Health::Failed(how) if status.unhealthy_before => {
                status.message = format!("{how}; it was not healthy before either");
                (found, status)
            }
            Health::Failed(how) => {
                status.message = how;
                status.since = Some(Time(self.now));
                (WorkloadState::Failed, status)
            }
            _ => (found, status),
        }
    }
}
