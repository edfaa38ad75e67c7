//! What is kept of a Deployment, StatefulSet, DaemonSet or Rollout.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::apps::v1::{DaemonSet, Deployment, StatefulSet},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
    jiff::Timestamp,
};
use kube::{Resource, api::ObjectMeta};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use super::secret_use::{SecretUse, UsesSecrets, null_is_default, uses_of};
use crate::api::WorkloadKind;

/// Names one workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadId {
    /// Its namespace.
    pub namespace: String,
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
}

/// How its controller replaces pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateStrategy {
    /// By itself, all of them (RollingUpdate, Recreate).
    Automatic,
    /// A StatefulSet whose pods below this ordinal are left alone.
    Partition(i32),
    /// Only pods that somebody deletes.
    OnDelete,
}

/// How far its controller is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Whether the controller has seen the current template and says that every
    /// pod that it wants is of it.
    pub settled: bool,
    /// Whether as many pods as it wants are available, of whatever template.
    pub serving: bool,
    /// Whether its controller has given the rollout of the current template up.
    pub failed: bool,
}

/// What is kept of a workload: what it uses and where its rollout stands.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadFacts {
    /// Which one.
    pub id: WorkloadId,
    /// Its UID.
    pub uid: String,
    /// The version that a patch must name as its precondition.
    pub resource_version: String,
    /// Its generation.
    pub generation: Option<i64>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether its rollouts are paused: by a person, or by a step of a Rollout.
    pub paused: bool,
    /// How its controller replaces pods.
    pub strategy: UpdateStrategy,
    /// How far its controller is.
    pub progress: Progress,
    /// Selects its pods.
    pub selector: LabelSelector,
    /// The Secrets that its template uses.
    pub uses: Vec<SecretUse>,
    /// Rollout markers in its template.
    pub markers: BTreeMap<String, String>,
    /// Delivery records on itself.
    pub records: BTreeMap<String, String>,
    /// Where its template is, if it is not its own.
    pub template_from: Option<Box<TemplateFrom>>,
}

/// The object whose pod template a Rollout takes (`spec.workloadRef`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateFrom {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its UID, once it was read.
    pub uid: String,
    /// Its version, once it was read.
    pub resource_version: String,
    /// Of which generation of it the status speaks.
    pub observed: Option<i64>,
}

impl WorkloadFacts {
    /// How it uses `secret`.
    #[must_use]
    pub fn uses(&self, secret: &str) -> Option<&SecretUse> {
        self.uses.iter().find(|found| found.secret == secret)
    }
}

