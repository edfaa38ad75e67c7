//! Deletion: everything is revoked, and nothing hangs.

use std::time::{Duration, Instant};

use botsecret_testbed::{ALWAYS, FaultKind, wait_for};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, api::DeleteParams};
use serde_json::{Value, json};

use crate::{
    bank::{Bank, Terms, counter, delete, records, until_credential, until_states},
    support::{Bench, DEADLINE, Fault, Result},
};

#[tokio::test]
async fn p8_a_deleted_botsecret_leaves_no_lease_and_no_user() -> Result {
    let mut bench = Bench::new("lease-gone").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    for name in ["held", "adopted"] {
        bench.apply(bank.bot_secret(name)).await?;
        until_credential(&bench, name).await?;
        until_states(&bench, name, &["Live"]).await?;
    }
    let (user, password) = until_credential(&bench, "adopted").await?;
    delete(&bench, "held", Duration::from_secs(20)).await?;
    bank.until_leases(1).await?;
    // The same by an operator that has nothing but the accessor.
    bench.operator.kill().await?;
    bench.operator.start_again().await?;
    delete(&bench, "adopted", Duration::from_secs(20)).await?;
    bank.until_leases(0).await?;
    assert!(!bank.servers.postgres.accepts(&user, &password).await);
    Ok(())
}

#[tokio::test]
async fn p8_what_no_longer_is_asked_for_is_revoked_and_the_finalizer_goes() -> Result {
    let bench = Bench::new("lease-unasked").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    bench.put_source("plain", &[("KEY", "a plain value")]).await?;
    bench.kubernetes_store("source").await?;
    bench.apply(bank.bot_secret("db")).await?;
    until_credential(&bench, "db").await?;
    bench.apply(bench.bot_secret("db", "plain")).await?;
    bench.until_value("db", "KEY", "a plain value").await?;
    bank.until_leases(0).await?;
    wait_for("record and finalizer to go", DEADLINE, async || {
        let object = bench.bot_secrets().get("db").await?;
        let none = object.metadata.finalizers.unwrap_or_default().is_empty();
        Ok((none && records(&bench, "db").await?.is_empty()).then_some(()))
    })
    .await
}

#[tokio::test]
async fn p8_a_namespace_that_is_deleted_does_not_hang_though_it_gives_no_tokens_any_more() -> Result {
    let mut bench = Bench::new("lease-ns").await?;
    let bank = Bank::new(&bench, Terms { token_ttl: "15s", ..Terms::default() }).await?;
    bench.apply(bank.bot_secret("db")).await?;
    let (user, password) = until_credential(&bench, "db").await?;
    until_states(&bench, "db", &["Live"]).await?;
    bench.operator.kill().await?;
    let api: Api<Namespace> = Api::all(bench.client.clone());
    api.delete(&bench.namespace, &DeleteParams::default()).await?;
    bench.operator.start_again().await.ok();
    wait_for("the BotSecret to be gone", Duration::from_secs(40), async || {
        Ok(bench.bot_secrets().get_opt("db").await?.is_none().then_some(()))
    })
    .await?;
    // Never renewed again, it ends with its login.
    wait_for("the user to go with the login", Duration::from_secs(40), async || {
        Ok((!bank.servers.postgres.accepts(&user, &password).await).then_some(()))
    })
    .await?;
    bank.until_leases(0).await
}

#[tokio::test]
async fn p8_a_store_that_leads_elsewhere_by_now_does_not_keep_a_held_login_from_being_revoked() -> Result {
    let bench = Bench::new("lease-moved").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    bench.apply(bank.bot_secret("db")).await?;
    until_credential(&bench, "db").await?;
    until_states(&bench, "db", &["Live"]).await?;
    bench.apply(bank.store("https://127.0.0.1:9", bank.servers.bao.ca_pem().unwrap())).await?;
    // The login is still in memory and knows its own address.
    delete(&bench, "db", DEADLINE).await?;
    bank.until_leases(0).await
}

/// An outage that ends: each try waits longer than the one before.
#[tokio::test]
async fn p8_a_manager_that_is_away_is_asked_ever_more_slowly_and_what_it_holds_is_revoked_once_it_is_back() -> Result {
    let bench = Bench::new("lease-backoff").await?;
    let bank = Bank::new(&bench, Terms { token_ttl: "3m", ..Terms::default() }).await?;
    let (proxy, front) = bank.behind_proxy(&bench).await?;
    bench.apply(bank.bot_secret("db")).await?;
    until_credential(&bench, "db").await?;
    until_states(&bench, "db", &["Live"]).await?;
    proxy.fault(&front, FaultKind::Reset, ALWAYS);
    let (began, mark) = (Instant::now(), proxy.mark());
    bench.bot_secrets().delete("db", &DeleteParams::default()).await?;
    wait_for("five tries", DEADLINE, async || Ok((proxy.since(mark).len() >= 5).then_some(()))).await?;
    // Half a second, doubled each time.
    assert!(began.elapsed() > Duration::from_secs(6), "five tries in {:?}", began.elapsed());
    assert!(bench.bot_secrets().get_opt("db").await?.is_some(), "it is held while there is hope");
    proxy.clear(&front);
    wait_for("the BotSecret to be gone", DEADLINE, async || {
        Ok(bench.bot_secrets().get_opt("db").await?.is_none().then_some(()))
    })
    .await?;
    bank.until_leases(0).await?;
    let counted = (counter(&bench, "lease_revocations").await?, counter(&bench, "leases_left_to_end").await?);
    assert_eq!(counted, (1, 0));
    bank.until_logins(&[]).await
}

