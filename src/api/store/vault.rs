//! HashiCorp Vault and OpenBao.

#![allow(rustdoc::bare_urls, reason = "kubectl explain shows these texts, where Markdown is noise")]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretKeyRef;

/// HashiCorp Vault or OpenBao.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VaultStore {
    /// Address, such as https://vault.example:8200.
    #[schemars(length(min = 8, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^/?#@ ]+/?$')")
        .message("write scheme, host and port only, such as https://vault.example:8200"))]
    pub address: String,
    /// The Vault namespace (Vault Enterprise, OpenBao), sent as
    /// X-Vault-Namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.matches('^[ -~]+$')").message("a Vault namespace consists of printable ASCII characters"))]
    pub namespace: Option<String>,
    /// Mount of the key/value engine, so that remote keys are paths below it.
    /// When not set, a remote key starts with its mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub path: Option<String>,
    /// Version of the key/value engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VaultKvVersion>,
    /// Certificates to trust, PEM or base64 of PEM. The public roots when not
    /// set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 131_072))]
    pub ca_bundle: Option<String>,
    /// How to log in.
    pub auth: VaultAuth,
}

/// Version of the key/value engine, v1 or v2. Looked up once a mount when not
/// set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
pub enum VaultKvVersion {
    /// Without versions.
    #[serde(rename = "v1")]
    V1,
    /// With versions.
    #[serde(rename = "v2")]
    V2,
}

/// How to log in to Vault. kubernetes and jwt use the BotSecret's own
/// ServiceAccount; the others a stored credential, as the last resort.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.kubernetes), has(self.jwt), has(self.appRole), has(self.cert), has(self.tokenSecretRef)].filter(set, set).size() == 1")
    .message("write exactly one way to log in: kubernetes, jwt, appRole, cert or tokenSecretRef"))]
pub struct VaultAuth {
    /// The auth method kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<VaultKubernetesAuth>,
    /// The auth method jwt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<VaultJwtAuth>,
    /// The auth method approle, with a secret id from a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_role: Option<VaultAppRoleAuth>,
    /// The auth method cert, with a client certificate from a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<VaultCertAuth>,
    /// A token from a Secret. It is used as it is, and renewed where it can be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretKeyRef>,
}

impl VaultAuth {
    pub(super) fn secret_refs(&self) -> Vec<&SecretKeyRef> {
        let app_role = self.app_role.iter().flat_map(|auth| [auth.role_ref.as_ref(), Some(&auth.secret_ref)]).flatten();
        let cert = self.cert.iter().flat_map(|auth| [&auth.client_cert, &auth.secret_ref]);
        app_role.chain(cert).chain(&self.token_secret_ref).collect()
    }
}

/// The auth method `approle`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.roleId) != has(self.roleRef)").message("write one of roleId and roleRef"))]
pub struct VaultAppRoleAuth {
    /// Where the auth method is mounted; "approle" when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub path: Option<String>,
    /// The role id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub role_id: Option<String>,
    /// The role id, from a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_ref: Option<SecretKeyRef>,
    /// The secret id, from a Secret.
    pub secret_ref: SecretKeyRef,
}

/// The auth method `cert`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VaultCertAuth {
    /// Where the auth method is mounted; "cert" when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub path: Option<String>,
    /// The certificate role to log in to. Any that fits when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub role: Option<String>,
    /// The client certificate, with its chain, PEM.
    pub client_cert: SecretKeyRef,
    /// Its private key, PEM.
    pub secret_ref: SecretKeyRef,
}

/// The auth method `kubernetes`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VaultKubernetesAuth {
    /// The Vault role to log in to.
    #[schemars(length(min = 1, max = 512))]
    pub role: String,
    /// Where the auth method is mounted; "kubernetes" when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub mount_path: Option<String>,
    /// The audience of the token that is sent; "vault" when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub audience: Option<String>,
}

/// The auth method `jwt`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VaultJwtAuth {
    /// The Vault role to log in to.
    #[schemars(length(min = 1, max = 512))]
    pub role: String,
    /// Where the auth method is mounted; "jwt" when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub path: Option<String>,
    /// The audience of the token that is sent; "vault" when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub audience: Option<String>,
}
