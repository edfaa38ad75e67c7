//! What a case works with: reads as the pipeline does them, and keeps what
//! was said, to be searched for values.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use botsecret::{
    build::{self, BuildError, Inputs},
    fetch::{Fetcher, ResolvedStore, ServiceAccount},
    stores::{Credentials, ErrorClass, RemoteKey, RemoteSecret, StoreError},
};
use botsecret_testbed::{ALWAYS, FaultKind};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    canary::Canary,
    logs::Log,
    session::{self, Opened},
    subject::{Content, Subject, World},
};

/// Why a value cannot be had.
#[derive(Debug)]
pub enum Failure {
    Store(StoreError),
    Build(BuildError),
}

/// One case of one subject.
pub struct Bench<'a> {
    pub subject: &'a dyn Subject,
    world: &'a World,
    case: String,
    values: Mutex<Vec<Vec<u8>>>,
    said: Mutex<String>,
    log: &'a Log,
    began: usize,
}

impl<'a> Bench<'a> {
    pub fn new(subject: &'a dyn Subject, world: &'a World, case: &str, log: &'a Log) -> Self {
        let case = case.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
        Self { subject, world, case, values: Mutex::default(), said: Mutex::default(), log, began: log.length() }
    }

    /// A name of this case's own.
    pub fn name(&self, part: &str) -> String {
        format!("contract-{}-{part}", self.case)
    }

    /// A value that must not be seen anywhere.
    pub fn secret(&self) -> String {
        let text = Canary::random_text();
        self.watch(text.as_bytes());
        text
    }

    pub fn watch(&self, value: &[u8]) {
        self.values.lock().unwrap_or_else(PoisonError::into_inner).push(value.to_vec());
    }

    /// Puts a single value; the answer is its version.
    pub async fn put(&self, name: &str, value: &[u8]) -> Result<Option<String>> {
        self.subject.put(name, &Content::Plain(value.to_vec())).await.with_context(|| format!("putting {name}"))
    }

    pub async fn put_json(&self, name: &str, value: serde_json::Value) -> Result<Option<String>> {
        self.subject.put(name, &Content::Json(value)).await.with_context(|| format!("putting {name}"))
    }

    pub fn fetcher(&self) -> Result<Fetcher> {
        self.subject.fetcher()
    }

    /// A login of the subject's own, for what is asked besides reads.
    pub async fn session(&self) -> Result<Opened> {
        let (store, account) = (self.subject.store(), self.subject.account());
        session::open(self.world.config()?, &store, &account, Credentials::default()).await
    }

    /// Keeps what a manager said to something that is no read.
    pub fn heard<T>(&self, said: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &said {
            self.note(&format!("{error:?} {error}\n"));
        }
        said
    }

