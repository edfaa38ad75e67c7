//! Google Cloud Secret Manager by REST: Google's own client for Rust builds
//! its HTTP stack inside.
//!
//! A bot's ServiceAccount is known to Google by Workload Identity Federation
//! or by the Workload Identity of a GKE cluster, and may impersonate a Google
//! service account.

mod dates;
mod errors;
mod find;
#[cfg(any(test, fuzzing))]
pub(in crate::stores) mod fuzzing;
mod identity;
mod key;
mod login;
mod names;
mod read;
mod write;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use reqwest::{
    Method, Request, Url,
    header::{AUTHORIZATION, HeaderValue},
};
use tokio::time::Instant;

use self::{dates::Dates, identity::Identities, login::TokenIssuers, names::Parent};
use super::{
    Backend, Capabilities, FindQuery, Identity, Login, Opening, Pace, QuotaDomain, RemoteKey, RemoteSecret, Scope,
    ServiceAccount, Session, StoreError, WriteBack, address,
    error::{invalid, unavailable},
    http::{self, Answer, Pool},
    read_each,
};
use crate::{api::GcpStore, secret::SecretText};

/// What one project is asked a second: a third of the 90,000 a minute that
/// Google grants, since other clusters ask it too.
const REQUESTS_PER_SECOND: u32 = 500;
const REQUESTS_IN_FLIGHT: u32 = 64;

/// One project's secrets as a store describes them.
pub(super) struct Gcp {
    manager: Arc<Manager>,
    identities: Identities,
    issuers: TokenIssuers,
    quota: String,
}

/// Where Secret Manager is, and which secrets the store means.
struct Manager {
    pool: Arc<Pool>,
    /// Where the store says that it is; else Google's public endpoints.
    endpoint: Option<Url>,
    parent: Parent,
    /// Whether a remote key may name another project. With an identity that
    /// many bots share, no: its rights are more than one bot's.
    other_projects: bool,
}

impl Gcp {
    pub(super) fn new(spec: &GcpStore, opening: &Opening<'_>) -> Result<Self, StoreError> {
        let ambient = spec.auth.ambient.is_some();
        if opening.scope != Scope::Cluster && (ambient || spec.token_endpoints.is_some()) {
            return Err(invalid(
                "gcp.tokenEndpoints and gcp.auth.ambient are for a ClusterBotSecretStore: use auth.workloadIdentityFederation",
            ));
        }
        let endpoint = spec.endpoint.as_deref().map(|endpoint| bare_url(endpoint, "endpoint")).transpose()?;
        let elsewhere = endpoint.as_ref().is_some_and(|endpoint| !is_googles(endpoint));
        if opening.scope != Scope::Cluster && (elsewhere || spec.ca_bundle.is_some()) {
            return Err(invalid(
                "gcp.caBundle, and a gcp.endpoint that is not https below googleapis.com, are for a \
                 ClusterBotSecretStore: the bot's access token is sent there",
            ));
        }
        let parent = Parent::new(&spec.project_id, spec.location.as_deref())?;
        let pool = opening.pool(&base(endpoint.as_ref(), &parent)?, spec.ca_bundle.as_deref())?;
        let shared = ambient || (opening.scope == Scope::Cluster && spec.auth.secret_ref.is_some());
        Ok(Self {
            identities: Identities::new(spec)?,
            issuers: TokenIssuers::new(spec, opening)?,
            quota: quota(spec, opening.proxy.as_deref()),
            manager: Arc::new(Manager { pool, endpoint, parent, other_projects: !shared }),
        })
    }
}

/// A location has an endpoint and limits of its own. So has a way of one's own
/// to the project: a dead endpoint in one team's store must not use up the
/// requests of another's.
fn quota(spec: &GcpStore, proxy: Option<&str>) -> String {
    let way = [spec.endpoint.as_deref(), proxy];
    let place = match &spec.location {
        Some(location) => format!("gcp/{}/{location}", spec.project_id),
        None => format!("gcp/{}", spec.project_id),
    };
    way.into_iter().flatten().fold(place, |name, part| format!("{name} by {part}"))
}

#[async_trait]
impl Backend for Gcp {
    fn capabilities(&self) -> Capabilities {
        Capabilities { batch: 1, leases: false, write_back: true, change_events: false, dates_apart: true }
    }

