use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::OwnerReference, jiff::Timestamp};
use proptest::prelude::*;

use super::{Known, next_state};
use crate::{
    api::{CreationPolicy, Revision, SecretType, State, TakenBack},
    apply::{Desired, Origin},
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn desired(digests: &[(&str, &str)]) -> Desired {
    Desired {
        namespace: "ns".to_owned(),
        name: "s".to_owned(),
        bot_secret: "s".to_owned(),
        type_: SecretType::Opaque,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        policy: CreationPolicy::Owner,
        owner: OwnerReference::default(),
        takes_over: Vec::new(),
        data: BTreeMap::new(),
        digests: digests.iter().map(|(key, digest)| ((*key).to_owned(), (*digest).to_owned())).collect(),
        versions: BTreeMap::new(),
        quiet: BTreeSet::new(),
        renewal: None,
        origin: Origin::Source,
        keep_previous: None,
    }
}

/// Stands for the keyed digest of the whole data.
fn fingerprint(desired: &Desired) -> String {
    desired.digests.iter().flat_map(|(key, digest)| [key.as_str(), digest]).collect()
}

fn step(digests: &[(&str, &str)], known: &Known<'_>, second: i64) -> State {
    let desired = desired(digests);
    next_state(&desired, "key", &fingerprint(&desired), known, at(second))
}

fn names(state: &State) -> Vec<&str> {
    state.changed.keys().map(String::as_str).collect()
}

fn live(state: &State) -> Known<'_> {
    Known { state: Some(state), live_differences: Some(BTreeSet::new()), ..Known::default() }
}

#[test]
fn p3_data_that_stays_keeps_its_revision_and_a_changed_value_moves_it_with_its_key() {
    let first = step(&[("A", "1"), ("B", "1")], &Known::default(), 100);
    let same = step(&[("A", "1"), ("B", "1")], &live(&first), 200);
    assert_eq!((&same.revision, names(&same).len()), (&first.revision, 0));
    let second = step(&[("A", "1"), ("B", "2")], &live(&same), 300);
    assert_eq!(second.revision.number, first.revision.number + 1);
    assert_eq!(names(&second), ["B"]);
    assert!(!second.changed["B"].added);
}

#[test]
fn p3_a_new_key_is_known_as_new_and_one_that_comes_back_is_not() {
    let first = step(&[("A", "1"), ("B", "1")], &Known::default(), 100);
    let with_c = step(&[("A", "1"), ("B", "1"), ("C", "1")], &live(&first), 200);
    assert!(with_c.changed["C"].added);
    let without_b = step(&[("A", "1"), ("C", "1")], &live(&with_c), 300);
    let known = Known { delivered: true, recorded: Some(without_b.revision.clone()), ..live(&without_b) };
    let b_again = step(&[("A", "1"), ("B", "2"), ("C", "1")], &known, 400);
    assert!(!b_again.changed["B"].added, "a pod may hold its first value");
}

#[test]
fn p3_a_secret_that_is_made_again_with_its_old_data_is_no_rotation() {
    let first = step(&[("A", "1")], &Known::default(), 100);
    let recorded = Some(first.revision.clone());
    let again = step(&[("A", "1")], &Known { recorded: recorded.clone(), delivered: true, ..Known::default() }, 200);
    assert_eq!((&again.revision, names(&again).len(), again.since), (&first.revision, 0, None));
    let other = step(&[("A", "2")], &Known { recorded, delivered: true, ..Known::default() }, 200);
    assert_eq!((other.revision.number, names(&other)), (first.revision.number + 1, vec!["A"]));
}

#[test]
fn p3_a_state_that_is_stripped_in_mid_rollout_rolls_all_that_it_may_have_been_about() {
    let recorded = Revision { number: 7, key: "key".to_owned(), fingerprint: "A2B1".to_owned() };
    let known = Known { recorded: Some(recorded.clone()), live_differences: Some(BTreeSet::new()), ..Known::default() };
    let state = step(&[("A", "2"), ("B", "1")], &known, 200);
    assert_eq!((&state.revision, names(&state)), (&recorded, vec!["A", "B"]));
    let delivered = Known { delivered: true, ..known };
    assert!(names(&step(&[("A", "2"), ("B", "1")], &delivered, 200)).is_empty());
}

