//! kubectl, as an administrator of a test cluster.

use std::{path::PathBuf, process::Stdio};

use botsecret_testbed::{Cluster, peers};
use tokio::{io::AsyncWriteExt as _, process::Command};

pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    cache: PathBuf,
}

impl Kubectl {
    pub fn of(cluster: &Cluster) -> Self {
        let program = peers::program("kubectl").expect("kubectl");
        // Its own: what another cluster served on the same port is no guide.
        let cache = cluster.folder().join("kubectl-cache");
        Self { program, kubeconfig: cluster.admin_kubeconfig().expect("a kubeconfig"), cache }
    }

    /// Whether it went well, and what it said.
    pub async fn attempt(&self, arguments: &[&str], input: &str) -> (bool, String) {
        let mut child = Command::new(&self.program)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--cache-dir")
            .arg(&self.cache)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("kubectl starts");
        let mut stdin = child.stdin.take().expect("stdin");
        // It may end without reading.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = child.wait_with_output().await.expect("kubectl ends");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// What it said; it is to go well.
    pub async fn run(&self, arguments: &[&str], input: &str) -> String {
        let (well, said) = self.attempt(arguments, input).await;
        assert!(well, "kubectl {arguments:?}: {said}");
        said
    }
}
