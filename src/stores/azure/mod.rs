//! Azure Key Vault: secrets, certificates' secrets and public keys, with a
//! federated credential, a client secret or the machine's managed identity.
//!
//! Logins and reads are the SDK's, over the one HTTP stack of all stores. The
//! SDK's retries are off, its settings are all given here, and it never sees
//! an answer that is no success.

mod cloud;
mod errors;
mod find;
#[cfg(any(test, fuzzing))]
pub(in crate::stores) mod fuzzing;
mod http;
mod identity;
mod login;
mod names;
mod read;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use azure_security_keyvault_keys::{KeyClient, KeyClientOptions};
use azure_security_keyvault_secrets::{SecretClient, SecretClientOptions};
use reqwest::Url;
use tokio::time::Instant;

use self::{cloud::Places, errors::Party, http::Wire, identity::Method, login::Entra};
use super::{
    Audience, Backend, Capabilities, FindQuery, Identity, Login, Opening, QuotaDomain, RemoteKey, RemoteSecret,
    ServiceAccount, Session, StoreError, WriteBack,
    error::{invalid, unavailable},
    http::Pool,
    read_each,
};
use crate::api::AzureStore;

/// A vault grants 4,000 requests in 10 seconds: half of them, since other
/// clusters ask it too.
const REQUESTS_PER_SECOND: u32 = 200;
const REQUESTS_IN_FLIGHT: u32 = 32;

/// Where the machine's own token service usually is.
const MACHINE: &str = "http://169.254.169.254";

/// One vault as a store describes it.
pub(super) struct KeyVault {
    vault: Url,
    pool: Arc<Pool>,
    entra: Entra,
    method: Method,
    tenant: Option<String>,
}

impl KeyVault {
    pub(super) fn new(spec: &AzureStore, opening: &Opening<'_>) -> Result<Self, StoreError> {
        let places = Places::new(spec, opening)?;
        let method = Method::new(spec, &places, opening)?;
        let entra_pool = if let Method::Machine { .. } = &method {
            let machine = Url::parse(MACHINE).map_err(|_| invalid("the machine's token service has no URL"))?;
            // Never through the store's proxy: it is this machine's own.
            opening.clients.pool(&machine, None, None, opening.largest_answer)?
        } else {
            opening.pool(&places.authority, places.authority_ca.as_deref())?
        };
        Ok(Self {
            pool: opening.pool(&places.vault, spec.ca_bundle.as_deref())?,
            vault: places.vault,
            entra: Entra { pool: entra_pool, authority: places.authority, resource: places.resource },
            method,
            tenant: spec.tenant_id.clone(),
        })
    }

    fn host(&self) -> &str {
        self.vault.host_str().unwrap_or_default()
    }
}

#[async_trait]
impl Backend for KeyVault {
    fn capabilities(&self) -> Capabilities {
        Capabilities { batch: 1, leases: false, write_back: true, change_events: false, dates_apart: false }
    }

    fn identity(&self, account: &ServiceAccount) -> Result<Identity, StoreError> {
        let named = self.method.named(self.tenant.as_deref(), account)?;
        Ok(Identity {
            audience: self.method.audience().map(|audience| Audience::Of(audience.to_owned())),
            role: format!("{}/{}", named.tenant, named.client),
            quota: QuotaDomain {
                name: format!("azure/{}", self.host()),
                requests_per_second: Some(REQUESTS_PER_SECOND),
                in_flight: REQUESTS_IN_FLIGHT,
            },
        })
    }

    async fn login(&self, login: Login<'_>) -> Result<Arc<dyn Session>, StoreError> {
        let named = self.method.named(self.tenant.as_deref(), login.account)?;
        let (held, expires) = self.entra.log_in(&self.method, &named, &login).await?;
        let held = Arc::new(held);
        let client = if named.client.is_empty() { "the operator's managed identity".into() } else { named.client };
        let options = || {
            let party = Party::Vault { client: client.clone(), resource: self.entra.resource.clone() };
            Wire::new(Arc::clone(&self.pool), Some(&self.vault), login.pace.clone(), party).options()
        };
        let secrets = SecretClientOptions { client_options: options(), ..SecretClientOptions::default() };
        let keys = KeyClientOptions { client_options: options(), ..KeyClientOptions::default() };
        let refused = |_| invalid("vaultUrl cannot be used");
        Ok(Arc::new(Reader {
            secrets: SecretClient::new(self.vault.as_str(), held.clone(), Some(secrets)).map_err(refused)?,
            keys: KeyClient::new(self.vault.as_str(), held, Some(keys)).map_err(refused)?,
            resource: self.entra.resource.clone(),
            expires,
        }))
    }
}

/// A login.
struct Reader {
    secrets: SecretClient,
    keys: KeyClient,
    resource: String,
    expires: Instant,
}

#[async_trait]
impl Session for Reader {
    fn expires(&self) -> Option<Instant> {
        Some(self.expires)
    }

    async fn read(&self, keys: &[RemoteKey]) -> Vec<Result<RemoteSecret, StoreError>> {
        read_each(keys, |key| self.read_one(key)).await
    }

    async fn find(&self, query: &FindQuery) -> Result<Vec<String>, StoreError> {
        self.names(query).await
    }

    async fn write(&self, write: &WriteBack<'_>) -> Result<(), StoreError> {
        self.write_back(write).await
    }
}

#[cfg(test)]
mod tests;
