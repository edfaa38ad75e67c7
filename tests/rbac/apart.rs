//! Rights that are of no namespace: to the cluster's stores, and to the definition of
//! Rollouts. On a cluster of their own, one after another, since these tests see each
//! other's BotSecrets, and Argo Rollouts is not installed there.

use anyhow::ensure;
use botsecret_testbed::{AuditRecord, Cluster, ClusterOptions, wait_for};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams},
};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::{
    blind::later_is_not_seen,
    right::Right,
    scene::Scene,
    support::{DEADLINE, Result, install},
    unready::becomes_ready_with_it_alone,
};

const DEFINITION: &str = "rollouts.argoproj.io";

/// The cluster, for one test at a time.
async fn turn() -> Result<(&'static Cluster, MutexGuard<'static, ()>)> {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    static TURN: Mutex<()> = Mutex::const_new(());
    let turn = TURN.lock().await;
    let start = || async {
        let cluster = Cluster::start(ClusterOptions { process_nodes: 0, ..ClusterOptions::default() }).await?;
        install(&cluster).await?;
        anyhow::Ok(cluster)
    };
    Ok((CLUSTER.get_or_try_init(start).await?, turn))
}

pub async fn it_is_never_ready(right: Right) -> Result {
    let (cluster, _turn) = turn().await?;
    let mut scene = Scene::on(cluster, right, true, &[]).await?;
    becomes_ready_with_it_alone(&mut scene).await
}

pub async fn a_new_store_is_not_seen(right: Right) -> Result {
    let (cluster, _turn) = turn().await?;
    let mut scene = Scene::on(cluster, right, true, &[]).await?;
    scene.begin().await?;
    later_is_not_seen(&scene).await
}

/// The operator cannot know that there are none, and tries to list them.
pub async fn rollouts_are_asked_for_that_are_not_there(right: Right) -> Result {
    let (cluster, _turn) = turn().await?;
    let mut scene = begun_without_rollouts(cluster, right).await?;
    wait_for("Rollouts to be asked for in vain", DEADLINE, async || {
        let codes: Vec<_> = of_rollouts(&scene).await?.iter().map(|request| request.code).collect();
        ensure!(codes.len() >= 3 && codes.iter().all(|code| *code == 404), "{codes:?}");
        Ok(Some(()))
    })
    .await?;
    scene.give().await?;
    // From a new start, so that it is not the next try which is waited for.
    scene.bench.operator.terminate().await?;
    let before = of_rollouts(&scene).await?.len();
    scene.begin().await?;
    scene.bench.until_more_reads(3).await?;
    let asked = of_rollouts(&scene).await?.len() - before;
    ensure!(asked == 0, "asked for {asked} times, though there are none");
    finds_rollouts(&scene).await
}

/// The operator knows that there are none, and not that this changes.
pub async fn rollouts_that_come_later_are_not_seen(right: Right) -> Result {
    let (cluster, _turn) = turn().await?;
    let scene = begun_without_rollouts(cluster, right).await?;
    cluster.install_argo_definitions().await?;
    scene.goes_on_without().await?;
    let asked = of_rollouts(&scene).await?;
    ensure!(asked.is_empty(), "they were seen: {asked:?}");
    scene.give().await?;
    finds_rollouts(&scene).await
}

async fn begun_without_rollouts(cluster: &'static Cluster, right: Right) -> Result<Scene> {
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client()?);
    if definitions.get_opt(DEFINITION).await?.is_some() {
        definitions.delete(DEFINITION, &DeleteParams::default()).await?;
    }
    // It is served for a moment longer than it is there.
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Rollout"));
    let rollouts: Api<DynamicObject> = Api::all_with(cluster.client()?, &kind);
    wait_for("Rollouts not to be served", DEADLINE, async || {
        let listed = rollouts.list(&ListParams::default()).await;
        Ok(matches!(listed, Err(kube::Error::Api(status)) if status.code == 404).then_some(()))
    })
    .await?;
    let mut scene = Scene::on(cluster, right, false, &[]).await?;
    scene.begin().await?;
    Ok(scene)
}

/// What the operator asked about Rollouts.
async fn of_rollouts(scene: &Scene) -> Result<Vec<AuditRecord>> {
    let mut requests = scene.requests().await?;
    requests.retain(|request| request.resource == "rollouts");
    Ok(requests)
}

async fn finds_rollouts(scene: &Scene) -> Result {
    scene.bench.cluster.install_argo_definitions().await?;
    wait_for("Rollouts to be watched", DEADLINE, async || {
        let asked = of_rollouts(scene).await?;
        Ok(asked.iter().any(|request| request.verb == "watch" && request.code == 200).then_some(()))
    })
    .await?;
    scene.end().await
}
