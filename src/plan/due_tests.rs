//! When a read is due, case by case.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Due, due, why};
use crate::{
    api::BotSecret,
    audit::Why,
    plan::{Memory, Renewal},
    watch::{Observed, SecretFacts},
};

/// A BotSecret of generation 2, synced at it, and its Secret as recorded;
/// `change` is laid over it.
fn observed(change: &Value) -> Observed {
    let mut object = json!({
        "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret",
        "metadata": { "name": "bot", "namespace": "trading", "uid": "u", "generation": 2 },
        "spec": { "serviceAccountName": "bot", "refreshInterval": "1m" },
        "status": {
            "observedGeneration": 2,
            "conditions": [{
                "type": "Synced", "status": "True", "reason": "Synced", "message": "",
                "observedGeneration": 2, "lastTransitionTime": "2026-01-01T00:00:00Z",
            }],
            "target": { "name": "bot", "uid": "s", "resourceVersion": "7", "revision": "1.a.b" },
        },
    });
    merge(&mut object, change);
    let secret: k8s_openapi::api::core::v1::Secret = serde_json::from_value(
        json!({ "metadata": { "name": "bot", "namespace": "trading", "uid": "s", "resourceVersion": "7" } }),
    )
    .expect("a Secret");
    Observed {
        lenders: BTreeMap::new(),
        bot_secret: Arc::new(serde_json::from_value::<BotSecret>(object).expect("a BotSecret")),
        stores: BTreeMap::new(),
        account: None,
        rotator: None,
        secret: Some(Arc::new(SecretFacts::of(secret.metadata))),
        lost: None,
        workloads: Vec::new(),
        shared: std::collections::HashMap::new(),
        rollouts_served: false,
        older_rival: None,
        younger_rivals: Vec::new(),
    }
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

fn edited_secret(mut observed: Observed) -> Observed {
    let mut facts = observed.secret.as_deref().expect("there is one").clone();
    facts.resource_version = "8".to_owned();
    observed.secret = Some(Arc::new(facts));
    observed
}

/// Read once at generation 2, next in a minute.
fn synced(now: Instant) -> Memory {
    Memory {
        read_generation: Some(2),
        last_success: Some(now),
        next_read: Some(now + Duration::from_secs(60)),
        ..Memory::default()
    }
}

const URGENT: fn(Instant) -> Due = |since| Due::Read { since, urgent: true };

#[test]
fn p2_a_refresh_is_due_at_its_tick_and_not_before() {
    let now = Instant::now();
    let (memory, tick) = (synced(now), now + Duration::from_secs(60));
    assert_eq!(due(&observed(&json!({})), &memory, now), Due::Later(Some(tick)));
    let late = tick + Duration::from_millis(3);
    assert_eq!(
        due(&observed(&json!({})), &memory, late),
        Due::Read { since: tick, urgent: false },
        "due since the tick"
    );
}

#[test]
fn a_new_an_edited_a_forced_and_a_woken_one_are_read_at_once() {
    let now = Instant::now();
    assert_eq!(due(&observed(&json!({})), &Memory::default(), now), URGENT(now), "after a restart");
    let edited = observed(&json!({ "metadata": { "generation": 3 } }));
    assert_eq!(due(&edited, &synced(now), now), URGENT(now));
    let forced = observed(&json!({ "metadata": { "annotations": { "botsecret.dev/refresh": "1" } } }));
    assert_eq!(due(&forced, &synced(now), now), URGENT(now));
    let woken = Memory { wanted_since: Some(now), ..synced(now) };
    assert_eq!(due(&observed(&json!({})), &woken, now), URGENT(now));
}

#[test]
fn a_rotation_at_once_is_read_for_until_there_is_a_value_whatever_the_interval() {
    let now = Instant::now();
    let request = |phase: &str| {
        json!({
            "metadata": { "annotations": { "botsecret.dev/rotate": r#"{"id":"1","reason":"leaked"}"# } },
            "spec": { "refreshInterval": "0" },
            "status": { "emergency": {
                "id": "1", "reason": "leaked", "phase": phase, "requestedAt": "2026-01-01T00:00:00Z",
            } },
        })
    };
    assert_eq!(due(&observed(&request("Requested")), &synced(now), now), URGENT(now));
    let failing = Memory { failures: 1, ..synced(now) };
    assert!(
        matches!(due(&observed(&request("Requested")), &failing, now), Due::Later(Some(_))),
        "p6: but not in a row"
    );
    for phase in ["Written", "RolledOut"] {
        assert_eq!(due(&observed(&request(phase)), &synced(now), now), Due::Later(None), "{phase}");
    }
}

#[test]
fn what_is_read_once_and_rotated_is_read_once_by_each_process() {
    let now = Instant::now();
    let once = |rotation: Value| observed(&json!({ "spec": { "refreshInterval": "0", "rotation": rotation } }));
    let restarted = Memory { read_generation: None, next_read: None, ..synced(now) };
    assert_eq!(due(&once(json!({ "maxAge": "1h" })), &restarted, now), Due::Later(None));
    assert!(matches!(due(&once(json!({ "every": "1h" })), &restarted, now), Due::Read { .. }));
    let read = Memory { next_read: None, rotation: Some(Box::default()), ..synced(now) };
    assert_eq!(due(&once(json!({ "every": "1h" })), &read, now), Due::Later(None));
}

#[test]
fn a_refresh_that_was_handled_is_not_asked_for_again() {
    let now = Instant::now();
    let handled = json!({
        "metadata": { "annotations": { "botsecret.dev/refresh": "1" } }, "status": { "lastHandledRefresh": "1" },
    });
    assert!(matches!(due(&observed(&handled), &synced(now), now), Due::Later(Some(_))));
}

#[test]
fn p6_a_failing_one_waits_for_the_end_of_its_back_off_even_if_drifted() {
    let now = Instant::now();
    let failing = Memory { failures: 3, ..synced(now) };
    assert!(matches!(due(&edited_secret(observed(&json!({}))), &failing, now), Due::Later(Some(_))));
    let over = now + Duration::from_secs(61);
    assert!(matches!(due(&observed(&json!({})), &failing, over), Due::Read { urgent: false, .. }));
    let never = Memory { last_success: None, ..failing };
    assert!(
        matches!(due(&observed(&json!({})), &never, over), Due::Read { urgent: true, .. }),
        "somebody waits for it"
    );
}

#[test]
fn drift_is_repaired_at_once_and_a_deleted_secret_is_drift() {
    let now = Instant::now();
    assert_eq!(due(&edited_secret(observed(&json!({}))), &synced(now), now), URGENT(now));
    let mut deleted = observed(&json!({}));
    deleted.secret = None;
    assert_eq!(due(&deleted, &synced(now), now), URGENT(now));
    let renamed = observed(&json!({ "spec": { "target": { "name": "other" } } }));
    assert_eq!(due(&renamed, &synced(now), now), URGENT(now));
}

#[test]
fn p6_a_contested_secret_is_left_alone_for_a_while_whether_it_is_edited_or_deleted() {
    let now = Instant::now();
    let mut memory = Memory { wanted_since: Some(now), ..synced(now) };
    for _ in 0..5 {
        memory.repairs.note(now);
    }
    let until = now + Duration::from_secs(300);
    let mut deleted = observed(&json!({}));
    deleted.secret = None;
    assert_eq!(due(&deleted, &memory, now), Due::Contested(until), "each deletion wakes us");
    let edited = edited_secret(observed(&json!({})));
    assert_eq!(due(&edited, &memory, now), Due::Contested(until));
    assert_eq!(due(&edited, &memory, until), URGENT(now), "then it is put right again");
    let forced = json!({ "metadata": { "annotations": { "botsecret.dev/refresh": "1" } } });
    assert_eq!(due(&edited_secret(observed(&forced)), &memory, now), URGENT(now), "a person decides");
    assert_eq!(
        due(&observed(&json!({})), &Memory { wanted_since: None, ..memory }, now),
        Due::Later(Some(now + Duration::from_secs(60)))
    );
}

#[test]
fn an_interval_of_zero_reads_once_for_each_generation_and_again_only_for_a_reason() {
    let now = Instant::now();
    let once = |change: &Value| {
        let mut object = json!({ "spec": { "refreshInterval": "0" } });
        merge(&mut object, change);
        observed(&object)
    };
    assert_eq!(due(&once(&json!({})), &Memory::default(), now), Due::Later(None), "nor after a restart");
    let woken = Memory { wanted_since: Some(now), ..Memory::default() };
    assert_eq!(due(&once(&json!({})), &woken, now), Due::Later(None), "the first lists wake everyone");
    assert_eq!(due(&once(&json!({ "metadata": { "generation": 3 } })), &woken, now), URGENT(now));
    assert_eq!(due(&edited_secret(once(&json!({}))), &Memory::default(), now), URGENT(now));
    // An edit that met an outage: observed, but not synced.
    let outage = json!({ "metadata": { "generation": 3 }, "status": { "observedGeneration": 3 } });
    assert_eq!(due(&once(&outage), &Memory::default(), now), URGENT(now), "it is still owed");
}

#[test]
fn p8_what_is_suspended_or_on_its_way_out_reads_nothing() {
    let now = Instant::now();
    let woken = Memory { wanted_since: Some(now), ..Memory::default() };
    let suspended = observed(&json!({ "spec": { "suspend": true } }));
    let leaving = observed(&json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } }));
    for object in [suspended, leaving] {
        assert_eq!(due(&edited_secret(object), &woken, now), Due::Later(None));
    }
}

