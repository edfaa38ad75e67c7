//! An upgrade and a downgrade in the middle of a rotation: what the other
//! version left is gone on from, and nothing rolls for it.

use anyhow::{Context as _, ensure};
use botsecret::api::{ANNOTATION_STATE, RotationPhase, delivery_annotation};
use botsecret_testbed::wait_for;
use kube::{
    ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    common::{
        NAME, SOURCE, delivered, edit_deployment, patches, rotate, slow_deployment, two_more_refreshes,
        until_rolled_out,
    },
    support::{
        Bench, DEADLINE, Result,
        later::{NEW, by_earlier, by_later, install_later, status_of, write_status},
    },
};

const APPS: [&str; 4] = ["bot-a", "bot-b", "bot-c", "bot-d"];

/// Four workloads that roll one after another; the operator is killed when the
/// first has rolled and the last has not.
async fn midway(bench: &mut Bench) -> Result {
    bench.kubernetes_store("source").await?;
    rotate(bench, "1").await?;
    for app in APPS {
        bench.apply(slow_deployment(app, 2)).await?;
    }
    let mut object = bench.bot_secret(NAME, SOURCE);
    object["spec"]["rollout"] = json!({ "healthyFor": "1s", "maxConcurrent": 1 });
    bench.apply(object).await?;
    bench.until_condition(NAME, "Ready", "True").await?;
    for app in APPS {
        bench.until_all_hold(app, 2, "1").await?;
    }
    rotate(bench, "2").await?;
    wait_for("the second workload to roll", DEADLINE, async || {
        let status = bench.bot_secrets().get(NAME).await?.status.unwrap_or_default();
        let workloads = status.rollout.map(|rollout| rollout.workloads).unwrap_or_default();
        let done = workloads.iter().any(|one| one.state == "RolledOut" && one.verified);
        let rolling = workloads.iter().any(|one| one.state == "Rolling");
        Ok((done && rolling).then_some(()))
    })
    .await?;
    bench.operator.kill().await?;
    let mut rolled = 0;
    for app in APPS {
        rolled += patches(bench, "deployments", app).await?;
    }
    ensure!((2..APPS.len()).contains(&rolled), "{rolled} of {} have rolled", APPS.len());
    Ok(())
}

async fn until_phase(bench: &Bench, phase: RotationPhase) -> Result {
    wait_for(&format!("the rotation to be {}", phase.name()), DEADLINE, async || {
        let status = bench.bot_secrets().get(NAME).await?.status.unwrap_or_default();
        let rotation = status.rotation.context("no rotation")?;
        ensure!(rotation.phase == phase, "it is {:?}", rotation.phase);
        Ok(Some(()))
    })
    .await
}

/// Puts more into the annotations that the operator reads back, as far as a
/// later version might.
async fn annotate(bench: &Bench, status: &mut Value) -> Result {
    let secret = bench.secrets().get(NAME).await?;
    let state = secret.annotations().get(ANNOTATION_STATE).context("no state")?;
    let mut state: Value = serde_json::from_str(state)?;
    state["later"] = json!({ "weight": 1 });
    let annotations = json!({ "metadata": { "annotations": { ANNOTATION_STATE: state.to_string() } } });
    let written = bench.secrets().patch(NAME, &PatchParams::default(), &Patch::Merge(annotations)).await?;
    status["target"]["resourceVersion"] = json!(written.resource_version());
    let name = delivery_annotation(NAME);
    for app in APPS {
        let deployment = bench.deployments().get(app).await?;
        let Some(record) = deployment.annotations().get(&name) else { continue };
        let record = format!("{record}/later");
        edit_deployment(bench, app, json!({ "metadata": { "annotations": { &name: record } } })).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_an_upgrade_in_the_middle_of_a_rotation_rolls_each_workload_once() -> Result {
    let mut bench = Bench::new("upgrade").await?;
    midway(&mut bench).await?;
    let mut status = status_of(&bench, NAME).await?;
    by_earlier(&mut status);
    write_status(&bench, NAME, &status).await?;
    bench.operator.start_again().await?;
    delivered(&bench, &APPS, "2", 1).await?;
    // The same with nothing under way, and with no status at all.
    for whole in [true, false] {
        bench.operator.kill().await?;
        let mut status = if whole { status_of(&bench, NAME).await? } else { json!({}) };
        if whole {
            by_earlier(&mut status);
        }
        write_status(&bench, NAME, &status).await?;
        bench.operator.start_again().await?;
        bench.until_condition(NAME, "RolledOut", "True").await?;
        delivered(&bench, &APPS, "2", 1).await?;
    }
    rotate(&bench, "3").await?;
    delivered(&bench, &APPS, "3", 2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_downgrade_in_the_middle_of_a_rotation_rolls_each_workload_once_and_blinds_nobody() -> Result {
    let mut bench = Bench::new("downgrade").await?;
    midway(&mut bench).await?;
    install_later(bench.cluster).await?;
    let mut status = status_of(&bench, NAME).await?;
    annotate(&bench, &mut status).await?;
    by_later(&mut status);
    write_status(&bench, NAME, &status).await?;
    // One whose spec this version cannot read, and that is nobody else's trouble.
    let mut unreadable = bench.bot_secret("unreadable", SOURCE);
    unreadable["spec"]["rollout"]["workloads"] = json!(NEW);
    bench.apply(unreadable).await?;
    bench.operator.start_again().await?;
    delivered(&bench, &APPS, "2", 1).await?;
    until_phase(&bench, RotationPhase::Verified).await?;
    ensure!(bench.operator.log().contains("left out: it cannot be decoded"), "it was never seen");
    ensure!(bench.secrets().get_opt("unreadable").await?.is_none(), "it was acted on half read");
    // With nothing under way a phase that is not known rolls nobody either.
    bench.operator.kill().await?;
    let mut status = status_of(&bench, NAME).await?;
    by_later(&mut status);
    write_status(&bench, NAME, &status).await?;
    bench.operator.start_again().await?;
    until_phase(&bench, RotationPhase::Verified).await?;
    until_rolled_out(&bench).await?;
    two_more_refreshes(&bench).await?;
    delivered(&bench, &APPS, "2", 1).await?;
    rotate(&bench, "3").await?;
    delivered(&bench, &APPS, "3", 2).await
}
