//! Rights to ask for a bot's token, and to tell what was done.

use anyhow::ensure;
use botsecret_testbed::wait_for;
use k8s_openapi::api::events::v1::Event;
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use serde_json::json;

use crate::{
    right::Right,
    scene::{NAME, SOURCE, Scene, is_unwritten},
    support::{DEADLINE, Result},
};

pub async fn nothing_is_read_as_the_bot(right: Right) -> Result {
    let mut scene = Scene::without(right).await?;
    scene.bench.operator.launch()?;
    scene.bench.operator.until_ready().await?;
    scene.until_said(NAME, "Ready", "IdentityUnavailable").await?;
    ensure!(scene.bench.secrets().get_opt(NAME).await?.is_none(), "it was made");
    scene.give().await?;
    scene.synced().await?;
    scene.end().await
}

pub async fn there_is_no_status(right: Right) -> Result {
    let mut scene = Scene::without(right).await?;
    let bench = &mut scene.bench;
    bench.operator.launch()?;
    bench.until_value(NAME, "REVISION", "1").await?;
    scene.until_refused(2).await?;
    scene.until_logged().await?;
    let status = scene.bench.bot_secrets().get(NAME).await?.status;
    ensure!(is_unwritten(status.as_ref()), "{status:?}");
    scene.give().await?;
    scene.synced().await?;
    scene.end().await
}

/// The finalizer cannot be taken off, and so the object never goes.
pub async fn a_deletion_hangs(right: Right) -> Result {
    let scene = Scene::begun_without(right).await?;
    let bench = &scene.bench;
    let mut object = bench.bot_secret("leaving", SOURCE);
    object["metadata"]["finalizers"] = json!(["botsecret.dev/leases"]);
    bench.apply(object).await?;
    bench.until_condition("leaving", "Ready", "True").await?;
    let before = scene.refusals().await?;
    bench.bot_secrets().delete("leaving", &DeleteParams::default()).await?;
    scene.until_refused(before + 2).await?;
    let left = bench.bot_secrets().get_opt("leaving").await?;
    ensure!(left.is_some_and(|object| object.metadata.deletion_timestamp.is_some()), "it is gone");
    scene.give().await?;
    wait_for("the BotSecret to go", DEADLINE, async || {
        Ok(bench.bot_secrets().get_opt("leaving").await?.is_none().then_some(()))
    })
    .await?;
    scene.end().await
}

/// How often each event about a rotation says that it was seen.
async fn rotations_told(scene: &Scene) -> Result<Vec<i32>> {
    let events: Api<Event> = Api::namespaced(scene.bench.client.clone(), &scene.bench.namespace);
    let is_of_it = |event: &Event| {
        let about = event.regarding.as_ref().and_then(|regarding| regarding.name.as_deref());
        event.reason.as_deref() == Some("Rotated") && about == Some(NAME)
    };
    let told = events.list(&ListParams::default()).await?.items.into_iter().filter(is_of_it);
    Ok(told.map(|event| event.series.map_or(1, |series| series.count)).collect())
}

async fn until_told(scene: &Scene, wanted: &[i32]) -> Result {
    wait_for(&format!("the rotations {wanted:?} to be told"), DEADLINE, async || {
        let told = rotations_told(scene).await?;
        ensure!(told == wanted, "{told:?}");
        Ok(Some(()))
    })
    .await
}

pub async fn nothing_is_told(right: Right) -> Result {
    let scene = Scene::begun_without(right).await?;
    scene.rotate("2").await?;
    scene.until_refused(1).await?;
    let told = rotations_told(&scene).await?;
    ensure!(told.is_empty(), "{told:?}");
    scene.give().await?;
    scene.rotate("3").await?;
    until_told(&scene, &[1]).await?;
    scene.end().await
}

/// What is told a second time is counted in the event that tells it.
pub async fn nothing_is_told_twice(right: Right) -> Result {
    let scene = Scene::begun_without(right).await?;
    scene.rotate("2").await?;
    until_told(&scene, &[1]).await?;
    scene.rotate("3").await?;
    scene.until_refused(1).await?;
    until_told(&scene, &[1]).await?;
    scene.give().await?;
    scene.rotate("4").await?;
    until_told(&scene, &[2]).await?;
    scene.end().await
}
