//! A namespace is deleted in the middle of a rotation. Counted in PostgreSQL and
//! in OpenBao, whatever the operator says.

use std::time::{Duration, Instant};

use anyhow::ensure;
use botsecret_testbed::{ALWAYS, FaultKind, wait_for};
use k8s_openapi::api::{batch::v1::Job, core::v1::Namespace};
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use serde_json::json;

use crate::{
    bank::{Bank, Terms, counter, until_credential, until_states},
    rotating::rotating,
    support::{Bench, DEADLINE, Operator, OperatorOptions, Result},
};

/// How long a namespace may take to go.
const MINUTE: Duration = Duration::from_secs(60);
/// What a login lives for where it is to end by itself.
const TTL: Duration = Duration::from_secs(20);
/// OpenBao ends a login at its time and its leases in the background.
const BACKGROUND: Duration = Duration::from_secs(15);

fn short() -> Terms {
    Terms { token_ttl: "20s", ..Terms::default() }
}

/// A bench whose operator keeps its own things elsewhere, and so outlives it.
async fn bench_apart(name: &str) -> Result<Bench> {
    let mut bench = Bench::new(name).await?;
    bench.operator.kill().await?;
    let options = OperatorOptions {
        user: format!("operator:{}:apart", bench.namespace),
        namespaces: vec![bench.namespace.clone()],
        own_namespace: bench.source.clone(),
        kubeconfig: None,
        folder: bench.folder().to_owned(),
    };
    bench.operator = Operator::start(bench.cluster, &options).await?;
    Ok(bench)
}

async fn delete(bench: &Bench) -> Result {
    let namespaces: Api<Namespace> = Api::all(bench.client.clone());
    namespaces.delete(&bench.namespace, &DeleteParams::default()).await?;
    Ok(())
}

/// Waits until the namespace is gone; answers how long it took since then.
async fn until_gone(bench: &Bench, since: Instant) -> Result<Duration> {
    let namespaces: Api<Namespace> = Api::all(bench.client.clone());
    wait_for("the namespace to be gone", MINUTE, async || {
        let Some(namespace) = namespaces.get_opt(&bench.namespace).await? else { return Ok(Some(())) };
        let conditions = namespace.status.and_then(|status| status.conditions).unwrap_or_default();
        let left: Vec<_> = conditions.into_iter().filter(|one| one.status == "True").map(|one| one.message).collect();
        anyhow::bail!("{left:?}")
    })
    .await?;
    Ok(since.elapsed())
}

/// Waits until PostgreSQL has none of the users and OpenBao none of the leases;
/// answers how long it took since then.
async fn until_none(bank: &Bank, since: Instant) -> Result<Duration> {
    wait_for("no user and no lease to be left", DEADLINE, async || {
        let left = (bank.users().await?.len(), bank.leases().await?.len());
        ensure!(left == (0, 0), "left: {left:?} users and leases");
        Ok(Some(()))
    })
    .await?;
    Ok(since.elapsed())
}

fn tell(what: &str, namespace: Duration, leases: Duration) {
    eprintln!(
        "{what}: the namespace was gone after {:.1} s, the last user and lease after {:.1} s",
        namespace.as_secs_f64(),
        leases.as_secs_f64()
    );
}

async fn with_a_dead_manager(name: &str, death: FaultKind) -> Result {
    let bench = bench_apart(name).await?;
    let bank = Bank::new(&bench, short()).await?;
    let (proxy, front) = bank.behind_proxy(&bench).await?;
    rotating(&bench, &bank, &bank.store(&format!("https://{front}"), proxy.ca_pem())).await?;
    assert_eq!((bank.users().await?.len(), bank.leases().await?.len()), (2, 2));
    proxy.fault(&front, death, ALWAYS);
    let began = Instant::now();
    delete(&bench).await?;
    let (namespace, leases) = tokio::join!(until_gone(&bench, began), until_none(&bank, began));
    let (namespace, leases) = (namespace?, leases?);
    tell(name, namespace, leases);
    assert!(namespace < MINUTE, "{namespace:?}");
    assert!(leases < TTL + BACKGROUND, "renewed on after {leases:?}");
    wait_for("both to be counted", DEADLINE, async || {
        Ok((counter(&bench, "leases_left_to_end").await? == 2).then_some(()))
    })
    .await?;
    assert_eq!((bank.issued()?, counter(&bench, "lease_revocations").await?), (2, 0));
    Ok(())
}

#[tokio::test]
async fn p8_a_namespace_goes_within_a_minute_in_mid_rotation_though_the_manager_never_answers() -> Result {
    with_a_dead_manager("ns-silent", FaultKind::NoAnswer).await
}

#[tokio::test]
async fn p8_a_namespace_goes_within_a_minute_in_mid_rotation_though_the_manager_is_gone() -> Result {
    with_a_dead_manager("ns-reset", FaultKind::Reset).await
}

