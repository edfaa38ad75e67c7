//! Access tokens: renewed before they end, for as long as the BotSecret lives,
//! and rolling nobody.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use botsecret_testbed::{OidcProvider, wait_for};
use serde_json::{Value, json};

use crate::{
    p9::annotate,
    support::{Bench, DEADLINE, Result, canary},
};

const NAME: &str = "price-bot";
/// How long an access token lives: renewed after 8 s.
const LIFE: u32 = 12;

/// An issuer that knows the bench's bot, a store for it, and one for what
/// rotates beside it.
async fn issuer(bench: &Bench) -> Result<OidcProvider> {
    let issuer = OidcProvider::start(bench.cluster, LIFE).await?;
    let subject = format!("system:serviceaccount:{}:bot", bench.namespace);
    issuer.grant(&BTreeMap::from([(subject, vec!["read"])]))?;
    let exchange = json!({ "clientID": "bots", "audience": OidcProvider::AUDIENCE });
    bench
        .apply(json!({
            "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecretStore", "metadata": { "name": "issuer" },
            "spec": { "oauth2": { "tokenURL": issuer.token_url(), "auth": { "tokenExchange": exchange } } },
        }))
        .await?;
    bench.kubernetes_store("source").await?;
    bench.put_source("exchange", &[("REVISION", "1")]).await?;
    Ok(issuer)
}

/// A token beside what the source holds.
fn bot_secret(bench: &Bench, interval: &str) -> Value {
    let mut object = bench.bot_secret(NAME, "exchange");
    object["spec"]["refreshInterval"] = json!(interval);
    object["spec"]["data"] = json!([{
        "secretKey": "TOKEN", "remoteRef": { "key": "read", "property": "access_token" },
        "storeRef": { "name": "issuer" },
    }]);
    object
}

async fn token(bench: &Bench) -> Result<Option<String>> {
    let token = bench.value(NAME, "TOKEN").await?;
    if let Some(token) = &token {
        canary::watch(token.as_bytes());
    }
    Ok(token)
}

/// Waits for another token than this one.
async fn another_token(bench: &Bench, before: &str) -> Result<String> {
    wait_for("another token", DEADLINE, async || Ok(token(bench).await?.filter(|token| token != before))).await
}

async fn is_active(issuer: &OidcProvider, token: &str) -> Result<bool> {
    Ok(issuer.introspect(token).await?["active"] == true)
}

/// When a token that lives was issued, and when it ends, in seconds: by the
/// issuer's own account, since a busy machine may look late.
async fn life(issuer: &OidcProvider, token: &str) -> Result<(i64, i64)> {
    let said = issuer.introspect(token).await?;
    anyhow::ensure!(said["active"] == true, "it has ended, or never was");
    let ends = said["exp"].as_i64().context("no end")?;
    Ok((ends - i64::from(LIFE), ends))
}

/// The bot's processes: a rollout makes others.
fn processes(bench: &Bench) -> Result<BTreeSet<u32>> {
    let processes = bench.kubelet()?.processes();
    let ours = processes.into_iter().filter(|process| process.namespace == bench.namespace);
    Ok(ours.map(|process| process.host_pid).collect())
}

