//! `BotSecret`: which values a bot needs, as whom they are read, where they go.

#![allow(clippy::duplicated_attributes, reason = "every printer column repeats them")]

mod candidate;
mod data;
mod rollout;
mod rotation;
mod strategy;
mod target;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BotSecretStatus, Interval};

pub use candidate::Verify;
pub use data::{
    DataEntry, DataFromEntry, DecodingStrategy, DynamicMethod, DynamicRef, ExtractRef, FindName, FindRef,
    MetadataPolicy, OnCollision, RemoteRef, Rewrite, RewriteRegexp, RewriteTransform,
};
pub use rollout::{Rollout, WorkloadChoice, WorkloadKind, WorkloadRef};
pub use rotation::{Generate, KeyAlgorithm, KeyPair, Password, Rotation, RotationSchedule};
pub use strategy::{Canary, OnFailure, OrderEntry, Window, WindowKind};
pub use target::{CreationPolicy, DeletionPolicy, KeepPreviousSpec, SecretType, Target, Template, TemplateMergePolicy};

/// A Secret kept true to values in external secret managers, read with the
/// identity of the bot's own ServiceAccount.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, CustomResource, KubeSchema)]
#[kube(
    group = "botsecret.dev",
    version = "v1alpha1",
    kind = "BotSecret",
    plural = "botsecrets",
    singular = "botsecret",
    namespaced,
    status = "BotSecretStatus",
    derive = "PartialEq",
    shortname = "bsec",
    category = "botsecret-all",
    doc = "A Secret kept true to values in external secret managers, read with the identity of the bot's own ServiceAccount.",
    printcolumn(name = "Store", type_ = "string", json_path = ".spec.storeRef.name"),
    printcolumn(name = "Refresh", type_ = "string", json_path = ".spec.refreshInterval"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(
        name = "Rolled-Out",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"RolledOut\")].status"
    ),
    printcolumn(name = "Rotation", type_ = "string", json_path = ".status.rotation.phase"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.data) && size(self.data) > 0) || (has(self.dataFrom) && size(self.dataFrom) > 0)")
        .message("nothing to read: list at least one entry under data or dataFrom"),
    validation = Rule::new("!has(self.target) || !has(self.target.keepPrevious) || !has(self.dataFrom) || !self.dataFrom.exists(d, has(d.dynamic))")
        .message("a leased credential lives on by its lease and is no value to keep: take keepPrevious out, or dataFrom.dynamic into a BotSecret of its own"),
    validation = Rule::new("has(self.storeRef) || ((!has(self.data) || self.data.all(d, has(d.storeRef))) && (!has(self.dataFrom) || self.dataFrom.all(d, has(d.storeRef))))")
        .message("no store: set storeRef, or a storeRef on every entry of data and dataFrom"),
    validation = Rule::new("(has(self.target) && has(self.target.type) ? self.target.type : 'Opaque') == (has(oldSelf.target) && has(oldSelf.target.type) ? oldSelf.target.type : 'Opaque') || (has(self.target) && has(self.target.name) ? self.target.name : '') != (has(oldSelf.target) && has(oldSelf.target.name) ? oldSelf.target.name : '')")
        .message("a Secret's type cannot be changed: give the target a new name together with the new type"),
    validation = Rule::new("!has(self.rotation) || !has(self.rotation.generate) || self.rotation.generate.all(g, has(self.data) && self.data.exists(d, d.secretKey == g.secretKey))")
        .message("rotation.generate names a key that data lacks: add the entry of data that reads it, whose remoteRef is where it is written to"),
    validation = Rule::new("!has(self.rotation) || !has(self.rotation.generate) || !has(self.data) || self.data.all(d, !self.rotation.generate.exists(g, g.secretKey == d.secretKey) || (!has(d.remoteRef.version) && (!has(d.remoteRef.decodingStrategy) || d.remoteRef.decodingStrategy == 'None') && (!has(d.remoteRef.metadataPolicy) || d.remoteRef.metadataPolicy == 'None')))")
        .message("what rotation.generate makes must be read as it was written: leave version, decodingStrategy and metadataPolicy out of its remoteRef"),
    validation = Rule::new("!has(self.rotation) || !has(self.rotation.generate) || self.rotation.generate.all(g, !has(g.keyPair) || !has(g.keyPair.publicKeyProperty) || (has(self.data) && self.data.exists(d, d.secretKey == g.secretKey && has(d.remoteRef.property) && d.remoteRef.property != g.keyPair.publicKeyProperty)))")
        .message("the public key lies beside the private one: write a remoteRef.property for the private key, other than publicKeyProperty"),
    validation = Rule::new("!has(self.rotation) || !(has(self.rotation.every) || has(self.rotation.schedule)) || has(self.rotation.generate) || (has(self.data) && size(self.data) > 0) || (has(self.dataFrom) && self.dataFrom.exists(d, has(d.extract)))")
        .message("the manager rotates what data and dataFrom.extract read, and there is none of either: name remote secrets there, or take every and schedule out"),
    validation = Rule::new("!has(self.rotation) || !(has(self.rotation.every) || has(self.rotation.schedule)) || has(self.rotation.generate) || !has(self.dataFrom) || !self.dataFrom.exists(d, has(d.dynamic))")
        .message("a leased credential is replaced by its own clock: take dataFrom.dynamic into a BotSecret of its own, or every and schedule out")
)]
pub struct BotSecretSpec {
    /// The ServiceAccount of this namespace whose identity reads the values.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')")
        .message("write a ServiceAccount's name: lower-case letters, digits, '-' and '.', starting and ending with a letter or digit"))]
    pub service_account_name: String,
    /// The store that entries without a storeRef of their own read from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_ref: Option<StoreRef>,
    /// How often the values are read again, as a Go duration such as 30s or
    /// 1h30m. 0 reads once. One hour when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("string(self) == '0' || (string(self).matches('^([0-9]{1,6}([.][0-9]{1,3})?(ms|s|m|h)){1,4}$') && (duration(string(self)) == duration('0s') || duration(string(self)) >= duration('1s')))")
        .message("write a duration of at least 1s, such as 30s, 5m or 1h30m (units: ms, s, m, h), or 0 to read once"))]
    pub refresh_interval: Option<Interval>,
    /// Stops reading, writing and rolling until set to false again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// Single keys of the Secret, each with the remote value that fills it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["secretKey"]))]
    pub data: Vec<DataEntry>,
    /// Remote secrets of which several keys are made. Where a key is filled
    /// twice, data wins over dataFrom; two dataFrom entries that fill the same
    /// key are refused, unless the later one has onCollision: Replace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub data_from: Vec<DataFromEntry>,
    /// The Secret to write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// What happens to the workloads that use the Secret when a value rotates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Tries a new value before anybody reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
    /// How old a value may become, and who makes the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
}

