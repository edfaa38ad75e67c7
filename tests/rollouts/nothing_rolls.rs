//! What is no rotation rolls nothing.

use botsecret_testbed::wait_for;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::{
    common::{
        NAME, SOURCE, delivered, deployment, expect_rollouts, next_second, patches, revision, rotate, scene,
        two_more_refreshes, until_rolled_out,
    },
    support::{Bench, DEADLINE, Result},
};

#[tokio::test(flavor = "multi_thread")]
async fn p3_first_sync_restarts_and_a_lost_digest_key_roll_nothing() -> Result {
    let mut bench = Bench::new("nothing-restart").await?;
    scene(&bench, &["one"]).await?;
    delivered(&bench, &["one"], "1", 0).await?;
    for _ in 0..2 {
        bench.operator.kill().await?;
        bench.operator.start_again().await?;
        delivered(&bench, &["one"], "1", 0).await?;
    }
    let before = revision(&bench).await?;
    lose_digest_key(&mut bench).await?;
    delivered(&bench, &["one"], "1", 0).await?;
    assert_eq!(revision(&bench).await?, before, "the revision is that of the data");
    // And afterwards a rotation still counts as one.
    rotate(&bench, "2").await?;
    delivered(&bench, &["one"], "2", 1).await?;
    // Lost together with a rotation: told by the live bytes.
    bench.operator.kill().await?;
    rotate(&bench, "3").await?;
    lose_digest_key(&mut bench).await?;
    delivered(&bench, &["one"], "3", 2).await?;
    // Lost together with the Secret: not to be told, so it counts as unchanged.
    bench.operator.kill().await?;
    bench.secrets().delete(NAME, &DeleteParams::default()).await?;
    lose_digest_key(&mut bench).await?;
    bench.until_value(NAME, "REVISION", "3").await?;
    delivered(&bench, &["one"], "3", 2).await
}

