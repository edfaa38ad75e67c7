//! What is where in each of Azure's clouds.

use reqwest::Url;

use super::invalid;
use crate::{
    api::{AzureEnvironment, AzureStore},
    stores::{Opening, Scope, StoreError, address},
};

/// One cloud's own names.
struct Own {
    resource: &'static str,
    audience: &'static str,
}

const PUBLIC: Own = Own { resource: "https://vault.azure.net", audience: "api://AzureADTokenExchange" };
const US_GOVERNMENT: Own =
    Own { resource: "https://vault.usgovcloudapi.net", audience: "api://AzureADTokenExchangeUSGov" };
const CHINA: Own = Own { resource: "https://vault.azure.cn", audience: "api://AzureADTokenExchangeChina" };

/// Where a store's vault and its Entra ID are.
pub(super) struct Places {
    /// The vault.
    pub(super) vault: Url,
    /// Entra ID.
    pub(super) authority: Url,
    /// Certificates to trust at Entra ID. Never the vault's own: whoever may
    /// write a store into a namespace would read the logins sent there.
    pub(super) authority_ca: Option<String>,
    /// The resource that tokens are for, and that the vault must ask for.
    pub(super) resource: String,
    /// The audience of a ServiceAccount's token, where the store names none.
    pub(super) audience: &'static str,
}

impl Places {
    pub(super) fn new(spec: &AzureStore, opening: &Opening<'_>) -> Result<Self, StoreError> {
        if opening.scope != Scope::Cluster && (spec.authority.is_some() || spec.auth.ambient.is_some()) {
            return Err(invalid(
                "authority and auth.ambient are for a ClusterBotSecretStore: a namespace's store uses the cloud's own \
                 Entra ID and the bot's own identity, see auth.workloadIdentity",
            ));
        }
        if opening.scope != Scope::Cluster && spec.ca_bundle.is_some() {
            return Err(invalid(
                "caBundle is for a ClusterBotSecretStore: the bot's access token is sent to the vault, whose \
                 certificate a namespace's store checks against the public roots",
            ));
        }
        let cloud = spec.environment_type.unwrap_or_default();
        let own = match cloud {
            AzureEnvironment::PublicCloud => PUBLIC,
            AzureEnvironment::USGovernmentCloud => US_GOVERNMENT,
            AzureEnvironment::ChinaCloud => CHINA,
        };
        let own_authority = format!("https://{}", cloud.entra_hosts()[0]);
        let authority = spec.authority.as_ref();
        let set = authority.and_then(|authority| authority.vault_resource.as_deref());
        let vault = bare(&spec.vault_url, "vaultUrl")?;
        let resource = bare(set.unwrap_or(own.resource), "authority.vaultResource")?;
        if !is_below(&vault, &resource) {
            let suffix = resource.host_str().unwrap_or_default();
            return Err(invalid(format!(
                "vaultUrl is no vault of {suffix}: write https://NAME.{suffix}, the cloud in environmentType, or, for \
                 another domain, authority.vaultResource in a ClusterBotSecretStore"
            )));
        }
        Ok(Self {
            vault,
            authority: bare(authority.map_or(&own_authority, |authority| &authority.url), "authority.url")?,
            authority_ca: authority.and_then(|authority| authority.ca_bundle.clone()),
            resource: resource.as_str().trim_end_matches('/').to_owned(),
            audience: own.audience,
        })
    }
}

/// An https URL of scheme, host and port.
fn bare(text: &str, field: &str) -> Result<Url, StoreError> {
    address::bare_https(text, field, "https://bots.vault.azure.net")
}

/// Whether the vault's host is a name in the resource's domain.
fn is_below(vault: &Url, resource: &Url) -> bool {
    match (vault.domain(), resource.domain()) {
        (Some(vault), Some(domain)) => {
            vault.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        }
        _ => false,
    }
}
