//! Bots whose Secrets the chart's operator keeps, and what is counted of them.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, bail, ensure};
use botsecret::api::{ANNOTATION_STATE, BotSecret, State};
use botsecret_testbed::{Cluster, wait_for};
use k8s_openapi::{
    ByteString,
    api::{apps::v1::Deployment, core::v1::Secret},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    kubectl::Kubectl,
    operators::{DEADLINE, Operators, Result, USER},
};

const NAMESPACE: &str = "trading";
/// The BotSecret, its Secret and its source.
pub const NAME: &str = "price-bot";
const SOURCE: &str = "sources";

/// What there is before any bot.
const PLACE: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: sources}
---
apiVersion: v1
kind: Secret
metadata: {name: price-bot, namespace: sources}
stringData: {REVISION: "1"}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: sources}
rules: [{apiGroups: [""], resources: [secrets], resourceNames: [price-bot], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: sources}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: bot, namespace: trading}]
---
apiVersion: v1
kind: Namespace
metadata: {name: trading, labels: {botsecret.dev/kubernetes-store: allowed}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: bot, namespace: trading}
---
apiVersion: botsecret.dev/v1alpha1
kind: BotSecretStore
metadata: {name: near, namespace: trading}
spec: {kubernetes: {remoteNamespace: sources}}
"#;

/// By maxConcurrent one workload rolls after another.
const BOT_SECRET: &str = "
apiVersion: botsecret.dev/v1alpha1
kind: BotSecret
metadata: {name: price-bot, namespace: trading}
spec:
  serviceAccountName: bot
  storeRef: {name: near}
  refreshInterval: 1s
  dataFrom: [{extract: {key: price-bot}}]
  rollout: {healthyFor: 1s, maxConcurrent: 1}
";

/// It waits instead of polling.
const COMMAND: &str = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done";

/// A bot that takes its environment from the whole Secret.
pub fn deployment(app: &str, secret: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": app },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "app": app } },
            "strategy": { "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
            "template": {
                "metadata": { "labels": { "app": app } },
                "spec": {
                    "terminationGracePeriodSeconds": 2,
                    "containers": [{
                        "name": "bot", "image": "sh", "command": ["sh", "-c", COMMAND],
                        "envFrom": [{ "secretRef": { "name": secret } }],
                    }],
                },
            },
        },
    })
}

/// One that serves with a revision when this folder has a file of that name: its
/// rollout stays in the middle until then.
pub fn gated(app: &str, secret: &str, folder: &Path) -> Value {
    let mut object = deployment(app, secret);
    let pod = &mut object["spec"]["template"]["spec"];
    pod["volumes"] = json!([{ "name": "gate", "hostPath": { "path": folder } }]);
    let container = &mut pod["containers"][0];
    container["volumeMounts"] = json!([{ "name": "gate", "mountPath": "/gate" }]);
    container["readinessProbe"] = json!({
        "exec": { "command": ["sh", "-c", "test -e /gate/$REVISION"] },
        "periodSeconds": 1, "failureThreshold": 3, "timeoutSeconds": 20,
    });
    object
}

/// A BotSecret and its Secret, as far as neither may be lost.
#[derive(PartialEq)]
pub struct Kept {
    pub uids: [Option<String>; 2],
    data: BTreeMap<String, ByteString>,
}

impl Kept {
    /// The text of a key.
    pub fn text(&self, key: &str) -> Result<String> {
        let value = self.data.get(key).with_context(|| format!("no key {key}"))?;
        Ok(String::from_utf8(value.0.clone())?)
    }
}

pub struct Bots<'a> {
    cluster: &'a Cluster,
    operators: &'a Operators,
    kubectl: Kubectl,
    client: Client,
}

impl<'a> Bots<'a> {
    /// These bots with source, store and BotSecret, at revision 1.
    pub async fn new(cluster: &'a Cluster, operators: &'a Operators, workloads: &[Value]) -> Result<Self> {
        let bots = Self { cluster, operators, kubectl: Kubectl::of(cluster), client: cluster.client()? };
        bots.kubectl.run(&["apply", "-f", "-"], PLACE).await;
        for workload in workloads {
            bots.apply(workload).await;
        }
        bots.kubectl.run(&["apply", "-f", "-"], BOT_SECRET).await;
        bots.until_ready(NAME).await;
        Ok(bots)
    }

    /// Applies an object of the bots' namespace.
    pub async fn apply(&self, object: &Value) {
        self.kubectl.run(&["apply", "-n", NAMESPACE, "-f", "-"], &object.to_string()).await;
    }

    /// Waits until a BotSecret is Ready.
    pub async fn until_ready(&self, name: &str) {
        let name = format!("bsec/{name}");
        self.kubectl.run(&["wait", "--for=condition=Ready", &name, "-n", NAMESPACE, "--timeout=120s"], "").await;
    }

