//! A Kubernetes API in memory: what the operator uses of it, and every
//! revision that there ever was. A conformance test compares it with a real
//! API server.

mod answer;
mod fields;
mod kinds;
mod list;
mod request;
mod service;
mod verbs;
mod watch;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde_json::{Value, json};

use self::fields::Owners;
pub use self::{
    answer::{Answer, Refusal},
    kinds::Kind,
    request::{Request, Verb},
    service::Front,
};
use super::clock;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    Operator,
    /// The operator, by a request that it has long given up.
    Late,
    /// Controllers, people.
    World,
}

/// Where an object lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub plural: &'static str,
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(plural: &'static str, namespace: &str, name: &str) -> Self {
        Self { plural, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    pub fn kind(&self) -> &'static Kind {
        Kind::named(self.plural)
    }
}

/// One revision: an object before and after it.
#[derive(Clone, Debug)]
pub struct Revision {
    pub number: u64,
    pub key: Key,
    pub before: Option<Arc<Value>>,
    /// With its new resourceVersion also where it was deleted.
    pub after: Arc<Value>,
    pub deleted: bool,
    pub by: Actor,
    pub at: Duration,
}

#[derive(Debug)]
struct Entry {
    /// As it is shown, managedFields and all.
    value: Arc<Value>,
    owners: Owners,
}

/// What caches are shown for now: the world as it was.
#[derive(Clone, Copy, Debug)]
struct Held {
    at: u64,
    until: Duration,
}

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<Key, Entry>,
    revisions: Vec<Revision>,
    uids: u64,
    held: Option<Held>,
    /// Watches that were opened before the last of these are told 410.
    expired: u64,
}

/// The API, shared by whoever talks to it.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Mutex<Inner>>,
    changed: tokio::sync::watch::Sender<u64>,
}

impl Store {
    pub fn new() -> Self {
        Self { inner: Arc::default(), changed: tokio::sync::watch::Sender::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics with it")
    }

    /// Tells of each change, and of what watches should look up for.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn wake(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// The newest revision.
    pub fn revision(&self) -> u64 {
        self.lock().newest()
    }

    /// Every revision so far.
    pub fn revisions(&self) -> Vec<Revision> {
        self.lock().revisions.clone()
    }

    pub fn get(&self, plural: &'static str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.lock().objects.get(&Key::new(plural, namespace, name)).map(|entry| entry.value.clone())
    }

    /// All objects of a kind, by name.
    pub fn all(&self, plural: &'static str) -> Vec<Arc<Value>> {
        let inner = self.lock();
        inner.objects.iter().filter(|(key, _)| key.plural == plural).map(|(_, entry)| entry.value.clone()).collect()
    }

    /// A request as the world's own programs make it.
    pub fn ask(&self, verb: Verb, plural: &'static str, path: (&str, &str, &str), body: &Value) -> Answer {
        let (namespace, name, subresource) = path;
        let request = Request {
            kind: Kind::named(plural),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: subresource.to_owned(),
            verb,
            query: BTreeMap::from([("fieldManager".to_owned(), "world".to_owned())]),
            metadata_only: false,
            user_agent: "world".to_owned(),
            body: body.to_string().into_bytes(),
        };
        self.respond(&request, Actor::World)
    }

    /// For so long caches show the world as it was at this revision.
    pub fn hold_back(&self, at: u64, time: Duration) {
        self.lock().held = Some(Held { at, until: clock::elapsed() + time });
        self.wake();
    }

    /// Tells every watch that its place in history is gone.
    pub fn expire_watches(&self) {
        self.lock().expired += 1;
        self.wake();
    }
}

impl Inner {
    fn newest(&self) -> u64 {
        self.revisions.last().map_or(0, |revision| revision.number)
    }

    /// What caches see, and until when that is not the newest.
    fn visible(&self) -> (u64, Option<Duration>) {
        match self.held {
            Some(held) if clock::elapsed() < held.until => (held.at.min(self.newest()), Some(held.until)),
            _ => (self.newest(), None),
        }
    }

    fn new_uid(&mut self) -> String {
        self.uids += 1;
        format!("00000000-0000-4000-8000-{:012}", self.uids)
    }

    /// Puts the object as the next revision, and answers it.
    fn put(&mut self, key: &Key, mut object: Value, owners: Owners, by: Actor) -> Arc<Value> {
        let number = self.newest() + 1;
        object["metadata"]["resourceVersion"] = json!(number.to_string());
        object["metadata"]["managedFields"] = owners.shown(&key.kind().api_version());
        let after = Arc::new(object);
        let before = self.objects.insert(key.clone(), Entry { value: after.clone(), owners }).map(|entry| entry.value);
        self.note(number, key, before, after.clone(), false, by);
        after
    }

    /// Takes the object away, and answers its last state.
    fn remove(&mut self, key: &Key, by: Actor) -> Option<Arc<Value>> {
        let before = self.objects.remove(key)?.value;
        let number = self.newest() + 1;
        let mut last = Value::clone(&before);
        last["metadata"]["resourceVersion"] = json!(number.to_string());
        let last = Arc::new(last);
        self.note(number, key, Some(before), last.clone(), true, by);
        Some(last)
    }

    fn note(
        &mut self,
        number: u64,
        key: &Key,
        before: Option<Arc<Value>>,
        after: Arc<Value>,
        deleted: bool,
        by: Actor,
    ) {
        let at = clock::elapsed();
        self.revisions.push(Revision { number, key: key.clone(), before, after, deleted, by, at });
    }

    /// The objects of a kind as they were at a revision.
    fn at_revision(&self, plural: &str, revision: u64) -> BTreeMap<Key, Arc<Value>> {
        let of_kind = |key: &Key| key.plural == plural;
        if revision >= self.newest() {
            let now = self.objects.iter().filter(|(key, _)| of_kind(key));
            return now.map(|(key, entry)| (key.clone(), entry.value.clone())).collect();
        }
        let mut objects = BTreeMap::new();
        for past in self.revisions.iter().take_while(|past| past.number <= revision).filter(|past| of_kind(&past.key)) {
            if past.deleted {
                objects.remove(&past.key);
            } else {
                objects.insert(past.key.clone(), past.after.clone());
            }
        }
        objects
    }
}
