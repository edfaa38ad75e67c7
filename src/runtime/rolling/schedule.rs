//! When to look at a rollout again.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::seen::{Eye, is_watched, signed};
use crate::{
    plan::{Memory, Retry},
    report::{Problem, WorkloadReport},
    rollout::WorkloadState,
};

/// How long to wait between looks at pods that are on their way out.
const LOOK_FIRST: Duration = Duration::from_secs(1);
pub(super) const LOOK_LONGEST: Duration = Duration::from_secs(15);
/// How often to look where nothing but a person's act changes anything. What
/// matters arrives by watch before.
pub(super) const LOOK_IDLE: Duration = Duration::from_secs(300);

/// Sets when to look again.
pub(super) fn schedule(
    eye: Eye<'_>,
    workloads: &[WorkloadReport],
    problem: Option<&Problem>,
    turns_change: Option<Timestamp>,
    memory: &mut Memory,
) {
    let now = Instant::now();
    let any = |state| workloads.iter().any(|workload| workload.state == state);
    let waiting = [
        WorkloadState::Waiting,
        WorkloadState::Failed,
        WorkloadState::Paused,
        WorkloadState::OnDelete,
        WorkloadState::Partitioned,
        WorkloadState::Reverted,
        WorkloadState::Missing,
    ];
    // While a rollout before is not over, one that waits for it is moving.
    let held_up =
        |workload: &WorkloadReport| workload.state == WorkloadState::Waiting && workload.status.rolled_at.is_some();
    let moving = any(WorkloadState::Rolling) || workloads.iter().any(held_up);
    let watched = || workloads.iter().filter(|workload| is_watched(&workload.status));
    if problem.is_some() || moving {
        if workloads.iter().any(|workload| workload.patched) {
            memory.looks = 0;
        }
        let wait = match problem.map(|problem| problem.retry) {
            Some(Retry::Slow) if !moving => LOOK_IDLE,
            Some(Retry::Soon) => Duration::from_millis(100).saturating_mul(1 << memory.looks.min(6)),
            _ => LOOK_FIRST.saturating_mul(1 << memory.looks.min(6)),
        };
        let wait = if wait == LOOK_IDLE { wait } else { wait.min(LOOK_LONGEST) };
        // What failed is due again by itself, not with the pods of another.
        if problem.is_some() || memory.next_look.is_none_or(|at| at <= now || at > now + wait) {
            memory.looks += 1;
            memory.next_look = Some(now + wait);
        }
    } else if waiting.into_iter().any(any) {
        memory.looks = 0;
        // A pass for another reason puts off no look that is due before.
        if memory.next_look.is_none_or(|at| at <= now || at > now + LOOK_IDLE) {
            memory.next_look = Some(now + LOOK_IDLE);
        }
    } else {
        memory.looks = 0;
        memory.next_look = None;
    }
    // The end of a watch, of a pause, the opening of a window.
    let ends = watched().filter_map(|workload| {
        let since = workload.status.since.as_ref()?.0;
        let kind = crate::api::WorkloadKind::from_name(&workload.status.kind)?;
        since.checked_add(signed(eye.rollout.watched_for(kind, &workload.status.name))).ok()
    });
    let soonest = ends.chain(turns_change).min().map(|at| {
        let left = Duration::try_from(at.duration_since(eye.now)).unwrap_or_default();
        // One that is not well by then is looked at until it is, or has failed.
        now + if left.is_zero() { LOOK_FIRST } else { left }
    });
    memory.next_look = memory.next_look.into_iter().chain(soonest).min();
}
