//! A manager whose every answer a test decides, and short ways to ask it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use super::super::{
    CredentialSecret, CredentialSource, Fetcher, ReferredSecrets, ResolvedStore, SecretVersion, ServiceAccount, Token,
    TokenSource, locked,
};
use crate::{
    api::{Limits, Provider, StoreRef},
    secret::{SecretBytes, SecretText},
    stores::{
        self, Audience, Backend, Capabilities, Credentials, ErrorClass, FindQuery, Identity, Pace, Payload,
        QuotaDomain, RemoteKey, RemoteSecret, Scope, Session, StoreError, Turn,
    },
};

const ACCOUNT_TOKEN: Duration = Duration::from_secs(600);

/// The manager, and what it has seen.
pub(super) struct World {
    pub(super) tokens: AtomicUsize,
    pub(super) logins: AtomicUsize,
    /// Each read's keys, and the number of the login that it came with.
    pub(super) reads: Mutex<Vec<(usize, Vec<String>)>>,
    pub(super) batch: usize,
    pub(super) login_life: Option<Duration>,
    pub(super) login_takes: Duration,
    pub(super) read_takes: Mutex<Duration>,
    pub(super) login_fails: Mutex<Option<StoreError>>,
    /// By key, what a read answers instead of a value.
    pub(super) fails: Mutex<HashMap<String, StoreError>>,
    /// Logins up to this number are dead.
    pub(super) dead_up_to: AtomicUsize,
    pub(super) panics: AtomicBool,
    pub(super) value: AtomicU64,
    /// How many bytes each value has at least.
    pub(super) weight: AtomicUsize,
    pub(super) in_flight: AtomicUsize,
    pub(super) most_in_flight: AtomicUsize,
    /// Requests, each with its store, and when.
    pub(super) requests: Mutex<Vec<(String, Instant)>>,
    /// What the quota domain allows.
    pub(super) quota: (Option<u32>, u32),
    /// Times that a store was opened, and that a Secret was read for one.
    pub(super) opened: AtomicUsize,
    pub(super) secret_reads: AtomicUsize,
    /// Secrets by name, each with its version, type and the value of its one
    /// key, `password`.
    pub(super) secrets: Mutex<HashMap<String, (u64, String, String)>>,
    /// What a read of a Secret answers instead.
    pub(super) secrets_fail: Mutex<Option<StoreError>>,
    /// Passwords that logins came with.
    pub(super) passwords: Mutex<Vec<String>>,
    pub(super) finds: AtomicUsize,
    /// What the API server answers instead of a token.
    pub(super) token_fails: Mutex<Option<StoreError>>,
    /// Whether it is asked for logins and values; otherwise they are kept at hand.
    pub(super) is_asked: AtomicBool,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            tokens: AtomicUsize::new(0),
            logins: AtomicUsize::new(0),
            reads: Mutex::default(),
            batch: 1,
            login_life: Some(Duration::from_secs(3600)),
            login_takes: Duration::from_millis(10),
            read_takes: Mutex::new(Duration::from_millis(10)),
            login_fails: Mutex::default(),
            fails: Mutex::default(),
            dead_up_to: AtomicUsize::new(0),
            panics: AtomicBool::new(false),
            value: AtomicU64::new(1),
            weight: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
            requests: Mutex::default(),
            quota: (None, 1000),
            opened: AtomicUsize::new(0),
            secret_reads: AtomicUsize::new(0),
            secrets: Mutex::default(),
            secrets_fail: Mutex::default(),
            passwords: Mutex::default(),
            finds: AtomicUsize::new(0),
            token_fails: Mutex::default(),
            is_asked: AtomicBool::new(true),
        }
    }

    pub(super) fn fetcher(self) -> (Arc<Self>, Arc<Fetcher>) {
        let world = Arc::new(self);
        let (source, opened) = (Arc::new(Issuer(Arc::clone(&world))), Arc::clone(&world));
        let open = move |store: &ResolvedStore, credentials: Credentials| {
            opened.opened.fetch_add(1, SeqCst);
            let references = store.provider.secret_refs();
            let password = references.first().map(|reference| credentials.text(reference).map(str::to_owned));
            let (world, store) = (Arc::clone(&opened), store.clone());
            Ok(Arc::new(Manager { world, store, password: password.transpose()? }) as _)
        };
        let fetcher = Fetcher::opening(source.clone(), source, Box::new(open));
        (world, Arc::new(fetcher))
    }

    /// A request of this store, in its turn.
    pub(super) async fn sent(&self, store: &ResolvedStore, pace: &Pace) -> Option<Turn> {
        if !self.is_asked.load(SeqCst) {
            return None;
        }
        let turn = pace.turn().await;
        locked(&self.requests).push((store.uid.clone(), Instant::now()));
        Some(turn)
    }

    /// Tokens, logins, reads.
    pub(super) fn seen(&self) -> (usize, usize, usize) {
        (self.tokens.load(SeqCst), self.logins.load(SeqCst), locked(&self.reads).len())
    }

    pub(super) fn put_secret(&self, name: &str, version: u64, password: &str) {
        locked(&self.secrets).insert(name.to_owned(), (version, "Opaque".to_owned(), password.to_owned()));
    }

    pub(super) fn fail(&self, key: &str, error: StoreError) {
        locked(&self.fails).insert(key.to_owned(), error);
    }
}