    fn note(&self, text: &str) {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).push_str(text);
    }

    /// The answers of the fetcher, in the order of the keys.
    pub async fn fetch(
        &self,
        fetcher: &Fetcher,
        store: &ResolvedStore,
        account: &ServiceAccount,
        keys: &[RemoteKey],
    ) -> Vec<Result<Arc<RemoteSecret>, StoreError>> {
        let answers = fetcher.read(store, account, keys, Instant::now()).await;
        for answer in &answers {
            self.note(&format!("{answer:?}\n"));
            if let Err(error) = answer {
                self.note(&format!("{error}\n"));
            }
        }
        answers
    }

    /// The value of one key of a Secret, as the pipeline gets it.
    pub async fn value(
        &self,
        fetcher: &Fetcher,
        store: &ResolvedStore,
        account: &ServiceAccount,
        key: RemoteKey,
        property: Option<&str>,
    ) -> Result<Vec<u8>, Failure> {
        let read = self.fetch(fetcher, store, account, std::slice::from_ref(&key)).await.remove(0);
        self.pick(&read.map_err(Failure::Store)?, &key, property)
    }

    /// What build makes of a secret that was read.
    pub fn pick(
        &self,
        secret: &Arc<RemoteSecret>,
        key: &RemoteKey,
        property: Option<&str>,
    ) -> Result<Vec<u8>, Failure> {
        let reference = json!({"key": key.key, "version": key.version, "property": property});
        let spec = serde_json::from_value(json!({
            "serviceAccountName": "bot",
            "storeRef": {"name": "store"},
            "data": [{"secretKey": "VALUE", "remoteRef": reference}],
        }))
        .expect("a spec");
        let mut inputs = Inputs::default();
        for source in build::sources(&spec, &inputs.found) {
            inputs.reads.insert(source, Arc::clone(secret));
        }
        let mut built = build::data(&spec, &inputs).map_err(|error| {
            self.note(&format!("{error:?} {error}\n"));
            Failure::Build(error)
        })?;
        Ok(built.data.remove("VALUE").expect("the one key").into_exposed())
    }

    /// A property of what was put under this name, read with the subject's own
    /// store and account.
    pub async fn property(&self, fetcher: &Fetcher, name: &str, property: Option<&str>) -> Result<Vec<u8>, Failure> {
        let key = self.key(name, None);
        self.value(fetcher, &self.subject.store(), &self.subject.account(), key, property).await
    }

    /// The single value that was put under this name.
    pub async fn plain(&self, fetcher: &Fetcher, name: &str) -> Result<Vec<u8>, Failure> {
        self.property(fetcher, name, self.subject.plain_property()).await
    }

    /// The same, of a pinned version.
    pub async fn pinned(&self, fetcher: &Fetcher, name: &str, version: &str) -> Result<Vec<u8>, Failure> {
        let (key, property) = (self.key(name, Some(version)), self.subject.plain_property());
        self.value(fetcher, &self.subject.store(), &self.subject.account(), key, property).await
    }

    pub fn key(&self, name: &str, version: Option<&str>) -> RemoteKey {
        RemoteKey { key: self.subject.key(name), version: version.map(str::to_owned), metadata: false, dated: false }
    }

    /// What was read is what was put. Says lengths, never values.
    pub async fn agree(&self, put: &[u8], read: Result<Vec<u8>, Failure>) -> Result<()> {
        let read = match read {
            Ok(read) => read,
            Err(failure) => bail!("not read: {failure:?}"),
        };
        let agrees = self.subject.agrees(put, &read).await?;
        ensure!(agrees, "{} bytes were put and other {} read", put.len(), read.len());
        Ok(())
    }

    /// The outcomes of reads and of logins while their hosts are in trouble:
    /// the first after a read that was well, the second of a fetcher that has
    /// never read. Both end with the trouble.
    pub async fn in_trouble(&self, kind: &FaultKind) -> Result<Vec<(&'static str, Trouble)>> {
        let (name, value) = (self.name("fault"), self.secret());
        self.put(&name, value.as_bytes()).await?;
        let mut outcomes = Vec::new();
        for (phase, hosts) in [("read", self.subject.read_hosts()), ("login", self.subject.login_hosts())] {
            if hosts.is_empty() {
                continue;
            }
            let fetcher = self.fetcher()?;
            if phase == "read" {
                self.agree(value.as_bytes(), self.plain(&fetcher, &name).await).await.context("before the trouble")?;
            }
            let proxy = self.subject.proxy();
            let hosts: BTreeSet<String> = hosts.into_iter().collect();
            for host in hosts {
                proxy.fault(&host, kind.clone(), ALWAYS);
            }
            let start = Instant::now();
            let failure = self.plain(&fetcher, &name).await.err();
            let took = start.elapsed();
            proxy.clear("*");
            let Some(Failure::Store(error)) = failure else { bail!("{phase}: not an error of the store: {failure:?}") };
            let after = self.plain(&self.fetcher()?, &name).await;
            self.agree(value.as_bytes(), after).await.with_context(|| format!("after the trouble of a {phase}"))?;
            outcomes.push((phase, Trouble { error, took, fetcher }));
        }
        ensure!(!outcomes.is_empty(), "the subject names no hosts");
        Ok(outcomes)
    }

    /// Every phase fails with this class.
    pub async fn fails(&self, kind: &FaultKind, class: ErrorClass) -> Result<Vec<(&'static str, Trouble)>> {
        let outcomes = self.in_trouble(kind).await.with_context(|| format!("{kind:?}"))?;
        for (phase, Trouble { error, .. }) in &outcomes {
            ensure!(error.class == class, "{phase}: {:?} and not {class:?}, for {kind:?}: {error}", error.class);
        }
        Ok(outcomes)
    }

    /// P4: no value in anything that was said or logged.
    pub fn nothing_leaked(&self) -> Result<()> {
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let canary = Canary::of(values.iter().map(Vec::as_slice));
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (place, text) in [("what was said", said.as_bytes()), ("the log", &self.log.since(self.began))] {
            let found = canary.found_in(text);
            ensure!(found.is_empty(), "{place} shows a value: {found:?}");
            for token in ["eyJ", "Bearer ", "hvs.", "hvb."] {
                let shown = text.windows(token.len()).any(|window| window == token.as_bytes());
                ensure!(!shown, "{place} shows a token, which begins with {token}");
            }
        }
        Ok(())
    }
}

/// What a read came to while something went wrong.
pub struct Trouble {
    pub error: StoreError,
    pub took: Duration,
    /// The fetcher that met it.
    pub fetcher: Fetcher,
}

/// The failure is one of the store's, of this class.
pub fn refused<T>(result: Result<T, Failure>, class: ErrorClass) -> Result<StoreError> {
    match result {
        Ok(_) => bail!("not refused, and {class:?} was expected"),
        Err(Failure::Build(error)) => bail!("refused by build, and {class:?} was expected: {error}"),
        Err(Failure::Store(error)) => {
            ensure!(error.class == class, "{:?} and not {class:?}: {error}", error.class);
            ensure!(!error.message.is_empty() && !error.session_dead, "a whole error: {error:?}");
            Ok(error)
        }
    }
}
