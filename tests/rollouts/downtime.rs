//! What happens while the operator is down is made up for.

use serde_json::json;

use crate::{
    common::{
        NAME, SOURCE, delivered, deployment, edit_deployment, expect_rollouts, next_second, rotate, scene,
        two_more_refreshes, until_rolled_out,
    },
    support::{Bench, Result},
};

#[tokio::test(flavor = "multi_thread")]
async fn p3_rotations_and_edits_while_the_operator_is_down_are_delivered_once_it_is_back() -> Result {
    let mut bench = Bench::new("downtime").await?;
    scene(&bench, &["one", "two"]).await?;
    until_rolled_out(&bench).await?;

    // A rotation, and workloads scaled and edited meanwhile.
    bench.operator.kill().await?;
    rotate(&bench, "2").await?;
    edit_deployment(&bench, "two", json!({ "spec": { "replicas": 1 } })).await?;
    bench.until_all_hold("two", 1, "1").await?;
    bench.operator.start_again().await?;
    bench.until_all_hold("one", 2, "2").await?;
    bench.until_all_hold("two", 1, "2").await?;
    until_rolled_out(&bench).await?;
    two_more_refreshes(&bench).await?;
    expect_rollouts(&bench, &["one", "two"], 1).await?;
    edit_deployment(&bench, "two", json!({ "spec": { "replicas": 2 } })).await?;
    delivered(&bench, &["one", "two"], "2", 1).await?;

    // Two rotations are one by the time that it is back.
    bench.operator.kill().await?;
    rotate(&bench, "3").await?;
    rotate(&bench, "4").await?;
    bench.operator.start_again().await?;
    delivered(&bench, &["one", "two"], "4", 2).await?;

    // An edit of the spec that brings another value.
    bench.operator.kill().await?;
    bench.put_source("other", &[("REVISION", "5")]).await?;
    bench.apply(bench.bot_secret(NAME, "other")).await?;
    bench.operator.start_again().await?;
    delivered(&bench, &["one", "two"], "5", 3).await?;

    // A workload that was made while the operator was down holds the old value.
    bench.operator.kill().await?;
    bench.apply(bench.bot_secret(NAME, SOURCE)).await?;
    rotate(&bench, "6").await?;
    bench.apply(deployment("three", 2)).await?;
    bench.until_all_hold("three", 2, "5").await?;
    next_second().await;
    bench.operator.start_again().await?;
    delivered(&bench, &["one", "two"], "6", 4).await?;
    delivered(&bench, &["three"], "6", 1).await
}
