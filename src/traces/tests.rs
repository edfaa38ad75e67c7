//! What is exported, as OpenTelemetry's own exporter into memory gets it.

use std::time::{Duration, Instant};

use botsecret_testbed::BlackHole;
use opentelemetry::{
    Key,
    trace::{SpanId, SpanKind, Status, TracerProvider as _},
};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use serde_json::json;
use tracing::{Instrument as _, instrument::WithSubscriber as _};
use tracing_subscriber::layer::SubscriberExt as _;

use super::{
    Call, Ratio, Settings, Traces,
    export::{layer, resource, room, sampler},
};
use crate::{
    api::{BotSecret, StoreKind, StoreRef, WorkloadKind},
    apply::ApplyError,
    audit::{Asker, Event, Kind, Remote, StoreName, Why},
    plan::Retry,
    report::{Problem, Reason, RolloutReport},
    rollout::RollOutError,
    secret::SecretData,
    stores::{ErrorClass, RemoteKey, ServiceAccount, StoreError},
    watch::WorkloadId,
};

fn bot_secret() -> BotSecret {
    serde_json::from_value(json!({
        "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret",
        "metadata": { "namespace": "trading", "name": "price-bot" },
        "spec": { "serviceAccountName": "bot" },
    }))
    .expect("a BotSecret")
}

/// The spans that come of this, those that ended first first.
async fn spans_of(ratio: &str, work: impl Future<Output = ()>) -> Vec<SpanData> {
    let exporter = InMemorySpanExporter::default();
    let ratio: Ratio = ratio.parse().expect("a ratio");
    let provider = SdkTracerProvider::builder().with_sampler(sampler(ratio)).with_simple_exporter(exporter.clone());
    let provider = provider.build();
    let subscriber = tracing_subscriber::registry().with(layer(provider.tracer("tests")));
    work.with_subscriber(subscriber).await;
    exporter.get_finished_spans().expect("spans")
}

fn named<'a>(spans: &'a [SpanData], name: &str) -> &'a SpanData {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no span {name}: {spans:#?}"))
}

/// Everything that is said of a span, in the order of names.
fn attributes(span: &SpanData) -> Vec<(String, String)> {
    let mut all: Vec<_> =
        span.attributes.iter().map(|one| (one.key.as_str().to_owned(), one.value.to_string())).collect();
    all.sort();
    all
}

