//! What a pass notes and counts.

use std::time::Duration;

use hyper::Method;
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{applied, known_ends, pass, was_read};
use crate::{
    api::{ANNOTATION_ROTATE, BotSecret, State},
    apply::Applied,
    leases::{FINALIZER, Part},
    plan::Memory,
    report::{Outcome, Reason, SyncReport},
    runtime::test_context::{alone, bot_secret, context, counted},
    watch::SecretFacts,
};

#[test]
fn a_clock_counts_as_run_out_only_where_its_end_is_known() {
    let now = Instant::now();
    let second = Duration::from_secs(1);
    let part = |ends, sure| Part { ends, life: second, open: false, last: false, sure };
    let (over, later, last) = (now, now + second, now + 2 * second);
    for (parts, wanted) in [
        (vec![], (false, None)),
        (vec![part(later, true), part(last, true)], (false, Some(later))),
        (vec![part(over, true), part(last, true)], (true, Some(last))),
        (vec![part(over, false), part(later, false)], (false, None)),
    ] {
        assert_eq!(known_ends(parts.iter(), now), wanted, "{parts:?}");
    }
}

#[tokio::test]
async fn p9_a_value_that_is_taken_back_is_written_but_counts_as_no_read() {
    let (context, mut observed, mut memory) = (context(|_, _| None), alone(bot_secret()), Memory::default());
    let state = json!({
        "digest_key": "k", "revision": "105.k.f105", "since": null, "digests": { "A": "a" },
        "taken_back": { "revision": "106.k.f106" },
    });
    let state = State::parse(&state.to_string()).expect("a state");
    let facts = SecretFacts::of(ObjectMeta { name: Some("bot".to_owned()), ..ObjectMeta::default() });
    let mut outcome = Outcome::default();
    applied(&context, &mut observed, &mut memory, Applied::unchanged(&facts, &state), &mut outcome);
    assert!(matches!(outcome.sync, SyncReport::TakenBack { .. }), "{:?}", outcome.sync);
    assert!(context.metrics.last_success.get() <= 0.0);
    assert_eq!((memory.last_success, memory.synced_at), (None, None));
    was_read(&context, &mut memory);
    assert!(context.metrics.last_success.get() > 0.0);
    assert!(memory.last_success.is_some() && memory.synced_at.is_some());
}

/// The BotSecret, with these fields beside its own.
fn with(fields: &Value) -> BotSecret {
    let mut object = json!(bot_secret());
    for (part, fields) in fields.as_object().expect("parts") {
        for (name, value) in fields.as_object().expect("fields") {
            object[part][name] = value.clone();
        }
    }
    serde_json::from_value(object).expect("a BotSecret")
}

fn leaving() -> BotSecret {
    with(&json!({ "metadata": { "deletionTimestamp": Time(Timestamp::now()), "finalizers": [FINALIZER] } }))
}

#[tokio::test]
async fn a_pass_that_ends_early_is_counted_and_timed_and_says_why() {
    let request = json!({ "id": "1", "reason": "it leaked" }).to_string();
    let at_once = || with(&json!({ "metadata": { "annotations": { ANNOTATION_ROTATE: request } } }));
    let rolls_back = with(&json!({ "spec": { "rollout": { "onFailure": "RollBack" } } }));
    for (object, refused, code, reason) in [
        (leaving(), Method::PATCH, 500, Reason::KubernetesUnavailable),
        (at_once(), Method::PATCH, 500, Reason::KubernetesUnavailable),
        (at_once(), Method::PATCH, 403, Reason::OperatorForbidden),
        (at_once(), Method::PATCH, 409, Reason::KubernetesUnavailable),
        (rolls_back.clone(), Method::GET, 503, Reason::KubernetesUnavailable),
        (rolls_back, Method::GET, 403, Reason::OperatorForbidden),
    ] {
        let what = format!("{refused} {code}: {object:?}");
        let context = context(move |method, _| (*method == refused).then_some(code));
        let done = Box::pin(pass(&context, alone(object), Box::default())).await;
        assert!(done.again.is_some(), "{what}");
        assert_eq!(counted(&context, reason), [1; 3], "{what}");
    }
}

#[tokio::test]
async fn a_pass_that_lets_a_deleted_botsecret_go_is_counted_and_none_that_failed() {
    let context = context(|_, _| None);
    let done = Box::pin(pass(&context, alone(leaving()), Box::default())).await;
    assert!(done.again.is_none());
    for reason in Reason::ALL {
        assert_eq!(counted(&context, reason), [1, 1, 0], "{reason}");
    }
}
