//! The operator's own identity, which its pod or machine gives it.

use std::{path::PathBuf, sync::Arc};

use aws_config::{default_provider::credentials::DefaultCredentialsChain, provider_config::ProviderConfig};
use aws_credential_types::provider::{ProvideCredentials as _, error::CredentialsError};
use aws_sdk_sts::config::{Region, SharedHttpClient};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{
    Aws,
    errors::{Doing, transport},
    http::{Wire, unheard},
    identity::DEFAULT_AUDIENCE,
    login::{Granted, left},
};
use crate::{
    secret::SecretText,
    stores::{ErrorClass, Login, StoreError},
};

/// Where any of these is set, keys or a profile go before a token, as in
/// every SDK.
const BEFORE: [&str; 4] = ["AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"];
const SESSION: &str = "botsecret";
const OPERATOR: &str = "of the operator's own ServiceAccount";

/// The role of the operator's own ServiceAccount, as EKS writes it into the
/// environment of its pod (IRSA).
#[derive(Debug, PartialEq, Eq)]
struct OwnRole {
    role: String,
    token_file: PathBuf,
    session: String,
}

impl OwnRole {
    fn of(environment: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let set = |name: &str| environment(name).filter(|value| !value.is_empty());
        if BEFORE.into_iter().any(|name| set(name).is_some()) {
            return None;
        }
        Some(Self {
            role: set("AWS_ROLE_ARN")?,
            token_file: set("AWS_WEB_IDENTITY_TOKEN_FILE")?.into(),
            session: set("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| SESSION.to_owned()),
        })
    }
}

impl Aws {
    /// IRSA, Pod Identity or the machine's role.
    pub(super) async fn ambient(&self, login: &Login<'_>) -> Result<Granted, StoreError> {
        match OwnRole::of(|name| std::env::var(name).ok()) {
            Some(own) => self.own_role(login, own).await,
            None => self.default_chain(login).await,
        }
    }

    /// Not by the SDK's chain, which knows of no other STS than the region's
    /// public one.
    async fn own_role(&self, login: &Login<'_>, own: OwnRole) -> Result<Granted, StoreError> {
        // Read anew at each login: the kubelet replaces it.
        let token = tokio::fs::read(&own.token_file).await.map(Zeroizing::new).map_err(|error| {
            identity(&format!("the operator's own token cannot be read ({}): {}", file(&own), error.kind()))
        })?;
        let token = std::str::from_utf8(&token).map(str::trim).ok().filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| identity(&format!("the operator's own token is none ({})", file(&own))))?;
        let token = SecretText::new(token.to_owned());
        let doing = Doing::WebIdentity { role: &own.role, subject: OPERATOR, audience: DEFAULT_AUDIENCE };
        self.exchange(login, &own.role, own.session, &token, doing).await
    }

    async fn default_chain(&self, login: &Login<'_>) -> Result<Granted, StoreError> {
        let wire =
            Wire::new(Arc::clone(&self.pools.sts), login.pace.clone()).with_direct(Arc::clone(&self.pools.direct));
        let region = Region::new(self.region.clone());
        let config = ProviderConfig::without_region()
            .with_region(Some(region.clone()))
            .with_http_client(SharedHttpClient::new(wire));
        let asked = Instant::now();
        let chain = unheard(DefaultCredentialsChain::builder().region(region).configure(config).build()).await;
        let credentials = unheard(chain.provide_credentials()).await.map_err(|error| no_ambient(&error))?;
        let expires = credentials.expiry().map(|end| asked + left(end));
        Ok(Granted { credentials, expires })
    }
}

fn file(own: &OwnRole) -> String {
    format!("AWS_WEB_IDENTITY_TOKEN_FILE {}", own.token_file.display())
}

fn identity(message: &str) -> StoreError {
    StoreError::new(
        ErrorClass::LoginDenied,
        format!("{message}: give the operator's pod the projected volume of its ServiceAccount's token (IRSA)"),
    )
}

/// None of the chain's own words: they may hold what its sources answered.
fn no_ambient(error: &CredentialsError) -> StoreError {
    match error {
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => StoreError::new(
            ErrorClass::LoginDenied,
            "the operator has no AWS identity of its own: give its ServiceAccount one (IRSA or Pod Identity), or use \
             auth.jwt",
        ),
        CredentialsError::ProviderTimedOut(_) => {
            StoreError::new(ErrorClass::Timeout, "the operator's own AWS identity could not be had in time")
        }
        error => {
            let own = transport(Some(error));
            let message = format!(
                "the operator's own AWS identity could not be had: {}; it comes from the agent of Pod Identity or the \
                 machine's metadata service",
                own.message
            );
            StoreError { message, ..own }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::OwnRole;

    fn of(set: &[(&str, &str)]) -> Option<OwnRole> {
        OwnRole::of(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_pods_own_role_needs_a_role_and_a_token_and_gives_way_to_keys_and_profiles() {
        let (role, token) = (("AWS_ROLE_ARN", "arn"), ("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"));
        let own = of(&[role, token]).expect("both");
        assert_eq!(
            (own.role.as_str(), own.token_file.to_str(), own.session.as_str()),
            ("arn", Some("/token"), "botsecret")
        );
        assert_eq!(of(&[role, token, ("AWS_ROLE_SESSION_NAME", "operator")]).expect("named").session, "operator");
        assert_eq!(of(&[role, token, ("AWS_PROFILE", "")]), Some(own), "what is empty is not set");
        for set in [vec![role], vec![token], vec![role, ("AWS_WEB_IDENTITY_TOKEN_FILE", "")]] {
            assert_eq!(of(&set), None);
        }
        for name in super::BEFORE {
            assert_eq!(of(&[role, token, (name, "x")]), None, "{name}");
        }
    }
}
