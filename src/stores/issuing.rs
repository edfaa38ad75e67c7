//! Credentials that a manager issues and that end: leases.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use tokio::time::Instant;

use super::{Login, Payload, StoreError};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssueRequest {
    /// The path that issues it.
    pub path: String,
    /// What is sent, where the path is written to; `None`: it is read.
    pub parameters: Option<BTreeMap<String, String>>,
}

/// What was issued.
#[derive(Debug)]
pub struct Issued {
    /// The credential.
    pub payload: Payload,
    /// The lease that it hangs on. `None`: it hangs on nothing and cannot be
    /// revoked, as a certificate or a static role's password.
    pub lease: Option<Lease>,
    /// How long it is good for. `None`: the manager does not say.
    pub life: Option<Duration>,
}

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its id.
    pub id: String,
    /// Whether it can be renewed.
    pub renewable: bool,
}

/// What became of a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// It is gone.
    Now,
    /// It was gone before.
    Before,
}

/// A backend that issues.
#[async_trait]
pub trait Issuer: Send + Sync {
    /// How long the ServiceAccount's token is to live with which a login is
    /// made that is to hold a credential, where the manager renews that login no
    /// longer than the token lives. `None`: any token will do.
    fn token_life(&self) -> Option<Duration> {
        None
    }

    /// A new login, shared with nobody: what it issues ends with it.
    async fn log_in(&self, login: Login<'_>) -> Result<Box<dyn IssuingLogin>, StoreError>;
}

/// A login that issues, and looks after what earlier ones issued.
#[async_trait]
pub trait IssuingLogin: Send + Sync {
    /// What it speaks to, as a store's spec names it ([`crate::api::Provider::name`]).
    fn provider(&self) -> &'static str;

    /// What names this login without being of use to anyone else.
    fn accessor(&self) -> &str;

    /// When it ends, unless it is renewed.
    fn expires(&self) -> Instant;

    /// How long it was good for when it was made.
    fn life(&self) -> Duration;

    /// Issues a credential.
    async fn issue(&self, request: &IssueRequest) -> Result<Issued, StoreError>;

    /// Renews this login; answers how long it is good for from before the
    /// question.
    async fn renew(&self, asked: Duration) -> Result<Duration, StoreError>;

    /// The same for an earlier login, by its accessor.
    async fn renew_other(&self, accessor: &str, asked: Duration) -> Result<Duration, StoreError>;

    /// The same for a lease, whoever made it.
    async fn renew_lease(&self, lease: &str, asked: Duration) -> Result<Duration, StoreError>;

    /// Ends this login and with it everything that it issued.
    async fn revoke(&self) -> Result<Revoked, StoreError>;

    /// The same for an earlier login, by its accessor.
    async fn revoke_other(&self, accessor: &str) -> Result<Revoked, StoreError>;

    /// Revokes a lease, whoever made it.
    async fn revoke_lease(&self, lease: &str) -> Result<Revoked, StoreError>;
}
