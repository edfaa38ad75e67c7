//! The operator's release build as a process, as a cluster would run it.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use botsecret_testbed::{Cluster, Process, wait_for};

use super::{processes, support};

/// Its user at the API server.
pub const USER: &str = "botsecret-operator";

const PATIENCE: Duration = Duration::from_mins(2);

/// A running operator, with settings as they are by default.
pub struct Operator {
    process: Process,
    port: u16,
    started: Instant,
    log: PathBuf,
}

impl Operator {
    /// Starts it over the whole cluster, without waiting for anything.
    pub async fn start(cluster: &Cluster, own_namespace: &str) -> Result<Self> {
        support::grant(cluster, USER).await?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = cluster.folder().join("operator.log");
        let arguments = [
            "operator".to_owned(),
            format!("--kubeconfig={}", cluster.kubeconfig(USER, &[])?.display()),
            format!("--operator-namespace={own_namespace}"),
            format!("--listen=127.0.0.1:{port}"),
        ];
        let started = Instant::now();
        let process = Process::start(Path::new(env!("CARGO_BIN_EXE_botsecret")), &arguments, &[], &log)?;
        Ok(Self { process, port, started, log })
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Waits until its caches are complete.
    pub async fn until_ready(&self) -> Result<()> {
        wait_for("the operator to be ready", PATIENCE, async || {
            ensure!(self.process.exited().is_none(), "it has ended");
            let answer = reqwest::get(format!("http://127.0.0.1:{}/readyz", self.port)).await?;
            Ok(answer.status().is_success().then_some(()))
        })
        .await
        .with_context(|| self.last_words())
    }

    /// The sum of a metric over its labels.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let text =
            reqwest::get(format!("http://127.0.0.1:{}/metrics", self.port)).await?.error_for_status()?.text().await?;
        let of_name =
            text.lines().filter_map(|line| line.strip_prefix(name)).filter(|rest| rest.starts_with([' ', '{']));
        let values = of_name.filter_map(|rest| rest.rsplit_once(' ')?.1.parse::<f64>().ok());
        Ok(values.sum())
    }

    /// Waits until so many passes have ended well since the start.
    pub async fn until_passes(&self, count: usize) -> Result<()> {
        #[expect(clippy::cast_precision_loss, reason = "a count of objects")]
        let all = count as f64;
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let failed = self.metric("botsecret_reconcile_failures_total").await?;
                if failed > 0.0 {
                    bail!("{failed} passes failed");
                }
                if self.metric("botsecret_reconciles_total").await? >= all {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        waited
            .await
            .context("the operator did not look at every BotSecret in time")
            .flatten()
            .with_context(|| self.last_words())
    }

    /// Processor seconds so far.
    pub fn cpu(&self) -> Result<f64> {
        processes::seconds(self.process.pid())
    }

    /// The most memory that it ever had resident, in MB.
    pub fn peak_memory(&self) -> Result<f64> {
        processes::megabytes(self.process.pid(), "VmHWM")
    }

    /// The memory that it has resident, in MB.
    pub fn memory(&self) -> Result<f64> {
        processes::megabytes(self.process.pid(), "VmRSS")
    }

    /// SIGTERM, waited for.
    pub async fn stop(&self) -> Result<()> {
        self.process.stop(Duration::from_secs(20)).await;
        let status = self.process.exited().context("it has not ended")?;
        ensure!(status.success(), "the operator ended with {status}: {}", self.last_words());
        Ok(())
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        format!("the operator's last lines:\n{}", lines[lines.len().saturating_sub(10)..].join("\n"))
    }
}
