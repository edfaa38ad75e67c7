//! Azure Key Vault.

#![allow(rustdoc::bare_urls, reason = "kubectl explain shows these texts, where Markdown is noise")]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretKeyRef;

/// Azure Key Vault.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.tenantId) || has(self.auth.ambient) || (has(self.auth.workloadIdentity) && has(self.auth.workloadIdentity.serviceAccountClientIds))")
    .message("tenantId is missing: write the tenant that the client belongs to"))]
pub struct AzureStore {
    /// The vault, such as https://bots.vault.azure.net. Remote keys are NAME or
    /// secret/NAME, cert/NAME for a certificate with its private key, and
    /// key/NAME for a key's public part.
    #[schemars(length(min = 9, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^https://[^/?#@ ]+/?$')")
        .message("write scheme, host and port only, such as https://bots.vault.azure.net"))]
    pub vault_url: String,
    /// The tenant, by id. May be left out where ServiceAccounts name it in the
    /// annotation azure.workload.identity/tenant-id; if it is set, that
    /// annotation must agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9A-Za-z][-.0-9A-Za-z]*$')").message("write a tenant's id"))]
    pub tenant_id: Option<String>,
    /// Which cloud it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_type: Option<AzureEnvironment>,
    /// How to log in.
    pub auth: AzureAuth,
    /// Certificates to trust at the vault, PEM or base64 of PEM. The public
    /// roots when not set. Only in a ClusterBotSecretStore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 131_072))]
    pub ca_bundle: Option<String>,
    /// Where Entra ID is, in place of the cloud's own endpoint. Only in a
    /// ClusterBotSecretStore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<AzureAuthority>,
}

/// PublicCloud (the default), USGovernmentCloud or ChinaCloud.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
pub enum AzureEnvironment {
    /// Azure itself.
    #[default]
    PublicCloud,
    /// Azure for the government of the United States.
    USGovernmentCloud,
    /// Azure in China.
    ChinaCloud,
}

impl AzureEnvironment {
    /// Every cloud.
    pub(crate) const ALL: [Self; 3] = [Self::PublicCloud, Self::USGovernmentCloud, Self::ChinaCloud];

    /// The hosts of its Entra ID. The first is where Azure's SDK logs in.
    pub(crate) const fn entra_hosts(self) -> &'static [&'static str] {
        match self {
            Self::PublicCloud => &["login.microsoftonline.com"],
            Self::USGovernmentCloud => &["login.microsoftonline.us"],
            Self::ChinaCloud => &["login.chinacloudapi.cn", "login.partner.microsoftonline.cn"],
        }
    }
}

/// An Entra ID endpoint.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureAuthority {
    /// Its URL.
    #[schemars(length(min = 9, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^https://[^/?#@ ]+/?$')").message("write scheme, host and port only"))]
    pub url: String,
    /// Certificates to trust there, PEM or base64 of PEM. The public roots
    /// when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 131_072))]
    pub ca_bundle: Option<String>,
    /// The resource that the vault's challenge names, such as
    /// https://vault.example, where it is not the cloud's own. A challenge for
    /// anything else is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 2048))]
    pub vault_resource: Option<String>,
}

/// How to log in to Entra ID.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.workloadIdentity), has(self.secretRef), has(self.ambient)].filter(set, set).size() == 1")
    .message("write exactly one way to log in: workloadIdentity, secretRef or ambient"))]
pub struct AzureAuth {
    /// A federated credential that trusts the BotSecret's ServiceAccount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<AzureWorkloadIdentity>,
    /// A client secret from a Secret, as the last resort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<AzureSecretAuth>,
    /// The operator's own managed identity, the same for every BotSecret. Only
    /// in a ClusterBotSecretStore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ambient: Option<AzureManagedIdentity>,
}

/// A federated credential.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.clientId) != has(self.serviceAccountClientIds)").message("write one of clientId and serviceAccountClientIds"))]
pub struct AzureWorkloadIdentity {
    /// The application or managed identity. The ServiceAccount's annotation is
    /// then not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub client_id: Option<String>,
    /// The client ids that a ServiceAccount may name in its annotation
    /// azure.workload.identity/client-id; "*" stands for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub service_account_client_ids: Option<Vec<String>>,
    /// The audience of the token that is sent; "api://AzureADTokenExchange"
    /// (in other clouds theirs) when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub audience: Option<String>,
}

/// A client secret.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureSecretAuth {
    /// The client id, from a Secret.
    pub client_id: SecretKeyRef,
    /// The client secret, from a Secret.
    pub client_secret: SecretKeyRef,
}

/// A managed identity.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureManagedIdentity {
    /// The client id of a user-assigned identity; the system-assigned one when
    /// not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub client_id: Option<String>,
}

impl AzureAuth {
    pub(super) fn secret_refs(&self) -> Vec<&SecretKeyRef> {
        self.secret_ref.iter().flat_map(|auth| [&auth.client_id, &auth.client_secret]).collect()
    }
}