#[test]
fn p1_what_is_delivered_is_forgotten_with_the_next_change() {
    let mut state = step(&[("A", "0"), ("B", "0")], &Known::default(), 100);
    for round in 1..400 {
        let (a, gone) = (format!("{round}"), format!("gone-{round}"));
        let known = Known { delivered: true, recorded: Some(state.revision.clone()), ..live(&state) };
        state = step(&[("A", &a), ("B", "0"), (&gone, "x")], &known, 100 + round);
    }
    assert!(state.changed.len() < 110, "{}", state.changed.len());
}

proptest! {
    #[test]
    fn p3_repeating_a_write_that_took_effect_changes_nothing(
        before in proptest::collection::btree_map("[A-D]", "[0-2]", 0..4),
        after in proptest::collection::btree_map("[A-D]", "[0-2]", 0..4),
        delivered: bool,
    ) {
        let run = |data: &BTreeMap<String, String>, known: &Known<'_>, second: i64| {
            let pairs: Vec<_> = data.iter().map(|(key, digest)| (key.as_str(), digest.as_str())).collect();
            step(&pairs, known, second)
        };
        let first = run(&before, &Known::default(), 100);
        let known = Known { delivered, recorded: Some(first.revision.clone()), ..live(&first) };
        let second = run(&after, &known, 200);
        let again = run(&after, &Known { delivered: false, recorded: Some(first.revision.clone()), ..live(&second) }, 300);
        prop_assert_eq!(&again.revision, &second.revision);
        prop_assert!(second.says_the_same_as(&again));
        prop_assert_eq!(second.revision != first.revision, before != after);
    }
}

/// As [`step`], with these keys rolling nobody.
fn quiet_step(digests: &[(&str, &str)], quiet: &[&str], known: &Known<'_>, second: i64) -> State {
    let mut desired = desired(digests);
    desired.quiet = quiet.iter().map(|key| (*key).to_owned()).collect();
    let fingerprint =
        desired.rolling_digests().iter().flat_map(|(key, digest)| [key.as_str(), digest]).collect::<String>();
    next_state(&desired, "key", &fingerprint, known, at(second))
}

#[test]
fn p3_a_key_that_rolls_nobody_changes_without_a_revision() {
    let first = quiet_step(&[("A", "1"), ("T", "1")], &["T"], &Known::default(), 100);
    let renewed = quiet_step(&[("A", "1"), ("T", "2")], &["T"], &live(&first), 200);
    assert_eq!((&renewed.revision, names(&renewed).len(), renewed.since), (&first.revision, 0, first.since));
    assert_eq!(renewed.digests["T"], "2");
    assert!(!first.says_the_same_as(&renewed), "it must be written");
    // With a value that does roll, in the same write, only that one counts.
    let both = quiet_step(&[("A", "2"), ("T", "3")], &["T"], &live(&renewed), 300);
    assert_eq!((both.revision.number, names(&both)), (first.revision.number + 1, vec!["A"]));
    // A rollout under way is still about what it was about.
    let meanwhile = quiet_step(&[("A", "2"), ("T", "4")], &["T"], &live(&both), 400);
    assert_eq!((&meanwhile.revision, &meanwhile.changed), (&both.revision, &both.changed));
}

