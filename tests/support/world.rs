//! A namespace with an operator of its own, and what tests do in it.

use std::time::Duration;

use anyhow::{Context, bail};
use botsecret::api::BotSecret;
use botsecret_testbed::{Cluster, Kubelet, wait_for};
use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::Deployment,
        core::v1::{Event, Secret},
        rbac::v1::ClusterRole,
    },
};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams},
};
use serde::Deserialize as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Operator, OperatorOptions, Proxy, Result, cluster};

/// How long a condition may take to come true before a test fails.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A test's bench: namespace, operator, clients.
pub struct Bench {
    pub cluster: &'static Cluster,
    pub client: Client,
    pub namespace: String,
    /// The namespace in which the `kubernetes` store's source Secrets lie.
    pub source: String,
    pub operator: Operator,
    folder: TempDir,
}

impl Bench {
    /// A new namespace on the shared cluster, and an operator for it alone.
    pub async fn new(name: &str) -> Result<Self> {
        Ok(Self::start(cluster().await?, name, false).await?.0)
    }

    /// The same on another cluster, on which the CRDs are installed.
    pub async fn on(cluster: &'static Cluster, name: &str) -> Result<Self> {
        Ok(Self::start(cluster, name, false).await?.0)
    }

    /// The same with a proxy between operator and API server.
    pub async fn behind_proxy(name: &str) -> Result<(Self, Proxy)> {
        let (bench, proxy) = Self::start(cluster().await?, name, true).await?;
        Ok((bench, proxy.context("no proxy was started")?))
    }

    async fn start(cluster: &'static Cluster, name: &str, behind_proxy: bool) -> Result<(Self, Option<Proxy>)> {
        let namespace = cluster.namespace(name).await?;
        let source = cluster.namespace(&format!("{name}-source")).await?;
        let folder = tempfile::tempdir()?;
        let user = format!("operator:{namespace}");
        let proxy = if behind_proxy { Some(Proxy::start(cluster, &user, folder.path()).await?) } else { None };
        let options = OperatorOptions {
            user,
            namespaces: vec![namespace.clone()],
            own_namespace: namespace.clone(),
            kubeconfig: proxy.as_ref().map(Proxy::kubeconfig),
            folder: folder.path().to_owned(),
        };
        let operator = Operator::start(cluster, &options).await?;
        let bench = Self::of(cluster, [namespace, source], operator, folder).await?;
        Ok((bench, proxy))
    }

    /// Of parts that the test made: the two namespaces, an operator, which need not
    /// run yet, and the folder that its files are in.
    pub async fn of(
        cluster: &'static Cluster,
        [namespace, source]: [String; 2],
        operator: Operator,
        folder: TempDir,
    ) -> Result<Self> {
        let bench = Self { cluster, client: cluster.client()?, namespace, source, operator, folder };
        bench.account("bot").await?;
        Ok(bench)
    }

    /// Where this test may keep files.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The kubelet whose processes are this cluster's bots.
    pub fn kubelet(&self) -> Result<Kubelet> {
        self.cluster.kubelet()
    }

