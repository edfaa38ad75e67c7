//! A credential's life: issued once, kept, adopted, replaced when it is due.

use std::time::Duration;

use botsecret_testbed::wait_for;
use serde_json::json;

use crate::{
    bank::{Bank, Terms, counter, credential, records, until_credential, until_replaced, until_states},
    support::{Bench, DEADLINE, Result},
};

#[tokio::test]
async fn p7_nothing_but_its_due_time_issues_another_credential() -> Result {
    let mut bench = Bench::new("lease-once").await?;
    let bank = Bank::new(&bench, Terms { token_ttl: "8s", ..Terms::default() }).await?;
    bench.apply(bank.bot_secret("db")).await?;
    let first = until_credential(&bench, "db").await?;
    let live = until_states(&bench, "db", &["Live"]).await?;
    assert!(live[0].lease.starts_with(&format!("{}/creds/bot/", bank.name)), "{live:?}");
    // Refreshes, a forced one, an unrelated edit, a repair, a restart.
    wait_for("three renewals", DEADLINE, async || Ok((counter(&bench, "lease_renewals").await? >= 3).then_some(())))
        .await?;
    let mut edited = bank.bot_secret("db");
    edited["metadata"]["annotations"] = json!({ "botsecret.dev/refresh": "now" });
    edited["spec"]["target"] = json!({ "labels": { "team": "a" } });
    bench.apply(edited).await?;
    wait_for("the edit to be acted on", DEADLINE, async || {
        let object = bench.bot_secrets().get("db").await?;
        Ok((object.status.and_then(|status| status.last_handled_refresh).as_deref() == Some("now")).then_some(()))
    })
    .await?;
    bench
        .secrets()
        .patch(
            "db",
            &kube::api::PatchParams::default(),
            &kube::api::Patch::Merge(json!({ "data": { "password": "eA==" } })),
        )
        .await?;
    bench.until_value("db", "password", &first.1).await?;
    for restart in [false, true] {
        if restart {
            bench.operator.kill().await?;
            bench.operator.start_again().await?;
        } else {
            bench.secrets().delete("db", &kube::api::DeleteParams::default()).await?;
        }
        bench.until_value("db", "password", &first.1).await?;
    }
    wait_for("the adopted credential to be renewed", DEADLINE, async || {
        Ok((counter(&bench, "lease_renewals").await? >= 4).then_some(()))
    })
    .await?;
    assert_eq!(until_credential(&bench, "db").await?, first);
    assert_eq!((bank.issued()?, bank.leases().await?.len()), (1, 1));
    assert_eq!(records(&bench, "db").await?, live, "P9: renewals are no news for the status");
    Ok(())
}

