//! What is asked of an API server that has no Rollouts, or does not tell.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::Full;
use kube::{Client, client::Body};
use serde_json::{Value, json};

use super::{Change, WorkloadKind, definition, rollouts};
use crate::watch::Scoped;

type Asked = Arc<Mutex<Vec<String>>>;

/// Answers as told, and notes the paths.
fn api(answer: impl Fn(&str) -> (u16, Value) + Clone + Send + 'static) -> (Client, Asked) {
    let asked = Asked::default();
    let noted = asked.clone();
    let service = tower::service_fn(move |request: hyper::Request<Body>| {
        let path = request.uri().path().to_owned();
        let (code, body) = answer(&path);
        noted.lock().expect("nobody panics with it").push(path);
        let body = Full::new(Bytes::from(body.to_string()));
        std::future::ready(hyper::Response::builder().status(code).body(body))
    });
    (Client::new(service, "ns"), asked)
}

fn refusal(code: u16) -> (u16, Value) {
    (code, json!({ "kind": "Status", "status": "Failure", "message": "no", "reason": "", "code": code }))
}

/// What is said, and asked, within so many hours.
async fn within_hours(hours: u64, client: &Client, asked: &Asked) -> (Vec<Change>, Vec<String>) {
    let (tell, told) = tokio::sync::watch::channel(None);
    let said = Mutex::new(Vec::new());
    let watched = definition(client, tell).map(|(_, change)| change);
    let both = futures::stream::select(watched.boxed(), rollouts(kube::Api::all(client.clone()), told).boxed());
    let take = both.for_each(async |change| said.lock().expect("nobody panics with it").push(change));
    let _ = tokio::time::timeout(Duration::from_secs(3600 * hours), take).await;
    (said.into_inner().expect("nobody panics with it"), asked.lock().expect("nobody panics with it").clone())
}

#[tokio::test(start_paused = true)]
async fn p2_who_may_not_read_the_definition_tries_ever_more_seldom() {
    let (client, asked) = api(|path| refusal(if path.contains("rollouts") { 404 } else { 403 }));
    let (said, asked) = within_hours(24, &client, &asked).await;
    let begins_a_list = |change: &Change| matches!(change, Change::Workload(_, Scoped::Begin));
    let of_note: Vec<_> = said.iter().filter(|change| !begins_a_list(change)).collect();
    assert!(of_note.iter().all(|change| matches!(change, Change::Absent(WorkloadKind::Rollout))), "{of_note:?}");
    assert!(!of_note.is_empty());
    for plural in ["customresourcedefinitions", "rollouts"] {
        let times = asked.iter().filter(|path| path.ends_with(plural)).count();
        // Six an hour, and ten on the way there.
        assert!((140..=160).contains(&times), "{plural}: {times} in a day");
    }
}

#[tokio::test(start_paused = true)]
async fn p2_where_there_is_no_definition_nobody_asks_for_rollouts() {
    let list = json!({ "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
        "metadata": { "resourceVersion": "7" }, "items": [] });
    let (client, asked) = api(move |_| (200, list.clone()));
    let (said, asked) = within_hours(1, &client, &asked).await;
    assert!(matches!(said.as_slice(), [Change::Absent(WorkloadKind::Rollout)]), "{said:?}");
    assert!(!asked.is_empty() && asked.iter().all(|path| path.ends_with("customresourcedefinitions")), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn p3_nothing_is_said_of_rollouts_before_somebody_was_asked_for_them() {
    // The API server is not up yet when they are asked for.
    let (client, asked) = api(|path| refusal(if path.contains("rollouts") { 503 } else { 403 }));
    let (said, asked) = within_hours(1, &client, &asked).await;
    assert!(said.iter().all(|change| matches!(change, Change::Workload(_, Scoped::Begin))), "{said:?}");
    let times = asked.iter().filter(|path| path.ends_with("rollouts")).count();
    assert!((110..=130).contains(&times), "twice a minute: {times}");
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_may_not_be_listed_holds_nobody_up() {
    let one = json!({ "metadata": { "name": "rollouts.argoproj.io", "resourceVersion": "7" } });
    let list = json!({ "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
        "metadata": { "resourceVersion": "7" }, "items": [one] });
    let (client, asked) = api(move |path| if path.contains("rollouts") { refusal(403) } else { (200, list.clone()) });
    let (said, asked) = within_hours(24, &client, &asked).await;
    assert!(said.iter().any(|change| matches!(change, Change::Absent(WorkloadKind::Rollout))), "{said:?}");
    let times = asked.iter().filter(|path| path.ends_with("rollouts")).count();
    assert!((140..=160).contains(&times), "{times} in a day");
}
