//! One run: the scenario, with these faults, and what came of it.

use std::time::Duration;

use anyhow::{Context, bail};
use botsecret::api::BotSecret;
use botsecret_testbed::{Cluster, wait_for};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Secret};
use kube::{
    Api, ResourceExt as _,
    api::{GroupVersionKind, ListParams},
};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::{
    fault::{Fault, Planned},
    front::{Front, Write},
    judge::{self, Evidence, Outcome},
    mutants::Mutate,
    operators::{Operators, Setting},
    scene::{BOT_SECRET, DEPLOYMENTS, Data, Scene, VERSIONS},
    support::{Result, grant, history::History},
};

/// How long the world may take to come to rest after each step: two faults, each
/// of which may cost a deadline of the operator's and a back-off.
const PATIENCE: Duration = Duration::from_secs(90);
/// Whoever had anything to do would have done it within so many reads.
const READS: u64 = 3;

/// Without it an operator ends.
const DIGEST_KEY: &str = "/secrets/botsecret-digest-key";

/// What is run.
#[derive(Clone, Default)]
pub struct Case {
    pub planned: Vec<Planned>,
    /// A defect that is planted, for the tests of the campaign itself, and how
    /// long each step may take then.
    pub mutant: Option<(Mutate, Duration)>,
}

/// A run that is over.
pub struct Run {
    pub outcome: Outcome,
    pub writes: Vec<Write>,
    /// How many of the planned faults were met.
    pub fired: usize,
}

/// Plays the scenario through, in a namespace of its own.
pub async fn run(cluster: &Cluster, sources: &str, case: &Case) -> Result<Run> {
    let scene = Scene::new(cluster, sources).await?;
    let history = async |group, version, kind| {
        History::follow(&scene.client, &scene.namespace, &GroupVersionKind::gvk(group, version, kind)).await
    };
    let (secrets, deployments) = (history("", "v1", "Secret").await?, history("apps", "v1", "Deployment").await?);
    let folder = tempfile::tempdir()?;
    let user = format!("operator:{}", scene.namespace);
    grant(cluster, &user).await?;
    let replicas = case.planned.iter().any(|planned| planned.fault == Fault::HandOver);
    if replicas {
        scene.let_lead(&user).await?;
    }
    let (orders, taken) = mpsc::unbounded_channel();
    let mutate = case.mutant.map(|(mutate, _)| mutate);
    let front = Front::start(cluster, &user, folder.path(), &case.planned, mutate, orders).await?;
    let setting = Setting {
        client: scene.client.clone(),
        namespace: scene.namespace.clone(),
        kubeconfig: front.kubeconfig(),
        folder: folder.path().to_owned(),
        replicas,
        may_end: case.planned.iter().any(|planned| planned.point.write.ends_with(DIGEST_KEY)),
    };
    let stage = Stage {
        operators: Operators::start(setting, taken).await?,
        patience: case.mutant.map_or(PATIENCE, |(_, patience)| patience),
        scene,
        front,
    };
    let mut wrong: Vec<_> = stage.play().await.err().map(|error| format!("P11: {error:#}")).into_iter().collect();
    let evidence = stage.evidence(&secrets, &deployments).await.with_context(|| format!("after {wrong:?}"))?;
    wrong.extend(stage.front.wrong());
    let (of_operators, log) = stage.operators.end().await;
    wrong.extend(of_operators);
    let leaks = stage.scene.values().found_in(&log);
    wrong.extend(leaks.into_iter().map(|leak| format!("P4: the log shows {leak}")));
    let outcome = judge::judge(&stage.scene, &evidence, wrong);
    stage.scene.leave().await?;
    Ok(Run { outcome, writes: stage.front.writes(), fired: stage.front.fired() })
}

/// The one that plays.
struct Stage {
    scene: Scene,
    front: Front,
    operators: Operators,
    patience: Duration,
}

