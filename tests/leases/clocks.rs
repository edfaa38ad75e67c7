//! Credentials without a lease go by a clock of their own.

use std::time::{Duration, Instant};

use botsecret_testbed::wait_for;
use serde_json::json;

use crate::{
    bank::{Bank, Terms, credential, until_replaced},
    support::{Bench, DEADLINE, Result, canary},
};

/// The password of a static role, which the engine changes every 30 seconds.
#[tokio::test]
async fn p7_a_static_roles_password_is_read_again_when_its_clock_says_so_and_rolls_nobody_before() -> Result {
    let bench = Bench::new("lease-static").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    let user = format!("static-{}", bank.name);
    bank.servers.postgres.sql(&format!("CREATE ROLE \"{user}\" WITH LOGIN PASSWORD 'first'")).await?;
    let role = json!({
        "db_name": "postgres", "username": user, "rotation_period": "30s",
        "rotation_statements": ["ALTER USER \"{{name}}\" WITH PASSWORD '{{password}}';"],
    });
    bank.root.write(&format!("{}/static-roles/fixed", bank.name), &role).await?;
    let mut object = bank.bot_secret("db");
    object["spec"]["refreshInterval"] = json!("0");
    object["spec"]["dataFrom"][0]["dynamic"]["path"] = json!(format!("{}/static-creds/fixed", bank.name));
    bench.apply(object).await?;
    bench.until_condition("db", "Ready", "True").await?;
    bench.apply(bench.bot("db", "db", 1)).await?;
    let (_, first) = credential(&bench, "db").await?.expect("a credential");
    let began = Instant::now();
    let second = wait_for("another password", DEADLINE, async || {
        let Some((_, password)) = credential(&bench, "db").await? else { return Ok(None) };
        Ok((password != first).then_some(password))
    })
    .await?;
    canary::watch(second.as_bytes());
    assert!(began.elapsed() < Duration::from_secs(45), "it took {:?}", began.elapsed());
    assert!(bank.servers.postgres.accepts(&user, &second).await);
    wait_for("the rollout", DEADLINE, async || Ok((bench.rollouts("db").await? >= 2).then_some(()))).await?;
    let reads = bank.asked(&format!("{}/static-creds/fixed", bank.name))?.len();
    assert!((2..=8).contains(&reads), "{reads} reads in a period of 30 seconds");
    assert_eq!(bench.rollouts("db").await?, 2, "the same password read again rolls nobody");
    // Each read had a login of its own, which held nothing and is gone.
    bank.until_logins(&[]).await
}

#[tokio::test]
async fn p7_a_certificate_is_replaced_before_its_end_though_the_operator_was_restarted_and_nothing_else_happens()
-> Result {
    let mut bench = Bench::new("lease-pki-again").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    let mount = format!("pki-{}", bank.name);
    bank.root.write(&format!("sys/mounts/{mount}"), &json!({ "type": "pki" })).await?;
    bank.root.write(&format!("{mount}/root/generate/internal"), &json!({ "common_name": "bots" })).await?;
    let role = json!({ "allow_any_name": true, "generate_lease": false, "not_before_duration": "1s" });
    bank.root.write(&format!("{mount}/roles/bot"), &role).await?;
    let mut object = bank.bot_secret("cert");
    object["spec"]["refreshInterval"] = json!("0");
    object["spec"]["dataFrom"][0]["dynamic"] = json!({
        "path": format!("{mount}/issue/bot"), "method": "POST",
        "parameters": { "common_name": "price-bot", "ttl": "36s" },
    });
    bench.apply(object).await?;
    bench.until_condition("cert", "Ready", "True").await?;
    let serial = bench.value("cert", "serial_number").await?;
    let began = Instant::now();
    bench.operator.kill().await?;
    bench.operator.start_again().await?;
    wait_for("the certificate to be replaced", DEADLINE, async || {
        Ok((bench.value("cert", "serial_number").await? != serial).then_some(()))
    })
    .await?;
    let after = began.elapsed();
    assert!(after > Duration::from_secs(15) && after < Duration::from_secs(36), "replaced after {after:?}");
    assert_eq!(bank.asked(&format!("{mount}/issue/bot"))?.len(), 2, "a restart issues nothing");
    Ok(())
}

/// What an engine leases without renewing it: replaced with a third left.
#[tokio::test]
async fn p7_a_lease_that_cannot_be_renewed_is_replaced_in_time() -> Result {
    let bench = Bench::new("lease-pki-lease").await?;
    let terms = Terms { token_ttl: "10s", lease_ttl: "24s", lease_max_ttl: "24s", ..Terms::default() };
    let bank = Bank::new(&bench, terms).await?;
    let mut object = bank.bot_secret("db");
    object["spec"]["refreshInterval"] = json!("0");
    bench.apply(object).await?;
    bench.until_condition("db", "Ready", "True").await?;
    let (first, password) = credential(&bench, "db").await?.expect("a credential");
    until_replaced(&bench, "db", &first).await?;
    assert!(bank.servers.postgres.accepts(&first, &password).await, "replaced before it ended");
    Ok(())
}
