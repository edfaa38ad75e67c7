//! Who reads, and as whom the manager knows it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;
use tokio::sync::OwnedSemaphorePermit;

use crate::{api::SecretKeyRef, secret::SecretBytes, secret::SecretText};

use super::{StoreError, error::invalid};

/// The annotations of a ServiceAccount that stores may be told to look at. No
/// other is kept.
pub const IDENTITY_ANNOTATIONS: [&str; 4] = [
    "azure.workload.identity/client-id",
    "azure.workload.identity/tenant-id",
    "eks.amazonaws.com/role-arn",
    "iam.gke.io/gcp-service-account",
];

/// Whose identity reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServiceAccount {
    /// Its namespace: always the BotSecret's.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID: a re-created account is another identity.
    pub uid: String,
    /// Those of its annotations that are [`IDENTITY_ANNOTATIONS`]. What a user
    /// writes there never widens what the store allows (P5).
    pub annotations: BTreeMap<String, String>,
}

/// Which token a backend logs in with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Audience {
    /// A token for the manager alone.
    Of(String),
    /// The API server's own audience: only for the `kubernetes` store of this
    /// cluster, whose token goes to no address but the API server's.
    ApiServer,
}

/// How a backend logs in for one ServiceAccount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The audience of the ServiceAccount's token. `None`: the login uses the
    /// store's own credentials, and its sessions serve every account.
    pub audience: Option<Audience>,
    /// The role that is logged in to, as far as sessions of different roles
    /// must be told apart.
    pub role: String,
    /// Whose limits count.
    pub quota: QuotaDomain,
}

/// What a manager counts requests by. Every store of one domain shares these
/// limits, whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaDomain {
    /// Its name, such as `aws/123456789012/eu-west-1/secretsmanager`.
    pub name: String,
    /// Requests a second: a part of what the manager grants, since other
    /// clusters ask it too. `None`: without bound.
    pub requests_per_second: Option<u32>,
    /// Requests under way at once.
    pub in_flight: u32,
}

/// What a backend logs in with.
pub struct Login<'a> {
    /// For whom.
    pub account: &'a ServiceAccount,
    /// That account's token, where [`Identity::audience`] asked for one.
    pub token: Option<&'a SecretText>,
    /// To be waited for before each request, of the login and of the session.
    pub pace: Pace,
}

impl<'a> Login<'a> {
    /// The account's token, for a login that cannot do without.
    #[allow(dead_code, reason = "each store uses its part")]
    pub(super) fn service_account_token(&self) -> Result<&'a SecretText, StoreError> {
        self.token.ok_or_else(|| invalid("a login needs the ServiceAccount's token"))
    }
}

/// Leave to send the next request, given at the rate that store and quota
/// domain allow.
#[async_trait]
pub trait Turns: Send + Sync {
    /// Waits for the next turn.
    async fn next(&self) -> Turn;
}

/// A request's turn: to be held until its answer is read, since it takes one
/// of the places that the quota domain has.
#[derive(Debug, Default)]
pub struct Turn {
    _place: Option<OwnedSemaphorePermit>,
}

impl Turn {
    /// With the place that it takes.
    #[must_use]
    pub fn in_place(place: OwnedSemaphorePermit) -> Self {
        Self { _place: Some(place) }
    }
}

/// Turns, or none where nothing is limited.
#[derive(Clone, Default)]
pub struct Pace(Option<Arc<dyn Turns>>);

impl Pace {
    /// As given by these turns.
    #[must_use]
    pub fn of(turns: Arc<dyn Turns>) -> Self {
        Self(Some(turns))
    }

    /// Waits until the next request may be sent.
    pub async fn turn(&self) -> Turn {
        match &self.0 {
            Some(turns) => turns.next().await,
            None => Turn::default(),
        }
    }
}

impl fmt::Debug for Pace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pace").finish_non_exhaustive()
    }
}

/// Who wrote a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Whoever may write into a namespace.
    #[default]
    Namespace,
    /// An administrator of the cluster.
    Cluster,
}

/// The values that a store's own credentials have, by where they stand.
#[derive(Debug, Default)]
pub struct Credentials(BTreeMap<SecretKeyRef, SecretBytes>);

impl Credentials {
    /// These values.
    #[must_use]
    pub fn new(values: BTreeMap<SecretKeyRef, SecretBytes>) -> Self {
        Self(values)
    }

    /// The value that a store refers to.
    ///
    /// # Errors
    /// [`super::ErrorClass::Invalid`] where there is none.
    pub fn bytes(&self, reference: &SecretKeyRef) -> Result<&SecretBytes, StoreError> {
        self.0.get(reference).ok_or_else(|| {
            let SecretKeyRef { name, key } = reference;
            invalid(format!("the store's credentials are missing: Secret {name} has no key {key}"))
        })
    }

    /// The value as text, without white space around it: what people write
    /// into a Secret often ends in a line break.
    ///
    /// # Errors
    /// As [`Credentials::bytes`], and where it is no text.
    pub fn text(&self, reference: &SecretKeyRef) -> Result<&str, StoreError> {
        std::str::from_utf8(self.bytes(reference)?.expose()).map(str::trim).map_err(|_| {
            let SecretKeyRef { name, key } = reference;
            invalid(format!("the store's credentials in Secret {name}, key {key}, are no text"))
        })
    }
}
