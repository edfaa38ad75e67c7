//! Which remote values are read, and which keys they fill.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StoreRef;

/// One key of the Secret and the remote value that fills it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataEntry {
    /// The key in the Secret.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[-._a-zA-Z0-9]+$') && self != '.' && !self.startsWith('..')")
        .message("a Secret's key consists of letters, digits, '-', '_' and '.', and must not be '.' or start with '..'"))]
    pub secret_key: String,
    /// The remote value.
    pub remote_ref: RemoteRef,
    /// The store of this entry, where it is not the BotSecret's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_ref: Option<StoreRef>,
    /// Whether a change of this key rolls workloads. true when not set, but for
    /// access tokens of an oauth2 store, which change too often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolls: Option<bool>,
}

/// Names one value in a manager.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemoteRef {
    /// The remote secret, as its manager names it: a path in Vault, a Secret's
    /// name in a kubernetes store.
    #[schemars(length(min = 1, max = 2048))]
    pub key: String,
    /// One property of the remote secret: a key of exactly this name, else a
    /// path into nested JSON such as exchange.key. The whole when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub property: Option<String>,
    /// Pins a version of the remote secret. The newest when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub version: Option<String>,
    /// How the value is encoded at the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoding_strategy: Option<DecodingStrategy>,
    /// Fetch takes what the manager keeps about the secret (custom metadata)
    /// instead of its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_policy: Option<MetadataPolicy>,
}

/// None (the default), Base64, Base64URL, or Auto: decoded where it is
/// base64 of either kind, else taken as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
pub enum DecodingStrategy {
    /// As it is.
    #[default]
    None,
    /// Base64, RFC 4648 section 4.
    Base64,
    /// Base64 for URLs, RFC 4648 section 5.
    Base64URL,
    /// Decoded where it can be.
    Auto,
}

/// None (the default): the value. Fetch: what the manager keeps about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
pub enum MetadataPolicy {
    /// The value.
    #[default]
    None,
    /// The metadata.
    Fetch,
}

/// Remote secrets of which several keys are made.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.extract), has(self.find), has(self.dynamic)].filter(set, set).size() == 1")
        .message("write exactly one of extract, find and dynamic")
)]
pub struct DataFromEntry {
    /// Every property of one remote secret becomes a key of the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extract: Option<ExtractRef>,
    /// Every remote secret that is found becomes a key of the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub find: Option<FindRef>,
    /// A credential that is issued for this BotSecret alone, and ends. Every
    /// property of it becomes a key of the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic: Option<DynamicRef>,
    /// How the names of the keys are changed, one step after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub rewrite: Vec<Rewrite>,
    /// What happens where an earlier dataFrom entry has filled a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_collision: Option<OnCollision>,
    /// The store of this entry, where it is not the BotSecret's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_ref: Option<StoreRef>,
    /// Whether a change of these keys rolls workloads. true when not set, but
    /// for access tokens of an oauth2 store, which change too often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolls: Option<bool>,
}

/// Refuse (the default): nothing is written. Replace: this entry's value
/// counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum OnCollision {
    /// An error.
    #[default]
    Refuse,
    /// The later entry wins.
    Replace,
}

/// Which remote secrets are looked for. What is written must all hold.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.path) || has(self.name) || (has(self.tags) && size(self.tags) > 0)")
        .message("everything would be found: write path, name or tags")
)]
pub struct FindRef {
    /// Those below this path, or whose name begins with it. The path is left
    /// out of the keys' names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub path: Option<String>,
    /// Those with such a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<FindName>,
    /// Those with all of these tags (labels).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub tags: BTreeMap<String, String>,
    /// How the values are encoded at the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoding_strategy: Option<DecodingStrategy>,
}

/// A name to look for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FindName {
    /// A regular expression that some part of the name matches.
    #[schemars(length(min = 1, max = 1024))]
    pub regexp: String,
}

/// A credential that is issued when it is due, and ends.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.parameters) || (has(self.method) && self.method == 'POST')")
        .message("parameters are sent with method POST"),
    validation = Rule::new("!has(self.alternate) || !has(self.method) || self.method == 'GET'")
        .message("paths that take turns are read: leave out method with alternate"),
    validation = Rule::new("!has(self.alternate) || self.alternate != self.path")
        .message("alternate is another path than path: the two take turns")
)]
pub struct DynamicRef {
    /// The path that issues it, such as database/creds/trading-bot or
    /// pki/issue/bots.
    #[schemars(length(min = 1, max = 2048))]
    pub path: String,
    /// A second path of the same kind, which takes turns with the first: of two
    /// static users the one whose password is good for longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub alternate: Option<String>,
    /// GET (the default) or POST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<DynamicMethod>,
    /// What is sent with POST, such as common_name and ttl.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub parameters: BTreeMap<String, String>,
}

/// GET (the default) or POST.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
pub enum DynamicMethod {
    /// Read.
    #[default]
    #[serde(rename = "GET")]
    Get,
    /// Write, with parameters.
    #[serde(rename = "POST")]
    Post,
}

/// One step that changes names of keys.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.regexp), has(self.transform), has(self.prefix)].filter(set, set).size() == 1")
        .message("write exactly one of regexp, transform and prefix")
)]
pub struct Rewrite {
    /// Every match is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regexp: Option<RewriteRegexp>,
    /// A template makes the new name of the old one, which it knows as value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform: Option<RewriteTransform>,
    /// This is put before the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub prefix: Option<String>,
}

/// Replaces every match of a regular expression.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RewriteRegexp {
    /// What is replaced.
    #[schemars(length(min = 1, max = 1024))]
    pub source: String,
    /// What stands in its place; $1 and ${name} are groups of the match.
    #[schemars(length(max = 1024))]
    pub target: String,
}

/// Replaces by a template.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RewriteTransform {
    /// Such as {{ value | upper }}.
    #[schemars(length(min = 1, max = 4096))]
    pub template: String,
}

/// Names a remote secret whose properties all become keys.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExtractRef {
    /// The remote secret, as its manager names it.
    #[schemars(length(min = 1, max = 2048))]
    pub key: String,
    /// A property that holds an object: its members become the keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub property: Option<String>,
    /// Pins a version of the remote secret. The newest when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub version: Option<String>,
    /// How the value is encoded at the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoding_strategy: Option<DecodingStrategy>,
    /// Fetch takes what the manager keeps about the secret (custom metadata)
    /// instead of its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_policy: Option<MetadataPolicy>,
}