async fn patches(bench: &Bench) -> Result<usize> {
    let requests = bench.cluster.audit().requests_by(bench.operator.user()).await?;
    Ok(requests.iter().filter(|request| request.verb == "patch" && request.resource == "deployments").count())
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_tokens_are_renewed_before_they_end_and_roll_nobody_but_a_rotation_does() -> Result {
    let bench = Bench::new("tokens-roll").await?;
    let issuer = issuer(&bench).await?;
    bench.apply(bench.bot("one", NAME, 2)).await?;
    bench.apply(bot_secret(&bench, "1h")).await?;
    bench.until_condition(NAME, "Ready", "True").await?;
    bench.until_all_hold("one", 2, "1").await?;
    let began = processes(&bench)?;
    let mut held = token(&bench).await?.unwrap();
    let (first_issued, mut held_ends) = life(&issuer, &held).await?;
    let mut last_issued = first_issued;
    for _ in 0..6 {
        let next = another_token(&bench, &held).await?;
        let (issued, ends) = life(&issuer, &next).await?;
        assert!(issued < held_ends, "had before the old one has ended");
        (held, held_ends, last_issued) = (next, ends, issued);
    }
    // More of them than make a Secret contested.
    bench.until_condition(NAME, "Ready", "True").await?;
    assert_eq!((processes(&bench)?, bench.rollouts("one").await?, patches(&bench).await?), (began, 1, 0));
    let asked = issuer.requests()?;
    assert!(asked.iter().all(|request| request.status == 200), "{asked:?}");
    // Renewed every 8 s; one more may have come since.
    let due = usize::try_from((last_issued - first_issued) / 7)? + 2;
    assert!((7..=due).contains(&asked.len()), "{} requests, {due} due", asked.len());
    assert!(!bench.operator.metrics().await?.contains("botsecret_repairs_total 1"), "no one else wrote the Secret");
    // What rotates beside it does roll, once.
    bench.put_source("exchange", &[("REVISION", "2")]).await?;
    annotate(&bench, NAME, "1").await?;
    bench.until_all_hold("one", 2, "2").await?;
    another_token(&bench, &token(&bench).await?.unwrap()).await?;
    bench.until_condition(NAME, "RolledOut", "True").await?;
    assert_eq!((bench.rollouts("one").await?, patches(&bench).await?), (2, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_an_interval_of_zero_keeps_tokens_alive_over_a_restart_and_a_lost_secret() -> Result {
    let mut bench = Bench::new("tokens-zero").await?;
    let issuer = issuer(&bench).await?;
    bench.apply(bench.bot("one", NAME, 2)).await?;
    bench.apply(bot_secret(&bench, "0")).await?;
    bench.until_condition(NAME, "Ready", "True").await?;
    bench.until_all_hold("one", 2, "1").await?;
    let began = processes(&bench)?;
    let first = token(&bench).await?.unwrap();
    let second = another_token(&bench, &first).await?;
    let (_, second_ends) = life(&issuer, &second).await?;
    // Restarted before it is due: had when it is due.
    bench.operator.kill().await?;
    bench.operator.start_again().await?;
    let third = another_token(&bench, &second).await?;
    assert!(life(&issuer, &third).await?.0 < second_ends, "had before the old one has ended");
    // Restarted when it has ended: had at once.
    bench.operator.kill().await?;
    wait_for("the token to end", DEADLINE, async || Ok((!is_active(&issuer, &third).await?).then_some(()))).await?;
    bench.operator.start_again().await?;
    let fourth = another_token(&bench, &third).await?;
    // The Secret is deleted while nobody looks.
    bench.operator.kill().await?;
    bench.secrets().delete(NAME, &kube::api::DeleteParams::default()).await?;
    bench.operator.start_again().await?;
    let fifth = another_token(&bench, &fourth).await?;
    assert!(is_active(&issuer, &fifth).await?);
    bench.until_condition(NAME, "RolledOut", "True").await?;
    another_token(&bench, &fifth).await?;
    assert_eq!((processes(&bench)?, bench.rollouts("one").await?, patches(&bench).await?), (began, 1, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_any_key_can_be_told_to_roll_nobody_and_a_token_to_roll() -> Result {
    let bench = Bench::new("tokens-rolls").await?;
    let _issuer = issuer(&bench).await?;
    let source = |quiet: &'static str, revision: &'static str| [("QUIET", quiet), ("REVISION", revision)];
    bench.put_source("exchange", &source("1", "1")).await?;
    let entry = |key: &str| json!({ "secretKey": key, "remoteRef": { "key": "exchange", "property": key } });
    let mut object = bot_secret(&bench, "1s");
    let token_entry = object["spec"]["data"][0].clone();
    let mut quiet = entry("QUIET");
    quiet["rolls"] = json!(false);
    object["spec"]["dataFrom"] = json!([]);
    object["spec"]["data"] = json!([entry("REVISION"), quiet]);
    bench.apply(bench.bot("one", NAME, 2)).await?;
    bench.apply(object.clone()).await?;
    bench.until_all_hold("one", 2, "1").await?;
    let began = processes(&bench)?;
    for value in ["2", "3"] {
        bench.put_source("exchange", &source(value, "1")).await?;
        bench.until_value(NAME, "QUIET", value).await?;
        bench.until_more_reads(3).await?;
    }
    assert_eq!((processes(&bench)?, patches(&bench).await?), (began, 0));
    bench.put_source("exchange", &source("4", "2")).await?;
    bench.until_all_hold("one", 2, "2").await?;
    bench.until_condition(NAME, "RolledOut", "True").await?;
    assert_eq!(patches(&bench).await?, 1);
    // A token that is asked to roll does.
    let mut loud = token_entry;
    loud["rolls"] = json!(true);
    object["spec"]["data"].as_array_mut().unwrap().push(loud);
    bench.apply(object).await?;
    wait_for("a rollout for the key, and one for its renewal", DEADLINE, async || {
        Ok((patches(&bench).await? >= 3).then_some(()))
    })
    .await
}
