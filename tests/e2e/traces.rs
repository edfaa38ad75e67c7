//! Traces beside what the manager says it was asked, and a collector that fails.

use std::time::{Duration, Instant};

use botsecret_testbed::{BlackHole, OpenBao, OpenBaoOptions, free_port, wait_for};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::{
    collector::{Collector, Seen},
    support::{
        Bench, DEADLINE, Operator, OperatorOptions, Result, Vault,
        canary::{Canary, leaks_in_log},
    },
};

/// The bench's operator, started anew with these arguments more.
async fn restart(bench: &mut Bench, more: &[&str]) -> Result {
    bench.operator.terminate().await?;
    let options = OperatorOptions {
        user: format!("operator:{}", bench.namespace),
        namespaces: vec![bench.namespace.clone()],
        own_namespace: bench.namespace.clone(),
        kubeconfig: None,
        folder: bench.folder().to_owned(),
    };
    bench.operator = Operator::start_with(bench.cluster, &options, more).await?;
    Ok(())
}

fn all<'a>(spans: &'a [Seen], name: &str, wanted: &[(&str, &str)]) -> Vec<&'a Seen> {
    spans.iter().filter(|span| span.says(name, wanted)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_a_trace_shows_each_request_that_the_manager_had_as_part_of_its_pass_and_never_a_value() -> Result {
    let mut bench = Bench::new("traces").await?;
    let collector = Collector::start().await?;
    let endpoint = format!("{}/v1/traces", collector.url());
    restart(&mut bench, &["--traces-endpoint", &endpoint]).await?;
    // Its own, so that every login is this operator's.
    let bao = OpenBao::start(bench.cluster, OpenBaoOptions { tls: true }).await?;
    let vault = Vault::new(&bench, &bao, &["bot", "stranger"]).await?;
    vault.policy(&format!(r#"path "{}" {{ capabilities = ["read"] }}"#, vault.read_path("shared"))).await?;
    bench.account("stranger").await?;
    let values: Vec<_> = (0..3).map(|_| Canary::random_text()).collect();
    let canary = Canary::of(values.iter().map(String::as_bytes));
    vault.put("shared", &json!({ "A": values[0] })).await?;
    vault.put("private", &json!({ "A": values[2] })).await?;
    let mark = bao.mark()?;
    for (name, account, source) in [("one", "bot", "shared"), ("forbidden", "stranger", "private")] {
        let mut object = bench.bot_secret(name, source);
        object["spec"]["serviceAccountName"] = json!(account);
        // At rest but for what this test asks for.
        object["spec"]["refreshInterval"] = json!("1h");
        bench.apply(object).await?;
    }
    bench.until_condition("one", "Ready", "True").await?;
    bench.until_failing("forbidden", "AccessDenied").await?;
    bench.apply(bench.bot("worker", "one", 1)).await?;
    bench.until_all_hold("worker", 1, "").await?;
    vault.put("shared", &json!({ "A": values[1] })).await?;
    let force = json!({ "metadata": { "annotations": { "botsecret.dev/refresh": "1" } } });
    bench.bot_secrets().patch("one", &PatchParams::default(), &Patch::Merge(&force)).await?;
    bench.until_value("one", "A", &values[1]).await?;
    wait_for("worker to roll", DEADLINE, async || Ok((bench.rollouts("worker").await? > 1).then_some(()))).await?;
    // What is not sent yet is sent at the end.
    assert_eq!(bench.operator.terminate().await?, Some(0));

    let spans = collector.spans()?;
    for posted in collector.posted() {
        assert_eq!((posted.path.as_str(), posted.content_type.as_str()), ("/v1/traces", "application/x-protobuf"));
        canary.assert_absent("what the collector was sent", &posted.body);
    }
    // In what was decoded: in ids, which are random, anything may be found.
    let leaks = leaks_in_log(format!("{spans:?}").as_bytes());
    assert!(leaks.is_empty(), "{leaks:?}");
    assert!(spans.iter().all(|span| span.events == 0), "a line was sent: {spans:#?}");
    let sender = [
        ("service.name", "botsecret"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("k8s.namespace.name", bench.namespace.as_str()),
    ];
    for (name, value) in sender {
        assert!(spans.iter().all(|span| span.sender.get(name).is_some_and(|found| found == value)), "{name}");
    }

    // What the manager says of itself.
    let requests = bao.requests_since(&mark)?;
    let store = [("botsecret.store.kind", "BotSecretStore"), ("botsecret.store.name", "source")];
    for remote in ["shared", "private"] {
        let asked = vault.read_path(remote);
        let had = requests.iter().filter(|one| one.operation == "read" && one.path == asked).count();
        let own = [&store[..], &[("botsecret.remote", remote), ("botsecret.shared", "false")]].concat();
        // One that was refused as a dead login is asked again, as part of the same call.
        let (told, at_least) = (all(&spans, "read", &own).len(), if remote == "shared" { had } else { 1 });
        assert!((at_least..=had).contains(&told), "{told} of {had} reads of {remote}: {spans:#?}");
        assert!(had > 0, "{remote} was not read");
    }
    let logins = requests.iter().filter(|request| request.is_login()).count();
    assert_eq!(all(&spans, "login", &store).len(), logins, "{spans:#?}");

    // Part of which pass, and what came of it.
    let of = |parent: &Seen, name: &str, wanted: &[(&str, &str)]| {
        let found = all(&spans, name, wanted);
        found.into_iter().any(|span| span.parent == parent.id && span.trace == parent.trace)
    };
    let pass = |name: &str, wanted: &[(&str, &str)]| {
        let whose = [("botsecret.namespace", bench.namespace.as_str()), ("botsecret.name", name)];
        all(&spans, "pass", &[&whose[..], wanted].concat())
    };
    let first = pass("one", &[("botsecret.why", "spec"), ("botsecret.outcome", "ok")]);
    let read = [("botsecret.remote", "shared"), ("botsecret.outcome", "ok"), ("botsecret.version", "1")];
    assert!(first.iter().any(|pass| of(pass, "read", &read)), "{spans:#?}");
    assert!(first.iter().any(|pass| of(pass, "login", &[("botsecret.outcome", "ok")])), "{spans:#?}");
    let created = [("botsecret.secret", "one"), ("botsecret.outcome", "created")];
    assert!(first.iter().any(|pass| of(pass, "apply", &created)), "{spans:#?}");
    assert!(first.iter().all(|pass| pass.parent.is_empty() && !pass.has_failed), "{spans:#?}");
    let forced = pass("one", &[("botsecret.why", "forced")]);
    let updated = [("botsecret.outcome", "updated"), ("botsecret.rotated", "true")];
    assert!(forced.iter().any(|pass| of(pass, "apply", &updated) && of(pass, "rollout", &[])), "{spans:#?}");
    assert!(first.iter().any(|pass| of(pass, "status", &[("botsecret.outcome", "ok")])), "{spans:#?}");
    for account in ["bot", "stranger"] {
        let whose = [("botsecret.service_account", account), ("botsecret.outcome", "ok")];
        assert!(all(&spans, "login", &whose).iter().any(|login| of(login, "token", &whose)), "{account}: {spans:#?}");
    }
    let worker = [("botsecret.workload.kind", "Deployment"), ("botsecret.workload.name", "worker")];
    let patches = all(&spans, "patch", &[&worker[..], &[("botsecret.outcome", "ok")]].concat());
    let rolls = |rollout: &&Seen| patches.iter().filter(|patch| patch.parent == rollout.id).count();
    assert_eq!(all(&spans, "rollout", &[]).iter().map(rolls).sum::<usize>(), 1, "{spans:#?}");
    let failed = pass("forbidden", &[("botsecret.outcome", "AccessDenied")]);
    let denied = [("botsecret.remote", "private"), ("botsecret.outcome", "denied")];
    assert!(failed.iter().any(|pass| of(pass, "read", &denied)), "{spans:#?}");
    assert!(all(&spans, "read", &denied).iter().all(|read| read.has_failed && read.is_call), "{spans:#?}");
    assert!(all(&spans, "read", &[("botsecret.service_account", "stranger"), ("botsecret.outcome", "ok")]).is_empty());
    Ok(())
}

/// A BotSecret that syncs while traces go to this endpoint, and an operator that ends as
/// soon as others do.
async fn syncs_and_ends(name: &str, endpoint: &str) -> Result {
    let mut bench = Bench::new(name).await?;
    restart(&mut bench, &["--traces-endpoint", endpoint]).await?;
    bench.kubernetes_store("source").await?;
    let value = Canary::random_text();
    bench.put_source("values", &[("A", &value)]).await?;
    bench.apply(bench.bot_secret("one", "values")).await?;
    bench.until_value("one", "A", &value).await?;
    wait_for("the operator to say that traces are lost", DEADLINE, async || {
        Ok(bench.operator.log().contains("traces are lost").then_some(()))
    })
    .await?;
    // It goes on to read meanwhile.
    bench.until_more_reads(3).await?;
    let value = Canary::random_text();
    bench.put_source("values", &[("A", &value)]).await?;
    bench.until_value("one", "A", &value).await?;
    let began = Instant::now();
    assert_eq!(bench.operator.terminate().await?, Some(0));
    assert!(began.elapsed() < Duration::from_secs(10), "its end took {:?}", began.elapsed());
    // Said once, however many batches were lost; and of the last ones.
    let log = bench.operator.log();
    let said = log.lines().filter(|line| line.contains(r#""message":"traces are lost"#)).count();
    assert_eq!(said, 1, "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_delays_neither_a_sync_nor_the_operator_s_end() -> Result {
    syncs_and_ends("traces-away", &format!("http://127.0.0.1:{}/v1/traces", free_port()?)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_delays_neither_a_sync_nor_the_operator_s_end() -> Result {
    let collector = BlackHole::start().await?;
    syncs_and_ends("traces-silent", &format!("http://{}/v1/traces", collector.address())).await?;
    assert!(collector.accepted() > 0, "it was never asked");
    Ok(())
}

/// What sends traces is a thread of its own: without an endpoint there is none.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_sends_traces_until_an_endpoint_is_given() -> Result {
    let mut bench = Bench::new("traces-off").await?;
    let sends = |bench: &Bench| -> Result<bool> {
        Ok(bench.operator.threads()?.iter().any(|name| name.starts_with("OpenTelemetry")))
    };
    assert!(!sends(&bench)?, "{:?}", bench.operator.threads()?);
    // As the specification has it, empty is not set.
    restart(&mut bench, &["--traces-endpoint", "", "--traces-sample-ratio", "1"]).await?;
    assert!(!sends(&bench)?, "{:?}", bench.operator.threads()?);
    let collector = Collector::start().await?;
    restart(&mut bench, &["--otlp-endpoint", &collector.url()]).await?;
    assert!(sends(&bench)?, "{:?}", bench.operator.threads()?);
    bench.kubernetes_store("source").await?;
    bench.put_source("values", &[("A", &Canary::random_text())]).await?;
    bench.apply(bench.bot_secret("one", "values")).await?;
    wait_for("a trace", DEADLINE, async || Ok((!collector.posted().is_empty()).then_some(()))).await?;
    assert!(collector.posted().iter().all(|posted| posted.path == "/v1/traces"), "below the base");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_that_a_collector_rejects_are_counted_and_told_without_its_words() -> Result {
    let mut bench = Bench::new("traces-rejected").await?;
    let collector = Collector::rejecting(2).await?;
    restart(&mut bench, &["--otlp-endpoint", &collector.url()]).await?;
    bench.kubernetes_store("source").await?;
    bench.put_source("values", &[("A", &Canary::random_text())]).await?;
    bench.apply(bench.bot_secret("one", "values")).await?;
    wait_for("spans to be counted as lost", DEADLINE, async || {
        let metrics = bench.operator.metrics().await?;
        let lost = metrics.lines().find_map(|line| line.strip_prefix("botsecret_trace_spans_lost_total "));
        Ok(lost.and_then(|lost| lost.parse::<u64>().ok()).filter(|lost| *lost > 0).map(drop))
    })
    .await?;
    wait_for("the operator to say so", DEADLINE, async || {
        Ok(bench.operator.log().contains("traces are lost: the collector rejects spans").then_some(()))
    })
    .await?;
    assert!(!bench.operator.log().contains("canary-words"), "{}", bench.operator.log());
    Ok(())
}
