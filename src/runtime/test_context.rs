//! What passes of tests run in: no manager, and an API server that takes what it is told.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Collected, Full};
use hyper::{Method, Request, Response, body::Bytes};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Context, rolling, turns};
use crate::{
    api::BotSecret,
    build::DigestKey,
    fetch::{Fetcher, KubeCredentials, KubeTokens},
    plan::Clock,
    report::{Emitter, Metrics, Reason},
    stores::{ClusterEndpoint, HttpClients},
    watch::{Change, ObjectKey, Observed, Scoped, World},
};

/// Of a client whose requests are answered with the BotSecret as written, or with the
/// code that `refuse` says for a method and a body.
pub(super) fn context(refuse: impl Fn(&Method, &Value) -> Option<u16> + Clone + Send + 'static) -> Context {
    let service = tower::service_fn(move |request: Request<Body>| {
        let refuse = refuse.clone();
        async move {
            let method = request.method().clone();
            let is_token = request.uri().path().ends_with("/token");
            let body = request.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            let refused = refuse(&method, &body);
            let answer = match refused {
                Some(code) => json!({ "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code }),
                None if is_token => {
                    json!({ "spec": { "expirationSeconds": 600 }, "status": { "token": "token" } })
                }
                None => written(&body),
            };
            let answer = Full::new(Bytes::from(answer.to_string()));
            let answer = Response::builder().status(refused.unwrap_or(200)).body(answer).expect("an answer");
            Ok::<_, Infallible>(answer)
        }
    });
    let client = kube::Client::new(service, "trading");
    let fetcher = Fetcher::new(
        Arc::new(KubeTokens::new(client.clone())),
        Arc::new(KubeCredentials::new(client.clone())),
        HttpClients::new(ClusterEndpoint::default()),
    );
    Context {
        operator_namespace: "botsecret-system".to_owned(),
        digest_key: DigestKey::generate().expect("randomness"),
        emitter: Emitter::new(client.clone()),
        metrics: Metrics::new(fetcher.counters().call_times()),
        lanes: turns::Lanes::default(),
        writes: turns::Writes::default(),
        places: rolling::Places::default(),
        clock: Clock::new(Instant::now(), Duration::ZERO),
        wall: k8s_openapi::jiff::Timestamp::now,
        stop: tokio::sync::watch::Sender::new(false),
        client,
        fetcher,
    }
}

/// The BotSecret with the status of this patch.
fn written(patch: &Value) -> Value {
    let mut object = json!(bot_secret());
    object["status"] = patch["status"].clone();
    // RFC 7396: null says that a member is to go.
    if let Some(status) = object["status"].as_object_mut() {
        status.retain(|_, value| !value.is_null());
    }
    object
}

/// Its store does not exist.
pub(super) fn bot_secret() -> BotSecret {
    serde_json::from_value(json!({
        "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret",
        "metadata": { "name": "bot", "namespace": "trading", "uid": "u", "generation": 1, "resourceVersion": "1" },
        "spec": {
            "serviceAccountName": "bot", "storeRef": { "name": "nowhere" },
            "dataFrom": [{ "extract": { "key": "x" } }],
        },
    }))
    .expect("a BotSecret")
}

/// All that there is.
pub(super) fn alone(object: BotSecret) -> Observed {
    let mut world = World::default();
    world.take("", Change::BotSecret(Scoped::Put(Box::new(object))));
    world.observe(&ObjectKey::new("trading", "bot")).expect("it is there")
}

/// How many passes were counted, how many of them timed, and how many failed for this
/// reason.
pub(super) fn counted(context: &Context, reason: Reason) -> [u64; 3] {
    let text = context.metrics.text(context.fetcher.counters());
    let failures = format!("botsecret_reconcile_failures_total{{reason=\"{}\"}}", reason.name());
    ["botsecret_reconciles_total", "botsecret_reconcile_seconds_count", &failures].map(|series| {
        let count = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        count.map_or(0, |count| count.parse().expect("a number"))
    })
}
