//! Identities that an operator has not seen.

use std::time::Duration;

use serde_json::json;

use crate::{
    common::{NAME, SOURCE, rotate},
    scraper::{Scene, Scraper, number},
    support::{Bench, Result},
};

/// How long the operator has led by then: longer than the rule asks for.
const LONG: Duration = Duration::from_secs(75 * 60);

/// A ServiceAccount that asks a store for the first time, long after the operator began.
pub async fn new() -> Result<Scene> {
    let bench = Bench::new("alert-first-use").await?;
    bench.kubernetes_store("source").await?;
    rotate(&bench, "1").await?;
    bench.apply(bench.bot_secret(NAME, SOURCE)).await?;
    let scraper = Scraper::of(&bench)?;
    let healthy = scraper.healthy().await?;
    scraper.let_pass(LONG);
    bench.account("stranger").await?;
    let mut object = bench.bot_secret("another", SOURCE);
    object["spec"]["serviceAccountName"] = json!("stranger");
    bench.apply(object).await?;
    let is_new = |answer: &str| number(answer, "botsecret_first_uses_total") >= 2.0;
    scraper.until("an identity that is new", is_new).await?;
    Ok(scraper.scene(healthy, Duration::ZERO))
}
