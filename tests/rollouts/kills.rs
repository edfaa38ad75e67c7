//! kill -9 between "value read" and "status written".

use crate::{
    common::{NAME, delivered, rotate, scene, until_rolled_out},
    support::{Bench, Fault, Result},
};

const BOTH: [Fault; 2] = [Fault::HoldRequest, Fault::HoldReply];

/// Rotates once a point: kills there, starts again, and sees it delivered once.
async fn kill_at(name: &str, points: &[(&str, &str)]) -> Result {
    let (mut bench, proxy) = Bench::behind_proxy(name).await?;
    let apps = ["one", "two"];
    scene(&bench, &apps).await?;
    until_rolled_out(&bench).await?;
    let mut rotations = 0;
    for (method, path) in points {
        for fault in BOTH {
            rotations += 1;
            let value = (rotations + 1).to_string();
            let trap = proxy.next(method, path, fault);
            rotate(&bench, &value).await?;
            trap.caught().await?;
            bench.operator.kill().await?;
            bench.operator.start_again().await?;
            let seen = delivered(&bench, &apps, &value, rotations).await;
            seen.map_err(|error| error.context(format!("{fault:?} of {method} {path}")))?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_killed_before_or_after_the_secret_is_written_each_workload_still_rolls_once() -> Result {
    kill_at("kill-secret", &[("PUT", &format!("/secrets/{NAME}"))]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_killed_before_or_after_a_workload_is_patched_each_workload_still_rolls_once() -> Result {
    kill_at("kill-patch", &[("PATCH", "/deployments/one"), ("PATCH", "/deployments/two")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_killed_before_or_after_the_status_is_written_each_workload_still_rolls_once() -> Result {
    kill_at("kill-status", &[("PATCH", &format!("/botsecrets/{NAME}/status"))]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_killed_during_the_first_sync_nothing_rolls() -> Result {
    for (number, (method, path)) in
        [("POST", "/secrets".to_owned()), ("PATCH", format!("/botsecrets/{NAME}/status"))].iter().enumerate()
    {
        let (mut bench, proxy) = Bench::behind_proxy(&format!("kill-first-{number}")).await?;
        let trap = proxy.next(method, path, Fault::HoldReply);
        let (first, caught) = tokio::join!(scene_without_wait(&bench), trap.caught());
        first.and(caught)?;
        bench.operator.kill().await?;
        bench.operator.start_again().await?;
        bench.until_condition(NAME, "Ready", "True").await?;
        delivered(&bench, &["one"], "1", 0).await?;
    }
    Ok(())
}

async fn scene_without_wait(bench: &Bench) -> Result {
    bench.kubernetes_store("source").await?;
    rotate(bench, "1").await?;
    bench.apply(crate::common::deployment("one", 2)).await?;
    bench.apply(bench.bot_secret(NAME, crate::common::SOURCE)).await?;
    Ok(())
}
