//! What happens to the workloads when a value rotates.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
}

/// Auto (the default): the Deployments, StatefulSets and DaemonSets whose pod
/// template uses a key that changed. List, Selector: these instead, where the
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
    /// Deployment, StatefulSet or DaemonSet.
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
}

impl WorkloadKind {
    /// The kind as the API writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
        }
    }
}
