//! Namespaces, nodes and the bits of RBAC that a bare cluster lacks.

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::PATIENCE;
use crate::{ports, wait_for};

/// The label that says what runs a node's pods.
pub(crate) const RUNTIME: &str = "testbed.botsecret.dev/runtime";
/// As in kwok's own documentation.
const KWOK_TAINT: &str = "kwok.x-k8s.io/node";

/// `nodeSelector` and `tolerations` that bring a pod to kwok's nodes.
#[must_use]
pub fn kwok_placement() -> Value {
    json!({
        "nodeSelector": {RUNTIME: "kwok"},
        "tolerations": [{"key": KWOK_TAINT, "operator": "Exists", "effect": "NoSchedule"}],
    })
}

/// Lets OpenBao's JWT engine, as any stranger, read the keys of tokens.
pub(super) async fn allow_anonymous_discovery(client: &Client) -> Result<()> {
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    let binding = serde_json::from_value(json!({
        "metadata": {"name": "testbed:anonymous-issuer-discovery"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "system:service-account-issuer-discovery",
        },
        "subjects": [{
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "Group",
            "name": "system:unauthenticated",
        }],
    }))?;
    bindings.create(&PostParams::default(), &binding).await?;
    Ok(())
}

/// Until pods can be made there and find the API server's certificate.
pub(super) async fn wait_for_namespace(client: &Client, name: &str) -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), name);
    let configs: Api<ConfigMap> = Api::namespaced(client.clone(), name);
    wait_for(&format!("namespace {name} to be ready for pods"), PATIENCE, || async {
        let account = accounts.get_opt("default").await?;
        let authority = configs.get_opt("kube-root-ca.crt").await?;
        Ok(account.and(authority).map(drop))
    })
    .await
}

pub(super) async fn create_namespace(client: &Client, prefix: &str) -> Result<String> {
    let name = format!("{prefix}-{}", ports::random_name(6));
    let namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
    Api::<Namespace>::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await
        .with_context(|| format!("namespace {name}"))?;
    wait_for_namespace(client, &name).await?;
    Ok(name)
}

/// Registers a node and takes away the taint that admission puts on new ones.
pub(crate) async fn register(client: &Client, name: &str, runtime: &str, taint: bool) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let node = serde_json::from_value(json!({
        "metadata": {
            "name": name,
            "labels": {RUNTIME: runtime, "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
        },
    }))?;
    nodes.create(&PostParams::default(), &node).await?;
    let taints = if taint { json!([{"key": KWOK_TAINT, "value": "fake", "effect": "NoSchedule"}]) } else { json!([]) };
    let patch = json!({"spec": {"taints": taints}});
    let params = PatchParams::default();
    nodes.patch(name, &params, &Patch::Merge(&patch)).await?;
    let room = json!({"cpu": "64", "memory": "64Gi", "pods": "5000", "ephemeral-storage": "64Gi"});
    let now = k8s_openapi::jiff::Timestamp::now().to_string();
    let status = json!({"status": {
        "capacity": room,
        "allocatable": room,
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "KubeletReady",
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        }],
    }});
    nodes.patch_status(name, &params, &Patch::Merge(&status)).await?;
    Ok(())
}

pub(super) async fn add_kwok(client: &Client, count: usize, taint: bool) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let selector = format!("{RUNTIME}=kwok");
    let params = kube::api::ListParams::default().labels(&selector);
    let first = nodes.list_metadata(&params).await?.items.len() + 1;
    let names = (first..first + count).map(|number| format!("kwok-{number}"));
    let added: Vec<Result<()>> = futures::stream::iter(names)
        .map(|name| async move { register(client, &name, "kwok", taint).await })
        .buffer_unordered(8)
        .collect()
        .await;
    added.into_iter().collect()
}