struct Issuer(Arc<World>);

#[async_trait]
impl TokenSource for Issuer {
    async fn token(&self, _: &ServiceAccount, _: &Audience) -> Result<Token, StoreError> {
        self.0.tokens.fetch_add(1, SeqCst);
        if let Some(error) = locked(&self.0.token_fails).clone() {
            return Err(error);
        }
        Ok(Token { text: SecretText::new("token".into()), expires: Instant::now() + ACCOUNT_TOKEN })
    }
}

#[async_trait]
impl CredentialSource for Issuer {
    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<CredentialSecret>, StoreError> {
        assert_eq!(namespace, "trading");
        self.0.secret_reads.fetch_add(1, SeqCst);
        sleep(Duration::from_millis(10)).await;
        if let Some(error) = locked(&self.0.secrets_fail).clone() {
            return Err(error);
        }
        Ok(locked(&self.0.secrets).get(name).map(|(version, kind, password)| CredentialSecret {
            version: version_of(name, *version),
            kind: kind.clone(),
            data: [("password".to_owned(), SecretBytes::new(password.clone().into_bytes()))].into(),
        }))
    }
}

/// Opened for one store.
pub(super) struct Manager {
    pub(super) world: Arc<World>,
    pub(super) store: ResolvedStore,
    password: Option<String>,
}

#[async_trait]
impl Backend for Manager {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            batch: self.world.batch,
            leases: false,
            write_back: false,
            change_events: false,
            dates_apart: false,
        }
    }

    fn identity(&self, account: &ServiceAccount) -> Result<Identity, StoreError> {
        let (requests_per_second, in_flight) = self.world.quota;
        let quota = QuotaDomain { name: "manager".into(), requests_per_second, in_flight };
        let audience = match &self.store.provider {
            Provider::Vault(vault) => vault.auth.jwt.as_ref().and_then(|jwt| jwt.audience.clone()),
            _ => None,
        };
        let audience = Audience::Of(audience.unwrap_or_else(|| "manager".to_owned()));
        let role = account.annotations.values().next().cloned().unwrap_or_else(|| "bots".to_owned());
        Ok(Identity { audience: self.password.is_none().then_some(audience), role, quota })
    }

    fn issuer(&self) -> Option<&dyn stores::Issuer> {
        Some(self)
    }

    async fn login(&self, login: stores::Login<'_>) -> Result<Arc<dyn Session>, StoreError> {
        assert_eq!(login.token.is_none(), self.password.is_some());
        let number = self.world.logins.fetch_add(1, SeqCst) + 1;
        locked(&self.world.passwords).extend(self.password.clone());
        let _turn = self.world.sent(&self.store, &login.pace).await;
        sleep(self.world.login_takes).await;
        if let Some(error) = locked(&self.world.login_fails).clone() {
            return Err(error);
        }
        Ok(Arc::new(Login {
            world: Arc::clone(&self.world),
            store: self.store.clone(),
            pace: login.pace,
            number,
            expires: self.world.login_life.map(|life| Instant::now() + life),
        }))
    }
}

