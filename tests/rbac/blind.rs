//! Rights without which the operator does not see what happens: what was there when
//! it started is served on, and what comes later is not.

use anyhow::{Context as _, bail, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::{
    right::Right,
    scene::{NAME, SOURCE, Scene, is_unwritten},
    support::Result,
};

/// What comes later.
const LATE: &str = "late";

pub async fn a_new_bot_secret_is_not_seen(right: Right) -> Result {
    let scene = Scene::begun_without(right).await?;
    let bench = &scene.bench;
    bench.apply(bench.bot_secret(LATE, SOURCE)).await?;
    scene.goes_on_without().await?;
    let status = bench.bot_secrets().get(LATE).await?.status;
    ensure!(is_unwritten(status.as_ref()), "it was seen: {status:?}");
    scene.give().await?;
    bench.until_condition(LATE, "Ready", "True").await?;
    scene.end().await
}

pub async fn a_new_store_is_not_seen(right: Right) -> Result {
    later_is_not_seen(&Scene::begun_without(right).await?).await
}

/// A store of the kind that the right is for.
pub async fn later_is_not_seen(scene: &Scene) -> Result {
    let bench = &scene.bench;
    let kind = match scene.right.resource.as_str() {
        "botsecretstores" => "BotSecretStore",
        "clusterbotsecretstores" => "ClusterBotSecretStore",
        other => bail!("{other} are no stores"),
    };
    // One of the whole cluster must have a name of its own.
    let name = &bench.namespace;
    let mut object = bench.bot_secret(LATE, SOURCE);
    object["spec"]["storeRef"] = json!({ "name": name, "kind": kind });
    let mut spec = json!({ "kubernetes": { "remoteNamespace": bench.source } });
    if kind == "ClusterBotSecretStore" {
        spec["namespaces"] = json!([bench.namespace]);
    }
    let store = json!({
        "apiVersion": "botsecret.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec,
    });
    stays_as_it_was(scene, object, "StoreNotFound", async || bench.apply(store).await.map(drop)).await
}

pub async fn a_new_service_account_is_not_seen(right: Right) -> Result {
    let scene = Scene::begun_without(right).await?;
    let mut object = scene.bench.bot_secret(LATE, SOURCE);
    object["spec"]["serviceAccountName"] = json!(LATE);
    stays_as_it_was(&scene, object, "IdentityUnavailable", async || scene.bench.account(LATE).await).await
}

/// This BotSecret fails for this reason, also after that was mended, until the operator
/// may see so.
async fn stays_as_it_was(scene: &Scene, object: Value, reason: &str, mend: impl AsyncFnOnce() -> Result) -> Result {
    let bench = &scene.bench;
    bench.apply(object).await?;
    let before = bench.until_failing(LATE, reason).await?;
    mend().await?;
    scene.goes_on_without().await?;
    let (status, why, message) = bench.condition(LATE, "Ready").await?.context("no condition")?;
    ensure!((&*status, &*why) == ("False", reason) && message == before, "{status} {why} {message}");
    scene.give().await?;
    bench.until_condition(LATE, "Ready", "True").await?;
    scene.end().await
}

pub async fn what_somebody_spoilt_stays_so(right: Right) -> Result {
    let scene = Scene::begun_without(right).await?;
    let bench = &scene.bench;
    let spoilt = json!({ "stringData": { "REVISION": "spoilt" } });
    bench.secrets().patch(NAME, &PatchParams::default(), &Patch::Merge(spoilt)).await?;
    scene.goes_on_without().await?;
    let value = bench.value(NAME, "REVISION").await?;
    ensure!(value.as_deref() == Some("spoilt"), "it was put right: {value:?}");
    scene.give().await?;
    bench.until_value(NAME, "REVISION", "1").await?;
    scene.end().await
}
