//! Operators that are gone, that do not lead, and that have a fault.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use botsecret::{
    fetch::{Fetcher, KubeCredentials, KubeTokens},
    runtime::{Part, run_in},
    stores::{ClusterEndpoint, HttpClients},
};
use hyper::{Method, Request};
use k8s_openapi::{
    api::{coordination::v1::Lease, rbac::v1::Role},
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
    client::Body,
};
use serde_json::json;
use tokio::{net::TcpListener, sync::oneshot};
use tower::BoxError;

use crate::{
    common::{NAME, SOURCE, rotate},
    scraper::{Scene, Scraper, number},
    support::{Bench, Operator, OperatorOptions, Result, role},
};

/// A BotSecret for the operator to look after.
async fn one(bench: &Bench) -> Result {
    bench.kubernetes_store("source").await?;
    rotate(bench, "1").await?;
    bench.apply(bench.bot_secret(NAME, SOURCE)).await.map(drop)
}

/// The only process is killed, and none follows.
pub async fn dead() -> Result<Scene> {
    let mut bench = Bench::new("alert-dead").await?;
    one(&bench).await?;
    let scraper = Scraper::of(&bench)?;
    let healthy = scraper.healthy().await?;
    bench.operator.kill().await?;
    scraper.go_on(Duration::from_secs(10)).await;
    Ok(scraper.scene(healthy, Duration::ZERO))
}

/// The bench's operator, begun anew as one of several replicas.
async fn elected(bench: &mut Bench) -> Result {
    bench.operator.kill().await?;
    let user = bench.operator.user().to_owned();
    let mut leader: Role = role("Role")?;
    leader.metadata.namespace = None;
    bench.apply(serde_json::to_value(leader)?).await?;
    let group = "rbac.authorization.k8s.io";
    bench
        .apply(json!({
            "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": { "name": "leader" },
            "roleRef": { "apiGroup": group, "kind": "Role", "name": "botsecret-leader" },
            "subjects": [{ "apiGroup": group, "kind": "User", "name": user }],
        }))
        .await?;
    let options = OperatorOptions {
        user,
        namespaces: vec![bench.namespace.clone()],
        own_namespace: bench.namespace.clone(),
        kubeconfig: None,
        folder: bench.folder().to_owned(),
    };
    let more = ["--leader-elect", "--pod-uid", "operator-1"];
    bench.operator = Operator::start_with(bench.cluster, &options, &more).await?;
    Ok(())
}

/// Somebody else takes the Lease, for an hour: the leader ends, and stands by from then
/// on.
pub async fn leaderless() -> Result<Scene> {
    let mut bench = Bench::new("alert-leaderless").await?;
    elected(&mut bench).await?;
    one(&bench).await?;
    let scraper = Scraper::of(&bench)?;
    scraper.until("a leader", |answer| number(answer, "botsecret_leader") >= 1.0).await?;
    let healthy = scraper.healthy().await?;
    let api: Api<Lease> = Api::namespaced(bench.client.clone(), &bench.namespace);
    let theirs = json!({ "spec": { "holderIdentity": "somebody", "leaseDurationSeconds": 3600 } });
    api.patch("botsecret", &PatchParams::default(), &Patch::Merge(theirs)).await?;
    ensure!(scraper.during(bench.operator.until_ended()).await? == Some(1), "it goes on without the Lease");
    // As its container does.
    bench.operator.start_again().await?;
    let stands_by = |answer: &str| answer.contains("\nbotsecret_leader 0\n");
    scraper.until("an operator that stands by", stands_by).await?;
    Ok(scraper.scene(healthy, Duration::ZERO))
}

/// A pass ends in a panic. A defect of which nobody knows cannot be had, so one is planted
/// where the operator's requests leave it; hence it runs in the test's own process.
pub async fn faulty() -> Result<Scene> {
    let mut bench = Bench::new("alert-faulty").await?;
    bench.operator.kill().await?;
    let (planted, client) = (Arc::new(AtomicBool::new(false)), bench.cluster.client_as(bench.operator.user(), &[])?);
    let trap = planted.clone();
    let api = tower::service_fn(move |request: Request<Body>| {
        let (trap, client) = (trap.clone(), client.clone());
        async move {
            let is_status = request.method() == Method::PATCH && request.uri().path().ends_with("/status");
            assert!(!is_status || !trap.swap(false, SeqCst), "planted by the test");
            client.send(request).await.map_err(BoxError::from)
        }
    });
    let ca_pem = Some(bench.cluster.ca_pem().to_owned());
    let endpoint = ClusterEndpoint { url: bench.cluster.url().to_owned(), ca_pem, ca_file: None };
    let managers = |client: kube::Client| {
        let tokens = Arc::new(KubeTokens::new(client.clone()));
        Fetcher::new(tokens, Arc::new(KubeCredentials::new(client)), HttpClients::new(endpoint))
    };
    let part = Part {
        namespaces: vec![bench.namespace.clone()],
        operator_namespace: bench.namespace.clone(),
        ..Part::default()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/metrics", listener.local_addr()?);
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async {
        let _ = stopped.await;
    };
    let operator = tokio::spawn(run_in(api, managers, Timestamp::now, part, Some(listener), stopped));
    one(&bench).await?;
    let scraper = Scraper::new(&bench, url, "operator-1")?;
    let healthy = scraper.healthy().await?;
    planted.store(true, SeqCst);
    rotate(&bench, "2").await?;
    let is_told = |answer: &str| number(answer, "botsecret_reconcile_panics_total") >= 1.0;
    scraper.until("a pass that ended in a panic", is_told).await?;
    let _ = stop.send(());
    operator.await.context("the operator itself panicked")??;
    Ok(scraper.scene(healthy, Duration::ZERO))
}
