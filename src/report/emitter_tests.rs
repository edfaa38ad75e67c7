//! What is an event of its own, and what is one seen again.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering::SeqCst},
    },
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, body::Bytes};
use k8s_openapi::jiff::Timestamp;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Emitter, Key, MOST_REMEMBERED, Recent, SERIES_ENDS, Told, name};
use crate::{api::BotSecret, report::Notice};

/// An API server that takes what it is told, but for patches, which it answers as it
/// is told to.
struct Server {
    patches: AtomicU16,
    asked: Mutex<Vec<(Method, String, Value)>>,
}

impl Server {
    fn new() -> Arc<Self> {
        Arc::new(Self { patches: AtomicU16::new(200), asked: Mutex::default() })
    }

    fn emitter(self: &Arc<Self>) -> Emitter {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                let body: Value = serde_json::from_slice(&body).expect("JSON");
                let code = if head.method == Method::PATCH { server.patches.load(SeqCst) } else { 201 };
                let answer = if code < 300 {
                    json!({ "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": { "name": "any" } })
                } else {
                    json!({ "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "message": "no" })
                };
                server.asked.lock().expect("whole").push((head.method, head.uri.path().to_owned(), body));
                let answer = Response::builder().status(code).body(Full::new(Bytes::from(answer.to_string())));
                Ok::<_, Infallible>(answer.expect("an answer"))
            }
        });
        Emitter::new(kube::Client::new(service, "trading"))
    }

    /// Each event that was asked for since, with its note, or how often it was seen: the
    /// name is left as a number, in the order in which they were made.
    fn told(&self) -> Vec<(usize, String)> {
        let asked = self.asked.lock().expect("whole");
        let mut names = Vec::new();
        let told = asked.iter().map(|(method, path, body)| {
            let (name, said) = if method == Method::POST {
                (body["metadata"]["name"].as_str().expect("a name"), &body["note"])
            } else {
                (path.rsplit('/').next().expect("a name"), &body["series"]["count"])
            };
            if !names.contains(&name) {
                names.push(name);
            }
            let number = names.iter().position(|known| *known == name).expect("it is known");
            (number, said.to_string())
        });
        told.collect()
    }
}

fn bot_secret(uid: &str) -> BotSecret {
    serde_json::from_value(json!({
        "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret",
        "metadata": { "name": "bot", "namespace": "trading", "uid": uid },
        "spec": { "serviceAccountName": "bot" },
    }))
    .expect("a BotSecret")
}

fn rolling(app: &str) -> Notice {
    Notice { warning: false, reason: "RollingOut", action: "RollOut", note: format!("rolling {app}") }
}

fn told(expected: &[(usize, &str)]) -> Vec<(usize, String)> {
    expected.iter().map(|(number, said)| (*number, (*said).to_owned())).collect()
}

#[tokio::test]
async fn p9_each_workload_that_rolls_is_named_and_what_is_told_again_is_counted() {
    let (server, object) = (Server::new(), bot_secret("u"));
    let emitter = server.emitter();
    emitter.publish(&object, &[rolling("a"), rolling("b")]).await;
    emitter.publish(&object, &[rolling("a")]).await;
    emitter.publish(&object, &[rolling("b"), rolling("a")]).await;
    let expected = told(&[(0, "\"rolling a\""), (1, "\"rolling b\""), (0, "2"), (1, "2"), (0, "3")]);
    assert_eq!(server.told(), expected);
    let asked = server.asked.lock().expect("whole");
    let (_, path, event) = asked.first().expect("an event");
    assert_eq!(path, "/apis/events.k8s.io/v1/namespaces/trading/events");
    assert_eq!(
        (&event["type"], &event["reason"], &event["action"]),
        (&json!("Normal"), &json!("RollingOut"), &json!("RollOut"))
    );
    let about = &event["regarding"];
    assert_eq!((&about["kind"], &about["name"], &about["uid"]), (&json!("BotSecret"), &json!("bot"), &json!("u")));
}

