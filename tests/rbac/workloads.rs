//! Rights without which a workload keeps the old value.

use anyhow::{bail, ensure};
use serde_json::{Value, json};

use crate::{
    right::Right,
    scene::{NAME, Scene},
    support::Result,
};

const APP: &str = "bot";

/// The kind of workload with which a right shows.
fn kind_for(right: &Right) -> Result<&'static str> {
    Ok(match right.resource.as_str() {
        "deployments" | "pods" => "Deployment",
        "statefulsets" => "StatefulSet",
        "daemonsets" => "DaemonSet",
        "rollouts" => "Rollout",
        other => bail!("{other} are nothing that rolls"),
    })
}

/// One pod, whose process prints the revision that it was started with.
fn workload(kind: &str) -> Value {
    let mut spec = json!({
        "selector": { "matchLabels": { "app": APP } },
        "template": {
            "metadata": { "labels": { "app": APP } },
            "spec": {
                "nodeSelector": { "testbed.botsecret.dev/runtime": "process" },
                "terminationGracePeriodSeconds": 2,
                "containers": [{
                    "name": "bot", "image": "sh",
                    "command": ["sh", "-c", "trap 'exit 0' TERM; echo holds=$REVISION; while :; do sleep 3600 & wait $!; done"],
                    "envFrom": [{ "secretRef": { "name": NAME } }],
                }],
            },
        },
    });
    if kind != "DaemonSet" {
        spec["replicas"] = json!(1);
    }
    let version = match kind {
        "Rollout" => {
            spec["strategy"] = json!({ "canary": { "maxSurge": 1, "maxUnavailable": 0 } });
            "argoproj.io/v1alpha1"
        }
        _ => "apps/v1",
    };
    if kind == "StatefulSet" {
        spec["serviceName"] = json!(APP);
    }
    json!({ "apiVersion": version, "kind": kind, "metadata": { "name": APP }, "spec": spec })
}

/// A bot on revision 1, made after the operator started, and a source on revision 2.
async fn rotated_under_a_bot(right: Right) -> Result<Scene> {
    let kind = kind_for(&right)?;
    let scene = Scene::begun_without(right).await?;
    scene.bench.apply(workload(kind)).await?;
    scene.bench.until_all_hold(APP, 1, "1").await?;
    scene.rotate("2").await?;
    scene.bench.until_value(NAME, "REVISION", "2").await?;
    Ok(scene)
}

fn keeps_the_old_value(scene: &Scene) -> Result {
    let held = scene.bench.holdings(APP)?;
    ensure!(held == ["1"], "they hold {held:?}");
    Ok(())
}

/// The operator sees no such workload: it holds what changed to be delivered.
pub async fn it_is_not_seen(right: Right) -> Result {
    let scene = rotated_under_a_bot(right).await?;
    scene.goes_on_without().await?;
    scene.bench.until_condition(NAME, "RolledOut", "True").await?;
    keeps_the_old_value(&scene)?;
    scene.give().await?;
    scene.bench.until_all_hold(APP, 1, "2").await?;
    scene.end().await
}

/// The operator knows that it must roll, cannot, and says why.
pub async fn it_is_not_rolled(right: Right) -> Result {
    let scene = rotated_under_a_bot(right).await?;
    scene.until_said(NAME, "RolledOut", "RolloutRefused").await?;
    scene.until_refused(2).await?;
    keeps_the_old_value(&scene)?;
    scene.give().await?;
    scene.bench.until_all_hold(APP, 1, "2").await?;
    scene.bench.until_condition(NAME, "RolledOut", "True").await?;
    scene.end().await
}
