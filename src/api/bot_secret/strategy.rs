//! In which order, how many at a time and when workloads roll.

use std::time::Duration;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rollout::{Rollout, WorkloadKind, WorkloadRef};
use crate::api::Timeout;

/// Workloads at once, where nothing else is said.
const MAX_CONCURRENT: usize = 5;
/// How long a rolled workload is watched, where nothing else is said.
const HEALTHY_FOR: Duration = Duration::from_secs(10);
/// How long a rollout may take, where nothing else is said: as a Deployment's
/// own progressDeadlineSeconds.
const PROGRESS_DEADLINE: Duration = Duration::from_secs(600);

/// The workload that gets a new value first.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Canary {
    /// Deployment, StatefulSet, DaemonSet or Rollout (of Argo Rollouts).
    pub kind: WorkloadKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// How long it must stay healthy on the new value before another workload
    /// is touched. rollout.healthyFor when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,6}([.][0-9]{1,3})?(ms|s|m|h)){1,4}$') && duration(self) <= duration('24h')")
        .message("write a duration of at most 24h, such as 30s or 5m"))]
    pub healthy_for: Option<Timeout>,
}

/// Where one workload stands in the order.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.after) || !self.after.exists(other, other.kind == self.kind && other.name == self.name)")
    .message("a workload cannot roll after itself: take it out of its own after"))]
pub struct OrderEntry {
    /// Deployment, StatefulSet, DaemonSet or Rollout (of Argo Rollouts).
    pub kind: WorkloadKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Lower ones roll first. 0 when not set, as for workloads that are not
    /// listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1000, max = 1000))]
    pub weight: Option<i32>,
    /// Workloads that must be verified on the new value before this one rolls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["kind", "name"]))]
    pub after: Vec<WorkloadRef>,
}

/// Halt (the default): no further workload is touched, and the next value is
/// tried by itself. RollBack: beyond that the last value on which every workload
/// was well is written back, where it is known to be good still: by a lease that
/// lives, a version that the manager still gives, or verify.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum OnFailure {
    /// No further workload is touched.
    #[default]
    Halt,
    /// The value before is written back.
    RollBack,
}

/// Times at which workloads may roll, or may not.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// Whether workloads roll in it, or everywhere but in it. Where windows of
    /// both kinds overlap, Deny wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<WindowKind>,
    /// When it opens, as a cron expression of five fields: minute, hour, day of
    /// the month, month, day of the week.
    #[schemars(length(min = 9, max = 100))]
    #[x_kube(validation = Rule::new("self.matches('^[!-~]+( [!-~]+){4}$')")
        .message("write five fields, such as \"0 2 * * 1-5\": minute, hour, day of the month, month, day of the week"))]
    pub schedule: String,
    /// The time zone of the schedule, as in the tz database. UTC when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// How long it stays open.
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,6}([.][0-9]{1,3})?(ms|s|m|h)){1,4}$') && duration(self) >= duration('1m') && duration(self) <= duration('168h')")
        .message("write a duration from 1m to 168h, such as 4h"))]
    pub duration: Timeout,
}

/// Allow (the default): workloads roll in this window, and outside all of them
/// only where there is none of this kind. Deny: workloads do not roll in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum WindowKind {
    /// Workloads roll in it.
    #[default]
    Allow,
    /// Workloads do not roll in it.
    Deny,
}

impl Rollout {
    /// Workloads at once.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.max_concurrent.and_then(|most| usize::try_from(most).ok()).unwrap_or(MAX_CONCURRENT)
    }

    /// How long a workload of this name is watched after it was rolled.
    #[must_use]
    pub fn watched_for(&self, kind: WorkloadKind, name: &str) -> Duration {
        let canary = self.canary.as_ref().filter(|canary| canary.kind == kind && canary.name == name);
        let own = canary.and_then(|canary| canary.healthy_for);
        own.or(self.healthy_for).map_or(HEALTHY_FOR, Into::into)
    }

    /// Whether a value on which a workload fails is taken back.
    #[must_use]
    pub fn rolls_back(&self) -> bool {
        self.on_failure == Some(OnFailure::RollBack)
    }

    /// How long a workload may take to be healthy on a new value.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.progress_deadline.map_or(PROGRESS_DEADLINE, Into::into)
    }
}
