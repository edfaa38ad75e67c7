//! What several tests of the kubelet stand-in need.

#![allow(dead_code, missing_docs)]

use std::time::Duration;

use anyhow::{Context, Result};
use botsecret_testbed::{Cluster, RunningContainer, wait_for};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, Secret};
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tempfile::TempDir;

pub const SOON: Duration = Duration::from_mins(1);

/// A namespace of a cluster, and a folder for hostPath volumes.
pub struct Bed {
    pub cluster: &'static Cluster,
    pub namespace: String,
    pub client: Client,
    pub folder: TempDir,
}

impl Bed {
    pub async fn new(prefix: &str) -> Result<Self> {
        Self::on(Cluster::shared().await?, prefix).await
    }

    pub async fn on(cluster: &'static Cluster, prefix: &str) -> Result<Self> {
        Ok(Self {
            cluster,
            namespace: cluster.namespace(prefix).await?,
            client: cluster.client()?,
            folder: tempfile::tempdir()?,
        })
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub async fn pod(&self, name: &str, spec: Value) -> Result<()> {
        let pod = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec}))?;
        self.pods().create(&PostParams::default(), &pod).await?;
        Ok(())
    }

    pub async fn job_completes(&self, name: &str, spec: Value) -> Result<()> {
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), &self.namespace);
        let job = json!({"metadata": {"name": name}, "spec": {"template": {"spec": spec}}});
        jobs.create(&PostParams::default(), &serde_json::from_value(job)?).await?;
        wait_for("the job to complete", SOON, || async {
            let status = jobs.get(name).await?.status.unwrap_or_default();
            Ok((status.succeeded == Some(1)).then_some(()))
        })
        .await
    }

    pub async fn secret(&self, name: &str, keys: &[(&str, &str)]) -> Result<()> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let data: serde_json::Map<String, Value> =
            keys.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let secret: Secret = serde_json::from_value(json!({"metadata": {"name": name}, "stringData": data}))?;
        // In one step: nobody is to see it gone.
        if secrets.get_opt(name).await?.is_some() {
            secrets.replace(name, &PostParams::default(), &secret).await?;
        } else {
            secrets.create(&PostParams::default(), &secret).await?;
        }
        Ok(())
    }

    pub async fn deployment(&self, name: &str, replicas: i32, spec: Value) -> Result<()> {
        let deployment = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
            },
        }))?;
        self.deployments().create(&PostParams::default(), &deployment).await?;
        Ok(())
    }

    pub async fn annotate_template(&self, name: &str, value: &str) -> Result<()> {
        let patch = json!({"spec": {"template": {"metadata": {"annotations": {"marker": value}}}}});
        let params = PatchParams::default();
        self.deployments().patch(name, &params, &Patch::Merge(patch)).await?;
        Ok(())
    }

    pub async fn rolled_out(&self, name: &str, replicas: i32) -> Result<()> {
        wait_for("the rollout", SOON, || async {
            let deployment = self.deployments().get(name).await?;
            let status = deployment.status.unwrap_or_default();
            let done = status.observed_generation == deployment.metadata.generation
                && status.updated_replicas == Some(replicas)
                && status.replicas == Some(replicas)
                && status.available_replicas == Some(replicas);
            Ok(done.then_some(()))
        })
        .await
    }

    pub async fn status(&self, pod: &str, container: &str) -> Result<ContainerStatus> {
        let status = self.pods().get(pod).await?.status.unwrap_or_default();
        let mut all = status.container_statuses.into_iter().flatten();
        all.find(|status| status.name == container).context("no status yet")
    }

    pub async fn address(&self, pod: &str) -> Result<String> {
        let status = self.pods().get(pod).await?.status.unwrap_or_default();
        status.pod_ip.context("no address yet")
    }

    pub async fn waiting_for(&self, pod: &str, reason: &str, message: &str) -> Result<()> {
        wait_for(&format!("{pod} to wait for {reason}: {message}"), SOON, || async {
            let state = self.status(pod, "main").await?.state.unwrap_or_default();
            let waiting = state.waiting.with_context(|| format!("{pod} does not wait"))?;
            let found = waiting.reason.as_deref() == Some(reason)
                && waiting.message.as_deref().is_some_and(|text| text.contains(message));
            anyhow::ensure!(found, "{waiting:?}");
            Ok(Some(()))
        })
        .await
    }

    pub async fn running(&self, pod: &str) -> Result<RunningContainer> {
        wait_for(&format!("{pod} to run"), SOON, || async {
            let status = self.status(pod, "main").await?;
            anyhow::ensure!(status.state.is_some_and(|state| state.running.is_some()));
            Ok(self.processes(pod).pop())
        })
        .await
    }

    pub async fn condition(&self, pod: &str, kind: &str, value: &str) -> Result<()> {
        wait_for(&format!("{pod}: {kind}={value}"), SOON, || async {
            let status = self.pods().get(pod).await?.status.unwrap_or_default();
            let mut all = status.conditions.iter().flatten();
            let found = all.any(|it| it.type_ == kind && it.status == value);
            anyhow::ensure!(found, "{:?}", status.container_statuses);
            Ok(Some(()))
        })
        .await
    }

    pub async fn ready(&self, pod: &str) -> Result<()> {
        self.condition(pod, "Ready", "True").await
    }

    pub async fn phase(&self, pod: &str, phase: &str) -> Result<()> {
        wait_for(&format!("{pod} to be {phase}"), SOON, || async {
            let status = self.pods().get(pod).await?.status.unwrap_or_default();
            anyhow::ensure!(status.phase.as_deref() == Some(phase), "{status:?}");
            Ok(Some(()))
        })
        .await
    }

    pub async fn delete(&self, pod: &str) -> Result<()> {
        self.pods().delete(pod, &DeleteParams::default()).await?;
        Ok(())
    }

    pub async fn gone(&self, pod: &str) -> Result<()> {
        wait_for(&format!("{pod} to be gone"), SOON, || async {
            Ok(self.pods().get_opt(pod).await?.is_none().then_some(()))
        })
        .await
    }

    pub fn log(&self, pod: &str) -> Result<String> {
        self.cluster.kubelet()?.logs(&self.namespace, pod, "main")
    }

    pub async fn log_with(&self, pod: &str, text: &str) -> Result<String> {
        wait_for(&format!("{text:?} in the log of {pod}"), SOON, || async {
            let log = self.log(pod)?;
            anyhow::ensure!(log.contains(text), "{log}");
            Ok(Some(log))
        })
        .await
    }

    /// Those of this namespace whose pod's name begins so.
    pub fn processes(&self, pod: &str) -> Vec<RunningContainer> {
        let all = self.cluster.kubelet().map(|kubelet| kubelet.processes()).unwrap_or_default();
        let mine = |it: &RunningContainer| it.namespace == self.namespace && it.pod.starts_with(pod);
        all.into_iter().filter(mine).collect()
    }
}
