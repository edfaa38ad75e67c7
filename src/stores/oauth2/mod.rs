//! OAuth 2 issuers: short-lived access tokens, the client proved by the
//! ServiceAccount's token (as a federated assertion, RFC 7523, or exchanged,
//! RFC 8693) or by a client secret.
//!
//! A remote key is the scopes that are asked for. Each token is kept until two
//! thirds of its life are over: a read before that costs no request and gives
//! the same bytes.

mod answers;
#[cfg(any(test, fuzzing))]
pub(in crate::stores) mod fuzzing;
mod proof;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::{
    Method, Request, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use tokio::time::Instant;

use self::{answers::Granted, proof::Proof};
use super::{
    Audience, Backend, Capabilities, Identity, Login, Opening, Pace, Payload, QuotaDomain, RemoteKey, RemoteSecret,
    ServiceAccount, Session, StoreError, address::has_credentials, error::invalid, form::Form, http::Pool, locked,
    read_each,
};
use crate::{
    api::OAuth2Store,
    secret::{SecretBytes, SecretText},
};

/// What one issuer is asked at once, by all stores that name it.
const REQUESTS_IN_FLIGHT: u32 = 32;
/// The remote key that stands for the store's own scopes.
const DEFAULT: &str = "default";
/// However short a token lives, another is not asked for sooner.
const SHORTEST_USE: Duration = Duration::from_secs(5);

/// One issuer as a store describes it.
pub(super) struct OAuth2 {
    endpoint: Arc<Endpoint>,
}

/// What every session of a store shares.
struct Endpoint {
    pool: Arc<Pool>,
    url: Url,
    scopes: String,
    parameters: BTreeMap<String, String>,
    proof: Proof,
    /// The tokens that are in use. They outlive the session that they were had
    /// with: a new login is no reason for a new token.
    held: Mutex<HashMap<Holder, Cell>>,
}

/// Whose token, with which scopes. Nobody's in particular where the client is
/// the store's own.
type Holder = (Option<String>, String);

/// The lock is held while a token is asked for, so that it is asked for once.
type Cell = Arc<tokio::sync::Mutex<Option<Held>>>;

/// A token in use.
struct Held {
    fields: BTreeMap<String, SecretBytes>,
    renew: Instant,
}

impl OAuth2 {
    pub(super) fn new(spec: &OAuth2Store, opening: &Opening<'_>) -> Result<Self, StoreError> {
        let url = token_url(&spec.token_url)?;
        let proof = Proof::new(&spec.auth, opening)?;
        if let Some(reserved) = spec.parameters.keys().find(|name| proof::is_reserved(name)) {
            return Err(invalid(format!(
                "parameter {reserved} is the operator's to write: use the fields of auth and scopes"
            )));
        }
        let endpoint = Endpoint {
            pool: opening.pool(&url, spec.ca_bundle.as_deref())?,
            url,
            scopes: scopes(&spec.scopes.join(" "), "scopes")?,
            parameters: spec.parameters.clone(),
            proof,
            held: Mutex::default(),
        };
        Ok(Self { endpoint: Arc::new(endpoint) })
    }
}

/// The schema's rule, again: an object may be older than the schema.
fn token_url(text: &str) -> Result<Url, StoreError> {
    let url = Url::parse(text).ok().filter(|url| {
        let bare = !has_credentials(url) && url.query().is_none() && url.fragment().is_none();
        matches!(url.scheme(), "http" | "https") && bare
    });
    url.ok_or_else(|| {
        invalid(
            "tokenURL must be a URL without credentials, query and fragment, such as https://login.example/oauth2/token",
        )
    })
}

/// Scopes with one space between them, each spelt as RFC 6749 allows.
fn scopes(text: &str, field: &str) -> Result<String, StoreError> {
    let allowed = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    let scopes: Vec<&str> = text.split(' ').filter(|scope| !scope.is_empty()).collect();
    if scopes.iter().all(|scope| scope.bytes().all(allowed)) {
        return Ok(scopes.join(" "));
    }
    Err(invalid(format!("{field} must be scopes with spaces between them: printable ASCII without '\"' and '\\'")))
}

#[async_trait]
impl Backend for OAuth2 {
    fn capabilities(&self) -> Capabilities {
        Capabilities { batch: 1, leases: false, write_back: false, change_events: false, dates_apart: false }
    }

    fn identity(&self, _account: &ServiceAccount) -> Result<Identity, StoreError> {
        let origin = self.endpoint.url.origin().ascii_serialization();
        Ok(Identity {
            audience: self.endpoint.proof.audience().map(|audience| Audience::Of(audience.to_owned())),
            role: self.endpoint.proof.client_id().unwrap_or_default().to_owned(),
            quota: QuotaDomain {
                name: format!("oauth2/{origin}"),
                requests_per_second: None,
                in_flight: REQUESTS_IN_FLIGHT,
            },
        })
    }

