//! What a pass notes and counts.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use tokio::time::Instant;

use super::{applied, known_ends, was_read};
use crate::{
    api::State,
    apply::Applied,
    leases::Part,
    plan::Memory,
    report::{Outcome, SyncReport},
    runtime::test_context::{alone, bot_secret, context},
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
