//! The operator's processes of one run: they are killed, started again, and hand
//! over to each other.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, ensure};
use botsecret_testbed::{Process, free_port};
use futures::future::BoxFuture;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use tokio::sync::{mpsc, oneshot};

use crate::support::Result;

/// What is to happen to whoever writes at present.
pub enum Order {
    /// kill -9, and start it again.
    Kill,
    /// SIGTERM, and start it again when it has ended. Answered once the signal is
    /// sent.
    HandOver(oneshot::Sender<()>),
}

/// Hands orders on to those who can carry them out.
pub type Orders = mpsc::UnboundedSender<Order>;

/// How the processes are started.
pub struct Setting {
    pub client: Client,
    pub namespace: String,
    pub kubeconfig: PathBuf,
    pub folder: PathBuf,
    /// Two replicas and a Lease, instead of one process.
    pub replicas: bool,
    /// Whether one may end by itself: without its digest key it does, and is
    /// started again.
    pub may_end: bool,
}

struct Replica {
    arguments: Vec<String>,
    port: u16,
    process: Option<Arc<Process>>,
}

impl Replica {
    fn new(setting: &Setting, pod: usize) -> Result<Self> {
        let port = free_port()?;
        let words = ["operator", "--log-format", "json", "--log-level", "info"];
        let mut arguments: Vec<String> = words.map(String::from).into();
        for (name, value) in [
            ("--kubeconfig", setting.kubeconfig.display().to_string()),
            ("--namespaces", setting.namespace.clone()),
            ("--operator-namespace", setting.namespace.clone()),
            ("--listen", format!("127.0.0.1:{port}")),
        ] {
            arguments.extend([name.to_owned(), value]);
        }
        if setting.replicas {
            arguments.extend(["--leader-elect".to_owned(), "--pod-uid".to_owned(), pod_uid(pod)]);
        }
        Ok(Self { arguments, port, process: None })
    }
}

fn pod_uid(pod: usize) -> String {
    format!("pod-{pod}")
}

struct State {
    setting: Setting,
    replicas: tokio::sync::Mutex<Vec<Replica>>,
    /// What they did that none may do.
    wrong: Mutex<Vec<String>>,
}

/// All of them; gone when dropped.
pub struct Operators {
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Operators {
    fn drop(&mut self) {
        self.task.abort();
        // Where the run broke off: nobody else has them then.
        if let Ok(mut replicas) = self.state.replicas.try_lock() {
            for process in replicas.iter_mut().filter_map(|replica| replica.process.take()) {
                tokio::spawn(async move { process.kill().await });
            }
        }
    }
}

impl Operators {
    /// Starts the first, without waiting for anything.
    pub async fn start(setting: Setting, mut orders: mpsc::UnboundedReceiver<Order>) -> Result<Self> {
        let count = if setting.replicas { 2 } else { 1 };
        let replicas = (0..count).map(|pod| Replica::new(&setting, pod)).collect::<Result<Vec<_>>>()?;
        let state = Arc::new(State { setting, replicas: replicas.into(), wrong: Mutex::default() });
        state.clone().launch(0).await?;
        let known = state.clone();
        let task = tokio::spawn(async move {
            while let Some(order) = orders.recv().await {
                if let Err(error) = known.clone().carry_out(order).await {
                    known.note(format!("{error:#}"));
                }
            }
        });
        Ok(Self { state, task })
    }

    /// Starts the standby, where there is to be one: once the first leads.
    pub async fn start_standby(&self) -> Result {
        if self.state.setting.replicas {
            botsecret_testbed::wait_for("the first replica to lead", crate::support::DEADLINE, async || {
                self.state.leader().await.map(Some)
            })
            .await?;
            self.state.clone().launch(1).await?;
        }
        Ok(())
    }

    /// How often the one that writes has asked a manager since its start.
    pub async fn reads(&self) -> Result<u64> {
        let leader = self.state.leader().await?;
        let port = self.state.replicas.lock().await[leader].port;
        let text = reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await?.error_for_status()?.text().await?;
        let line = text.lines().find_map(|line| line.strip_prefix("botsecret_store_reads_total "));
        Ok(line.and_then(|text| text.trim().parse().ok()).unwrap_or(0))
    }

    /// What is wrong with them, now that the run is over, and what they logged.
    pub async fn end(self) -> (Vec<String>, Vec<u8>) {
        let running: Vec<_> =
            self.state.replicas.lock().await.iter_mut().filter_map(|replica| replica.process.take()).collect();
        for process in running {
            process.kill().await;
        }
        let wrong = std::mem::take(&mut *self.state.wrong.lock().expect("nobody panics with it"));
        (wrong, std::fs::read(self.state.setting.folder.join("operator.log")).unwrap_or_default())
    }
}

impl State {
    fn note(&self, what: String) {
        self.wrong.lock().expect("nobody panics with it").push(what);
    }

    /// Starts a replica.
    async fn launch(self: Arc<Self>, pod: usize) -> Result {
        let program = Path::new(env!("CARGO_BIN_EXE_botsecret"));
        let log = self.setting.folder.join("operator.log");
        let mut replicas = self.replicas.lock().await;
        let process = Arc::new(Process::start(program, &replicas[pod].arguments, &[], &log)?);
        replicas[pod].process = Some(process.clone());
        tokio::spawn(self.clone().watch_over(pod, process));
        Ok(())
    }

    /// Starts it again when it ends by itself, as a kubelet does.
    fn watch_over(self: Arc<Self>, pod: usize, process: Arc<Process>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let status = process.wait().await;
            let is_asked_to = {
                let replicas = self.replicas.lock().await;
                !replicas[pod].process.as_ref().is_some_and(|running| Arc::ptr_eq(running, &process))
            };
            if is_asked_to {
                return;
            }
            if !self.setting.may_end || status.code() != Some(1) {
                self.note(format!("P11: an operator ended by itself, with {status}"));
            }
            if let Err(error) = self.clone().launch(pod).await {
                self.note(format!("{error:#}"));
            }
        })
    }

    /// Which replica writes.
    async fn leader(&self) -> Result<usize> {
        if !self.setting.replicas {
            return Ok(0);
        }
        let api: Api<Lease> = Api::namespaced(self.setting.client.clone(), &self.setting.namespace);
        let holder = api.get("botsecret").await?.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
        (0..2).find(|pod| holder.ends_with(&format!("_{}", pod_uid(*pod)))).context("nobody leads")
    }

    async fn carry_out(self: Arc<Self>, order: Order) -> Result {
        // Before anybody leads, only the first is there.
        let leader = self.leader().await.unwrap_or(0);
        let process = self.replicas.lock().await[leader].process.take().context("it does not run")?;
        match order {
            Order::Kill => process.kill().await,
            Order::HandOver(sent) => {
                let pid = process.pid().to_string();
                ensure!(Command::new("kill").args(["-s", "TERM", &pid]).status()?.success(), "no signal was sent");
                // Who asked may be gone with its connection.
                let _ = sent.send(());
                let ended = tokio::time::timeout(Duration::from_secs(20), process.wait()).await;
                let code = ended.context("P8: it does not end at SIGTERM")?.code();
                ensure!(code == Some(0), "it ended at SIGTERM with {code:?}");
            }
        }
        self.launch(leader).await
    }
}
