//! A control plane of its own, on loopback, in a temporary folder.

mod access;
mod argo;
mod audit;
mod components;
mod nodes;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kube::Client;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::kubelet::Kubelet;
use crate::pki::Authority;
use crate::process::Process;
use crate::{runtime, temp};

pub use audit::{AuditLog, AuditMark, AuditRecord};
pub use nodes::kwok_placement;
pub(crate) use nodes::register;

use components::{Component, Plan};

/// How long a program may take to be ready: a loaded machine is slow.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Nodes that run containers as local processes, named `node-1` and so on.
    pub process_nodes: usize,
    /// kwok's nodes, whose pods run nothing.
    pub kwok_nodes: usize,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self { process_nodes: 1, kwok_nodes: 0 }
    }
}

/// A running cluster; dropped, all of it is gone.
#[derive(Debug)]
pub struct Cluster {
    // Before the programs and the folder: they are dropped in this order.
    kubelets: Mutex<Vec<Kubelet>>,
    programs: Mutex<HashMap<Component, Arc<Process>>>,
    inner: Arc<Inner>,
}

/// What the parts of the bed share about one cluster.
pub(crate) struct Inner {
    plan: Plan,
    url: String,
    authority: Authority,
    /// The bed's own client, used only on the bed's runtime.
    client: Client,
    audit: AuditLog,
    folder: TempDir,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Cluster {
    /// The one cluster of this test binary, with one process node.
    ///
    /// Tests keep apart in it by a namespace each; what breaks things starts a
    /// cluster of its own.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Cluster> = OnceCell::const_new();
        SHARED.get_or_try_init(|| Self::start(ClusterOptions::default())).await
    }

    /// Starts a cluster and waits until it serves and its nodes take pods.
    pub async fn start(options: ClusterOptions) -> Result<Self> {
        runtime::install_crypto();
        // On the bed's runtime, so that it ends well whatever becomes of the caller.
        runtime::run(async move {
            let mut last = None;
            for _ in 0..3 {
                match Self::start_once(&options).await {
                    Err(error) if format!("{error:#}").contains("address already in use") => {
                        last = Some(error);
                    }
                    other => return other,
                }
            }
            Err(last.context("no attempt was made")?)
        })
        .await
    }

    async fn start_once(options: &ClusterOptions) -> Result<Self> {
        let folder = temp::folder()?;
        let authority = Authority::new("testbed")?;
        let plan = Plan::new(folder.path(), &authority)?;
        let url = plan.url();
        let config = access::config(&plan, &authority, "testbed", &["system:masters"])?;
        let client = Client::try_from(config)?;
        let audit = AuditLog::new(plan.audit_log(), client.clone());
        let cluster = Self {
            kubelets: Mutex::default(),
            programs: Mutex::default(),
            inner: Arc::new(Inner { plan, url, authority, client, audit, folder }),
        };
        cluster.launch(Component::Etcd)?;
        cluster.launch(Component::ApiServer)?;
        cluster.wait_until_served().await?;
        cluster.launch(Component::ControllerManager)?;
        cluster.launch(Component::Scheduler)?;
        nodes::allow_anonymous_discovery(&cluster.inner.client).await?;
        for number in 1..=options.process_nodes {
            cluster.add_process_node(&format!("node-{number}")).await?;
        }
        if options.kwok_nodes > 0 {
            cluster.add_kwok_nodes(options.kwok_nodes).await?;
        }
        nodes::wait_for_namespace(&cluster.inner.client, "default").await.with_context(|| cluster.logs())?;
        Ok(cluster)
    }