    /// Makes the source hold this revision.
    pub async fn rotate(&self, revision: &str) -> Result {
        let sources: Api<Secret> = Api::namespaced(self.client.clone(), SOURCE);
        let patch = json!({ "stringData": { "REVISION": revision } });
        sources.patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// The revisions that the processes of a bot were started with.
    pub fn held(&self, app: &str) -> Result<Vec<String>> {
        let prefix = format!("{app}-");
        let mut held = Vec::new();
        for process in self.cluster.kubelet()?.processes() {
            if process.namespace == NAMESPACE && process.pod.starts_with(&prefix) {
                held.push(process.environment()?.remove("REVISION").unwrap_or_default());
            }
        }
        Ok(held)
    }

    async fn until_held(&self, app: &str, wanted: &[&str]) -> Result {
        wait_for(&format!("the processes of {app} to hold {wanted:?}"), DEADLINE, async || {
            let mut held = self.held(app)?;
            held.sort();
            ensure!(held == wanted, "they hold {held:?}");
            Ok(Some(()))
        })
        .await
    }

    /// Waits until all that runs of each bot is one process with this revision.
    pub async fn until_all_hold(&self, apps: &[&str], revision: &str) -> Result {
        for app in apps {
            self.until_held(app, &[revision]).await?;
        }
        Ok(())
    }

    /// Waits until an old and a new process run side by side.
    pub async fn until_midway(&self, app: &str, old: &str, new: &str) -> Result {
        self.until_held(app, &[old, new]).await
    }

    /// Everything is delivered, and stays as it is, after exactly so many rollouts.
    pub async fn delivered(&self, apps: &[&str], revision: &str, rollouts: usize) -> Result {
        self.until_all_hold(apps, revision).await?;
        self.until_rolled_out().await?;
        self.two_more_refreshes().await?;
        self.expect_rollouts(apps, rollouts).await?;
        self.until_all_hold(apps, revision).await
    }

    /// Waits until the status says, of the Secret's present revision, that its
    /// rollout is complete.
    async fn until_rolled_out(&self) -> Result {
        let bot_secrets: Api<BotSecret> = Api::namespaced(self.client.clone(), NAMESPACE);
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), NAMESPACE);
        wait_for("the rollout to be complete", DEADLINE, async || {
            let status = bot_secrets.get(NAME).await?.status.unwrap_or_default();
            let (Some(target), Some(rollout)) = (&status.target, &status.rollout) else { bail!("no rollout yet") };
            let secret = secrets.get(&target.name).await?;
            let state = secret.annotations().get(ANNOTATION_STATE).and_then(|text| State::parse(text));
            let present = state.context("the Secret bears no state")?.revision.to_string();
            let done = rollout.complete && rollout.revision == present && target.revision == present;
            ensure!(done, "{rollout:?}, of {present}");
            Ok(Some(()))
        })
        .await
    }

    /// Waits until the leader has read the source twice more from now on: had it had
    /// anything to do, it would have done it by then.
    async fn two_more_refreshes(&self) -> Result {
        let before = self.reads().await?;
        wait_for("two more refreshes", DEADLINE, async || Ok((self.reads().await? >= before + 3).then_some(()))).await
    }

    async fn reads(&self) -> Result<u64> {
        self.operators.metric(&self.operators.leader().await?, "botsecret_store_reads_total").await
    }

    /// Whether each bot has been rolled exactly so often: by its controller's own
    /// count, and by the patches that the operator made.
    pub async fn expect_rollouts(&self, apps: &[&str], rollouts: usize) -> Result {
        let requests = self.cluster.audit().requests_by(USER).await?;
        for app in apps {
            let patches = requests.iter().filter(|request| {
                request.verb == "patch"
                    && request.resource == "deployments"
                    && request.namespace == NAMESPACE
                    && request.name == *app
                    && (200..300).contains(&request.code)
            });
            let (patches, templates) = (patches.count(), self.templates(app).await?);
            ensure!(
                patches == rollouts && templates == rollouts + 1,
                "{app}: {rollouts} rollouts expected, but its controller counts {templates} templates and the audit log {patches} patches"
            );
        }
        Ok(())
    }

    /// How many templates a Deployment has had, once its controller has seen the one
    /// that it has now.
    async fn templates(&self, app: &str) -> Result<usize> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), NAMESPACE);
        wait_for(&format!("the controller to have seen {app}"), DEADLINE, async || {
            let deployment = deployments.get(app).await?;
            let seen = deployment.status.as_ref().and_then(|status| status.observed_generation);
            if seen != deployment.metadata.generation {
                return Ok(None);
            }
            let count = deployment.annotations().get("deployment.kubernetes.io/revision").context("no revision")?;
            Ok(Some(count.parse()?))
        })
        .await
    }

    /// What is there of these BotSecrets, none of which is being deleted.
    pub async fn kept(&self, names: &[&str]) -> Result<Vec<Kept>> {
        let bot_secrets: Api<BotSecret> = Api::namespaced(self.client.clone(), NAMESPACE);
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), NAMESPACE);
        let mut all = Vec::new();
        for name in names {
            let (bot_secret, secret) = (bot_secrets.get(name).await?, secrets.get(name).await?);
            let ends = bot_secret.metadata.deletion_timestamp.is_some() || secret.metadata.deletion_timestamp.is_some();
            ensure!(!ends, "{name} is being deleted");
            let data = secret.data.clone().unwrap_or_default();
            ensure!(!data.is_empty(), "the Secret {name} is empty");
            all.push(Kept { uids: [bot_secret.uid(), secret.uid()], data });
        }
        Ok(all)
    }
}
