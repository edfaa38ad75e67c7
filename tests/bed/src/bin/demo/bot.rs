//! The bot, observed from outside: its pods, its process, what it printed.

use anyhow::{Context, Result, bail, ensure};
use botsecret_testbed::Cluster;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, LogParams};
use kube::{Client, ResourceExt};

/// The bot's pods.
pub struct Bot<'a> {
    pub client: Client,
    pub namespace: &'static str,
    /// The demo's own cluster, whose containers are processes here.
    pub cluster: Option<&'a Cluster>,
}

/// One run of the bot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub pod: String,
    pub pod_uid: String,
    /// Its number on this machine, where it runs here.
    pub pid: Option<u32>,
}

impl Run {
    /// As a person would name it.
    pub fn name(&self) -> String {
        match self.pid {
            Some(pid) => format!("process {pid} (pod {})", self.pod),
            None => format!("pod {}", self.pod),
        }
    }

    /// Whether there is no trace of it any more.
    pub async fn is_gone(&self, bot: &Bot<'_>) -> Result<bool> {
        let process = self.pid.is_some_and(|pid| std::path::Path::new(&format!("/proc/{pid}")).exists());
        Ok(!process && bot.pods().await?.iter().all(|pod| pod.uid().as_deref() != Some(self.pod_uid.as_str())))
    }
}

impl Bot<'_> {
    async fn pods(&self) -> Result<Vec<Pod>> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), self.namespace);
        Ok(api.list(&ListParams::default().labels("app=price-bot")).await?.items)
    }

    /// Why the bot waits, if it does: the kubelet's own word.
    pub async fn waits_because(&self) -> Result<Option<String>> {
        let pods = self.pods().await?;
        let mut statuses = pods.iter().filter_map(|pod| pod.status.as_ref()?.container_statuses.as_ref()?.first());
        Ok(statuses.find_map(|status| status.state.as_ref()?.waiting.as_ref()?.reason.clone()))
    }

    /// The one run there is, once it says that it holds this revision.
    pub async fn run_on(&self, revision: &str) -> Result<Option<Run>> {
        let pods = self.pods().await?;
        let [pod] = pods.as_slice() else { bail!("there are {} pods", pods.len()) };
        let name = pod.name_any();
        let log = self.log(&name).await?;
        let last = log.lines().next_back().context("it has printed nothing yet")?;
        ensure!(last == format!("running on revision {revision}"), "it says: {last}");
        let pid = match self.cluster {
            None => None,
            Some(cluster) => {
                let processes = cluster.kubelet()?.processes();
                let found: Vec<_> = processes.iter().filter(|process| process.namespace == self.namespace).collect();
                let [process] = found.as_slice() else { bail!("there are {} processes", found.len()) };
                ensure!(process.pod == name, "another pod's process runs");
                Some(process.host_pid)
            }
        };
        Ok(Some(Run { pod: name, pod_uid: pod.uid().context("a pod without UID")?, pid }))
    }

    async fn log(&self, pod: &str) -> Result<String> {
        if let Some(cluster) = self.cluster {
            return cluster.kubelet()?.logs(self.namespace, pod, "bot");
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), self.namespace);
        Ok(api.logs(pod, &LogParams::default()).await?)
    }
}
