//! Workloads that the spec names and that are not there.

use anyhow::ensure;
use serde_json::{Value, json};

use crate::{
    common::{NAME, SOURCE, deployment, expect_rollouts, next_second, rotate, scene, two_more_refreshes, until_state},
    support::{Bench, Result},
};

/// How often the operator asked for this Deployment.
async fn looks(bench: &Bench, app: &str) -> Result<usize> {
    let requests = bench.cluster.audit().requests_by(bench.operator.user()).await?;
    let of_it = requests.iter().filter(|request| {
        request.verb == "get"
            && request.resource == "deployments"
            && request.name == app
            && request.namespace == bench.namespace
    });
    Ok(of_it.count())
}

async fn is_named(bench: &Bench) -> Result {
    until_state(bench, "ghost", "Missing").await?;
    let (reason, message) = bench.until_condition(NAME, "RolledOut", "False").await?;
    let wanted = "Deployment ghost does not exist: create it, or take it out of rollout.list";
    ensure!((reason.as_str(), message.as_str()) == ("WaitingForWorkload", wanted), "{reason}: {message}");
    Ok(())
}

fn listed(bench: &Bench, names: &[&str]) -> Value {
    let mut object = bench.bot_secret(NAME, SOURCE);
    let list: Vec<_> = names.iter().map(|name| json!({ "kind": "Deployment", "name": name })).collect();
    object["spec"]["rollout"] = json!({ "workloads": "List", "list": list });
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_listed_workload_that_does_not_exist_is_named_once_until_it_does() -> Result {
    let bench = Bench::new("missing").await?;
    scene(&bench, &["there"]).await?;
    bench.apply(listed(&bench, &["there", "ghost"])).await?;
    is_named(&bench).await?;
    bench.until_condition(NAME, "Ready", "True").await?;
    let before = looks(&bench, "ghost").await?;
    two_more_refreshes(&bench).await?;
    ensure!(looks(&bench, "ghost").await? == before, "a refresh asks for it again");

    // A rotation passes it by, and says the same.
    next_second().await;
    rotate(&bench, "2").await?;
    bench.until_all_hold("there", 2, "2").await?;
    until_state(&bench, "there", "RolledOut").await?;
    is_named(&bench).await?;
    two_more_refreshes(&bench).await?;
    expect_rollouts(&bench, &["there"], 1).await?;
    ensure!(looks(&bench, "ghost").await? <= before + 3, "asked for at each look at the other");
    let events = bench.events(NAME).await?;
    let told = events.iter().filter(|(reason, _)| reason == "WaitingForWorkload").count();
    ensure!(told <= 2, "once when it is named, once after the rollout of the other: {events:?}");

    // Made, and the BotSecret edited.
    next_second().await;
    bench.apply(deployment("ghost", 2)).await?;
    bench.until_all_hold("ghost", 2, "2").await?;
    let mut edited = listed(&bench, &["there", "ghost"]);
    edited["spec"]["refreshInterval"] = "2s".into();
    bench.apply(edited).await?;
    bench.until_condition(NAME, "RolledOut", "True").await?;
    until_state(&bench, "ghost", "RolledOut").await?;
    expect_rollouts(&bench, &["there"], 1).await?;
    expect_rollouts(&bench, &["ghost"], 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_name_that_is_taken_out_of_the_list_is_reported_no_more() -> Result {
    let bench = Bench::new("missing-out").await?;
    scene(&bench, &["there"]).await?;
    bench.apply(listed(&bench, &["there", "ghost"])).await?;
    is_named(&bench).await?;
    bench.apply(listed(&bench, &["there"])).await?;
    let (reason, message) = bench.until_condition(NAME, "RolledOut", "True").await?;
    ensure!(reason == "UpToDate", "{reason}: {message}");
    expect_rollouts(&bench, &["there"], 0).await
}