/// The fields that are decoded of a workload of any kind.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SpecView {
    replicas: Option<i32>,
    #[serde(deserialize_with = "null_is_default")]
    paused: bool,
    #[serde(deserialize_with = "null_is_default")]
    selector: LabelSelector,
    #[serde(deserialize_with = "null_is_default")]
    template: TemplateView,
    /// Of StatefulSets and DaemonSets; a Deployment always replaces its pods.
    #[serde(deserialize_with = "null_is_default")]
    update_strategy: StrategyView,
    /// Of Rollouts: they take the template of another object.
    workload_ref: Option<RefView>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RefView {
    #[serde(deserialize_with = "null_is_default")]
    kind: String,
    #[serde(deserialize_with = "null_is_default")]
    name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct TemplateView {
    #[serde(deserialize_with = "null_is_default")]
    metadata: TemplateMeta,
    #[serde(deserialize_with = "null_is_default")]
    spec: UsesSecrets,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct TemplateMeta {
    #[serde(deserialize_with = "null_is_default")]
    annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StrategyView {
    #[serde(rename = "type")]
    type_: Option<String>,
    rolling_update: Option<PartitionView>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PartitionView {
    partition: Option<i32>,
}

/// What the kinds say of themselves; each fills its own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatusView {
    #[serde(deserialize_with = "generation")]
    observed_generation: i64,
    #[serde(deserialize_with = "null_is_default")]
    replicas: i32,
    #[serde(deserialize_with = "null_is_default")]
    updated_replicas: i32,
    #[serde(deserialize_with = "null_is_default")]
    available_replicas: i32,
    #[serde(deserialize_with = "null_is_default")]
    current_revision: String,
    #[serde(deserialize_with = "null_is_default")]
    update_revision: String,
    #[serde(deserialize_with = "null_is_default")]
    desired_number_scheduled: i32,
    #[serde(deserialize_with = "null_is_default")]
    updated_number_scheduled: i32,
    #[serde(deserialize_with = "null_is_default")]
    number_available: i32,
    #[serde(deserialize_with = "null_is_default")]
    ready_replicas: i32,
    #[serde(deserialize_with = "null_is_default")]
    conditions: Vec<ConditionView>,
    /// Of Rollouts: Healthy, Progressing, Paused or Degraded.
    #[serde(deserialize_with = "null_is_default")]
    phase: String,
    /// Of Rollouts: the generation of what spec.workloadRef names.
    #[serde(deserialize_with = "null_is_default")]
    workload_observed_generation: String,
    /// Of Rollouts: why the controller paused it; whoever resumes it clears them.
    #[serde(deserialize_with = "null_is_default")]
    pause_conditions: Vec<IgnoredAny>,
}

/// A number; of a Rollout it is text. What is no number is of a controller before
/// 0.10, and counts as seen, as in Argo's own isGenerationObserved
/// (utils/rollout/rolloututil.go).
fn generation<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Observed {
        Number(i64),
        Text(String),
    }
    Ok(match Option::<Observed>::deserialize(deserializer)? {
        None => 0,
        Some(Observed::Number(number)) => number,
        Some(Observed::Text(text)) => text.parse().unwrap_or(i64::MAX),
    })
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ConditionView {
    #[serde(rename = "type")]
    type_: String,
    status: String,
    reason: Option<String>,
}

/// A workload as it is decoded: pruned while it is read, because a full object
/// costs 28 kB of memory and its metadata with managedFields still 17.
pub trait WorkloadView: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static
where
    Self: serde::de::DeserializeOwned,
{
    /// Its kind.
    const KIND: WorkloadKind;

    /// Its decoded parts.
    fn parts(&self) -> (&ObjectMeta, &SpecView, &StatusView);

    /// What is kept of it.
    fn facts(&self) -> WorkloadFacts {
        let (meta, spec, status) = self.parts();
        facts(Self::KIND, meta, spec, status)
    }
}

macro_rules! workload_view {
    ($view:ident, $inherited:ident, $kind:expr) => {
        #[doc = concat!("The decoded part of a ", stringify!($inherited), ".")]
        #[derive(Clone, Debug, Deserialize, Resource)]
        #[resource(inherit = $inherited)]
        pub struct $view {
            metadata: ObjectMeta,
            spec: SpecView,
            #[serde(default)]
            status: StatusView,
        }

        impl WorkloadView for $view {
            const KIND: WorkloadKind = $kind;

            fn parts(&self) -> (&ObjectMeta, &SpecView, &StatusView) {
                (&self.metadata, &self.spec, &self.status)
            }
        }
    };
}

workload_view!(DeploymentView, Deployment, WorkloadKind::Deployment);
workload_view!(StatefulSetView, StatefulSet, WorkloadKind::StatefulSet);
workload_view!(DaemonSetView, DaemonSet, WorkloadKind::DaemonSet);

fn facts(kind: WorkloadKind, meta: &ObjectMeta, spec: &SpecView, status: &StatusView) -> WorkloadFacts {
    let with_prefix = |annotations: &BTreeMap<String, String>, prefix: &str| {
        annotations.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    WorkloadFacts {
        id: WorkloadId {
            namespace: meta.namespace.clone().unwrap_or_default(),
            kind,
            name: meta.name.clone().unwrap_or_default(),
        },
        uid: meta.uid.clone().unwrap_or_default(),
        resource_version: meta.resource_version.clone().unwrap_or_default(),
        generation: meta.generation,
        created: meta.creation_timestamp.as_ref().map(|time| time.0),
        deleting: meta.deletion_timestamp.is_some(),
        paused: spec.paused || is_observed(meta, status) && !status.pause_conditions.is_empty(),
        strategy: strategy(kind, &spec.update_strategy),
        progress: progress(kind, meta, spec, status),
        selector: spec.selector.clone(),
        uses: uses_of(&spec.template.spec),
        markers: with_prefix(&spec.template.metadata.annotations, "rollout.botsecret.dev/"),
        records: meta
            .annotations
            .as_ref()
            .map(|annotations| with_prefix(annotations, "delivery.botsecret.dev/"))
            .unwrap_or_default(),
        template_from: spec.workload_ref.as_ref().map(|reference| {
            Box::new(TemplateFrom {
                kind: reference.kind.clone(),
                name: reference.name.clone(),
                uid: String::new(),
                resource_version: String::new(),
                observed: status.workload_observed_generation.parse().ok(),
            })
        }),
    }
}

fn strategy(kind: WorkloadKind, view: &StrategyView) -> UpdateStrategy {
    let partition = view.rolling_update.as_ref().and_then(|rolling| rolling.partition).unwrap_or(0);
    match kind {
        WorkloadKind::Deployment | WorkloadKind::Rollout => UpdateStrategy::Automatic,
        _ if view.type_.as_deref() == Some("OnDelete") => UpdateStrategy::OnDelete,
        WorkloadKind::StatefulSet if partition > 0 => UpdateStrategy::Partition(partition),
        _ => UpdateStrategy::Automatic,
    }
}

fn progress(kind: WorkloadKind, meta: &ObjectMeta, spec: &SpecView, status: &StatusView) -> Progress {
    let observed = is_observed(meta, status);
    let wanted = spec.replicas.unwrap_or(1);
    let serving = match kind {
        WorkloadKind::Deployment | WorkloadKind::Rollout => status.available_replicas >= wanted,
        // Its available replicas are those that were ready for minReadySeconds.
        WorkloadKind::StatefulSet => status.ready_replicas >= wanted,
        WorkloadKind::DaemonSet => status.number_available >= status.desired_number_scheduled,
    };
    let given_up = |one: &ConditionView| {
        one.type_ == "Progressing" && one.status == "False" && one.reason.as_deref() == Some("ProgressDeadlineExceeded")
    };
    // Argo Rollouts calls one so that was aborted, or exceeded its deadline.
    let degraded = kind == WorkloadKind::Rollout && status.phase == "Degraded";
    Progress {
        settled: observed && settled(kind, strategy(kind, &spec.update_strategy), wanted, status),
        serving,
        failed: observed && (degraded || status.conditions.iter().any(given_up)),
    }
}

fn is_observed(meta: &ObjectMeta, status: &StatusView) -> bool {
    status.observed_generation >= meta.generation.unwrap_or(0)
}

/// The conditions under which `kubectl rollout status` calls a rollout done. Of a
/// StatefulSet whose pods somebody else replaces only that all of them are ready:
/// its controller moves currentRevision by RollingUpdate alone.
fn settled(kind: WorkloadKind, strategy: UpdateStrategy, wanted: i32, status: &StatusView) -> bool {
    match kind {
        WorkloadKind::Deployment => {
            status.updated_replicas >= wanted
                && status.replicas <= status.updated_replicas
                && status.available_replicas >= status.updated_replicas
        }
        WorkloadKind::StatefulSet if strategy != UpdateStrategy::Automatic => status.ready_replicas >= wanted,
        WorkloadKind::StatefulSet => {
            status.updated_replicas >= wanted && status.current_revision == status.update_revision
        }
        WorkloadKind::DaemonSet => {
            status.updated_number_scheduled >= status.desired_number_scheduled
                && status.number_available >= status.desired_number_scheduled
        }
        // With every step and the switch over behind it: CalculateRolloutPhase in
        // Argo's utils/rollout/rolloututil.go.
        WorkloadKind::Rollout => status.phase == "Healthy",
    }
}

#[cfg(test)]
#[path = "workload_tests.rs"]
mod tests;
