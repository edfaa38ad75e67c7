//! What to do about one workload.

use std::fmt;

use super::{PodFacts, Requirement, holds_older};
use crate::{
    api::{State, WorkloadStatus, marker_annotation},
    watch::{UpdateStrategy, WorkloadFacts},
};

/// Where a workload's rollout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkloadState {
    /// It must roll, and its turn has not come.
    Waiting,
    /// Patched; pods that may hold the old value are left.
    Rolling,
    /// No pod that may hold the old value is left.
    RolledOut,
    /// It was not healthy on the new value.
    Failed,
    /// Patched; it rolls once it is resumed.
    Paused,
    /// Patched; its pods are replaced when somebody deletes them.
    OnDelete,
    /// Patched; pods below its partition are left alone.
    Partitioned,
    /// Somebody undid the rollout twice; the operator does not fight.
    Reverted,
    /// The spec names it, and it does not exist.
    Missing,
}

impl WorkloadState {
    /// As it stands in the status.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => WorkloadStatus::WAITING,
            Self::Rolling => WorkloadStatus::ROLLING,
            Self::RolledOut => "RolledOut",
            Self::Failed => WorkloadStatus::FAILED,
            Self::Paused => "Paused",
            Self::OnDelete => "OnDelete",
            Self::Partitioned => "Partitioned",
            Self::Reverted => "Reverted",
            Self::Missing => "Missing",
        }
    }

    /// The state of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::Waiting,
            Self::Rolling,
            Self::RolledOut,
            Self::Failed,
            Self::Paused,
            Self::OnDelete,
            Self::Partitioned,
            Self::Reverted,
            Self::Missing,
        ]
        .into_iter()
        .find(|state| state.name() == name)
    }
}

impl fmt::Display for WorkloadState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Patch the template; this is the n-th patch for this revision.
    Patch(i32),
    /// Nothing but to report.
    Report(WorkloadState),
}

/// How often the operator patches one workload for one revision. The second
/// patch answers a marker that was stripped before all pods were replaced; a
/// third would be a fight.
const MAX_PATCHES: i32 = 2;

/// Decides from a fresh read of the workload and its pods. `patches_on_record`
/// is how many patches for this revision the workload or the BotSecret's status
/// records: one of the two records may have been stripped with the marker.
#[must_use]
pub fn decide(
    workload: &WorkloadFacts,
    pods: &[PodFacts],
    secret: &str,
    requirement: &Requirement,
    state: &State,
    by_use: bool,
    patches_on_record: i32,
) -> Step {
    let mut older = pods.iter().filter(|pod| holds_older(pod, secret, state, by_use)).peekable();
    if workload.deleting || older.peek().is_none() {
        return Step::Report(WorkloadState::RolledOut);
    }
    if older.all(|pod| pod.terminating) {
        // They go by themselves, and what replaces them reads the new value.
        return Step::Report(WorkloadState::Rolling);
    }
    if workload.markers.get(&marker_annotation(secret)).is_some_and(|marker| requirement.met_by(marker)) {
        return Step::Report(handed(workload));
    }
    match patches_on_record {
        patches if patches < MAX_PATCHES => Step::Patch(patches + 1),
        _ => Step::Report(WorkloadState::Reverted),
    }
}

/// Where a workload stands that has been patched and has old pods left.
#[must_use]
pub fn handed(workload: &WorkloadFacts) -> WorkloadState {
    match workload.strategy {
        UpdateStrategy::OnDelete => WorkloadState::OnDelete,
        UpdateStrategy::Partition(_) => WorkloadState::Partitioned,
        UpdateStrategy::Automatic if workload.paused => WorkloadState::Paused,
        UpdateStrategy::Automatic => WorkloadState::Rolling,
    }
}