    async fn login(&self, login: Login<'_>) -> Result<Arc<dyn Session>, StoreError> {
        // Nothing to ask for: each read shows the proof anew.
        let (token, account) = if self.endpoint.proof.audience().is_some() {
            let token = login.service_account_token()?.expose().to_owned();
            (Some(SecretText::new(token)), Some(login.account.uid.clone()))
        } else {
            (None, None)
        };
        Ok(Arc::new(Client { endpoint: Arc::clone(&self.endpoint), token, account, pace: login.pace }))
    }
}

/// One identity at an issuer.
struct Client {
    endpoint: Arc<Endpoint>,
    token: Option<SecretText>,
    account: Option<String>,
    pace: Pace,
}

#[async_trait]
impl Session for Client {
    /// As long as the ServiceAccount's token.
    fn expires(&self) -> Option<Instant> {
        None
    }

    async fn read(&self, keys: &[RemoteKey]) -> Vec<Result<RemoteSecret, StoreError>> {
        read_each(keys, |key| self.read_one(key)).await
    }

    async fn find(&self, _query: &super::FindQuery) -> Result<Vec<String>, StoreError> {
        Err(invalid("an issuer has nothing to look for: name the scopes under remoteRef.key"))
    }
}

impl Client {
    async fn read_one(&self, key: &RemoteKey) -> Result<RemoteSecret, StoreError> {
        if key.version.is_some() {
            return Err(invalid("an access token has no versions: leave remoteRef.version out"));
        }
        if key.metadata {
            return Err(invalid("an access token has no metadata: leave metadataPolicy out"));
        }
        let scopes = match key.key.as_str() {
            DEFAULT => self.endpoint.scopes.clone(),
            written => match scopes(written, "remoteRef.key")? {
                none if none.is_empty() => {
                    return Err(invalid("remoteRef.key must name scopes, or be \"default\" for those of the store"));
                }
                scopes => scopes,
            },
        };
        let cell = self.endpoint.cell((self.account.clone(), scopes.clone()));
        let mut held = cell.lock().await;
        if let Some(held) = held.as_ref().filter(|held| Instant::now() < held.renew) {
            return Ok(held.secret());
        }
        let fresh = self.ask(&scopes).await?;
        let secret = fresh.secret();
        *held = Some(fresh);
        Ok(secret)
    }

    async fn ask(&self, scopes: &str) -> Result<Held, StoreError> {
        let request = self.endpoint.request(scopes, self.token.as_ref())?;
        // A token's life counts from before the question, never from after a
        // slow answer.
        let (asked, now) = (Instant::now(), Timestamp::now());
        let answer = self.endpoint.pool.send(request, &self.pace).await?;
        if !answer.status.is_success() {
            return Err(answers::refusal(&answer, &self.endpoint.proof, scopes));
        }
        let Granted { fields, life } = answers::granted(&answer.body, now)?;
        Ok(Held { fields, renew: asked + (life / 3 * 2).max(SHORTEST_USE) })
    }
}

impl Held {
    fn secret(&self) -> RemoteSecret {
        let fields = self.fields.iter().map(|(name, value)| (name.clone(), value.duplicate())).collect();
        RemoteSecret { renew: Some(self.renew), ..RemoteSecret::of(Payload::Fields(fields)) }
    }
}

impl Endpoint {
    /// The place of a token, and no token that nobody would use again.
    fn cell(&self, holder: Holder) -> Cell {
        let now = Instant::now();
        let mut held = locked(&self.held);
        held.retain(|_, cell| {
            // Somebody else is about to use it.
            Arc::strong_count(cell) > 1
                || cell.try_lock().is_ok_and(|token| token.as_ref().is_some_and(|token| now < token.renew))
        });
        Arc::clone(held.entry(holder).or_default())
    }

    fn request(&self, scopes: &str, token: Option<&SecretText>) -> Result<Request, StoreError> {
        let mut form = Form::default();
        let authorization = self.proof.write(&mut form, token)?;
        if !scopes.is_empty() {
            form.put("scope", scopes);
        }
        for (name, value) in &self.parameters {
            form.put(name, value);
        }
        let mut request = Request::new(Method::POST, self.url.clone());
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(text) = authorization {
            let mut value = HeaderValue::from_str(text.expose())
                .map_err(|_| invalid("the client's id and secret cannot be sent in a header"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        *request.body_mut() = Some(form.into_body());
        Ok(request)
    }
}