#[test]
fn what_ends_is_had_anew_when_it_is_due_whatever_the_interval() {
    let now = Instant::now();
    let renewal = |due| Some(Renewal { due, ends: due + Duration::from_secs(60) });
    let (soon, past) = (now + Duration::from_secs(60), now - Duration::from_secs(1));
    let once = observed(&json!({ "spec": { "refreshInterval": "0" } }));
    // Before and after a restart: the record on the Secret is all that is left.
    for read_generation in [Some(2), None] {
        let memory = |renewal| Memory { renewal, read_generation, ..Memory::default() };
        assert_eq!(due(&once, &memory(None), now), Due::Later(None));
        assert_eq!(due(&once, &memory(renewal(soon)), now), Due::Later(Some(soon)));
        assert_eq!(due(&once, &memory(renewal(past)), now), Due::Read { since: past, urgent: false });
    }
    // A restart wakes every object; this one has nothing to read yet.
    let woken = Memory { wanted_since: Some(now), renewal: renewal(soon), ..Memory::default() };
    assert_eq!(due(&once, &woken, now), Due::Later(Some(soon)));
    let failing = Memory {
        failures: 1,
        read_generation: Some(2),
        next_read: Some(soon),
        renewal: renewal(past),
        ..Memory::default()
    };
    assert_eq!(due(&once, &failing, now), Due::Later(Some(soon)));
}