#[tokio::test]
async fn p8_a_finalizer_that_cannot_be_taken_off_is_tried_again_ever_more_slowly() -> Result {
    let (bench, proxy) = Bench::behind_proxy("lease-unreleased").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    bench.apply(bank.bot_secret("db")).await?;
    until_credential(&bench, "db").await?;
    until_states(&bench, "db", &["Live"]).await?;
    let traps = [500, 409, 500].map(|code| proxy.next("PATCH", "/botsecrets/db", Fault::Refuse(code)));
    let began = Instant::now();
    delete(&bench, "db", DEADLINE).await?;
    for trap in traps {
        trap.caught().await?;
    }
    // One, two and four seconds, but for what an event of the object cuts short.
    assert!(began.elapsed() > Duration::from_secs(4), "three refusals in {:?}", began.elapsed());
    assert_eq!(counter(&bench, "lease_revocations").await?, 1, "what is revoked is not revoked again");
    bank.until_leases(0).await
}

/// With the operator's logins gone too, nothing is there to wait for.
#[tokio::test]
async fn p8_a_namespace_goes_at_once_though_the_manager_is_down_where_no_login_is_left() -> Result {
    let mut bench = Bench::new("lease-ns-down").await?;
    let bank = Bank::new(&bench, Terms { token_ttl: "15s", ..Terms::default() }).await?;
    let (proxy, front) = bank.behind_proxy(&bench).await?;
    bench.apply(bank.bot_secret("db")).await?;
    let (user, password) = until_credential(&bench, "db").await?;
    until_states(&bench, "db", &["Live"]).await?;
    proxy.fault(&front, FaultKind::NoAnswer, ALWAYS);
    bench.operator.kill().await?;
    let api: Api<Namespace> = Api::all(bench.client.clone());
    api.delete(&bench.namespace, &DeleteParams::default()).await?;
    bench.operator.start_again().await.ok();
    wait_for("the BotSecret to be gone", Duration::from_secs(40), async || {
        Ok(bench.bot_secrets().get_opt("db").await?.is_none().then_some(()))
    })
    .await?;
    wait_for("the user to go with the login", Duration::from_secs(40), async || {
        Ok((!bank.servers.postgres.accepts(&user, &password).await).then_some(()))
    })
    .await
}

/// Whether the test of five minutes is to run: with `BOTSECRET_LEASES_FULL=1`.
fn is_full() -> bool {
    let full = std::env::var_os("BOTSECRET_LEASES_FULL").is_some();
    if !full {
        eprintln!("left out: it takes five minutes; set BOTSECRET_LEASES_FULL=1");
    }
    full
}

/// So many credentials that their deadlines, one after another, would add up
/// to more than the bound.
const MANY: usize = 40;

fn many(bank: &Bank) -> Value {
    let mut object = bank.bot_secret("db");
    let entry = |number| json!({ "dynamic": { "path": format!("{}/creds/bot", bank.name) }, "rewrite": [{ "prefix": format!("n{number}_") }] });
    object["spec"]["dataFrom"] = (0..MANY).map(entry).collect();
    object
}

#[tokio::test]
async fn p8_a_manager_that_never_answers_holds_a_deletion_no_longer_than_five_minutes() -> Result {
    if !is_full() {
        return Ok(());
    }
    let bench = Bench::new("lease-down").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    let (proxy, front) = bank.behind_proxy(&bench).await?;
    bench.apply(many(&bank)).await?;
    until_states(&bench, "db", &["Live"; MANY]).await?;
    proxy.fault(&front, FaultKind::NoAnswer, ALWAYS);
    let began = Instant::now();
    delete(&bench, "db", Duration::from_secs(330)).await?;
    eprintln!("deleted after {:?}", began.elapsed());
    assert_eq!(counter(&bench, "leases_left_to_end").await?, MANY as u64);
    bank.until_leases(0).await
}

#[tokio::test]
async fn p8_many_credentials_of_a_manager_that_never_answers_hold_a_namespace_for_less_than_a_minute() -> Result {
    let bench = Bench::new("lease-ns-hang").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    let (proxy, front) = bank.behind_proxy(&bench).await?;
    bench.apply(many(&bank)).await?;
    until_states(&bench, "db", &["Live"; MANY]).await?;
    proxy.fault(&front, FaultKind::NoAnswer, ALWAYS);
    let (began, api) = (Instant::now(), Api::<Namespace>::all(bench.client.clone()));
    api.delete(&bench.namespace, &DeleteParams::default()).await?;
    wait_for("the namespace to be gone", DEADLINE, async || {
        Ok(api.get_opt(&bench.namespace).await?.is_none().then_some(()))
    })
    .await?;
    eprintln!("the namespace was gone after {:?}", began.elapsed());
    bank.until_leases(0).await
}
