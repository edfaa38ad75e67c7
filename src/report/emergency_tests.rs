//! Where a rotation at once stands after each outcome, case by case.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::{News, OldCredentials, report_emergency};
use crate::{
    api::{BotSecret, BotSecretStatus, EmergencyStatus},
    plan::Retry,
    report::{Outcome, Problem, Reason, SyncReport, notices},
};

const NONE: OldCredentials = OldCredentials { pending: false, revoked: false, left: false };

/// Request 1 in this phase, of a Secret that began at revision 1 and is at this.
fn object(phase: &str, revoke: bool, revision: &str, change: &Value) -> BotSecret {
    let mut object = json!({
        "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret",
        "metadata": {
            "name": "bot", "namespace": "trading",
            "annotations": { "botsecret.dev/rotate": r#"{"id":"1","reason":"leaked"}"# },
        },
        "spec": { "serviceAccountName": "bot" },
        "status": {
            "emergency": {
                "id": "1", "reason": "leaked", "revoke": revoke, "phase": phase, "from": "1.k.a",
                "requestedAt": "2026-01-01T00:00:00Z",
            },
            "target": { "name": "bot", "uid": "s", "resourceVersion": "7", "revision": revision },
            "conditions": [], "leases": [],
        },
    });
    for part in ["spec", "status", "metadata"] {
        for (name, value) in change[part].as_object().into_iter().flatten() {
            object[part][name] = value.clone();
        }
    }
    serde_json::from_value(object).expect("a BotSecret")
}

/// A rollout of this revision, of which this is said.
fn rollout(revision: &str, holds: bool, reason: &str, phase: &str) -> Value {
    json!({ "status": {
        "rollout": { "revision": revision, "complete": holds },
        "conditions": [{
            "type": "RolledOut", "status": if holds { "True" } else { "False" }, "reason": reason, "message": "as told",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
        "rotation": { "revision": revision, "phase": phase, "started": "2026-01-01T00:00:00Z" },
    } })
}

fn after(object: &BotSecret, outcome: &Outcome, old: OldCredentials) -> (EmergencyStatus, BotSecretStatus) {
    after_news(object, outcome, News { old, ..News::default() })
}

fn after_news(object: &BotSecret, outcome: &Outcome, news: News<'_>) -> (EmergencyStatus, BotSecretStatus) {
    let mut next = object.status.clone().expect("a status");
    report_emergency(object, outcome, news, &mut next, Timestamp::from_second(1_800_000_000).expect("a time"));
    (next.emergency.clone().expect("a record"), next)
}

fn handled() -> Outcome {
    Outcome { handled_rotation: Some("1".to_owned()), ..Outcome::default() }
}

fn failed(retry: Retry) -> Outcome {
    let problem = Problem::new(Reason::AccessDenied, retry, "the manager said no");
    Outcome { sync: SyncReport::Failed { problem, stale: false }, ..Outcome::default() }
}

#[test]
fn a_rotation_at_once_ends_with_the_rollout_of_what_it_brought() {
    let rolling = rollout("2.k.b", false, "RollingOut", "Rolling");
    let watched = rollout("2.k.b", true, "RolledOut", "Rolling");
    let verified = rollout("2.k.b", true, "RolledOut", "Verified");
    let before = rollout("1.k.a", true, "RolledOut", "Verified");
    for (change, outcome, wanted) in [
        (&rolling, Outcome::default(), "Requested"),
        // Nothing is over before it was read for the request.
        (&verified, Outcome::default(), "Requested"),
        (&rolling, handled(), "Written"),
        (&watched, handled(), "Written"),
        // Of the revision before, since nobody looked yet.
        (&before, handled(), "Written"),
        (&verified, handled(), "RolledOut"),
        (&rollout("2.k.b", false, "RolloutHalted", "Halted"), handled(), "Halted"),
        (&rollout("2.k.b", false, "WaitingForWorkload", "Rolling"), handled(), "WaitingForWorkload"),
        (&rollout("2.k.b", true, "RolledOut", "RolledBack"), handled(), "RolledBack"),
        (&rollout("2.k.b", false, "KubernetesUnavailable", "Rolling"), handled(), "Written"),
        (&json!({ "spec": { "rollout": { "workloads": "None" } } }), handled(), "RolledOut"),
    ] {
        let (record, _) = after(&object("Requested", false, "2.k.b", change), &outcome, NONE);
        assert_eq!(record.phase, wanted, "{change}");
        assert_eq!(record.finished_at.is_some(), !record.is_open(), "{change}");
    }
    // What has ended stays as it is.
    let ended = object("RolledOut", false, "2.k.b", &rolling);
    assert_eq!(after(&ended, &handled(), NONE).0.phase, "RolledOut");
}

#[test]
fn p9_a_manager_that_gives_the_same_value_is_told_of() {
    let same = object("Written", false, "1.k.a", &rollout("1.k.a", true, "RolledOut", "Verified"));
    let (record, _) = after(&same, &Outcome::default(), NONE);
    assert!(record.message.starts_with("the manager gave no other value than before"), "{}", record.message);
    let other = object("Written", false, "2.k.b", &rollout("2.k.b", true, "RolledOut", "Verified"));
    assert_eq!(after(&other, &Outcome::default(), NONE).0.message, "the Secret holds a new value; as told");
}

#[test]
fn p11_where_a_new_value_is_being_made_the_request_ends_with_it_or_with_a_refusal() {
    let told = |is_made: bool, revision: &str, retry: Option<Retry>| {
        let problem = retry.map(|retry| Problem::new(Reason::RotationRefused, retry, "the store says no"));
        let change = rollout(revision, true, "RolledOut", "Verified");
        let news = News { is_made, problem: problem.as_ref(), ..News::default() };
        let (record, _) = after_news(&object("Written", false, revision, &change), &Outcome::default(), news);
        (record.phase, record.message)
    };
    let (phase, message) = told(true, "1.k.a", None);
    assert_eq!((phase.as_str(), message.as_str()), ("Written", "a new value is being made at the source"));
    assert_eq!(told(true, "2.k.b", None).0, "Written", "another remote secret's is still to come");
    assert_eq!(told(false, "2.k.b", None).0, "RolledOut");
    assert_eq!(told(true, "1.k.a", Some(Retry::Backoff)).0, "Written", "it may pass");
    let (phase, message) = told(true, "1.k.a", Some(Retry::Slow));
    assert_eq!((phase.as_str(), message.as_str()), ("NotRotated", "no new value could be made: the store says no"));
}

#[test]
fn p9_why_there_is_no_new_value_is_said_and_a_lost_race_is_no_reason() {
    let asked = object("Requested", true, "1.k.a", &Value::Null);
    let (record, _) = after(&asked, &failed(Retry::Slow), NONE);
    assert_eq!(
        (record.phase.as_str(), record.message.as_str()),
        ("Requested", "no new value could be had yet: the manager said no")
    );
    assert_eq!(after(&asked, &failed(Retry::Soon), NONE).0.message, "");
    let killed = OldCredentials { revoked: true, ..NONE };
    let (record, _) = after(&asked, &failed(Retry::Slow), killed);
    assert!(record.message.contains("revoked all the same"), "{}", record.message);
    // Also where the next try is not due yet.
    let told = json!({ "status": { "emergency": {
        "id": "1", "reason": "leaked", "revoke": true, "phase": "Requested", "requestedAt": "2026-01-01T00:00:00Z",
        "message": record.message.split("; the old").next(),
    } } });
    let told = object("Requested", true, "1.k.a", &told);
    let (later, _) = after(&told, &Outcome::default(), killed);
    assert_eq!(later.message, record.message);
    assert_eq!(after(&told, &failed(Retry::Slow), killed).0.message, record.message, "said once");
    let written = after(&asked, &handled(), killed).0;
    assert_eq!((written.phase.as_str(), written.message.as_str()), ("Written", ""), "once it is there that is no news");
}

#[test]
fn p7_it_ends_when_the_old_credentials_have_and_says_what_became_of_them() {
    let verified = rollout("2.k.b", true, "RolledOut", "Verified");
    let old = |pending, revoked, left| OldCredentials { pending, revoked, left };
    for (revoke, old, phase, revocation, said) in [
        (true, old(true, false, false), "Written", "", ""),
        (true, old(true, true, false), "Written", "Revoked", ""),
        (true, old(false, true, false), "RolledOut", "Revoked", "the old credentials are revoked"),
        (true, old(false, true, true), "RolledOut", "LeftToEnd", "ends with its login"),
        (true, old(false, false, false), "RolledOut", "NothingToRevoke", "no leased credential to revoke"),
        (false, old(false, true, false), "RolledOut", "", "as told"),
    ] {
        let (record, _) = after(&object("Written", revoke, "2.k.b", &verified), &Outcome::default(), old);
        assert_eq!((record.phase.as_str(), record.revocation.as_str()), (phase, revocation));
        assert!(record.message.ends_with(said), "{}", record.message);
    }
}

#[test]
fn a_request_that_is_gone_is_withdrawn_and_a_suspended_one_waits() {
    let verified = rollout("2.k.b", true, "RolledOut", "Verified");
    let mut gone = verified.clone();
    gone["metadata"] = json!({ "annotations": { "botsecret.dev/rotate": r#"{"id":"2","reason":"leaked"}"# } });
    assert_eq!(after(&object("Written", false, "2.k.b", &gone), &Outcome::default(), NONE).0.phase, "Withdrawn");
    let mut suspended = verified;
    suspended["spec"] = json!({ "suspend": true });
    assert_eq!(after(&object("Written", false, "2.k.b", &suspended), &Outcome::default(), NONE).0.phase, "Written");
}

#[test]
fn its_end_is_told_once_and_as_a_warning_where_it_is_no_good_one() {
    let told = |object: &BotSecret| {
        let (_, next) = after(object, &Outcome::default(), NONE);
        let told = notices(object, &next, &Outcome::default());
        told.into_iter().filter(|one| one.reason == "RotationEnded").map(|one| one.warning).collect::<Vec<_>>()
    };
    let of = |phase: &str, change: &Value| object(phase, false, "2.k.b", change);
    assert_eq!(told(&of("Written", &rollout("2.k.b", true, "RolledOut", "Verified"))), [false]);
    assert_eq!(told(&of("Written", &rollout("2.k.b", false, "RolloutHalted", "Halted"))), [true]);
    assert_eq!(told(&of("Written", &rollout("2.k.b", false, "RollingOut", "Rolling"))), [false; 0]);
    assert_eq!(told(&of("RolledOut", &rollout("2.k.b", true, "RolledOut", "Verified"))), [false; 0]);
}
