//! The cluster that all runs share, and one run's place in it.

use std::collections::BTreeMap;

use anyhow::Context;
use botsecret_testbed::{Cluster, ClusterOptions};
use k8s_openapi::{
    ByteString,
    api::{apps::v1::Deployment, core::v1::Secret, rbac::v1::Role},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, ObjectMeta, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::support::{Result, canary::Canary, install, role};

pub const BOT_SECRET: &str = "price-bot";
pub const DEPLOYMENTS: [(&str, i32); 2] = [("web", 2), ("worker", 1)];
/// How many versions the source has in a run.
pub const VERSIONS: usize = 3;

pub type Data = BTreeMap<String, Vec<u8>>;

/// The cluster of this test binary, and the namespace that all sources lie in.
pub async fn ground() -> Result<&'static (Cluster, String)> {
    static GROUND: OnceCell<(Cluster, String)> = OnceCell::const_new();
    GROUND
        .get_or_try_init(|| async {
            let cluster = Cluster::start(ClusterOptions { process_nodes: 0, kwok_nodes: 2 }).await?;
            install(&cluster).await?;
            let sources = cluster.namespace("sources").await?;
            let reader = json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": { "name": "reader" },
                "rules": [{ "apiGroups": [""], "resources": ["secrets"], "verbs": ["get"] }],
            });
            apply(&cluster.client()?, &sources, reader).await?;
            Ok((cluster, sources))
        })
        .await
}

async fn apply(client: &Client, namespace: &str, object: Value) -> Result {
    let object: DynamicObject = serde_json::from_value(object)?;
    let types = object.types.clone().context("no kind")?;
    let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types)?);
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    api.patch(&object.name_any(), &PatchParams::apply("person").force(), &Patch::Apply(&object)).await?;
    Ok(())
}

/// One run's namespace, and the values that its source holds one after another.
pub struct Scene {
    pub client: Client,
    pub namespace: String,
    sources: String,
    versions: Vec<Data>,
}

impl Scene {
    pub async fn new(cluster: &Cluster, sources: &str) -> Result<Self> {
        let namespace = cluster.namespace("run").await?;
        let value = |name: &str| (name.to_owned(), Canary::random_text().into_bytes());
        // Whatever is half written shows: no two versions share a value.
        let versions = (0..VERSIONS).map(|_| [value("KEY"), value("TOKEN")].into_iter().collect()).collect();
        Ok(Self { client: cluster.client()?, namespace, sources: sources.to_owned(), versions })
    }

    /// Everything that people make: source, store, identity, workloads, BotSecret.
    pub async fn set(&self) -> Result {
        self.rotate(1).await?;
        let apply = |object| apply(&self.client, &self.namespace, object);
        apply(json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "bot" } })).await?;
        self::apply(
            &self.client,
            &self.sources,
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": { "name": self.namespace },
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader" },
                "subjects": [{ "kind": "ServiceAccount", "name": "bot", "namespace": self.namespace }],
            }),
        )
        .await?;
        apply(json!({
            "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecretStore", "metadata": { "name": "source" },
            "spec": { "kubernetes": { "remoteNamespace": self.sources } },
        }))
        .await?;
        for (name, replicas) in DEPLOYMENTS {
            apply(deployment(name, replicas)).await?;
        }
        apply(json!({
            "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret", "metadata": { "name": BOT_SECRET },
            "spec": {
                "serviceAccountName": "bot", "storeRef": { "name": "source" }, "refreshInterval": "1s",
                "dataFrom": [{ "extract": { "key": self.namespace } }],
                "rollout": { "healthyFor": "1s" },
            },
        }))
        .await
    }

    /// Lets this user take part in an election, as the manifests' Role does.
    pub async fn let_lead(&self, user: &str) -> Result {
        let mut leader: Role = role("Role")?;
        leader.metadata.namespace = None;
        let name = leader.name_any();
        apply(&self.client, &self.namespace, serde_json::to_value(leader)?).await?;
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": { "name": "leader" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
        });
        apply(&self.client, &self.namespace, binding).await
    }

    /// What a version holds, counted from 1.
    pub fn version(&self, number: usize) -> &Data {
        &self.versions[number - 1]
    }

    /// Which version this is.
    pub fn version_of(&self, data: &Data) -> Option<usize> {
        self.versions.iter().position(|version| version == data).map(|at| at + 1)
    }

    /// What nobody may log.
    pub fn values(&self) -> Canary {
        Canary::of(self.versions.iter().flat_map(BTreeMap::values).map(Vec::as_slice))
    }

    /// Makes the source hold this version.
    pub async fn rotate(&self, number: usize) -> Result {
        let data = self.version(number).iter().map(|(key, value)| (key.clone(), ByteString(value.clone())));
        let secret = Secret {
            metadata: ObjectMeta { name: Some(self.namespace.clone()), ..ObjectMeta::default() },
            data: Some(data.collect()),
            ..Secret::default()
        };
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.sources);
        api.patch(&self.namespace, &PatchParams::apply("person").force(), &Patch::Apply(&secret)).await?;
        Ok(())
    }

    /// Somebody edits the target, behind the operator's back.
    pub async fn drift(&self) -> Result {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let edit = json!({ "stringData": { "KEY": DRIFT } });
        api.patch(BOT_SECRET, &PatchParams::default(), &Patch::Merge(edit)).await?;
        Ok(())
    }

    /// Takes the workloads away: what hundreds of runs leave would slow the later ones.
    pub async fn leave(&self) -> Result {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        api.delete_collection(&DeleteParams::background(), &ListParams::default()).await?;
        Ok(())
    }
}

/// What the one who edits the target writes.
pub const DRIFT: &str = "edited";

fn deployment(name: &str, replicas: i32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": {
                    // kwok's pods run nothing and start at once.
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "bot", "image": "bot", "envFrom": [{ "secretRef": { "name": BOT_SECRET } }],
                    }],
                },
            },
        },
    })
}
