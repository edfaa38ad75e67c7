//! Rights to get and to write Secrets.

use anyhow::ensure;
use botsecret::api::RotationPhase;
use botsecret_testbed::wait_for;
use serde_json::json;

use crate::{
    right::Right,
    scene::{NAME, SOURCE, Scene},
    support::{DEADLINE, Result},
};

const FORBIDDEN: &str = "OperatorForbidden";

/// The digest key cannot be had, so the operator ends; with the right to that alone it
/// starts, and makes no other Secret.
pub async fn nothing_is_made(right: Right) -> Result {
    let mut scene = Scene::without(right).await?;
    ends_without_the_digest_key(&mut scene, "made").await?;
    scene.bench.operator.start_again().await?;
    scene.until_said(NAME, "Ready", FORBIDDEN).await?;
    ensure!(scene.bench.secrets().get_opt(NAME).await?.is_none(), "it was made");
    scene.give().await?;
    scene.synced().await?;
    scene.bench.until_value(NAME, "REVISION", "1").await?;
    scene.end().await
}

/// The same, and it writes over no Secret that it cannot look at before.
pub async fn nothing_is_read(right: Right) -> Result {
    let mut scene = Scene::without(right).await?;
    ends_without_the_digest_key(&mut scene, "read").await?;
    scene.begin().await?;
    a_new_value_is_not_written(&scene).await
}

async fn ends_without_the_digest_key(scene: &mut Scene, what: &str) -> Result {
    let operator = &mut scene.bench.operator;
    operator.launch()?;
    let code = operator.until_ended().await?;
    ensure!(code == Some(1), "it ended with {code:?}");
    let said = format!("(the digest key) could not be {what}");
    let log = operator.log();
    ensure!(log.contains(&said) && log.contains(&scene.right.refusal()), "{log}");
    scene.grant_digest_key().await
}

pub async fn nothing_is_written_over(right: Right) -> Result {
    a_new_value_is_not_written(&Scene::begun_without(right).await?).await
}

async fn a_new_value_is_not_written(scene: &Scene) -> Result {
    scene.rotate("2").await?;
    scene.until_said(NAME, "Ready", FORBIDDEN).await?;
    let value = scene.bench.value(NAME, "REVISION").await?;
    ensure!(value.as_deref() == Some("1"), "{value:?}");
    scene.give().await?;
    scene.bench.until_value(NAME, "REVISION", "2").await?;
    scene.synced().await?;
    scene.end().await
}

pub async fn nothing_is_merged(right: Right) -> Result {
    let scene = Scene::begun_without(right).await?;
    let bench = &scene.bench;
    let theirs = json!({ "theirs": "kept" });
    bench
        .apply(json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "shared" }, "stringData": theirs }))
        .await?;
    let mut object = bench.bot_secret("merged", SOURCE);
    object["spec"]["target"] = json!({ "name": "shared", "creationPolicy": "Merge" });
    bench.apply(object).await?;
    scene.until_said("merged", "Ready", FORBIDDEN).await?;
    ensure!(bench.value("shared", "REVISION").await?.is_none(), "it was merged into");
    scene.give().await?;
    bench.until_value("shared", "REVISION", "1").await?;
    bench.until_value("shared", "theirs", "kept").await?;
    scene.end().await
}

/// The Secret beside the target that a RollBack may need, and that is in the way when
/// nobody asks for one any more.
pub async fn what_was_kept_aside_stays(right: Right) -> Result {
    let mut scene = Scene::without(right).await?;
    let mut object = scene.bench.bot_secret(NAME, SOURCE);
    object["spec"]["rollout"]["onFailure"] = json!("RollBack");
    scene.bench.apply(object).await?;
    scene.begin().await?;
    let bench = &scene.bench;
    let aside = format!("{NAME}-previous");
    scene.rotate("2").await?;
    bench.until_value(NAME, "REVISION", "2").await?;
    wait_for("the rotation to be over", DEADLINE, async || {
        let rotation = bench.bot_secrets().get(NAME).await?.status.and_then(|status| status.rotation);
        Ok(rotation.is_some_and(|rotation| rotation.phase == RotationPhase::Verified).then_some(()))
    })
    .await?;
    ensure!(bench.secrets().get_opt(&aside).await?.is_some(), "nothing was kept aside");

    bench.apply(bench.bot_secret(NAME, SOURCE)).await?;
    scene.until_refused(2).await?;
    ensure!(bench.secrets().get_opt(&aside).await?.is_some(), "it was deleted");
    scene.give().await?;
    bench.until_no_secret(&aside).await?;
    scene.end().await
}
