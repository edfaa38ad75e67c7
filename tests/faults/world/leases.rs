//! Credentials that the manager issues, and when each of them ends.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use botsecret::{
    secret::SecretText,
    stores::{ErrorClass, IssueRequest, Issued, Issuer, IssuingLogin, Lease, Login, Payload, Revoked, StoreError},
};
use serde_json::json;
use tokio::time::Instant;

use super::{
    super::{clock, faults::Faults},
    manager::{Fields, call, fields},
};

/// What a login and a credential are good for, unless they are renewed.
const LIFE: Duration = Duration::from_secs(60);

/// A login, or a credential: when it ends, by its clock or since somebody ended it.
#[derive(Clone, Copy, Debug)]
struct Term(Duration);

impl Term {
    fn begin() -> Self {
        Self(clock::elapsed() + LIFE)
    }

    fn lives(self) -> bool {
        clock::elapsed() < self.0
    }

    fn renew(&mut self) -> Result<Duration, StoreError> {
        if !self.lives() {
            return Err(StoreError::new(ErrorClass::Missing, "it has ended"));
        }
        *self = Self::begin();
        Ok(LIFE)
    }

    fn end(&mut self) -> Revoked {
        if !self.lives() {
            return Revoked::Before;
        }
        self.0 = clock::elapsed();
        Revoked::Now
    }
}

#[derive(Debug)]
struct Credential {
    login: usize,
    path: String,
    term: Term,
    /// Whether somebody ended it, or its login.
    revoked: bool,
}

#[derive(Debug, Default)]
struct Ledger {
    logins: Vec<Term>,
    credentials: Vec<Credential>,
}

impl Ledger {
    fn ends(&self, credential: &Credential) -> Duration {
        credential.term.0.min(self.logins[credential.login].0)
    }

    fn login(&mut self, name: &str) -> Result<&mut Term, StoreError> {
        let index = name.strip_prefix("login-").and_then(|number| number.parse::<usize>().ok());
        index.and_then(|index| self.logins.get_mut(index)).ok_or_else(unknown)
    }

    fn end_login(&mut self, name: &str) -> Result<Revoked, StoreError> {
        let how = self.login(name)?.end();
        let of_it = self.credentials.iter_mut().filter(|one| format!("login-{}", one.login) == name);
        of_it.for_each(|one| one.revoked |= how == Revoked::Now);
        Ok(how)
    }

    fn end_lease(&mut self, name: &str) -> Result<Revoked, StoreError> {
        let how = self.lease(name)?.end();
        let index = name.strip_prefix("lease-").and_then(|number| number.parse::<usize>().ok());
        if let Some(one) = index.and_then(|index| self.credentials.get_mut(index)) {
            one.revoked |= how == Revoked::Now;
        }
        Ok(how)
    }

    fn lease(&mut self, name: &str) -> Result<&mut Term, StoreError> {
        let index = name.strip_prefix("lease-").and_then(|number| number.parse::<usize>().ok());
        index.and_then(|index| self.credentials.get_mut(index)).map(|one| &mut one.term).ok_or_else(unknown)
    }
}

fn unknown() -> StoreError {
    StoreError::new(ErrorClass::Missing, "there is none of that name")
}

/// All that was ever issued in a run.
#[derive(Clone, Debug)]
pub struct Leases {
    ledger: Arc<Mutex<Ledger>>,
    faults: Faults,
}

impl Leases {
    pub fn new(faults: &Faults) -> Self {
        Self { ledger: Arc::default(), faults: faults.clone() }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("nobody panics with it")
    }

    /// How many credentials were issued.
    pub fn issued(&self) -> usize {
        self.ledger().credentials.len()
    }

    /// The path that issued this, and when it ends.
    pub fn find(&self, data: &Fields) -> Option<(String, Duration)> {
        let ledger = self.ledger();
        let (_, found) = ledger.credentials.iter().enumerate().find(|(index, _)| fields(index + 1) == *data)?;
        Some((found.path.clone(), ledger.ends(found)))
    }

