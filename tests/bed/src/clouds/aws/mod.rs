//! AWS as far as bots see it: ministack, which verifies signatures and
//! evaluates policies, behind a front that checks what it does not.

mod admin;
mod front;
mod machine;
mod model;
mod rights;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::cluster::{Cluster, lock};
use crate::process::{Process, server_environment};
use crate::tokens::ClusterKeys;
use crate::{peers, ports, runtime, temp, wait_for};

pub use admin::{ACCOUNT, AwsAdmin, REGION};
pub use front::AwsRequest;
pub use machine::{instance_metadata, pod_identity};

const PATIENCE: Duration = Duration::from_mins(1);

/// A running peer; dropped, it is gone with its data.
#[derive(Debug)]
pub struct Aws {
    peer: SocketAddr,
    issuer: String,
    front: Front,
    rights: Rights,
    log: PathBuf,
    _process: Process,
    _folder: TempDir,
}

use front::Front;
use rights::Rights;

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Aws {
    /// Starts it; its roles can trust the cluster's ServiceAccounts.
    pub async fn start(cluster: &'static Cluster) -> Result<Self> {
        runtime::install_crypto();
        let (folder, port) = (temp::folder()?, ports::free()?);
        let log = folder.path().join("ministack.log");
        let mut environment = server_environment(folder.path());
        let settings = [("AUTH", "true"), ("BIND_HOST", "127.0.0.1"), ("LOG_LEVEL", "WARNING"), ("SFTP_ENABLED", "0")];
        environment.extend(settings.map(|(name, value)| (name.into(), value.into())));
        environment.push(("GATEWAY_PORT".into(), port.to_string().into()));
        let process = Process::start(&peers::program("ministack")?, &[] as &[&str], &environment, &log)?;
        let peer = SocketAddr::from(([127, 0, 0, 1], port));
        let answers = async || {
            let client = reqwest::Client::builder().no_proxy().build()?;
            client.get(format!("http://{peer}/_ministack/health")).send().await?;
            Ok(Some(()))
        };
        wait_for("ministack to answer", PATIENCE, answers)
            .await
            .with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
        let issuer = runtime::run(async move { Ok(ClusterKeys::fetch(cluster).await?.issuer().to_owned()) }).await?;
        let rights = Rights::default();
        let front = Front::start(cluster, peer, rights.clone()).await?;
        Ok(Self { peer, issuer, front, rights, log, _process: process, _folder: folder })
    }

    /// Where all of its services answer, by plain HTTP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.front.address
    }

    /// The same as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.front.address)
    }

    /// An administrator; of this runtime only.
    pub fn admin(&self) -> Result<AwsAdmin> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let (account, region) = (ACCOUNT.to_owned(), REGION.to_owned());
        let rights = self.rights.clone();
        Ok(AwsAdmin { peer: self.peer, issuer: self.issuer.clone(), account, region, client, rights })
    }

    /// What was asked so far, but for what administrators asked.
    #[must_use]
    pub fn requests(&self) -> Vec<AwsRequest> {
        lock(&self.front.requests).clone()
    }

    /// Its log.
    #[must_use]
    pub fn logs(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}
