//! Managers that do not answer, have no patience, or deny.

use std::time::Duration;

use anyhow::Context as _;
use botsecret_testbed::{ALWAYS, FaultKind, FaultProxy, OpenBao, OpenBaoOptions};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::{
    common::{NAME, SOURCE},
    scraper::{Scene, Scraper, errors, tells},
    support::{Bench, Result, Vault, shared_bao},
};

/// A BotSecret that is refreshed so often.
fn every(bench: &Bench, interval: &str) -> Value {
    let mut object = bench.bot_secret(NAME, SOURCE);
    object["spec"]["refreshInterval"] = json!(interval);
    object
}

/// A manager whose process is ended. Nothing is to come but the time that passes: after
/// three intervals the data is too old.
pub async fn down() -> Result<Scene> {
    let bench = Bench::new("alert-down").await?;
    let bao = OpenBao::start(bench.cluster, OpenBaoOptions { tls: true }).await?;
    let vault = Vault::new(&bench, &bao, &["bot"]).await?;
    vault.put(SOURCE, &json!({ "REVISION": "1" })).await?;
    bench.apply(every(&bench, "5s")).await?;
    let scraper = Scraper::of(&bench)?;
    let healthy = scraper.healthy().await?;
    scraper.during(bao.stop()).await?;
    scraper.during(bench.until_failing(NAME, "StoreUnavailable")).await?;
    scraper.until("StoreUnavailable", |answer| tells(answer, "Ready", "StoreUnavailable")).await?;
    // By now it is tried as often as its interval allows.
    let rhythm = Duration::from_secs(30);
    scraper.go_on(rhythm).await;
    Ok(scraper.scene(healthy, rhythm))
}

/// A manager that answers nothing but 429. By its interval of an hour the BotSecret is
/// Ready all the time.
pub async fn throttled() -> Result<Scene> {
    let bench = Bench::new("alert-throttled").await?;
    let bao = shared_bao().await?;
    let vault = Vault::new(&bench, bao, &["bot"]).await?;
    vault.put(SOURCE, &json!({ "REVISION": "1" })).await?;
    let proxy = FaultProxy::start().await?;
    let peer = bao.url().trim_start_matches("https://").parse()?;
    let front = proxy.front_tls(peer, bao.ca_pem().context("no TLS")?).await?.to_string();
    let mut store = vault.store("source");
    store["spec"]["vault"]["address"] = json!(format!("https://{front}"));
    store["spec"]["vault"]["caBundle"] = json!(proxy.ca_pem());
    bench.apply(store).await?;
    bench.apply(every(&bench, "1h")).await?;
    let scraper = Scraper::of(&bench)?;
    let healthy = scraper.healthy().await?;
    proxy.fault(&front, FaultKind::answer(429, &[("retry-after", "2")], ""), ALWAYS);
    let refresh = json!({ "metadata": { "annotations": { "botsecret.dev/refresh": "now" } } });
    bench.bot_secrets().patch(NAME, &PatchParams::default(), &Patch::Merge(refresh)).await?;
    scraper.until("a manager that throttles", |answer| errors(answer, "throttled") >= 1.0).await?;
    // Until the waits do not grow any more, and two of them.
    scraper.go_on(Duration::from_secs(65)).await;
    Ok(scraper.scene(healthy, Duration::from_secs(40)))
}

/// A policy that is taken back.
pub async fn denied() -> Result<Scene> {
    let bench = Bench::new("alert-denied").await?;
    let vault = Vault::new(&bench, shared_bao().await?, &["bot"]).await?;
    vault.put(SOURCE, &json!({ "REVISION": "1" })).await?;
    bench.apply(every(&bench, "1s")).await?;
    let scraper = Scraper::of(&bench)?;
    let healthy = scraper.healthy().await?;
    vault.policy(r#"path "nothing/that-is-there" { capabilities = ["read"] }"#).await?;
    // More than the rule allows, each of them real.
    let denied = |answer: &str| errors(answer, "denied") + errors(answer, "login_denied");
    scraper.until("reads that are denied", |answer| denied(answer) >= 25.0).await?;
    Ok(scraper.scene(healthy, Duration::from_secs(20)))
}
