//! Rotations that come closer together than rollouts take.

use crate::{
    common::{
        NAME, SOURCE, delivered, patches, refresh, rotate, scene, slow_deployment, two_more_refreshes, until_midway,
        until_rolled_out,
    },
    support::{Bench, Result},
};

#[tokio::test(flavor = "multi_thread")]
async fn p3_two_rotations_within_a_second_end_on_the_newer_with_at_most_one_rollout_each() -> Result {
    let bench = Bench::new("two-in-a-second").await?;
    scene(&bench, &["one"]).await?;
    until_rolled_out(&bench).await?;
    rotate(&bench, "2").await?;
    bench.until_value(NAME, "REVISION", "2").await?;
    rotate(&bench, "3").await?;
    // Forced, so that both are written within the same second.
    refresh(&bench, "now").await?;
    bench.until_all_hold("one", 2, "3").await?;
    until_rolled_out(&bench).await?;
    two_more_refreshes(&bench).await?;
    let count = patches(&bench, "deployments", "one").await?;
    assert!((1..=2).contains(&count), "{count} patches for two rotations");
    bench.until_all_hold("one", 2, "3").await?;
    // Both unseen by the operator: one rotation is all that it can see.
    rotate(&bench, "4").await?;
    rotate(&bench, "5").await?;
    bench.until_all_hold("one", 2, "5").await?;
    until_rolled_out(&bench).await?;
    two_more_refreshes(&bench).await?;
    assert!(patches(&bench, "deployments", "one").await? <= count + 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_rotation_during_a_rollout_ends_on_the_newest_with_at_most_one_rollout_each() -> Result {
    let bench = Bench::new("during-rollout").await?;
    bench.kubernetes_store("source").await?;
    rotate(&bench, "1").await?;
    bench.apply(slow_deployment("one", 2)).await?;
    bench.apply(bench.bot_secret(NAME, SOURCE)).await?;
    bench.until_all_hold("one", 2, "1").await?;
    rotate(&bench, "2").await?;
    until_midway(&bench, "one", "1", "2").await?;
    rotate(&bench, "3").await?;
    delivered(&bench, &["one"], "3", 2).await
}
