//! Whether a pod may hold an older value.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{Resource, api::ObjectMeta};
use serde::Deserialize;

use super::{Requirement, required};
use crate::{
    api::{State, marker_annotation},
    watch::{SecretUse, UsesSecrets, null_is_default, uses_of},
};

/// On every pod of a Rollout (DefaultRolloutUniqueLabelKey in Argo's
/// pkg/apis/rollouts/v1alpha1/types.go), and on none of a Deployment.
const ROLLOUT_HASH: &str = "rollouts-pod-template-hash";

/// The decoded part of a Pod.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = Pod)]
pub struct PodView {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: PodSpecView,
    #[serde(default)]
    status: PodStatusView,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpecView {
    #[serde(deserialize_with = "null_is_default")]
    node_name: String,
    #[serde(flatten)]
    uses: UsesSecrets,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatusView {
    #[serde(deserialize_with = "null_is_default")]
    phase: String,
    #[serde(deserialize_with = "null_is_default")]
    conditions: Vec<ConditionView>,
    #[serde(deserialize_with = "null_is_default")]
    container_statuses: Vec<ContainerView>,
    #[serde(deserialize_with = "null_is_default")]
    init_container_statuses: Vec<ContainerView>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ConditionView {
    #[serde(rename = "type")]
    type_: String,
    status: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerView {
    #[serde(deserialize_with = "null_is_default")]
    restart_count: i32,
    #[serde(deserialize_with = "null_is_default")]
    state: ContainerStateView,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerStateView {
    waiting: Option<WaitingView>,
    running: Option<RunningView>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct WaitingView {
    reason: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RunningView {
    started_at: Option<Timestamp>,
}

/// What matters of a pod.
#[derive(Clone, Debug)]
pub struct PodFacts {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// When it was made: it read the Secret no earlier.
    pub created: Option<Timestamp>,
    /// Whether it has a node. Before, nothing can have read a Secret for it;
    /// after, its status may lag behind what has.
    pub scheduled: bool,
    /// Whether it is on its way out.
    pub terminating: bool,
    /// Whether it has ended for good.
    pub finished: bool,
    /// The markers that it was made with.
    pub annotations: BTreeMap<String, String>,
    /// The controller's kind and name.
    pub controller: Option<(String, String)>,
    /// The hash that ends its ReplicaSet's name, where Argo Rollouts made that.
    pub rollout_hash: Option<String>,
    /// The Secrets that it uses.
    pub uses: Vec<SecretUse>,
    /// How it fares.
    pub health: PodHealth,
    /// When those of its containers were started that were started again.
    pub restarted: Vec<Timestamp>,
}

/// How a pod fares.
#[derive(Clone, Copy, Debug, Default)]
pub struct PodHealth {
    /// Whether it is ready.
    pub ready: bool,
    /// How often its containers were started again, all together.
    pub restarts: i32,
    /// Whether one of them is held back because it keeps ending.
    pub crash_looping: bool,
    /// When the last of them was started.
    pub last_started: Option<Timestamp>,
}

impl PodStatusView {
    fn containers(&self) -> impl Iterator<Item = &ContainerView> {
        self.init_container_statuses.iter().chain(&self.container_statuses)
    }

    fn restarted(&self) -> Vec<Timestamp> {
        let again = self.containers().filter(|one| one.restart_count > 0);
        again.filter_map(|one| one.state.running.as_ref()?.started_at).collect()
    }

    fn health(&self) -> PodHealth {
        let containers = || self.containers();
        let held_back = |container: &ContainerView| {
            container
                .state
                .waiting
                .as_ref()
                .is_some_and(|waiting| waiting.reason.as_deref() == Some("CrashLoopBackOff"))
        };
        PodHealth {
            ready: self.conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True"),
            restarts: containers().fold(0_i32, |all, container| all.saturating_add(container.restart_count)),
            crash_looping: containers().any(held_back),
            last_started: containers().filter_map(|one| one.state.running.as_ref()?.started_at).max(),
        }
    }
}

impl PodView {
    /// What matters of it.
    #[must_use]
    pub fn facts(&self) -> PodFacts {
        PodFacts {
            name: self.metadata.name.clone().unwrap_or_default(),
            uid: self.metadata.uid.clone().unwrap_or_default(),
            created: self.metadata.creation_timestamp.as_ref().map(|time| time.0),
            scheduled: !self.spec.node_name.is_empty(),
            terminating: self.metadata.deletion_timestamp.is_some(),
            finished: matches!(self.status.phase.as_str(), "Succeeded" | "Failed"),
            annotations: self.metadata.annotations.clone().unwrap_or_default(),
            controller: self
                .metadata
                .owner_references
                .iter()
                .flatten()
                .find(|owner| owner.controller == Some(true))
                .map(|owner| (owner.kind.clone(), owner.name.clone())),
            rollout_hash: self.metadata.labels.as_ref().and_then(|labels| labels.get(ROLLOUT_HASH)).cloned(),
            uses: uses_of(&self.spec.uses),
            health: self.status.health(),
            restarted: self.status.restarted(),
        }
    }
}

/// How far the clocks of two API servers may be apart, in seconds.
pub const CLOCKS_APART: i64 = 600;

/// The same of a node and the API server, and how late a kubelet tells of what it
/// started.
pub const NODE_CLOCKS_APART: i64 = 60;

/// Whether this pod may hold a value of `secret` from before the change that
/// its own use of it requires. A pod that is Terminating still does. The list
/// that it is from is to be fresher than the write.
///
/// With `by_use` false its own use is not asked: for workloads that were named
/// because it cannot be seen.
#[must_use]
pub fn holds_older(pod: &PodFacts, secret: &str, state: &State, by_use: bool) -> bool {
    pod.scheduled && began_before(pod, secret, state, by_use)
}

/// The same without regard to whether it has a node by now: where this says
/// no, it stays so.
#[must_use]
pub fn began_before(pod: &PodFacts, secret: &str, state: &State, by_use: bool) -> bool {
    if pod.finished {
        return false;
    }
    let usage = pod.uses.iter().find(|usage| usage.secret == secret);
    if by_use && usage.is_none() {
        return false;
    }
    let Some(requirement) = required(state, usage.filter(|_| by_use)) else { return false };
    let Some(created) = pod.created else { return true };
    if holds_it_since_before(pod, created, &requirement) {
        return false;
    }
    let written = requirement.written_at.as_second();
    let marked = pod.annotations.get(&marker_annotation(secret)).is_some_and(|marker| requirement.met_by(marker));
    // Both times are the API server's, to the second: within the same second
    // the pod may have been first, unless it bears the marker.
    if marked { created.as_second() < written - CLOCKS_APART } else { created.as_second() <= written }
}

/// Whether the value that came back is the one that it began with. A container
/// reads its environment anew when it is started again, so one that was started
/// while the Secret held the other value may hold that.
fn holds_it_since_before(pod: &PodFacts, created: Timestamp, requirement: &Requirement) -> bool {
    let Some(same_before) = requirement.same_before else { return false };
    let from = same_before.as_second() - NODE_CLOCKS_APART;
    let to = requirement.written_at.as_second() + NODE_CLOCKS_APART;
    let is_between = |at: &Timestamp| (from..=to).contains(&at.as_second());
    created.as_second() < same_before.as_second() && !pod.restarted.iter().any(is_between)
}