#[tokio::test]
async fn p8_a_namespace_that_goes_in_mid_rotation_takes_old_and_new_credential_along() -> Result {
    let bench = bench_apart("ns-alive").await?;
    // Neither would end by itself while this is watched.
    let bank = Bank::new(&bench, Terms { token_ttl: "30m", ..Terms::default() }).await?;
    let bao = &bank.servers.bao;
    rotating(&bench, &bank, &bank.store(bao.url(), bao.ca_pem().unwrap())).await?;
    assert_eq!((bank.users().await?.len(), bank.leases().await?.len()), (2, 2));
    let began = Instant::now();
    delete(&bench).await?;
    let (namespace, leases) = tokio::join!(until_gone(&bench, began), until_none(&bank, began));
    let (namespace, leases) = (namespace?, leases?);
    tell("manager alive", namespace, leases);
    assert!(namespace < MINUTE && leases < MINUTE, "{namespace:?}, {leases:?}");
    bank.until_logins(&[]).await?;
    let counted = (counter(&bench, "lease_revocations").await?, counter(&bench, "leases_left_to_end").await?);
    assert_eq!((bank.issued()?, counted), (2, (2, 0)));
    Ok(())
}

#[tokio::test]
async fn p8_after_a_restart_in_mid_rotation_what_a_namespace_leaves_ends_within_its_logins_time() -> Result {
    let mut bench = bench_apart("ns-restart").await?;
    let bank = Bank::new(&bench, short()).await?;
    let bao = &bank.servers.bao;
    rotating(&bench, &bank, &bank.store(bao.url(), bao.ca_pem().unwrap())).await?;
    bench.operator.kill().await?;
    let began = Instant::now();
    assert_eq!((bank.users().await?.len(), bank.leases().await?.len()), (2, 2));
    delete(&bench).await?;
    bench.operator.start_again().await?;
    let (namespace, leases) = tokio::join!(until_gone(&bench, began), until_none(&bank, began));
    let (namespace, leases) = (namespace?, leases?);
    tell("operator restarted", namespace, leases);
    assert!(namespace < MINUTE, "{namespace:?}");
    assert!(leases < TTL + BACKGROUND, "renewed on after {leases:?}");
    assert_eq!(bank.issued()?, 2);
    Ok(())
}

/// A BotSecret whose first value is being tried by a Job that never ends.
async fn under_trial(bench: &Bench) -> Result {
    bench.grant_also(include_str!("../../deploy/verify.yaml")).await?;
    bench
        .apply(json!({
            "apiVersion": "batch/v1", "kind": "CronJob", "metadata": { "name": "try" },
            "spec": { "schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": { "spec": { "template": { "spec": {
                "serviceAccountName": "bot", "restartPolicy": "Never", "terminationGracePeriodSeconds": 2,
                "nodeSelector": { "testbed.botsecret.dev/runtime": "process" },
                "containers": [{
                    "name": "try", "image": "sh", "command": ["sh", "-c", "trap 'exit 1' TERM; sleep 3600 & wait $!"],
                    "envFrom": [{ "secretRef": { "name": "tried-candidate" } }],
                }],
            } } } } },
        }))
        .await?;
    bench.kubernetes_store("source").await?;
    bench.put_source("plain", &[("REVISION", "a new value")]).await?;
    let mut tried = bench.bot_secret("tried", "plain");
    tried["spec"]["verify"] = json!({ "cronJob": "try", "timeout": "5m" });
    bench.apply(tried).await?;
    let jobs: Api<Job> = Api::namespaced(bench.client.clone(), &bench.namespace);
    wait_for("the trial to run", DEADLINE, async || {
        let made = jobs.list(&ListParams::default().labels("botsecret.dev/candidate")).await?;
        let is_there = bench.secrets().get_opt("tried-candidate").await?.is_some();
        let runs = bench.kubelet()?.processes().iter().any(|process| process.namespace == bench.namespace);
        Ok((is_there && runs && made.items.len() == 1).then_some(()))
    })
    .await
}

#[tokio::test]
async fn p8_a_namespace_goes_within_a_minute_in_the_middle_of_a_trial_though_the_manager_is_dead() -> Result {
    let bench = bench_apart("ns-trial").await?;
    let bank = Bank::new(&bench, short()).await?;
    let (proxy, front) = bank.behind_proxy(&bench).await?;
    bench.apply(bank.bot_secret("db")).await?;
    until_credential(&bench, "db").await?;
    until_states(&bench, "db", &["Live"]).await?;
    under_trial(&bench).await?;
    proxy.fault(&front, FaultKind::NoAnswer, ALWAYS);
    let began = Instant::now();
    delete(&bench).await?;
    let (namespace, leases) = tokio::join!(until_gone(&bench, began), until_none(&bank, began));
    let (namespace, leases) = (namespace?, leases?);
    tell("in mid-trial", namespace, leases);
    assert!(namespace < MINUTE, "{namespace:?}");
    assert!(leases < TTL + BACKGROUND, "renewed on after {leases:?}");
    assert_eq!(bank.issued()?, 1);
    Ok(())
}
