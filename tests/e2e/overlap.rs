//! Both values for a while: the old one beside the new.

use anyhow::{bail, ensure};
use botsecret_testbed::wait_for;
use serde_json::{Value, json};

use crate::support::{Bench, DEADLINE, Result, Vault, shared_bao};

const NAME: &str = "webhook";
const SOURCE: &str = "exchange";
const OLD: &str = "REVISION_PREVIOUS";

fn bot_secret(bench: &Bench, keep: &Value) -> Value {
    let mut object = bench.bot_secret(NAME, SOURCE);
    object["spec"]["target"] = json!({ "keepPrevious": keep });
    object
}

/// One that runs with or without the old value, and takes nothing else.
fn of_the_old_alone(bench: &Bench) -> Value {
    let mut bot = bench.bot("old", NAME, 1);
    let container = &mut bot["spec"]["template"]["spec"]["containers"][0];
    container["envFrom"] = json!([]);
    container["env"] = json!([{
        "name": "REVISION",
        "valueFrom": { "secretKeyRef": { "name": NAME, "key": OLD, "optional": true } },
    }]);
    bot
}

async fn until_gone(bench: &Bench, key: &str) -> Result {
    wait_for(&format!("{key} to be gone"), DEADLINE, async || match bench.value(NAME, key).await? {
        None => Ok(Some(())),
        Some(_) => bail!("it is there"),
    })
    .await
}

#[tokio::test]
async fn p3_the_old_value_lies_beside_the_new_one_for_its_time_and_no_workload_rolls_for_it() -> Result {
    let mut bench = Bench::new("overlap").await?;
    bench.kubernetes_store("source").await?;
    bench.put_source(SOURCE, &[("REVISION", "1"), ("OTHER", "same")]).await?;
    bench.apply(bench.bot("bot", NAME, 1)).await?;
    bench.apply(of_the_old_alone(&bench)).await?;
    bench.apply(bot_secret(&bench, &json!({ "for": "20s" }))).await?;
    bench.until_condition(NAME, "Ready", "True").await?;
    bench.until_all_hold("bot", 1, "1").await?;
    bench.until_all_hold("old", 1, "").await?;
    ensure!(bench.value(NAME, OLD).await?.is_none());
    bench.put_source(SOURCE, &[("REVISION", "2"), ("OTHER", "same")]).await?;
    bench.until_all_hold("bot", 1, "2").await?;
    assert_eq!(bench.value(NAME, OLD).await?.as_deref(), Some("1"));
    ensure!(bench.value(NAME, "OTHER_PREVIOUS").await?.is_none(), "it did not change");
    // A restart, and somebody's edit of another key, leave it where it is.
    bench.operator.kill().await?;
    bench.operator.start_again().await?;
    bench.until_condition(NAME, "RolledOut", "True").await?;
    let edit = json!({ "data": { "OTHER": "eA==" } });
    bench.secrets().patch(NAME, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(edit)).await?;
    bench.until_value(NAME, "OTHER", "same").await?;
    assert_eq!(bench.value(NAME, OLD).await?.as_deref(), Some("1"));
    until_gone(&bench, OLD).await?;
    bench.until_more_reads(3).await?;
    assert_eq!((bench.rollouts("bot").await?, bench.rollouts("old").await?), (2, 1));
    let told = bench.events(NAME).await?;
    let count = |wanted: &str| told.iter().filter(|(reason, _)| reason == wanted).count();
    assert_eq!((count("Rotated"), count("Repaired")), (1, 1), "{told:?}");
    // No longer asked for, it goes at once.
    bench.put_source(SOURCE, &[("REVISION", "3"), ("OTHER", "same")]).await?;
    bench.until_value(NAME, OLD, "2").await?;
    bench.apply(bench.bot_secret(NAME, SOURCE)).await?;
    until_gone(&bench, OLD).await
}

#[tokio::test]
async fn on_a_fresh_install_the_manager_tells_what_was_before() -> Result {
    let bench = Bench::new("overlap-fresh").await?;
    let vault = Vault::new(&bench, shared_bao().await?, &["bot"]).await?;
    for revision in ["1", "2", "3"] {
        vault.put(SOURCE, &json!({ "REVISION": revision, "OTHER": "same" })).await?;
    }
    bench.apply(bot_secret(&bench, &json!({ "suffix": ".old", "keys": ["REVISION"] }))).await?;
    bench.until_condition(NAME, "Ready", "True").await?;
    assert_eq!(bench.value(NAME, "REVISION").await?.as_deref(), Some("3"));
    assert_eq!(bench.value(NAME, "REVISION.old").await?.as_deref(), Some("2"));
    ensure!(bench.value(NAME, "OTHER.old").await?.is_none());
    Ok(())
}
