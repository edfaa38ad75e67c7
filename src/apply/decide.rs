//! Whether new data is a rotation, and of which keys. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;

use super::{Desired, Origin};
use crate::api::{KeyChange, Revision, State, TakenBack};

/// What is known of the data that pods may hold, before this write.
#[derive(Debug, Default)]
pub struct Known<'a> {
    /// The state on the live Secret, or on the one that was lost.
    pub state: Option<&'a State>,
    /// When the API server took the operator's last write of the live Secret.
    pub written_at: Option<Timestamp>,
    /// Keys whose bytes in the live Secret are not the desired ones; `None`
    /// where there is no live Secret.
    pub live_differences: Option<BTreeSet<String>>,
    /// Those of them that the live Secret lacks.
    pub live_lacks: BTreeSet<String>,
    /// The newest revision on record in the status.
    pub recorded: Option<Revision>,
    /// Keys of which the workloads' own records say that their pods hold
    /// another value; `None` where no workload has a record.
    pub changed_since_handed: Option<BTreeSet<String>>,
    /// Whether the record says that its rollout is complete.
    pub delivered: bool,
    /// Whether the data is as the status records it, by the keys that rolled
    /// when it did.
    pub as_recorded: bool,
}

/// The state to write together with the desired data.
///
/// The revision stays where the data is what pods hold already: also after
/// drift, a lost digest key, a lost Secret or a restored one. It moves where a
/// value changed, and then the keys that did are on record.
#[must_use]
pub fn next_state(desired: &Desired, digest_key: &str, fingerprint: &str, known: &Known<'_>, now: Timestamp) -> State {
    let mut base = known.state.cloned().unwrap_or_default();
    base.settle(known.written_at);
    let changed_keys = changed_keys(&base, desired, digest_key, known).map(|keys| rolling(keys, &base, desired));
    let added =
        |key: &String| known.state.is_some() && !base.digests.contains_key(key) && !base.changed.contains_key(key);
    let added: BTreeSet<_> = desired.digests.keys().filter(|key| added(key)).cloned().collect();
    let latest = known
        .recorded
        .clone()
        .filter(|recorded| recorded.number > base.revision.number)
        .unwrap_or_else(|| base.revision.clone());

    // One that went rolls nobody either.
    let gone = base.quiet.iter().filter(|key| !desired.digests.contains_key(*key));
    let quiet: BTreeSet<_> = desired.quiet.iter().chain(gone).cloned().collect();
    let same_before = match desired.origin {
        Origin::Previous { same_before, .. } => same_before,
        Origin::Source | Origin::Pinned => None,
    };
    let news = News { quiet: &quiet, added: &added, same_before, now };

    let is_new = latest.number == 0;
    let taken_back = base.taken_back.clone().map(|taken| (base.revision.clone(), taken));
    let is_latest = latest.number == base.revision.number;
    // With the state on the Secret lost, or an old one restored, an edit of
    // `rolls` alone must not make the same data look another.
    let is_lost = known.state.is_none() || !is_latest;
    let as_recorded = known.as_recorded && is_lost && known.recorded.as_ref() == Some(&latest);
    let same_as_latest = as_recorded || latest.key == digest_key && latest.fingerprint == fingerprint;
    // A record made with a lost digest key cannot be compared. Losing the key
    // must roll nothing, so the data counts as unchanged unless bytes say more.
    let incomparable = latest.key != digest_key && known.state.is_none() && known.live_differences.is_none();
    let unchanged = changed_keys.as_ref().is_some_and(BTreeSet::is_empty) && is_latest;

    let mut next = State {
        digest_key: digest_key.to_owned(),
        digests: desired.digests.clone(),
        versions: desired.versions.clone(),
        quiet: desired.quiet.clone(),
        renewal: desired.renewal,
        settled: true,
        ..base
    };
    if is_new {
        let number = u64::try_from(now.as_second()).unwrap_or(0).max(1);
        next.revision = Revision { number, key: digest_key.to_owned(), fingerprint: fingerprint.to_owned() };
        next.settled = false;
        // Where there was a Secret, or a workload that was handed one, nobody
        // runs for want of it.
        next.since = (known.live_differences.is_none() && known.changed_since_handed.is_none()).then_some(now);
        let keys = known.live_differences.iter().flatten().filter(|key| next_has(desired, key));
        for key in keys {
            let initial = known.live_lacks.contains(key);
            if desired.quiet.contains(key) && !initial {
                continue;
            }
            let revision = next.revision.clone();
            let change = KeyChange { revision, at: now, initial, added: false, same_before: None };
            next.changed.insert(key.clone(), change);
        }
        record(&mut next, known.changed_since_handed.iter().flatten(), &news);
    } else if unchanged {
        // Nothing but metadata, drift or the digest key.
    } else if same_as_latest || incomparable {
        // Data that was handed out before, though its record on the Secret is
        // lost or older: only an unfinished rollout needs its keys again.
        next.revision = latest;
        if known.state.is_none() {
            next.since = None;
        }
        if !known.delivered {
            // With the state on it gone, nobody knows which keys it was about.
            let known_keys = changed_keys.filter(|_| known.state.is_some());
            let keys = known_keys.unwrap_or_else(|| desired.digests.keys().cloned().collect());
            record(&mut next, keys.iter(), &news);
            next.settled = false;
        }
    } else {
        next.revision = Revision {
            // Anybody with the right can write any number there.
            number: latest.number.saturating_add(1),
            key: digest_key.to_owned(),
            fingerprint: fingerprint.to_owned(),
        };
        next.settled = false;
        if known.state.is_none() {
            next.since = None;
        } else if known.delivered && is_latest {
            next.forget_delivered();
        }
        // What a Secret that is older than the last revision holds says nothing
        // about what pods hold.
        let comparable = changed_keys.filter(|_| if known.state.is_some() { is_latest } else { known.delivered });
        let keys = comparable.unwrap_or_else(|| desired.digests.keys().cloned().collect());
        record(&mut next, keys.iter(), &news);
    }
    next.taken_back = match &desired.origin {
        Origin::Source => None,
        Origin::Pinned => taken_back.filter(|(revision, _)| *revision == next.revision).map(|(_, taken)| taken),
        Origin::Previous { failed, .. } => Some(TakenBack { revision: failed.clone() }),
    };
    next
}