#[tokio::test]
async fn p9_what_could_not_be_counted_is_not_and_an_event_that_somebody_deleted_is_made_anew() {
    let (server, object) = (Server::new(), bot_secret("u"));
    let emitter = server.emitter();
    for answer in [200, 500, 403, 200, 404, 200] {
        server.patches.store(answer, SeqCst);
        emitter.publish(&object, &[rolling("a")]).await;
    }
    let made = "\"rolling a\"";
    let expected = told(&[(0, made), (0, "2"), (0, "2"), (0, "2"), (0, "3"), (1, made), (1, "2")]);
    assert_eq!(server.told(), expected);
}

fn seen(name: &str, at: Instant) -> Told {
    Told { name: name.to_owned(), count: 1, at }
}

#[test]
fn the_same_counts_as_seen_again_only_if_all_of_it_is_the_same_and_that_was_lately() {
    let now = Instant::now();
    let (object, notice) = (bot_secret("u"), rolling("a"));
    let key = Key::of(&object, &notice);
    let others = [
        Key::of(&bot_secret("v"), &notice),
        Key::of(&object, &rolling("b")),
        Key::of(&object, &Notice { warning: true, ..notice.clone() }),
        Key::of(&object, &Notice { reason: "Rotated", ..notice.clone() }),
        Key::of(&object, &Notice { action: "Write", ..notice.clone() }),
    ];
    let mut recent = Recent::default();
    recent.note(key.clone(), seen("first", now));
    for other in others {
        assert_eq!(recent.again(&other, now), None, "{other:?}");
    }
    let moment = Duration::from_millis(1);
    let late = now + SERIES_ENDS - moment;
    let again = recent.again(&key, late);
    assert_eq!(again, Some(Told { count: 2, ..seen("first", late) }));
    // Each time it is seen it may be seen once more for as long.
    recent.note(key.clone(), again.expect("seen again"));
    assert!(recent.again(&key, late + SERIES_ENDS - moment).is_some());
    assert_eq!(recent.again(&key, late + SERIES_ENDS), None);
    assert!(recent.0.is_empty(), "it is forgotten");
}

#[test]
fn of_too_many_events_the_one_that_was_not_seen_for_longest_is_forgotten() {
    let (now, object) = (Instant::now(), bot_secret("u"));
    let key = |number: usize| Key::of(&object, &rolling(&number.to_string()));
    let mut recent = Recent::default();
    for number in 0..MOST_REMEMBERED {
        recent.note(key(number), seen("any", now + Duration::from_nanos(number as u64 + 1)));
    }
    // The first is seen again, so that the second is the oldest.
    recent.note(key(0), seen("any", now + Duration::from_secs(1)));
    assert_eq!(recent.0.len(), MOST_REMEMBERED);
    recent.note(key(MOST_REMEMBERED), seen("any", now + Duration::from_secs(1)));
    assert_eq!(recent.0.len(), MOST_REMEMBERED);
    let is_there = [0, 1, 2, MOST_REMEMBERED].map(|number| recent.0.contains_key(&key(number)));
    assert_eq!(is_there, [true, false, true, true]);
}

#[test]
fn a_long_note_is_cut_and_an_event_has_a_valid_name_whatever_its_botsecret_is_called() {
    let long = Notice { note: "ä".repeat(600), ..rolling("a") };
    assert_eq!(Key::of(&bot_secret("u"), &long).note, "ä".repeat(500));
    let moment: Timestamp = "2026-01-01T12:00:00.123456789Z".parse().expect("a time");
    assert_eq!(name("bot.of-mine", moment), "bot.of-mine.1886999c3dfd4d15");
    let longest = name(&"a".repeat(253), moment);
    assert_eq!(longest.len(), 253);
    // No part of it ends in a hyphen, and none is empty.
    let cut = name(&format!("{}.-{}", "a".repeat(234), "b".repeat(17)), moment);
    assert_eq!(cut.split('.').map(str::len).collect::<Vec<_>>(), [234, 16]);
}