#[tokio::test]
async fn p7_what_reaches_its_last_life_is_replaced_and_the_old_one_goes_when_no_pod_holds_it() -> Result {
    let bench = Bench::new("lease-max").await?;
    let bank = Bank::new(&bench, Terms { token_ttl: "24s", token_max_ttl: "40s", ..Terms::default() }).await?;
    // The old one goes when the bot has stayed well on the new one.
    let mut object = bank.bot_secret("db");
    object["spec"]["rollout"] = json!({ "healthyFor": "1s" });
    bench.apply(object).await?;
    let (first, password) = until_credential(&bench, "db").await?;
    let mut bot = bench.bot("db", "db", 1);
    bot["spec"]["template"]["spec"]["containers"][0]["command"] =
        json!(["sh", "-c", "trap 'sleep 2; exit 0' TERM; echo holds=$username; while :; do sleep 0.1; done"]);
    bot["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(8);
    bench.apply(bot).await?;
    bench.until_all_hold("db", 1, &first).await?;
    let (second, _) = until_replaced(&bench, "db", &first).await?;
    // The old one works as long as a process holds it.
    let postgres = &bank.servers.postgres;
    wait_for("the old pod to go", DEADLINE, async || {
        let held = bench.holdings("db")?;
        if held.contains(&first) {
            let works = postgres.accepts(&first, &password).await;
            assert!(works || !bench.holdings("db")?.contains(&first), "revoked while a pod holds it");
            return Ok(None);
        }
        Ok(Some(()))
    })
    .await?;
    bench.until_all_hold("db", 1, &second).await?;
    wait_for("the old user to be dropped", Duration::from_secs(30), async || {
        Ok((!postgres.accepts(&first, &password).await).then_some(()))
    })
    .await?;
    wait_for("the revocation to be counted", Duration::from_secs(15), async || {
        Ok((counter(&bench, "lease_revocations").await? >= 1).then_some(()))
    })
    .await?;
    assert_eq!(bench.rollouts("db").await?, 2, "one rollout a replacement");
    Ok(())
}

#[tokio::test]
async fn p7_without_the_right_to_renew_by_accessor_a_restart_replaces_and_says_so() -> Result {
    let mut bench = Bench::new("lease-noacc").await?;
    let bank = Bank::new(&bench, Terms { token_ttl: "30s", by_accessor: false, ..Terms::default() }).await?;
    bench.apply(bank.bot_secret("db")).await?;
    let (first, password) = until_credential(&bench, "db").await?;
    bench.operator.kill().await?;
    bench.operator.start_again().await?;
    let (reason, message) = bench.until_condition("db", "LeasesRenewable", "False").await?;
    assert_eq!(reason, "LeaseNotRenewable");
    assert!(message.contains("auth/token/renew-accessor"), "{message}");
    assert!(bank.servers.postgres.accepts(&first, &password).await, "it is good until its login ends");
    let (second, _) = until_replaced(&bench, "db", &first).await?;
    assert!(bench.condition("db", "Ready").await?.is_some_and(|(status, ..)| status == "True"));
    // Nothing may revoke it, so it ends with its login, and that is said.
    wait_for("the old one to be left to its end", DEADLINE, async || {
        Ok((counter(&bench, "leases_left_to_end").await? == 1).then_some(()))
    })
    .await?;
    wait_for("its user to go", DEADLINE, async || {
        Ok((!bank.servers.postgres.accepts(&first, &password).await).then_some(()))
    })
    .await?;
    assert_eq!(credential(&bench, "db").await?.map(|(user, _)| user), Some(second));
    assert_eq!(bank.issued()?, 2);
    Ok(())
}

#[tokio::test]
async fn p7_a_certificate_goes_by_its_own_clock_and_leaves_no_login_behind() -> Result {
    let bench = Bench::new("lease-pki").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    let mount = format!("pki-{}", bank.name);
    bank.root.write(&format!("sys/mounts/{mount}"), &json!({ "type": "pki" })).await?;
    bank.root.write(&format!("{mount}/root/generate/internal"), &json!({ "common_name": "bots" })).await?;
    let role =
        json!({ "allow_any_name": true, "no_store": false, "generate_lease": false, "not_before_duration": "1s" });
    bank.root.write(&format!("{mount}/roles/bot"), &role).await?;
    let mut object = bank.bot_secret("cert");
    object["spec"]["refreshInterval"] = json!("0");
    object["spec"]["dataFrom"][0]["dynamic"] = json!({
        "path": format!("{mount}/issue/bot"), "method": "POST",
        "parameters": { "common_name": "price-bot", "ttl": "15s" },
    });
    bench.apply(object).await?;
    bench.until_condition("cert", "Ready", "True").await?;
    let first = bench.value("cert", "serial_number").await?.expect("a serial number");
    let began = std::time::Instant::now();
    wait_for("the certificate to be replaced", DEADLINE, async || {
        Ok((bench.value("cert", "serial_number").await?.as_ref() != Some(&first)).then_some(()))
    })
    .await?;
    let after = began.elapsed();
    assert!(after > Duration::from_secs(6) && after < Duration::from_secs(15), "replaced after {after:?}");
    // P8: it is there while the certificate is issued, and no longer.
    wait_for("a BotSecret with nothing to revoke", DEADLINE, async || {
        let object = bench.bot_secrets().get("cert").await?;
        Ok(object.metadata.finalizers.unwrap_or_default().is_empty().then_some(()))
    })
    .await
}
