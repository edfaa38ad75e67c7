//! `botsecret rotate`, as a person with rights of their own calls it.

use anyhow::Context as _;
use botsecret::api::EmergencyStatus;
use botsecret_testbed::wait_for;
use serde_json::{Value, json};
use tokio::process::Command;

use super::{Bench, DEADLINE, Result};

/// What a call came to.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A person who may do this with the BotSecrets of the bench's namespace.
pub struct Person<'a> {
    bench: &'a Bench,
    pub name: String,
    kubeconfig: std::path::PathBuf,
}

impl<'a> Person<'a> {
    pub async fn new(bench: &'a Bench, name: &str, verbs: &[&str]) -> Result<Self> {
        let user = format!("{name}:{}", bench.namespace);
        let person = Self { bench, kubeconfig: bench.cluster.kubeconfig(&user, &[])?, name: user.clone() };
        if verbs.is_empty() {
            return Ok(person);
        }
        bench
            .apply(json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": { "name": name },
                "rules": [{ "apiGroups": ["botsecret.dev"], "resources": ["botsecrets"], "verbs": verbs }],
            }))
            .await?;
        bench
            .apply(json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": { "name": name },
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name },
                "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
            }))
            .await?;
        // The authorizer learns of a right a moment after it was given.
        let api: kube::Api<botsecret::api::BotSecret> =
            kube::Api::namespaced(bench.cluster.client_as(&person.name, &[])?, &bench.namespace);
        wait_for("the right to be in force", DEADLINE, async || {
            api.get_opt("no-such-one").await?;
            Ok(Some(()))
        })
        .await?;
        Ok(person)
    }

    /// Calls `botsecret rotate` in the bench's namespace.
    pub async fn rotate(&self, arguments: &[&str]) -> Result<Said> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_botsecret"));
        command.arg("rotate").args(arguments).arg("--kubeconfig").arg(&self.kubeconfig);
        if !arguments.contains(&"-n") {
            command.args(["-n", &self.bench.namespace]);
        }
        let output = command.kill_on_drop(true).output().await?;
        Ok(Said {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    }

    /// The same, where it is to go well; answers what it printed.
    pub async fn rotated(&self, arguments: &[&str]) -> Result<Value> {
        let said = self.rotate(&[arguments, &["-o", "json"]].concat()).await?;
        anyhow::ensure!(said.code == Some(0), "{arguments:?}: {said:?}");
        Ok(serde_json::from_str(&said.stdout)?)
    }
}

/// What the status says of the last request.
pub async fn emergency(bench: &Bench, name: &str) -> Result<Option<EmergencyStatus>> {
    Ok(bench.bot_secrets().get(name).await?.status.and_then(|status| status.emergency))
}

/// Waits until the last request is in this phase; answers its record.
pub async fn until_emergency(bench: &Bench, name: &str, phase: &str) -> Result<EmergencyStatus> {
    wait_for(&format!("the rotation at once of {name} to be {phase}"), DEADLINE, async || {
        let record = emergency(bench, name).await?.context("no request is on record")?;
        anyhow::ensure!(record.phase == phase, "{record:?}");
        Ok(Some(record))
    })
    .await
}

/// How many events of this reason there are, and the notes of them.
pub async fn told(bench: &Bench, name: &str, reason: &str) -> Result<Vec<String>> {
    Ok(bench.events(name).await?.into_iter().filter(|(of, _)| of == reason).map(|(_, note)| note).collect())
}
