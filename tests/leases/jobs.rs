//! What holds on to a credential while it is replaced keeps it: jobs and bare
//! pods, whatever is edited and whatever else rotates meanwhile.

use std::time::Duration;

use botsecret_testbed::{database_role, wait_for};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::{Value, json};

use crate::{
    bank::{Bank, Terms, counter, until_credential, until_replaced, until_states},
    support::{Bench, DEADLINE, Result, next_second},
};

/// Pods are looked at ever more seldom: a minute apart, a minute after the write.
const LOOKS: Duration = Duration::from_secs(180);

/// A pod that uses the credential's keys alone, and goes on until it is told to
/// end; it then has succeeded.
fn pod_spec(secret: &str) -> Value {
    let of = |name: &str| json!({ "name": name, "valueFrom": { "secretKeyRef": { "name": secret, "key": name } } });
    json!({
        "nodeSelector": { "testbed.botsecret.dev/runtime": "process" },
        "restartPolicy": "Never",
        "containers": [{
            "name": "bot", "image": "sh",
            "command": ["sh", "-c", "trap 'exit 0' TERM; echo holds=$username; while :; do sleep 0.1; done"],
            "env": [of("username"), of("password")],
        }],
    })
}

fn bare(name: &str, secret: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": pod_spec(secret) })
}

fn job(name: &str, secret: &str) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": name },
        "spec": { "template": { "spec": pod_spec(secret) } },
    })
}

/// Lets the processes of a pod end by themselves.
async fn finish(bench: &Bench, app: &str) -> Result {
    for process in bench.kubelet()?.processes() {
        if process.namespace == bench.namespace && process.pod.starts_with(app) {
            let pid = process.host_pid.to_string();
            anyhow::ensure!(std::process::Command::new("kill").args(["-s", "TERM", &pid]).status()?.success());
        }
    }
    let pods: Api<Pod> = Api::namespaced(bench.client.clone(), &bench.namespace);
    wait_for(&format!("{app} to have succeeded"), DEADLINE, async || {
        let pods = pods.list(&ListParams::default()).await?;
        let pod = pods.into_iter().find(|pod| pod.name_any().starts_with(app));
        Ok((pod.and_then(|pod| pod.status?.phase).as_deref() == Some("Succeeded")).then_some(()))
    })
    .await
}

/// Waits until the operator has looked at the pods once more, and is through
/// with what it did about them.
async fn until_looked(bench: &Bench) -> Result {
    let mark = bench.cluster.audit().mark().await?;
    wait_for("the operator to look at pods", LOOKS, async || {
        let requests = bench.cluster.audit().requests_by_since(bench.operator.user(), &mark).await?;
        let mut looks = requests.iter().filter(|request| request.verb == "list" && request.resource == "pods");
        Ok(looks.any(|request| request.namespace == bench.namespace).then_some(()))
    })
    .await?;
    bench.until_more_reads(2).await
}

/// A bank with a second role, and an entry beside the credential that is read
/// and rotates by itself.
async fn scene(bench: &Bench) -> Result<(Bank, Value)> {
    let bank = Bank::new(bench, Terms::default()).await?;
    bank.root.write(&format!("{}/roles/other", bank.name), &database_role("10m", "1h")).await?;
    bench.put_source("plain", &[("KEY", "first")]).await?;
    bench.kubernetes_store("source").await?;
    let mut object = bank.bot_secret("db");
    let plain = json!({ "extract": { "key": "plain" }, "storeRef": { "name": "source" } });
    object["spec"]["dataFrom"].as_array_mut().unwrap().push(plain);
    Ok((bank, object))
}

/// Another path, and so another credential.
fn move_to_other(bank: &Bank, object: &mut Value) {
    object["spec"]["dataFrom"][0]["dynamic"]["path"] = json!(format!("{}/creds/other", bank.name));
}

async fn until_dropped(bank: &Bank, held: &(String, String)) -> Result {
    wait_for("the old user to be dropped", LOOKS, async || {
        Ok((!bank.servers.postgres.accepts(&held.0, &held.1).await).then_some(()))
    })
    .await
}

/// The old credential works after another look at what may hold it, and goes
/// soon after that has ended, though it is still there as succeeded.
async fn keeps_it_to_its_end(bench: &Bench, bank: &Bank, app: &str, held: &(String, String)) -> Result {
    until_states(bench, "db", &["Retiring", "Live"]).await?;
    until_looked(bench).await?;
    assert!(bank.servers.postgres.accepts(&held.0, &held.1).await, "revoked while a pod holds it");
    assert_eq!(counter(bench, "lease_revocations").await?, 0);
    finish(bench, app).await?;
    until_dropped(bank, held).await?;
    until_states(bench, "db", &["Live"]).await?;
    assert_eq!(counter(bench, "lease_revocations").await?, 1);
    Ok(())
}

#[tokio::test]
async fn p7_a_job_keeps_its_credential_while_another_key_of_the_secret_rotates() -> Result {
    let bench = Bench::new("lease-job-key").await?;
    let (bank, mut object) = scene(&bench).await?;
    bench.apply(object.clone()).await?;
    let held = until_credential(&bench, "db").await?;
    bench.apply(job("batch", "db")).await?;
    bench.until_all_hold("batch", 1, &held.0).await?;
    move_to_other(&bank, &mut object);
    bench.apply(object).await?;
    until_replaced(&bench, "db", &held.0).await?;
    for value in ["second", "third"] {
        bench.put_source("plain", &[("KEY", value)]).await?;
        bench.until_value("db", "KEY", value).await?;
        bench.until_condition("db", "Ready", "True").await?;
    }
    keeps_it_to_its_end(&bench, &bank, "batch", &held).await
}

#[tokio::test]
async fn p7_a_pod_keeps_a_credential_that_rolls_nobody_when_its_entry_is_edited() -> Result {
    let bench = Bench::new("lease-pod-edit").await?;
    let (bank, mut object) = scene(&bench).await?;
    object["spec"]["dataFrom"][0]["rolls"] = json!(false);
    bench.apply(object.clone()).await?;
    let held = until_credential(&bench, "db").await?;
    bench.apply(bare("early-1", "db")).await?;
    bench.until_all_hold("early", 1, &held.0).await?;
    move_to_other(&bank, &mut object);
    bench.apply(object).await?;
    let (next, _) = until_replaced(&bench, "db", &held.0).await?;
    until_states(&bench, "db", &["Retiring", "Live"]).await?;
    // One that began later, in a later second, holds the new one and keeps
    // nothing from going.
    next_second().await;
    bench.apply(bare("late-1", "db")).await?;
    bench.until_all_hold("late", 1, &next).await?;
    keeps_it_to_its_end(&bench, &bank, "early", &held).await
}

#[tokio::test]
async fn p7_a_pod_of_the_secret_that_was_the_target_keeps_its_credential() -> Result {
    let bench = Bench::new("lease-pod-renamed").await?;
    let (bank, mut object) = scene(&bench).await?;
    bench.apply(object.clone()).await?;
    let held = until_credential(&bench, "db").await?;
    bench.apply(bare("early-1", "db")).await?;
    bench.until_all_hold("early", 1, &held.0).await?;
    object["spec"]["target"] = json!({ "name": "renamed" });
    bench.apply(object.clone()).await?;
    assert_eq!(until_credential(&bench, "renamed").await?, held, "no reason to issue another");
    move_to_other(&bank, &mut object);
    bench.apply(object).await?;
    until_replaced(&bench, "renamed", &held.0).await?;
    keeps_it_to_its_end(&bench, &bank, "early", &held).await
}
