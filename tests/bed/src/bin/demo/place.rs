//! Where the walk happens: a cluster of the demo's own, or one of the user's.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use botsecret_testbed::{Cluster, ClusterOptions, OpenBao, OpenBaoOptions};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tempfile::TempDir;

use super::arguments::{Arguments, Store};
use super::kubectl::Kubectl;
use super::manifests;
use super::operator::Operator;
use super::source::SOURCE;
use super::tell::Teller;

/// A cluster, and what the demo has put there.
pub struct Place {
    // Dropped in this order.
    pub operator: Option<Operator>,
    pub bao: Option<OpenBao>,
    /// The demo's own cluster.
    pub cluster: Option<Cluster>,
    pub kubectl: Kubectl,
    pub client: Client,
    /// Namespaces and manifests that are taken away at the end, where the
    /// cluster is the user's.
    made: Vec<Made>,
    folder: TempDir,
}

enum Made {
    Namespace(String),
    Installation,
}

impl Place {
    /// The place that the arguments ask for.
    pub async fn find(teller: Teller, arguments: Arguments) -> Result<Self> {
        match &arguments.context {
            Some(context) => Self::of_the_user(&teller, context).await,
            None => Self::of_its_own(&teller, arguments.store).await,
        }
    }

    async fn of_its_own(teller: &Teller, store: Store) -> Result<Self> {
        let began = Instant::now();
        let what = "etcd, kube-apiserver, kube-controller-manager, kube-scheduler and a node are starting";
        let options = ClusterOptions { process_nodes: 1, kwok_nodes: 0 };
        let cluster = teller.wait(what, Cluster::start(options)).await?;
        teller.done(&format!(
            "a Kubernetes control plane listens at {}, {:.1} s after its start; its node runs containers as processes of this machine",
            cluster.url(),
            began.elapsed().as_secs_f64()
        ));
        let bao = match store {
            Store::Kubernetes => None,
            Store::Vault => {
                let bao =
                    teller.wait("OpenBao is starting", OpenBao::start(&cluster, OpenBaoOptions::default())).await?;
                teller
                    .done(&format!("an OpenBao listens at {}, which knows this cluster's ServiceAccounts", bao.url()));
                Some(bao)
            }
        };
        let kubeconfig = cluster.admin_kubeconfig()?;
        teller.say("To look around from another terminal while this runs:");
        teller.command(&format!("export KUBECONFIG={}", kubeconfig.display()));
        Ok(Self {
            operator: None,
            bao,
            kubectl: Kubectl::of_file(&kubeconfig, teller.clone())?,
            client: cluster.client()?,
            cluster: Some(cluster),
            made: Vec::new(),
            folder: folder()?,
        })
    }

    async fn of_the_user(teller: &Teller, context: &str) -> Result<Self> {
        let kubeconfig = Kubeconfig::read().map_err(|error| anyhow!("no context {context}: {error}"))?;
        if !kubeconfig.contexts.iter().any(|known| known.name == context) {
            let known: Vec<_> = kubeconfig.contexts.iter().map(|known| known.name.as_str()).collect();
            bail!(
                "your kubeconfig has no context {context}: it has {}",
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            );
        }
        let options = KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        config.connect_timeout = Some(Duration::from_secs(10));
        config.default_retry = false;
        let url = config.cluster_url.to_string();
        let client = Client::try_from(config)?;
        let kubectl = Kubectl::of_context(context, teller.clone())?;
        let asking = async {
            let asked = tokio::time::timeout(Duration::from_secs(20), client.apiserver_version()).await;
            let answer = asked.context("it does not answer").and_then(|answer| Ok(answer?));
            answer.with_context(|| format!("context {context}: {url} cannot be used"))
        };
        let version = teller.wait(&format!("{url} is asked for its version"), asking).await?.git_version;
        teller.done(&format!("{url} is a Kubernetes {version}"));
        let place =
            Self { operator: None, bao: None, cluster: None, kubectl, client, made: Vec::new(), folder: folder()? };
        place.must_be_free(context).await?;
        teller.done("nothing of what the demo makes is there yet; all of it goes again at the end");
        Ok(place)
    }

    /// What is deleted at the end must not have been there before.
    async fn must_be_free(&self, context: &str) -> Result<()> {
        let namespaces = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {SOURCE}}}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: trading}}\n"
        );
        let install = manifests::read_all(&manifests::INSTALL)?;
        for (manifest, hint) in
            [(install, "BotSecret is installed there already"), (namespaces, "something of that name is there already")]
        {
            let found =
                self.kubectl.run(&["get", "--ignore-not-found", "-o", "name", "-f", "-"], Some(&manifest)).await?;
            if let Some(first) = found.lines().next() {
                bail!(
                    "context {context} has {first}: {hint}, and the demo would delete it at its end; use another cluster, or delete it first"
                );
            }
        }
        Ok(())
    }

    /// Where the demo may keep files.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Notes, ahead of making it, a namespace that goes at the end.
    pub fn will_make_namespace(&mut self, name: &str) {
        self.made.push(Made::Namespace(name.to_owned()));
    }

    /// The same for what `deploy/` brings.
    pub fn will_install(&mut self) {
        self.made.push(Made::Installation);
    }

    /// Takes everything away again.
    pub async fn leave(mut self, teller: &Teller) -> Result<()> {
        teller.line("");
        if self.cluster.is_some() {
            let what = "the operator, the bot and the cluster are ending";
            // Dropping waits for processes to end.
            let dropped = async { Ok(tokio::task::spawn_blocking(move || drop(self)).await?) };
            teller.wait(what, dropped).await?;
            teller.done("the cluster, its processes and its folder are gone");
            return Ok(());
        }
        let made = std::mem::take(&mut self.made);
        for one in made.into_iter().rev() {
            let (what, words, manifest) = match &one {
                Made::Namespace(name) => (
                    format!("namespace {name}"),
                    vec!["delete", "namespace", "--ignore-not-found", name.as_str()],
                    None,
                ),
                Made::Installation => {
                    // While namespaces with BotSecrets end, it may still run.
                    self.operator = None;
                    let manifest = manifests::read_all(&manifests::INSTALL)?;
                    ("the installation".to_owned(), vec!["delete", "--ignore-not-found", "-f", "-"], Some(manifest))
                }
            };
            let deletion = self.kubectl.run(&words, manifest.as_deref());
            teller
                .wait(&format!("{what} is being deleted"), deletion)
                .await
                .with_context(|| format!("{what} may be left"))?;
            teller.done(&format!("{what} is gone"));
        }
        Ok(())
    }
}

/// Named so that a later start of the bed removes what a killed demo left.
fn folder() -> Result<TempDir> {
    let prefix = format!("botsecret-bed-{}-demo-", std::process::id());
    Ok(tempfile::Builder::new().prefix(&prefix).tempdir()?)
}
