//! Both values for a while: beside a key that changed, the value that it had.
//! Pure. For keys that bots verify with, such as webhook secrets: whoever signs
//! may still use the old one.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::{
    ByteString,
    jiff::{SignedDuration, Timestamp},
};

use super::{Desired, Origin};
use crate::{
    api::{CreationPolicy, KeptValue, State},
    build::{DigestKey, MAX_SIZE, is_secret_key},
    secret::{SecretBytes, SecretData},
};

/// What the spec asks for.
#[derive(Debug)]
pub struct KeepPrevious {
    /// What is put after a key's name.
    pub suffix: String,
    /// For how long at least.
    pub period: Duration,
    /// Which keys; empty: all.
    pub keys: BTreeSet<String>,
    /// Whether every workload is well on what the Secret holds: before, nothing
    /// goes.
    pub verified: bool,
    /// What the managers say that the keys held before, where there is no Secret
    /// yet that would tell.
    pub older: SecretData,
}

impl KeepPrevious {
    fn name(&self, key: &str) -> Option<String> {
        let wanted = self.keys.is_empty() || self.keys.contains(key);
        wanted.then(|| format!("{key}{}", self.suffix)).filter(|name| is_secret_key(name))
    }

    fn until(&self, now: Timestamp) -> Timestamp {
        let period = SignedDuration::try_from(self.period).unwrap_or(SignedDuration::MAX);
        now.checked_add(period).unwrap_or(Timestamp::MAX)
    }
}

/// The earlier values that lie beside the data.
#[derive(Debug, Default)]
pub struct Overlap {
    /// By the key that each has.
    pub data: SecretData,
    /// What the state says of them.
    pub kept: BTreeMap<String, KeptValue>,
}

/// Beside what the Secret is to hold, given what it holds.
#[must_use]
pub fn overlap(
    desired: &Desired,
    key: &DigestKey,
    live: Option<&BTreeMap<String, ByteString>>,
    state: Option<&State>,
    now: Timestamp,
) -> Overlap {
    let mut overlap = Overlap::default();
    let Some(rule) = desired.keep_previous.as_ref().filter(|_| !is_taken_back(desired)) else { return overlap };
    let digest = |name: &str, value: &[u8]| key.digest(&desired.namespace, &desired.name, name, value);
    for (name, value) in &desired.data {
        let Some(beside) = rule.name(name).filter(|beside| !desired.data.contains_key(beside)) else { continue };
        // Of a shared Secret a key of that name may be somebody else's.
        let is_theirs = live.is_some_and(|live| live.contains_key(&beside))
            && state.is_none_or(|state| !state.kept.contains_key(&beside));
        if is_theirs && desired.policy == CreationPolicy::Merge {
            continue;
        }
        let Some(state) = state else {
            if let Some(older) = rule.older.get(name).filter(|older| *older != value) {
                overlap.put(beside.clone(), older.duplicate(), digest(&beside, older.expose()), rule.until(now));
            }
            continue;
        };
        let Some(live) = live else { continue };
        let known = state.digests.get(name);
        let is_new = known.is_some() && known != desired.digests.get(name) && state.digest_key == key.id();
        // What some workload may hold still has its time.
        let has_time = state.kept.get(&beside).is_some_and(|kept| !rule.verified && now < kept.until);
        let is_new = is_new && !has_time;
        let held = live.get(name).filter(|held| known.is_some_and(|known| *known == digest(name, &held.0)));
        if let Some(held) = held.filter(|_| is_new) {
            let held = SecretBytes::new(held.0.clone());
            let told = digest(&beside, held.expose());
            overlap.put(beside, held, told, rule.until(now));
        } else if let Some(kept) = state.kept.get(&beside).filter(|kept| !is_over(rule, kept, now)) {
            // What somebody made of it meanwhile is nobody's value.
            let value = live.get(&beside).filter(|value| digest(&beside, &value.0) == kept.digest);
            if let Some(value) = value {
                overlap.put(beside, SecretBytes::new(value.0.clone()), kept.digest.clone(), kept.until);
            }
        }
    }
    overlap.fit(desired);
    overlap
}

