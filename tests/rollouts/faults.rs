//! Requests that fail, or whose answers are lost, without a kill.

use crate::{
    common::{NAME, SOURCE, delivered, expect_rollouts, refresh, rotate, scene, until_rolled_out},
    support::{Bench, Fault, Result},
};

const FAULTS: [Fault; 5] =
    [Fault::LoseReply, Fault::Refuse(409), Fault::Refuse(500), Fault::Refuse(503), Fault::RefuseAfterwards(500)];

async fn fail_at(name: &str, method: &str, path: &str) -> Result {
    let (bench, proxy) = Bench::behind_proxy(name).await?;
    let apps = ["one", "two"];
    scene(&bench, &apps).await?;
    until_rolled_out(&bench).await?;
    for (index, fault) in FAULTS.into_iter().enumerate() {
        let value = (index + 2).to_string();
        let trap = proxy.next(method, path, fault);
        rotate(&bench, &value).await?;
        trap.caught().await?;
        let seen = delivered(&bench, &apps, &value, index + 1).await;
        seen.map_err(|error| error.context(format!("{fault:?} of {method} {path}")))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_when_writing_the_secret_fails_or_its_answer_is_lost_each_workload_rolls_once() -> Result {
    fail_at("fault-secret", "PUT", &format!("/secrets/{NAME}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_when_patching_a_workload_fails_or_its_answer_is_lost_each_workload_rolls_once() -> Result {
    fail_at("fault-patch", "PATCH", "/deployments/one").await
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_when_writing_the_status_fails_or_its_answer_is_lost_each_workload_rolls_once() -> Result {
    fail_at("fault-status", "PATCH", &format!("/botsecrets/{NAME}/status")).await
}

/// Asks for one refresh, and answers once it was made.
async fn force(bench: &Bench, number: usize) -> Result {
    refresh(bench, &number.to_string()).await?;
    botsecret_testbed::wait_for("the refresh", crate::support::DEADLINE, async || {
        let status = bench.bot_secrets().get(NAME).await?.status.unwrap_or_default();
        Ok((status.last_handled_refresh == Some(number.to_string())).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_what_failed_is_tried_again_long_before_the_next_refresh() -> Result {
    let (bench, proxy) = Bench::behind_proxy("fault-hourly").await?;
    // One alone: looks at another's rollout would carry it along.
    let apps = ["one"];
    scene(&bench, &apps).await?;
    let mut hourly = bench.bot_secret(NAME, SOURCE);
    hourly["spec"]["refreshInterval"] = "1h".into();
    bench.apply(hourly).await?;
    until_rolled_out(&bench).await?;
    let points = [
        ("PUT", format!("/secrets/{NAME}")),
        ("PATCH", "/deployments/one".into()),
        ("PATCH", format!("/botsecrets/{NAME}/status")),
    ];
    let mut rotations = 0;
    for (method, path) in points {
        for fault in [Fault::LoseReply, Fault::Refuse(409), Fault::Refuse(500)] {
            rotations += 1;
            let value = (rotations + 1).to_string();
            let trap = proxy.next(method, &path, fault);
            if fault == Fault::Refuse(500) {
                // Longer than events, which every first failure brings about,
                // would carry it.
                for _ in 0..3 {
                    drop(proxy.next(method, &path, fault));
                }
            }
            rotate(&bench, &value).await?;
            let (forced, caught) = tokio::join!(force(&bench, 2 * rotations), trap.caught());
            let seen = async {
                forced.and(caught)?;
                for app in apps {
                    bench.until_all_hold(app, 2, &value).await?;
                }
                until_rolled_out(&bench).await?;
                force(&bench, 2 * rotations + 1).await?;
                expect_rollouts(&bench, &apps, rotations).await
            };
            seen.await.map_err(|error| error.context(format!("{fault:?} of {method} {path}")))?;
        }
    }
    Ok(())
}
