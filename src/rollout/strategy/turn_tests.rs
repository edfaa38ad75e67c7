use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::{Bounds, Place, Standing, Turns, turns};
use crate::api::{Canary, OrderEntry, Rollout, Timeout, Window, WorkloadKind, WorkloadRef};

const NOW: i64 = 1_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn waits() -> Place {
    Place::Waiting { not_before: None, busy: None, underway: false, failed_before: false, joins: false }
}

fn one(name: &'static str, place: Place) -> Standing<'static> {
    Standing { named: (WorkloadKind::Deployment, name), revision: "2.k.f", place, rolled_at: None, ill_before: false }
}

fn bounds() -> Bounds {
    Bounds { started: at(NOW - 60), changed: Some(at(NOW - 20)), places: usize::MAX, urgent: false }
}

fn decided(rollout: &Rollout, standings: &[Standing<'_>]) -> Turns {
    turns(rollout, standings, bounds(), at(NOW)).expect("windows that can be read")
}

/// The names of those whose turn it is.
fn go(rollout: &Rollout, standings: &[Standing<'_>]) -> Vec<String> {
    decided(rollout, standings).go.into_iter().map(|index| standings[index].named.1.to_owned()).collect()
}

fn reference(name: &str) -> WorkloadRef {
    WorkloadRef { kind: WorkloadKind::Deployment, name: name.to_owned() }
}

fn entry(name: &str, weight: i32, after: &[&str]) -> OrderEntry {
    OrderEntry {
        kind: WorkloadKind::Deployment,
        name: name.to_owned(),
        weight: Some(weight),
        after: after.iter().map(|name| reference(name)).collect(),
    }
}

#[test]
fn a_new_value_goes_to_one_workload_first_and_to_others_when_that_stayed_well() {
    let rollout = Rollout { max_concurrent: Some(2), ..Rollout::default() };
    let others = || [one("b", waits()), one("c", waits()), one("d", waits())];
    let with = |first: Place| [vec![one("a", first)], others().into()].concat();
    assert_eq!(go(&rollout, &with(waits())), ["a"]);
    let watched = decided(&rollout, &with(Place::Underway));
    assert!(watched.go.is_empty());
    assert_eq!(watched.waits[&1], "Deployment a gets the new value first");
    assert_eq!(go(&rollout, &with(Place::Verified)), ["b", "c"]);
    let full = decided(
        &rollout,
        &[one("a", Place::Verified), one("b", Place::Underway), one("c", Place::Underway), one("d", waits())],
    );
    assert_eq!((full.go.len(), full.waits[&3].as_str()), (0, "2 workloads roll at once"));
    assert_eq!(go(&rollout, &with(Place::Aside)), ["b"], "one that is paused proves nothing");
}

#[test]
fn nobody_follows_where_one_failed() {
    let standings = [one("a", Place::Verified), one("b", Place::Failed), one("c", waits())];
    let halted = decided(&Rollout::default(), &standings);
    assert!(halted.go.is_empty());
    assert_eq!(halted.waits[&2], "Deployment b failed on the new value");
    assert_eq!(halted.again, None);
}

#[test]
fn who_failed_on_the_last_value_is_first_and_who_was_ill_is_last() {
    let rollout = Rollout { max_concurrent: Some(1), ..Rollout::default() };
    let failed = Place::Waiting { not_before: None, busy: None, underway: false, failed_before: true, joins: false };
    let ill = Standing { ill_before: true, ..one("a", waits()) };
    assert_eq!(go(&rollout, &[ill.clone(), one("b", waits()), one("c", failed)]), ["c"]);
    assert_eq!(go(&rollout, &[ill.clone(), one("b", waits())]), ["b"]);
    let wait = decided(&rollout, &[ill.clone(), one("b", Place::Underway)]);
    assert!(wait.go.is_empty(), "{wait:?}");
    assert_eq!(go(&rollout, &[ill.clone(), one("b", Place::Verified)]), ["a"]);
    assert_eq!(go(&rollout, &[ill]), ["a"], "alone, nothing else could be first");
}

#[test]
fn the_order_is_the_canary_then_weights_then_names_and_after_is_kept() {
    let rollout = Rollout {
        max_concurrent: Some(10),
        canary: Some(Canary { kind: WorkloadKind::Deployment, name: "z".to_owned(), healthy_for: None }),
        order: vec![entry("b", -5, &[]), entry("a", 0, &["d"])],
        ..Rollout::default()
    };
    let names = |standings: &[Standing<'_>]| go(&rollout, standings);
    assert_eq!(names(&[one("a", waits()), one("b", waits()), one("d", waits()), one("z", waits())]), ["z"]);
    let proven = one("z", Place::Verified);
    assert_eq!(names(&[one("a", waits()), one("d", waits()), one("b", waits()), proven.clone()]), ["b", "d"]);
    assert!(names(&[one("a", waits()), one("d", Place::Underway), proven.clone()]).is_empty());
    assert_eq!(names(&[one("a", waits()), one("d", Place::Verified), proven.clone()]), ["a"]);
    // One that is not concerned holds up nobody.
    assert_eq!(names(&[one("a", waits()), proven]), ["a"]);
}

#[test]
fn two_that_are_to_come_after_each_other_do_not_wait_for_ever() {
    let order = vec![entry("a", 0, &["b"]), entry("b", 1, &["a"])];
    let rollout = Rollout { order, ..Rollout::default() };
    assert_eq!(go(&rollout, &[one("a", waits()), one("b", waits())]), ["a"]);
}

#[test]
fn those_which_come_after_each_other_in_a_circle_or_after_an_ill_one_do_not_wait_for_ever() {
    let circle = vec![entry("a", 0, &["b"]), entry("b", 0, &["c"]), entry("c", 0, &["a"])];
    let rollout = Rollout { order: circle, ..Rollout::default() };
    assert_eq!(go(&rollout, &[one("a", waits()), one("b", waits()), one("c", waits())]), ["a"]);
    let ill = || Standing { ill_before: true, ..one("b", waits()) };
    let rollout = Rollout { order: vec![entry("a", 0, &["b"])], ..Rollout::default() };
    assert_eq!(go(&rollout, &[one("a", waits()), ill()]), ["b"]);
    let refused = Place::Waiting {
        not_before: None,
        busy: Some("refused".to_owned()),
        underway: false,
        failed_before: false,
        joins: false,
    };
    assert_eq!(go(&Rollout::default(), &[one("a", refused), ill()]), ["b"]);
}

#[test]
fn the_next_value_comes_to_the_one_that_failed_whatever_the_interval() {
    let rollout = Rollout { min_interval: Some(Timeout(Duration::from_secs(86_400))), ..Rollout::default() };
    let failed = Place::Waiting { not_before: None, busy: None, underway: false, failed_before: true, joins: false };
    let failed = Standing { rolled_at: Some(at(NOW - 30)), ..one("b", failed) };
    assert_eq!(go(&rollout, &[one("a", waits()), failed]), ["b"]);
}

#[test]
fn intervals_windows_and_places_bound_the_turns_and_a_value_that_ends_knows_neither() {
    let waiting = [Standing { rolled_at: Some(at(NOW - 100)), ..one("a", waits()) }];
    let pause = Rollout { min_interval: Some(Timeout(Duration::from_secs(300))), ..Rollout::default() };
    let paused = decided(&pause, &waiting);
    assert_eq!((paused.go.len(), paused.again), (0, Some(at(NOW + 200))));
    let night = Window {
        kind: None,
        schedule: "0 2 * * *".to_owned(),
        time_zone: None,
        duration: Timeout(Duration::from_secs(3600)),
    };
    let windowed = Rollout { window: vec![night], ..Rollout::default() };
    // 1,000,000 is 13:46:40 on 12 January 1970.
    let closed = decided(&windowed, &waiting);
    assert_eq!((closed.go.len(), closed.again), (0, Some("1970-01-13T02:00:00Z".parse().expect("a time"))));
    assert_eq!(closed.waits[&0], "the next rollout.window opens at 1970-01-13T02:00:00Z");
    for rollout in [&pause, &windowed] {
        let urgent = turns(rollout, &waiting, Bounds { urgent: true, ..bounds() }, at(NOW)).expect("turns");
        assert_eq!(urgent.go, [0]);
    }
    let none_left = turns(&Rollout::default(), &waiting, Bounds { places: 0, ..bounds() }, at(NOW)).expect("turns");
    assert!(none_left.go.is_empty() && none_left.waits.contains_key(&0));
}

#[test]
fn one_that_was_ill_and_those_that_had_their_turn_do_not_wait_for_each_other() {
    let had = Standing { rolled_at: Some(at(NOW - 30)), ..one("a", waits()) };
    let ill = Standing { ill_before: true, ..one("b", waits()) };
    assert_eq!(go(&Rollout::default(), &[had, ill]), ["b"]);
}

#[test]
fn what_others_do_with_a_workload_is_waited_for() {
    let busy = Place::Waiting {
        not_before: None,
        busy: Some("it rolls".to_owned()),
        underway: false,
        failed_before: false,
        joins: false,
    };
    let soon = Place::Waiting {
        not_before: Some(at(NOW + 2)),
        busy: None,
        underway: false,
        failed_before: false,
        joins: false,
    };
    let found = decided(&Rollout::default(), &[one("a", busy), one("b", soon)]);
    assert!(found.go.is_empty());
    assert_eq!((found.waits[&0].as_str(), found.again), ("it rolls", Some(at(NOW + 2))));
}

#[test]
fn changes_that_come_while_others_roll_are_merged_into_one_more_round() {
    let rolled = |name, place| Standing { rolled_at: Some(at(NOW - 30)), ..one(name, place) };
    let first = decided(&Rollout::default(), &[rolled("a", waits()), one("b", waits())]);
    assert_eq!((first.go, first.next_round), (vec![1], false));
    let still = decided(&Rollout::default(), &[rolled("a", waits()), rolled("b", Place::Underway)]);
    assert_eq!((still.go, still.next_round), (vec![], false));
    let next = decided(&Rollout::default(), &[rolled("a", waits()), rolled("b", Place::Verified)]);
    assert_eq!((next.go, next.next_round), (vec![0], true));
}

#[test]
fn a_burst_of_changes_is_one_more_round_and_one_that_never_ends_delays_the_newest_no_longer_than_a_minute() {
    let decided = |rolled: i64, changed: Option<i64>, urgent: bool| {
        let rolled = |name| Standing { rolled_at: Some(at(NOW - rolled)), ..one(name, waits()) };
        let bounds =
            Bounds { started: at(NOW - 300), changed: changed.map(|changed| at(NOW - changed)), urgent, ..bounds() };
        turns(&Rollout::default(), &[rolled("a"), rolled("b")], bounds, at(NOW)).expect("turns")
    };
    let soon = decided(30, Some(3), false);
    assert_eq!((soon.go, soon.next_round, soon.again), (vec![], false, Some(at(NOW + 7))));
    assert_eq!(soon.waits[&0], "it has this rotation's rollout; the newest value comes with the next");
    assert_eq!(decided(30, Some(10), false).go, [0]);
    assert_eq!(decided(56, Some(1), false).again, Some(at(NOW + 4)), "however often it changes");
    assert_eq!(decided(60, Some(1), false).go, [0]);
    assert_eq!(decided(30, Some(1), true).go, [0], "what is urgent waits for nothing");
    assert_eq!(decided(30, None, false).go, [0], "nor does what ends by itself");
}

#[test]
fn a_canary_that_is_held_up_for_a_moment_is_waited_for_and_one_that_is_refused_is_not() {
    let canary = Canary { kind: WorkloadKind::Deployment, name: "z".to_owned(), healthy_for: None };
    let rollout = Rollout { canary: Some(canary), ..Rollout::default() };
    let held = |not_before: Option<i64>, joins, revision: &'static str| {
        let busy = not_before.is_none().then(|| "why".to_owned());
        let place = Place::Waiting {
            not_before: not_before.map(|at_| at(NOW + at_)),
            busy,
            joins,
            underway: false,
            failed_before: false,
        };
        [one("a", waits()), Standing { revision, ..one("z", place) }]
    };
    let waiting = decided(&rollout, &held(Some(2), false, "2.k.f"));
    assert_eq!((waiting.go.len(), waiting.again), (0, Some(at(NOW + 2))));
    assert_eq!(waiting.waits[&0], "Deployment z is the canary and gets the new value first");
    assert!(go(&rollout, &held(None, true, "2.k.f")).is_empty(), "it rolls for another BotSecret");
    assert_eq!(go(&rollout, &held(None, false, "2.k.f")), ["a"], "refused");
    assert_eq!(go(&rollout, &held(Some(2), false, "1.k.f")), ["a"], "another change");
    let ill = held(Some(2), false, "2.k.f").map(|one| Standing { ill_before: one.named.1 == "z", ..one });
    assert_eq!(go(&rollout, &ill), ["a"], "it would prove nothing");
}

fn places() -> impl Strategy<Value = Place> {
    prop_oneof![
        4 => (any::<bool>(), any::<bool>(), prop::option::of(-5_i64..5)).prop_map(|(underway, failed_before, wait)| {
            Place::Waiting {
                not_before: wait.map(|wait| at(NOW + wait)),
                busy: underway.then(|| "its last rollout is not over".to_owned()),
                joins: false,
                underway,
                failed_before,
            }
        }),
        1 => Just(Place::Underway),
        1 => Just(Place::Verified),
        1 => Just(Place::Failed),
        1 => Just(Place::Aside),
    ]
}

fn standings() -> impl Strategy<Value = Vec<Standing<'static>>> {
    const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let each =
        (places(), prop::sample::select(vec!["1.k.f", "2.k.f"]), prop::option::of(NOW - 200..NOW), any::<bool>());
    prop::collection::vec(each, 0..8).prop_map(|all| {
        let named = |(name, (place, revision, rolled, ill_before)): (
            &&'static str,
            (Place, &'static str, Option<i64>, bool),
        )| {
            Standing { named: (WorkloadKind::Deployment, name), revision, place, rolled_at: rolled.map(at), ill_before }
        };
        NAMES.iter().zip(all).map(named).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn turns_keep_their_bounds_and_say_why_everybody_else_waits(all in standings(), most in 1..5_i32) {
        let rollout = Rollout { max_concurrent: Some(most), ..Rollout::default() };
        let found = decided(&rollout, &all);
        let underway = |one: &Standing<'_>| one.place == Place::Underway || matches!(one.place, Place::Waiting { underway: true, .. });
        let running = all.iter().filter(|one| underway(one)).count();
        let most = usize::try_from(most).expect("small");
        prop_assert!(found.go.is_empty() || running + found.go.len() <= most);
        prop_assert!(found.go.is_empty() || all.iter().all(|one| one.place != Place::Failed));
        for (index, one) in all.iter().enumerate() {
            let waiting = matches!(one.place, Place::Waiting { .. });
            prop_assert_eq!(waiting, found.go.contains(&index) != found.waits.contains_key(&index));
            prop_assert!(waiting || !found.go.contains(&index));
        }
        // No value that nobody has proven goes to two at once.
        for revision in ["1.k.f", "2.k.f"] {
            let of = |one: &&Standing<'_>| one.revision == revision && !one.ill_before;
            let proven = all.iter().filter(of).any(|one| one.place == Place::Verified);
            let granted = found.go.iter().map(|index| &all[*index]).filter(of).count();
            let on_it = all.iter().filter(of).filter(|one| one.place == Place::Underway).count();
            prop_assert!(proven || granted == 0 || granted + on_it <= 1);
        }
    }

    /// Somebody goes, or something that ends by itself or by an event is named.
    #[test]
    fn nobody_waits_for_ever(all in standings(), most in 1..5_i32) {
        let rollout = Rollout { max_concurrent: Some(most), ..Rollout::default() };
        let found = decided(&rollout, &all);
        let any = |wanted: fn(&Place) -> bool| all.iter().any(|one| wanted(&one.place));
        let waiting = any(|place| matches!(place, Place::Waiting { .. }));
        let held_up = any(|place| matches!(place, Place::Underway | Place::Failed | Place::Waiting { busy: Some(_), .. }));
        prop_assert!(!waiting || held_up || !found.go.is_empty() || found.again.is_some());
    }
}
