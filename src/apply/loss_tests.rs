//! Whether new data is a rotation, after everything that can be lost.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::{Desired, Known, next_state};
use crate::{
    api::{BotSecret, Revision, State, TargetStatus},
    apply::{recorded::is_as_recorded, rolling_digest},
    build::DigestKey,
};

const BEGAN: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(BEGAN + second).expect("a time")
}

fn desired(data: &[(&str, &str)]) -> Desired {
    let object: BotSecret = serde_json::from_value(json!({
        "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret", "metadata": { "name": "b", "namespace": "n", "uid": "u" },
        "spec": { "serviceAccountName": "b", "storeRef": { "name": "s" } },
    }))
    .expect("a BotSecret");
    let digests = data.iter().map(|(key, digest)| ((*key).to_owned(), (*digest).to_owned())).collect();
    Desired::new(&object, BTreeMap::default(), digests, BTreeMap::new()).expect("it has a name")
}

fn keys(keys: &[&str]) -> BTreeSet<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

fn changed_in(state: &State) -> BTreeSet<String> {
    let newest = state.changed.iter().filter(|(_, change)| change.revision == state.revision);
    newest.map(|(key, _)| key.clone()).collect()
}

/// First synced at second 0 with A=1 and B=1, then A=2 at second 10.
fn rotated() -> State {
    let first = next_state(&desired(&[("A", "1"), ("B", "1")]), "k", "f1", &Known::default(), at(0));
    let live = Known {
        state: Some(&first),
        written_at: Some(at(1)),
        live_differences: Some(keys(&["A"])),
        ..Known::default()
    };
    next_state(&desired(&[("A", "2"), ("B", "1")]), "k", "f2", &live, at(10))
}

#[test]
fn p3_a_first_sync_is_no_rotation_and_a_sequence_begins_with_the_second_in_which_it_began() {
    let first = next_state(&desired(&[("A", "1")]), "k", "f1", &Known::default(), at(0));
    assert_eq!(first.revision.number, u64::try_from(BEGAN).expect("positive"));
    assert!(first.changed.is_empty() && first.since == Some(at(0)));
}

#[test]
fn p3_a_value_that_changed_is_on_record_by_key_with_the_api_servers_time() {
    let mut state = rotated();
    assert_eq!(changed_in(&state), keys(&["A"]));
    // The API server's clock dates pods: it counts, whichever is ahead.
    for second in [8, 12] {
        let mut settled = state.clone();
        settled.settle(Some(at(second)));
        assert_eq!(settled.changed["A"].at, at(second));
    }
    state.settle(None);
    assert_eq!(state.changed["A"].at, at(10));
}

#[test]
fn p3_the_same_data_after_a_loss_is_no_rotation() {
    let (state, same) = (rotated(), desired(&[("A", "2"), ("B", "1")]));
    let recorded = Some(state.revision.clone());
    let nothing_differs = Some(BTreeSet::new());
    for (what, digest_key, known) in [
        (
            "metadata",
            "k",
            Known {
                state: Some(&state),
                live_differences: nothing_differs.clone(),
                recorded: recorded.clone(),
                delivered: true,
                ..Known::default()
            },
        ),
        (
            "the digest key",
            "other",
            Known {
                state: Some(&state),
                live_differences: nothing_differs,
                recorded: recorded.clone(),
                delivered: true,
                ..Known::default()
            },
        ),
        (
            "the Secret",
            "k",
            Known { state: Some(&state), recorded: recorded.clone(), delivered: true, ..Known::default() },
        ),
        ("the Secret, unseen", "k", Known { recorded: recorded.clone(), delivered: true, ..Known::default() }),
        ("the Secret and the digest key", "other", Known { recorded, delivered: true, ..Known::default() }),
    ] {
        let next = next_state(&same, digest_key, "f2", &known, at(99));
        assert_eq!(next.revision, state.revision, "{what}");
        assert!(next.changed.values().all(|change| change.at < at(99)), "{what}: {next:?}");
    }
}

#[test]
fn p3_an_old_backup_and_a_rotation_at_once_concern_every_key() {
    let old = next_state(&desired(&[("A", "1"), ("B", "1")]), "k", "f1", &Known::default(), at(0));
    // Pods hold A=2. Against the restored A=1 a rotation back to 1 shows no
    // difference, but it is one.
    let known = Known {
        state: Some(&old),
        live_differences: Some(keys(&["B"])),
        recorded: Some(rotated().revision),
        delivered: true,
        ..Known::default()
    };
    let next = next_state(&desired(&[("A", "1"), ("B", "9")]), "k", "f9", &known, at(99));
    assert!(next.revision.number > rotated().revision.number);
    assert_eq!(changed_in(&next), keys(&["A", "B"]));
}

