//! Managers that are asked for new values, and values that grow too old.

use anyhow::{bail, ensure};
use botsecret_testbed::wait_for;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::{
    generated::{Desk, NAME, SOURCE, bot_secret},
    support::{Bench, DEADLINE, Result},
};

#[tokio::test]
async fn what_no_manager_rotates_is_refused_with_what_to_write_instead() -> Result {
    let bench = Bench::new("triggered-kv").await?;
    let desk = Desk::new(&bench).await?;
    let mut object = bot_secret(&bench, "10s");
    object["spec"]["rotation"].as_object_mut().unwrap().remove("generate");
    bench.apply(object).await?;
    let (reason, message) = bench.until_condition(NAME, "Rotated", "False").await?;
    ensure!(reason == "RotationRefused" && message.contains("rotation.generate"), "{reason}: {message}");
    ensure!(desk.source().await?.1 == 1);
    let ready = bench.condition(NAME, "Ready").await?.map(|(status, ..)| status);
    ensure!(ready.as_deref() == Some("True"), "what is there works as before");
    Ok(())
}

async fn until_overdue(bench: &Bench, wanted: u64) -> Result {
    wait_for(&format!("{wanted} to be overdue"), DEADLINE, async || {
        let metrics = bench.operator.metrics().await?;
        let line = metrics.lines().find(|line| line.starts_with("botsecret_rotation_overdue")).unwrap_or_default();
        if line == format!("botsecret_rotation_overdue {wanted}") { Ok(Some(())) } else { bail!("{line}") }
    })
    .await
}

#[tokio::test]
async fn p9_a_value_that_grows_too_old_is_told_of_once_though_it_is_read_only_once() -> Result {
    let mut bench = Bench::new("overdue").await?;
    let desk = Desk::new(&bench).await?;
    let mut object = bot_secret(&bench, "10s");
    object["spec"]["refreshInterval"] = json!("0");
    object["spec"]["rotation"] = json!({ "maxAge": "15s" });
    desk.vault.put(SOURCE, &json!({ "REVISION": "second", "user": "price-bot" })).await?;
    bench.apply(object).await?;
    bench.until_condition(NAME, "Rotated", "True").await?;
    let (reason, message) = bench.until_condition(NAME, "Rotated", "False").await?;
    ensure!(reason == "RotationOverdue", "{reason}");
    for words in ["remote secret exchange of BotSecretStore source", "since 20", "rotation.maxAge (15s)"] {
        ensure!(message.contains(words), "{words:?} is not in {message:?}");
    }
    until_overdue(&bench, 1).await?;
    let ready = bench.condition(NAME, "Ready").await?.map(|(status, ..)| status);
    ensure!(ready.as_deref() == Some("True"), "it works as before");
    // While nothing changes, nothing is asked, after a restart neither.
    let mark = bench.cluster.audit().mark().await?;
    bench.operator.kill().await?;
    bench.operator.start_again().await?;
    until_overdue(&bench, 1).await?;
    let requests = bench.cluster.audit().requests_by_since(bench.operator.user(), &mark).await?;
    let about = |resource: &str| requests.iter().filter(|one| one.resource == resource && one.verb == "patch").count();
    ensure!(about("botsecrets") == 0, "{requests:?}");
    let told = bench.events(NAME).await?;
    ensure!(told.iter().filter(|(reason, _)| reason == "RotationOverdue").count() == 1, "{told:?}");
    desk.vault.put(SOURCE, &json!({ "REVISION": "third", "user": "price-bot" })).await?;
    let refresh = json!({ "metadata": { "annotations": { "botsecret.dev/refresh": "now" } } });
    bench.bot_secrets().patch(NAME, &PatchParams::default(), &Patch::Merge(refresh)).await?;
    bench.until_value(NAME, "REVISION", "third").await?;
    bench.until_condition(NAME, "Rotated", "True").await?;
    until_overdue(&bench, 0).await
}
