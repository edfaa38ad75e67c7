//! Which BotSecrets have a series, and what it says.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::Successes;
use crate::{
    plan::Memory,
    watch::{Change, ObjectKey, Scoped, World},
};

/// As the watch brings it, with this uid and status, later than all before.
fn put(world: &mut World, name: &str, uid: &str, suspend: bool, status: &Value) {
    static VERSION: AtomicU64 = AtomicU64::new(1);
    let version = VERSION.fetch_add(1, Ordering::Relaxed).to_string();
    let object = json!({
        "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret",
        "metadata": { "name": name, "namespace": "trading", "uid": uid, "resourceVersion": version },
        "spec": { "serviceAccountName": "bot", "suspend": suspend },
        "status": status,
    });
    let object = serde_json::from_value(object).expect("a BotSecret");
    world.take("", Change::BotSecret(Scoped::Put(Box::new(object))));
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("trading", name)
}

/// The notes on this BotSecret after it was synced at this second.
fn notes(uid: &str, second: Option<i64>) -> Box<Memory> {
    let synced_at = second.map(|second| Timestamp::from_second(second).expect("a time"));
    Box::new(Memory { uid: Some(uid.to_owned()), synced_at, ..Memory::default() })
}

fn status(synced: &str, since: i64, written: Option<i64>, has_target: bool) -> Value {
    let time = |second: i64| Timestamp::from_second(second).expect("a time").to_string();
    let target = json!({ "name": "bot", "uid": "s", "resourceVersion": "7", "revision": "1.a.b" });
    let rotation = written.map(|second| {
        let times = [("Written", second), ("Verified", second + 500)];
        let times = times.map(|(phase, second)| json!({ "phase": phase, "at": time(second) }));
        json!({ "revision": "1.a.b", "phase": "Verified", "started": time(second - 1), "times": times })
    });
    json!({
        "conditions": [
            { "type": "Ready", "status": "True", "reason": "Synced", "message": "", "lastTransitionTime": time(9_000) },
            { "type": "Synced", "status": synced, "reason": "Synced", "message": "", "lastTransitionTime": time(since) },
        ],
        "target": has_target.then_some(target),
        "rotation": rotation,
    })
}

/// Name and second of each series.
fn told(successes: &Successes) -> Vec<(String, f64)> {
    successes.times().map(|(_, name, at)| (name.to_owned(), at)).collect()
}

fn wanted(series: &[(&str, f64)]) -> Vec<(String, f64)> {
    series.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect()
}

#[test]
fn a_process_that_has_read_nothing_says_what_the_status_shows() {
    for (case, status, expected) in [
        ("it is Synced", status("True", 100, None, true), Some(100.0)),
        ("it fails", status("False", 400, Some(200), true), Some(400.0)),
        ("it was rotated since it became Synced", status("True", 100, Some(700), true), Some(700.0)),
        ("it was never written", status("False", 400, None, false), None),
        ("nobody has looked at it", Value::Null, None),
    ] {
        let (mut world, mut successes) = (World::default(), Successes::of(10));
        put(&mut world, "bot", "u", false, &status);
        assert_eq!(successes.count(&world, &HashMap::new()), 0, "{case}");
        let expected: Vec<_> = expected.map(|at| ("bot", at)).into_iter().collect();
        assert_eq!(told(&successes), wanted(&expected), "{case}");
    }
}

#[test]
fn what_this_process_has_read_counts_and_stays_while_a_pass_or_a_fault_takes_its_notes() {
    let (mut world, mut successes) = (World::default(), Successes::of(10));
    put(&mut world, "bot", "u", false, &status("True", 100, None, true));
    for (case, memories, expected) in [
        ("before the first pass", HashMap::new(), 100.0),
        ("it was read", HashMap::from([(key("bot"), notes("u", Some(5_000)))]), 5_000.0),
        ("a pass has its notes", HashMap::new(), 5_000.0),
        ("its notes were lost", HashMap::from([(key("bot"), notes("u", None))]), 5_000.0),
        ("it was read again", HashMap::from([(key("bot"), notes("u", Some(6_000)))]), 6_000.0),
        ("these notes are about another", HashMap::from([(key("bot"), notes("other", Some(7_000)))]), 6_000.0),
    ] {
        successes.count(&world, &memories);
        assert_eq!(told(&successes), wanted(&[("bot", expected)]), "{case}");
    }
}

#[test]
fn a_series_ends_with_its_botsecret_and_what_is_made_anew_begins_anew() {
    let (mut world, mut successes) = (World::default(), Successes::of(10));
    let memories = HashMap::from([(key("bot"), notes("u", Some(5_000)))]);
    put(&mut world, "bot", "u", false, &Value::Null);
    successes.count(&world, &memories);
    assert_eq!(told(&successes), wanted(&[("bot", 5_000.0)]));
    // Under one name, between two counts.
    put(&mut world, "bot", "v", false, &Value::Null);
    successes.count(&world, &memories);
    assert_eq!(told(&successes), wanted(&[]));
    let memories = HashMap::from([(key("bot"), notes("v", Some(8_000)))]);
    successes.count(&world, &memories);
    assert_eq!(told(&successes), wanted(&[("bot", 8_000.0)]));
    put(&mut world, "bot", "v", true, &Value::Null);
    successes.count(&world, &memories);
    assert_eq!(told(&successes), wanted(&[]), "it is suspended");
    put(&mut world, "bot", "v", false, &Value::Null);
    successes.count(&world, &memories);
    assert_eq!(told(&successes), wanted(&[("bot", 8_000.0)]));
    world.take("", Change::BotSecret(Scoped::Gone(key("bot"))));
    successes.count(&world, &memories);
    assert_eq!(told(&successes), wanted(&[]), "it is deleted");
}

#[test]
fn no_more_than_the_limit_have_a_series_and_the_rest_are_counted() {
    let mut world = World::default();
    for (name, suspend) in [("d", false), ("b", false), ("a", true), ("c", false)] {
        put(&mut world, name, "u", suspend, &status("True", 100, None, true));
    }
    for (most, beyond, names) in [
        (0, 3, vec![]),
        (1, 2, vec!["b"]),
        (2, 1, vec!["b", "c"]),
        (3, 0, vec!["b", "c", "d"]),
        (9, 0, vec!["b", "c", "d"]),
    ] {
        let mut successes = Successes::of(most);
        assert_eq!(successes.count(&world, &HashMap::new()), beyond, "{most}");
        let series: Vec<_> = names.into_iter().map(|name| (name, 100.0)).collect();
        assert_eq!(told(&successes), wanted(&series), "{most}");
    }
}
