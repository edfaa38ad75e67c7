//! The bots: what they are, and what they noted.

use std::{fs, path::Path};

use anyhow::Context as _;
use botsecret_testbed::wait_for;
use serde_json::{Value, json};

use crate::support::{Bench, DEADLINE, Result};

/// How many Deployments, and how many pods each has.
pub const DEPLOYMENTS: usize = 6;
pub const REPLICAS: usize = 3;
/// The Secret that they all use.
pub const SECRET: &str = "database";

/// What bots noted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Requests {
    /// Every request.
    pub all: usize,
    /// Those that failed.
    pub failed: usize,
}

impl Requests {
    /// Counts, and prints the first few failures.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut requests = Self::default();
        for note in fs::read_dir(folder)? {
            let path = note?.path();
            for line in fs::read_to_string(&path)?.lines() {
                requests.all += 1;
                if line != "ok" {
                    requests.failed += 1;
                    if requests.failed <= 5 {
                        println!("failed: {}: {line}", path.display());
                    }
                }
            }
        }
        Ok(requests)
    }
}

/// Where the bots ask, and where they note.
pub struct Bots<'a> {
    pub bench: &'a Bench,
    pub port: u16,
    pub notes: &'a Path,
}

impl Bots<'_> {
    fn pod(&self, app: &str, rounds: Option<u64>) -> Result<Value> {
        // Built beside this benchmark, from the same workspace.
        let program = Path::new(env!("CARGO_BIN_EXE_botsecret")).with_file_name("testbed-database-bot");
        anyhow::ensure!(program.exists(), "{} is missing: run `make rotations`", program.display());
        let mut arguments = vec![self.port.to_string(), "/notes".to_owned()];
        arguments.extend(rounds.map(|rounds| rounds.to_string()));
        Ok(json!({
            "metadata": { "labels": { "app": app } },
            "spec": {
                "nodeSelector": { "testbed.botsecret.dev/runtime": "process" },
                "terminationGracePeriodSeconds": 20,
                "containers": [{
                    "name": "bot", "image": program, "args": arguments,
                    "envFrom": [{ "secretRef": { "name": SECRET } }],
                    "volumeMounts": [{ "name": "notes", "mountPath": "/notes" }],
                }],
                "volumes": [{ "name": "notes", "hostPath": { "path": self.notes } }],
            },
        }))
    }

    /// The Deployments, and a StatefulSet of two whose pods below the partition keep
    /// what they have.
    pub async fn deploy(&self, partition: i32) -> Result {
        for name in names() {
            self.bench
                .apply(json!({
                    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
                    "spec": {
                        "replicas": REPLICAS, "selector": { "matchLabels": { "app": name } },
                        "template": self.pod(&name, None)?,
                    },
                }))
                .await?;
        }
        self.bench
            .apply(json!({
                "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "ledger" },
                "spec": {
                    "replicas": 2, "selector": { "matchLabels": { "app": "ledger" } },
                    "podManagementPolicy": "Parallel",
                    "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "partition": partition } },
                    "template": self.pod("ledger", None)?,
                },
            }))
            .await?;
        Ok(())
    }

    /// A Job that asks for half a minute.
    pub async fn start_job(&self, number: u32) -> Result {
        let mut template = self.pod("job", Some(150))?;
        template["spec"]["restartPolicy"] = "Never".into();
        self.bench
            .apply(json!({
                "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": format!("job-{number}") },
                "spec": { "template": template, "backoffLimit": 0 },
            }))
            .await?;
        Ok(())
    }

    /// Waits until every bot of every Deployment holds this user, and the
    /// StatefulSet's last.
    pub async fn until_all_hold(&self, user: &str) -> Result {
        for name in names() {
            self.bench.until_all_hold(&name, REPLICAS, user).await.with_context(|| name.clone())?;
        }
        wait_for("the StatefulSet's last pod to hold it", DEADLINE, async || {
            let held = self.bench.holdings("ledger")?;
            Ok((held.len() >= 2 && held.iter().any(|one| one == user)).then_some(()))
        })
        .await
    }
}

/// The names of the Deployments.
pub fn names() -> Vec<String> {
    (1..=DEPLOYMENTS).map(|number| format!("bot{number}")).collect()
}
