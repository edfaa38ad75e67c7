//! The secret managers: one file or folder each, behind [`Backend`].
//!
//! A backend only speaks its manager's protocol. What all managers share lies
//! in `fetch`: logins that are reused and renewed, limits, deadlines,
//! single-flight and shared reads. A new manager implements [`Backend`] and
//! [`Session`], and is added to [`open`].

#[allow(dead_code, reason = "each store uses its part")]
mod address;
#[cfg(feature = "aws")]
mod aws;
#[cfg(feature = "azure")]
mod azure;
#[cfg(test)]
mod canned;
mod decoded;
mod error;
#[allow(dead_code, reason = "each store uses its part")]
mod form;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
#[allow(dead_code, reason = "each store uses its part")]
mod gathered;
#[cfg(feature = "gcp")]
mod gcp;
#[allow(dead_code, unused_imports, reason = "each store uses its part")]
mod http;
mod identity;
mod issuing;
#[cfg(feature = "kubernetes")]
mod kubernetes;
pub(crate) mod names;
#[cfg(feature = "oauth2")]
mod oauth2;
#[cfg(test)]
mod testing;
#[cfg(feature = "vault")]
mod vault;
#[allow(dead_code, reason = "each store uses its part")]
mod writing;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use http::Pool;
use k8s_openapi::jiff::Timestamp;
use regex::{Regex, RegexBuilder};
use reqwest::Url;
use tokio::time::Instant;

use crate::{
    api::Provider,
    secret::{SecretBytes, SecretText},
};

pub(crate) use decoded::Decoded;
use decoded::DecodedText;
pub use error::{ErrorClass, StoreError};
pub(crate) use gathered::Progress;
pub(crate) use http::client_for;
pub use http::{ClusterEndpoint, HttpClients, LARGEST_ANSWER, Place, Reach};
pub use identity::{
    Audience, Credentials, IDENTITY_ANNOTATIONS, Identity, Login, Pace, QuotaDomain, Scope, ServiceAccount, Turn, Turns,
};
pub use issuing::{IssueRequest, Issued, Issuer, IssuingLogin, Lease, Revoked};

/// What a compiled regular expression may take: tenants write them.
const LARGEST_PATTERN: usize = 1 << 20;

/// What a manager can do beyond single reads. The pipeline asks; a backend
/// that says no needs no further code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is independent of the others")]
pub struct Capabilities {
    /// How many remote secrets one read may name (1: no batched reads).
    pub batch: usize,
    /// Whether it issues leased credentials, each with a login of its own.
    pub leases: bool,
    /// Whether a new value can be written back.
    pub write_back: bool,
    /// Whether it tells of changes, so that reads need not probe for them.
    pub change_events: bool,
    /// Whether it takes a request of its own to learn when a version was made.
    pub dates_apart: bool,
}

/// Names one remote secret; properties are picked from it later.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RemoteKey {
    /// As the manager names it.
    pub key: String,
    /// The pinned version, else the newest.
    pub version: Option<String>,
    /// What the manager keeps about the secret (custom metadata, tags), as a
    /// JSON object, instead of its value.
    pub metadata: bool,
    /// Whether the answer is to say when the version was made, even where that
    /// takes a request of its own ([`Capabilities::dates_apart`]).
    pub dated: bool,
}

/// Which remote secrets are looked for. What is not set is not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FindQuery {
    /// Those below this path, or whose name begins with it.
    pub path: Option<String>,
    /// Those whose name this regular expression matches.
    pub name: Option<String>,
    /// Those with all of these tags (labels).
    pub tags: BTreeMap<String, String>,
}

impl FindQuery {
    /// The regular expression that a name must match, where there is one.
    #[allow(dead_code, reason = "each store uses its part")]
    fn pattern(&self) -> Result<Option<Regex>, StoreError> {
        let compiled = self.name.as_deref().map(|text| RegexBuilder::new(text).size_limit(LARGEST_PATTERN).build());
        compiled.transpose().map_err(|_| {
            error::invalid(
                "find.name.regexp is no regular expression, or too large a one: correct it (Rust's syntax: no \
                 look-around, no back-references)",
            )
        })
    }
}

