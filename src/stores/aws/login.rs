//! Credentials: from STS, from a Secret, or the operator's own.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;
use aws_sdk_sts::types::{Credentials as StsCredentials, Tag};
use tokio::time::Instant;

use super::{
    Aws, Settings,
    errors::{Doing, refusal},
    http::{Wire, unheard},
    identity::{Hop, Keys, Source, session_name},
    invalid, unavailable,
};
use crate::{
    secret::SecretText,
    stores::{Login, StoreError},
};

/// What is asked for: every role grants it, and a second hop no more.
const LIFE: Duration = Duration::from_secs(3600);
const LIFE_SECONDS: i32 = 3600;

/// Credentials, and when they end.
pub(super) struct Granted {
    pub(super) credentials: Credentials,
    pub(super) expires: Option<Instant>,
}

impl Aws {
    pub(super) async fn log_in(&self, login: &Login<'_>) -> Result<Granted, StoreError> {
        let first = match &self.identities.source {
            Source::WebIdentity { audience, .. } => self.web_identity(login, audience).await?,
            Source::Keys(keys) => Granted { credentials: static_credentials(keys), expires: None },
            Source::Ambient => self.ambient(login).await?,
        };
        match &self.identities.hop {
            Some(hop) => self.second_hop(login, hop, first).await,
            None => Ok(first),
        }
    }

    async fn web_identity(&self, login: &Login<'_>, audience: &str) -> Result<Granted, StoreError> {
        let account = login.account;
        let token = login.service_account_token()?;
        let role = self.identities.first_role(account)?.ok_or_else(|| invalid("a login needs a role"))?;
        let subject = format!("system:serviceaccount:{}:{}", account.namespace, account.name);
        let doing = Doing::WebIdentity { role: &role, subject: &subject, audience };
        self.exchange(login, &role, session_name(account), token, doing).await
    }

    /// A token for credentials of a role, at the store's STS.
    pub(super) async fn exchange(
        &self,
        login: &Login<'_>,
        role: &str,
        session: String,
        token: &SecretText,
        doing: Doing<'_>,
    ) -> Result<Granted, StoreError> {
        let asked = Instant::now();
        let call = self
            .sts(login, None)
            .assume_role_with_web_identity()
            .role_arn(role)
            .role_session_name(session)
            .duration_seconds(LIFE_SECONDS)
            .web_identity_token(token.expose());
        let answer = unheard(call.send()).await;
        granted(answer.map_err(|error| refusal(&error, doing).at_login(&self.sts_place()))?.credentials, asked)
    }

    async fn second_hop(&self, login: &Login<'_>, hop: &Hop, first: Granted) -> Result<Granted, StoreError> {
        let from = match &self.identities.source {
            Source::WebIdentity { .. } => self.identities.first_role(login.account)?.unwrap_or_default(),
            Source::Keys(keys) => format!("the keys in Secret {}", keys.place),
            Source::Ambient => "the operator's own identity".to_owned(),
        };
        let asked = Instant::now();
        let mut call = self
            .sts(login, Some(first.credentials))
            .assume_role()
            .role_arn(&hop.role)
            .role_session_name(session_name(login.account))
            .duration_seconds(LIFE_SECONDS)
            .set_external_id(hop.external_id.clone());
        for (key, value) in hop.tags_for(login.account) {
            let tag = Tag::builder().key(key).value(value).build();
            call = call.tags(tag.map_err(|_| invalid("a session tag has no key or no value"))?);
        }
        let doing = Doing::Hop { role: &hop.role, from: &from };
        let answer = unheard(call.send()).await;
        granted(answer.map_err(|error| refusal(&error, doing).at_login(&self.sts_place()))?.credentials, asked)
    }

    /// For messages.
    fn sts_place(&self) -> String {
        self.sts_endpoint.as_ref().map_or_else(
            || format!("STS in {}", self.region),
            |endpoint| format!("STS ({})", endpoint.trim_end_matches('/')),
        )
    }

    fn sts(&self, login: &Login<'_>, credentials: Option<Credentials>) -> aws_sdk_sts::Client {
        let wire = Wire::new(Arc::clone(&self.pools.sts), login.pace.clone());
        let settings = Settings { region: self.region.clone(), endpoint: self.sts_endpoint.clone(), wire, credentials };
        aws_sdk_sts::Client::new(&settings.config(&self.region))
    }
}

fn static_credentials(keys: &Keys) -> Credentials {
    let token = keys.token.as_ref().map(|token| token.expose().to_owned());
    Credentials::new(keys.id.expose(), keys.secret.expose(), token, None, "secretRef")
}

/// What STS issued. The SDK makes empty text of a part that is not there.
pub(super) fn granted(issued: Option<StsCredentials>, asked: Instant) -> Result<Granted, StoreError> {
    let is_whole = |issued: &StsCredentials| {
        [&issued.access_key_id, &issued.secret_access_key, &issued.session_token].iter().all(|part| !part.is_empty())
    };
    let issued = issued.filter(is_whole).ok_or_else(|| unavailable("STS answered without credentials"))?;
    let end = SystemTime::try_from(issued.expiration).map_err(|_| unavailable("STS answered without an end"))?;
    let expires = asked + left(end).min(LIFE);
    let credentials =
        Credentials::new(issued.access_key_id, issued.secret_access_key, Some(issued.session_token), Some(end), "sts");
    Ok(Granted { credentials, expires: Some(expires) })
}

pub(super) fn left(end: SystemTime) -> Duration {
    end.duration_since(SystemTime::now()).unwrap_or_default()
}
