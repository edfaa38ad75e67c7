//! The operator as a local process, with the ServiceAccount and the rights that
//! `deploy/` gives it, and no others.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use botsecret_testbed::{Process, free_port, wait_for};
use serde_json::{Value, json};

use super::kubectl::Kubectl;

const NAMESPACE: &str = "botsecret-system";
const ACCOUNT: &str = "botsecret";
/// Its user at the API server.
pub const USER: &str = "system:serviceaccount:botsecret-system:botsecret";

/// A running operator.
pub struct Operator {
    process: Process,
    port: u16,
    log: PathBuf,
}

impl Operator {
    /// Starts it for these namespaces and waits until it is ready.
    pub async fn start(program: &Path, kubectl: &Kubectl, folder: &Path, namespaces: &[&str]) -> Result<Self> {
        let kubeconfig = kubeconfig(kubectl, folder).await?;
        let port = free_port()?;
        let log = folder.join("operator.log");
        let arguments = [
            "operator".to_owned(),
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--operator-namespace={NAMESPACE}"),
            format!("--namespaces={}", namespaces.join(",")),
            format!("--listen=127.0.0.1:{port}"),
            "--log-format=human".to_owned(),
        ];
        let environment = [("NO_COLOR".into(), "1".into())];
        let process = Process::start(program, &arguments, &environment, &log)?;
        let operator = Self { process, port, log };
        wait_for("the operator to be ready", Duration::from_secs(60), async || {
            if operator.process.exited().is_some() {
                bail!("it has ended");
            }
            let answer = reqwest::get(format!("http://127.0.0.1:{port}/readyz")).await?;
            Ok(answer.status().is_success().then_some(()))
        })
        .await
        .with_context(|| operator.last_words())?;
        Ok(operator)
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where it writes what it does.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How often it has read a manager.
    pub async fn reads(&self) -> Result<u64> {
        let text = reqwest::get(format!("http://127.0.0.1:{}/metrics", self.port)).await?.text().await?;
        let count = text.lines().find_map(|line| line.strip_prefix("botsecret_store_reads_total "));
        count.context("there is no metric botsecret_store_reads_total")?.parse().context("it is no number")
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        format!("the operator's last lines:\n{}", lines[lines.len().saturating_sub(10)..].join("\n"))
    }
}

/// A kubeconfig that knows nothing but the ServiceAccount's token.
async fn kubeconfig(kubectl: &Kubectl, folder: &Path) -> Result<PathBuf> {
    let token = kubectl.run(&["create", "token", ACCOUNT, "-n", NAMESPACE, "--duration=1h"], None).await?;
    let view = kubectl.run(&["config", "view", "--minify", "--flatten", "--raw", "-o", "json"], None).await?;
    let mut config: Value = serde_json::from_str(&view)?;
    let users = config["users"].as_array_mut().context("the kubeconfig has no users")?;
    for user in users {
        user["user"] = json!({ "token": token.trim() });
    }
    let path = folder.join("operator.kubeconfig");
    std::fs::write(&path, "")?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    std::fs::write(&path, config.to_string())?;
    Ok(path)
}