impl Stage {
    async fn play(&self) -> Result {
        self.operators.start_standby().await?;
        self.scene.set().await?;
        self.settled(1).await.context("the first sync")?;
        for version in 2..=VERSIONS {
            self.front.step();
            self.scene.rotate(version).await?;
            self.settled(version).await.with_context(|| format!("rotation to version {version}"))?;
            self.front.let_late_arrive(false).await?;
            if version < VERSIONS {
                self.front.step();
                self.scene.drift().await?;
                self.settled(version).await.context("an edit of the Secret")?;
            }
        }
        self.front.let_late_arrive(true).await?;
        self.settled(VERSIONS).await.context("a request that came late")?;
        self.idle().await
    }

    /// Waits until everything holds this version, and the status says so.
    async fn settled(&self, version: usize) -> Result {
        wait_for("the world to come to rest", self.patience, async || {
            let secrets: Api<Secret> = Api::namespaced(self.scene.client.clone(), &self.scene.namespace);
            let secret = secrets.get(BOT_SECRET).await?;
            let data: Data = secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect();
            if data != *self.scene.version(version) {
                bail!("the Secret holds {:?}", self.scene.version_of(&data));
            }
            let revision = judge::revision_of(&serde_json::to_value(&secret)?).context("the Secret bears no state")?;
            let api: Api<BotSecret> = Api::namespaced(self.scene.client.clone(), &self.scene.namespace);
            let object = serde_json::to_value(api.get(BOT_SECRET).await?)?;
            if let Some(what) = judge::unsettled(&object, &revision) {
                bail!("{what}");
            }
            self.all_rolled().await.map(|()| Some(()))
        })
        .await
    }

    /// Fails while a Deployment's controller has anything to do.
    async fn all_rolled(&self) -> Result {
        let api: Api<Deployment> = Api::namespaced(self.scene.client.clone(), &self.scene.namespace);
        for (name, replicas) in DEPLOYMENTS {
            let deployment = api.get(name).await?;
            let status = deployment.status.unwrap_or_default();
            let counts = [status.replicas, status.updated_replicas, status.available_replicas];
            let seen = status.observed_generation == deployment.metadata.generation;
            if !seen || counts != [Some(replicas); 3] {
                bail!("{name} rolls: {counts:?} of {replicas}");
            }
        }
        Ok(())
    }

    /// Waits for refreshes in which nothing is written, and demands the same of
    /// those that follow.
    async fn idle(&self) -> Result {
        wait_for("refreshes without a write", self.patience, async || {
            let writes = self.front.writes().len();
            self.more_reads().await?;
            Ok((self.front.writes().len() == writes).then_some(()))
        })
        .await?;
        let writes = self.front.writes().len();
        self.more_reads().await?;
        match self.front.writes().get(writes) {
            Some(write) => bail!("P2: {} at rest", write.point),
            None => Ok(()),
        }
    }

    async fn more_reads(&self) -> Result {
        let before = self.operators.reads().await?;
        wait_for("more refreshes", self.patience, async || {
            Ok((self.operators.reads().await? >= before + READS).then_some(()))
        })
        .await
    }

    /// Everything that is judged, as it is now.
    async fn evidence(&self, secrets: &History, deployments: &History) -> Result<Evidence> {
        let all = async |group, kind| -> Result<Vec<Value>> {
            let resource = kube::api::ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
            let api: Api<kube::api::DynamicObject> =
                Api::namespaced_with(self.scene.client.clone(), &self.scene.namespace, &resource);
            let list = api.list(&ListParams::default()).await?;
            list.into_iter().map(|object| Ok(serde_json::to_value(object)?)).collect()
        };
        let api: Api<BotSecret> = Api::namespaced(self.scene.client.clone(), &self.scene.namespace);
        let object = api.get(BOT_SECRET).await?;
        anyhow::ensure!(object.metadata.deletion_timestamp.is_none(), "{} is going", object.name_any());
        Ok(Evidence {
            secrets: secrets.complete().await?,
            deployments: deployments.complete().await?,
            bot_secret: serde_json::to_value(object)?,
            replica_sets: all("apps", "ReplicaSet").await?,
            pods: all("", "Pod").await?,
            writes: self.front.writes(),
        })
    }
}
