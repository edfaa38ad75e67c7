//! Rights that are no part of the installation: what `spec.verify` and a roll-back take.

use anyhow::{bail, ensure};
use botsecret_testbed::wait_for;
use k8s_openapi::api::{apps::v1::StatefulSet, batch::v1::Job, core::v1::Pod};
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::{Value, json};

use crate::{
    right::Right,
    scene::{NAME, SOURCE, Scene},
    support::{DEADLINE, Result},
};

const CHECK: &str = "try";
const APP: &str = "state";
const CANDIDATE: &str = "price-bot-candidate";
/// Ends at once on a bad value, and does so ever after in the same pod: its kubelet
/// cannot mend it.
const PICKY: &str = "trap 'exit 0' TERM; echo holds=$REVISION; case $REVISION in bad*) touch /kept/spoilt;; esac; \
                     test -e /kept/spoilt && exit 3; touch /kept/up; while :; do sleep 3600 & wait $!; done";

/// A suspended CronJob that finds every value good.
fn check() -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": { "name": CHECK },
        "spec": {
            "schedule": "0 0 1 1 *", "suspend": true,
            "jobTemplate": { "spec": { "template": { "spec": {
                "serviceAccountName": "bot",
                "restartPolicy": "Never",
                "nodeSelector": { "testbed.botsecret.dev/runtime": "process" },
                "containers": [{
                    "name": "try", "image": "sh", "command": ["sh", "-c", "exit 0"],
                    "envFrom": [{ "secretRef": { "name": CANDIDATE } }],
                }],
            } } } },
        },
    })
}

/// Revision 1 is there, and what comes next is tried first.
async fn begun(right: Right, on_failure: &str) -> Result<Scene> {
    let scene = Scene::begun_without(right).await?;
    let bench = &scene.bench;
    bench.apply(check()).await?;
    let mut object = bench.bot_secret(NAME, SOURCE);
    object["spec"]["verify"] = json!({ "cronJob": CHECK, "timeout": "40s" });
    object["spec"]["rollout"]["onFailure"] = json!(on_failure);
    bench.apply(object).await?;
    Ok(scene)
}

pub async fn nothing_is_tried(right: Right) -> Result {
    let scene = begun(right, "Halt").await?;
    let bench = &scene.bench;
    scene.rotate("2").await?;
    let message = bench.until_failing(NAME, "OperatorForbidden").await?;
    ensure!(message.contains("deploy/verify.yaml"), "{message}");
    scene.until_refused(1).await?;
    let value = bench.value(NAME, "REVISION").await?;
    ensure!(value.as_deref() == Some("1"), "{value:?}");
    scene.give().await?;
    bench.until_value(NAME, "REVISION", "2").await?;
    scene.synced().await?;
    scene.end().await
}

/// The Jobs that tried something.
async fn trials(scene: &Scene) -> Result<Vec<String>> {
    let jobs: Api<Job> = Api::namespaced(scene.bench.client.clone(), &scene.bench.namespace);
    let made = jobs.list(&ListParams::default().labels("botsecret.dev/candidate")).await?;
    Ok(made.iter().map(ResourceExt::name_any).collect())
}

pub async fn what_tried_a_value_stays(right: Right) -> Result {
    let scene = begun(right, "Halt").await?;
    let bench = &scene.bench;
    scene.rotate("2").await?;
    bench.until_value(NAME, "REVISION", "2").await?;
    scene.until_refused(1).await?;
    ensure!(trials(&scene).await?.len() == 1, "its Job is gone");
    scene.give().await?;
    scene.rotate("3").await?;
    bench.until_value(NAME, "REVISION", "3").await?;
    wait_for("the Jobs to go", DEADLINE, async || {
        let left = trials(&scene).await?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(Some(()))
    })
    .await?;
    bench.until_no_secret(CANDIDATE).await?;
    scene.end().await
}

/// A StatefulSet whose controller waits for a pod that is not ready.
fn state() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": APP },
        "spec": {
            "replicas": 1, "serviceName": APP, "podManagementPolicy": "OrderedReady",
            "selector": { "matchLabels": { "app": APP } },
            "template": {
                "metadata": { "labels": { "app": APP } },
                "spec": {
                    "nodeSelector": { "testbed.botsecret.dev/runtime": "process" },
                    "terminationGracePeriodSeconds": 2,
                    "containers": [{
                        "name": "bot", "image": "sh", "command": ["sh", "-c", PICKY],
                        "envFrom": [{ "secretRef": { "name": NAME } }],
                        "volumeMounts": [{ "name": "kept", "mountPath": "/kept" }],
                        "readinessProbe": {
                            "exec": { "command": ["sh", "-c", "test -e /kept/up && ! test -e /kept/spoilt"] },
                            "periodSeconds": 1,
                        },
                    }],
                    "volumes": [{ "name": "kept", "emptyDir": {} }],
                },
            },
        },
    })
}

/// The uid of its only pod.
async fn pod(scene: &Scene) -> Result<Option<String>> {
    let pods: Api<Pod> = Api::namespaced(scene.bench.client.clone(), &scene.bench.namespace);
    Ok(pods.get_opt(&format!("{APP}-0")).await?.and_then(|pod| pod.uid()))
}

/// The value before is back, and nobody replaces the pod that waits for it.
pub async fn a_stuck_pod_stays(right: Right) -> Result {
    let scene = begun(right, "RollBack").await?;
    let bench = &scene.bench;
    bench.apply(state()).await?;
    let sets: Api<StatefulSet> = Api::namespaced(bench.client.clone(), &bench.namespace);
    wait_for("it to be well", DEADLINE, async || {
        let status = sets.get(APP).await?.status.unwrap_or_default();
        if (status.ready_replicas, status.updated_replicas) == (Some(1), Some(1)) {
            return Ok(Some(()));
        }
        bail!("{status:?}")
    })
    .await?;
    bench.until_all_hold(APP, 1, "1").await?;
    scene.rotate("bad").await?;
    scene.until_refused(1).await?;
    let stuck = pod(&scene).await?;
    scene.until_refused(2).await?;
    ensure!(stuck.is_some() && pod(&scene).await? == stuck, "somebody else replaced it");
    bench.until_value(NAME, "REVISION", "1").await?;
    scene.give().await?;
    bench.until_all_hold(APP, 1, "1").await?;
    bench.until_condition(NAME, "RolledOut", "True").await?;
    scene.end().await
}
