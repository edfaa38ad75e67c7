//! The operator as a process of its own.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use botsecret_testbed::{Cluster, Process, free_port, wait_for};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde::Deserialize;
use serde_json::json;

use super::{DEADLINE, Result};

/// How an operator is started.
#[derive(Clone, Debug)]
pub struct OperatorOptions {
    /// Its user at the API server.
    pub user: String,
    /// The namespaces that it serves; none: all.
    pub namespaces: Vec<String>,
    /// Where its digest key lies.
    pub own_namespace: String,
    /// Its kubeconfig, where it is not the cluster's (a proxy's, say).
    pub kubeconfig: Option<PathBuf>,
    /// Where its log goes.
    pub folder: PathBuf,
}

/// A running operator.
pub struct Operator {
    process: Option<Process>,
    arguments: Vec<String>,
    log: PathBuf,
    port: u16,
    user: String,
    /// By which script it is started, and in which folder.
    script: Option<(&'static str, PathBuf)>,
}

/// With core dumps of any size allowed.
const DUMPS_ALLOWED: &str = r#"cd "$0" && ulimit -c unlimited && exec "$@""#;
/// The same without the capabilities that root has, capabilities(7).
const WITHOUT_CAPABILITIES: &str =
    r#"cd "$0" && ulimit -c unlimited && exec setpriv --bounding-set=-all --inh-caps=-all "$@""#;

impl Operator {
    /// Starts one with exactly the rights that the manifests grant, and waits
    /// until it is ready.
    pub async fn start(cluster: &Cluster, options: &OperatorOptions) -> Result<Self> {
        Self::start_with(cluster, options, &[]).await
    }

    /// The same with more arguments.
    pub async fn start_with(cluster: &Cluster, options: &OperatorOptions, more: &[&str]) -> Result<Self> {
        grant(cluster, &options.user).await?;
        let mut operator = Self::prepare(cluster, options, more)?;
        operator.launch()?;
        operator.until_ready().await?;
        Ok(operator)
    }

    /// One that does not run yet, and is given no rights.
    pub fn prepare(cluster: &Cluster, options: &OperatorOptions, more: &[&str]) -> Result<Self> {
        let kubeconfig = match &options.kubeconfig {
            Some(path) => path.clone(),
            None => cluster.kubeconfig(&options.user, &[])?,
        };
        let port = free_port()?;
        let mut arguments: Vec<String> =
            ["operator", "--log-format", "json", "--log-level", "trace"].map(String::from).into();
        arguments.extend(["--kubeconfig".into(), kubeconfig.display().to_string()]);
        arguments.extend(["--operator-namespace".into(), options.own_namespace.clone()]);
        arguments.extend(["--listen".into(), format!("127.0.0.1:{port}")]);
        if !options.namespaces.is_empty() {
            arguments.extend(["--namespaces".into(), options.namespaces.join(",")]);
        }
        arguments.extend(more.iter().copied().map(String::from));
        let log = options.folder.join(format!("{}.log", options.user.replace(':', "_")));
        Ok(Self { process: None, arguments, log, port, user: options.user.clone(), script: None })
    }

    /// Starts the process, without waiting for anything.
    pub fn launch(&mut self) -> Result {
        let program = Path::new(env!("CARGO_BIN_EXE_botsecret"));
        let environment = [("RUST_BACKTRACE".into(), "1".into())];
        let process = match &self.script {
            None => Process::start(program, &self.arguments, &environment, &self.log)?,
            Some((script, folder)) => {
                let mut arguments = vec!["-c".to_owned(), (*script).to_owned(), folder.display().to_string()];
                arguments.push(program.display().to_string());
                arguments.extend(self.arguments.iter().cloned());
                Process::start(Path::new("/bin/sh"), &arguments, &environment, &self.log)?
            }
        };
        self.process = Some(process);
        Ok(())
    }

    /// Starts it anew in this folder, where the system lets it leave core dumps of any
    /// size, with these arguments more.
    pub async fn restart_where_dumps_are_allowed(&mut self, folder: &Path, more: &[&str]) -> Result {
        self.restart_by(DUMPS_ALLOWED, folder, more).await
    }

    /// The same as a user who has no capabilities: where this is root, it gives them up.
    pub async fn restart_without_capabilities(&mut self, folder: &Path, more: &[&str]) -> Result {
        let script = if rustix::process::geteuid().is_root() { WITHOUT_CAPABILITIES } else { DUMPS_ALLOWED };
        self.restart_by(script, folder, more).await
    }

    /// Ends it and starts it anew with these arguments more.
    pub async fn restart_with(&mut self, more: &[&str]) -> Result {
        self.terminate().await?;
        self.arguments.extend(more.iter().copied().map(String::from));
        self.start_again().await
    }

    async fn restart_by(&mut self, script: &'static str, folder: &Path, more: &[&str]) -> Result {
        self.terminate().await?;
        self.script = Some((script, folder.to_owned()));
        self.arguments.extend(more.iter().copied().map(String::from));
        self.start_again().await
    }

    /// Has it end by this signal, as a crash does; answers whether a core was dumped.
    pub async fn crash(&mut self, signal: &str) -> Result<bool> {
        self.signal(signal)?;
        let process = self.process.take().context("it does not run")?;
        let status = tokio::time::timeout(DEADLINE, process.wait()).await.context("it goes on")?;
        Ok(std::os::unix::process::ExitStatusExt::core_dumped(&status))
    }

