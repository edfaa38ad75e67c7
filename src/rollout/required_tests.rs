use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;

use super::required;
use crate::{
    api::{KeyChange, Revision, State},
    rollout::{PodFacts, holds_older},
    watch::{KeySet, SecretUse},
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn revision(number: u64) -> Revision {
    Revision { number, key: "k".to_owned(), fingerprint: format!("f{number}") }
}

fn keys(names: &[&str]) -> KeySet {
    match names {
        [] => KeySet::Nothing,
        ["*"] => KeySet::All,
        names => KeySet::Some(names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>()),
    }
}

fn usage(required: &[&str], optional: &[&str]) -> SecretUse {
    SecretUse { secret: "s".to_owned(), required: keys(required), optional: keys(optional) }
}

/// A Secret with keys A and B, made at 100; changes as (key, revision, time, added).
fn state(changes: &[(&str, u64, i64, bool)]) -> State {
    let digests = ["A", "B"].map(|key| (key.to_owned(), format!("digest of {key}")));
    let newest = changes.iter().map(|change| change.1).max().unwrap_or(1);
    State {
        revision: revision(newest),
        since: Some(at(100)),
        digests: BTreeMap::from(digests),
        changed: changes
            .iter()
            .map(|(key, number, second, added)| {
                let change = KeyChange {
                    revision: revision(*number),
                    at: at(*second),
                    initial: false,
                    added: *added,
                    same_before: None,
                };
                ((*key).to_owned(), change)
            })
            .collect(),
        settled: true,
        ..State::default()
    }
}

fn pod(created: i64, uses: SecretUse) -> PodFacts {
    PodFacts {
        name: "pod".to_owned(),
        uid: String::new(),
        created: Some(at(created)),
        scheduled: true,
        terminating: false,
        finished: false,
        annotations: BTreeMap::new(),
        controller: None,
        rollout_hash: None,
        uses: vec![uses],
        health: crate::rollout::PodHealth::default(),
        restarted: Vec::new(),
    }
}

#[test]
fn p3_a_first_sync_concerns_only_those_that_run_without_it() {
    let made = state(&[]);
    for (uses, concerned) in [
        (usage(&["A"], &[]), false),
        (usage(&["*"], &[]), false),
        (usage(&["A"], &["B"]), false),
        (usage(&[], &["B"]), true),
        (usage(&[], &["*"]), true),
        (usage(&[], &["C"]), false),
    ] {
        assert_eq!(required(&made, Some(&uses)).is_some(), concerned, "{uses:?}");
    }
}

#[test]
fn p3_a_key_that_is_new_restarts_nobody_that_waits_for_it_by_name() {
    let added = state(&[("B", 2, 200, true)]);
    for (uses, concerned) in [
        (usage(&["A"], &[]), false),
        (usage(&["B"], &[]), false),
        (usage(&["*"], &[]), true),
        (usage(&[], &["B"]), true),
        (usage(&["A"], &["B"]), true),
    ] {
        let found = required(&added, Some(&uses)).is_some_and(|required| required.revision == revision(2));
        assert_eq!(found, concerned, "{uses:?}");
    }
}

#[test]
fn p3_a_pod_is_judged_by_the_keys_that_it_uses_itself() {
    let changed = state(&[("B", 2, 200, false)]);
    assert!(holds_older(&pod(150, usage(&["B"], &[])), "s", &changed, true));
    assert!(
        !holds_older(&pod(150, usage(&["A"], &[])), "s", &changed, true),
        "an older template's pod, of another key"
    );
    assert!(!holds_older(&pod(201, usage(&["B"], &[])), "s", &changed, true), "made after the write");
    assert!(
        holds_older(&pod(200, usage(&["B"], &[])), "s", &changed, true),
        "within the same second it may have been first"
    );
}

#[test]
fn p3_a_marker_proves_what_a_pod_holds_and_a_pod_without_a_node_holds_nothing() {
    let changed = state(&[("B", 2, 200, false)]);
    let mut marked = pod(200, usage(&["B"], &[]));
    marked.annotations.insert(crate::api::marker_annotation("s"), revision(2).to_string());
    assert!(!holds_older(&marked, "s", &changed, true));
    let mut waiting = pod(150, usage(&["B"], &[]));
    waiting.scheduled = false;
    assert!(!holds_older(&waiting, "s", &changed, true));
    let mut leaving = pod(150, usage(&["B"], &[]));
    leaving.terminating = true;
    assert!(holds_older(&leaving, "s", &changed, true));
}
