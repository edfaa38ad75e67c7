//! Keys and values out of what was read, before any template.

mod found;
mod refusals;

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use found::key_of_path;
use refusals::{Origin, collision, invalid_key, no_store, not_encoded, not_read, refused, too_large};

pub(super) use refusals::shown;

use super::{
    BuildError, BuildErrorKind, Inputs, MAX_SIZE, Source, decode, is_secret_key, property::Content, rewrite::Rewriting,
    sources,
};
use crate::{
    api::{BotSecretSpec, DataFromEntry, DecodingStrategy, OnCollision},
    secret::{SecretBytes, SecretData},
};

/// Keys and values, and which of them roll nobody.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) data: SecretData,
    pub(super) quiet: BTreeSet<String>,
}

/// # Errors
/// The first thing that is wrong, entries under `data` first.
pub(super) fn gather(spec: &BotSecretSpec, inputs: &Inputs) -> Result<Gathered, BuildError> {
    let mut building = Building {
        spec,
        inputs,
        opened: BTreeMap::new(),
        gathered: Gathered::default(),
        owners: BTreeMap::new(),
        size: 0,
    };
    building.single_keys()?;
    for (index, entry) in spec.data_from.iter().enumerate() {
        building.many_keys(index, entry)?;
    }
    Ok(building.gathered)
}

/// What filled a key.
#[derive(Clone)]
enum Owner {
    Data,
    /// An entry under `dataFrom`, what it read, and the property of that.
    From(usize, Origin, Option<String>),
}

struct Building<'a> {
    spec: &'a BotSecretSpec,
    inputs: &'a Inputs,
    opened: BTreeMap<Source, Content<'a>>,
    gathered: Gathered,
    owners: BTreeMap<String, Owner>,
    size: usize,
}

/// One entry under `dataFrom`, while its keys are walked.
struct Walk<'a> {
    index: usize,
    entry: &'a DataFromEntry,
    origin: Origin,
    decoding: DecodingStrategy,
    quiet: bool,
}

impl<'a> Building<'a> {
    fn single_keys(&mut self) -> Result<(), BuildError> {
        for entry in &self.spec.data {
            let (key, remote) = (&entry.secret_key, &entry.remote_ref);
            let source = sources::of_data(self.spec, entry).ok_or_else(|| no_store().key(key))?;
            let property = remote.property.as_deref();
            let origin = Origin::Remote(source.clone());
            let value = self
                .open(&source)
                .map_err(|error| error.key(key))?
                .value(property)
                .map_err(|refusal| refused(refusal, &format!("key {key}: "), property, &origin).key(key))?;
            let value = decode::decoded(value, remote.decoding_strategy.unwrap_or_default())
                .ok_or_else(|| not_encoded(key, remote.decoding_strategy, &origin))?;
            if self.owners.contains_key(key) {
                return Err(BuildError::new(
                    BuildErrorKind::Collision,
                    format!("key {key} is listed twice under data: remove one of the two entries"),
                )
                .key(key));
            }
            if !is_secret_key(key) {
                return Err(invalid_key(key, None, &origin));
            }
            let quiet = !entry.rolls.unwrap_or(self.rolls_by_itself(&source));
            self.put(key, value, quiet, Owner::Data, &origin)?;
        }
        Ok(())
    }

    fn many_keys(&mut self, index: usize, entry: &'a DataFromEntry) -> Result<(), BuildError> {
        let rewriting = Rewriting::new(index, &entry.rewrite)?;
        if let Some(remote) = &entry.extract {
            let source = sources::of_extract(self.spec, entry).ok_or_else(no_store)?;
            self.extract(index, entry, &rewriting, source, remote.property.as_deref(), remote.decoding_strategy)
        } else if entry.find.is_some() {
            self.find(index, entry, &rewriting)
        } else if let Some(dynamic) = &entry.dynamic {
            let missing = || {
                BuildError::new(
                    BuildErrorKind::NoData,
                    format!("dataFrom entry {}: nothing was issued by {}", index + 1, dynamic.path),
                )
            };
            let inputs = self.inputs;
            let content = Content::of(inputs.issued.get(&index).ok_or_else(missing)?);
            let walk = Walk {
                index,
                entry,
                origin: Origin::Issued(dynamic.path.clone()),
                decoding: DecodingStrategy::None,
                quiet: entry.rolls == Some(false),
            };
            self.members(&content, None, &rewriting, &walk)
        } else {
            Err(BuildError::new(
                BuildErrorKind::NoData,
                format!("dataFrom entry {}: write exactly one of extract, find and dynamic", index + 1),
            ))
        }
    }

    fn extract(
        &mut self,
        index: usize,
        entry: &'a DataFromEntry,
        rewriting: &Rewriting,
        source: Source,
        property: Option<&str>,
        decoding: Option<DecodingStrategy>,
    ) -> Result<(), BuildError> {
        self.open(&source)?;
        let content = self.opened.remove(&source).unwrap_or(Content::Json(None));
        let walk = Walk {
            index,
            entry,
            origin: Origin::Remote(source.clone()),
            decoding: decoding.unwrap_or_default(),
            quiet: !entry.rolls.unwrap_or(self.rolls_by_itself(&source)),
        };
        let done = self.members(&content, property, rewriting, &walk);
        self.opened.insert(source, content);
        done
    }

