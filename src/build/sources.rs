//! Which remote secrets a spec reads, and what is known of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use crate::{
    api::{BotSecretSpec, DataFromEntry, FindRef, Generate, MetadataPolicy, StoreKind, StoreRef},
    stores::{FindQuery, RemoteKey, RemoteSecret},
};

/// One remote secret of one store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source {
    /// The store, its kind always said.
    pub store: StoreRef,
    /// The remote secret.
    pub key: RemoteKey,
}

/// A search in one store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Search {
    /// The store, its kind always said.
    pub store: StoreRef,
    /// What is looked for.
    pub query: FindQuery,
}

/// What was read for a spec.
#[derive(Debug, Default)]
pub struct Inputs {
    /// The remote secrets that [`sources`] names.
    pub reads: BTreeMap<Source, Arc<RemoteSecret>>,
    /// The keys that each of the [`searches`] found.
    pub found: BTreeMap<Search, Vec<String>>,
    /// Credentials that were issued, by the index of their entry under
    /// dataFrom.
    pub issued: BTreeMap<usize, Arc<RemoteSecret>>,
}

/// A store named without its kind is the same as one named with the default
/// kind.
fn said(store: &StoreRef) -> StoreRef {
    StoreRef { name: store.name.clone(), kind: Some(store.kind.unwrap_or_default()) }
}

impl Source {
    /// The value of a remote secret.
    #[must_use]
    pub fn new(store: &StoreRef, key: &str, version: Option<&str>) -> Self {
        let key = RemoteKey { key: key.to_owned(), version: version.map(str::to_owned), metadata: false, dated: false };
        Self { store: said(store), key }
    }

    /// As the reference and the spec want it: how old a value is matters only where
    /// it is rotated.
    fn with(mut self, policy: Option<MetadataPolicy>, spec: &BotSecretSpec) -> Self {
        self.key.metadata = policy == Some(MetadataPolicy::Fetch);
        self.key.dated = !self.key.metadata && spec.rotation.is_some();
        self
    }
}

/// How a store is named in messages.
pub(super) fn store_name(store: &StoreRef) -> String {
    let kind = match store.kind.unwrap_or_default() {
        StoreKind::BotSecretStore => "BotSecretStore",
        StoreKind::ClusterBotSecretStore => "ClusterBotSecretStore",
    };
    format!("{kind} {}", store.name)
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "remote secret {} of {}", self.key, store_name(&self.store))
    }
}

/// The source of an entry under `data`; `None` where it has no store.
pub(super) fn of_data(spec: &BotSecretSpec, entry: &crate::api::DataEntry) -> Option<Source> {
    let (store, remote) = (entry.store_ref.as_ref().or(spec.store_ref.as_ref())?, &entry.remote_ref);
    Some(Source::new(store, &remote.key, remote.version.as_deref()).with(remote.metadata_policy, spec))
}

/// The store of an entry under `dataFrom`.
pub(super) fn store_of<'a>(spec: &'a BotSecretSpec, entry: &'a DataFromEntry) -> Option<&'a StoreRef> {
    entry.store_ref.as_ref().or(spec.store_ref.as_ref())
}

/// The source of an `extract`.
pub(super) fn of_extract(spec: &BotSecretSpec, entry: &DataFromEntry) -> Option<Source> {
    let (store, remote) = (store_of(spec, entry)?, entry.extract.as_ref()?);
    Some(Source::new(store, &remote.key, remote.version.as_deref()).with(remote.metadata_policy, spec))
}

/// The search of a `find`.
pub(super) fn of_find(spec: &BotSecretSpec, entry: &DataFromEntry) -> Option<Search> {
    let (store, find) = (store_of(spec, entry)?, entry.find.as_ref()?);
    let FindRef { path, name, tags, .. } = find;
    let query =
        FindQuery { path: path.clone(), name: name.as_ref().map(|name| name.regexp.clone()), tags: tags.clone() };
    Some(Search { store: said(store), query })
}

/// The searches that come before the reads, each once.
#[must_use]
pub fn searches(spec: &BotSecretSpec) -> Vec<Search> {
    let mut seen = BTreeSet::new();
    let all = spec.data_from.iter().filter_map(|entry| of_find(spec, entry));
    all.filter(|search| seen.insert(search.clone())).collect()
}

/// The remote secrets that a spec reads, each once, in the order in which they
/// first appear. An entry without any store has none.
#[must_use]
pub fn sources(spec: &BotSecretSpec, found: &BTreeMap<Search, Vec<String>>) -> Vec<Source> {
    let single = spec.data.iter().filter_map(|entry| of_data(spec, entry));
    let extracted = spec.data_from.iter().filter_map(|entry| of_extract(spec, entry));
    let searched = spec.data_from.iter().filter_map(|entry| of_find(spec, entry)).flat_map(|search| {
        let keys = found.get(&search).map_or(&[][..], Vec::as_slice);
        keys.iter().map(|key| Source::new(&search.store, key, None)).collect::<Vec<_>>()
    });
    let mut seen = BTreeSet::new();
    single.chain(extracted).chain(searched).filter(|source| seen.insert(source.clone())).collect()
}

/// The keys under `data` that a source fills, for messages.
#[must_use]
pub fn keys_filled_by(spec: &BotSecretSpec, source: &Source) -> Vec<String> {
    let filled = spec.data.iter().filter(|entry| of_data(spec, entry).as_ref() == Some(source));
    filled.map(|entry| entry.secret_key.clone()).collect()
}

/// The remote secrets that a spec has rotated, each once: those that get what is
/// generated, else all that `data` and `extract` read in their newest version.
#[must_use]
pub fn rotated(spec: &BotSecretSpec) -> Vec<Source> {
    let Some(rotation) = spec.rotation.as_ref().filter(|rotation| rotation.is_triggered()) else { return Vec::new() };
    let is_made = |key: &str| rotation.generate.iter().any(|made| made.secret_key == key);
    let all = rotation.generate.is_empty();
    let single = spec.data.iter().filter(|entry| all || is_made(&entry.secret_key));
    let single = single.filter_map(|entry| of_data(spec, entry));
    let extracted = spec.data_from.iter().filter(|_| all).filter_map(|entry| of_extract(spec, entry));
    let mut seen = BTreeSet::new();
    let newest = single.chain(extracted).filter(|source| source.key.version.is_none() && !source.key.metadata);
    newest.filter(|source| seen.insert(source.clone())).collect()
}

/// What a spec has generated for this remote secret, and of which property.
#[must_use]
pub fn generated<'a>(spec: &'a BotSecretSpec, source: &Source) -> Vec<(&'a Generate, Option<&'a str>)> {
    let rules = spec.rotation.iter().flat_map(|rotation| &rotation.generate);
    let with_entry = rules.filter_map(|rule| {
        let entry = spec.data.iter().find(|entry| entry.secret_key == rule.secret_key)?;
        (of_data(spec, entry).as_ref() == Some(source)).then_some((rule, entry.remote_ref.property.as_deref()))
    });
    with_entry.collect()
}
