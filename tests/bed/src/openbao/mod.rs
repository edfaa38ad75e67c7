//! A real OpenBao server that trusts a cluster of the bed.

mod client;
mod requests;
mod trust;

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tempfile::TempDir;

use crate::cluster::{Cluster, lock};
use crate::pki::Authority;
use crate::process::{Process, server_environment};
use crate::{peers, ports, runtime, temp, wait_for};

pub use client::BaoClient;
pub use requests::{BaoMark, BaoRequest};
pub use trust::Role;

use requests::RequestLog;

const PATIENCE: Duration = Duration::from_mins(1);

/// How the server is to be.
#[derive(Clone, Debug, Default)]
pub struct OpenBaoOptions {
    /// TLS with a certificate authority of its own.
    pub tls: bool,
}

/// A running server; dropped, it is gone with its data.
///
/// Its storage is a folder, so that its data outlives a stop or a kill; the
/// server itself starts sealed, and `start_again` unseals it.
pub struct OpenBao {
    process: Mutex<Option<Process>>,
    url: String,
    authority: Option<Authority>,
    config: PathBuf,
    log: PathBuf,
    requests: RequestLog,
    root_token: String,
    unseal_key: String,
    folder: TempDir,
}

impl std::fmt::Debug for OpenBao {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenBao").field("url", &self.url).finish_non_exhaustive()
    }
}

