//! Leased credentials under settings that bear on them: Merge, suspend, and
//! replacements that cannot be issued.

use botsecret_testbed::{database_role, wait_for};
use serde_json::json;

use crate::{
    bank::{Bank, Terms, counter, credential, delete, until_credential, until_replaced, until_states},
    support::{Bench, DEADLINE, Result},
};

async fn until_renewed(bench: &Bench, more: u64) -> Result {
    let made = counter(bench, "lease_renewals").await?;
    wait_for(&format!("{more} more renewals"), DEADLINE, async || {
        Ok((counter(bench, "lease_renewals").await? >= made + more).then_some(()))
    })
    .await
}

#[tokio::test]
async fn p7_two_that_merge_into_one_secret_keep_their_credentials_through_a_restart() -> Result {
    let mut bench = Bench::new("lease-merge").await?;
    let bank = Bank::new(&bench, Terms { token_ttl: "8s", ..Terms::default() }).await?;
    let shared = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "shared" }, "stringData": { "own": "kept" },
    });
    bench.apply(shared).await?;
    for name in ["one", "two"] {
        let mut object = bank.bot_secret(name);
        object["spec"]["target"] = json!({ "name": "shared", "creationPolicy": "Merge" });
        object["spec"]["dataFrom"][0]["rewrite"] = json!([{ "prefix": format!("{name}_") }]);
        bench.apply(object).await?;
        bench.until_condition(name, "Ready", "True").await?;
        until_states(&bench, name, &["Live"]).await?;
    }
    let held = async || -> Result<Vec<(String, String)>> {
        let mut held = Vec::new();
        for name in ["one", "two"] {
            let user = bench.value("shared", &format!("{name}_username")).await?.expect("a user");
            let password = bench.value("shared", &format!("{name}_password")).await?.expect("a password");
            crate::support::canary::watch(password.as_bytes());
            assert!(bank.servers.postgres.accepts(&user, &password).await, "{name}");
            held.push((user, password));
        }
        Ok(held)
    };
    let first = held().await?;
    assert_ne!(first[0].0, first[1].0);
    bench.operator.kill().await?;
    bench.operator.start_again().await?;
    until_renewed(&bench, 6).await?;
    let held = async |name: &str| bench.value("shared", &format!("{name}_username")).await;
    assert_eq!(held("one").await?.as_ref(), Some(&first[0].0));
    assert_eq!(held("two").await?.as_ref(), Some(&first[1].0));
    assert_eq!((bank.issued()?, bank.users().await?.len()), (2, 2));
    delete(&bench, "one", DEADLINE).await?;
    bank.until_leases(1).await?;
    let (user, password) = &first[1];
    assert!(bank.servers.postgres.accepts(user, password).await, "the other's");
    bench.until_value("shared", "own", "kept").await?;
    delete(&bench, "two", DEADLINE).await?;
    bank.until_leases(0).await
}

#[tokio::test]
async fn p7_what_is_suspended_is_renewed_and_replaced_only_afterwards() -> Result {
    let mut bench = Bench::new("lease-suspended").await?;
    // Of the lease's life there is no more than this; the login must be renewed
    // until its end.
    let terms = Terms { token_ttl: "15s", lease_ttl: "60s", lease_max_ttl: "60s", ..Terms::default() };
    let bank = Bank::new(&bench, terms).await?;
    bench.apply(bank.bot_secret("db")).await?;
    let (first, password) = until_credential(&bench, "db").await?;
    until_states(&bench, "db", &["Live"]).await?;
    let mut suspended = bank.bot_secret("db");
    suspended["spec"]["suspend"] = json!(true);
    bench.apply(suspended).await?;
    wait_for("it to be suspended", DEADLINE, async || {
        let condition = bench.condition("db", "Ready").await?;
        Ok(condition.filter(|(_, reason, _)| reason == "Suspended").map(drop))
    })
    .await?;
    bench.operator.kill().await?;
    bench.operator.start_again().await?;
    let began = std::time::Instant::now();
    // The lease has a minute of life.
    wait_for("the user to end with its lease", DEADLINE * 2, async || {
        Ok((!bank.servers.postgres.accepts(&first, &password).await).then_some(()))
    })
    .await?;
    // More than a life of its login: the renewals went on though it was due.
    assert!(began.elapsed() > std::time::Duration::from_secs(20), "it ended after {:?}", began.elapsed());
    assert_eq!(bank.issued()?, 1, "replaced while it was suspended");
    assert_eq!(credential(&bench, "db").await?.map(|(user, _)| user), Some(first.clone()), "P1: what was there stays");
    bench.apply(bank.bot_secret("db")).await?;
    until_replaced(&bench, "db", &first).await?;
    until_credential(&bench, "db").await?;
    assert_eq!(bank.issued()?, 2);
    bank.until_leases(1).await
}

#[tokio::test]
async fn p7_a_credential_is_renewed_for_as_long_as_its_replacement_cannot_be_issued() -> Result {
    let bench = Bench::new("lease-unissued").await?;
    let terms = Terms { token_ttl: "8s", lease_ttl: "50s", lease_max_ttl: "50s", ..Terms::default() };
    let bank = Bank::new(&bench, terms).await?;
    bench.apply(bank.bot_secret("db")).await?;
    let (first, password) = until_credential(&bench, "db").await?;
    let role = format!("{}/roles/bot", bank.name);
    let mut broken = database_role(terms.lease_ttl, terms.lease_max_ttl);
    broken["creation_statements"] = json!(["SELECT 1/0;"]);
    bank.root.write(&role, &broken).await?;
    wait_for("an issue to fail", DEADLINE, async || {
        Ok(bank.issues()?.iter().any(|issue| issue.error.is_some()).then_some(()))
    })
    .await?;
    // More than the life that its login had left by then.
    until_renewed(&bench, 3).await?;
    assert!(bank.servers.postgres.accepts(&first, &password).await, "its login was not renewed");
    bank.root.write(&role, &database_role(terms.lease_ttl, terms.lease_max_ttl)).await?;
    let (second, _) = until_replaced(&bench, "db", &first).await?;
    until_credential(&bench, "db").await?;
    let good = bank.issues()?.into_iter().filter(|issue| issue.error.is_none()).count();
    assert_eq!((good, bank.users().await?.contains(&first) || second != first), (2, true));
    Ok(())
}