impl Overlap {
    fn put(&mut self, name: String, value: SecretBytes, digest: String, until: Timestamp) {
        self.data.insert(name.clone(), value);
        self.kept.insert(name, KeptValue { digest, until });
    }

    /// The values themselves come first: beside them lies what there is room for.
    fn fit(&mut self, desired: &Desired) {
        let size = |data: &SecretData| data.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        while size(&desired.data) + size(&self.data) > MAX_SIZE && self.data.pop_last().is_some() {
            self.kept.pop_last();
        }
    }
}

fn is_taken_back(desired: &Desired) -> bool {
    matches!(desired.origin, Origin::Previous { .. })
}

fn is_over(rule: &KeepPrevious, kept: &KeptValue, now: Timestamp) -> bool {
    rule.verified && kept.until <= now
}

/// Whether what lies beside the data is as it is to be, as far as the state says.
#[must_use]
pub fn overlap_stands(desired: &Desired, state: &State, now: Timestamp) -> bool {
    let names: BTreeSet<_> = desired
        .keep_previous
        .iter()
        .flat_map(|rule| desired.data.keys().filter_map(|key| rule.name(key)).collect::<Vec<_>>())
        .collect();
    state.kept.iter().all(|(name, kept)| {
        let rule = desired.keep_previous.as_ref().filter(|_| names.contains(name) && !desired.data.contains_key(name));
        rule.is_some_and(|rule| !is_over(rule, kept, now))
    })
}

