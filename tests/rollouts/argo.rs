//! Workloads of another controller: Argo Rollouts, the real one.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use botsecret::api::RotationPhase;
use botsecret_testbed::{Cluster, ClusterOptions, wait_for};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{
    common::{
        NAME, deployment, edit_deployment, expect_rollouts, make_picky, next_second, patches, picky, rotate, scene,
        template, two_more_refreshes, until_phase, until_rolled_out, until_state,
    },
    strategy::with_rollout,
    support::{Bench, DEADLINE, Result, install},
};

/// A bench on the shared cluster, with Argo Rollouts on it.
async fn bench(name: &str) -> Result<Bench> {
    static STARTED: OnceCell<()> = OnceCell::const_new();
    let bench = Bench::new(name).await?;
    STARTED.get_or_try_init(|| bench.cluster.start_argo_rollouts()).await?;
    Ok(bench)
}

/// A Rollout of the usual bot.
fn rollout(app: &str, replicas: i32, strategy: &Value) -> Value {
    json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": { "name": app },
        "spec": {
            "replicas": replicas, "selector": { "matchLabels": { "app": app } },
            "template": template(app), "strategy": strategy,
        },
    })
}

fn straight() -> Value {
    json!({ "canary": { "maxSurge": 1, "maxUnavailable": 0 } })
}

/// Half of the pods, and then it waits for somebody.
fn in_steps() -> Value {
    json!({ "canary": { "steps": [{ "setWeight": 50 }, { "pause": {} }] } })
}

fn rollouts(bench: &Bench) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Rollout"));
    Api::namespaced_with(bench.client.clone(), &bench.namespace, &kind)
}

/// Waits until Argo Rollouts says so of the template as it is now.
async fn until_argo_says(bench: &Bench, app: &str, phase: &str) -> Result {
    wait_for(&format!("Rollout {app} to be {phase}"), DEADLINE, async || {
        let rollout = rollouts(bench).get(app).await?;
        let status = &rollout.data["status"];
        let generation = rollout.metadata.generation.context("no generation")?.to_string();
        if status["phase"] == phase && status["observedGeneration"] == generation.as_str() {
            return Ok(Some(()));
        }
        bail!("generation {generation}: {status}")
    })
    .await
    .with_context(|| bench.cluster.logs())
}

/// Writes what `kubectl argo rollouts promote`, `abort` and `retry` write, and waits
/// until the controller has left this phase for it. The controller puts what it
/// writes back into its cache whatever is there (writeBackToInformer in
/// rollout/controller.go), and so does not see what came in the same moment
/// before the Rollout changes once more: then it is touched.
async fn act(bench: &Bench, app: &str, status: Value, phase: &str) -> Result {
    let patch = Patch::Merge(json!({ "status": status }));
    rollouts(bench).patch_status(app, &PatchParams::default(), &patch).await?;
    let touched = Cell::new(Instant::now());
    wait_for(&format!("Rollout {app} to be {phase} no more"), DEADLINE, async || {
        let status = rollouts(bench).get(app).await?.data["status"].take();
        if status["phase"] != phase {
            return Ok(Some(()));
        }
        if touched.get().elapsed() > Duration::from_secs(3) {
            touched.set(Instant::now());
            let time = json!({ "metadata": { "annotations": { "touched": format!("{:?}", touched.get()) } } });
            rollouts(bench).patch(app, &PatchParams::default(), &Patch::Merge(time)).await?;
        }
        bail!("{status}")
    })
    .await
}

async fn promote(bench: &Bench, app: &str) -> Result {
    act(bench, app, json!({ "pauseConditions": null }), "Paused").await
}

