//! The main job: applied, read, written, rotated, rolled.

use crate::support::{Bench, Result};

#[tokio::test(flavor = "multi_thread")]
async fn a_value_reaches_the_bot_and_its_rotation_rolls_the_bot_once() -> Result {
    let bench = Bench::new("main-job").await?;
    bench.kubernetes_store("source").await?;
    bench.put_source("exchange", &[("REVISION", "1")]).await?;
    bench.apply(bench.bot("price-bot", "price-bot", 2)).await?;
    bench.apply(bench.bot_secret("price-bot", "exchange")).await?;
    bench.until_condition("price-bot", "Ready", "True").await?;
    bench.until_all_hold("price-bot", 2, "1").await?;
    assert_eq!(bench.rollouts("price-bot").await?, 1, "a first sync rolls nothing");

    bench.put_source("exchange", &[("REVISION", "2")]).await?;
    bench.until_all_hold("price-bot", 2, "2").await?;
    bench.until_condition("price-bot", "RolledOut", "True").await?;
    assert_eq!(bench.rollouts("price-bot").await?, 2, "one rotation, one rollout");
    Ok(())
}
