//! `BotSecretStore` and `ClusterBotSecretStore`: where values come from.

#![allow(clippy::duplicated_attributes, reason = "every printer column repeats them")]
#![allow(rustdoc::bare_urls, reason = "kubectl explain shows these texts, where Markdown is noise")]

mod aws;
mod azure;
mod gcp;
mod kubernetes;
mod oauth2;
mod vault;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::Timeout;

pub use aws::{AwsAuth, AwsJwtAuth, AwsSecretAuth, AwsService, AwsSessionTag, AwsStore};
pub use azure::{
    AzureAuth, AzureAuthority, AzureEnvironment, AzureManagedIdentity, AzureSecretAuth, AzureStore,
    AzureWorkloadIdentity,
};
pub use gcp::{GcpAuth, GcpFederation, GcpGkeIdentity, GcpImpersonation, GcpSecretAuth, GcpStore, GcpTokenEndpoints};
pub use kubernetes::{KubernetesServer, KubernetesStore};
pub use oauth2::{OAuth2Assertion, OAuth2Auth, OAuth2ClientSecret, OAuth2Exchange, OAuth2Store};
pub use vault::{
    VaultAppRoleAuth, VaultAuth, VaultCertAuth, VaultJwtAuth, VaultKubernetesAuth, VaultKvVersion, VaultStore,
};

/// A secret manager that BotSecrets of the same namespace read from, each with
/// the identity of its own ServiceAccount.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, CustomResource, KubeSchema)]
#[kube(
    group = "botsecret.dev",
    version = "v1alpha1",
    kind = "BotSecretStore",
    plural = "botsecretstores",
    singular = "botsecretstore",
    namespaced,
    derive = "PartialEq",
    shortname = "bstore",
    category = "botsecret-all",
    doc = "A secret manager that BotSecrets of the same namespace read from, each with the identity of its own ServiceAccount.",
    printcolumn(name = "AWS", type_ = "string", json_path = ".spec.aws.region", priority = 1),
    printcolumn(name = "Azure", type_ = "string", json_path = ".spec.azure.vaultUrl", priority = 1),
    printcolumn(name = "GCP", type_ = "string", json_path = ".spec.gcp.projectID", priority = 1),
    printcolumn(
        name = "Namespace-Read",
        type_ = "string",
        json_path = ".spec.kubernetes.remoteNamespace",
        priority = 1
    ),
    printcolumn(name = "OAuth2", type_ = "string", json_path = ".spec.oauth2.tokenURL", priority = 1),
    printcolumn(name = "Vault", type_ = "string", json_path = ".spec.vault.address", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.aws) || (!has(self.aws.stsEndpoint) && !has(self.aws.auth.ambient))")
        .message("aws.stsEndpoint and aws.auth.ambient are for a ClusterBotSecretStore: a namespace's store uses the public STS and the bot's own identity, see auth.jwt"),
    validation = Rule::new("!has(self.azure) || (!has(self.azure.authority) && !has(self.azure.auth.ambient))")
        .message("azure.authority and azure.auth.ambient are for a ClusterBotSecretStore: a namespace's store uses the cloud's own Entra ID and the bot's own identity, see auth.workloadIdentity"),
    validation = Rule::new("!has(self.gcp) || (!has(self.gcp.tokenEndpoints) && !has(self.gcp.auth.ambient))")
        .message("gcp.tokenEndpoints and gcp.auth.ambient are for a ClusterBotSecretStore: a namespace's store uses Google's own STS and the bot's own identity, see auth.workloadIdentityFederation"),
    validation = Rule::new("!has(self.azure) || !has(self.azure.caBundle)")
        .message("azure.caBundle is for a ClusterBotSecretStore: the bot's access token is sent to the vault, whose certificate a namespace's store checks against the public roots"),
    validation = Rule::new("!has(self.gcp) || (!has(self.gcp.caBundle) && (!has(self.gcp.endpoint) || self.gcp.endpoint.matches('^https://([a-z0-9]([-a-z0-9]*[a-z0-9])?[.])+googleapis[.]com(:443)?/?$')))")
        .message("gcp.caBundle, and a gcp.endpoint that is not https below googleapis.com, are for a ClusterBotSecretStore: the bot's access token is sent there")
)]
pub struct BotSecretStoreSpec {
    /// The manager.
    #[serde(flatten)]
    pub store: StoreSpec,
}

