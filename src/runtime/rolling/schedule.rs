//! When to look at a rollout again.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    Standings,
    seen::{Eye, is_watched, signed},
};
use crate::{
    plan::{Memory, Retry},
    report::{Problem, WorkloadReport},
    rollout::WorkloadState,
};

/// How long to wait between looks at pods that are on their way out.
const LOOK_FIRST: Duration = Duration::from_secs(1);
/// Times in a status are kept to the second: no sooner than this.
const SOONEST: Duration = Duration::from_millis(200);
pub(super) const LOOK_LONGEST: Duration = Duration::from_secs(15);
/// How often to look where nothing but a person's act changes anything. What
/// matters arrives by watch before.
pub(super) const LOOK_IDLE: Duration = Duration::from_secs(300);

/// Sets when to look again.
pub(super) fn schedule(
    eye: Eye<'_>,
    standings: &Standings,
    problem: Option<&Problem>,
    turns_change: Option<Timestamp>,
    memory: &mut Memory,
) {
    let workloads = &standings.workloads;
    let now = Instant::now();
    let any = |state| workloads.iter().any(|workload| workload.state == state);
    let waiting = [
        WorkloadState::Waiting,
        WorkloadState::Rolling,
        WorkloadState::Failed,
        WorkloadState::Paused,
        WorkloadState::OnDelete,
        WorkloadState::Partitioned,
        WorkloadState::Reverted,
        WorkloadState::Missing,
    ];
    // The end of a watch, of a pause, the opening of a window.
    let watch_ends = |workload: &WorkloadReport| {
        let since = workload.status.since.as_ref().filter(|_| is_watched(&workload.status))?.0;
        let kind = crate::api::WorkloadKind::from_name(&workload.status.kind)?;
        since.checked_add(signed(eye.rollout.watched_for(kind, &workload.status.name))).ok()
    };
    let (over, ends): (Vec<_>, Vec<_>) = workloads.iter().filter_map(watch_ends).partition(|at| *at <= eye.now);
    // One with a message was ill before, and is so still.
    let rolls =
        |workload: &WorkloadReport| workload.state == WorkloadState::Rolling && workload.status.message.is_empty();
    let moving = standings.held_up || !over.is_empty() || workloads.iter().any(rolls);
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
    let soonest = ends.into_iter().chain(turns_change).min().map(|at| {
        let left = Duration::try_from(at.duration_since(eye.now)).unwrap_or_default();
        now + left.max(SOONEST)
    });
    memory.next_look = memory.next_look.into_iter().chain(soonest).min();
}
