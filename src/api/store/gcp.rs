//! Google Cloud Secret Manager.

#![allow(rustdoc::bare_urls, reason = "kubectl explain shows these texts, where Markdown is noise")]

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{SecretKeyRef, TokenEndpoint};

/// Google Cloud Secret Manager.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GcpStore {
    /// The project that holds the secrets, by id or number.
    #[serde(rename = "projectID")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^([a-z0-9.-]+:)?[a-z0-9][-a-z0-9]*$')").message("write a project's id or number"))]
    pub project_id: String,
    /// The location of regional secrets, such as europe-west1. Global secrets
    /// when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z]+(-[a-z0-9]+)*$')").message("write a location such as europe-west1"))]
    pub location: Option<String>,
    /// How to log in.
    pub auth: GcpAuth,
    /// Secret Manager's endpoint, where it is not the public one. In a
    /// BotSecretStore only https below googleapis.com.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^/?#@ ]+/?$')")
        .message("write scheme, host and port only, such as https://secretmanager.googleapis.com"))]
    pub endpoint: Option<String>,
    /// Certificates to trust at endpoint, PEM or base64 of PEM. The public
    /// roots when not set. Only in a ClusterBotSecretStore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 131_072))]
    pub ca_bundle: Option<String>,
    /// Where STS and IAM Credentials are, in place of Google's public
    /// endpoints. Only in a ClusterBotSecretStore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_endpoints: Option<GcpTokenEndpoints>,
}

/// Where tokens are exchanged.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GcpTokenEndpoints {
    /// The Security Token Service; https://sts.googleapis.com when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sts: Option<TokenEndpoint>,
    /// IAM Credentials; https://iamcredentials.googleapis.com when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam_credentials: Option<TokenEndpoint>,
    /// OAuth 2, for keys; https://oauth2.googleapis.com when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<TokenEndpoint>,
    /// The metadata server, for ambient; http://metadata.google.internal when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TokenEndpoint>,
}

/// How to log in to Google Cloud.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.workloadIdentityFederation), has(self.workloadIdentity), has(self.secretRef), has(self.ambient)].filter(set, set).size() == 1")
    .message("write exactly one way to log in: workloadIdentityFederation, workloadIdentity, secretRef or ambient"))]
pub struct GcpAuth {
    /// Workload Identity Federation: any cluster whose issuer a pool trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_identity_federation: Option<GcpFederation>,
    /// Workload Identity of a GKE cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<GcpGkeIdentity>,
    /// A service account's key from a Secret, as the last resort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<GcpSecretAuth>,
    /// true: the operator's own identity (the metadata server), the same for
    /// every BotSecret. Only in a ClusterBotSecretStore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self").message("write true, or leave it out"))]
    pub ambient: Option<bool>,
}

/// Workload Identity Federation.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GcpFederation {
    /// The provider: //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.matches('^//iam[.]googleapis[.]com/projects/[0-9]+/locations/global/workloadIdentityPools/[^/]+/providers/[^/]+$')")
        .message("write the provider's full name: //iam.googleapis.com/projects/<number>/locations/global/workloadIdentityPools/<pool>/providers/<provider>"))]
    pub audience: String,
    /// The audience of the token that is sent, where the provider lists allowed
    /// ones; https: and the provider's name when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub token_audience: Option<String>,
    /// Whom to impersonate.
    #[serde(flatten)]
    pub impersonation: GcpImpersonation,
}

/// Workload Identity of a GKE cluster.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GcpGkeIdentity {
    /// The cluster's project; the store's when not set.
    #[serde(default, rename = "clusterProjectID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub cluster_project_id: Option<String>,
    /// The cluster's location.
    #[schemars(length(min = 1, max = 64))]
    pub cluster_location: String,
    /// The cluster's name.
    #[schemars(length(min = 1, max = 64))]
    pub cluster_name: String,
    /// Whom to impersonate.
    #[serde(flatten)]
    pub impersonation: GcpImpersonation,
}

/// Whom a ServiceAccount may impersonate, however its own token is exchanged.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GcpImpersonation {
    /// A Google service account to impersonate. None when not set: the pool's
    /// principal reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 320))]
    #[x_kube(validation = Rule::new("self.matches('^[^@/ ]+@[^@/ ]+$')").message("write a service account's e-mail address"))]
    pub gcp_service_account_email: Option<String>,
    /// The Google service accounts that a ServiceAccount may name in its
    /// annotation iam.gke.io/gcp-service-account; * stands for any characters
    /// but @.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub service_account_emails: Option<Vec<String>>,
}

/// A service account's key.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GcpSecretAuth {
    /// The key, as the JSON file that Google hands out.
    pub secret_access_key_secret_ref: SecretKeyRef,
}

impl GcpAuth {
    pub(super) fn secret_refs(&self) -> Vec<&SecretKeyRef> {
        self.secret_ref.iter().map(|auth| &auth.secret_access_key_secret_ref).collect()
    }
}