/// A secret manager that an administrator offers to the namespaces listed.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, CustomResource, KubeSchema)]
#[kube(
    group = "botsecret.dev",
    version = "v1alpha1",
    kind = "ClusterBotSecretStore",
    plural = "clusterbotsecretstores",
    singular = "clusterbotsecretstore",
    derive = "PartialEq",
    shortname = "cbstore",
    category = "botsecret-all",
    doc = "A secret manager that an administrator offers to the namespaces listed.",
    printcolumn(name = "AWS", type_ = "string", json_path = ".spec.aws.region", priority = 1),
    printcolumn(name = "Azure", type_ = "string", json_path = ".spec.azure.vaultUrl", priority = 1),
    printcolumn(name = "GCP", type_ = "string", json_path = ".spec.gcp.projectID", priority = 1),
    printcolumn(
        name = "Namespace-Read",
        type_ = "string",
        json_path = ".spec.kubernetes.remoteNamespace",
        priority = 1
    ),
    printcolumn(name = "OAuth2", type_ = "string", json_path = ".spec.oauth2.tokenURL", priority = 1),
    printcolumn(name = "Vault", type_ = "string", json_path = ".spec.vault.address", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterBotSecretStoreSpec {
    /// The namespaces whose BotSecrets may use this store, by name; "*" stands
    /// for all of them.
    #[schemars(length(min = 1, max = 1000))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub namespaces: Vec<String>,
    /// The manager.
    #[serde(flatten)]
    pub store: StoreSpec,
}

/// What both kinds of store say: which manager, and how it is asked.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.aws), has(self.azure), has(self.gcp), has(self.kubernetes), has(self.oauth2), has(self.vault)].filter(set, set).size() == 1")
        .message("a store speaks to exactly one manager: write one of aws, azure, gcp, kubernetes, oauth2 and vault"),
    validation = Rule::new("!has(self.proxy) || !has(self.kubernetes) || has(self.kubernetes.server)")
        .message("this cluster's own API server is not asked through a proxy: leave out proxy")
)]
pub struct StoreSpec {
    /// AWS Secrets Manager or AWS Systems Manager Parameter Store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsStore>,
    /// Azure Key Vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<AzureStore>,
    /// Google Cloud Secret Manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gcp: Option<GcpStore>,
    /// Secrets of another namespace of this cluster, or of another cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesStore>,
    /// An OAuth 2 issuer, of which short-lived access tokens are had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2Store>,
    /// HashiCorp Vault or OpenBao.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<VaultStore>,
    /// An HTTP proxy for every request to the manager, such as
    /// http://proxy.example:3128. None when not set: the operator's own
    /// environment is not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^http://[^/?#@ ]+/?$')")
        .message("write an http URL without credentials, such as http://proxy.example:3128"))]
    pub proxy: Option<String>,
    /// How hard the manager may be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// Whether BotSecrets may rotate values through this store
    /// (spec.rotation): have the manager make new ones, or write generated
    /// ones. What each identity may write is for the manager's own policy to
    /// say. false when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_rotation: Option<bool>,
}

/// How hard a manager may be asked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Requests a second, over all BotSecrets of this store. Without bound
    /// when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub requests_per_second: Option<u32>,
    /// Requests under way at once. 16 when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_in_flight: Option<u32>,
    /// How long one request may take, as a Go duration. 10s when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,6}([.][0-9]{1,3})?(ms|s|m)){1,4}$') && duration(self) >= duration('100ms') && duration(self) <= duration('2m')")
        .message("write a duration from 100ms to 2m, such as 10s"))]
    pub timeout: Option<Timeout>,
    /// How large one answer may be, in bytes. 4194304 (4 MiB) when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024, max = 16_777_216))]
    pub max_response_bytes: Option<u32>,
}

