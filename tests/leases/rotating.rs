//! A leased credential in the middle of its rotation.

use anyhow::{Context as _, bail, ensure};
use botsecret::{build::DigestKey, leases::Keys};
use botsecret_testbed::wait_for;
use serde_json::{Value, json};

use crate::{
    bank::{Bank, records, until_credential, until_replaced},
    support::{Bench, DEADLINE, Result},
};

pub const APPS: [&str; 3] = ["bot-a", "bot-b", "bot-c"];

/// A bot that says which user it holds, this key of its Secret.
pub fn holder(bench: &Bench, app: &str, secret: &str, key: &str, replicas: i32) -> Value {
    let mut bot = bench.bot(app, secret, replicas);
    bot["spec"]["template"]["spec"]["containers"][0]["command"] =
        json!(["sh", "-c", format!("trap 'exit 0' TERM; echo holds=${key}; while :; do sleep 3600 & wait $!; done")]);
    bot
}

/// BotSecret `db` of three workloads, whose credential another has just taken the
/// place of: the first workload has rolled, the last has not. Answers both users.
pub async fn rotating(bench: &Bench, bank: &Bank, store: &Value) -> Result<(String, String)> {
    let mut other = store.clone();
    other["metadata"]["name"] = json!("other");
    bench.apply(other).await?;
    let mut object = bank.bot_secret("db");
    object["spec"]["rollout"] = json!({ "healthyFor": "1s", "maxConcurrent": 1 });
    bench.apply(object.clone()).await?;
    let (first, _) = until_credential(bench, "db").await?;
    for app in APPS {
        let mut bot = holder(bench, app, "db", "username", 2);
        // One pod at a time, and a pause.
        bot["spec"]["minReadySeconds"] = json!(4);
        bot["spec"]["strategy"] = json!({ "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } });
        bench.apply(bot).await?;
    }
    for app in APPS {
        bench.until_all_hold(app, 2, &first).await?;
    }
    object["spec"]["storeRef"]["name"] = json!("other");
    bench.apply(object).await?;
    let (second, _) = until_replaced(bench, "db", &first).await?;
    wait_for("the second workload to roll", DEADLINE, async || {
        let status = bench.bot_secrets().get("db").await?.status.unwrap_or_default();
        let workloads = status.rollout.map(|rollout| rollout.workloads).unwrap_or_default();
        let is = |state: &str| workloads.iter().any(|one| one.state == state);
        if is("RolledOut") && is("Rolling") && is("Waiting") { Ok(Some(())) } else { bail!("{workloads:?}") }
    })
    .await?;
    let states: Vec<_> = records(bench, "db").await?.into_iter().map(|record| record.state).collect();
    ensure!(states == ["Retiring", "Live"], "{states:?}");
    Ok((first, second))
}

/// The keys with which the operator of this bench proves and seals.
pub async fn keys(bench: &Bench) -> Result<Keys> {
    let secret = bench.secrets().get("botsecret-digest-key").await?;
    let data = secret.data.unwrap_or_default();
    let key = data.get("key").and_then(|bytes| DigestKey::from_bytes(&bytes.0)).context("no digest key")?;
    Ok(Keys::of(&key))
}