/// When the first of them is over.
#[must_use]
pub fn overlap_ends(state: &State) -> Option<Timestamp> {
    state.kept.values().map(|kept| kept.until).min()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use k8s_openapi::{ByteString, jiff::Timestamp};
    use serde_json::json;

    use super::{KeepPrevious, Overlap, overlap, overlap_stands};
    use crate::{
        api::{BotSecret, KeptValue, State},
        apply::Desired,
        build::DigestKey,
        secret::{SecretBytes, SecretData},
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn key() -> DigestKey {
        DigestKey::from_bytes(&[1; 32]).expect("a key")
    }

    fn data(pairs: &[(&str, &str)]) -> SecretData {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), SecretBytes::new(value.as_bytes().to_vec()))).collect()
    }

    fn desired(pairs: &[(&str, &str)], verified: bool) -> Desired {
        let object: BotSecret = serde_json::from_value(json!({
            "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret", "metadata": { "name": "b", "namespace": "n", "uid": "u" },
            "spec": { "serviceAccountName": "b", "storeRef": { "name": "s" } },
        }))
        .expect("a BotSecret");
        let data = data(pairs);
        let digests = key().digests("n", "b", &data);
        let mut desired = Desired::new(&object, data, digests, BTreeMap::new()).expect("it has a name");
        desired.keep_previous = Some(KeepPrevious {
            suffix: "_PREVIOUS".into(),
            period: Duration::from_secs(60),
            keys: [].into(),
            verified,
            older: self::data(&[("A", "0"), ("B", "1")]),
        });
        desired
    }

    /// A Secret as it lies there after such a write.
    fn written(desired: &Desired, beside: Overlap) -> (BTreeMap<String, ByteString>, State) {
        let state =
            State { digest_key: key().id(), digests: desired.digests.clone(), kept: beside.kept, ..State::default() };
        let all = desired.data.iter().chain(&beside.data);
        (all.map(|(key, value)| (key.clone(), ByteString(value.expose().to_vec()))).collect(), state)
    }

    fn shown(overlap: &Overlap) -> Vec<(&str, &[u8], i64)> {
        let one = |(name, value)| {
            let kept: &KeptValue = overlap.kept.get(name).expect("on record");
            (String::as_str(name), SecretBytes::expose(value), kept.until.as_second())
        };
        overlap.data.iter().map(one).collect()
    }

    #[test]
    fn the_value_before_lies_beside_the_new_one_for_its_time_and_until_every_workload_is_verified() {
        let first = desired(&[("A", "1"), ("B", "1")], true);
        let (live, state) = written(&first, Overlap::default());
        let second = desired(&[("A", "2"), ("B", "1")], false);
        let beside = overlap(&second, &key(), Some(&live), Some(&state), at(100));
        assert_eq!(shown(&beside), [("A_PREVIOUS", &b"1"[..], 160)]);
        let (live, state) = written(&second, beside);
        assert!(overlap_stands(&second, &state, at(159)) && overlap_stands(&second, &state, at(161)));
        let verified = desired(&[("A", "2"), ("B", "1")], true);
        assert!(overlap_stands(&verified, &state, at(159)) && !overlap_stands(&verified, &state, at(160)));
        let later = |second| overlap(&verified, &key(), Some(&live), Some(&state), at(second));
        assert_eq!(shown(&later(159)), [("A_PREVIOUS", &b"1"[..], 160)]);
        assert!(later(160).data.is_empty());
        // The next value in time: what some workload may hold still has its own.
        let third = |verified| desired(&[("A", "3"), ("B", "1")], verified);
        let beside = |verified, second| overlap(&third(verified), &key(), Some(&live), Some(&state), at(second));
        assert_eq!(shown(&beside(false, 150)), [("A_PREVIOUS", &b"1"[..], 160)]);
        assert_eq!(shown(&beside(false, 160)), [("A_PREVIOUS", &b"2"[..], 220)]);
        assert_eq!(shown(&beside(true, 150)), [("A_PREVIOUS", &b"2"[..], 210)]);
        // No longer asked for.
        let mut none = desired(&[("A", "2"), ("B", "1")], true);
        none.keep_previous = None;
        assert!(!overlap_stands(&none, &state, at(101)));
        assert!(overlap(&none, &key(), Some(&live), Some(&state), at(101)).data.is_empty());
    }

    #[test]
    fn what_somebody_wrote_into_the_secret_is_no_value_before() {
        let first = desired(&[("A", "1"), ("B", "1")], true);
        let (mut live, state) = written(&first, Overlap::default());
        live.insert("A".into(), ByteString(b"theirs".to_vec()));
        let second = desired(&[("A", "2"), ("B", "1")], false);
        assert!(overlap(&second, &key(), Some(&live), Some(&state), at(100)).data.is_empty());
        let beside = Overlap {
            data: data(&[("A_PREVIOUS", "0")]),
            kept: BTreeMap::from([("A_PREVIOUS".into(), KeptValue { digest: "d".into(), until: at(200) })]),
        };
        let (live, state) = written(&first, beside);
        assert!(overlap(&first, &key(), Some(&live), Some(&state), at(100)).data.is_empty());
    }

    #[test]
    fn where_there_is_no_secret_yet_the_managers_tell_what_was_before() {
        let first = desired(&[("A", "1"), ("B", "1")], true);
        let beside = overlap(&first, &key(), None, None, at(100));
        assert_eq!(shown(&beside), [("A_PREVIOUS", &b"0"[..], 160)]);
    }

    #[test]
    fn a_key_of_that_name_at_the_source_and_a_full_secret_come_first() {
        let first = desired(&[("A", "1"), ("A_PREVIOUS", "own")], true);
        let (live, state) = written(&first, Overlap::default());
        let second = desired(&[("A", "2"), ("A_PREVIOUS", "own")], true);
        assert!(overlap(&second, &key(), Some(&live), Some(&state), at(100)).data.is_empty());
        let large = "x".repeat(700_000);
        let (live, state) = written(&desired(&[("A", &large)], true), Overlap::default());
        let beside = overlap(&desired(&[("A", &"y".repeat(700_000))], true), &key(), Some(&live), Some(&state), at(1));
        assert!(beside.data.is_empty() && beside.kept.is_empty());
    }
}