impl OpenBao {
    /// Starts a server, unseals it, and makes `auth/kubernetes` and `auth/jwt`
    /// trust the cluster.
    pub async fn start(cluster: &Cluster, options: OpenBaoOptions) -> Result<Self> {
        runtime::install_crypto();
        let mut attempt = 0;
        let mut bao = loop {
            let bao = Self::prepare(&options)?;
            bao.launch()?;
            match bao.wait_for_answer().await {
                Ok(()) => break bao,
                Err(error) if attempt < 2 && format!("{error:#}").contains("already in use") => {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        };
        bao.initialize().await?;
        trust::trust(&bao.root()?, cluster).await.with_context(|| bao.logs())?;
        Ok(bao)
    }

    fn prepare(options: &OpenBaoOptions) -> Result<Self> {
        let folder = temp::folder()?;
        let file = |name: &str| folder.path().join(name);
        let port = ports::free()?;
        let authority = options.tls.then(|| Authority::new("testbed OpenBao")).transpose()?;
        let mut listener = json!({"address": format!("127.0.0.1:{port}")});
        if let Some(authority) = &authority {
            let serving = authority.server(&["127.0.0.1", "localhost"])?;
            std::fs::write(file("tls.crt"), serving.certificate)?;
            std::fs::write(file("tls.key"), serving.key)?;
            listener["tls_cert_file"] = json!(file("tls.crt"));
            listener["tls_key_file"] = json!(file("tls.key"));
        } else {
            listener["tls_disable"] = json!(true);
        }
        let scheme = if options.tls { "https" } else { "http" };
        let url = format!("{scheme}://127.0.0.1:{port}");
        // Audit devices cannot be made by the API any more (OpenBao 2.4).
        let config = json!({
            // What keeps data and needs no server of its own: OpenBao has no
            // `file` storage. Election timeouts are as short as they go.
            "storage": {"raft": {
                "path": file("data"), "node_id": "testbed", "performance_multiplier": 1,
            }},
            "listener": {"tcp": listener},
            "api_addr": url,
            "cluster_addr": format!("https://127.0.0.1:{}", ports::free()?),
            "ui": false,
            "audit": {"file": {"requests": {
                "description": "what was asked, to be counted",
                "options": {"file_path": file("audit.log"), "hmac_accessor": "false"},
            }}},
        });
        std::fs::create_dir(file("data"))?;
        std::fs::write(file("config.json"), config.to_string())?;
        Ok(Self {
            process: Mutex::default(),
            url,
            authority,
            config: file("config.json"),
            log: file("bao.log"),
            requests: RequestLog::new(file("audit.log")),
            root_token: String::new(),
            unseal_key: String::new(),
            folder,
        })
    }

    fn launch(&self) -> Result<()> {
        let mut process = lock(&self.process);
        ensure!(process.is_none(), "OpenBao runs already");
        let config = self.config.display().to_string();
        *process = Some(Process::start(
            &peers::program("bao")?,
            &["server", "-config", &config],
            &server_environment(self.folder.path()),
            &self.log,
        )?);
        Ok(())
    }

    async fn wait_for_answer(&self) -> Result<()> {
        let client = self.client("")?;
        wait_for("OpenBao to answer", PATIENCE, || async {
            if lock(&self.process).as_ref().is_some_and(|p| p.exited().is_some()) {
                return Ok(Some(false));
            }
            client.request("GET", "sys/seal-status", None).await?;
            Ok(Some(true))
        })
        .await
        .and_then(|answers| if answers { Ok(()) } else { bail!("OpenBao ended early") })
        .with_context(|| self.logs())
    }

    async fn initialize(&mut self) -> Result<()> {
        let shares = json!({"secret_shares": 1, "secret_threshold": 1});
        let keys = self.client("")?.write("sys/init", &shares).await?;
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        self.root_token = text(&keys["root_token"]).context("no root token")?;
        self.unseal_key = text(&keys["keys_base64"][0]).context("no unseal key")?;
        self.unseal().await
    }

    /// Where it listens: `http://127.0.0.1:PORT`, or `https`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its certificate authority, where it has TLS.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.authority.as_ref().map(Authority::pem)
    }

    /// The token that may do everything.
    #[must_use]
    pub fn root_token(&self) -> &str {
        &self.root_token
    }

    /// A client with the root token; of this runtime only.
    pub fn root(&self) -> Result<BaoClient> {
        self.client(&self.root_token)
    }

    /// A client with that token; of this runtime only.
    pub fn client(&self, token: &str) -> Result<BaoClient> {
        BaoClient::new(&self.url, self.ca_pem(), token)
    }

    /// Seals it: it answers 503 to everything but a few `sys` paths.
    pub async fn seal(&self) -> Result<()> {
        self.root()?.write("sys/seal", &json!({})).await?;
        Ok(())
    }

    /// Unseals it and waits until it serves.
    pub async fn unseal(&self) -> Result<()> {
        let client = self.client("")?;
        client.write("sys/unseal", &json!({"key": self.unseal_key})).await?;
        wait_for("OpenBao to be unsealed and active", PATIENCE, || async {
            let (status, _) = client.request("GET", "sys/health", None).await?;
            Ok((status == 200).then_some(()))
        })
        .await
        .with_context(|| self.logs())
    }

    /// Ends it and waits until it has ended; its data stays.
    pub async fn stop(&self) -> Result<()> {
        self.take()?.stop(Duration::from_secs(20)).await;
        Ok(())
    }

    /// Kills it; its data stays.
    pub async fn kill(&self) -> Result<()> {
        self.take()?.kill().await;
        Ok(())
    }

    /// Starts it again on the same port and data, unsealed.
    pub async fn start_again(&self) -> Result<()> {
        self.launch()?;
        self.wait_for_answer().await?;
        self.unseal().await
    }

    fn take(&self) -> Result<Process> {
        lock(&self.process).take().context("OpenBao does not run")
    }

    /// Everything that anyone has asked it for, the bed's own requests included.
    pub fn requests(&self) -> Result<Vec<BaoRequest>> {
        self.requests.since(BaoMark::default())
    }

    /// The point after all that was asked until now.
    pub fn mark(&self) -> Result<BaoMark> {
        self.requests.mark()
    }

    /// What was asked since then.
    pub fn requests_since(&self, mark: &BaoMark) -> Result<Vec<BaoRequest>> {
        self.requests.since(*mark)
    }

    /// How many logins were tried since then, whichever way and whatever came of them.
    pub fn logins_since(&self, mark: &BaoMark) -> Result<usize> {
        let requests = self.requests_since(mark)?;
        Ok(requests.iter().filter(|request| request.is_login()).count())
    }

    /// Where its log lies, and its last lines.
    #[must_use]
    pub fn logs(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(15)..].join("\n  ");
        format!("{}:\n  {tail}", self.log.display())
    }
}