    /// Every member of the content, or of the object that the property holds.
    fn members(
        &mut self,
        content: &Content<'_>,
        property: Option<&str>,
        rewriting: &Rewriting,
        walk: &Walk<'_>,
    ) -> Result<(), BuildError> {
        content
            .members(property, |name, value| {
                let key = rewriting.key(name)?;
                self.fill(walk, name, &key, || {
                    let lead = format!("key {key}, which dataFrom fills: ");
                    value().map_err(|refusal| refused(refusal, &lead, Some(&shown(name)), &walk.origin).key(&key))
                })
            })
            .map_err(|refusal| refused(refusal, "dataFrom: ", property, &walk.origin))?
    }

    /// Each found secret, whole.
    fn find(&mut self, index: usize, entry: &'a DataFromEntry, rewriting: &Rewriting) -> Result<(), BuildError> {
        let search = sources::of_find(self.spec, entry).ok_or_else(no_store)?;
        let missing = || {
            let store = sources::store_name(&search.store);
            BuildError::new(BuildErrorKind::NoData, format!("dataFrom entry {}: {store} was not searched", index + 1))
        };
        let inputs = self.inputs;
        for remote in inputs.found.get(&search).ok_or_else(missing)? {
            let source = Source::new(&search.store, remote, None);
            let key = rewriting.key(&key_of_path(remote, search.query.path.as_deref()))?;
            let walk = Walk {
                index,
                entry,
                origin: Origin::Remote(source.clone()),
                decoding: entry.find.as_ref().and_then(|find| find.decoding_strategy).unwrap_or_default(),
                quiet: !entry.rolls.unwrap_or(self.rolls_by_itself(&source)),
            };
            let read = inputs.reads.get(&source).ok_or_else(|| not_read(&source))?;
            self.fill(&walk, remote, &key, || {
                let lead = format!("key {key}, which dataFrom fills: ");
                Content::of(read).value(None).map_err(|refusal| refused(refusal, &lead, None, &walk.origin).key(&key))
            })?;
        }
        Ok(())
    }

    /// One key of an entry under `dataFrom`, unless `data` has filled it.
    fn fill(
        &mut self,
        walk: &Walk<'_>,
        name: &str,
        key: &str,
        value: impl FnOnce() -> Result<SecretBytes, BuildError>,
    ) -> Result<(), BuildError> {
        // What is found is taken whole.
        let property = walk.entry.find.is_none().then_some(name);
        match self.owners.get(key) {
            Some(Owner::Data) => return Ok(()),
            Some(Owner::From(index, other, other_name)) => {
                let same = *index == walk.index;
                if same || walk.entry.on_collision != Some(OnCollision::Replace) {
                    let (one, other) = ((other, other_name.as_deref()), (&walk.origin, property));
                    return Err(collision(key, one, other, same));
                }
                self.take(key);
            }
            None => {}
        }
        if !is_secret_key(key) {
            return Err(invalid_key(key, Some(name), &walk.origin));
        }
        let value = value()?;
        let value =
            decode::decoded(value, walk.decoding).ok_or_else(|| not_encoded(key, Some(walk.decoding), &walk.origin))?;
        let owner = Owner::From(walk.index, walk.origin.clone(), property.map(str::to_owned));
        self.put(key, value, walk.quiet, owner, &walk.origin)
    }

    fn open(&mut self, source: &Source) -> Result<&Content<'a>, BuildError> {
        match self.opened.entry(source.clone()) {
            Entry::Occupied(opened) => Ok(opened.into_mut()),
            Entry::Vacant(free) => {
                let remote = self.inputs.reads.get(source).ok_or_else(|| not_read(source))?;
                Ok(free.insert(Content::of(remote)))
            }
        }
    }

    /// Whether a change of what was read rolls workloads where nobody said:
    /// what ends by itself, such as an access token, would roll them for ever.
    fn rolls_by_itself(&self, source: &Source) -> bool {
        self.inputs.reads.get(source).is_none_or(|remote| remote.renew.is_none())
    }

    fn put(
        &mut self,
        key: &str,
        value: SecretBytes,
        quiet: bool,
        owner: Owner,
        origin: &Origin,
    ) -> Result<(), BuildError> {
        self.size += key.len() + value.len();
        if self.size > MAX_SIZE {
            return Err(too_large(key, origin));
        }
        if quiet {
            self.gathered.quiet.insert(key.to_owned());
        }
        self.owners.insert(key.to_owned(), owner);
        self.gathered.data.insert(key.to_owned(), value);
        Ok(())
    }

    fn take(&mut self, key: &str) {
        if let Some(value) = self.gathered.data.remove(key) {
            self.size -= key.len() + value.len();
        }
        self.gathered.quiet.remove(key);
        self.owners.remove(key);
    }
}