impl fmt::Display for RemoteKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(formatter, "{} (version {version})", self.key)?,
            None => formatter.write_str(&self.key)?,
        }
        if self.metadata { formatter.write_str(" (metadata)") } else { Ok(()) }
    }
}

/// One remote secret as it was read.
#[derive(Debug)]
pub struct RemoteSecret {
    /// Its content.
    pub payload: Payload,
    /// Its version, where the manager numbers them in ascending order. Used to
    /// tell a stale read from a rollback.
    pub version: Option<u64>,
    /// The manager's name of its version, where that is no number. Only told.
    pub version_id: Option<String>,
    /// From when on it should be read again, because it will end (an access
    /// token). `None`: it lives until it is changed.
    pub renew: Option<Instant>,
    /// When this version was made, where the manager tells it with the value or is
    /// asked for it ([`RemoteKey::dated`]).
    pub changed: Option<Timestamp>,
}

impl RemoteSecret {
    /// One of which the manager tells no more than this.
    #[must_use]
    pub fn of(payload: Payload) -> Self {
        Self { payload, version: None, version_id: None, renew: None, changed: None }
    }

    /// The version that was read, for people.
    #[must_use]
    pub fn version_name(&self) -> Option<Cow<'_, str>> {
        let number = self.version.map(|number| Cow::Owned(number.to_string()));
        number.or(self.version_id.as_deref().map(Cow::Borrowed))
    }
}

/// An id of a version, if it is one: it ends up in logs, and comes from outside.
fn version_id(text: &str) -> Option<String> {
    const LONGEST: usize = 128;
    let is_plain = !text.is_empty() && text.len() <= LONGEST && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain.then(|| text.to_owned())
}

/// The content of a remote secret, in the manager's own shape.
#[derive(Debug)]
pub enum Payload {
    /// JSON text exactly as the manager wrote it, so that numbers keep their
    /// spelling.
    Json(SecretText),
    /// Named byte strings.
    Fields(BTreeMap<String, SecretBytes>),
    /// One byte string.
    Bytes(SecretBytes),
}

/// One manager as a store describes it. Cheap to make; holds no login.
#[async_trait]
pub trait Backend: Send + Sync {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// How it logs in for this ServiceAccount.
    ///
    /// # Errors
    /// Where the account lacks an annotation that the store relies on, or
    /// names something there that the store does not allow.
    fn identity(&self, account: &ServiceAccount) -> Result<Identity, StoreError>;

    /// What issues leased credentials, where [`Capabilities::leases`] says so.
    fn issuer(&self) -> Option<&dyn Issuer> {
        None
    }

    /// Makes a session.
    async fn login(&self, login: Login<'_>) -> Result<Arc<dyn Session>, StoreError>;
}

/// A login that is good for reads until it expires.
#[async_trait]
pub trait Session: Send + Sync {
    /// When it ends; `None` where it lives as long as the token it was made
    /// with.
    fn expires(&self) -> Option<Instant>;

    /// Reads remote secrets, at most [`Capabilities::batch`] of them; one
    /// answer for each, in their order.
    async fn read(&self, keys: &[RemoteKey]) -> Vec<Result<RemoteSecret, StoreError>>;

    /// The keys of the remote secrets that are looked for, in their order.
    async fn find(&self, _query: &FindQuery) -> Result<Vec<String>, StoreError> {
        Err(StoreError::new(ErrorClass::Invalid, "this manager cannot be searched: name the remote secrets one by one"))
    }

    /// Writes a new value, where [`Capabilities::write_back`] says so. Safe to
    /// repeat after a lost reply: whoever asks compares with what is there first,
    /// and gives the same `attempt` again.
    async fn write(&self, _write: &WriteBack<'_>) -> Result<(), StoreError> {
        Err(StoreError::new(ErrorClass::Invalid, "nothing can be written to this manager: take rotation.generate out"))
    }