fn texts(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn p4_neither_spans_of_other_crates_nor_lines_are_exported() {
    let spans = spans_of("1", async {
        let work = async {
            let theirs = tracing::error_span!(target: "hyper::client", "request", authorization = "canary-token");
            let alike = tracing::info_span!(target: "botsecretive", "request", authorization = "canary-token");
            let _entered = (theirs.enter(), alike.enter());
            tracing::info!(value = "canary-value", "canary-line");
            tracing::debug_span!("too much", value = "canary-value").in_scope(|| {});
        };
        work.instrument(super::pass(&bot_secret())).await;
    })
    .await;
    assert_eq!(spans.iter().map(|span| &*span.name).collect::<Vec<_>>(), ["pass"]);
    assert!(spans[0].events.is_empty(), "{spans:#?}");
    assert!(!format!("{spans:?}").contains("canary"), "{spans:#?}");
}

#[tokio::test]
async fn a_pass_says_whose_it_is_why_it_reads_and_what_came_of_it() {
    let spans = spans_of("1", async {
        let work = async {
            super::note_why(Some(Why::Refresh));
            super::note_outcome(None);
        };
        work.instrument(super::pass(&bot_secret())).await;
        let failed = async { super::note_outcome(Some(Reason::StoreUnavailable)) };
        failed.instrument(super::pass(&bot_secret())).await;
        super::note_fault(&super::pass(&bot_secret()));
    })
    .await;
    let [well, failed, fault] = &spans[..] else { panic!("not three: {spans:#?}") };
    let whose = [
        ("botsecret.name", "price-bot"),
        ("botsecret.namespace", "trading"),
        ("botsecret.outcome", "ok"),
        ("botsecret.service_account", "bot"),
        ("botsecret.why", "refresh"),
    ];
    assert_eq!(attributes(well), texts(&whose));
    assert_eq!((&well.status, well.parent_span_id), (&Status::Unset, SpanId::INVALID));
    for (span, outcome) in [(failed, "StoreUnavailable"), (fault, "InternalError")] {
        assert!(attributes(span).contains(&("botsecret.outcome".to_owned(), outcome.to_owned())), "{span:#?}");
        assert_eq!(span.status, Status::error(""));
    }
}

#[tokio::test]
async fn p4_a_call_is_part_of_its_pass_and_says_what_the_audit_log_says_but_no_error_s_words() {
    let store = StoreName::of(&StoreRef { name: "vault".into(), kind: Some(StoreKind::BotSecretStore) }, "uid");
    let account = ServiceAccount { namespace: "trading".into(), name: "bot".into(), ..ServiceAccount::default() };
    let key = RemoteKey { key: "kv/price-bot".into(), version: None, metadata: false, dated: false };
    let read = Event {
        account: Some(&account),
        asker: Asker { bot_secret: Some("price-bot".into()), why: Some(Why::Spec) },
        remote: Some(Remote::of(&key)),
        ..Event::at(Kind::Read, &store)
    };
    let spans = spans_of("1", async {
        let pass = super::pass(&bot_secret());
        let work = async {
            let call = Call::of(&read);
            call.note_shared(false);
            assert_eq!(call.around(async { Ok(7) }).await.ok(), Some(7));
            call.note_version(Some("7"));
        };
        work.instrument(pass.clone()).await;
        // Elsewhere, as a login that others wait for as well.
        let login = Call::within(&pass, &Event::at(Kind::Login, &store));
        let denied = StoreError::new(ErrorClass::LoginDenied, "canary-words");
        assert!(login.around(async { Err::<(), _>(denied) }).await.is_err());
    })
    .await;
    let (pass, read, login) = (named(&spans, "pass"), named(&spans, "read"), named(&spans, "login"));
    for call in [read, login] {
        assert_eq!(call.parent_span_id, pass.span_context.span_id(), "{spans:#?}");
        assert_eq!(call.span_context.trace_id(), pass.span_context.trace_id());
        assert_eq!(call.span_kind, SpanKind::Client);
    }
    let said = [
        ("botsecret.namespace", "trading"),
        ("botsecret.outcome", "ok"),
        ("botsecret.remote", "kv/price-bot"),
        ("botsecret.service_account", "bot"),
        ("botsecret.shared", "false"),
        ("botsecret.store.kind", "BotSecretStore"),
        ("botsecret.store.name", "vault"),
        ("botsecret.version", "7"),
        ("botsecret.why", "spec"),
    ];
    assert_eq!((attributes(read), &read.status), (texts(&said), &Status::Unset));
    let said = [
        ("botsecret.outcome", "login_denied"),
        ("botsecret.store.kind", "BotSecretStore"),
        ("botsecret.store.name", "vault"),
    ];
    assert_eq!((attributes(login), &login.status), (texts(&said), &Status::error("")));
    assert!(!format!("{spans:?}").contains("canary"), "{spans:#?}");
}

#[tokio::test]
async fn p4_a_rollout_and_its_patches_say_what_was_decided_but_no_error_s_words() {
    let workload = WorkloadId { namespace: "trading".into(), kind: WorkloadKind::Deployment, name: "price-bot".into() };
    let report = RolloutReport::Standing {
        revision: "3-abc".into(),
        workloads: Vec::new(),
        rotation: None,
        problem: Some(Problem::new(Reason::RolloutRefused, Retry::Slow, "canary-words")),
    };
    let refused = RollOutError::Refused {
        action: "patch",
        kind: "Deployment",
        name: "price-bot".into(),
        said: "canary-words".into(),
    };
    let spans = spans_of("1", async {
        let roll = async {
            assert!(super::patching(&workload, async { Err(refused) }).await.is_err());
            report
        };
        super::rolling(roll).await;
    })
    .await;
    let (rollout, patch) = (named(&spans, "rollout"), named(&spans, "patch"));
    assert_eq!(patch.parent_span_id, rollout.span_context.span_id());
    let said = [("botsecret.outcome", "RolloutRefused"), ("botsecret.revision", "3-abc"), ("botsecret.workloads", "0")];
    assert_eq!(attributes(rollout), texts(&said));
    let said = [
        ("botsecret.outcome", "refused"),
        ("botsecret.workload.kind", "Deployment"),
        ("botsecret.workload.name", "price-bot"),
    ];
    assert_eq!(attributes(patch), texts(&said));
    assert!(!format!("{spans:?}").contains("canary"), "{spans:#?}");
}

#[tokio::test]
async fn p4_what_the_api_server_is_asked_for_says_what_came_of_it_but_no_error_s_words() {
    let answer =
        |code: u16| kube::Error::Api(Box::new(kube::core::Status::failure("canary-words", "").with_code(code)));
    let outcomes = [(404, "conflict"), (409, "conflict"), (422, "refused"), (429, "unavailable"), (500, "unavailable")];
    let account = ServiceAccount { namespace: "trading".into(), name: "bot".into(), ..ServiceAccount::default() };
    let spans = spans_of("1", async {
        for (code, _) in outcomes {
            assert!(super::telling(async { Err::<(), _>(answer(code)) }).await.is_err());
        }
        assert!(super::telling(async { Ok(()) }).await.is_ok());
        let refused = ApplyError::from_api(&answer(403), "price-bot", &SecretData::new());
        assert!(super::deleting("price-bot", async { Err(refused) }).await.is_err());
        let late = StoreError::new(ErrorClass::Timeout, "canary-words");
        assert!(super::minting(&account, async { Err::<(), _>(late) }).await.is_err());
    })
    .await;
    let told: Vec<_> = spans.iter().filter(|span| span.name == "status").map(attributes).collect();
    let expected = outcomes.map(|(_, outcome)| outcome).into_iter().chain(["ok"]);
    assert_eq!(told, expected.map(|outcome| texts(&[("botsecret.outcome", outcome)])).collect::<Vec<_>>());
    let said = [("botsecret.outcome", "OperatorForbidden"), ("botsecret.secret", "price-bot")];
    assert_eq!(attributes(named(&spans, "delete")), texts(&said));
    let said =
        [("botsecret.namespace", "trading"), ("botsecret.outcome", "timeout"), ("botsecret.service_account", "bot")];
    assert_eq!(attributes(named(&spans, "token")), texts(&said));
    assert!(!format!("{spans:?}").contains("canary"), "{spans:#?}");
}

#[tokio::test]
async fn a_share_of_none_exports_neither_a_pass_nor_what_is_part_of_it() {
    let spans = spans_of("0", async {
        let roll = async { RolloutReport::Off };
        super::rolling(roll).instrument(super::pass(&bot_secret())).await;
    })
    .await;
    assert!(spans.is_empty(), "{spans:#?}");
}

#[test]
fn the_collector_is_told_who_sends() {
    let resource = resource(&[("k8s.pod.name", "botsecret-0".to_owned())]);
    let get = |name: &'static str| resource.get(&Key::from_static_str(name)).map(|value| value.to_string());
    assert_eq!(get("service.name").as_deref(), Some("botsecret"));
    assert_eq!(get("service.version").as_deref(), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(get("k8s.pod.name").as_deref(), Some("botsecret-0"));
    assert_eq!(get("k8s.pod.uid"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_does_not_wait_for_a_collector_that_never_answers() {
    let collector = BlackHole::start().await.expect("a listener");
    let endpoint = format!("http://{}/v1/traces", collector.address()).parse().expect("a URL");
    let settings = Settings { endpoint, ratio: None, place: Vec::new() };
    let traces = Traces::start(&settings, tokio::runtime::Handle::current()).expect("traces");
    let subscriber = tracing_subscriber::registry().with(traces.layer());
    async { drop(super::pass(&bot_secret())) }.with_subscriber(subscriber).await;
    let began = Instant::now();
    tokio::task::spawn_blocking(move || traces.finish()).await.expect("the end");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(collector.accepted(), 1, "it was asked");
}

#[test]
fn as_many_spans_wait_as_opentelemetrys_own_variable_says() {
    for (said, wanted) in [(None, 2048), (Some("300"), 300), (Some(""), 2048), (Some("many"), 2048)] {
        let variable = |name: &str| said.filter(|_| name == "OTEL_BSP_MAX_QUEUE_SIZE").map(str::to_owned);
        assert_eq!(room(variable), wanted, "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_span_that_finds_no_room_is_counted() {
    let collector = BlackHole::start().await.expect("a listener");
    let endpoint = format!("http://{}/v1/traces", collector.address()).parse().expect("a URL");
    let settings = Settings { endpoint, ratio: None, place: Vec::new() };
    let traces = Traces::with_room(&settings, tokio::runtime::Handle::current(), 10).expect("traces");
    let subscriber = tracing_subscriber::registry().with(traces.layer());
    let passes = async { (0..100).for_each(|_| drop(super::pass(&bot_secret()))) };
    passes.with_subscriber(subscriber).await;
    // Ten wait, and up to ten were taken, of which nobody knows what becomes of them.
    let lost = traces.lost();
    assert!((80..=90).contains(&lost), "{lost}");
    tokio::task::spawn_blocking(move || traces.finish()).await.expect("the end");
}
