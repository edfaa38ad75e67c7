//! The Secret that is written.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::Timeout;

/// The Secret to write.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.creationPolicy) || self.creationPolicy != 'Merge' || !has(self.deletionPolicy) || self.deletionPolicy != 'Delete'")
        .message("a Secret that is merged into is not ours to delete: use deletionPolicy Retain with creationPolicy Merge"),
    validation = Rule::new("!has(self.creationPolicy) || self.creationPolicy != 'Merge' || !has(self.type)")
        .message("a Secret that is merged into keeps the type that it has: leave out type with creationPolicy Merge")
)]
pub struct Target {
    /// Name of the Secret; the BotSecret's own name when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')")
        .message("a Secret's name consists of lower-case letters, digits, '-' and '.', and starts and ends with a letter or digit"))]
    pub name: Option<String>,
    /// Type of the Secret: Opaque (the default), kubernetes.io/tls,
    /// kubernetes.io/dockerconfigjson, kubernetes.io/dockercfg,
    /// kubernetes.io/basic-auth or kubernetes.io/ssh-auth.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("self in ['Opaque', 'kubernetes.io/tls', 'kubernetes.io/dockerconfigjson', 'kubernetes.io/dockercfg', 'kubernetes.io/basic-auth', 'kubernetes.io/ssh-auth']")
        .message("write one of Opaque, kubernetes.io/tls, kubernetes.io/dockerconfigjson, kubernetes.io/dockercfg, kubernetes.io/basic-auth, kubernetes.io/ssh-auth: other types, such as ServiceAccount tokens, are not made from remote values"))]
    pub type_: Option<String>,
    /// Labels for the Secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::api::schema::labels")]
    #[x_kube(
        validation = Rule::new("self.all(k, !k.contains('botsecret.dev/'))").message("labels under botsecret.dev/ are the operator's own: choose another prefix"),
        validation = Rule::new("self.all(k, k.matches('^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))")
            .message("a label's name consists of at most 63 letters, digits, '-', '_' and '.', with a DNS name and a slash before it where it has a prefix"),
        validation = Rule::new("self.all(k, self[k].matches('^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$'))")
            .message("a label's value consists of at most 63 letters, digits, '-', '_' and '.', and starts and ends with a letter or digit")
    )]
    pub labels: BTreeMap<String, String>,
    /// Annotations for the Secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(
        validation = Rule::new("self.all(k, !k.contains('botsecret.dev/'))").message("annotations under botsecret.dev/ are the operator's own: choose another prefix"),
        validation = Rule::new("self.all(k, k.matches('^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))")
            .message("an annotation's name consists of at most 63 letters, digits, '-', '_' and '.', with a DNS name and a slash before it where it has a prefix")
    )]
    pub annotations: BTreeMap<String, String>,
    /// Keys that are made of the values that were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
    /// Who makes the Secret, and whether it goes with the BotSecret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_policy: Option<CreationPolicy>,
    /// Both values for a while: what a key held before lies beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_previous: Option<KeepPreviousSpec>,
    /// What happens to the Secret when every remote secret is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

/// Both values for a while: what a key held before lies beside it, for keys that
/// bots verify with, such as webhook secrets. No workload rolls for it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeepPreviousSpec {
    /// What is put after the key's name. _PREVIOUS when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[-._a-zA-Z0-9]+$')")
        .message("a Secret's key consists of letters, digits, '-', '_' and '.'"))]
    pub suffix: Option<String>,
    /// How long the value before stays at least; it goes once every workload is
    /// verified on the new one. 1h when not set.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,6}([.][0-9]{1,3})?(ms|s|m|h)){1,4}$') && duration(self) >= duration('1s') && duration(self) <= duration('8760h')")
        .message("write a duration from 1s to 8760h, such as 1h"))]
    pub for_: Option<Timeout>,
    /// Only for these keys. For all when not set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub keys: Vec<String>,
}

/// Keys that are made of the values that were read.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// Templates by key. They know each value that was read by its key, and
    /// all of them in the map secrets: postgres://bot:{{ PASSWORD | urlencode }}@db.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 100))]
    #[x_kube(
        validation = Rule::new("self.all(k, k.matches('^[-._a-zA-Z0-9]+$') && k != '.' && !k.startsWith('..') && size(k) <= 253)")
            .message("a Secret's key consists of letters, digits, '-', '_' and '.', and must not be '.' or start with '..'"),
        validation = Rule::new("self.all(k, size(self[k]) <= 65536)").message("a template has at most 65536 characters")
    )]
    pub data: BTreeMap<String, String>,
    /// Replace (the default): the Secret holds the templates' keys only. Merge:
    /// these beside the values that were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge_policy: Option<TemplateMergePolicy>,
}

/// Replace (the default): the Secret holds the templates' keys only. Merge:
/// these beside the values that were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TemplateMergePolicy {
    /// The templates' keys only.
    #[default]
    Replace,
    /// Beside what was read.
    Merge,
}

/// Owner (the default): the Secret is made, and goes with the BotSecret.
/// Orphan: it is made, and stays. Merge: keys are put into a Secret that
/// somebody else made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum CreationPolicy {
    /// Made by the operator; garbage-collected with the BotSecret.
    #[default]
    Owner,
    /// Made by the operator; stays when the BotSecret goes.
    Orphan,
    /// Made by somebody else; the operator adds its keys.
    Merge,
}

/// What happens when every remote secret is gone. Retain (the default) keeps
/// the last good data; Delete deletes the Secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The last good data stays.
    #[default]
    Retain,
    /// The Secret is deleted.
    Delete,
}

/// The types of Secret that may be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretType {
    /// `Opaque`.
    #[default]
    Opaque,
    /// `kubernetes.io/tls`.
    Tls,
    /// `kubernetes.io/dockerconfigjson`.
    DockerConfigJson,
    /// `kubernetes.io/dockercfg`.
    DockerCfg,
    /// `kubernetes.io/basic-auth`.
    BasicAuth,
    /// `kubernetes.io/ssh-auth`.
    SshAuth,
}

impl SecretType {
    /// The type of this name, if it is one that may be written.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "Opaque" => Self::Opaque,
            "kubernetes.io/tls" => Self::Tls,
            "kubernetes.io/dockerconfigjson" => Self::DockerConfigJson,
            "kubernetes.io/dockercfg" => Self::DockerCfg,
            "kubernetes.io/basic-auth" => Self::BasicAuth,
            "kubernetes.io/ssh-auth" => Self::SshAuth,
            _ => return None,
        })
    }

    /// The name that the API knows it by.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Opaque => "Opaque",
            Self::Tls => "kubernetes.io/tls",
            Self::DockerConfigJson => "kubernetes.io/dockerconfigjson",
            Self::DockerCfg => "kubernetes.io/dockercfg",
            Self::BasicAuth => "kubernetes.io/basic-auth",
            Self::SshAuth => "kubernetes.io/ssh-auth",
        }
    }
}