#[test]
fn what_ends_does_not_wait_for_the_back_off_of_a_long_interval() {
    let now = Instant::now();
    let second = |seconds| now + Duration::from_secs(seconds);
    let renewal = |due| Some(Renewal { due, ends: due + Duration::from_secs(600) });
    let daily = observed(&json!({ "spec": { "refreshInterval": "24h" } }));
    let denied = Memory { failures: 4, failed_at: Some(now), next_read: Some(second(86_400)), ..synced(now) };
    assert_eq!(due(&daily, &denied, now), Due::Later(Some(second(86_400))), "nothing of it ends");
    let later = Memory { renewal: renewal(second(3600)), ..denied };
    assert_eq!(due(&daily, &later, now), Due::Later(Some(second(3600))), "the end comes first");
    assert_eq!(due(&daily, &later, second(3600)), Due::Read { since: second(3600), urgent: false });
    let over = Memory { renewal: renewal(now), ..later };
    assert_eq!(due(&daily, &over, second(29)), Due::Later(Some(second(30))), "p6: and no sooner");
    assert_eq!(due(&daily, &over, second(30)), Due::Read { since: second(30), urgent: false });
    let mut lease = Memory { renewal: None, ..over };
    lease.leases.due = true;
    assert_eq!(due(&daily, &lease, second(1)), Due::Later(Some(second(30))));
    assert_eq!(due(&daily, &lease, second(31)), Due::Read { since: second(30), urgent: false });
    // A shorter back-off stays as it is, and so does what the manager asks for.
    lease.next_read = Some(second(2));
    assert_eq!(due(&daily, &lease, second(1)), Due::Later(Some(second(2))));
    let asked = Memory { failed_at: None, next_read: Some(second(600)), ..lease };
    assert_eq!(due(&daily, &asked, second(60)), Due::Later(Some(second(600))));
    // Where nothing was ever written, nothing in use ends.
    let never = observed(&json!({ "status": { "target": null } }));
    let first = Memory { failed_at: Some(now), next_read: Some(second(300)), ..asked };
    assert_eq!(due(&never, &first, second(60)), Due::Later(Some(second(300))));
}

#[test]
fn whatever_is_read_is_read_for_the_fact_that_makes_it_due_and_what_no_fact_does_is_unexplained() {
    let now = Instant::now();
    let (as_is, later) = (|| observed(&json!({})), now + Duration::from_secs(61));
    let forced = observed(&json!({ "metadata": { "annotations": { "botsecret.dev/refresh": "1" } } }));
    let edited = observed(&json!({ "metadata": { "generation": 3 } }));
    let new = observed(&json!({ "status": { "observedGeneration": null, "target": null } }));
    let leased = || {
        let mut memory = synced(now);
        memory.leases.due = true;
        memory
    };
    let tried = || {
        let mut memory = synced(now);
        memory.candidate.looks = 2;
        memory
    };
    let ending = || Renewal::of_new(now + Duration::from_secs(30), now);
    let once = observed(&json!({ "spec": { "refreshInterval": "0" } }));
    for (observed, memory, at, wanted) in vec![
        (as_is(), synced(now), later, Some(Why::Refresh)),
        (as_is(), Memory::default(), now, Some(Why::Start)),
        (new, Memory::default(), now, Some(Why::Spec)),
        (edited, synced(now), now, Some(Why::Spec)),
        (forced, synced(now), now, Some(Why::Forced)),
        (as_is(), Memory { wanted_since: Some(now), ..synced(now) }, now, Some(Why::Event)),
        (as_is(), Memory { failures: 2, ..synced(now) }, later, Some(Why::Retry)),
        (as_is(), leased(), now, Some(Why::Lease)),
        (as_is(), Memory { overlap_over: true, ..synced(now) }, now, Some(Why::Overlap)),
        (edited_secret(as_is()), synced(now), now, Some(Why::Drift)),
        (as_is(), tried(), later, Some(Why::Trial)),
        (once, Memory { renewal: Some(ending()), next_read: None, ..synced(now) }, later, Some(Why::Renewal)),
        // Nothing has changed, and nobody has said when the next one is due.
        (as_is(), Memory { next_read: None, ..synced(now) }, now, None),
    ] {
        assert!(matches!(due(&observed, &memory, at), Due::Read { .. }), "{wanted:?}: it is not due");
        assert_eq!(why(&observed, &memory, at), wanted);
    }
}
