//! Which workloads roll, and what is said of those that cannot.

use anyhow::ensure;
use botsecret_testbed::wait_for;
use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::Pod};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;

use crate::{
    common::{
        COMMAND, NAME, SOURCE, delivered, deployment, deployment_of_key, edit_deployment, expect_rollouts, next_second,
        patches, rotate, scene, slow_deployment, template, two_more_refreshes, until_midway, until_rolled_out,
        until_state, workload,
    },
    support::{Bench, DEADLINE, Result, rotate::told},
};

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_paused_deployment_rolls_once_when_it_is_resumed() -> Result {
    let bench = Bench::new("paused").await?;
    scene(&bench, &["one", "two"]).await?;
    edit_deployment(&bench, "one", json!({ "spec": { "paused": true } })).await?;
    rotate(&bench, "2").await?;
    bench.until_all_hold("two", 2, "2").await?;
    for (app, state) in [("one", "Paused"), ("two", "RolledOut")] {
        until_state(&bench, app, state).await?;
    }
    let (reason, message) = bench.until_condition(NAME, "RolledOut", "False").await?;
    assert_eq!(reason, "WaitingForWorkload", "{message}");
    rotate(&bench, "3").await?;
    bench.until_all_hold("two", 2, "3").await?;
    two_more_refreshes(&bench).await?;
    assert_eq!((bench.rollouts("one").await?, patches(&bench, "deployments", "one").await?), (1, 2));
    bench.until_all_hold("one", 2, "1").await?;
    edit_deployment(&bench, "one", json!({ "spec": { "paused": false } })).await?;
    bench.until_all_hold("one", 2, "3").await?;
    until_rolled_out(&bench).await?;
    two_more_refreshes(&bench).await?;
    assert_eq!((bench.rollouts("one").await?, patches(&bench, "deployments", "one").await?), (2, 2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_each_workload_that_one_value_rolls_is_named_in_an_event_of_its_own() -> Result {
    let bench = Bench::new("each-named").await?;
    scene(&bench, &["one", "two"]).await?;
    rotate(&bench, "2").await?;
    for app in ["one", "two"] {
        bench.until_all_hold(app, 2, "2").await?;
    }
    // Events come after the status.
    wait_for("both to be named", DEADLINE, async || {
        let mut named = told(&bench, NAME, "RollingOut").await?;
        named.sort();
        let wanted = ["one", "two"].map(|app| format!("rolling Deployment {app}: a value that it uses changed"));
        ensure!(named == wanted, "{named:?}");
        Ok(Some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_workloads_deleted_or_scaled_to_zero_in_mid_rollout_end_on_the_new_value() -> Result {
    let bench = Bench::new("gone").await?;
    scene(&bench, &["zero"]).await?;
    for app in ["deleted", "scaled"] {
        bench.apply(slow_deployment(app, 2)).await?;
        bench.until_all_hold(app, 2, "1").await?;
    }
    edit_deployment(&bench, "zero", json!({ "spec": { "replicas": 0 } })).await?;
    bench.until_all_hold("zero", 0, "1").await?;
    rotate(&bench, "2").await?;
    for app in ["deleted", "scaled"] {
        until_midway(&bench, app, "1", "2").await?;
    }
    bench.deployments().delete("deleted", &DeleteParams::background()).await?;
    edit_deployment(&bench, "scaled", json!({ "spec": { "replicas": 0 } })).await?;
    for app in ["deleted", "scaled"] {
        bench.until_all_hold(app, 0, "2").await?;
    }
    until_rolled_out(&bench).await?;
    // Pods of the second of the write might hold the old value, and are rolled.
    next_second().await;
    bench.apply(slow_deployment("deleted", 2)).await?;
    for app in ["zero", "scaled"] {
        edit_deployment(&bench, app, json!({ "spec": { "replicas": 2 } })).await?;
    }
    for app in ["deleted", "scaled", "zero"] {
        bench.until_all_hold(app, 2, "2").await?;
    }
    two_more_refreshes(&bench).await?;
    expect_rollouts(&bench, &["zero"], 0).await?;
    for app in ["deleted", "scaled"] {
        assert_eq!(patches(&bench, "deployments", app).await?, 1, "{app}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_statefulsets_and_daemonsets_roll_and_what_is_not_rolled_is_not_claimed() -> Result {
    let bench = Bench::new("kinds").await?;
    scene(&bench, &[]).await?;
    let mut on_delete = workload("StatefulSet", "ondelete", 1);
    on_delete["spec"]["updateStrategy"] = json!({ "type": "OnDelete" });
    let mut partitioned = workload("StatefulSet", "partitioned", 2);
    partitioned["spec"]["updateStrategy"] = json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": 1 } });
    let sizes = [("stateful", 2), ("ondelete", 1), ("partitioned", 2), ("daemon", 1)];
    for object in [workload("StatefulSet", "stateful", 2), on_delete, partitioned, workload("DaemonSet", "daemon", 1)] {
        bench.apply(object).await?;
    }
    for (app, size) in sizes {
        bench.until_all_hold(app, size, "1").await?;
    }
    next_second().await;
    rotate(&bench, "2").await?;
    bench.until_all_hold("stateful", 2, "2").await?;
    bench.until_all_hold("daemon", 1, "2").await?;
    for (app, state) in
        [("stateful", "RolledOut"), ("daemon", "RolledOut"), ("ondelete", "OnDelete"), ("partitioned", "Partitioned")]
    {
        until_state(&bench, app, state).await?;
    }
    let (reason, message) = bench.until_condition(NAME, "RolledOut", "False").await?;
    assert_eq!(reason, "WaitingForWorkload", "{message}");
    bench.until_all_hold("ondelete", 1, "1").await?;
    // Each is delivered as soon as its owner lets it be.
    Api::<Pod>::namespaced(bench.client.clone(), &bench.namespace)
        .delete("ondelete-0", &DeleteParams::default())
        .await?;
    let all = json!({ "spec": { "updateStrategy": { "rollingUpdate": { "partition": 0 } } } });
    let sets: Api<StatefulSet> = Api::namespaced(bench.client.clone(), &bench.namespace);
    sets.patch("partitioned", &PatchParams::default(), &Patch::Merge(all)).await?;
    for (app, size) in sizes {
        bench.until_all_hold(app, size, "2").await?;
    }
    until_rolled_out(&bench).await?;
    two_more_refreshes(&bench).await?;
    for (app, _) in sizes {
        let plural = if app == "daemon" { "daemonsets" } else { "statefulsets" };
        assert_eq!(patches(&bench, plural, app).await?, 1, "{app}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_only_workloads_that_use_a_key_that_changed_roll() -> Result {
    let bench = Bench::new("keys").await?;
    bench.kubernetes_store("source").await?;
    bench.put_source(SOURCE, &[("A", "1"), ("B", "1")]).await?;
    let mut pulls = deployment_of_key("pulls", "A", false);
    pulls["spec"]["template"]["spec"]["imagePullSecrets"] = json!([{ "name": NAME }]);
    pulls["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{ "name": "REVISION", "value": "x" }]);
    bench.apply(pulls).await?;
    for (app, key, optional) in
        [("uses-a", "A", false), ("uses-b", "B", false), ("optional", "A", true), ("absent", "C", true)]
    {
        bench.apply(deployment_of_key(app, key, optional)).await?;
    }
    bench.until_all_hold("optional", 1, "").await?;
    bench.until_all_hold("absent", 1, "").await?;
    bench
        .apply(json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "job" },
            "spec": { "template": with_restart_policy(template("job")) },
        }))
        .await?;
    bench.apply(json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": { "name": "cron" },
        "spec": { "schedule": "0 0 1 1 *", "jobTemplate": { "spec": { "template": with_restart_policy(template("cron")) } } },
    }))
    .await?;
    next_second().await;
    bench.apply(bench.bot_secret(NAME, SOURCE)).await?;
    // A pod that runs for want of an optional reference gets it, in one rollout.
    for app in ["uses-a", "uses-b", "optional"] {
        bench.until_all_hold(app, 1, "1").await?;
    }
    until_rolled_out(&bench).await?;
    two_more_refreshes(&bench).await?;
    expect_rollouts(&bench, &["uses-a", "uses-b", "pulls", "absent"], 0).await?;
    expect_rollouts(&bench, &["optional"], 1).await?;
    bench.until_all_hold("job", 1, "").await?;

    next_second().await;
    bench.put_source(SOURCE, &[("A", "2"), ("B", "1")]).await?;
    bench.until_all_hold("uses-a", 1, "2").await?;
    bench.until_all_hold("optional", 1, "2").await?;
    until_rolled_out(&bench).await?;
    // A workload that is younger than the write, and one that begins to use
    // the Secret after it, need nothing.
    next_second().await;
    bench.apply(deployment_of_key("young", "A", false)).await?;
    bench.until_all_hold("young", 1, "2").await?;
    bench.apply(deployment_of_key("uses-b", "A", false)).await?;
    bench.until_all_hold("uses-b", 1, "2").await?;
    two_more_refreshes(&bench).await?;
    expect_rollouts(&bench, &["uses-a"], 1).await?;
    expect_rollouts(&bench, &["optional"], 2).await?;
    expect_rollouts(&bench, &["young", "pulls", "absent"], 0).await?;
    assert_eq!((bench.rollouts("uses-b").await?, patches(&bench, "deployments", "uses-b").await?), (2, 0));

    // A new key reaches those that wait for it.
    bench.put_source(SOURCE, &[("A", "2"), ("B", "1"), ("C", "3")]).await?;
    bench.until_all_hold("absent", 1, "3").await?;
    until_rolled_out(&bench).await?;
    two_more_refreshes(&bench).await?;
    expect_rollouts(&bench, &["absent"], 1).await?;
    expect_rollouts(&bench, &["young", "pulls"], 0).await?;
    let jobs = bench
        .kubelet()?
        .history()
        .into_iter()
        .filter(|run| run.namespace == bench.namespace && run.pod.starts_with("job-"));
    assert_eq!(jobs.count(), 1, "a Job is left alone");
    Ok(())
}

fn with_restart_policy(mut template: serde_json::Value) -> serde_json::Value {
    template["spec"]["restartPolicy"] = "Never".into();
    template
}

/// A bot whose use of the Secret cannot be seen in its template.
fn opaque(app: &str) -> serde_json::Value {
    let mut object = deployment(app, 2);
    object["metadata"]["labels"] = json!({ "opaque": "yes" });
    let container = &mut object["spec"]["template"]["spec"]["containers"][0];
    container["envFrom"] = json!([]);
    container["command"] = json!(["sh", "-c", COMMAND]);
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_list_selector_and_none_roll_what_they_say() -> Result {
    let mut bench = Bench::new("choices").await?;
    scene(&bench, &["visible"]).await?;
    bench.apply(opaque("hidden")).await?;
    bench.until_all_hold("hidden", 2, "").await?;
    let mut object = bench.bot_secret(NAME, SOURCE);
    let choices = [
        (json!({ "workloads": "List", "list": [{ "kind": "Deployment", "name": "hidden" }] }), 0, 1),
        (json!({ "workloads": "Selector", "selector": { "matchLabels": { "opaque": "yes" } } }), 0, 2),
        (json!({ "workloads": "None" }), 0, 2),
    ];
    for (number, (choice, visible, hidden)) in choices.into_iter().enumerate() {
        object["spec"]["rollout"] = choice.clone();
        bench.apply(object.clone()).await?;
        bench.until_condition(NAME, "Ready", "True").await?;
        two_more_refreshes(&bench).await?;
        next_second().await;
        let value = (number + 2).to_string();
        rotate(&bench, &value).await?;
        bench.until_value(NAME, "REVISION", &value).await?;
        if choice["workloads"] != "None" {
            until_rolled_out(&bench).await?;
        }
        two_more_refreshes(&bench).await?;
        bench.operator.kill().await?;
        bench.operator.start_again().await?;
        two_more_refreshes(&bench).await?;
        bench.until_all_hold("hidden", 2, "").await?;
        let context = |error: anyhow::Error| error.context(choice["workloads"].to_string());
        expect_rollouts(&bench, &["visible"], visible).await.map_err(context)?;
        expect_rollouts(&bench, &["hidden"], hidden).await.map_err(context)?;
    }
    // Back to what templates use: pods that hold an old value are found.
    bench.until_all_hold("visible", 2, "1").await?;
    bench.apply(bench.bot_secret(NAME, SOURCE)).await?;
    delivered(&bench, &["visible"], "4", 1).await
}
