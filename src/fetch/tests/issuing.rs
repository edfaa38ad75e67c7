//! What is told of calls that concern leases.

use std::{
    future::{pending, ready},
    path::PathBuf,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::time::Instant;

use super::{
    SECOND,
    told::{calls, lines},
    world::{Manager, World, account, store},
};
use crate::{
    api::{Provider, SecretKeyRef},
    audit::{AuditLog, Destination, Event, Kind, Remote, StoreName},
    fetch::{Fetcher, locked},
    stores::{ErrorClass, IssueRequest, Issued, Issuer, IssuingLogin, Login, Revoked, StoreError},
};

/// A login that holds nothing yet.
struct Holder;

#[async_trait]
impl Issuer for Manager {
    fn token_life(&self) -> Option<Duration> {
        Some(SECOND * 3600)
    }

    async fn log_in(&self, login: Login<'_>) -> Result<Box<dyn IssuingLogin>, StoreError> {
        self.world.logins.fetch_add(1, SeqCst);
        let _turn = self.world.sent(&self.store, &login.pace).await;
        Ok(Box::new(Holder))
    }
}

#[async_trait]
impl IssuingLogin for Holder {
    fn provider(&self) -> &'static str {
        "vault"
    }

    fn accessor(&self) -> &'static str {
        "accessor"
    }

    fn expires(&self) -> Instant {
        Instant::now() + self.life()
    }

    fn life(&self) -> Duration {
        SECOND * 3600
    }

    async fn issue(&self, _: &IssueRequest) -> Result<Issued, StoreError> {
        Err(StoreError::new(ErrorClass::Missing, "no engine"))
    }

    async fn renew(&self, asked: Duration) -> Result<Duration, StoreError> {
        Ok(asked)
    }

    async fn renew_other(&self, _: &str, asked: Duration) -> Result<Duration, StoreError> {
        Ok(asked)
    }

    async fn renew_lease(&self, _: &str, asked: Duration) -> Result<Duration, StoreError> {
        Ok(asked)
    }

    async fn revoke(&self) -> Result<Revoked, StoreError> {
        Ok(Revoked::Now)
    }

    async fn revoke_other(&self, _: &str) -> Result<Revoked, StoreError> {
        Ok(Revoked::Now)
    }

    async fn revoke_lease(&self, _: &str) -> Result<Revoked, StoreError> {
        Ok(Revoked::Now)
    }
}

/// A fetcher that writes its audit log.
struct Audited {
    world: Arc<World>,
    fetcher: Arc<Fetcher>,
    log: AuditLog,
    folder: TempDir,
}

impl Audited {
    fn new() -> Self {
        let (world, fetcher) = World::new().fetcher();
        let folder = tempfile::tempdir().expect("a folder");
        let log = AuditLog::open(&Destination::File(Self::path(&folder))).expect("a log");
        fetcher.audit_to(log.clone());
        Self { world, fetcher, log, folder }
    }

    fn path(folder: &TempDir) -> PathBuf {
        folder.path().join("audit.jsonl")
    }

    async fn lines(&self) -> Vec<String> {
        self.log.finish().await;
        lines(&Self::path(&self.folder))
    }

    fn errors(&self, class: ErrorClass) -> u64 {
        self.fetcher.counters().errors().filter(|(known, _)| *known == class).map(|(_, count)| count).sum()
    }
}

#[tokio::test]
async fn a_lane_that_refuses_what_concerns_a_lease_is_told_and_counted() {
    let audited = Audited::new();
    let desk = audited.fetcher.desk(&store(), &account("bot")).await.expect("a desk");
    let throttled = StoreError::new(ErrorClass::Throttled, "429").after(Some(SECOND * 30));
    desk.ask(Kind::Renew, "db/creds/bot", ready(Err::<(), _>(throttled))).await.expect_err("throttled");
    assert_eq!(audited.errors(ErrorClass::Throttled), 1);
    let refused = desk.ask(Kind::Renew, "db/creds/bot", pending::<Result<(), _>>()).await.expect_err("refused");
    assert_eq!((refused.class, audited.errors(ErrorClass::Throttled)), (ErrorClass::Throttled, 2));
    assert_eq!(audited.lines().await, ["renew none throttled untimed"; 2]);
}

#[tokio::test]
async fn a_login_for_a_lease_without_a_token_to_make_it_with_is_told_and_counted() {
    let audited = Audited::new();
    let desk = audited.fetcher.desk(&store(), &account("bot")).await.expect("a desk");
    *locked(&audited.world.token_fails) = Some(StoreError::new(ErrorClass::Identity, "no such ServiceAccount"));
    let refused = desk.log_in().await.err().expect("refused");
    assert_eq!(refused.class, ErrorClass::Identity);
    assert_eq!(desk.log_in_to_hold().await.err().expect("refused").class, ErrorClass::Identity);
    assert_eq!((audited.errors(ErrorClass::Identity), audited.fetcher.counters().logins()), (2, 0));
    *locked(&audited.world.token_fails) = None;
    desk.log_in().await.expect("logged in");
    assert_eq!(audited.fetcher.counters().logins(), 1);
    assert_eq!(
        audited.lines().await,
        ["login none identity untimed", "login none identity untimed", "login own ok timed"]
    );
}

#[tokio::test]
async fn a_store_that_cannot_be_opened_for_what_concerns_a_lease_is_told_and_counted() {
    let audited = Audited::new();
    let mut locked_out = store();
    if let Provider::Vault(vault) = &mut locked_out.provider {
        // There is no such Secret.
        vault.auth.token_secret_ref = Some(SecretKeyRef { name: "login".into(), key: "password".into() });
    }
    locked_out.credentials.namespace = "trading".into();
    let refused = audited.fetcher.desk(&locked_out, &account("bot")).await.err().expect("refused");
    assert_eq!(audited.errors(refused.class), 1);
    assert_eq!(audited.lines().await, [format!("login none {} untimed", refused.class.name())]);
}

#[tokio::test]
async fn a_call_past_the_lanes_is_told_counted_and_timed_as_any_other() {
    let audited = Audited::new();
    let (account, store) = (account("bot"), StoreName::of(&store().reference, "store-1"));
    let event =
        Event { account: Some(&account), remote: Remote::path("db/creds/bot"), ..Event::at(Kind::Revoke, &store) };
    let sealed = StoreError::new(ErrorClass::Unavailable, "sealed");
    let (fetcher, limit) = (&audited.fetcher, Duration::from_millis(20));
    fetcher.ask_alone(&event, "vault", limit, ready(Ok(()))).await.expect("revoked");
    fetcher.ask_alone(&event, "vault", limit, ready(Err::<(), _>(sealed))).await.expect_err("sealed");
    fetcher.ask_alone(&event, "vault", limit, pending::<Result<(), _>>()).await.expect_err("late");
    assert_eq!(calls(fetcher), [r#"{call="revoke",provider="vault"} 3"#]);
    assert_eq!((audited.errors(ErrorClass::Unavailable), audited.errors(ErrorClass::Timeout)), (1, 1));
    assert_eq!(
        audited.lines().await,
        ["revoke own ok timed", "revoke own unavailable timed", "revoke own timeout timed"]
    );
}
