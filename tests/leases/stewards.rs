//! Logins that end before their time: those that hold a credential, and those
//! that look after what an earlier process issued.

use std::collections::BTreeSet;

use botsecret_testbed::{FaultKind, wait_for};
use serde_json::json;

use crate::{
    bank::{Bank, Terms, counter, records, until_credential, until_replaced, until_states},
    support::{Bench, DEADLINE, Result},
};

async fn until_renewals(bench: &Bench, count: u64) -> Result {
    wait_for(&format!("{count} renewals"), DEADLINE, async || {
        Ok((counter(bench, "lease_renewals").await? >= count).then_some(()))
    })
    .await
}

/// Restarts the operator and waits until another login renews by accessor;
/// ends that login, and answers its accessor.
async fn restarted_with_a_dead_steward(bench: &mut Bench, bank: &Bank) -> Result<String> {
    bench.operator.kill().await?;
    bench.operator.start_again().await?;
    until_renewals(bench, 2).await?;
    let known: BTreeSet<_> = records(bench, "db").await?.into_iter().map(|record| record.accessor).collect();
    let logins = bank.logins().await?;
    let stewards: Vec<_> = logins.difference(&known).cloned().collect();
    let [steward] = stewards.as_slice() else { anyhow::bail!("logins beside the credential's: {stewards:?}") };
    bank.root.write("auth/token/revoke-accessor", &json!({ "accessor": steward })).await?;
    Ok(steward.clone())
}

#[tokio::test]
async fn p7_an_old_credential_is_revoked_though_the_login_that_looks_after_it_is_dead() -> Result {
    let mut bench = Bench::new("steward-revokes").await?;
    let bank = Bank::new(&bench, Terms { token_ttl: "10m", ..Terms::default() }).await?;
    bench.put_source("plain", &[("KEY", "a plain value")]).await?;
    bench.kubernetes_store("source").await?;
    bench.apply(bank.bot_secret("db")).await?;
    let (user, _) = until_credential(&bench, "db").await?;
    until_states(&bench, "db", &["Live"]).await?;
    let dead = restarted_with_a_dead_steward(&mut bench, &bank).await?;
    bench.apply(bench.bot_secret("db", "plain")).await?;
    bench.until_value("db", "KEY", "a plain value").await?;
    until_states(&bench, "db", &[]).await?;
    assert_eq!(counter(&bench, "lease_revocations").await?, 1);
    assert_eq!(counter(&bench, "leases_left_to_end").await?, 0);
    bank.until_leases(0).await?;
    assert!(!bank.users().await?.contains(&user));
    // The one that revoked it in the dead one's place is gone as well.
    bank.until_logins(&[]).await?;
    let tried = bank.asked("auth/token/revoke-accessor")?;
    assert!(tried.iter().any(|request| request.accessor.as_deref() != Some(&dead) && request.error.is_none()));
    Ok(())
}

/// The first that a restarted operator asks for a lease is lost on its way.
#[tokio::test]
async fn p7_a_lease_is_renewed_again_soon_where_the_first_renewal_after_a_restart_fails() -> Result {
    let mut bench = Bench::new("lease-unrenewed").await?;
    let bank = Bank::new(&bench, Terms { token_ttl: "10m", ..Terms::default() }).await?;
    let (proxy, front) = bank.behind_proxy(&bench).await?;
    bench.apply(bank.bot_secret("db")).await?;
    until_credential(&bench, "db").await?;
    until_states(&bench, "db", &["Live"]).await?;
    bench.operator.kill().await?;
    proxy.fault_on(&front, "sys/leases/renew", FaultKind::status(503), 1);
    bench.operator.start_again().await?;
    // Its login is renewed for ten minutes, so nothing else falls due by then.
    wait_for("the lease to be renewed", DEADLINE, async || {
        let renewals = bank.asked("sys/leases/renew")?;
        Ok(renewals.iter().any(|renewal| renewal.error.is_none()).then_some(()))
    })
    .await?;
    assert_eq!(bank.issued()?, 1);
    Ok(())
}

#[tokio::test]
async fn p7_renewals_go_on_though_the_login_that_makes_them_is_dead() -> Result {
    let mut bench = Bench::new("steward-renews").await?;
    let bank = Bank::new(&bench, Terms { token_ttl: "14s", ..Terms::default() }).await?;
    bench.apply(bank.bot_secret("db")).await?;
    let first = until_credential(&bench, "db").await?;
    until_states(&bench, "db", &["Live"]).await?;
    restarted_with_a_dead_steward(&mut bench, &bank).await?;
    // Beyond what the last renewal by the dead one was good for.
    let made = counter(&bench, "lease_renewals").await?;
    until_renewals(&bench, made + 3).await?;
    assert_eq!(until_credential(&bench, "db").await?, first);
    assert_eq!(bank.issued()?, 1);
    Ok(())
}

#[tokio::test]
async fn p7_a_credential_whose_login_somebody_revoked_is_replaced_once() -> Result {
    let bench = Bench::new("login-revoked").await?;
    let bank = Bank::new(&bench, Terms { token_ttl: "10s", ..Terms::default() }).await?;
    bench.apply(bank.bot_secret("db")).await?;
    let (first, _) = until_credential(&bench, "db").await?;
    let live = until_states(&bench, "db", &["Live"]).await?;
    bank.root.write("auth/token/revoke-accessor", &json!({ "accessor": live[0].accessor })).await?;
    let (second, _) = until_replaced(&bench, "db", &first).await?;
    until_credential(&bench, "db").await?;
    let live = until_states(&bench, "db", &["Live"]).await?;
    // The login by which that was found out is gone, and nothing else is issued.
    bank.until_logins(&[&live[0].accessor]).await?;
    let made = counter(&bench, "lease_renewals").await?;
    until_renewals(&bench, made + 2).await?;
    assert_eq!((bank.issued()?, bank.users().await?), (2, vec![second]));
    Ok(())
}