    /// Its number.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("it does not run")?.pid())
    }

    /// What it has in memory and may write to, mapping by mapping. It must run where
    /// dumps are allowed, or this as root.
    pub fn memory(&self) -> Result<Vec<Vec<u8>>> {
        let pid = self.pid()?;
        let memory = File::open(format!("/proc/{pid}/mem"))?;
        let mut mappings = Vec::new();
        // proc_pid_maps(5): the range, then what may be done with it.
        for line in std::fs::read_to_string(format!("/proc/{pid}/maps"))?.lines() {
            let mut words = line.split_whitespace();
            let (range, rights) = (words.next().context("no range")?, words.next().context("no rights")?);
            if rights.starts_with("rw") {
                let (from, to) = range.split_once('-').context("no range")?;
                let (from, to) = (u64::from_str_radix(from, 16)?, u64::from_str_radix(to, 16)?);
                let mut bytes = vec![0; usize::try_from(to - from)?];
                memory.read_exact_at(&mut bytes, from).with_context(|| line.to_owned())?;
                mappings.push(bytes);
            }
        }
        Ok(mappings)
    }

    /// The names of its threads, up to 15 bytes of each: proc(5), `comm`.
    pub fn threads(&self) -> Result<Vec<String>> {
        let pid = self.process.as_ref().context("it does not run")?.pid();
        let threads = std::fs::read_dir(format!("/proc/{pid}/task"))?;
        // One that ends meanwhile has no name any more.
        let names = threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
        Ok(names.map(|name| name.trim_end().to_owned()).collect())
    }

    /// Waits until its caches are complete.
    pub async fn until_ready(&self) -> Result {
        wait_for("the operator to be ready", DEADLINE, async || {
            let response = reqwest::get(format!("http://127.0.0.1:{}/readyz", self.port)).await?;
            Ok(response.status().is_success().then_some(()))
        })
        .await
        .with_context(|| self.log_tail())
    }

    /// kill -9.
    pub async fn kill(&mut self) -> Result {
        if let Some(process) = self.process.take() {
            process.kill().await;
        }
        Ok(())
    }

    /// SIGTERM; answers the exit code.
    pub async fn terminate(&mut self) -> Result<Option<i32>> {
        let Some(process) = self.process.take() else { return Ok(None) };
        process.stop(Duration::from_secs(20)).await;
        Ok(process.exited().and_then(|status| status.code()))
    }

    /// Sends a signal to the process, and waits for nothing.
    pub fn signal(&self, name: &str) -> Result {
        let pid = self.pid()?.to_string();
        let sent = std::process::Command::new("kill").args(["-s", name, &pid]).status()?;
        anyhow::ensure!(sent.success(), "no signal {name} was sent");
        Ok(())
    }

    /// Waits for the process to end by itself; answers the exit code.
    pub async fn until_ended(&mut self) -> Result<Option<i32>> {
        let process = self.process.take().context("it does not run")?;
        let status = tokio::time::timeout(DEADLINE, process.wait()).await.context("it goes on")?;
        Ok(status.code())
    }

    /// Starts it again after [`Operator::kill`] or [`Operator::terminate`].
    pub async fn start_again(&mut self) -> Result {
        self.launch()?;
        self.until_ready().await
    }

    /// Whether the process is there.
    pub fn is_running(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.exited().is_none())
    }

    /// Its user at the API server.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Everything that it logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Where it serves metrics and probes.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> Result<String> {
        Ok(reqwest::get(format!("http://127.0.0.1:{}/metrics", self.port)).await?.error_for_status()?.text().await?)
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().rev().take(30).collect();
        format!("the operator's last lines:\n{}", lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }
}

/// P4 over every test: no operator may have logged a value or a credential.
impl Drop for Operator {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let leaks = super::canary::leaks_in_log(&std::fs::read(&self.log).unwrap_or_default());
            assert!(leaks.is_empty(), "the operator's log shows {leaks:?}: {}", self.log.display());
        }
    }
}

/// The role of this kind in the manifests: tests run with exactly these rights.
pub fn role<T: serde::de::DeserializeOwned>(kind: &str) -> Result<T> {
    for document in serde_yaml::Deserializer::from_str(include_str!("../../deploy/rbac.yaml")) {
        let value = serde_json::Value::deserialize(document)?;
        if value["kind"] == kind {
            return Ok(serde_json::from_value(value)?);
        }
    }
    anyhow::bail!("deploy/rbac.yaml holds no {kind}")
}

/// Binds the rules of the manifests' ClusterRole to `user`.
pub async fn grant(cluster: &Cluster, user: &str) -> Result {
    let client = cluster.client()?;
    let role: ClusterRole = role("ClusterRole")?;
    let name = role.metadata.name.clone().context("the ClusterRole has no name")?;
    let params = PatchParams::apply("tests").force();
    Api::<ClusterRole>::all(client.clone()).patch(&name, &params, &Patch::Apply(&role)).await?;
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": format!("operator-{}", user.replace(':', "-")) },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
    }))?;
    let binding_name = binding.metadata.name.clone().unwrap_or_default();
    Api::<ClusterRoleBinding>::all(client).patch(&binding_name, &params, &Patch::Apply(&binding)).await?;
    Ok(())
}
