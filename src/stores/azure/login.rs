//! Logs in to Entra ID.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use azure_core::{
    cloud::{CloudConfiguration, CustomConfiguration},
    credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions},
    http::{ClientMethodOptions, ClientOptions},
    time::OffsetDateTime,
};
use azure_identity::{
    ClientAssertion, ClientAssertionCredential, ClientAssertionCredentialOptions, ClientSecretCredential,
    ClientSecretCredentialOptions, ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId,
};
use tokio::time::Instant;

use super::{
    errors::{Party, other_resource},
    http::{Wire, carried, recovered},
    identity::{Method, Named},
    invalid, unavailable,
};
use crate::{
    secret::SecretText,
    stores::{Login, Pace, StoreError, http::Pool},
};
use reqwest::Url;

/// The longest that a login is believed to live: a managed identity's is a day.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The way to Entra ID, or to what stands for it.
pub(super) struct Entra {
    pub(super) pool: Arc<Pool>,
    pub(super) authority: Url,
    /// What tokens are for.
    pub(super) resource: String,
}

/// A login's token, which is given out for nothing but its own resource.
pub(super) struct Held {
    resource: String,
    scope: String,
    token: AccessToken,
}

impl fmt::Debug for Held {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Held").finish_non_exhaustive()
    }
}

#[async_trait]
impl TokenCredential for Held {
    async fn get_token(&self, scopes: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        if scopes == [self.scope.as_str()] {
            Ok(self.token.clone())
        } else {
            Err(carried(other_resource(&self.resource)))
        }
    }
}

/// A ServiceAccount's token as the SDK asks for it.
struct Assertion<'a>(&'a SecretText);

impl fmt::Debug for Assertion<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Assertion")
    }
}

#[async_trait]
impl ClientAssertion for Assertion<'_> {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        Ok(self.0.expose().to_owned())
    }
}

impl Entra {
    /// The token, and when it ends.
    pub(super) async fn log_in(
        &self,
        method: &Method,
        named: &Named,
        login: &Login<'_>,
    ) -> Result<(Held, Instant), StoreError> {
        let scope = format!("{}/.default", self.resource);
        let asked = Instant::now();
        let party = self.party(method, named, login);
        let options = self.options(party, login.pace.clone());
        let result = match method {
            Method::Federated { .. } => {
                let token = login.service_account_token()?;
                let options = ClientAssertionCredentialOptions { client_options: options };
                let (tenant, client) = (named.tenant.clone(), named.client.clone());
                let credential = ClientAssertionCredential::new(tenant, client, Assertion(token), Some(options));
                credential.map_err(|_| unusable())?.get_token(&[&scope], None).await
            }
            Method::Secret { secret, .. } => {
                let options = ClientSecretCredentialOptions { client_options: options };
                let secret = Secret::new(secret.expose().to_owned());
                let credential =
                    ClientSecretCredential::new(&named.tenant, named.client.clone(), secret, Some(options));
                credential.map_err(|_| unusable())?.get_token(&[&scope], None).await
            }
            Method::Machine { client } => {
                let user_assigned_id = client.clone().map(UserAssignedId::ClientId);
                let options = ManagedIdentityCredentialOptions { user_assigned_id, client_options: options };
                ManagedIdentityCredential::new(Some(options)).map_err(|_| unusable())?.get_token(&[&scope], None).await
            }
        };
        let token = result.map_err(|error| {
            recovered(&error, || {
                unavailable("the answer to the login is not one of Entra ID's: check the network and authority")
            })
            .at_login(&self.place(method))
        })?;
        let expires = asked + life(&token)?;
        Ok((Held { resource: self.resource.clone(), scope, token }, expires))
    }

    /// For messages.
    fn place(&self, method: &Method) -> String {
        match method {
            Method::Machine { .. } => "the machine's token service".to_owned(),
            Method::Federated { .. } | Method::Secret { .. } => {
                self.authority.as_str().trim_end_matches('/').to_owned()
            }
        }
    }

    fn party(&self, method: &Method, named: &Named, login: &Login<'_>) -> Party {
        match method {
            Method::Machine { .. } => Party::Machine,
            Method::Federated { audience, .. } => Party::Entra {
                named: named.clone(),
                subject: Some(format!("system:serviceaccount:{}:{}", login.account.namespace, login.account.name)),
                audience: Some(audience.clone()),
                resource: self.resource.clone(),
            },
            Method::Secret { .. } => {
                Party::Entra { named: named.clone(), subject: None, audience: None, resource: self.resource.clone() }
            }
        }
    }

    fn options(&self, party: Party, pace: Pace) -> ClientOptions {
        // The machine's token service is on a link-local address, or where the
        // platform's variables say: the one login that looks at them.
        let only = if matches!(party, Party::Machine) { None } else { Some(&self.authority) };
        // Named always: the SDK would else take it from the environment.
        let mut cloud = CustomConfiguration::default();
        cloud.authority_host = self.authority.to_string();
        let wire = Wire::new(Arc::clone(&self.pool), only, pace, party);
        ClientOptions { cloud: Some(Arc::new(CloudConfiguration::Custom(cloud))), ..wire.options() }
    }
}

fn unusable() -> StoreError {
    invalid("the login cannot be written: check tenantId, the client id and the client secret")
}

fn life(token: &AccessToken) -> Result<Duration, StoreError> {
    let left = Duration::try_from(token.expires_on - OffsetDateTime::now_utc()).unwrap_or_default();
    if token.token.secret().is_empty() || left.is_zero() {
        return Err(unavailable("Entra ID answered the login without a token"));
    }
    Ok(left.min(LONGEST))
}