#[test]
fn p3_a_lost_or_restored_secret_with_a_new_token_rolls_nobody() {
    let first = quiet_step(&[("A", "1"), ("T", "1")], &["T"], &Known::default(), 100);
    let second = quiet_step(&[("A", "2"), ("T", "1")], &["T"], &live(&first), 200);
    for (recorded, delivered) in [(&first, true), (&second, true)] {
        // Gone with its state; only the status remembers the revision.
        let known = Known { recorded: Some(recorded.revision.clone()), delivered, ..Known::default() };
        let data = [("A", recorded.digests["A"].as_str()), ("T", "9")];
        let again = quiet_step(&data, &["T"], &known, 300);
        assert_eq!((&again.revision, names(&again).len()), (&recorded.revision, 0));
        // Gone, its state remembered.
        let known = Known { state: Some(recorded), live_differences: None, ..known };
        let again = quiet_step(&data, &["T"], &known, 300);
        assert_eq!((&again.revision, &again.changed), (&recorded.revision, &recorded.changed));
    }
    // A backup of the first put back: the second's data is written again.
    let known = Known { recorded: Some(second.revision.clone()), delivered: true, ..live(&first) };
    let again = quiet_step(&[("A", "2"), ("T", "9")], &["T"], &known, 300);
    assert_eq!((&again.revision, names(&again).len()), (&second.revision, 0));
    // While its rollout was under way: only what that was about.
    let known = Known { recorded: Some(second.revision.clone()), delivered: false, ..live(&first) };
    let again = quiet_step(&[("A", "2"), ("T", "9")], &["T"], &known, 300);
    assert_eq!((&again.revision, names(&again)), (&second.revision, vec!["A"]));
    // With the digest key lost too, the bytes say that only the token is new.
    let lost = State { digest_key: "other".into(), ..second.clone() };
    let differ = BTreeSet::from(["T".to_owned()]);
    let known = Known { state: Some(&lost), live_differences: Some(differ), delivered: true, ..Known::default() };
    let again = quiet_step(&[("A", "2"), ("T", "9")], &["T"], &known, 300);
    assert_eq!((&again.revision, &again.changed), (&second.revision, &second.changed));
}

#[test]
fn p3_an_edit_of_rolls_alone_rolls_nobody_and_counts_from_the_next_change() {
    let first = step(&[("A", "1"), ("T", "1")], &Known::default(), 100);
    let hushed = quiet_step(&[("A", "1"), ("T", "1")], &["T"], &live(&first), 200);
    assert_eq!((&hushed.revision, names(&hushed).len()), (&first.revision, 0));
    assert!(!first.says_the_same_as(&hushed), "it must be written");
    let renewed = quiet_step(&[("A", "1"), ("T", "2")], &["T"], &live(&hushed), 300);
    assert!(names(&renewed).is_empty());
    let loud = step(&[("A", "1"), ("T", "2")], &live(&renewed), 400);
    assert_eq!((&loud.revision, names(&loud).len()), (&first.revision, 0));
    let changed = step(&[("A", "1"), ("T", "3")], &live(&loud), 500);
    assert_eq!((changed.revision.number, names(&changed)), (first.revision.number + 1, vec!["T"]));
    // Hushed in the middle of its rollout, it is finished.
    let hushed = quiet_step(&[("A", "1"), ("T", "3")], &["T"], &live(&changed), 600);
    assert_eq!((&hushed.revision, &hushed.changed), (&changed.revision, &changed.changed));
}

#[test]
fn p3_a_key_that_rolls_nobody_comes_to_pods_that_run_for_want_of_it_and_goes_from_none() {
    let first = step(&[("A", "1")], &Known::default(), 100);
    let with = quiet_step(&[("A", "1"), ("T", "1")], &["T"], &live(&first), 200);
    assert_eq!((with.revision.number, names(&with)), (first.revision.number + 1, vec!["T"]));
    // As at a first sync: only who names it as optional and runs without.
    assert!(with.changed["T"].initial && !with.changed["T"].added);
    let renewed = quiet_step(&[("A", "1"), ("T", "2")], &["T"], &live(&with), 300);
    assert_eq!((&renewed.revision, &renewed.changed), (&with.revision, &with.changed));
    let known = Known { delivered: true, recorded: Some(renewed.revision.clone()), ..live(&renewed) };
    assert!(names(&step(&[("A", "1")], &known, 400)).is_empty());
}

