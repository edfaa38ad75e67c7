//! The series that single BotSecrets have in the metrics.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use botsecret::api::BotSecretStore;
use botsecret_testbed::wait_for;
use kube::{Api, api::DeleteParams};
use serde_json::{Value, json};

use crate::support::{Bench, DEADLINE, Operator, OperatorOptions, Result};

/// Refreshed once an hour: nothing is read but at first.
fn hourly(bench: &Bench, name: &str, source: &str) -> Value {
    let mut object = bench.bot_secret(name, source);
    object["spec"]["refreshInterval"] = json!("1h");
    object
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// When each BotSecret of the bench was last read, by its series.
fn successes(bench: &Bench, metrics: &str) -> BTreeMap<String, Duration> {
    let start = format!("botsecret_object_last_success_timestamp_seconds{{namespace=\"{}\",name=\"", bench.namespace);
    let told = metrics.lines().filter_map(|line| line.strip_prefix(&start)?.split_once("\"} "));
    told.map(|(name, at)| (name.to_owned(), Duration::from_secs_f64(at.parse().expect("a number")))).collect()
}

/// Waits until exactly these have a series, and so many have no room for one.
async fn until_told(bench: &Bench, names: &[&str], beyond: usize) -> Result<BTreeMap<String, Duration>> {
    wait_for(&format!("a series of {names:?}"), DEADLINE, async || {
        let metrics = bench.operator.metrics().await?;
        let found = successes(bench, &metrics);
        let beyond = format!("botsecret_objects_beyond_limit {beyond}");
        let as_wanted = found.keys().eq(names.iter()) && metrics.lines().any(|line| line == beyond);
        anyhow::ensure!(as_wanted, "there are {found:?}");
        Ok(Some(found))
    })
    .await
}

/// The bench's operator, begun anew with room for so many series.
async fn with_room_for(bench: &mut Bench, most: &str) -> Result {
    bench.operator.terminate().await?;
    let options = OperatorOptions {
        user: bench.operator.user().to_owned(),
        namespaces: vec![bench.namespace.clone()],
        own_namespace: bench.namespace.clone(),
        kubeconfig: None,
        folder: bench.folder().to_owned(),
    };
    bench.operator = Operator::start_with(bench.cluster, &options, &["--object-metrics", most]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_botsecret_has_a_series_while_it_is_there_and_a_restart_takes_it_from_the_status() -> Result {
    let mut bench = Bench::new("last-success").await?;
    bench.kubernetes_store("source").await?;
    bench.put_source("exchange", &[("REVISION", "1")]).await?;
    let began = now();
    for name in ["one", "two"] {
        bench.apply(hourly(&bench, name, "exchange")).await?;
    }
    bench.apply(hourly(&bench, "never", "nowhere")).await?;
    bench.until_failing("never", "RemoteSecretMissing").await?;
    let told = until_told(&bench, &["one", "two"], 0).await?;
    // Floating point has no nanoseconds left at this age of the world.
    let slack = Duration::from_millis(1);
    let is_true = |at: &Duration| *at + slack >= began && *at <= now() + slack;
    assert!(told.values().all(is_true), "{told:?} began at {began:?}");
    bench.bot_secrets().delete("two", &DeleteParams::default()).await?;
    until_told(&bench, &["one"], 0).await?;

    // The next process cannot read, and knows of a success all the same: the one before
    // said since when there has been one.
    let status = bench.bot_secrets().get("one").await?.status.context("no status")?;
    let synced = status.conditions.iter().find(|condition| condition.type_ == "Synced").context("no condition")?;
    let since = u64::try_from(synced.last_transition_time.0.as_second())?;
    bench.operator.kill().await?;
    let stores: Api<BotSecretStore> = Api::namespaced(bench.client.clone(), &bench.namespace);
    stores.delete("source", &DeleteParams::default()).await?;
    bench.operator.start_again().await?;
    bench.until_failing("one", "StoreNotFound").await?;
    // A count in which the failure is on record already: that is no success either.
    let metrics = wait_for("a count of the failure", DEADLINE, async || {
        let metrics = bench.operator.metrics().await?;
        let failed = "botsecret_conditions{condition=\"Synced\",reason=\"StoreNotFound\"} 2";
        Ok(metrics.lines().any(|line| line == failed).then_some(metrics))
    })
    .await?;
    let told = successes(&bench, &metrics);
    assert_eq!(told.get("one").map(Duration::as_secs), Some(since), "{told:?}");
    assert_eq!(told.len(), 1, "{told:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_botsecrets_have_a_series_than_there_is_room_for() -> Result {
    let mut bench = Bench::new("last-success-limit").await?;
    bench.kubernetes_store("source").await?;
    bench.put_source("exchange", &[("REVISION", "1")]).await?;
    for name in ["b", "c", "a"] {
        bench.apply(hourly(&bench, name, "exchange")).await?;
    }
    until_told(&bench, &["a", "b", "c"], 0).await?;
    with_room_for(&mut bench, "2").await?;
    until_told(&bench, &["a", "b"], 1).await?;
    with_room_for(&mut bench, "0").await?;
    until_told(&bench, &[], 3).await?;
    Ok(())
}