    /// How many ended without anybody's ending them.
    pub fn lapsed(&self) -> usize {
        let ledger = self.ledger();
        let over = ledger.credentials.iter().filter(|one| ledger.ends(one) <= clock::elapsed());
        over.filter(|one| !one.revoked).count()
    }

    /// Ends every credential but the newest, whoever may use it.
    pub fn revoke_older(&self) {
        let mut ledger = self.ledger();
        let newest = ledger.credentials.len().saturating_sub(1);
        for older in &mut ledger.credentials[..newest] {
            older.revoked |= older.term.end() == Revoked::Now;
        }
    }

    /// How many live now.
    pub fn alive(&self) -> usize {
        let ledger = self.ledger();
        ledger.credentials.iter().filter(|one| ledger.ends(one) > clock::elapsed()).count()
    }

    fn issue(&self, login: usize, path: &str) -> Result<Issued, StoreError> {
        let mut ledger = self.ledger();
        if !ledger.logins[login].lives() {
            return Err(StoreError::new(ErrorClass::LoginDenied, "the login has ended"));
        }
        ledger.credentials.push(Credential { login, path: path.to_owned(), term: Term::begin(), revoked: false });
        let number = ledger.credentials.len();
        let fields: BTreeMap<_, _> =
            fields(number).into_iter().map(|(name, value)| (name, String::from_utf8(value).expect("text"))).collect();
        let payload = Payload::Json(SecretText::new(json!(fields).to_string()));
        let lease = Some(Lease { id: format!("lease-{}", number - 1), renewable: true });
        Ok(Issued { payload, lease, life: Some(LIFE) })
    }
}

#[async_trait]
impl Issuer for Leases {
    async fn log_in(&self, _: Login<'_>) -> Result<Box<dyn IssuingLogin>, StoreError> {
        call(&self.faults, "log in to issue", || {
            let mut ledger = self.ledger();
            ledger.logins.push(Term::begin());
            let number = ledger.logins.len() - 1;
            let (accessor, expires) = (format!("login-{number}"), Instant::now() + LIFE);
            Ok(Box::new(Held { leases: self.clone(), number, accessor, expires }) as Box<dyn IssuingLogin>)
        })
        .await
    }
}

/// A login of the operator's.
struct Held {
    leases: Leases,
    number: usize,
    accessor: String,
    expires: Instant,
}

#[async_trait]
impl IssuingLogin for Held {
    fn provider(&self) -> &'static str {
        "vault"
    }

    fn accessor(&self) -> &str {
        &self.accessor
    }

    fn expires(&self) -> Instant {
        self.expires
    }

    fn life(&self) -> Duration {
        LIFE
    }

    async fn issue(&self, request: &IssueRequest) -> Result<Issued, StoreError> {
        call(&self.leases.faults, "issue", || self.leases.issue(self.number, &request.path)).await
    }

    async fn renew(&self, asked: Duration) -> Result<Duration, StoreError> {
        self.renew_other(&self.accessor, asked).await
    }

    async fn renew_other(&self, accessor: &str, _: Duration) -> Result<Duration, StoreError> {
        call(&self.leases.faults, "renew a login", || self.leases.ledger().login(accessor)?.renew()).await
    }

    async fn renew_lease(&self, lease: &str, _: Duration) -> Result<Duration, StoreError> {
        call(&self.leases.faults, "renew a lease", || self.leases.ledger().lease(lease)?.renew()).await
    }

    async fn revoke(&self) -> Result<Revoked, StoreError> {
        self.revoke_other(&self.accessor).await
    }

    async fn revoke_other(&self, accessor: &str) -> Result<Revoked, StoreError> {
        call(&self.leases.faults, "revoke a login", || self.leases.ledger().end_login(accessor)).await
    }

    async fn revoke_lease(&self, lease: &str) -> Result<Revoked, StoreError> {
        call(&self.leases.faults, "revoke a lease", || self.leases.ledger().end_lease(lease)).await
    }
}