    fn identity(&self, account: &ServiceAccount) -> Result<Identity, StoreError> {
        let who = self.identities.of(account)?;
        Ok(Identity {
            audience: who.token_audience,
            role: who.impersonated.unwrap_or_default(),
            quota: QuotaDomain {
                name: self.quota.clone(),
                requests_per_second: Some(REQUESTS_PER_SECOND),
                in_flight: REQUESTS_IN_FLIGHT,
            },
        })
    }

    async fn login(&self, login: Login<'_>) -> Result<Arc<dyn Session>, StoreError> {
        let who = self.identities.of(login.account)?;
        let granted = self.issuers.log_in(&self.identities, &who, &login).await?;
        Ok(Arc::new(Reader {
            manager: Arc::clone(&self.manager),
            token: granted.token,
            expires: granted.expires,
            principal: who.principal,
            pace: login.pace,
            dates: Dates::default(),
        }))
    }
}

/// A login.
struct Reader {
    manager: Arc<Manager>,
    token: SecretText,
    expires: Option<Instant>,
    /// Whom to grant something, for messages.
    principal: String,
    pace: Pace,
    dates: Dates,
}

impl Reader {
    async fn get(&self, url: Url, within: Option<Duration>) -> Result<Answer, StoreError> {
        self.ask(Request::new(Method::GET, url), within).await
    }

    async fn ask(&self, mut request: Request, within: Option<Duration>) -> Result<Answer, StoreError> {
        *request.timeout_mut() = within;
        request.headers_mut().insert(AUTHORIZATION, bearer(&self.token)?);
        self.manager.pool.send(request, &self.pace).await
    }
}

#[async_trait]
impl Session for Reader {
    fn expires(&self) -> Option<Instant> {
        self.expires
    }

    async fn read(&self, keys: &[RemoteKey]) -> Vec<Result<RemoteSecret, StoreError>> {
        read_each(keys, |key| self.read_one(key)).await
    }

    async fn find(&self, query: &FindQuery) -> Result<Vec<String>, StoreError> {
        self.search(query).await
    }

    async fn write(&self, write: &WriteBack<'_>) -> Result<(), StoreError> {
        self.write_back(write).await
    }
}

impl Manager {
    /// Whether what lies there has another host than what the store names.
    fn is_elsewhere(&self, parent: &Parent) -> bool {
        self.endpoint.is_none() && parent.location != self.parent.location
    }

    /// The address of something below a location's endpoint.
    fn url(&self, location: Option<&str>, path: &str) -> Result<Url, StoreError> {
        let base = match &self.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => public(location)?,
        };
        base.join(&format!("/v1/{path}")).map_err(|_| invalid("the remote key cannot be written as a URL"))
    }
}

fn base(endpoint: Option<&Url>, parent: &Parent) -> Result<Url, StoreError> {
    endpoint.map_or_else(|| public(parent.location.as_deref()), |endpoint| Ok(endpoint.clone()))
}

/// Google's endpoint for global secrets, or for those of a location (which is
/// checked: it becomes part of a host name).
fn public(location: Option<&str>) -> Result<Url, StoreError> {
    let url = match location {
        None => "https://secretmanager.googleapis.com".to_owned(),
        Some(location) => format!("https://secretmanager.{location}.rep.googleapis.com"),
    };
    Url::parse(&url).map_err(|_| invalid("location must be a location's name, such as europe-west1"))
}

/// Whether nobody but Google can answer there, given that its certificate is
/// checked against the public roots.
fn is_googles(url: &Url) -> bool {
    let below = url.domain().and_then(|host| host.strip_suffix(".googleapis.com"));
    url.scheme() == "https" && url.port().is_none() && below.is_some_and(|name| !name.is_empty())
}

/// A URL of scheme, host and port only.
fn bare_url(text: &str, field: &str) -> Result<Url, StoreError> {
    address::bare(text, field, "https://host.example")
}

fn bearer(token: &SecretText) -> Result<HeaderValue, StoreError> {
    http::bearer(token).ok_or_else(|| unavailable("Google issued a token that cannot be sent back in a header"))
}

#[cfg(test)]
mod tests;