#[test]
fn p3_a_merge_into_or_an_adoption_of_a_secret_with_an_older_token_rolls_nobody() {
    let differ = BTreeSet::from(["A".to_owned(), "T".to_owned(), "U".to_owned()]);
    let lacks = BTreeSet::from(["U".to_owned()]);
    let known = Known { live_differences: Some(differ), live_lacks: lacks, ..Known::default() };
    let state = quiet_step(&[("A", "1"), ("T", "1"), ("U", "1")], &["T", "U"], &known, 100);
    assert_eq!(names(&state), ["A", "U"]);
    assert!(state.changed["U"].initial, "pods that run for want of it are rolled");
    let handed = Known { changed_since_handed: Some(BTreeSet::from(["T".to_owned()])), ..Known::default() };
    assert!(names(&quiet_step(&[("A", "1"), ("T", "1")], &["T"], &handed, 100)).is_empty());
}

proptest! {
    #[test]
    fn p3_new_values_of_keys_that_roll_nobody_never_show_in_what_is_rolled(
        before in proptest::collection::btree_map("[A-D]", "[0-2]", 1..4),
        after in proptest::collection::btree_map("[A-D]", "[0-2]", 1..4),
        quiet in proptest::collection::btree_set("[A-D]", 0..4),
        delivered: bool,
    ) {
        let run = |data: &BTreeMap<String, String>, known: &Known<'_>, second: i64| {
            let pairs: Vec<_> = data.iter().map(|(key, digest)| (key.as_str(), digest.as_str())).collect();
            quiet_step(&pairs, &quiet.iter().map(String::as_str).collect::<Vec<_>>(), known, second)
        };
        let first = run(&before, &Known::default(), 100);
        let known = Known { delivered, recorded: Some(first.revision.clone()), ..live(&first) };
        let second = run(&after, &known, 200);
        for (key, change) in &second.changed {
            prop_assert!(!quiet.contains(key) || change.initial && !before.contains_key(key));
        }
        // The same with other tokens: the same rollout.
        let renewed = after.iter().map(|(key, value)| {
            (key.clone(), if quiet.contains(key) { "new".to_owned() } else { value.clone() })
        }).collect();
        let other = run(&renewed, &known, 200);
        prop_assert_eq!((&second.revision, &second.changed), (&other.revision, &other.changed));
        let known = Known { delivered: false, recorded: Some(second.revision.clone()), ..live(&second) };
        let third = run(&renewed, &known, 300);
        prop_assert_eq!((&second.revision, &second.changed), (&third.revision, &third.changed));
    }
}

/// As [`step`], of data from elsewhere than the source.
fn step_from(origin: Origin, digests: &[(&str, &str)], known: &Known<'_>, second: i64) -> State {
    let desired = Desired { origin, ..desired(digests) };
    next_state(&desired, "key", &fingerprint(&desired), known, at(second))
}

#[test]
fn p3_a_value_that_is_taken_back_is_a_revision_of_its_own_and_on_record_until_the_next_one() {
    let good = step(&[("A", "1"), ("B", "1")], &Known::default(), 100);
    let bad = step(&[("A", "2"), ("B", "1")], &live(&good), 200);
    let back = || Origin::Previous { failed: bad.revision.clone(), same_before: Some(at(199)) };
    let data = [("A", "1"), ("B", "1")];
    let returned = step_from(back(), &data, &live(&bad), 300);
    assert_eq!(returned.revision.number, bad.revision.number + 1);
    assert_eq!(names(&returned), ["A"]);
    assert_eq!((returned.changed["A"].at, returned.changed["A"].same_before), (at(300), Some(at(199))));
    assert_eq!(returned.taken_back, Some(TakenBack { revision: bad.revision.clone() }));
    // Drift that is put right, or the write repeated after a crash.
    let again = step_from(back(), &data, &live(&returned), 400);
    assert!(again.says_the_same_as(&returned));
    // A credential that came back is given as long as it is good.
    let pinned = step_from(Origin::Pinned, &data, &live(&returned), 500);
    assert!(pinned.says_the_same_as(&returned));
    let next = step_from(Origin::Pinned, &[("A", "3"), ("B", "1")], &live(&returned), 600);
    assert_eq!((next.taken_back, next.changed["A"].same_before), (None, None));
    // The source itself goes back: nothing is held off any more, and nobody rolls.
    let source = step(&data, &live(&returned), 700);
    assert_eq!((&source.revision, &source.taken_back), (&returned.revision, &None));
    assert!(!source.says_the_same_as(&returned));
}
