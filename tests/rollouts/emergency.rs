//! A rotation that somebody wants now: it waits for no window and no pause, and
//! nothing after it is spared them. Who may not edit the BotSecret may not ask.

use anyhow::ensure;
use botsecret::api::RotationPhase;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::{
    common::{NAME, delivered, expect_rollouts, rotate, scene, two_more_refreshes, until_phase},
    support::{
        Bench, Result,
        rotate::{Person, emergency, told},
    },
};

const APPS: [&str; 2] = ["bot-a", "bot-b"];
const NOW: [&str; 4] = [NAME, "--now", "--reason", "the key was posted in a chat"];

async fn edit(bench: &Bench, spec: serde_json::Value) -> Result {
    let patch = json!({ "spec": spec });
    bench.bot_secrets().patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// The Secret holds this, and everybody waits.
async fn waits(bench: &Bench, revision: &str, rollouts: usize) -> Result {
    bench.until_value(NAME, "REVISION", revision).await?;
    let message = until_phase(bench, RotationPhase::Written).await?;
    ensure!(message == "no rollout.window ever opens", "{message}");
    two_more_refreshes(bench).await?;
    expect_rollouts(bench, &APPS, rollouts).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_window_and_a_pause_are_skipped_for_the_request_and_for_nothing_else() -> Result {
    let mut bench = Bench::new("rotate-window").await?;
    scene(&bench, &APPS).await?;
    // Denied at any time.
    let never = json!([{ "kind": "Deny", "schedule": "* * * * *", "duration": "1h" }]);
    edit(&bench, json!({ "rollout": { "window": never, "minInterval": "24h" } })).await?;
    rotate(&bench, "2").await?;
    waits(&bench, "2", 0).await?;
    {
        let ann = Person::new(&bench, "ann", &["get", "patch"]).await?;
        // What waits already goes at once, though the manager gives nothing newer.
        let said = ann.rotated(&[&NOW[..], &["--wait"]].concat()).await?;
        ensure!(said["status"]["phase"] == "RolledOut", "{said}");
        ensure!(said["status"]["message"].as_str().is_some_and(|text| text.contains("gave no other value")), "{said}");
    }
    delivered(&bench, &APPS, "2", 1).await?;
    rotate(&bench, "3").await?;
    waits(&bench, "3", 1).await?;
    // Handled is handled, also for another process.
    let record = emergency(&bench, NAME).await?;
    bench.operator.kill().await?;
    bench.operator.start_again().await?;
    waits(&bench, "3", 1).await?;
    assert_eq!(emergency(&bench, NAME).await?, record);
    {
        let ann = Person::new(&bench, "ann", &["get", "patch"]).await?;
        let said = ann.rotated(&[&NOW[..], &["--wait"]].concat()).await?;
        ensure!(said["id"] != record.map(|record| record.id).unwrap_or_default().as_str(), "{said}");
    }
    delivered(&bench, &APPS, "3", 2).await?;
    let told = told(&bench, NAME, "RotationEnded").await?;
    ensure!(told.len() == 2, "{told:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_no_refresh_would_bring_is_brought_at_once() -> Result {
    let bench = Bench::new("rotate-read").await?;
    scene(&bench, &APPS).await?;
    edit(&bench, json!({ "refreshInterval": "24h" })).await?;
    bench.until_condition(NAME, "Ready", "True").await?;
    rotate(&bench, "2").await?;
    let ann = Person::new(&bench, "ann", &["get", "patch"]).await?;
    let said = ann.rotated(&[&NOW[..], &["--wait", "--timeout", "2m"]].concat()).await?;
    ensure!(said["status"]["message"].as_str().is_some_and(|text| text.contains("a new value")), "{said}");
    bench.until_value(NAME, "REVISION", "2").await?;
    for app in APPS {
        bench.until_all_hold(app, 2, "2").await?;
    }
    expect_rollouts(&bench, &APPS, 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_who_may_not_edit_the_botsecret_is_refused_by_the_api_server_and_nothing_happens() -> Result {
    let bench = Bench::new("rotate-rights").await?;
    scene(&bench, &[]).await?;
    let reader = Person::new(&bench, "reader", &["get", "list", "watch"]).await?;
    let nobody = Person::new(&bench, "nobody", &[]).await?;
    for (person, verb) in [(&reader, "patch"), (&nobody, "get")] {
        let said = person.rotate(&NOW).await?;
        assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""), "{said:?}");
        let words = format!("you may not {verb} BotSecret {NAME} in namespace {}", bench.namespace);
        ensure!(said.stderr.contains(&words) && said.stderr.contains(&person.name), "{said:?}");
    }
    two_more_refreshes(&bench).await?;
    let object = bench.bot_secrets().get(NAME).await?;
    ensure!(!object.metadata.annotations.unwrap_or_default().contains_key("botsecret.dev/rotate"));
    ensure!(emergency(&bench, NAME).await?.is_none() && told(&bench, NAME, "RotationRequested").await?.is_empty());
    // A status that somebody made up is no request.
    let made_up = json!({ "status": { "emergency": {
        "id": "1", "reason": "r", "requestedAt": "2026-01-01T00:00:00Z", "phase": "Requested",
    } } });
    bench.bot_secrets().patch_status(NAME, &PatchParams::default(), &Patch::Merge(made_up)).await?;
    crate::support::rotate::until_emergency(&bench, NAME, "Withdrawn").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_have_no_effect_is_refused_in_words() -> Result {
    let bench = Bench::new("rotate-words").await?;
    scene(&bench, &[]).await?;
    let ann = Person::new(&bench, "ann", &["get", "patch"]).await?;
    let refused = async |arguments: &[&str], words: &str| -> Result {
        let said = ann.rotate(arguments).await?;
        ensure!(said.code == Some(1) && said.stderr.contains(words), "{arguments:?}: {said:?}");
        Ok(())
    };
    let missing = format!("BotSecret no-such does not exist in namespace {}", bench.namespace);
    refused(&["no-such", "--now", "--reason", "r"], &missing).await?;
    refused(&[NAME, "--now", "--reason", "r", "--revoke"], "no leased credential").await?;
    edit(&bench, json!({ "suspend": true })).await?;
    refused(&NOW, "is suspended").await?;
    ensure!(emergency(&bench, NAME).await?.is_none());
    Ok(())
}
