//! The operator at work: new objects, nothing to do, and after a restart.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use botsecret_testbed::{AuditRecord, BaoRequest};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    figures::Figures,
    operator::{Operator, USER},
    processes::Cpu,
    progress::say,
    scene::{Scene, in_flight, is_read},
    watching::ReadyWatch,
};

/// How long nothing may be asked of anyone before a measurement begins.
const QUIET: Duration = Duration::from_secs(3);
/// How long the operator is watched while it has nothing to do.
const IDLE: Duration = Duration::from_mins(1);

/// What the operator writes for one BotSecret.
pub struct Sample {
    pub secret: Secret,
    pub status: Value,
}

/// Lets the operator sync one BotSecret, so that the floor writes the same.
pub async fn sample(scene: &Scene) -> Result<Sample> {
    let namespace = scene.namespace("sample").await?;
    let operator = Operator::start(&scene.cluster, &scene.home).await?;
    operator.until_ready().await?;
    let mut watch = ReadyWatch::begin(&scene.client, &namespace).await?;
    let made = scene.create_bot_secrets(&namespace, 1).await?;
    watch.until(1, 1).await?;
    let name = made[0].metadata.name.as_deref().context("no name")?;
    let object = scene.bot_secrets(&namespace).get(name).await?;
    let mut secret = Api::<Secret>::namespaced(scene.client.clone(), &namespace).get(name).await?;
    let meta = &mut secret.metadata;
    (meta.uid, meta.resource_version, meta.creation_timestamp, meta.managed_fields) = (None, None, None, None);
    operator.stop().await?;
    scene.clear(&namespace).await?;
    Ok(Sample { secret, status: serde_json::to_value(object.status)? })
}

/// The operator over its objects.
pub struct Stage<'a> {
    scene: &'a Scene,
    pub namespace: String,
    pub operator: Operator,
    watch: ReadyWatch,
}

impl<'a> Stage<'a> {
    /// Starts the operator and waits until it has nothing to do.
    pub async fn enter(scene: &'a Scene) -> Result<Self> {
        let namespace = scene.namespace("bots").await?;
        let operator = Operator::start(&scene.cluster, &scene.home).await?;
        operator.until_ready().await?;
        let watch = ReadyWatch::begin(&scene.client, &namespace).await?;
        let stage = Self { scene, namespace, operator, watch };
        stage.until_quiet().await?;
        Ok(stage)
    }

    /// Takes away what is there, and the operator with it.
    pub async fn leave(stage: Self) -> Result<()> {
        let Self { scene, namespace, operator, .. } = stage;
        operator.stop().await?;
        scene.clear(&namespace).await
    }

    /// New BotSecrets, until all are Ready and there is nothing to do.
    pub async fn fill(&mut self) -> Result<()> {
        let count = self.scene.size.objects;
        say(&format!("creating {count} BotSecrets"));
        self.scene.create_bot_secrets(&self.namespace, count).await?;
        self.watch.until(count, 1).await?;
        self.until_quiet().await
    }

    /// New BotSecrets, until all are Ready. Of all runs the shortest time counts, and
    /// the greatest cost.
    pub async fn sync(&mut self, run: usize, figures: &mut Figures) -> Result<()> {
        let count = self.scene.size.objects;
        say(&format!("creating {count} BotSecrets; load average {}", super::processes::load()?));
        let (mark, bao) = (self.scene.cluster.audit().mark().await?, self.scene.bao.mark()?);
        let (before, cpu) = (Cpu::now()?, self.operator.cpu()?);
        let began = Instant::now();
        let creating = async { self.scene.create_bot_secrets(&self.namespace, count).await.map(|_| began.elapsed()) };
        let (created, ready) = tokio::join!(creating, self.watch.until(count, 1));
        ready?;
        let seconds = began.elapsed().as_secs_f64();
        figures.cpu_seconds = figures.cpu_seconds.max(self.operator.cpu()? - cpu);
        figures.peak_rss_mb = figures.peak_rss_mb.max(self.operator.peak_memory()?);
        say(&format!(
            "sync, run {run}: all are Ready after {seconds:.2} s (the last one created after {:.2} s)",
            created?.as_secs_f64()
        ));
        say(&Cpu::now()?.since(&before));
        figures.all_ready_seconds = figures.all_ready_seconds.min(seconds);
        // Whatever still comes belongs to the price.
        self.until_quiet().await?;
        let asked = self.scene.cluster.audit().requests_by_since(USER, &mark).await?;
        let told = self.scene.bao.requests_since(&bao)?;
        let most = |figure: &mut f64, found: usize| *figure = figure.max(per(found, count));
        most(&mut figures.api_requests_per_object, beyond_promise(&asked).count());
        most(&mut figures.api_writes_per_object, writes(&asked).count());
        figures.api_requests = summary(&asked);
        most(&mut figures.store_reads_per_object, told.iter().filter(|request| is_read(request)).count());
        figures.logins = figures.logins.max(told.iter().filter(|request| request.is_login()).count());
        Ok(())
    }