async fn lose_digest_key(bench: &mut Bench) -> Result {
    bench.operator.kill().await?;
    bench.secrets().delete("botsecret-digest-key", &DeleteParams::default()).await?;
    bench.operator.start_again().await
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_edits_that_leave_the_data_equal_roll_nothing() -> Result {
    let bench = Bench::new("nothing-edits").await?;
    bench.kubernetes_store("source").await?;
    bench.put_source(SOURCE, &[("REVISION", "1"), ("B", "b")]).await?;
    bench.put_source("same", &[("REVISION", "1"), ("B", "b")]).await?;
    bench.apply(deployment("one", 2)).await?;
    bench.apply(bench.bot_secret(NAME, SOURCE)).await?;
    bench.until_all_hold("one", 2, "1").await?;
    let entry = |key: &str, source: &str| json!({ "secretKey": key, "remoteRef": { "key": source, "property": key } });
    let base = bench.bot_secret(NAME, SOURCE);
    let mut edits = Vec::new();
    for (spec, value) in [
        ("dataFrom", json!([{ "extract": { "key": "same" } }])),
        ("refreshInterval", json!("2s")),
        ("target", json!({ "labels": { "team": "a" }, "annotations": { "note": "x" } })),
        ("rollout", json!({ "workloads": "List", "list": [{ "kind": "Deployment", "name": "one" }] })),
        ("suspend", json!(true)),
    ] {
        let mut object = base.clone();
        object["spec"][spec] = value;
        edits.push(object);
    }
    for order in [["REVISION", "B"], ["B", "REVISION"]] {
        let mut object = base.clone();
        object["spec"]["dataFrom"] = json!([]);
        object["spec"]["data"] = json!([entry(order[0], SOURCE), entry(order[1], "same")]);
        edits.push(object);
    }
    let mut labelled = base.clone();
    labelled["metadata"]["labels"] = json!({ "app": "x" });
    labelled["metadata"]["annotations"] = json!({ "note": "y", "botsecret.dev/refresh": "1" });
    edits.push(labelled);
    edits.push(base);
    for edit in edits {
        let suspended = edit["spec"]["suspend"] == json!(true);
        bench.apply(edit).await?;
        bench.until_condition(NAME, "Ready", if suspended { "False" } else { "True" }).await?;
    }
    delivered(&bench, &["one"], "1", 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_adopting_an_equal_secret_rolls_nothing_and_another_value_in_it_rolls_once() -> Result {
    let bench = Bench::new("nothing-adopted").await?;
    bench.kubernetes_store("source").await?;
    rotate(&bench, "1").await?;
    // With our label and no controller.
    bench
        .apply(json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": NAME, "labels": { "botsecret.dev/owner": NAME } }, "stringData": { "REVISION": "1" },
        }))
        .await?;
    bench.apply(deployment("one", 2)).await?;
    bench.until_all_hold("one", 2, "1").await?;
    bench.apply(bench.bot_secret(NAME, SOURCE)).await?;
    bench.until_condition(NAME, "Ready", "True").await?;
    delivered(&bench, &["one"], "1", 0).await?;
    rotate(&bench, "2").await?;
    delivered(&bench, &["one"], "2", 1).await?;

    // By Merge into a foreign one, beside keys that are not ours.
    let foreign = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "shared" },
        "stringData": { "REVISION": "2", "THEIRS": "x" },
    });
    bench.apply(foreign).await?;
    let mut bot = deployment("two", 2);
    bot["spec"]["template"]["spec"]["containers"][0]["envFrom"][0]["secretRef"]["name"] = "shared".into();
    bench.apply(bot).await?;
    bench.until_all_hold("two", 2, "2").await?;
    let mut merging = bench.bot_secret("merging", SOURCE);
    merging["spec"]["target"] = json!({ "name": "shared", "creationPolicy": "Merge" });
    bench.apply(merging).await?;
    bench.until_condition("merging", "Ready", "True").await?;
    delivered(&bench, &["two"], "2", 0).await?;
    rotate(&bench, "3").await?;
    delivered(&bench, &["two"], "3", 1).await?;
    assert_eq!(bench.value("shared", "THEIRS").await?.as_deref(), Some("x"));
    delivered(&bench, &["one"], "3", 2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_botsecret_deleted_and_made_again_rolls_nothing() -> Result {
    let bench = Bench::new("nothing-remade").await?;
    // Two bots of one key each, so that neither was last rolled for both.
    bench.kubernetes_store("source").await?;
    bench.put_source(SOURCE, &[("A", "1"), ("B", "1")]).await?;
    let apps = ["one", "two"];
    for (app, key) in apps.into_iter().zip(["A", "B"]) {
        let mut bot = crate::common::deployment_of_key(app, key, false);
        bot["spec"]["replicas"] = 2.into();
        bench.apply(bot).await?;
    }
    let object = bench.bot_secret(NAME, SOURCE);
    bench.apply(object.clone()).await?;
    delivered(&bench, &apps, "1", 0).await?;
    let mut rotations = 0;
    for rotated in [false, true] {
        if rotated {
            rotations = 1;
            bench.put_source(SOURCE, &[("A", "2"), ("B", "1")]).await?;
            delivered(&bench, &["one"], "2", 1).await?;
            bench.put_source(SOURCE, &[("A", "2"), ("B", "2")]).await?;
            delivered(&bench, &["two"], "2", 1).await?;
        }
        let value = if rotated { "2" } else { "1" };
        // Quickly, before its Secret is collected.
        bench.bot_secrets().delete(NAME, &DeleteParams::default()).await?;
        bench.apply(object.clone()).await?;
        bench.until_condition(NAME, "Ready", "True").await?;
        delivered(&bench, &apps, value, rotations).await?;
        // With its Secret collected.
        bench.bot_secrets().delete(NAME, &DeleteParams::default()).await?;
        wait_for("the Secret to be collected", DEADLINE, async || {
            Ok(bench.secrets().get_opt(NAME).await?.is_none().then_some(()))
        })
        .await?;
        bench.apply(object.clone()).await?;
        bench.until_condition(NAME, "Ready", "True").await?;
        delivered(&bench, &apps, value, rotations).await?;
    }
    // Rotated while there was none: told by what the workloads have on record.
    bench.bot_secrets().delete(NAME, &DeleteParams::default()).await?;
    wait_for("the Secret to be collected", DEADLINE, async || {
        Ok(bench.secrets().get_opt(NAME).await?.is_none().then_some(()))
    })
    .await?;
    bench.put_source(SOURCE, &[("A", "3"), ("B", "2")]).await?;
    bench.apply(object).await?;
    delivered(&bench, &["one"], "3", 2).await?;
    delivered(&bench, &["two"], "2", 1).await?;
    bench.put_source(SOURCE, &[("A", "3"), ("B", "4")]).await?;
    delivered(&bench, &["two"], "4", 2).await?;
    delivered(&bench, &["one"], "3", 2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_another_target_name_rolls_nothing_and_the_old_secret_stays() -> Result {
    let bench = Bench::new("nothing-renamed").await?;
    scene(&bench, &["one"]).await?;
    rotate(&bench, "2").await?;
    delivered(&bench, &["one"], "2", 1).await?;
    let mut object = bench.bot_secret(NAME, SOURCE);
    object["spec"]["target"] = json!({ "name": "renamed" });
    bench.apply(object).await?;
    bench.until_value("renamed", "REVISION", "2").await?;
    bench.until_condition(NAME, "Ready", "True").await?;
    two_more_refreshes(&bench).await?;
    expect_rollouts(&bench, &["one"], 1).await?;

    // The bot moves over: that is its owner's rollout, not ours.
    let patch = json!([{ "op": "replace", "path": "/spec/template/spec/containers/0/envFrom/0/secretRef/name", "value": "renamed" }]);
    let patch: Patch<()> = Patch::Json(serde_json::from_value(patch)?);
    next_second().await;
    bench.deployments().patch("one", &PatchParams::default(), &patch).await?;
    wait_for("the bot to have moved over", DEADLINE, async || {
        let deployment = bench.deployments().get("one").await?;
        let status = deployment.status.unwrap_or_default();
        let settled = status.observed_generation == deployment.metadata.generation
            && status.updated_replicas == Some(2)
            && status.replicas == Some(2)
            && status.available_replicas == Some(2);
        Ok(settled.then_some(()))
    })
    .await?;
    bench.until_all_hold("one", 2, "2").await?;
    until_rolled_out(&bench).await?;
    two_more_refreshes(&bench).await?;
    assert_eq!(
        (bench.rollouts("one").await?, patches(&bench, "deployments", "one").await?),
        (3, 1),
        "the owner's own edit alone"
    );
    rotate(&bench, "3").await?;
    bench.until_all_hold("one", 2, "3").await?;
    until_rolled_out(&bench).await?;
    two_more_refreshes(&bench).await?;
    assert_eq!((bench.rollouts("one").await?, patches(&bench, "deployments", "one").await?), (4, 2));
    assert_eq!(bench.value(NAME, "REVISION").await?.as_deref(), Some("2"), "the old Secret stays as it was");
    Ok(())
}
