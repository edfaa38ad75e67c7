//! An upgrade and a downgrade in the middle of a leased credential's rotation:
//! nothing is issued again, and nothing rolls twice.

use anyhow::{Context as _, ensure};
use botsecret::{
    api::{ANNOTATION_STATE, LeaseStatus, issued_annotation},
    leases::{Keys, Record},
};
use botsecret_testbed::wait_for;
use kube::{
    ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    bank::{Bank, Terms, counter, records, until_states},
    rotating::{APPS, keys, rotating},
    support::{
        Bench, DEADLINE, Result,
        later::{by_earlier, by_later, install_later, status_of, write_status},
    },
};

/// As a version knew it that kept no account of where a credential lies.
fn earlier(record: Record) -> Record {
    Record { places: Vec::new(), unseen: false, token_ends: None, ..record }
}

/// Records without the fields that came later, with the proof that they had.
fn earlier_leases(status: &mut Value, keys: &Keys, uid: &str) -> Result {
    for lease in status["leases"].as_array_mut().context("no leases")? {
        let known: LeaseStatus = serde_json::from_value(lease.clone())?;
        let record = Record::from_status(&known, keys, uid).context("no proof")?;
        *lease = serde_json::to_value(earlier(record).to_status(keys, uid))?;
        ensure!(lease.get("secrets").is_none() && lease.get("tokenEnds").is_none(), "{lease}");
    }
    Ok(())
}

/// Writes annotations of the Secret, as if its writer had put them there.
async fn annotate(bench: &Bench, status: &mut Value, annotations: Value) -> Result {
    let patch = json!({ "metadata": { "annotations": annotations } });
    let written = bench.secrets().patch("db", &PatchParams::default(), &Patch::Merge(patch)).await?;
    status["target"]["resourceVersion"] = json!(written.resource_version());
    Ok(())
}

async fn start(name: &str) -> Result<(Bench, Bank, String, String)> {
    let mut bench = Bench::new(name).await?;
    let bank = Bank::new(&bench, Terms { token_ttl: "10m", ..Terms::default() }).await?;
    let bao = &bank.servers.bao;
    let (first, second) = rotating(&bench, &bank, &bank.store(bao.url(), bao.ca_pem().unwrap())).await?;
    bench.operator.kill().await?;
    Ok((bench, bank, first, second))
}

/// Each workload has rolled once, for the one rotation, and holds its user.
async fn rolled_once(bench: &Bench, bank: &Bank, user: &str) -> Result {
    for app in APPS {
        bench.until_all_hold(app, 2, user).await?;
    }
    bench.until_condition("db", "RolledOut", "True").await?;
    wait_for("both to be renewed", DEADLINE, async || Ok((counter(bench, "lease_renewals").await? >= 2).then_some(())))
        .await?;
    for app in APPS {
        assert_eq!(bench.rollouts(app).await?, 2, "{app}");
        bench.until_all_hold(app, 2, user).await?;
    }
    assert_eq!(bank.issued()?, 2, "the two of the rotation");
    assert_eq!(counter(bench, "leases_issued").await?, 0);
    Ok(())
}

#[tokio::test]
async fn p7_an_upgrade_in_the_middle_of_a_rotation_issues_nothing_again_and_rolls_each_workload_once() -> Result {
    let (mut bench, bank, first, second) = start("lease-upgrade").await?;
    let (keys, object) = (keys(&bench).await?, bench.bot_secrets().get("db").await?);
    let uid = object.uid().context("a UID")?;
    let mut status = status_of(&bench, "db").await?;
    by_earlier(&mut status);
    earlier_leases(&mut status, &keys, &uid)?;
    let name = issued_annotation("db", false);
    let secret = bench.secrets().get("db").await?;
    let sealed = secret.annotations().get(&name).and_then(|text| keys.open(&uid, text)).context("nothing sealed")?;
    let sealed = keys.seal(&uid, &earlier(sealed.record), &sealed.values).context("not sealed")?;
    annotate(&bench, &mut status, json!({ name: sealed })).await?;
    write_status(&bench, "db", &status).await?;
    bench.operator.start_again().await?;
    rolled_once(&bench, &bank, &second).await?;
    // Nothing says which pods hold the old one, so it is kept alive.
    let records = until_states(&bench, "db", &["Retiring", "Live"]).await?;
    assert!(records.iter().all(|record| record.secrets.is_empty()), "{records:?}");
    let mut users = bank.users().await?;
    users.sort();
    let mut wanted = vec![first, second];
    wanted.sort();
    assert_eq!(users, wanted);
    Ok(())
}

#[tokio::test]
async fn p7_a_downgrade_in_the_middle_of_a_rotation_issues_nothing_again_and_rolls_each_workload_once() -> Result {
    let (mut bench, bank, _, second) = start("lease-downgrade").await?;
    install_later(bench.cluster).await?;
    let mut status = status_of(&bench, "db").await?;
    let secret = bench.secrets().get("db").await?;
    let mut state: Value = serde_json::from_str(secret.annotations().get(ANNOTATION_STATE).context("no state")?)?;
    state["later"] = json!({ "weight": 1 });
    annotate(&bench, &mut status, json!({ ANNOTATION_STATE: state.to_string() })).await?;
    by_later(&mut status);
    // Its proof covers what this version does not know of: the Secret speaks for it.
    status["leases"][1]["mac"] = status["leases"][0]["mac"].clone();
    write_status(&bench, "db", &status).await?;
    bench.operator.start_again().await?;
    rolled_once(&bench, &bank, &second).await?;
    assert_eq!(counter(&bench, "lease_records_ignored").await?, 1);
    until_states(&bench, "db", &["Live"]).await?;
    bank.until_leases(1).await?;
    assert_eq!(bank.users().await?, [second.as_str()]);
    // Once more, with nothing under way.
    let live = records(&bench, "db").await?;
    bench.operator.kill().await?;
    let mut status = status_of(&bench, "db").await?;
    by_later(&mut status);
    write_status(&bench, "db", &status).await?;
    bench.operator.start_again().await?;
    rolled_once(&bench, &bank, &second).await?;
    assert_eq!(records(&bench, "db").await?, live);
    Ok(())
}
