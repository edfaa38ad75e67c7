//! The control plane: ready, apart from others, counted, and breakable.

use std::time::Duration;

use anyhow::Result;
use botsecret_testbed::{Cluster, ClusterOptions, wait_for};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{Api, DeleteParams, ListParams, PostParams, WatchParams};
use serde_json::json;

const SOON: Duration = Duration::from_mins(1);

fn config_map(name: &str) -> Result<ConfigMap> {
    Ok(serde_json::from_value(json!({"metadata": {"name": name}, "data": {"a": "1"}}))?)
}

#[tokio::test]
async fn two_clusters_run_side_by_side_and_share_nothing() -> Result<()> {
    let (one, two) = tokio::join!(Cluster::start(ClusterOptions::default()), Cluster::start(ClusterOptions::default()));
    let (one, two) = (one?, two?);
    let namespace = one.namespace("here").await?;
    let all: Api<Namespace> = Api::all(two.client()?);
    assert!(all.get_opt(&namespace).await?.is_none());
    let all: Api<Namespace> = Api::all(one.client()?);
    assert!(all.get_opt(&namespace).await?.is_some());
    Ok(())
}

#[tokio::test]
async fn a_dropped_cluster_leaves_no_folder_and_no_server() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions::default()).await?;
    let folder = cluster.folder().to_owned();
    let client = cluster.client()?;
    drop(cluster);
    assert!(!folder.exists());
    assert!(client.apiserver_version().await.is_err());
    Ok(())
}

#[tokio::test]
async fn the_audit_log_says_exactly_what_each_user_asked() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let namespace = cluster.namespace("audit").await?;
    let group = ["system:masters"];
    let someone = cluster.client_as("someone", &group)?;
    let other = cluster.client_as("someone-else", &group)?;
    let maps: Api<ConfigMap> = Api::namespaced(someone.clone(), &namespace);
    maps.create(&PostParams::default(), &config_map("before")?).await?;
    let mark = cluster.audit().mark().await?;
    for number in 0..20 {
        maps.create(&PostParams::default(), &config_map(&format!("map-{number}"))?).await?;
    }
    maps.get("map-3").await?;
    let _ = maps.get_opt("absent").await?;
    maps.list(&ListParams::default()).await?;
    let watch = maps.watch(&WatchParams::default(), "0").await?;
    drop(watch);
    Api::<ConfigMap>::namespaced(other, &namespace).get("map-1").await?;

    let records = cluster.audit().requests_by_since("someone", &mark).await?;
    let count = |verb: &str| records.iter().filter(|record| record.verb == verb).count();
    assert_eq!(count("create"), 20);
    assert_eq!(count("get"), 2);
    assert_eq!(count("list"), 1);
    assert_eq!(count("watch"), 1);
    assert_eq!(records.len(), 24, "{records:#?}");
    let missed = records.iter().find(|record| record.code == 404);
    assert_eq!(missed.map(|record| record.name.as_str()), Some("absent"));
    assert!(records.iter().all(|record| record.namespace == namespace));
    assert_eq!(cluster.audit().requests_by_since("someone-else", &mark).await?.len(), 1);
    assert_eq!(cluster.audit().requests_by("someone").await?.len(), 25);
    Ok(())
}

#[tokio::test]
async fn a_user_without_a_binding_may_do_nothing() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let nobody = cluster.client_as("nobody", &[])?;
    let answer = Api::<Namespace>::all(nobody).list(&ListParams::default()).await;
    assert!(matches!(answer, Err(kube::Error::Api(status)) if status.code == 403));
    Ok(())
}

#[tokio::test]
async fn the_api_server_goes_down_and_comes_back_with_its_data() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions::default()).await?;
    let namespace = cluster.namespace("kept").await?;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client()?, &namespace);
    maps.create(&PostParams::default(), &config_map("kept")?).await?;
    cluster.stop_api_server().await?;
    assert!(maps.get("kept").await.is_err());
    cluster.start_api_server().await?;
    maps.get("kept").await?;
    cluster.kill_api_server().await?;
    assert!(maps.get("kept").await.is_err());
    cluster.start_api_server().await?;
    maps.get("kept").await?;
    Ok(())
}

#[tokio::test]
async fn nothing_is_collected_while_the_controller_manager_is_down() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions::default()).await?;
    let namespace = cluster.namespace("gone").await?;
    let all: Api<Namespace> = Api::all(cluster.client()?);
    cluster.stop_controller_manager().await?;
    all.delete(&namespace, &DeleteParams::default()).await?;
    assert!(all.get_opt(&namespace).await?.is_some());
    cluster.start_controller_manager().await?;
    wait_for("the namespace to be gone", SOON, || async { Ok(all.get_opt(&namespace).await?.is_none().then_some(())) })
        .await
}

#[tokio::test]
async fn masses_of_pods_run_on_kwok_beside_real_processes() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions { process_nodes: 1, kwok_nodes: 3 }).await?;
    let namespace = cluster.namespace("masses").await?;
    let mut pod = json!({"containers": [{"name": "main", "image": "nothing"}]});
    for (key, value) in botsecret_testbed::kwok_placement().as_object().into_iter().flatten() {
        pod[key] = value.clone();
    }
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "masses"},
        "spec": {
            "replicas": 50,
            "selector": {"matchLabels": {"app": "masses"}},
            "template": {"metadata": {"labels": {"app": "masses"}}, "spec": pod},
        },
    }))?;
    let deployments: Api<Deployment> = Api::namespaced(cluster.client()?, &namespace);
    deployments.create(&PostParams::default(), &deployment).await?;
    wait_for("50 ready replicas", SOON, || async {
        let status = deployments.get("masses").await?.status.unwrap_or_default();
        Ok((status.ready_replicas == Some(50)).then_some(()))
    })
    .await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client()?, &namespace);
    let pods = pods.list(&ListParams::default()).await?;
    let nodes = pods.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.clone());
    assert!(nodes.into_iter().all(|node| node.starts_with("kwok-")));
    Ok(())
}
