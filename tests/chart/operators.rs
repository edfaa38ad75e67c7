//! The operator's pods, as the chart starts them: which leads, and what they count.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use botsecret_testbed::{Cluster, wait_for};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{Api, Client, ResourceExt, api::ListParams};

use crate::install::Site;

pub type Result<T = ()> = anyhow::Result<T>;

/// How long anything may take to come true.
pub const DEADLINE: Duration = Duration::from_secs(120);
pub const NAMESPACE: &str = "botsecret-system";
/// The operator's account, as the API server calls it.
pub const USER: &str = "system:serviceaccount:botsecret-system:botsecret";

pub struct Operators {
    client: Client,
    http: reqwest::Client,
    port: u16,
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True")
}

fn runs(pod: &Pod, image: &str) -> bool {
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    containers.iter().any(|container| container.image.as_deref() == Some(image))
}

impl Operators {
    pub fn of(cluster: &Cluster, site: &Site) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { client: cluster.client()?, http, port: site.port })
    }

    /// Those that are not ending.
    pub async fn pods(&self) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let list = pods.list(&ListParams::default().labels("app.kubernetes.io/name=botsecret")).await?;
        let is_one = |pod: &Pod| {
            let mut owners = pod.owner_references().iter();
            pod.metadata.deletion_timestamp.is_none() && owners.any(|owner| owner.kind == "ReplicaSet")
        };
        Ok(list.items.into_iter().filter(is_one).collect())
    }

    /// The one that the Lease names.
    pub async fn leader(&self) -> Result<Pod> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), NAMESPACE);
        let holder = leases.get("botsecret").await?.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
        let leads = |pod: &Pod| pod.uid().is_some_and(|uid| holder.ends_with(&format!("_{uid}")));
        self.pods().await?.into_iter().find(leads).with_context(|| format!("the Lease names {holder:?}"))
    }

    /// Waits until so many are there, ready and of this image, and one of them leads.
    pub async fn until_ready(&self, count: usize, image: &str) -> Result<Vec<Pod>> {
        wait_for(&format!("{count} ready pods of {image}"), DEADLINE, async || {
            let pods = self.pods().await?;
            let names: Vec<_> = pods.iter().map(ResourceExt::name_any).collect();
            let well = pods.iter().all(|pod| is_ready(pod) && runs(pod, image));
            ensure!(pods.len() == count && well, "there are {names:?}");
            self.leader().await?;
            Ok(Some(pods))
        })
        .await
    }

    /// Waits until exactly one of them says that it leads: the one that the Lease names.
    pub async fn until_one_leads(&self) -> Result<Pod> {
        wait_for("one replica to lead", DEADLINE, async || {
            let leader = self.leader().await?;
            for pod in self.pods().await? {
                let leads = self.metric(&pod, "botsecret_leader").await? == 1;
                ensure!(leads == (pod.uid() == leader.uid()), "{} leads: {leads}", pod.name_any());
            }
            Ok(Some(leader))
        })
        .await
    }

    /// One number of a pod's `/metrics`, asked for at the pod's own address.
    pub async fn metric(&self, pod: &Pod, name: &str) -> Result<u64> {
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()).context("no address yet")?;
        let answer = self.http.get(format!("http://{address}:{}/metrics", self.port)).send().await?;
        let text = answer.error_for_status()?.text().await?;
        let number = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(number.with_context(|| format!("no metric {name}"))?.trim().parse()?)
    }

    /// Waits until none of their processes is left.
    pub async fn until_gone(&self, cluster: &Cluster) -> Result {
        let kubelet = cluster.kubelet()?;
        wait_for("the operator to be gone", DEADLINE, async || {
            let left = kubelet.processes().into_iter().any(|process| process.namespace == NAMESPACE);
            Ok((!left).then_some(()))
        })
        .await
    }
}
