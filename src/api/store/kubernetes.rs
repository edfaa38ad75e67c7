//! Secrets of another namespace or cluster.

#![allow(rustdoc::bare_urls, reason = "kubectl explain shows these texts, where Markdown is noise")]

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Secrets of another namespace of this cluster, or of another cluster, read
/// with the ServiceAccount's own token and so with its own RBAC.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.server) == has(self.audience)")
    .message("another cluster needs both server and audience (the token that it is sent must not be valid here); for this cluster write neither"))]
pub struct KubernetesStore {
    /// The namespace to read Secrets from. The ServiceAccount needs the right
    /// to get them there.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("write a namespace's name: lower-case letters, digits and '-', starting and ending with a letter or digit"))]
    pub remote_namespace: String,
    /// Another cluster's API server. This cluster when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<KubernetesServer>,
    /// The audience that the other cluster's API server accepts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub audience: Option<String>,
}

/// Another cluster's API server.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesServer {
    /// Its URL.
    #[schemars(length(min = 9, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^https://[^/?#@ ]+(/[^?# ]*)?$')")
        .message("write an https URL without credentials, such as https://cluster.example:6443"))]
    pub url: String,
    /// Certificates to trust, PEM or base64 of PEM. The public roots when not
    /// set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 131_072))]
    pub ca_bundle: Option<String>,
}