    /// Nothing changes, and values are read again every 30 s.
    pub async fn idle(&mut self, figures: &mut Figures) -> Result<()> {
        say("setting every refreshInterval to 30s");
        let names =
            self.scene.bot_secrets(&self.namespace).list_metadata(&kube::api::ListParams::default()).await?.items;
        let api = self.scene.bot_secrets(&self.namespace);
        in_flight(names, async |object| {
            let patch = json!({ "spec": { "refreshInterval": "30s" } });
            let name = object.metadata.name.unwrap_or_default();
            Ok(api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)?)
        })
        .await?;
        self.watch.until(self.scene.size.objects, 2).await?;
        self.until_quiet().await?;
        say(&format!("watching it idle for {} s", IDLE.as_secs()));
        let (mark, bao) = (self.scene.cluster.audit().mark().await?, self.scene.bao.mark()?);
        let (before, cpu) = (Cpu::now()?, self.operator.cpu()?);
        tokio::time::sleep(IDLE).await;
        let minutes = IDLE.as_secs_f64() / 60.0;
        figures.idle_cpu_seconds_per_minute = (self.operator.cpu()? - cpu) / minutes;
        say(&Cpu::now()?.since(&before));
        let asked = self.scene.cluster.audit().requests_by_since(USER, &mark).await?;
        let reads = self.scene.bao.requests_since(&bao)?.iter().filter(|request| is_read(request)).count();
        figures.idle_api_requests_per_minute = number(beyond_promise(&asked).count()) / minutes;
        figures.idle_store_reads_per_minute = number(reads) / minutes;
        if let Some(one) = beyond_promise(&asked).next() {
            say(&format!("one of the idle operator's requests: {} {}", one.verb, one.uri));
        }
        Ok(())
    }

    /// The operator is stopped and started again. It knows an object good when
    /// it has read the object's value anew, has compared it with the Secret
    /// and ended the pass without a failure.
    pub async fn restart(&mut self, figures: &mut Figures) -> Result<()> {
        say("restarting the operator");
        let (mark, bao) = (self.scene.cluster.audit().mark().await?, self.scene.bao.mark()?);
        let before = Cpu::now()?;
        self.start_again().await?;
        figures.restart_seconds = self.operator.started().elapsed().as_secs_f64();
        say(&Cpu::now()?.since(&before));
        self.every_value_was_read(&self.scene.bao.requests_since(&bao)?)?;
        let asked = self.scene.cluster.audit().requests_by_since(USER, &mark).await?;
        figures.restart_api_writes = writes(&asked).count();
        Ok(())
    }

    /// Stops and starts the operator, and waits until it has looked at every
    /// BotSecret.
    pub async fn start_again(&mut self) -> Result<()> {
        self.operator.stop().await?;
        self.operator = Operator::start(&self.scene.cluster, &self.scene.home).await?;
        self.operator.until_ready().await?;
        self.operator.until_passes(self.scene.size.objects).await
    }

    fn every_value_was_read(&self, told: &[BaoRequest]) -> Result<()> {
        let read: HashSet<_> = told.iter().filter(|request| is_read(request)).map(|request| &request.path).collect();
        let count = self.scene.size.objects;
        ensure!(read.len() >= count, "of {count} values only {} were read after the restart", read.len());
        Ok(())
    }

    /// Waits until the operator has asked nothing of anyone for a while.
    pub async fn until_quiet(&self) -> Result<()> {
        loop {
            let (mark, bao) = (self.scene.cluster.audit().mark().await?, self.scene.bao.mark()?);
            tokio::time::sleep(QUIET).await;
            let asked = self.scene.cluster.audit().requests_by_since(USER, &mark).await?;
            if asked.is_empty() && self.scene.bao.requests_since(&bao)?.is_empty() {
                return Ok(());
            }
            say("waiting for the operator to have nothing to do");
        }
    }
}

/// Requests beyond what P2 says remains: watches and due TokenRequests.
fn beyond_promise(asked: &[AuditRecord]) -> impl Iterator<Item = &AuditRecord> {
    asked.iter().filter(|record| record.verb != "watch" && record.subresource != "token")
}

fn writes(asked: &[AuditRecord]) -> impl Iterator<Item = &AuditRecord> {
    beyond_promise(asked).filter(|record| !matches!(record.verb.as_str(), "get" | "list"))
}

/// Every kind of request and how often.
fn summary(asked: &[AuditRecord]) -> String {
    let mut kinds = std::collections::BTreeMap::<String, usize>::new();
    for record in asked {
        let slash = if record.subresource.is_empty() { "" } else { "/" };
        *kinds
            .entry(format!("{} {}{slash}{} {}", record.verb, record.resource, record.subresource, record.code))
            .or_default() += 1;
    }
    kinds.into_iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
}

fn per(count: usize, objects: usize) -> f64 {
    number(count) / number(objects)
}

#[expect(clippy::cast_precision_loss, reason = "a count of requests")]
fn number(count: usize) -> f64 {
    count as f64
}