    /// Where the API server listens, as `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// The certificate authority of the API server, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.inner.authority.pem()
    }

    /// The one audience of a ServiceAccount token that the API server takes.
    #[must_use]
    pub fn audience(&self) -> &str {
        components::AUDIENCE
    }

    /// The cluster's temporary folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.inner.folder.path()
    }

    /// Who asked the API server for what.
    #[must_use]
    pub fn audit(&self) -> &AuditLog {
        &self.inner.audit
    }

    /// Where each program's log lies, and its last lines: for failure messages.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for component in Component::ALL {
            let log = self.inner.plan.log(component);
            if let Ok(lines) = std::fs::read_to_string(&log) {
                let lines: Vec<&str> = lines.lines().collect();
                let tail = lines[lines.len().saturating_sub(10)..].join("\n  ");
                let _ = writeln!(text, "{}:\n  {tail}", log.display());
            }
        }
        text
    }

    /// Ends the API server and waits until it has ended.
    pub async fn stop_api_server(&self) -> Result<()> {
        self.stop(Component::ApiServer).await
    }

    /// Kills the API server, as a node that loses power would.
    pub async fn kill_api_server(&self) -> Result<()> {
        self.take(Component::ApiServer)?.kill().await;
        Ok(())
    }

    /// Starts the API server again on the same port and data, until it serves.
    pub async fn start_api_server(&self) -> Result<()> {
        self.launch(Component::ApiServer)?;
        self.wait_until_served().await
    }

    /// Ends the controller-manager: nothing rolls, nothing is collected.
    pub async fn stop_controller_manager(&self) -> Result<()> {
        self.stop(Component::ControllerManager).await
    }

    /// Starts the controller-manager again.
    #[expect(clippy::unused_async, reason = "in line with the other programs")]
    pub async fn start_controller_manager(&self) -> Result<()> {
        self.launch(Component::ControllerManager)
    }

    /// The first process node's kubelet stand-in.
    pub fn kubelet(&self) -> Result<Kubelet> {
        let kubelets = lock(&self.kubelets);
        kubelets.first().cloned().context("this cluster has no process node")
    }

    /// Adds a node whose pods run as local processes.
    pub async fn add_process_node(&self, name: &str) -> Result<Kubelet> {
        let user = format!("system:node:{name}");
        let config = self.config(&user, &["system:nodes", "system:masters"])?;
        let folder = self.folder().join("nodes").join(name);
        let port = self.inner.plan.api_port();
        let kubelet = Kubelet::start(name, config, folder, port).await?;
        lock(&self.kubelets).push(kubelet.clone());
        Ok(kubelet)
    }

    /// Adds nodes whose pods are said to run, and run nothing.
    pub async fn add_kwok_nodes(&self, count: usize) -> Result<()> {
        let taint = !lock(&self.kubelets).is_empty();
        if !lock(&self.programs).contains_key(&Component::Kwok) {
            self.kubeconfig(components::KWOK_USER, &["system:masters"])?;
            self.launch(Component::Kwok)?;
        }
        let client = self.inner.client.clone();
        runtime::run(async move { nodes::add_kwok(&client, count, taint).await }).await
    }

    /// Creates a namespace named after `prefix` and waits until it is ready
    /// for pods.
    pub async fn namespace(&self, prefix: &str) -> Result<String> {
        let client = self.inner.client.clone();
        let prefix = prefix.to_owned();
        runtime::run(async move { nodes::create_namespace(&client, &prefix).await }).await.with_context(|| self.logs())
    }

    /// Signs claims with the cluster's own key: for tokens that the API server
    /// would never issue, such as expired ones. See [`crate::tokens::claims`].
    pub async fn sign_token(&self, claims: &serde_json::Value) -> Result<String> {
        crate::tokens::sign(self, claims).await
    }

    /// A ServiceAccount's token by TokenRequest. The API server gives none
    /// shorter than 600 s.
    pub async fn service_account_token(
        &self,
        namespace: &str,
        name: &str,
        audiences: &[&str],
        seconds: i64,
    ) -> Result<String> {
        let client = self.inner.client.clone();
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let audiences = audiences.iter().map(ToString::to_string).collect();
        runtime::run(async move { access::token_request(&client, &namespace, &name, audiences, seconds).await }).await
    }

    pub(crate) fn inner_client(&self) -> Client {
        self.inner.client.clone()
    }

    fn launch(&self, component: Component) -> Result<()> {
        let mut programs = lock(&self.programs);
        ensure!(!programs.contains_key(&component), "{component:?} runs already");
        let process = self.inner.plan.start(component)?;
        programs.insert(component, Arc::new(process));
        Ok(())
    }

    fn take(&self, component: Component) -> Result<Arc<Process>> {
        let taken = lock(&self.programs).remove(&component);
        taken.with_context(|| format!("{component:?} does not run"))
    }

    async fn stop(&self, component: Component) -> Result<()> {
        self.take(component)?.stop(Duration::from_secs(30)).await;
        Ok(())
    }

    async fn wait_until_served(&self) -> Result<()> {
        let parts: Vec<_> = {
            let programs = lock(&self.programs);
            programs.iter().map(|(c, p)| (*c, Arc::clone(p))).collect()
        };
        let client = self.inner.client.clone();
        let waited = runtime::run(async move {
            let ended = async {
                loop {
                    if let Some((component, _)) = parts.iter().find(|(_, p)| p.exited().is_some()) {
                        return *component;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            tokio::select! {
                served = access::wait_until_ready(&client) => served,
                component = ended => bail!("{component:?} ended instead of serving"),
            }
        });
        waited.await.with_context(|| self.logs())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for kubelet in lock(&self.kubelets).drain(..) {
            kubelet.shut_down();
        }
    }
}

/// A poisoned lock only says that a test failed while it held it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cluster {
    /// A kubeconfig with a client certificate of that user; made once.
    pub fn kubeconfig(&self, user: &str, groups: &[&str]) -> Result<PathBuf> {
        access::kubeconfig(&self.inner.plan, &self.inner.authority, user, groups)
    }

    /// A kubeconfig of user `admin` in `system:masters`.
    pub fn admin_kubeconfig(&self) -> Result<PathBuf> {
        self.kubeconfig("admin", &["system:masters"])
    }

    /// A client configuration with a client certificate of that user.
    pub fn config(&self, user: &str, groups: &[&str]) -> Result<kube::Config> {
        access::config(&self.inner.plan, &self.inner.authority, user, groups)
    }

    /// A client of user `admin`, who may do everything; of this runtime only.
    pub fn client(&self) -> Result<Client> {
        self.client_as("admin", &["system:masters"])
    }

    /// A client of that user; of this runtime only.
    pub fn client_as(&self, user: &str, groups: &[&str]) -> Result<Client> {
        Ok(Client::try_from(self.config(user, groups)?)?)
    }
}
