//! Argo Rollouts, where a test wants it.

use anyhow::{Result, ensure};
use tokio::process::Command;

use super::components::{self, Component};
use super::{Cluster, PATIENCE};
use crate::{peers, runtime, wait_for};

impl Cluster {
    /// Installs the definitions of Argo Rollouts, and waits until they are served.
    pub async fn install_argo_definitions(&self) -> Result<()> {
        // kubectl follows no link to a folder.
        let folder = peers::share("argo-rollouts")?.canonicalize()?.display().to_string();
        self.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &folder]).await?;
        let served = async || self.kubectl(&["get", "rollouts.argoproj.io", "-A"]).await.map(Some);
        wait_for("Rollouts to be served", PATIENCE, served).await
    }

    /// The same, and starts the controller of Argo Rollouts.
    pub async fn start_argo_rollouts(&self) -> Result<()> {
        self.install_argo_definitions().await?;
        self.kubeconfig(components::ARGO_USER, &["system:masters"])?;
        self.launch(Component::ArgoRollouts)
    }

    async fn kubectl(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(peers::program("kubectl")?);
        command.arg("--kubeconfig").arg(self.admin_kubeconfig()?);
        command.arg("--cache-dir").arg(self.folder().join("kubectl-cache-argo")).args(arguments).kill_on_drop(true);
        let output = runtime::run(async move { Ok(command.output().await?) }).await?;
        ensure!(output.status.success(), "kubectl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}