impl Limits {
    /// Requests under way at once: the bound that is set, or the usual one. An object may
    /// be older than the schema, and with none at all everybody would wait for ever.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.max_in_flight.unwrap_or(16).clamp(1, 1000) as usize
    }
}

/// One key of a Secret: of the store's own namespace, or, for a
/// ClusterBotSecretStore, of the namespace that the operator runs in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')")
        .message("write a Secret's name: lower-case letters, digits, '-' and '.'"))]
    pub name: String,
    /// The key in it.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// An endpoint that is sent a cloud's token. Only in a ClusterBotSecretStore.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenEndpoint {
    /// Its URL.
    #[schemars(length(min = 8, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^/?#@ ]+/?$')").message("write scheme, host and port only"))]
    pub url: String,
    /// Certificates to trust there, PEM or base64 of PEM. The public roots
    /// when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 131_072))]
    pub ca_bundle: Option<String>,
}

/// The one manager that a store speaks to.
#[derive(Clone, Debug, PartialEq)]
pub enum Provider {
    /// AWS Secrets Manager or Parameter Store.
    Aws(AwsStore),
    /// Azure Key Vault.
    Azure(AzureStore),
    /// Google Cloud Secret Manager.
    Gcp(GcpStore),
    /// Another namespace or cluster.
    Kubernetes(KubernetesStore),
    /// An OAuth 2 issuer.
    OAuth2(OAuth2Store),
    /// HashiCorp Vault or OpenBao.
    Vault(VaultStore),
}

impl Provider {
    /// The managers that this build can speak to, as a store's spec writes
    /// them.
    pub const COMPILED: &[&str] = &[
        #[cfg(feature = "aws")]
        "aws",
        #[cfg(feature = "azure")]
        "azure",
        #[cfg(feature = "gcp")]
        "gcp",
        #[cfg(feature = "kubernetes")]
        "kubernetes",
        #[cfg(feature = "oauth2")]
        "oauth2",
        #[cfg(feature = "vault")]
        "vault",
    ];

    /// Its name, as a store's spec writes it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Aws(_) => "aws",
            Self::Azure(_) => "azure",
            Self::Gcp(_) => "gcp",
            Self::Kubernetes(_) => "kubernetes",
            Self::OAuth2(_) => "oauth2",
            Self::Vault(_) => "vault",
        }
    }

    /// The Secrets that hold the store's own credentials, where it has any.
    #[must_use]
    pub fn secret_refs(&self) -> Vec<&SecretKeyRef> {
        match self {
            Self::Aws(store) => store.auth.secret_refs(),
            Self::Azure(store) => store.auth.secret_refs(),
            Self::Gcp(store) => store.auth.secret_refs(),
            Self::Kubernetes(_) => Vec::new(),
            Self::OAuth2(store) => store.auth.secret_refs(),
            Self::Vault(store) => store.auth.secret_refs(),
        }
    }
}

impl StoreSpec {
    /// The manager, or `None` where the spec names none or several (which the
    /// schema's rules refuse, so only an object older than them does).
    #[must_use]
    pub fn provider(&self) -> Option<Provider> {
        let named = [
            self.aws.clone().map(Provider::Aws),
            self.azure.clone().map(Provider::Azure),
            self.gcp.clone().map(Provider::Gcp),
            self.kubernetes.clone().map(Provider::Kubernetes),
            self.oauth2.clone().map(Provider::OAuth2),
            self.vault.clone().map(Provider::Vault),
        ];
        let mut named = named.into_iter().flatten();
        named.next().filter(|_| named.next().is_none())
    }
}

impl ClusterBotSecretStoreSpec {
    /// Whether BotSecrets of this namespace may use the store.
    #[must_use]
    pub fn allows(&self, namespace: &str) -> bool {
        self.namespaces.iter().any(|allowed| allowed == "*" || allowed == namespace)
    }
}
