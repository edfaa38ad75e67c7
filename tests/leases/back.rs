//! A leased credential that comes back, since a bot fails on the next one.

use std::time::Duration;

use anyhow::ensure;
use botsecret::api::RotationPhase;
use botsecret_testbed::{database_role, wait_for};
use serde_json::{Value, json};

use crate::{
    bank::{Bank, Terms, credential, until_credential, until_states},
    support::{Bench, Result},
};

/// A life of a login, and more.
const LONG: Duration = Duration::from_secs(150);

/// A bot that cannot take a password with a `%` in it.
const PICKY: &str = "trap 'exit 0' TERM; echo holds=$username; case $password in *%*) exit 3;; esac; touch /tmp/up; \
                     while :; do sleep 3600 & wait $!; done";

fn picky(bench: &Bench, app: &str) -> Value {
    let mut bot = bench.bot(app, "db", 1);
    let container = &mut bot["spec"]["template"]["spec"]["containers"][0];
    container["command"] = json!(["sh", "-c", PICKY]);
    container["readinessProbe"] = json!({ "exec": { "command": ["test", "-e", "/tmp/up"] }, "periodSeconds": 1 });
    bot
}

/// Makes OpenBao's next passwords ones that the bots cannot take, or can.
async fn passwords(bank: &Bank, good: bool) -> Result {
    let terms = Terms::default();
    let mut role = database_role(terms.lease_ttl, terms.lease_max_ttl);
    if let Some(statements) = role["creation_statements"].as_array_mut() {
        statements.push(json!(format!("COMMENT ON ROLE \"{{{{name}}}}\" IS '{}';", bank.name)));
    }
    let letters = r#"rule "charset" { charset = "abcdefghijklmnopqrstuvwxyz0123456789" min-chars = 10 }"#;
    let odd = if good { "" } else { r#"rule "charset" { charset = "%" min-chars = 1 }"# };
    let policy = json!({ "policy": format!("length = 24 {letters} {odd}") });
    bank.root.write(&format!("sys/policies/password/{}", bank.name), &policy).await?;
    role["credential_config"] = json!({ "password_policy": bank.name });
    bank.root.write(&format!("{}/roles/bot", bank.name), &role).await.map(drop)
}

async fn until_user(bench: &Bench, what: &str, is_it: impl Fn(&str) -> bool) -> Result<String> {
    wait_for(what, LONG, async || Ok(credential(bench, "db").await?.map(|(user, _)| user).filter(|user| is_it(user))))
        .await
}

async fn until_phase(bench: &Bench, phase: RotationPhase) -> Result {
    wait_for(phase.name(), LONG, async || {
        let rotation = bench.bot_secrets().get("db").await?.status.and_then(|status| status.rotation);
        ensure!(rotation.as_ref().is_some_and(|rotation| rotation.phase == phase), "{rotation:?}");
        Ok(Some(()))
    })
    .await
}

#[tokio::test]
async fn p7_a_credential_that_lives_comes_back_where_a_bot_fails_on_the_next_one() -> Result {
    let mut bench = Bench::new("lease-back").await?;
    let terms = Terms { token_ttl: "60s", token_max_ttl: "100s", ..Terms::default() };
    let bank = Bank::new(&bench, terms).await?;
    let mut object = bank.bot_secret("db");
    object["spec"]["rollout"] = json!({ "healthyFor": "1s", "progressDeadline": "10s", "onFailure": "RollBack" });
    bench.apply(object).await?;
    let (first, _) = until_credential(&bench, "db").await?;
    for app in ["a", "b"] {
        bench.apply(picky(&bench, app)).await?;
    }
    for app in ["a", "b"] {
        bench.until_all_hold(app, 1, &first).await?;
    }
    passwords(&bank, false).await?;
    // Its login's longest life is nearly over.
    let second = until_user(&bench, "the next credential", |user| user != first).await?;
    until_user(&bench, "the first credential again", |user| user == first).await?;
    passwords(&bank, true).await?;
    until_phase(&bench, RotationPhase::RolledBack).await?;
    bench.until_all_hold("a", 1, &first).await?;
    bench.until_all_hold("b", 1, &first).await?;
    ensure!(bench.rollouts("b").await? == 1, "b was never touched");
    let records = until_states(&bench, "db", &["Live", "Retiring"]).await?;
    ensure!(records.iter().all(|record| record.replaced_by == 0 || record.state == "Retiring"), "{records:?}");
    // Neither a restart nor a bot that starts again asks for another.
    bench.operator.kill().await?;
    bench.operator.start_again().await?;
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> =
        kube::Api::namespaced(bench.client.clone(), &bench.namespace);
    let of_b = kube::api::ListParams::default().labels("app=b");
    pods.delete_collection(&kube::api::DeleteParams::default(), &of_b).await?;
    bench.until_all_hold("b", 1, &first).await?;
    ensure!(bank.issued()? == 2, "{} were issued", bank.issued()?);
    // Before the first one's end it is tried once more, and now it works.
    let third = until_user(&bench, "a third credential", |user| user != first && user != second).await?;
    until_phase(&bench, RotationPhase::OldRetired).await?;
    for app in ["a", "b"] {
        bench.until_all_hold(app, 1, &third).await?;
    }
    wait_for("the third alone to be left", LONG, async || {
        let (users, leases) = (bank.users().await?, bank.leases().await?.len());
        ensure!(users == [third.clone()] && leases == 1, "{users:?}, {leases} leases");
        Ok(Some(()))
    })
    .await?;
    ensure!(bank.issued()? == 3);
    Ok(())
}
