//! Somebody strips the marker, or undoes the rollout.

use anyhow::Context;
use botsecret_testbed::wait_for;
use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    common::{
        NAME, SOURCE, edit_deployment, patches, rotate, slow_deployment, two_more_refreshes, until_midway,
        until_rolled_out, until_state,
    },
    support::{Bench, DEADLINE, Result},
};

const APP: &str = "one";

async fn slow_scene(name: &str) -> Result<Bench> {
    let bench = Bench::new(name).await?;
    bench.kubernetes_store("source").await?;
    rotate(&bench, "1").await?;
    bench.apply(slow_deployment(APP, 2)).await?;
    bench.apply(bench.bot_secret(NAME, SOURCE)).await?;
    bench.until_all_hold(APP, 2, "1").await?;
    until_rolled_out(&bench).await?;
    Ok(bench)
}

/// As a controller that knows nothing of the marker does.
async fn strip(bench: &Bench, also_the_record: bool) -> Result {
    let marker = format!("rollout.botsecret.dev/{NAME}");
    let mut patch = json!({ "spec": { "template": { "metadata": { "annotations": { marker: null } } } } });
    if also_the_record {
        patch["metadata"] = json!({ "annotations": { format!("delivery.botsecret.dev/{NAME}"): null } });
    }
    edit_deployment(bench, APP, patch).await
}

/// As `kubectl rollout undo` does: the template of the ReplicaSet before.
async fn undo(bench: &Bench) -> Result {
    let sets: Api<ReplicaSet> = Api::namespaced(bench.client.clone(), &bench.namespace);
    let mut sets = sets.list(&ListParams::default().labels(&format!("app={APP}"))).await?.items;
    let number = |set: &ReplicaSet| -> i64 {
        set.annotations().get("deployment.kubernetes.io/revision").and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    sets.sort_by_key(number);
    let before = sets.iter().rev().nth(1).context("no ReplicaSet before")?;
    let mut template =
        serde_json::to_value(before.spec.as_ref().and_then(|spec| spec.template.clone()).context("no template")?)?;
    template["metadata"]["labels"].as_object_mut().context("no labels")?.remove("pod-template-hash");
    let patch: Value = json!([{ "op": "replace", "path": "/spec/template", "value": template }]);
    let patch: Patch<()> = Patch::Json(serde_json::from_value(patch)?);
    bench.deployments().patch(APP, &PatchParams::default(), &patch).await?;
    Ok(())
}

async fn expect_patches(bench: &Bench, wanted: usize) -> Result {
    two_more_refreshes(bench).await?;
    let found = patches(bench, "deployments", APP).await?;
    anyhow::ensure!(found == wanted, "{wanted} patches expected, {found} made");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_marker_stripped_or_undone_during_the_rollout_is_patched_once_more_and_no_old_process_stays() -> Result {
    let bench = slow_scene("revert-during").await?;
    for (number, how) in ["strip", "strip both", "undo"].into_iter().enumerate() {
        let (old, new) = ((number + 1).to_string(), (number + 2).to_string());
        rotate(&bench, &new).await?;
        until_midway(&bench, APP, &old, &new).await?;
        match how {
            "undo" => undo(&bench).await?,
            how => strip(&bench, how == "strip both").await?,
        }
        let seen = async {
            bench.until_all_hold(APP, 2, &new).await?;
            until_rolled_out(&bench).await?;
            expect_patches(&bench, 2 * (number + 1)).await
        };
        seen.await.context(how)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_marker_stripped_or_undone_before_or_after_the_rollout_is_left_alone() -> Result {
    let bench = slow_scene("revert-after").await?;
    rotate(&bench, "2").await?;
    bench.until_all_hold(APP, 2, "2").await?;
    until_rolled_out(&bench).await?;
    let (mut made, mut value) = (1, 2);
    for how in ["strip", "strip both", "undo"] {
        match how {
            "undo" => undo(&bench).await?,
            how => strip(&bench, how == "strip both").await?,
        }
        // What it rolls out is new pods, which hold the new value.
        bench.until_all_hold(APP, 2, &value.to_string()).await?;
        expect_patches(&bench, made).await.context(how)?;
        // And right before the next rotation.
        (made, value) = (made + 1, value + 1);
        rotate(&bench, &value.to_string()).await?;
        strip(&bench, true).await?;
        bench.until_all_hold(APP, 2, &value.to_string()).await?;
        until_rolled_out(&bench).await?;
        let found = patches(&bench, "deployments", APP).await?;
        anyhow::ensure!((made..=made + 1).contains(&found), "{how}: {found} patches, {made} expected");
        expect_patches(&bench, found).await?;
        made = found;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_controller_that_keeps_stripping_the_marker_is_not_fought_but_reported() -> Result {
    let mut bench = slow_scene("revert-fight").await?;
    rotate(&bench, "2").await?;
    for _ in 0..2 {
        wait_for("the marker", DEADLINE, async || {
            let deployment = bench.deployments().get(APP).await?;
            let meta = deployment.spec.and_then(|spec| spec.template.metadata).unwrap_or_default();
            let found = meta.annotations.unwrap_or_default().contains_key(&format!("rollout.botsecret.dev/{NAME}"));
            Ok(found.then_some(()))
        })
        .await?;
        strip(&bench, true).await?;
    }
    until_state(&bench, APP, "Reverted").await?;
    let (reason, message) = bench.until_condition(NAME, "RolledOut", "False").await?;
    assert_eq!(reason, "Reverted", "{message}");
    expect_patches(&bench, 2).await?;
    // Nor does a restart begin the fight anew.
    bench.operator.kill().await?;
    bench.operator.start_again().await?;
    expect_patches(&bench, 2).await?;
    until_state(&bench, APP, "Reverted").await?;
    // A person restarts the bot: that is seen.
    edit_deployment(
        &bench,
        APP,
        json!({ "spec": { "template": { "metadata": { "annotations": { "restarted": "now" } } } } }),
    )
    .await?;
    bench.until_all_hold(APP, 2, "2").await?;
    until_rolled_out(&bench).await?;
    expect_patches(&bench, 2).await?;
    // The next rotation is delivered again.
    rotate(&bench, "3").await?;
    bench.until_all_hold(APP, 2, "3").await?;
    until_rolled_out(&bench).await?;
    expect_patches(&bench, 3).await
}