struct Login {
    world: Arc<World>,
    store: ResolvedStore,
    pace: Pace,
    number: usize,
    expires: Option<Instant>,
}

impl Login {
    fn bytes(&self, value: u64) -> Vec<u8> {
        let mut bytes = value.to_string().into_bytes();
        bytes.resize(bytes.len().max(self.world.weight.load(SeqCst)), b'.');
        bytes
    }
}

#[async_trait]
impl Session for Login {
    fn expires(&self) -> Option<Instant> {
        self.expires
    }

    async fn read(&self, keys: &[RemoteKey]) -> Vec<Result<RemoteSecret, StoreError>> {
        let world = &self.world;
        let _turn = world.sent(&self.store, &self.pace).await;
        locked(&world.reads).push((self.number, keys.iter().map(|key| key.key.clone()).collect()));
        let now = world.in_flight.fetch_add(1, SeqCst) + 1;
        world.most_in_flight.fetch_max(now, SeqCst);
        let value = world.value.load(SeqCst);
        let takes = *locked(&world.read_takes);
        sleep(takes).await;
        world.in_flight.fetch_sub(1, SeqCst);
        assert!(!world.panics.load(SeqCst), "a backend's own mistake");
        keys.iter()
            .map(|key| {
                if self.number <= world.dead_up_to.load(SeqCst) {
                    return Err(StoreError::new(ErrorClass::Denied, "403").ending_session());
                }
                match locked(&world.fails).get(&key.key) {
                    Some(error) => Err(error.clone()),
                    None => Ok(RemoteSecret {
                        version: Some(value),
                        ..RemoteSecret::of(Payload::Bytes(SecretBytes::new(self.bytes(value))))
                    }),
                }
            })
            .collect()
    }

    async fn find(&self, query: &FindQuery) -> Result<Vec<String>, StoreError> {
        self.world.finds.fetch_add(1, SeqCst);
        let _turn = self.world.sent(&self.store, &self.pace).await;
        let takes = *locked(&self.world.read_takes);
        sleep(takes).await;
        if self.number <= self.world.dead_up_to.load(SeqCst) {
            return Err(StoreError::new(ErrorClass::Denied, "403").ending_session());
        }
        Ok(vec![format!("{}-{}", query.path.clone().unwrap_or_default(), self.world.value.load(SeqCst))])
    }
}

pub(super) fn version_of(name: &str, version: u64) -> SecretVersion {
    SecretVersion { uid: format!("uid-{name}"), resource_version: version.to_string() }
}

pub(in crate::fetch) fn store() -> ResolvedStore {
    let provider = serde_json::from_str(r#"{"address":"https://vault.example","auth":{}}"#).expect("store");
    ResolvedStore {
        reference: StoreRef { name: "vault".into(), kind: None },
        uid: "store-1".into(),
        generation: 1,
        scope: Scope::Namespace,
        proxy: None,
        provider: Provider::Vault(provider),
        limits: Limits::default(),
        allows_rotation: false,
        credentials: ReferredSecrets::default(),
    }
}

pub(super) fn account(name: &str) -> ServiceAccount {
    ServiceAccount {
        namespace: "trading".into(),
        name: name.into(),
        uid: format!("uid-{name}"),
        ..ServiceAccount::default()
    }
}

pub(super) fn key(name: &str) -> RemoteKey {
    RemoteKey { key: name.into(), version: None, metadata: false, dated: false }
}

pub(super) async fn read(fetcher: &Fetcher, name: &str) -> Result<u64, StoreError> {
    read_since(fetcher, name, Instant::now()).await
}

pub(super) async fn read_since(fetcher: &Fetcher, name: &str, fresh_since: Instant) -> Result<u64, StoreError> {
    let mut answers = fetcher.read(&store(), &account("bot"), &[key(name)], fresh_since).await;
    assert_eq!(answers.len(), 1);
    answers.remove(0).map(|secret| secret.version.expect("numbered"))
}

pub(super) fn class<T>(result: &Result<T, StoreError>) -> Option<ErrorClass> {
    result.as_ref().err().map(|error| error.class)
}