/// Names a store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreRef {
    /// Name of the store.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<StoreKind>,
}

/// BotSecretStore (of this namespace; the default) or ClusterBotSecretStore.
// Here and below: kubectl explain shows an enum's own text for an optional
// field, not the field's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
pub enum StoreKind {
    /// A store of the BotSecret's own namespace.
    #[default]
    BotSecretStore,
    /// A store that an administrator offers to several namespaces.
    ClusterBotSecretStore,
}

impl BotSecretSpec {
    /// The target, with everything defaulted.
    #[must_use]
    pub fn target(&self) -> std::borrow::Cow<'_, Target> {
        self.target.as_ref().map_or_else(|| std::borrow::Cow::Owned(Target::default()), std::borrow::Cow::Borrowed)
    }

    /// How often to read again.
    #[must_use]
    pub fn interval(&self) -> Interval {
        self.refresh_interval.unwrap_or(Interval::DEFAULT)
    }

    /// How the workloads to roll are found.
    #[must_use]
    pub fn workload_choice(&self) -> WorkloadChoice {
        self.rollout.as_ref().and_then(|rollout| rollout.workloads).unwrap_or_default()
    }
}

impl BotSecret {
    /// Name of the Secret that this BotSecret writes.
    #[must_use]
    pub fn target_name(&self) -> &str {
        self.spec
            .target
            .as_ref()
            .and_then(|target| target.name.as_deref())
            .or(self.metadata.name.as_deref())
            .unwrap_or_default()
    }
}
