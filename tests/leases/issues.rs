//! Crashes in mid-issue, and records of others' making.

use std::time::Duration;

use botsecret_testbed::{ALWAYS, FaultKind, wait_for};
use serde_json::json;

use crate::{
    bank::{Bank, Terms, counter, records, until_credential, until_replaced, until_states},
    support::{Bench, DEADLINE, Result},
};

#[tokio::test]
async fn p7_an_issue_that_was_cut_off_is_found_revoked_and_done_once_more() -> Result {
    let mut bench = Bench::new("lease-cut").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    let (proxy, front) = bank.behind_proxy(&bench).await?;
    // Issued, but the answer is on its way for longer than the operator lives.
    proxy.fault_on(&front, "creds/bot", FaultKind::Slow(Duration::from_secs(60)), 1);
    bench.apply(bank.bot_secret("db")).await?;
    let cut = until_states(&bench, "db", &["Issuing"]).await?;
    bank.until_leases(1).await?;
    bench.operator.kill().await?;
    bank.until_leases(1).await?;
    bench.operator.start_again().await?;
    until_credential(&bench, "db").await?;
    let live = until_states(&bench, "db", &["Live"]).await?;
    assert_ne!(live[0].accessor, cut[0].accessor);
    assert_eq!(bank.issued()?, 2, "one and the one that was cut off");
    assert_eq!(counter(&bench, "lease_revocations").await?, 1);
    bank.until_leases(1).await
}

#[tokio::test]
async fn p7_an_answer_that_is_lost_on_its_way_leaves_no_user_behind() -> Result {
    let bench = Bench::new("lease-lost").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    let (proxy, front) = bank.behind_proxy(&bench).await?;
    proxy.fault_on(&front, "creds/bot", FaultKind::Truncate(20), 1);
    bench.apply(bank.bot_secret("db")).await?;
    until_credential(&bench, "db").await?;
    until_states(&bench, "db", &["Live"]).await?;
    assert_eq!(bank.issued()?, 2);
    bank.until_leases(1).await
}

#[tokio::test]
async fn p7_a_credential_that_ended_in_an_outage_is_replaced_once() -> Result {
    let bench = Bench::new("lease-outage").await?;
    let bank = Bank::new(&bench, Terms { token_ttl: "9s", ..Terms::default() }).await?;
    let (proxy, front) = bank.behind_proxy(&bench).await?;
    bench.apply(bank.bot_secret("db")).await?;
    let (first, password) = until_credential(&bench, "db").await?;
    proxy.fault(&front, FaultKind::Reset, ALWAYS);
    wait_for("the user to end with the login", DEADLINE, async || {
        Ok((!bank.servers.postgres.accepts(&first, &password).await).then_some(()))
    })
    .await?;
    assert_eq!(bank.issued()?, 1);
    proxy.clear(&front);
    until_replaced(&bench, "db", &first).await?;
    until_credential(&bench, "db").await?;
    until_states(&bench, "db", &["Live"]).await?;
    assert_eq!(bank.issued()?, 2);
    bank.until_leases(1).await
}

#[tokio::test]
async fn p5_a_record_that_somebody_else_wrote_or_copied_is_ignored_and_nothing_is_revoked_for_it() -> Result {
    let mut bench = Bench::new("lease-forged").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    bench.apply(bank.bot_secret("mine")).await?;
    bench.apply(bank.bot_secret("theirs")).await?;
    let mine = until_credential(&bench, "mine").await?;
    let theirs = until_credential(&bench, "theirs").await?;
    let own = until_states(&bench, "mine", &["Live"]).await?;
    let copied = until_states(&bench, "theirs", &["Live"]).await?;
    bench.operator.kill().await?;
    // As is, and turned into one that is to be revoked.
    let mut forged = copied[0].clone();
    forged.state = "Issuing".into();
    forged.accessor.push('x');
    let mut stolen = copied[0].clone();
    stolen.state = "Issuing".into();
    let leases = json!({ "status": { "leases": [own[0], stolen, forged] } });
    bench
        .bot_secrets()
        .patch_status("mine", &kube::api::PatchParams::default(), &kube::api::Patch::Merge(leases))
        .await?;
    bench.operator.start_again().await?;
    wait_for("the foreign records to be dropped", DEADLINE, async || {
        Ok((records(&bench, "mine").await? == own).then_some(()))
    })
    .await?;
    assert_eq!(counter(&bench, "lease_records_ignored").await?, 2);
    assert_eq!(counter(&bench, "lease_revocations").await?, 0);
    assert!(bench.events("mine").await?.iter().any(|(reason, _)| reason == "LeaseRecordIgnored"));
    assert_eq!((until_credential(&bench, "mine").await?, until_credential(&bench, "theirs").await?), (mine, theirs));
    assert_eq!(bank.issued()?, 2);
    Ok(())
}

#[tokio::test]
async fn p7_two_entries_that_ask_the_same_have_a_credential_each_and_keep_it_when_they_change_places() -> Result {
    let bench = Bench::new("lease-twins").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    let entry = |prefix: &str| json!({ "dynamic": { "path": format!("{}/creds/bot", bank.name) }, "rewrite": [{ "prefix": prefix }] });
    let mut object = bank.bot_secret("db");
    object["spec"]["dataFrom"] = json!([entry("a_"), entry("b_")]);
    bench.apply(object.clone()).await?;
    bench.until_condition("db", "Ready", "True").await?;
    let (one, two) = (bench.value("db", "a_username").await?, bench.value("db", "b_username").await?);
    assert!(one.is_some() && two.is_some() && one != two, "{one:?} {two:?}");
    object["spec"]["dataFrom"] = json!([entry("b_"), entry("a_")]);
    bench.apply(object).await?;
    wait_for("the edit to be synced", DEADLINE, async || {
        let object = bench.bot_secrets().get("db").await?;
        let seen = object.status.and_then(|status| status.observed_generation);
        Ok((seen == object.metadata.generation).then_some(()))
    })
    .await?;
    assert_eq!(bank.issued()?, 2);
    bank.until_leases(2).await
}