    /// Asks the manager to make a new value itself. It may do so later; the same
    /// `attempt` again is the same request.
    async fn rotate(&self, _key: &RemoteKey, _attempt: &str) -> Result<(), StoreError> {
        Err(StoreError::new(
            ErrorClass::Invalid,
            "this manager rotates nothing by itself: let the operator make the value (rotation.generate), or rotate it at the source",
        ))
    }
}

/// A new value for one remote secret.
#[derive(Debug)]
pub struct WriteBack<'a> {
    /// Which one; its version is none.
    pub key: &'a RemoteKey,
    /// What of it is replaced; the whole where `None`. The rest of its content
    /// stays as it is.
    pub properties: &'a [(Option<String>, SecretBytes)],
    /// The version that the new one follows, where the manager numbers them: a
    /// write by somebody else in between is not overwritten
    /// ([`ErrorClass::Conflict`]).
    pub base: Option<u64>,
    /// Names this attempt: a UUID, the same for each repetition.
    pub attempt: &'a str,
}

/// What is behind these locks is whole after every step: a panic elsewhere is
/// no reason to stop.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One read after the other, for managers without batches: what is read at
/// once is `fetch`'s to say.
#[allow(dead_code, reason = "each store uses its part")]
async fn read_each<'a, R>(
    keys: &'a [RemoteKey],
    read: impl Fn(&'a RemoteKey) -> R,
) -> Vec<Result<RemoteSecret, StoreError>>
where
    R: Future<Output = Result<RemoteSecret, StoreError>>,
{
    let mut answers = Vec::with_capacity(keys.len());
    for key in keys {
        answers.push(read(key).await);
    }
    answers
}

/// What a backend is made of, besides what is the manager's own.
pub struct Opening<'a> {
    /// Who wrote the store.
    pub scope: Scope,
    /// The store's own credentials.
    pub credentials: Credentials,
    /// The connection pools.
    pub clients: &'a HttpClients,
    /// The store's proxy.
    pub proxy: Option<String>,
    /// The bound on one answer, in bytes.
    pub largest_answer: usize,
}

impl Opening<'_> {
    /// Connections that show this client certificate, shared with nobody.
    fn pool_as(&self, identity: reqwest::Identity, ca_bundle: Option<&str>) -> Result<Arc<Pool>, StoreError> {
        let confined = self.scope == Scope::Namespace;
        self.clients.pool_as(identity, ca_bundle, self.proxy.as_deref(), self.largest_answer, confined)
    }

    /// The pool for an address and a CA bundle (PEM, or base64 of PEM).
    fn pool(&self, address: &Url, ca_bundle: Option<&str>) -> Result<Arc<Pool>, StoreError> {
        let proxy = self.proxy.as_deref();
        match self.scope {
            Scope::Namespace => self.clients.pool_within_reach(address, ca_bundle, proxy, self.largest_answer),
            Scope::Cluster => self.clients.pool(address, ca_bundle, proxy, self.largest_answer),
        }
    }
}

/// The backend for what a store says.
///
/// # Errors
/// [`ErrorClass::Invalid`] where the store cannot be right (a CA bundle that
/// is none, a header value that cannot be sent), or its feature is not
/// compiled in.
pub fn open(provider: &Provider, opening: &Opening<'_>) -> Result<Arc<dyn Backend>, StoreError> {
    match provider {
        #[cfg(feature = "aws")]
        Provider::Aws(spec) => Ok(Arc::new(aws::Aws::new(spec, opening)?)),
        #[cfg(feature = "azure")]
        Provider::Azure(spec) => Ok(Arc::new(azure::KeyVault::new(spec, opening)?)),
        #[cfg(feature = "gcp")]
        Provider::Gcp(spec) => Ok(Arc::new(gcp::Gcp::new(spec, opening)?)),
        #[cfg(feature = "kubernetes")]
        Provider::Kubernetes(spec) => Ok(Arc::new(kubernetes::Kubernetes::new(spec, opening)?)),
        #[cfg(feature = "oauth2")]
        Provider::OAuth2(spec) => Ok(Arc::new(oauth2::OAuth2::new(spec, opening)?)),
        #[cfg(feature = "vault")]
        Provider::Vault(spec) => Ok(Arc::new(vault::Vault::new(spec, opening)?)),
        #[allow(unreachable_patterns, reason = "reached when a feature is off")]
        _ => {
            Err(StoreError::new(ErrorClass::Invalid, "this operator was built without support for the store's manager"))
        }
    }
}
