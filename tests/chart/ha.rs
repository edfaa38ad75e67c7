//! `values-ha.yaml`, installed: two replicas.

use std::collections::BTreeSet;

use anyhow::{bail, ensure};
use botsecret_testbed::{Cluster, ClusterOptions, wait_for};
use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};
use kube::{Api, Client, ResourceExt, api::EvictParams};

use crate::{
    bots::{Bots, NAME, deployment},
    helm::chart,
    install::Site,
    operators::{DEADLINE, NAMESPACE, Operators, Result},
};

fn values() -> String {
    chart("botsecret").join("values-ha.yaml").display().to_string()
}

/// Evicts pods as a drain of their node would.
struct Drain {
    pods: Api<Pod>,
    budgets: Api<PodDisruptionBudget>,
}

impl Drain {
    fn of(cluster: &Cluster) -> Result<Self> {
        let mut config = cluster.config("admin", &["system:masters"])?;
        // What is refused is to be refused, not asked for again.
        config.default_retry = false;
        let client = Client::try_from(config)?;
        Ok(Self { pods: Api::namespaced(client.clone(), NAMESPACE), budgets: Api::namespaced(client, NAMESPACE) })
    }

    /// Waits until so many may be evicted.
    async fn until_allowed(&self, wanted: i32) -> Result {
        wait_for(&format!("the budget to allow {wanted}"), DEADLINE, async || {
            let budget = self.budgets.get("botsecret").await?;
            let status = budget.status.unwrap_or_default();
            let is_seen = status.observed_generation == budget.metadata.generation;
            ensure!(is_seen && status.disruptions_allowed == wanted, "it says {status:?}");
            Ok(Some(()))
        })
        .await
    }

    /// Whether this pod may go now.
    async fn evict(&self, pod: &Pod) -> Result<bool> {
        match self.pods.evict(&pod.name_any(), &EvictParams::default()).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 429 && status.message.contains("disruption budget") => {
                Ok(false)
            }
            Err(error) => bail!("{error:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_two_replicas_fit_on_one_node_and_when_the_leader_is_evicted_the_other_delivers_the_next_rotation_once()
-> Result {
    let cluster = Cluster::start(ClusterOptions::default()).await?;
    let site = Site::of(&cluster);
    site.deploy("install", &chart("botsecret"), &["-f", &values()]);
    let operators = Operators::of(&cluster, &site)?;
    let image = site.image_of(env!("CARGO_PKG_VERSION"));
    operators.until_ready(2, &image).await?;
    let first = operators.until_one_leads().await?;
    let (well, said) = site.test();
    ensure!(well, "{said}");

    let apps = ["bot-a", "bot-b"];
    let bots = Bots::new(&cluster, &operators, &apps.map(|app| deployment(app, NAME))).await?;
    bots.delivered(&apps, "1", 0).await?;

    let standby = operators.pods().await?.into_iter().find(|pod| pod.uid() != first.uid());
    let Some(standby) = standby else { bail!("there is no standby") };
    let drain = Drain::of(&cluster)?;
    // The pod of `helm test` is none of those that the budget counts.
    drain.until_allowed(1).await?;
    ensure!(drain.evict(&first).await?, "the budget holds up a node of which one replica is left");
    ensure!(!drain.evict(&standby).await?, "both replicas may go at once");
    let second = operators.until_one_leads().await?;
    ensure!(second.uid() == standby.uid(), "a new pod leads before the one that stood by");
    bots.rotate("2").await?;
    bots.delivered(&apps, "2", 1).await?;
    // Whoever came in place of the first stands by.
    operators.until_ready(2, &image).await?;
    ensure!(operators.until_one_leads().await?.uid() == second.uid(), "the Lease changed hands for nothing");
    drain.until_allowed(1).await?;

    let kept = bots.kept(&[NAME]).await?;
    site.uninstall();
    operators.until_gone(&cluster).await?;
    ensure!(bots.kept(&[NAME]).await? == kept, "what is the bots' was touched");
    bots.until_all_hold(&apps, "2").await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_lie_on_two_nodes_where_there_are_two_and_do_so_after_an_upgrade_too() -> Result {
    let cluster = Cluster::start(ClusterOptions { process_nodes: 2, ..ClusterOptions::default() }).await?;
    let site = Site::of(&cluster);
    let operators = Operators::of(&cluster, &site)?;
    let (values, image) = (values(), site.image_of(env!("CARGO_PKG_VERSION")));
    let mut before = BTreeSet::new();
    for (verb, note) in [("install", "pod.annotations.note=one"), ("upgrade", "pod.annotations.note=two")] {
        site.deploy(verb, &chart("botsecret"), &["-f", &values, "--set", note]);
        let pods = operators.until_ready(2, &image).await?;
        let nodes: BTreeSet<_> =
            pods.iter().map(|pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone())).collect();
        ensure!(nodes.len() == 2, "both are on {nodes:?} after the {verb}");
        let names: BTreeSet<_> = pods.iter().map(ResourceExt::name_any).collect();
        ensure!(names.is_disjoint(&before), "{names:?} were not replaced");
        before = names;
    }
    Ok(())
}
