//! P9, P8 and P6 as far as they are about the operator as a process: probes,
//! its end, and answers of the API server that it does not get.

use std::time::{Duration, Instant};

use botsecret_testbed::{BlackHole, wait_for};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt, api::DeleteParams};
use serde_json::json;

use crate::{
    p9::{annotate, bench as synced_source, count, hourly},
    support::{Bench, DEADLINE, Fault, Proxy, Result},
};

/// A BotSecret that waits for a manager which never answers.
async fn waiting_for_a_dead_manager(bench: &Bench) -> Result<BlackHole> {
    let hole = BlackHole::start().await?;
    let dead = json!({
        "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecretStore", "metadata": { "name": "dead" },
        "spec": { "vault": { "address": format!("http://{}", hole.address()), "auth": { "kubernetes": { "role": "r" } } } },
    });
    bench.apply(dead).await?;
    let mut waiting = bench.bot_secret("waiting", "anything");
    waiting["spec"]["storeRef"] = json!({ "name": "dead" });
    bench.apply(waiting).await?;
    Ok(hole)
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_metrics_and_probes_answer_and_a_stop_is_quick_and_clean() -> Result {
    let mut bench = synced_source("p9-server").await?;
    bench.apply(bench.bot_secret("fine", "exchange")).await?;
    bench.apply(bench.bot_secret("failing", "nothing-there")).await?;
    let hole = waiting_for_a_dead_manager(&bench).await?;
    bench.until_condition("fine", "Ready", "True").await?;
    bench.until_failing("failing", "RemoteSecretMissing").await?;
    for path in ["/healthz", "/readyz"] {
        assert!(reqwest::get(bench.operator.url(path)).await?.status().is_success(), "{path}");
    }
    assert_eq!(reqwest::get(bench.operator.url("/debug")).await?.status().as_u16(), 404);
    let posted = reqwest::Client::new().post(bench.operator.url("/metrics")).send().await?;
    assert_eq!(posted.status().as_u16(), 405);
    // Counted when a pass is over, which is after its status.
    let counted = [
        "botsecret_reconcile_failures_total{reason=\"RemoteSecretMissing\"} ",
        "botsecret_store_errors_total{class=\"missing\"} ",
    ];
    let lines = [
        "# TYPE botsecret_reconciles counter",
        "botsecret_reconcile_panics_total 0",
        "botsecret_reconcile_seconds_bucket",
        "botsecret_last_success_timestamp_seconds",
        "botsecret_token_requests_total",
        "# EOF",
    ];
    wait_for("the metrics", DEADLINE, async || {
        let metrics = bench.operator.metrics().await?;
        let missing: Vec<_> = lines.iter().filter(|line| !metrics.contains(**line)).collect();
        anyhow::ensure!(missing.is_empty(), "{missing:?} are not in:\n{metrics}");
        // They are there from the start, at 0.
        let count = |series: &str| metrics.lines().find_map(|line| line.strip_prefix(series));
        let uncounted: Vec<_> = counted.iter().filter(|series| matches!(count(series), None | Some("0"))).collect();
        anyhow::ensure!(uncounted.is_empty(), "{uncounted:?} count nothing:\n{metrics}");
        Ok(Some(()))
    })
    .await?;
    wait_for("the dead manager to be asked", DEADLINE, async || Ok((hole.accepted() > 0).then_some(()))).await?;
    let began = Instant::now();
    assert_eq!(bench.operator.terminate().await?, Some(0));
    println!("SIGTERM: ended after {:?}, with a read of a dead manager under way", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(8), "the read was waited for");
    assert!(bench.operator.log().contains("operator stopped"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_a_namespace_with_bot_secrets_ends_quickly_whatever_their_managers_do() -> Result {
    let bench = synced_source("p8").await?;
    let hole = waiting_for_a_dead_manager(&bench).await?;
    bench.apply(bench.bot_secret("fine", "exchange")).await?;
    bench.until_condition("fine", "Ready", "True").await?;
    wait_for("the dead manager to be asked", DEADLINE, async || Ok((hole.accepted() > 0).then_some(()))).await?;
    assert!(bench.bot_secrets().get("fine").await?.finalizers().is_empty());
    let namespaces: Api<Namespace> = Api::all(bench.client.clone());
    let began = Instant::now();
    namespaces.delete(&bench.namespace, &DeleteParams::default()).await?;
    wait_for("the namespace to end", DEADLINE, async || {
        Ok(namespaces.get_opt(&bench.namespace).await?.is_none().then_some(()))
    })
    .await?;
    println!("a namespace with BotSecrets ended after {:?}", began.elapsed());
    Ok(())
}

/// The same with a proxy between operator and API server.
async fn proxied(name: &str) -> Result<(Bench, Proxy)> {
    let (bench, proxy) = Bench::behind_proxy(name).await?;
    bench.kubernetes_store("source").await?;
    bench.put_source("exchange", &[("A", "1"), ("B", "2")]).await?;
    Ok((bench, proxy))
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_what_a_pass_found_is_not_lost_when_its_status_cannot_be_written() -> Result {
    let (bench, proxy) = proxied("p9-unwritten").await?;
    for (name, fault) in [
        ("conflict", Fault::Refuse(409)),
        ("outage", Fault::Refuse(503)),
        ("lost-reply", Fault::LoseReply),
        ("denied", Fault::Refuse(403)),
    ] {
        let trap = proxy.next("PATCH", &format!("/botsecrets/{name}/status"), fault);
        // The next refresh is an hour away.
        bench.apply(hourly(&bench, name)).await?;
        trap.caught().await?;
        let began = Instant::now();
        bench.until_condition(name, "Ready", "True").await?;
        println!("{fault:?}: the status is there after {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(30));
    }
    // Nor are a rotation and its event.
    let trap = proxy.next("PATCH", "/botsecrets/conflict/status", Fault::Refuse(409));
    bench.put_source("exchange", &[("A", "5"), ("B", "2")]).await?;
    annotate(&bench, "conflict", "now").await?;
    trap.caught().await?;
    bench.until_value("conflict", "A", "5").await?;
    wait_for("the rotation to be told", DEADLINE, async || {
        Ok((count(&bench.events("conflict").await?, "Rotated") == 1).then_some(()))
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_status_that_may_not_be_written_is_no_reason_to_hammer() -> Result {
    let (bench, proxy) = proxied("p6-status").await?;
    for _ in 0..50 {
        proxy.next("PATCH", "/botsecrets/price-bot/status", Fault::Refuse(403));
    }
    bench.apply(bench.bot_secret("clock", "exchange")).await?;
    bench.apply(hourly(&bench, "price-bot")).await?;
    bench.until_value("price-bot", "A", "1").await?;
    let began = Instant::now();
    bench.until_more_reads(8).await?;
    let tries = bench.operator.log().matches("status not written").count();
    println!("a status that may not be written: {tries} tries in {:?}", began.elapsed());
    let allowed = 5 + usize::try_from(began.elapsed().as_secs() / 8)?;
    assert!((1..=allowed).contains(&tries), "{tries} tries");
    Ok(())
}
