//! A fault of the operator's own, in one pass over one object; what goes with what is
//! deleted.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use hyper::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Context, Engine, contained};
use crate::{
    plan::{Due, Queue, due},
    report::Reason,
    runtime::{
        referred::ReferredWatches,
        successes::Successes,
        test_context::{self, alone, bot_secret, counted},
    },
    stores::RemoteKey,
    watch::{AccountFacts, Change, ObjectKey, Observed, Scoped, World},
};

const CANARY: &str = "a value that a panic quotes";

/// An API server that takes what it is told; the client itself panics in the
/// first `panics` status patches.
fn context(panics: usize, told: Arc<Mutex<Vec<Value>>>) -> Context {
    let left = Arc::new(AtomicUsize::new(panics));
    test_context::context(move |method, body| {
        let is_patch = method == Method::PATCH;
        assert!(!is_patch || left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_err(), "{CANARY}");
        told.lock().expect("whole").push(body.clone());
        None
    })
}

#[tokio::test]
async fn p6_a_panic_costs_one_pass_is_counted_and_said_on_the_object_without_its_words() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let context = context(1, told.clone());
    let observed = alone(bot_secret());
    let done = contained(&context, observed.clone(), Box::default()).await.expect("reported");

    assert_eq!((context.metrics.panics.get(), counted(&context, Reason::InternalError)), (1, [1; 3]));
    let told = told.lock().expect("whole").clone();
    let status = &told.first().expect("a patch")["status"];
    let ready = status["conditions"].as_array().and_then(|all| all.iter().find(|one| one["type"] == "Ready"));
    let ready = ready.expect("a condition");
    assert_eq!((ready["status"].as_str(), ready["reason"].as_str()), (Some("False"), Some("InternalError")));
    assert!(!format!("{told:?}").contains(CANARY), "{told:?}");
    // Its own event, and any other that changes nothing, waits for a minute.
    let again = done.again.expect("it is tried again");
    assert!(again > Instant::now() + Duration::from_secs(50));
    assert_eq!(due(&observed, &done.memory, Instant::now()), Due::Later(done.memory.next_read));
}

#[tokio::test]
async fn p6_a_panic_in_the_report_of_a_panic_is_contained_too() {
    let context = context(2, Arc::default());
    let observed = alone(bot_secret());
    assert!(contained(&context, observed, Box::default()).await.is_none());
    assert_eq!((context.metrics.panics.get(), counted(&context, Reason::InternalError)), (1, [1; 3]));
}

/// An engine that knows a ServiceAccount, a store where nobody answers, and a BotSecret
/// that reads from it.
fn engine() -> Engine {
    let context = context(0, Arc::default());
    let (done, _) = tokio::sync::mpsc::unbounded_channel();
    let (referred, _) = ReferredWatches::new(context.client.clone());
    let mut engine = Engine {
        context: Arc::new(context),
        world: World::new("botsecret-system"),
        queue: Queue::default(),
        memories: HashMap::new(),
        wanted: HashMap::new(),
        done,
        referred,
        successes: Successes::of(10),
        sending: false,
    };
    let store = serde_json::from_value(json!({
        "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecretStore",
        "metadata": { "name": "nowhere", "namespace": "trading", "uid": "s", "generation": 1 },
        "spec": { "kubernetes": {
            "remoteNamespace": "vault", "server": { "url": "https://127.0.0.1:1" }, "audience": "elsewhere",
        } },
    }));
    let account = AccountFacts { uid: "a".to_owned(), ..AccountFacts::default() };
    engine.take("", Change::BotSecret(Scoped::Put(Box::new(bot_secret()))));
    engine.take("", Change::Store(Scoped::Put(Box::new(store.expect("a store")))));
    engine.take("", Change::ServiceAccount(Scoped::Put((ObjectKey::new("trading", "bot"), account))));
    engine
}

/// Reads as a pass over the BotSecret would that began before what happened since. Answers
/// how many tokens have been asked for.
async fn read(engine: &Engine, observed: &Observed) -> u64 {
    let store = observed.stores.values().next().expect("a store").as_ref().expect("it can be used");
    let account = observed.account.as_ref().expect("an account");
    let key = RemoteKey { key: "x".to_owned(), version: None, metadata: false, dated: false };
    let fetcher = &engine.context.fetcher;
    let answers = fetcher.read(store, account, &[key], Instant::now()).await;
    assert!(answers[0].is_err(), "nobody answers there");
    fetcher.counters().token_requests()
}

#[tokio::test(start_paused = true)]
async fn p5_tokens_and_logins_of_a_deleted_account_go_with_it() {
    let bot = ObjectKey::new("trading", "bot");
    let mut engine = engine();
    let observed = engine.world.observe(&bot).expect("it is there");
    assert_eq!(read(&engine, &observed).await, 1);
    assert_eq!(read(&engine, &observed).await, 1, "it is kept");
    engine.take("", Change::ServiceAccount(Scoped::Gone(ObjectKey::new("trading", "another"))));
    assert_eq!(read(&engine, &observed).await, 1, "another one's end is nothing to it");
    engine.take("", Change::ServiceAccount(Scoped::Gone(bot)));
    assert_eq!(read(&engine, &observed).await, 2, "nothing of it is kept");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_store_is_closed_and_its_logins_go() {
    let mut engine = engine();
    let observed = engine.world.observe(&ObjectKey::new("trading", "bot")).expect("it is there");
    read(&engine, &observed).await;
    engine.take("", Change::Store(Scoped::Gone(ObjectKey::new("trading", "nowhere"))));
    engine.take("", Change::ServiceAccount(Scoped::Gone(ObjectKey::new("trading", "bot"))));
    assert!(engine.context.fetcher.is_empty());
}

#[tokio::test(start_paused = true)]
async fn p4_nothing_stays_in_memory_once_the_last_botsecret_has_gone_though_nobody_reads_any_more() {
    let bot = ObjectKey::new("trading", "bot");
    let mut engine = engine();
    let observed = engine.world.observe(&bot).expect("it is there");
    read(&engine, &observed).await;
    engine.take("", Change::BotSecret(Scoped::Gone(bot)));
    engine.count();
    assert!(!engine.context.fetcher.is_empty(), "somebody may want it within the hour");
    tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
    engine.count();
    assert!(engine.context.fetcher.is_empty());
}