    /// Applies any object, as a person would.
    pub async fn apply(&self, object: Value) -> Result<DynamicObject> {
        let object: DynamicObject = serde_json::from_value(object)?;
        let types = object.types.clone().context("no kind")?;
        let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types)?);
        let namespace = object.namespace().unwrap_or_else(|| self.namespace.clone());
        let cluster_wide = types.kind.starts_with("Cluster");
        let api: Api<DynamicObject> = if cluster_wide {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), &namespace, &resource)
        };
        Ok(api.patch(&object.name_any(), &PatchParams::apply("person").force(), &Patch::Apply(&object)).await?)
    }

    /// Grants the operator in this namespace what a manifest of `deploy/` grants
    /// beyond the installation.
    pub async fn grant_also(&self, manifest: &str) -> Result {
        let mut documents = serde_yaml::Deserializer::from_str(manifest);
        let role = ClusterRole::deserialize(documents.next().context("an empty manifest")?)?;
        let name = role.name_any();
        let roles: Api<ClusterRole> = Api::all(self.client.clone());
        roles.patch(&name, &PatchParams::apply("tests").force(), &Patch::Apply(&role)).await?;
        let group = "rbac.authorization.k8s.io";
        let binding = json!({
            "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": { "name": name },
            "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": name },
            "subjects": [{ "apiGroup": group, "kind": "User", "name": self.operator.user() }],
        });
        self.apply(binding).await.map(drop)
    }

    /// A ServiceAccount that may read the source namespace's Secrets.
    pub async fn account(&self, name: &str) -> Result {
        self.apply(json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name } })).await?;
        self.apply(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": { "name": "reader", "namespace": self.source },
            "rules": [{ "apiGroups": [""], "resources": ["secrets"], "verbs": ["get"] }],
        }))
        .await?;
        self.apply(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": { "name": format!("{}-{name}", self.namespace), "namespace": self.source },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader" },
            "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": self.namespace }],
        }))
        .await?;
        Ok(())
    }

    /// Writes a source Secret, whole.
    pub async fn put_source(&self, name: &str, data: &[(&str, &str)]) -> Result {
        let data: Vec<_> = data.iter().map(|(key, value)| (*key, value.as_bytes())).collect();
        self.put_source_bytes(name, &data).await
    }

    /// The same with any bytes.
    pub async fn put_source_bytes(&self, name: &str, data: &[(&str, &[u8])]) -> Result {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.source);
        for (_, value) in data {
            super::canary::watch(value);
        }
        let data = data.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.to_vec()))).collect();
        let secret = Secret {
            metadata: kube::api::ObjectMeta { name: Some(name.to_owned()), ..Default::default() },
            data: Some(data),
            ..Secret::default()
        };
        match api.get_opt(name).await? {
            None => drop(api.create(&PostParams::default(), &secret).await?),
            Some(live) => {
                let mut secret = secret;
                secret.metadata.resource_version = live.metadata.resource_version;
                api.replace(name, &PostParams::default(), &secret).await?;
            }
        }
        Ok(())
    }

    /// The store that reads the source namespace.
    pub async fn kubernetes_store(&self, name: &str) -> Result {
        self.apply(json!({
            "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecretStore", "metadata": { "name": name },
            "spec": { "kubernetes": { "remoteNamespace": self.source } },
        }))
        .await?;
        Ok(())
    }

    /// A BotSecret of account `bot` that extracts `source` whole.
    pub fn bot_secret(&self, name: &str, source: &str) -> Value {
        json!({
            "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret", "metadata": { "name": name },
            "spec": {
                "serviceAccountName": "bot",
                "storeRef": { "name": "source" },
                "refreshInterval": "1s",
                "dataFrom": [{ "extract": { "key": source } }],
                // Ten seconds by default: tests need not watch for so long.
                "rollout": { "healthyFor": "1s" },
            },
        })
    }

    /// A Deployment of real processes which print the key REVISION that their
    /// environment holds, and end at SIGTERM.
    pub fn bot(&self, name: &str, secret: &str, replicas: i32) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
            "spec": {
                "replicas": replicas,
                "selector": { "matchLabels": { "app": name } },
                "template": {
                    "metadata": { "labels": { "app": name } },
                    "spec": {
                        "nodeSelector": { "testbed.botsecret.dev/runtime": "process" },
                        "terminationGracePeriodSeconds": 2,
                        "containers": [{
                            "name": "bot", "image": "sh",
                            "command": ["sh", "-c", "trap 'exit 0' TERM; echo holds=$REVISION; while :; do sleep 0.1; done"],
                            "envFrom": [{ "secretRef": { "name": secret } }],
                        }],
                    },
                },
            },
        })
    }

    pub fn bot_secrets(&self) -> Api<BotSecret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The events about one BotSecret: reason and note.
    pub async fn events(&self, name: &str) -> Result<Vec<(String, String)>> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let events = api.list(&ListParams::default()).await?;
        let about = events.into_iter().filter(|event| event.involved_object.name.as_deref() == Some(name));
        Ok(about.map(|event| (event.reason.unwrap_or_default(), event.message.unwrap_or_default())).collect())
    }

    /// The condition of this type, if it is there: status, reason, message.
    pub async fn condition(&self, name: &str, type_: &str) -> Result<Option<(String, String, String)>> {
        let object = self.bot_secrets().get(name).await?;
        let conditions = object.status.map(|status| status.conditions).unwrap_or_default();
        let found = conditions.into_iter().find(|condition| condition.type_ == type_);
        Ok(found.map(|condition| (condition.status, condition.reason, condition.message)))
    }

    /// Waits until a BotSecret is not Ready for this reason, for its current
    /// generation, and answers the message.
    pub async fn until_failing(&self, name: &str, reason: &str) -> Result<String> {
        wait_for(&format!("BotSecret {name} to fail with {reason}"), DEADLINE, async || {
            let object = self.bot_secrets().get(name).await?;
            let conditions = object.status.iter().flat_map(|status| &status.conditions);
            match conditions.into_iter().find(|condition| condition.type_ == "Ready") {
                Some(ready)
                    if ready.status == "False"
                        && ready.reason == reason
                        && ready.observed_generation == object.metadata.generation =>
                {
                    Ok(Some(ready.message.clone()))
                }
                Some(ready) => bail!("Ready is {}: {} {}", ready.status, ready.reason, ready.message),
                None => bail!("it has no condition Ready"),
            }
        })
        .await
    }

    /// How often a manager was asked: grows with each refresh, to wait on
    /// where nothing else moves.
    pub async fn reads(&self) -> Result<u64> {
        let metrics = self.operator.metrics().await?;
        let line = metrics.lines().find_map(|line| line.strip_prefix("botsecret_store_reads_total "));
        Ok(line.and_then(|text| text.trim().parse().ok()).unwrap_or(0))
    }

    /// Waits until a manager was asked so many more times.
    pub async fn until_more_reads(&self, more: u64) -> Result {
        let start = self.reads().await?;
        wait_for(&format!("{more} more reads"), DEADLINE, async || {
            Ok((self.reads().await? >= start + more).then_some(()))
        })
        .await
    }

    /// Waits until a condition of a BotSecret has this status, for its current
    /// generation, and answers reason and message.
    pub async fn until_condition(&self, name: &str, type_: &str, status: &str) -> Result<(String, String)> {
        let what = format!("BotSecret {name} to be {type_}={status}");
        wait_for(&what, DEADLINE, async || {
            let object = self.bot_secrets().get(name).await?;
            let conditions = object.status.map(|status| status.conditions).unwrap_or_default();
            match conditions.into_iter().find(|condition| condition.type_ == type_) {
                Some(found) if found.status == status && found.observed_generation == object.metadata.generation => {
                    Ok(Some((found.reason, found.message)))
                }
                Some(found) => bail!("it is {}: {} {}", found.status, found.reason, found.message),
                None => bail!("it has no such condition"),
            }
        })
        .await
    }

    /// The text of one key of a Secret.
    pub async fn value(&self, secret: &str, key: &str) -> Result<Option<String>> {
        let secret = self.secrets().get_opt(secret).await?;
        let data = secret.and_then(|secret| secret.data).unwrap_or_default();
        Ok(data.get(key).map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned()))
    }

    /// Whether there is a Secret of this name with anything in it.
    pub async fn holds_anything(&self, secret: &str) -> Result<bool> {
        let secret = self.secrets().get_opt(secret).await?;
        Ok(secret.and_then(|secret| secret.data).is_some_and(|data| !data.is_empty()))
    }

    /// Waits until there is no Secret of this name.
    pub async fn until_no_secret(&self, name: &str) -> Result {
        wait_for(&format!("Secret {name} to go"), DEADLINE, async || {
            Ok(self.secrets().get_opt(name).await?.is_none().then_some(()))
        })
        .await
    }

    /// Waits until a key of a Secret holds this text.
    pub async fn until_value(&self, secret: &str, key: &str, wanted: &str) -> Result {
        wait_for(&format!("{secret}'s {key} to be {wanted}"), DEADLINE, async || {
            let value = self.value(secret, key).await?;
            Ok((value.as_deref() == Some(wanted)).then_some(()))
        })
        .await
    }

    /// The revisions that the live processes of a bot printed, newest line of
    /// each.
    pub fn holdings(&self, app: &str) -> Result<Vec<String>> {
        let kubelet = self.kubelet()?;
        let mut held = Vec::new();
        for process in kubelet.processes() {
            if process.namespace != self.namespace || !process.pod.starts_with(&format!("{app}-")) {
                continue;
            }
            let log = kubelet.logs(&process.namespace, &process.pod, &process.container)?;
            held.push(log.lines().rev().find_map(|line| line.strip_prefix("holds=")).unwrap_or("?").to_owned());
        }
        Ok(held)
    }

    /// Waits until exactly `replicas` processes run and each holds `revision`.
    pub async fn until_all_hold(&self, app: &str, replicas: usize, revision: &str) -> Result {
        wait_for(&format!("{replicas} processes of {app} to hold {revision}"), DEADLINE, async || {
            let held = self.holdings(app)?;
            if held.len() == replicas && held.iter().all(|one| one == revision) {
                return Ok(Some(()));
            }
            bail!("they hold {held:?}")
        })
        .await
    }

    /// How many rollouts a Deployment has had: its controller's own count, once
    /// that has seen the template as it is now.
    pub async fn rollouts(&self, deployment: &str) -> Result<i64> {
        wait_for(&format!("the controller to have seen {deployment}"), DEADLINE, async || {
            let deployment = self.deployments().get(deployment).await?;
            let seen = deployment.status.as_ref().and_then(|status| status.observed_generation);
            if seen != deployment.metadata.generation {
                return Ok(None);
            }
            let revision = deployment.annotations().get("deployment.kubernetes.io/revision");
            Ok(Some(revision.and_then(|text| text.parse().ok()).unwrap_or(0)))
        })
        .await
    }
}

/// Waits until the API server's clock, and ours, is in a later second: pods
/// and writes are dated to the second.
pub async fn next_second() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let rest =
        std::time::Duration::from_secs(1).saturating_sub(std::time::Duration::from_nanos(now.subsec_nanos().into()));
    tokio::time::sleep(rest + std::time::Duration::from_millis(20)).await;
}
