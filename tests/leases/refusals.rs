//! Issues that fail for good: no blind retry, and nothing is left behind.

use std::time::{Duration, Instant};

use botsecret_testbed::wait_for;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::{
    bank::{Bank, Terms, counter, records, until_credential, until_states},
    support::{Bench, DEADLINE, Result},
};

/// A mount that answers without a lease and without an end.
async fn without_an_end(bank: &Bank) -> Result<String> {
    let mount = format!("pki-{}", bank.name);
    bank.root.write(&format!("sys/mounts/{mount}"), &json!({ "type": "kv", "options": { "version": "1" } })).await?;
    bank.root.write(&format!("{mount}/one"), &json!({ "password": "hunter2" })).await?;
    Ok(format!("{mount}/one"))
}

fn of_path(bank: &Bank, path: &str) -> Value {
    let mut object = bank.bot_secret("db");
    object["spec"]["dataFrom"][0]["dynamic"]["path"] = json!(path);
    object
}

/// How often it was to be issued.
fn tries(bank: &Bank, path: &str) -> Result<usize> {
    Ok(bank.asked(path)?.iter().filter(|request| request.operation == "read").count())
}

async fn until_asked(bank: &Bank, path: &str, count: usize) -> Result {
    wait_for(&format!("{path} to be asked {count} times"), DEADLINE, async || {
        let asked = tries(bank, path)?;
        anyhow::ensure!(asked >= count, "it was asked {asked} times");
        Ok(Some(()))
    })
    .await
}

async fn until_free(bench: &Bench) -> Result {
    wait_for("neither record nor finalizer", DEADLINE, async || {
        let object = bench.bot_secrets().get("db").await?;
        let free = object.metadata.finalizers.unwrap_or_default().is_empty();
        Ok((free && records(bench, "db").await?.is_empty()).then_some(()))
    })
    .await
}

#[tokio::test]
async fn p7_a_path_without_lease_or_end_is_asked_ever_more_seldom_and_at_once_when_something_changes() -> Result {
    let bench = Bench::new("lease-endless").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    let path = without_an_end(&bank).await?;
    let (mark, began) = (bench.cluster.audit().mark().await?, Instant::now());
    bench.apply(of_path(&bank, &path)).await?;
    let message = bench.until_failing("db", "InvalidStore").await?;
    assert!(message.contains("neither a lease nor an end") && !message.contains("hunter2"), "{message}");
    // Refreshed every second, it is tried after 5 and after 10.
    until_asked(&bank, &path, 3).await?;
    assert!(began.elapsed() >= Duration::from_secs(15), "three tries in {:?}", began.elapsed());
    let user = format!("operator:{}", bench.namespace);
    let requests = bench.cluster.audit().requests_by_since(&user, &mark).await?;
    let made = tries(&bank, &path)?;
    let patches = requests
        .iter()
        .filter(|request| {
            request.verb == "patch" && request.resource == "botsecrets" && request.subresource == "status"
        })
        .count();
    // Each puts its login on record, and takes it off; the first says why, too.
    assert!(patches <= 2 * made + 2, "{patches} status patches for {made} tries");
    // Somebody asks.
    let made = tries(&bank, &path)?;
    let mut forced = of_path(&bank, &path);
    forced["metadata"]["annotations"] = json!({ "botsecret.dev/refresh": "now" });
    bench.apply(forced).await?;
    wait_for("the refresh to be done", DEADLINE, async || {
        let status = bench.bot_secrets().get("db").await?.status.unwrap_or_default();
        Ok((status.last_handled_refresh.as_deref() == Some("now")).then_some(()))
    })
    .await?;
    assert!(tries(&bank, &path)? > made, "it was handled without a try");
    // The entry changes.
    bench.apply(bank.bot_secret("db")).await?;
    until_credential(&bench, "db").await?;
    until_states(&bench, "db", &["Live"]).await?;
    assert_eq!(bank.issued()?, 1);
    let live = records(&bench, "db").await?;
    bank.until_logins(&[&live[0].accessor]).await
}

#[tokio::test]
async fn p7_a_path_that_was_refused_is_tried_at_once_when_its_store_changes() -> Result {
    let bench = Bench::new("lease-store-edit").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    let path = without_an_end(&bank).await?;
    let mut object = of_path(&bank, &path);
    // Otherwise the next try would be five minutes from now.
    object["spec"]["refreshInterval"] = json!("1h");
    bench.apply(object).await?;
    bench.until_failing("db", "InvalidStore").await?;
    assert_eq!(tries(&bank, &path)?, 1);
    let bao = &bank.servers.bao;
    let mut store = bank.store(bao.url(), bao.ca_pem().unwrap());
    store["spec"]["limits"] = json!({ "timeout": "9s" });
    bench.apply(store).await?;
    until_asked(&bank, &path, 2).await
}

#[tokio::test]
async fn p8_a_botsecret_whose_issue_always_fails_holds_no_finalizer() -> Result {
    let mut bench = Bench::new("lease-never").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    bench.apply(of_path(&bank, &format!("{}/creds/nosuchrole", bank.name))).await?;
    wait_for("an issue to fail", DEADLINE, async || {
        let condition = bench.condition("db", "Ready").await?;
        Ok(condition.filter(|(status, ..)| status == "False").map(drop))
    })
    .await?;
    until_free(&bench).await?;
    bank.until_logins(&[]).await?;
    bench.operator.kill().await?;
    until_free(&bench).await?;
    bench.bot_secrets().delete("db", &DeleteParams::default()).await?;
    wait_for("the BotSecret to go though no operator runs", DEADLINE, async || {
        Ok(bench.bot_secrets().get_opt("db").await?.is_none().then_some(()))
    })
    .await?;
    // Mended, it is guarded as any other.
    bench.operator.start_again().await?;
    bench.apply(bank.bot_secret("db")).await?;
    until_credential(&bench, "db").await?;
    until_states(&bench, "db", &["Live"]).await?;
    let finalizers = bench.bot_secrets().get("db").await?.metadata.finalizers.unwrap_or_default();
    assert_eq!(finalizers, ["botsecret.dev/leases"]);
    assert_eq!(counter(&bench, "leases_issued").await?, 1);
    Ok(())
}