/// How many templates Argo Rollouts has rolled out, and how many patches the
/// operator made.
async fn rolled(bench: &Bench, app: &str) -> Result<(usize, usize)> {
    let rollout = rollouts(bench).get(app).await?;
    let revision = rollout.metadata.annotations.unwrap_or_default();
    let revision = revision.get("rollout.argoproj.io/revision").context("no revision")?.parse()?;
    Ok((revision, patches(bench, "rollouts", app).await?))
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_rollout_of_argo_rollouts_rolls_once_a_rotation_and_is_verified() -> Result {
    let bench = bench("argo").await?;
    scene(&bench, &[]).await?;
    bench.apply(rollout("bot", 2, &straight())).await?;
    bench.until_all_hold("bot", 2, "1").await?;
    until_argo_says(&bench, "bot", "Healthy").await?;
    next_second().await;
    two_more_refreshes(&bench).await?;
    assert_eq!(rolled(&bench, "bot").await?, (1, 0), "a first sync rolls nobody");
    for (revision, templates) in [("2", 2), ("3", 3)] {
        rotate(&bench, revision).await?;
        bench.until_value(NAME, "REVISION", revision).await?;
        until_rolled_out(&bench).await?;
        bench.until_all_hold("bot", 2, revision).await?;
        until_phase(&bench, RotationPhase::Verified).await?;
        two_more_refreshes(&bench).await?;
        assert_eq!(rolled(&bench, "bot").await?, (templates, templates - 1));
    }
    let status = bench.bot_secrets().get(NAME).await?.status.unwrap_or_default();
    let workloads = status.rollout.map(|rollout| rollout.workloads).unwrap_or_default();
    let [only] = workloads.as_slice() else { bail!("{workloads:?}") };
    assert_eq!((only.kind.as_str(), only.state.as_str(), only.verified), ("Rollout", "RolledOut", true));
    // What is said of the selected and of the listed is found without a watch.
    for choice in [
        json!({ "workloads": "List", "list": [{ "kind": "Rollout", "name": "bot" }], "healthyFor": "1s" }),
        json!({ "workloads": "Selector", "selector": { "matchLabels": { "rolls": "yes" } }, "healthyFor": "1s" }),
    ] {
        let labels = json!({ "metadata": { "labels": { "rolls": "yes" } } });
        rollouts(&bench).patch("bot", &PatchParams::default(), &Patch::Merge(labels)).await?;
        let before = rolled(&bench, "bot").await?;
        bench.apply(with_rollout(&bench, &choice)).await?;
        let revision = (before.0 + 10).to_string();
        rotate(&bench, &revision).await?;
        bench.until_all_hold("bot", 2, &revision).await?;
        until_rolled_out(&bench).await?;
        two_more_refreshes(&bench).await?;
        assert_eq!(rolled(&bench, "bot").await?, (before.0 + 1, before.1 + 1));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_rollout_that_waits_between_two_steps_is_reported_and_holds_up_nobody_until_it_is_promoted() -> Result {
    let bench = bench("argo-steps").await?;
    scene(&bench, &["other"]).await?;
    bench.apply(rollout("bot", 2, &in_steps())).await?;
    bench.until_all_hold("bot", 2, "1").await?;
    until_argo_says(&bench, "bot", "Healthy").await?;
    next_second().await;
    rotate(&bench, "2").await?;
    for (app, state) in [("bot", "Paused"), ("other", "RolledOut")] {
        until_state(&bench, app, state).await?;
    }
    let (reason, message) = bench.until_condition(NAME, "RolledOut", "False").await?;
    assert_eq!(reason, "WaitingForWorkload", "{message}");
    assert!(message.contains("Rollout bot") && message.contains("promote"), "{message}");
    bench.until_all_hold("other", 2, "2").await?;
    two_more_refreshes(&bench).await?;
    let mut held = bench.holdings("bot")?;
    held.sort();
    assert_eq!(held, ["1", "2"]);
    let rotation = bench.bot_secrets().get(NAME).await?.status.and_then(|status| status.rotation);
    ensure!(rotation.as_ref().is_some_and(|one| one.phase == RotationPhase::Rolling), "{rotation:?}");
    // While it waits nobody asks after it.
    let mark = bench.cluster.audit().mark().await?;
    two_more_refreshes(&bench).await?;
    let asked = bench.cluster.audit().requests_by_since(bench.operator.user(), &mark).await?;
    let asked: Vec<_> = asked.iter().filter(|one| one.verb != "watch" && one.resource != "secrets").collect();
    ensure!(asked.iter().all(|one| one.resource == "serviceaccounts"), "{asked:?}");
    promote(&bench, "bot").await?;
    bench.until_all_hold("bot", 2, "2").await?;
    until_phase(&bench, RotationPhase::Verified).await?;
    until_rolled_out(&bench).await?;
    two_more_refreshes(&bench).await?;
    assert_eq!(rolled(&bench, "bot").await?, (2, 1));
    expect_rollouts(&bench, &["other"], 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_a_value_breaks_or_that_somebody_aborts_halts_the_rotation() -> Result {
    let bench = bench("argo-bad").await?;
    bench.kubernetes_store("source").await?;
    rotate(&bench, "1").await?;
    let mut first = rollout("bot", 2, &in_steps());
    make_picky(&mut first);
    bench.apply(first).await?;
    bench.apply(picky("Deployment", "other", 1)).await?;
    let canary = json!({ "kind": "Rollout", "name": "bot" });
    bench.apply(with_rollout(&bench, &json!({ "healthyFor": "1s", "canary": canary }))).await?;
    bench.until_all_hold("bot", 2, "1").await?;
    bench.until_all_hold("other", 1, "1").await?;
    until_argo_says(&bench, "bot", "Healthy").await?;
    next_second().await;
    rotate(&bench, "bad").await?;
    let message = until_phase(&bench, RotationPhase::Halted).await?;
    ensure!(message.starts_with("Rollout bot failed on the new value: pod bot-"), "{message}");
    bench.until_more_reads(3).await?;
    expect_rollouts(&bench, &["other"], 0).await?;
    // The next one is tried where the last one failed. It comes to the pause,
    // and holds nobody up there: the other is next, alone.
    rotate(&bench, "2").await?;
    until_state(&bench, "bot", "Paused").await?;
    bench.until_all_hold("other", 1, "2").await?;
    until_argo_says(&bench, "bot", "Paused").await?;
    act(&bench, "bot", json!({ "abort": true }), "Paused").await?;
    let message = until_phase(&bench, RotationPhase::Halted).await?;
    ensure!(message.contains("Rollout bot failed on the new value: Argo Rollouts gave it up"), "{message}");
    until_state(&bench, "bot", "Failed").await?;
    assert_eq!(rolled(&bench, "bot").await?, (3, 2));
    // Once more, and on.
    act(&bench, "bot", json!({ "abort": false }), "Degraded").await?;
    until_argo_says(&bench, "bot", "Paused").await?;
    promote(&bench, "bot").await?;
    bench.until_all_hold("bot", 2, "2").await?;
    assert_eq!(rolled(&bench, "bot").await?, (3, 2), "a retry needs no patch");
    rotate(&bench, "3").await?;
    until_state(&bench, "bot", "Paused").await?;
    until_argo_says(&bench, "bot", "Paused").await?;
    promote(&bench, "bot").await?;
    bench.until_all_hold("bot", 2, "3").await?;
    until_phase(&bench, RotationPhase::Verified).await?;
    assert_eq!(rolled(&bench, "bot").await?, (4, 3));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_rollout_that_takes_the_template_of_a_deployment_rolls_once_through_it() -> Result {
    let bench = bench("argo-reference").await?;
    scene(&bench, &[]).await?;
    // Of one name, as those who move over have it.
    let mut object = rollout("bot", 2, &straight());
    let spec = object["spec"].as_object_mut().context("a spec")?;
    spec.remove("template");
    spec.remove("selector");
    spec.insert("workloadRef".to_owned(), json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "bot" }));
    bench.apply(deployment("bot", 0)).await?;
    bench.apply(object).await?;
    bench.until_all_hold("bot", 2, "1").await?;
    until_argo_says(&bench, "bot", "Healthy").await?;
    next_second().await;
    for (revision, templates) in [("2", 2), ("3", 3)] {
        rotate(&bench, revision).await?;
        bench.until_all_hold("bot", 2, revision).await?;
        until_rolled_out(&bench).await?;
        until_phase(&bench, RotationPhase::Verified).await?;
        two_more_refreshes(&bench).await?;
        assert_eq!(rolled(&bench, "bot").await?, (templates, 0), "its own template stays empty");
        assert_eq!(patches(&bench, "deployments", "bot").await?, templates - 1);
        let status = bench.bot_secrets().get(NAME).await?.status.unwrap_or_default();
        let workloads = status.rollout.map(|rollout| rollout.workloads).unwrap_or_default();
        ensure!(workloads.iter().map(|one| one.kind.as_str()).eq(["Rollout"]), "{workloads:?}");
    }
    // Of another kind there is none to be changed.
    let other = json!({ "spec": { "workloadRef": { "apiVersion": "v1", "kind": "PodTemplate", "name": "bot" } } });
    rollouts(&bench).patch("bot", &PatchParams::default(), &Patch::Merge(other)).await?;
    let named = json!({ "workloads": "List", "list": [{ "kind": "Rollout", "name": "bot" }] });
    bench.apply(with_rollout(&bench, &named)).await?;
    rotate(&bench, "4").await?;
    wait_for("it to be refused", DEADLINE, async || {
        let (_, reason, message) = bench.condition(NAME, "RolledOut").await?.context("not said")?;
        ensure!(reason == "RolloutRefused" && message.contains("names a PodTemplate"), "{reason}: {message}");
        Ok(Some(()))
    })
    .await?;
    assert_eq!(rolled(&bench, "bot").await?.1, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_where_argo_rollouts_is_not_installed_nothing_asks_for_it_and_what_is_installed_later_is_found() -> Result {
    // One of its own: nobody else may install it here. It lives as long as the tests.
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start(ClusterOptions::default()).await?));
    install(cluster).await?;
    let bench = Bench::on(cluster, "late").await?;
    scene(&bench, &["other"]).await?;
    next_second().await;
    let asked = async |resource: &str| -> Result<Vec<String>> {
        let requests = cluster.audit().requests_by(bench.operator.user()).await?;
        let of_kind = requests.iter().filter(|one| one.resource == resource);
        Ok(of_kind.map(|one| one.verb.clone()).collect())
    };
    rotate(&bench, "2").await?;
    until_phase(&bench, RotationPhase::Verified).await?;
    bench.until_all_hold("other", 2, "2").await?;
    two_more_refreshes(&bench).await?;
    assert_eq!(asked("rollouts").await?, [""; 0]);
    assert_eq!(asked("customresourcedefinitions").await?, ["list", "watch"]);
    // One that is named and cannot be there is missing, and no trouble.
    let named = json!({ "workloads": "List", "healthyFor": "1s",
        "list": [{ "kind": "Deployment", "name": "other" }, { "kind": "Rollout", "name": "bot" }] });
    bench.apply(with_rollout(&bench, &named)).await?;
    until_state(&bench, "bot", "Missing").await?;
    ensure!(asked("rollouts").await?.iter().all(|verb| verb == "get"), "{:?}", asked("rollouts").await?);
    bench.apply(with_rollout(&bench, &json!({ "healthyFor": "1s" }))).await?;

    cluster.start_argo_rollouts().await?;
    bench.apply(rollout("bot", 2, &straight())).await?;
    bench.until_all_hold("bot", 2, "2").await?;
    until_argo_says(&bench, "bot", "Healthy").await?;
    next_second().await;
    rotate(&bench, "3").await?;
    until_phase(&bench, RotationPhase::Verified).await?;
    for app in ["bot", "other"] {
        bench.until_all_hold(app, 2, "3").await?;
    }
    assert_eq!(rolled(&bench, "bot").await?, (2, 1));
    expect_rollouts(&bench, &["other"], 2).await?;

    // And taken away again: its objects are gone with it, and all else goes on.
    let definitions: Api<CustomResourceDefinition> = Api::all(bench.client.clone());
    definitions.delete("rollouts.argoproj.io", &DeleteParams::default()).await?;
    wait_for("the definition to be gone", DEADLINE, async || {
        Ok(definitions.get_opt("rollouts.argoproj.io").await?.is_none().then_some(()))
    })
    .await?;
    edit_deployment(&bench, "other", json!({ "metadata": { "labels": { "again": "yes" } } })).await?;
    rotate(&bench, "4").await?;
    bench.until_all_hold("other", 2, "4").await?;
    wait_for("the Rollout to be forgotten", DEADLINE, async || {
        let status = bench.bot_secrets().get(NAME).await?.status.unwrap_or_default();
        let workloads = status.rollout.map(|rollout| rollout.workloads).unwrap_or_default();
        ensure!(workloads.iter().map(|one| one.name.as_str()).eq(["other"]), "{workloads:?}");
        Ok(Some(()))
    })
    .await?;
    until_rolled_out(&bench).await?;
    // No watch of what is gone is tried any more.
    let mark = cluster.audit().mark().await?;
    two_more_refreshes(&bench).await?;
    let since = cluster.audit().requests_by_since(bench.operator.user(), &mark).await?;
    ensure!(since.iter().all(|one| one.resource != "rollouts"), "{since:?}");
    Ok(())
}
