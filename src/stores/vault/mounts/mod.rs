//! Where key/value engines are mounted and which version they are, as far as
//! it is known: looked up once a mount.

pub(super) mod lookup;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    secret::SecretText,
    stores::{ErrorClass, StoreError, locked},
};

/// After a read was refused, a lookup older than this is done again: the
/// engine may have been upgraded or moved.
const DOUBTED_AFTER: Duration = Duration::from_secs(60);
/// How long a lookup that was refused is not done again.
const REFUSED_FOR: Duration = Duration::from_secs(60);
/// Refused lookups that are remembered.
const MOST_REFUSED: usize = 512;

pub(super) use lookup::no_engine;

/// Version of a key/value engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    One,
    Two,
    /// No key/value engine, but one whose static roles are read like one.
    Database,
}

/// The mounts found so far, by path. Vault allows no mount inside another, so
/// at most one of them begins a key.
#[derive(Default)]
pub(super) struct Mounts {
    known: Mutex<BTreeMap<String, Known>>,
    /// What no mount was found for.
    refused: Mutex<BTreeMap<Refused, (StoreError, Instant)>>,
    /// Held while looking up, so that a thousand reads ask once. Only those
    /// that are in use are kept.
    turns: Mutex<BTreeMap<String, Weak<Turn>>>,
    hasher: RandomState,
}

type Turn = tokio::sync::Mutex<()>;

/// A lookup says nothing about other logins, of the same role neither: its
/// policies may be templates, and a login may be dead. And it says nothing
/// about what lies beside: `team/kv` may be there where `team/kw` is not.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Refused {
    /// A hash of the login's token.
    login: u64,
    /// No mount is at or above it.
    path: String,
}

#[derive(Clone, Copy)]
struct Known {
    engine: Engine,
    since: Instant,
    doubted: bool,
}

impl Mounts {
    fn find(&self, path: &str) -> Option<(String, Engine)> {
        let known = locked(&self.known);
        known.iter().find(|(mount, _)| is_at_or_below(path, mount)).map(|(mount, known)| (mount.clone(), known.engine))
    }

    fn learn(&self, mount: &str, engine: Engine) {
        let mut known = locked(&self.known);
        // No mount is inside another, so these are gone.
        known.retain(|other, _| !is_at_or_below(other, mount) && !is_at_or_below(mount, other));
        known.insert(mount.to_owned(), Known { engine, since: Instant::now(), doubted: false });
    }

    fn forget(&self, mount: &str) {
        locked(&self.known).remove(mount);
    }

    /// A read below this mount was refused. What is known of it stays in use
    /// until more is.
    pub(super) fn doubt(&self, mount: &str) {
        if let Some(known) = locked(&self.known).get_mut(mount) {
            known.doubted |= known.since.elapsed() >= DOUBTED_AFTER;
        }
    }

    /// Whether the caller is to look the mount up again: one caller, once.
    fn take_doubt(&self, mount: &str) -> bool {
        let mut known = locked(&self.known);
        let Some(known) = known.get_mut(mount).filter(|known| known.doubted) else { return false };
        (known.doubted, known.since) = (false, Instant::now());
        true
    }

    fn refused(&self, token: &SecretText, path: &str) -> Refused {
        Refused { login: self.hasher.hash_one(token.expose()), path: path.to_owned() }
    }

    fn refusal(&self, asked: &Refused) -> Option<StoreError> {
        let refused = locked(&self.refused);
        refused.get(asked).filter(|(_, since)| since.elapsed() < REFUSED_FOR).map(|(error, _)| error.clone())
    }

    fn refuse(&self, asked: Refused, error: &StoreError) {
        if !matches!(error.class, ErrorClass::Missing | ErrorClass::Denied) {
            return;
        }
        let mut refused = locked(&self.refused);
        refused.retain(|_, (_, since)| since.elapsed() < REFUSED_FOR);
        if refused.len() >= MOST_REFUSED {
            let oldest = refused.iter().min_by_key(|(_, (_, since))| *since).map(|(asked, _)| asked.clone());
            oldest.map(|oldest| refused.remove(&oldest));
        }
        refused.insert(asked, (error.clone(), Instant::now()));
    }

    /// Whose turn to wait for: of all that begins alike, since one mount is
    /// likely to serve it; but after a refusal there, only of what a refusal
    /// would be shared with, so that wrong keys do not hold up right ones.
    fn scope<'a>(&self, deepest: &'a str) -> &'a str {
        let first = deepest.split('/').next().unwrap_or_default();
        let is_recent = |since: &Instant| since.elapsed() < REFUSED_FOR;
        let refused = locked(&self.refused);
        let any = refused.iter().any(|(asked, (_, since))| is_at_or_below(&asked.path, first) && is_recent(since));
        if any { deepest } else { first }
    }

    fn turn(&self, scope: &str) -> Arc<Turn> {
        let mut turns = locked(&self.turns);
        if let Some(turn) = turns.get(scope).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::new(Turn::default());
        turns.insert(scope.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

fn is_at_or_below(path: &str, mount: &str) -> bool {
    path.strip_prefix(mount).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