#[test]
fn p3_where_every_record_but_the_workloads_own_is_lost_these_tell_which_keys_changed() {
    let new = desired(&[("A", "2"), ("B", "1")]);
    let known = |changed: &[&str]| Known { changed_since_handed: Some(keys(changed)), ..Known::default() };
    let unchanged = next_state(&new, "k", "f2", &known(&[]), at(99));
    assert!(unchanged.changed.is_empty() && unchanged.since.is_none());
    assert!(unchanged.revision.number > rotated().revision.number, "ahead of every marker");
    let changed = next_state(&new, "k", "f2", &known(&["A"]), at(99));
    assert_eq!(changed_in(&changed), keys(&["A"]));
}

#[test]
fn p3_what_anybody_can_write_into_a_record_does_not_end_the_sequence() {
    let recorded = Revision { number: u64::MAX, key: "k".to_owned(), fingerprint: "x".to_owned() };
    let known = Known { recorded: Some(recorded), ..Known::default() };
    assert_eq!(next_state(&desired(&[("A", "2")]), "k", "f2", &known, at(99)).revision.number, u64::MAX);
}

fn key() -> DigestKey {
    DigestKey::from_bytes(&[7; 32]).expect("a key")
}

fn hushed(data: &[(&str, &str)], quiet: &[&str]) -> Desired {
    Desired { quiet: keys(quiet), ..desired(data) }
}

/// As the operator does it: with the fingerprint of what rolls now.
fn written(desired: &Desired, known: &Known<'_>) -> State {
    next_state(desired, &key().id(), &key().fingerprint(&desired.rolling_digests()), known, at(99))
}

/// What the status records of it.
fn record(state: &State) -> TargetStatus {
    TargetStatus {
        revision: state.revision.to_string(),
        rolling: rolling_digest(&key(), &state.digests, &state.quiet),
        quiet: state.quiet.iter().cloned().collect(),
        ..TargetStatus::default()
    }
}

/// The Secret is gone with its state; only the status is left.
fn made_again(desired: &Desired, recorded: &TargetStatus) -> State {
    let known = Known {
        recorded: recorded.revision.parse().ok(),
        delivered: true,
        as_recorded: is_as_recorded(desired, &key(), recorded),
        ..Known::default()
    };
    written(desired, &known)
}

#[test]
fn p3_an_edit_of_rolls_and_then_the_loss_of_everything_roll_nothing() {
    let first = written(&desired(&[("A", "1"), ("T", "1")]), &Known::default());
    let live = Known { state: Some(&first), live_differences: Some(BTreeSet::new()), ..Known::default() };
    let edited = written(&hushed(&[("A", "1"), ("T", "1")], &["T"]), &live);
    assert_eq!(edited.revision, first.revision, "its digest is of another time");
    let renewed = written(&hushed(&[("A", "1"), ("T", "2")], &["T"]), &Known { state: Some(&edited), ..live });
    for (what, before, desired) in [
        ("the edit was written", &edited, hushed(&[("A", "1"), ("T", "1")], &["T"])),
        ("and a new credential is issued", &edited, hushed(&[("A", "1"), ("T", "9")], &["T"])),
        ("after one that rolled nobody", &renewed, hushed(&[("A", "1"), ("T", "9")], &["T"])),
        ("the edit is news", &first, hushed(&[("A", "1"), ("T", "1")], &["T"])),
        ("it is taken back meanwhile", &renewed, desired(&[("A", "1"), ("T", "9")])),
    ] {
        let again = made_again(&desired, &record(before));
        assert_eq!(again.revision, first.revision, "{what}");
        assert!(again.changed.is_empty(), "{what}: {again:?}");
    }
    // What did roll then and is another now still is a rotation.
    let rotated = made_again(&hushed(&[("A", "2"), ("T", "2")], &["T"]), &record(&renewed));
    assert_eq!((rotated.revision.number, changed_in(&rotated)), (first.revision.number + 1, keys(&["A"])));
    let more = made_again(&hushed(&[("A", "1"), ("B", "1"), ("T", "2")], &["T"]), &record(&renewed));
    assert_eq!(more.revision.number, first.revision.number + 1);
}

#[test]
fn p3_a_value_that_is_to_roll_from_now_on_and_changes_at_once_is_a_rotation() {
    let first = written(&hushed(&[("T", "1")], &["T"]), &Known::default());
    let desired = desired(&[("T", "2")]);
    let known = Known {
        state: Some(&first),
        live_differences: Some(keys(&["T"])),
        recorded: Some(first.revision.clone()),
        delivered: true,
        as_recorded: is_as_recorded(&desired, &key(), &record(&first)),
        ..Known::default()
    };
    assert_eq!(changed_in(&written(&desired, &known)), keys(&["T"]));
}
