//! A stand-in for the kubelet: pods of one node as processes of this machine.
//!
//! kwok calls a pod Running whose Secret is missing; here containers really
//! run, with the values that the API holds at the moment of their start.

mod address;
mod bot;
mod container;
mod environment;
mod layout;
mod pod;
mod probes;
mod sandbox;
mod status;
mod volumes;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use kube::{Client, Config};
use tokio::task::JoinHandle;

use crate::cluster::{lock, register};
use crate::process::Process;
use crate::runtime;

pub use bot::bot_binary;

/// The kubelet stand-in of one node; a handle that can be cloned.
#[derive(Clone, Debug)]
pub struct Kubelet {
    node: Arc<Node>,
    task: Arc<JoinHandle<()>>,
}

/// A process that runs, or ran, as a container.
#[derive(Clone, Debug)]
pub struct RunningContainer {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's uid.
    pub pod_uid: String,
    /// The container's name.
    pub container: String,
    /// Its process 1, as this machine numbers it.
    pub host_pid: u32,
    /// When its command was started.
    pub started_at: SystemTime,
    /// How often the container had been started before, in this pod.
    pub restarts: u32,
}

impl RunningContainer {
    /// The environment it was started with.
    pub fn environment(&self) -> Result<BTreeMap<String, String>> {
        let path = format!("/proc/{}/environ", self.host_pid);
        let bytes = std::fs::read(&path).context(path)?;
        let text = String::from_utf8_lossy(&bytes);
        let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
        Ok(pairs.map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// A file as the container sees it.
    pub fn read_file(&self, path: &str) -> Result<Vec<u8>> {
        let path = format!("/proc/{}/root/{path}", self.host_pid);
        std::fs::read(&path).context(path)
    }
}

/// What the parts of one kubelet share.
#[derive(Debug)]
struct Node {
    name: String,
    folder: PathBuf,
    api_port: u16,
    client: ApiClient,
    containers: Mutex<Vec<(RunningContainer, Weak<Process>)>>,
    ending: AtomicBool,
    start_delay: Mutex<Duration>,
    sync_period: Mutex<Duration>,
}

/// `kube::Client` does not say what it is in a `Debug` output.
#[derive(Clone)]
struct ApiClient(Client);

impl std::fmt::Debug for ApiClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiClient")
    }
}

impl Kubelet {
    /// Registers the node and starts to run what is bound to it.
    pub(crate) async fn start(name: &str, config: Config, folder: PathBuf, api_port: u16) -> Result<Self> {
        sandbox::check()?;
        let name = name.to_owned();
        runtime::run(async move {
            for part in ["pods", "logs"] {
                std::fs::create_dir_all(folder.join(part))?;
            }
            let client = Client::try_from(config)?;
            register(&client, &name, "process", false).await?;
            let node = Arc::new(Node {
                name,
                folder,
                api_port,
                client: ApiClient(client),
                containers: Mutex::default(),
                ending: AtomicBool::new(false),
                start_delay: Mutex::new(Duration::ZERO),
                sync_period: Mutex::new(Duration::from_secs(2)),
            });
            let task = tokio::spawn(watch::run(Arc::clone(&node)));
            Ok(Self { node, task: Arc::new(task) })
        })
        .await
    }

    /// The node's name.
    #[must_use]
    pub fn node_name(&self) -> &str {
        &self.node.name
    }

    /// Standard output and error of all runs of a container, in all pods of
    /// that name; kept after the pod is gone.
    pub fn logs(&self, namespace: &str, pod: &str, container: &str) -> Result<String> {
        let path = self.node.log(namespace, pod, container);
        let bytes = std::fs::read(&path).with_context(|| format!("no log of {namespace}/{pod}/{container}"))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The containers that run now, in the order of their start.
    #[must_use]
    pub fn processes(&self) -> Vec<RunningContainer> {
        let containers = lock(&self.node.containers);
        let running = containers
            .iter()
            .filter(|(_, process)| process.upgrade().is_some_and(|process| process.exited().is_none()));
        running.map(|(container, _)| container.clone()).collect()
    }

    /// Every container process that was ever started here, in order.
    #[must_use]
    pub fn history(&self) -> Vec<RunningContainer> {
        let containers = lock(&self.node.containers);
        containers.iter().map(|(container, _)| container.clone()).collect()
    }

    /// How long a pod waits before its values are read, as for a slow image.
    pub fn set_start_delay(&self, delay: Duration) {
        *lock(&self.node.start_delay) = delay;
    }

    /// How often mounted Secrets, ConfigMaps and tokens are brought up to date.
    pub fn set_sync_period(&self, period: Duration) {
        *lock(&self.node.sync_period) = period;
    }

    /// Kills all that runs here and waits for its end.
    pub(crate) fn shut_down(&self) {
        self.task.abort();
        let running: Vec<Arc<Process>> = {
            let containers = lock(&self.node.containers);
            // Under the lock under which containers are taken in.
            self.node.ending.store(true, Ordering::SeqCst);
            containers.iter().filter_map(|(_, process)| process.upgrade()).collect()
        };
        for process in running {
            process.kill_now();
        }
    }
}

impl Node {
    fn client(&self) -> Client {
        self.client.0.clone()
    }

    fn log(&self, namespace: &str, pod: &str, container: &str) -> PathBuf {
        let folder = self.folder.join("logs").join(namespace).join(pod);
        folder.join(format!("{container}.log"))
    }

    fn pod_folder(&self, uid: &str) -> PathBuf {
        self.folder.join("pods").join(uid)
    }

    /// Takes a started container in; not while the node is being shut down.
    fn take_in(&self, container: RunningContainer, process: &Arc<Process>) {
        let mut containers = lock(&self.containers);
        containers.push((container, Arc::downgrade(process)));
        if self.ending.load(Ordering::SeqCst) {
            process.kill_now();
        }
    }
}

fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().context("a path without parent")?;
    std::fs::create_dir_all(parent).with_context(|| parent.display().to_string())
}
