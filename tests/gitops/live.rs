//! Argo CD's view of objects of a real API server, and what its actions do to them.

use std::time::Duration;

use anyhow::ensure;
use botsecret::api::BotSecret;
use botsecret_testbed::wait_for;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    argo::{act, actions, health},
    common::{LONG, NAME, SOURCE, picky, rotate},
    kstatus::kstatus,
    kubectl::Kubectl,
    support::{Bench, DEADLINE, Result, cluster},
};

fn objects(bench: &Bench, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(bench.client.clone(), namespace, &ApiResource::erase::<BotSecret>(&()))
}

/// As Argo CD gets it.
async fn seen(bench: &Bench) -> Result<Value> {
    Ok(serde_json::to_value(objects(bench, &bench.namespace).get(NAME).await?)?)
}

async fn until_health(bench: &Bench, status: &str, message: &str) -> Result {
    wait_for(&format!("the health to be {status}, {message}"), LONG, async || {
        let found = health(&seen(bench).await?);
        ensure!(found.status == status && found.message.starts_with(message), "it is {found:?}");
        Ok(Some(()))
    })
    .await
}

async fn patch(bench: &Bench, patch: &Value) -> Result {
    objects(bench, &bench.namespace).patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// Runs an action that is offered; answers what it changed.
async fn run(bench: &Bench, action: &str) -> Result<Value> {
    let object = seen(bench).await?;
    let offered = actions(&object);
    ensure!(offered.get(action) == Some(&true), "{action}: {offered:?}");
    let change = act(action, &object);
    patch(bench, &change).await?;
    Ok(change)
}

#[tokio::test(flavor = "multi_thread")]
async fn argo_cd_sees_each_state_as_it_is_and_its_actions_take_effect() -> Result {
    let bench = Bench::new("gitops").await?;
    rotate(&bench, "1").await?;
    bench.apply(bench.bot_secret(NAME, SOURCE)).await?;
    until_health(&bench, "Degraded", "StoreNotFound: BotSecretStore source does not exist").await?;
    bench.kubernetes_store("source").await?;
    until_health(&bench, "Healthy", "Synced: ").await?;
    bench.apply(picky("Deployment", "bot", 1)).await?;
    bench.until_all_hold("bot", 1, "1").await?;
    until_health(&bench, "Healthy", "Synced: ").await?;

    // Denied at any time: it stays on its way until that is taken out.
    let never = json!([{ "kind": "Deny", "schedule": "* * * * *", "duration": "1h" }]);
    patch(&bench, &json!({ "spec": { "rollout": { "window": never } } })).await?;
    rotate(&bench, "2").await?;
    until_health(&bench, "Progressing", "RollingOut: Deployment bot must roll still").await?;
    patch(&bench, &json!({ "spec": { "rollout": { "window": null } } })).await?;
    bench.until_all_hold("bot", 1, "2").await?;
    until_health(&bench, "Healthy", "Synced: ").await?;

    rotate(&bench, "bad").await?;
    until_health(&bench, "Degraded", "RolloutHalted: Deployment bot failed on the new value").await?;
    run(&bench, "suspend").await?;
    until_health(&bench, "Suspended", "Suspended: suspended: nothing is read").await?;
    let offered = actions(&seen(&bench).await?);
    ensure!(!offered["refresh"], "of one that is suspended nothing is read");
    rotate(&bench, "3").await?;
    run(&bench, "resume").await?;
    bench.until_all_hold("bot", 1, "3").await?;
    until_health(&bench, "Healthy", "Synced: ").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_refresh_of_argo_cd_is_another_each_time_and_is_handled() -> Result {
    let bench = Bench::new("gitops-refresh").await?;
    bench.kubernetes_store("source").await?;
    rotate(&bench, "1").await?;
    let mut object = bench.bot_secret(NAME, SOURCE);
    object["spec"]["refreshInterval"] = json!("1h");
    bench.apply(object).await?;
    bench.until_value(NAME, "REVISION", "1").await?;
    until_health(&bench, "Healthy", "Synced: ").await?;
    for revision in ["2", "3"] {
        rotate(&bench, revision).await?;
        let change = run(&bench, "refresh").await?;
        bench.until_value(NAME, "REVISION", revision).await?;
        let asked = change["metadata"]["annotations"]["botsecret.dev/refresh"].clone();
        wait_for("the refresh to be on record", DEADLINE, async || {
            let found = seen(&bench).await?;
            ensure!(asked.is_string() && found["status"]["lastHandledRefresh"] == asked, "{}", found["status"]);
            Ok(Some(()))
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_argo_cd_and_flux_wait_for_one_that_no_operator_has_looked_at() -> Result {
    let bench = Bench::new("gitops-nobody").await?;
    // The operator serves the bench's own namespace alone.
    let mut object = bench.bot_secret(NAME, SOURCE);
    object["metadata"]["namespace"] = json!(bench.source);
    let made = serde_json::to_value(bench.apply(object).await?)?;
    let found = serde_json::to_value(objects(&bench, &bench.source).get(NAME).await?)?;
    for object in [made, found] {
        let found = health(&object);
        ensure!(found.status == "Progressing" && found.message.starts_with("NotObserved: "), "{found:?}");
        ensure!(kstatus(&object) == "InProgress", "{}", object["status"]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_takes_the_example_of_bots_as_it_is() -> Result {
    let cluster = cluster().await?;
    let kubectl = Kubectl::of(cluster);
    let namespace = cluster.namespace("gitops-example").await?;
    for (name, text) in [
        ("identity", include_str!("../../gitops/example/secrets/1-identity.yaml")),
        ("store", include_str!("../../gitops/example/secrets/2-store.yaml")),
        ("BotSecret", include_str!("../../gitops/example/secrets/3-botsecret.yaml")),
        ("workload", include_str!("../../gitops/example/workloads/deployment.yaml")),
    ] {
        let text = text.replace("namespace: trading", &format!("namespace: {namespace}"));
        let (well, said) = wait_for(name, Duration::from_secs(30), async || {
            let apply = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];
            let (well, said) = kubectl.attempt(&apply, &text).await;
            // Right after their definition was made, kinds are not yet served everywhere.
            let unknown = ["no matches for kind", "could not find the requested resource"];
            Ok((well || !unknown.iter().any(|words| said.contains(words))).then_some((well, said)))
        })
        .await?;
        ensure!(well && !said.contains("Warning"), "{name}: {said}");
    }
    Ok(())
}
