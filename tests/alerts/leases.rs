//! Leased credentials that are about to end, that ended, and that nobody may revoke.

use std::time::Duration;

use botsecret_testbed::{ALWAYS, FaultKind, wait_for};
use kube::api::DeleteParams;

use crate::{
    bank::{Bank, Terms, until_credential, until_states},
    scraper::{Scene, Scraper, number},
    support::{Bench, DEADLINE, Result},
};

/// One credential that is in its Secret.
async fn one(bench: &Bench, bank: &Bank) -> Result {
    bench.apply(bank.bot_secret("db")).await?;
    until_credential(bench, "db").await?;
    until_states(bench, "db", &["Live"]).await.map(drop)
}

/// A manager that is away when a credential is to be renewed.
pub async fn near_end() -> Result<Scene> {
    let bench = Bench::new("alert-near-end").await?;
    let bank = Bank::new(&bench, Terms { token_ttl: "30s", ..Terms::default() }).await?;
    let (proxy, front) = bank.behind_proxy(&bench).await?;
    one(&bench, &bank).await?;
    let scraper = Scraper::of(&bench)?;
    let healthy = scraper.healthy().await?;
    proxy.fault(&front, FaultKind::Reset, ALWAYS);
    let is_near = |answer: &str| number(answer, "botsecret_leases_near_end") >= 1.0;
    scraper.until("a credential that is near its end", is_near).await?;
    Ok(scraper.scene(healthy, Duration::ZERO))
}

/// An operator that is away until the credential is no more. The next is another pod:
/// what it counts before it is first asked is no increase of a series.
pub async fn lost() -> Result<Scene> {
    let mut bench = Bench::new("alert-lost").await?;
    let bank = Bank::new(&bench, Terms { token_ttl: "20s", ..Terms::default() }).await?;
    one(&bench, &bank).await?;
    let scraper = Scraper::of(&bench)?;
    let healthy = scraper.healthy().await?;
    bench.operator.kill().await?;
    let ended = wait_for("the user to end", DEADLINE, async || Ok(bank.users().await?.is_empty().then_some(())));
    scraper.during(ended).await?;
    bench.operator.start_again().await?;
    let next = Scraper::new(&bench, bench.operator.url("/metrics"), "operator-2")?;
    let is_lost = |answer: &str| number(answer, "botsecret_leases_lost_total") >= 1.0;
    next.until("a credential that was lost", is_lost).await?;
    let mut scene = scraper.scene(healthy, Duration::ZERO);
    scene.recordings.push(next.recording(Duration::ZERO));
    Ok(scene)
}

/// A BotSecret that is deleted, with a login that may not end itself.
pub async fn left_to_end() -> Result<Scene> {
    let bench = Bench::new("alert-left").await?;
    let bank = Bank::new(&bench, Terms::default()).await?;
    bank.without_default_rights(&bench, &[]).await?;
    one(&bench, &bank).await?;
    let scraper = Scraper::of(&bench)?;
    let healthy = scraper.healthy().await?;
    bench.bot_secrets().delete("db", &DeleteParams::default()).await?;
    let is_left = |answer: &str| number(answer, "botsecret_leases_left_to_end_total") >= 1.0;
    scraper.until("a credential that is left to end", is_left).await?;
    Ok(scraper.scene(healthy, Duration::ZERO))
}
