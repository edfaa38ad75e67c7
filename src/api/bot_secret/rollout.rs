//! What happens to the workloads when a value rotates.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::strategy::{Canary, OnFailure, OrderEntry, Window};
use crate::api::Timeout;

/// What happens to the workloads when a value rotates.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.workloads) && self.workloads == 'List') == has(self.list)")
        .message("workloads: List goes with list, and list with workloads: List"),
    validation = Rule::new("(has(self.workloads) && self.workloads == 'Selector') == has(self.selector)")
        .message("workloads: Selector goes with selector, and selector with workloads: Selector")
)]
pub struct Rollout {
    /// How the workloads to roll are found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workloads: Option<WorkloadChoice>,
    /// The workloads to roll, with workloads: List.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["kind", "name"]))]
    pub list: Option<Vec<WorkloadRef>>,
    /// Selects the workloads to roll by their labels, with workloads: Selector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::api::schema::label_selector")]
    #[x_kube(validation = Rule::new("(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)")
        .message("an empty selector would roll every workload of the namespace: add matchLabels or matchExpressions"))]
    pub selector: Option<LabelSelector>,
    /// How many workloads roll at once, once a first one is verified on the new
    /// value. 5 when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_concurrent: Option<i32>,
    /// The workload that gets a new value first. The first of the order when not
    /// set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// The order of workloads. By kind and name when not set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["kind", "name"]))]
    pub order: Vec<OrderEntry>,
    /// How long a workload must stay healthy on a new value before it counts as
    /// verified: ready, and none of its new pods restarted. 10s when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,6}([.][0-9]{1,3})?(ms|s|m|h)){1,4}$') && duration(self) <= duration('24h')")
        .message("write a duration of at most 24h, such as 30s or 5m"))]
    pub healthy_for: Option<Timeout>,
    /// How long a workload may take to be healthy on a new value before it
    /// counts as failed. 10m when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,6}([.][0-9]{1,3})?(ms|s|m|h)){1,4}$') && duration(self) >= duration('10s') && duration(self) <= duration('168h')")
        .message("write a duration from 10s to 168h, such as 10m"))]
    pub progress_deadline: Option<Timeout>,
    /// What is done when a workload fails on a new value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// The least time between two rollouts of one workload. Changes in between
    /// are merged: the next rollout brings the newest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,6}([.][0-9]{1,3})?(ms|s|m|h)){1,4}$') && duration(self) <= duration('8760h')")
        .message("write a duration of at most 8760h, such as 10m or 24h"))]
    pub min_interval: Option<Timeout>,
    /// When workloads may roll. At any time when not set. The Secret itself is
    /// written at once, and a credential that ends does not wait for a window.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub window: Vec<Window>,
}

/// Auto (the default): the Deployments, StatefulSets, DaemonSets and Rollouts (of
/// Argo Rollouts) whose pod template uses a key that changed. List, Selector: these instead, where the
/// use cannot be seen in the template; they roll when any key changes. None:
/// nothing rolls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum WorkloadChoice {
    /// By what their pod templates use.
    #[default]
    Auto,
    /// By name.
    List,
    /// By label.
    Selector,
    /// Not at all.
    None,
}

/// Names a workload of the BotSecret's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadRef {
    /// Deployment, StatefulSet, DaemonSet or Rollout (of Argo Rollouts).
    pub kind: WorkloadKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Kinds of workload that can be rolled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
pub enum WorkloadKind {
    /// apps/v1 Deployment.
    Deployment,
    /// apps/v1 StatefulSet.
    StatefulSet,
    /// apps/v1 DaemonSet.
    DaemonSet,
    /// argoproj.io/v1alpha1 Rollout, where Argo Rollouts is installed.
    Rollout,
}

impl WorkloadKind {
    /// The kind as the API writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Rollout => "Rollout",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Deployment, Self::StatefulSet, Self::DaemonSet, Self::Rollout]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}
