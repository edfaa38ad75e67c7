//! A database engine that is asked to change the password of a static role.

use anyhow::ensure;
use botsecret_testbed::wait_for;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::{
    bank::{Bank, Terms},
    support::{Bench, DEADLINE, Result, canary},
};

const NAME: &str = "price-bot";
/// Longer than the test takes: what is due now comes due once.
const RARELY: &str = "1h";

async fn rotate_every(bench: &Bench, every: &str) -> Result {
    let patch = json!({ "spec": { "rotation": { "every": every } } });
    bench.bot_secrets().patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// A static role whose own clock is too slow to matter.
async fn static_role(bank: &Bank) -> Result<String> {
    let user = format!("static-{}", bank.name);
    bank.servers.postgres.sql(&format!("CREATE ROLE \"{user}\" WITH LOGIN PASSWORD 'first'")).await?;
    let role = json!({
        "db_name": "postgres", "username": user, "rotation_period": "24h",
        "rotation_statements": ["ALTER USER \"{{name}}\" WITH PASSWORD '{{password}}';"],
    });
    bank.root.write(&format!("{}/static-roles/fixed", bank.name), &role).await?;
    Ok(user)
}

/// A bench's own store, that of the bank, with leave to rotate or without.
fn store(bank: &Bank, allowed: bool) -> Value {
    let mut store = bank.store(bank.servers.bao.url(), bank.servers.bao.ca_pem().unwrap());
    store["spec"]["allowRotation"] = json!(allowed);
    store
}

#[tokio::test]
async fn p3_a_static_role_is_rotated_once_when_it_is_due_and_only_where_the_store_allows_it() -> Result {
    let bench = Bench::new("triggered").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    let user = static_role(&bank).await?;
    bench.apply(store(&bank, false)).await?;
    let key = format!("{}/static-creds/fixed", bank.name);
    let mut object = bank.bot_secret(NAME);
    object["spec"].as_object_mut().unwrap().remove("dataFrom");
    object["spec"]["data"] = json!([{ "secretKey": "REVISION", "remoteRef": { "key": key, "property": "password" } }]);
    object["spec"]["rollout"] = json!({ "healthyFor": "1s" });
    object["spec"]["rotation"] = json!({ "every": RARELY });
    bench.apply(object).await?;
    bench.until_condition(NAME, "Ready", "True").await?;
    let (reason, message) = bench.until_condition(NAME, "Rotated", "False").await?;
    ensure!(reason == "RotationRefused" && message.contains("spec.allowRotation: true"), "{reason}: {message}");
    let first = bench.value(NAME, "REVISION").await?.unwrap_or_default();
    bench.apply(bench.bot("bot", NAME, 1)).await?;
    bench.until_all_hold("bot", 1, &first).await?;
    let asked = || bank.asked(&format!("{}/rotate-role/fixed", bank.name));
    rotate_every(&bench, "10s").await?;
    bench.until_more_reads(12).await?;
    ensure!(asked()?.is_empty(), "it is due, and nobody allowed it");
    bench.apply(store(&bank, true)).await?;
    wait_for("the role to be rotated", DEADLINE, async || Ok((!asked()?.is_empty()).then_some(()))).await?;
    rotate_every(&bench, RARELY).await?;
    let second = wait_for("another password", DEADLINE, async || {
        Ok(bench.value(NAME, "REVISION").await?.filter(|password| *password != first))
    })
    .await?;
    canary::watch(second.as_bytes());
    bench.until_all_hold("bot", 1, &second).await?;
    bench.until_condition(NAME, "Rotated", "True").await?;
    bench.until_more_reads(3).await?;
    ensure!(bank.servers.postgres.accepts(&user, &second).await, "the password works");
    ensure!(asked()?.len() == 1, "{:?}", asked()?);
    ensure!(bench.rollouts("bot").await? == 2, "one rollout");
    let told = bench.events(NAME).await?;
    let refusals = told.iter().filter(|(reason, _)| reason == "RotationRefused").count();
    ensure!(refusals == 1, "{told:?}");
    Ok(())
}