/// Keys whose value is not the one that pods hold; `None` where that cannot be
/// told.
fn changed_keys(base: &State, desired: &Desired, digest_key: &str, known: &Known<'_>) -> Option<BTreeSet<String>> {
    if known.state.is_some() && base.digest_key == digest_key {
        return Some(differences(&base.digests, &desired.digests));
    }
    known.live_differences.clone()
}

/// Those keys whose change is one of the revision: a key that rolls nobody
/// counts when it comes or goes, not when its value changes.
fn rolling(mut changed: BTreeSet<String>, base: &State, desired: &Desired) -> BTreeSet<String> {
    changed.retain(|key| !desired.quiet.contains(key) || !base.digests.contains_key(key) && !base.digests.is_empty());
    changed
}

/// Keys with another value, new ones and ones that went.
#[must_use]
pub fn differences<V: PartialEq>(have: &BTreeMap<String, V>, want: &BTreeMap<String, V>) -> BTreeSet<String> {
    let changed = want.iter().filter(|(key, value)| have.get(*key) != Some(value)).map(|(key, _)| key);
    let gone = have.keys().filter(|key| !want.contains_key(*key));
    changed.chain(gone).cloned().collect()
}

fn next_has(desired: &Desired, key: &str) -> bool {
    desired.digests.contains_key(key)
}

/// What is known of the keys that are put on record.
struct News<'a> {
    quiet: &'a BTreeSet<String>,
    added: &'a BTreeSet<String>,
    same_before: Option<Timestamp>,
    now: Timestamp,
}

fn record<'a>(state: &mut State, keys: impl Iterator<Item = &'a String>, news: &News<'_>) {
    for key in keys {
        let (quiet, new) = (news.quiet.contains(key), news.added.contains(key));
        if quiet && !new {
            if !state.digests.contains_key(key) {
                state.changed.remove(key);
            }
            continue;
        }
        // One that rolls nobody still rolls pods that run for want of it, as
        // with the first sync.
        let change = KeyChange {
            revision: state.revision.clone(),
            at: news.now,
            initial: quiet,
            added: new && !quiet,
            same_before: news.same_before,
        };
        state.changed.insert(key.clone(), change);
    }
}

/// How many keys that went are remembered, so that one which comes back is not
/// taken for new.
const GONE_REMEMBERED: usize = 100;

impl State {
    /// Drops what every pod has by now: only keys that went are remembered.
    fn forget_delivered(&mut self) {
        self.since = None;
        let digests = &self.digests;
        self.changed.retain(|key, _| !digests.contains_key(key));
        let mut gone: Vec<_> = self.changed.iter().map(|(key, change)| (change.revision.number, key.clone())).collect();
        gone.sort_unstable();
        for (_, key) in gone.iter().take(gone.len().saturating_sub(GONE_REMEMBERED)) {
            self.changed.remove(key);
        }
    }

    /// Makes the times final before a later write moves the API server's time
    /// of the last one. That clock dates pods too, so it counts over ours.
    pub fn settle(&mut self, written_at: Option<Timestamp>) {
        if self.settled {
            return;
        }
        if let Some(written_at) = written_at {
            let revision = self.revision.clone();
            for change in self.changed.values_mut().filter(|change| change.revision == revision) {
                change.at = written_at;
            }
            if self.changed.is_empty() {
                self.since = self.since.map(|_| written_at);
            }
        }
        self.settled = true;
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
