//! A value on which a workload fails is taken back, where the one before is
//! known to be good still.

use anyhow::{bail, ensure};
use botsecret::api::RotationPhase;
use botsecret_testbed::wait_for;
use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::Pod};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    common::{LONG, NAME, SOURCE, expect_rollouts, follow, patches, picky, rotate, served_throughout, until_phase},
    support::{Bench, DEADLINE, Fault, Result, Vault, shared_bao},
};

const PREVIOUS: &str = "price-bot-previous";

/// A BotSecret that rolls back.
fn bot_secret(bench: &Bench, rollout: &Value) -> Value {
    let mut object = bench.bot_secret(NAME, SOURCE);
    object["spec"]["rollout"] = json!({ "healthyFor": "1s", "onFailure": "RollBack" });
    if let (Some(all), Some(more)) = (object["spec"]["rollout"].as_object_mut(), rollout.as_object()) {
        all.extend(more.clone());
    }
    object
}

/// The right that `deploy/roll-back.yaml` grants, in this namespace.
async fn grant_deletion_of_pods(bench: &Bench) -> Result {
    bench.grant_also(include_str!("../../deploy/roll-back.yaml")).await
}

async fn put(vault: &Vault<'_>, revision: &str) -> Result {
    vault.put(SOURCE, &json!({ "REVISION": revision })).await.map(drop)
}

/// Waits until the value before is kept no longer.
async fn until_forgotten(bench: &Bench) -> Result {
    wait_for("the value before to be forgotten", DEADLINE, async || {
        let rotation = bench.bot_secrets().get(NAME).await?.status.and_then(|status| status.rotation);
        let on_record = rotation.is_some_and(|rotation| !rotation.previous.is_empty());
        let is_kept = bench.holds_anything(PREVIOUS).await?;
        if is_kept || on_record {
            bail!("kept: {is_kept}, on record: {on_record}")
        }
        Ok(Some(()))
    })
    .await
}

/// Waits until a StatefulSet's own status says that all is well: one that is not
/// well before a value comes is no verdict on it.
async fn until_well(bench: &Bench, name: &str, replicas: i32) -> Result {
    let sets: Api<StatefulSet> = Api::namespaced(bench.client.clone(), &bench.namespace);
    wait_for(&format!("{name} to be well"), DEADLINE, async || {
        let status = sets.get(name).await?.status.unwrap_or_default();
        let ready = (status.ready_replicas, status.available_replicas, status.updated_replicas);
        ensure!(ready == (Some(replicas), Some(replicas), Some(replicas)), "{ready:?}");
        Ok(Some(()))
    })
    .await
}

/// Ends every pod of an app, as a node that fails would.
async fn restart(bench: &Bench, app: &str) -> Result {
    let pods: Api<Pod> = Api::namespaced(bench.client.clone(), &bench.namespace);
    let selected = ListParams::default().labels(&format!("app={app}"));
    pods.delete_collection(&DeleteParams::default(), &selected).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_value_is_taken_back_from_those_that_have_it_and_the_next_good_one_goes_through() -> Result {
    let bench = Bench::new("back").await?;
    let vault = Vault::new(&bench, shared_bao().await?, &["bot"]).await?;
    grant_deletion_of_pods(&bench).await?;
    put(&vault, "1").await?;
    // The controller replaces none of its pods while one is not ready.
    let mut state = picky("StatefulSet", "state", 2);
    state["spec"]["podManagementPolicy"] = "OrderedReady".into();
    bench.apply(state).await?;
    let apps: Vec<_> = (0..5).map(|number| format!("bot-{number}")).collect();
    let history = follow(&bench, "Deployment").await?;
    for app in &apps {
        bench.apply(picky("Deployment", app, 1)).await?;
    }
    let first = json!({ "kind": "StatefulSet", "name": "state", "healthyFor": "2s" });
    bench.apply(bot_secret(&bench, &json!({ "canary": first }))).await?;
    bench.until_condition(NAME, "Ready", "True").await?;
    bench.until_all_hold("state", 2, "1").await?;
    until_well(&bench, "state", 2).await?;
    for app in &apps {
        bench.until_all_hold(app, 1, "1").await?;
    }
    put(&vault, "bad").await?;
    let message = until_phase(&bench, RotationPhase::RolledBack).await?;
    assert!(message.starts_with("StatefulSet state failed on the new value"), "{message}");
    let (reason, message) = bench.until_condition(NAME, "Ready", "False").await?;
    assert_eq!(reason, "RolledBack", "{message}");
    bench.until_condition(NAME, "RolledOut", "True").await?;
    bench.until_value(NAME, "REVISION", "1").await?;
    bench.until_all_hold("state", 2, "1").await?;
    // The source still gives the bad one: nobody is given it again.
    let versions = [NAME, PREVIOUS].map(|name| (name, bench.secrets()));
    let mut before = Vec::new();
    for (name, secrets) in &versions {
        before.push(secrets.get(name).await?.metadata.resource_version);
    }
    bench.until_more_reads(5).await?;
    for ((name, secrets), before) in versions.iter().zip(before) {
        assert_eq!(secrets.get(name).await?.metadata.resource_version, before, "{name}");
    }
    let names: Vec<_> = apps.iter().map(String::as_str).collect();
    expect_rollouts(&bench, &names, 0).await?;
    served_throughout(&history.complete().await?, &names)?;
    ensure!(patches(&bench, "statefulsets", "state").await? == 2, "once there and once back");
    restart(&bench, "bot-3").await?;
    bench.until_all_hold("bot-3", 1, "1").await?;
    // Somebody deletes the Secret: what comes back is not what failed.
    bench.secrets().delete(NAME, &DeleteParams::default()).await?;
    bench.until_value(NAME, "REVISION", "1").await?;
    let told = bench.events(NAME).await?;
    ensure!(told.iter().any(|(reason, _)| reason == "RolledBack"), "{told:?}");
    assert_eq!(crate::common::metric(&bench, "botsecret_rollbacks_total").await?, 1);
    // The next good one, by itself.
    put(&vault, "2").await?;
    until_phase(&bench, RotationPhase::Verified).await?;
    bench.until_all_hold("state", 2, "2").await?;
    for app in &apps {
        bench.until_all_hold(app, 1, "2").await?;
    }
    expect_rollouts(&bench, &names, 1).await?;
    bench.until_condition(NAME, "Ready", "True").await?;
    until_forgotten(&bench).await?;
    // Nothing is kept any more, so there is no room left for it either.
    let halts = json!({ "spec": { "rollout": { "onFailure": "Halt" } } });
    bench.bot_secrets().patch(NAME, &PatchParams::default(), &Patch::Merge(halts)).await?;
    bench.until_no_secret(PREVIOUS).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_to_be_good_does_not_come_back_and_the_halt_says_why() -> Result {
    let bench = Bench::new("no-way-back").await?;
    // A Secret of another namespace keeps no versions.
    bench.kubernetes_store("source").await?;
    rotate(&bench, "1").await?;
    for app in ["a", "b"] {
        bench.apply(picky("Deployment", app, 1)).await?;
    }
    bench.apply(bot_secret(&bench, &json!({}))).await?;
    for app in ["a", "b"] {
        bench.until_all_hold(app, 1, "1").await?;
    }
    rotate(&bench, "bad").await?;
    wait_for("the reason not to roll back", LONG, async || {
        let rotation = bench.bot_secrets().get(NAME).await?.status.and_then(|status| status.rotation);
        let Some(rotation) = rotation.filter(|rotation| rotation.phase == RotationPhase::Halted) else {
            bail!("not halted")
        };
        let why = "not rolled back: the value before is not known to be good";
        if rotation.message.contains(why) && rotation.message.contains("set spec.verify") {
            return Ok(Some(()));
        }
        bail!("{}", rotation.message)
    })
    .await?;
    bench.until_condition(NAME, "RolledOut", "False").await?;
    bench.until_more_reads(3).await?;
    assert_eq!(bench.value(NAME, "REVISION").await?.as_deref(), Some("bad"));
    expect_rollouts(&bench, &["b"], 0).await?;
    rotate(&bench, "2").await?;
    for app in ["a", "b"] {
        bench.until_all_hold(app, 1, "2").await?;
    }
    until_phase(&bench, RotationPhase::Verified).await?;
    until_forgotten(&bench).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_the_manager_destroyed_does_not_come_back() -> Result {
    let bench = Bench::new("destroyed").await?;
    let vault = Vault::new(&bench, shared_bao().await?, &["bot"]).await?;
    put(&vault, "1").await?;
    bench.apply(picky("Deployment", "bot", 1)).await?;
    bench.apply(bot_secret(&bench, &json!({}))).await?;
    bench.until_all_hold("bot", 1, "1").await?;
    vault.destroy(SOURCE, 1).await?;
    put(&vault, "bad").await?;
    wait_for("the reason not to roll back", LONG, async || {
        let rotation = bench.bot_secrets().get(NAME).await?.status.and_then(|status| status.rotation);
        let message = rotation.map(|rotation| rotation.message).unwrap_or_default();
        if message.contains("not rolled back: ") { Ok(Some(())) } else { bail!("{message}") }
    })
    .await?;
    assert_eq!(bench.value(NAME, "REVISION").await?.as_deref(), Some("bad"));
    Ok(())
}

/// What has been seen when the trap is set.
#[derive(Clone, Copy, PartialEq)]
enum Seen {
    Nothing,
    /// The Secret holds the bad value.
    Bad,
    /// A workload was rolled onto it.
    Rolled,
    /// The Secret holds the value before again.
    Back,
}

/// The source still gives the bad value at each of these points.
#[tokio::test(flavor = "multi_thread")]
async fn p3_killed_while_a_value_is_taken_back_it_comes_back_all_the_same_and_once() -> Result {
    let (mut bench, proxy) = Bench::behind_proxy("back-killed").await?;
    let vault = Vault::new(&bench, shared_bao().await?, &["bot"]).await?;
    put(&vault, "good-0").await?;
    for app in ["a", "b"] {
        bench.apply(picky("Deployment", app, 1)).await?;
    }
    bench.apply(bot_secret(&bench, &json!({}))).await?;
    for app in ["a", "b"] {
        bench.until_all_hold(app, 1, "good-0").await?;
    }
    let mut rollouts = 0;
    let points = [
        (Seen::Nothing, "POST", "/secrets".to_owned(), Fault::HoldReply),
        (Seen::Nothing, "PUT", format!("/secrets/{PREVIOUS}"), Fault::HoldReply),
        (Seen::Bad, "PUT", format!("/secrets/{NAME}"), Fault::HoldRequest),
        (Seen::Bad, "PUT", format!("/secrets/{NAME}"), Fault::HoldReply),
        (Seen::Rolled, "PATCH", "/deployments/a".to_owned(), Fault::HoldReply),
        (Seen::Rolled, "PATCH", format!("/botsecrets/{NAME}/status"), Fault::HoldReply),
        (Seen::Back, "PATCH", format!("/botsecrets/{NAME}/status"), Fault::HoldReply),
    ];
    for (number, (seen, method, path, fault)) in points.into_iter().enumerate() {
        let (good, bad) = (format!("good-{number}"), format!("bad-{number}"));
        let early = (seen == Seen::Nothing).then(|| proxy.next(method, &path, fault));
        put(&vault, &bad).await?;
        match seen {
            Seen::Nothing => {}
            Seen::Bad => bench.until_value(NAME, "REVISION", &bad).await?,
            Seen::Rolled => {
                wait_for("a to be rolled onto the bad value", DEADLINE, async || {
                    Ok((patches(&bench, "deployments", "a").await? > rollouts).then_some(()))
                })
                .await?;
            }
            Seen::Back => {
                bench.until_value(NAME, "REVISION", &bad).await?;
                bench.until_value(NAME, "REVISION", &good).await?;
            }
        }
        let trap = early.unwrap_or_else(|| proxy.next(method, &path, fault));
        trap.caught().await?;
        bench.operator.kill().await?;
        bench.operator.start_again().await?;
        until_phase(&bench, RotationPhase::RolledBack)
            .await
            .map_err(|error| error.context(format!("{fault:?} of {method} {path}")))?;
        bench.until_all_hold("a", 1, &good).await?;
        bench.until_all_hold("b", 1, &good).await?;
        rollouts += 2;
        expect_rollouts(&bench, &["a"], rollouts).await?;
        // Everybody onto the next good one.
        put(&vault, &format!("good-{}", number + 1)).await?;
        until_phase(&bench, RotationPhase::Verified).await?;
        rollouts += 1;
        expect_rollouts(&bench, &["a"], rollouts).await?;
        expect_rollouts(&bench, &["b"], number + 1).await?;
        until_forgotten(&bench).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spec_that_asks_for_a_bad_secret_is_taken_back_until_it_is_edited() -> Result {
    let bench = Bench::new("back-spec").await?;
    let vault = Vault::new(&bench, shared_bao().await?, &["bot"]).await?;
    put(&vault, "1").await?;
    vault.put("other", &json!({ "REVISION": "bad" })).await?;
    vault.put("good", &json!({ "REVISION": "2" })).await?;
    bench.apply(picky("Deployment", "bot", 1)).await?;
    bench.apply(bot_secret(&bench, &json!({}))).await?;
    bench.until_all_hold("bot", 1, "1").await?;
    let read = async |key: &str| {
        let patch = json!({ "spec": { "dataFrom": [{ "extract": { "key": key } }] } });
        bench.bot_secrets().patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await
    };
    read("other").await?;
    // The version that was read before is another secret's.
    wait_for("the reason not to roll back", LONG, async || {
        let rotation = bench.bot_secrets().get(NAME).await?.status.and_then(|status| status.rotation);
        let message = rotation.map(|rotation| rotation.message).unwrap_or_default();
        if message.contains("not rolled back: ") { Ok(Some(())) } else { bail!("{message}") }
    })
    .await?;
    read("good").await?;
    bench.until_all_hold("bot", 1, "2").await?;
    until_phase(&bench, RotationPhase::Verified).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_value_is_held_off_keys_that_roll_nobody_stay_fresh_and_a_lost_secret_does_not_bring_it() -> Result {
    let mut bench = Bench::new("back-held").await?;
    let vault = Vault::new(&bench, shared_bao().await?, &["bot"]).await?;
    put(&vault, "1").await?;
    let token = async |text: &str| vault.put("token", &json!({ "TOKEN": text })).await.map(drop);
    token("first").await?;
    bench.apply(picky("Deployment", "bot", 1)).await?;
    let mut object = bot_secret(&bench, &json!({}));
    object["spec"]["dataFrom"] =
        json!([{ "extract": { "key": SOURCE } }, { "extract": { "key": "token" }, "rolls": false }]);
    object["spec"]["target"] = json!({ "labels": { "team": "a" } });
    bench.apply(object.clone()).await?;
    bench.until_all_hold("bot", 1, "1").await?;
    bench.until_condition(NAME, "RolledOut", "True").await?;
    put(&vault, "bad").await?;
    until_phase(&bench, RotationPhase::RolledBack).await?;
    token("second").await?;
    bench.until_value(NAME, "TOKEN", "second").await?;
    assert_eq!(bench.value(NAME, "REVISION").await?.as_deref(), Some("1"));
    // An edit of its labels is followed as well.
    object["spec"]["target"]["labels"]["team"] = "b".into();
    bench.apply(object).await?;
    wait_for("the label", DEADLINE, async || {
        let labels = bench.secrets().get(NAME).await?.metadata.labels.unwrap_or_default();
        Ok((labels.get("team").map(String::as_str) == Some("b")).then_some(()))
    })
    .await?;
    bench.operator.kill().await?;
    bench.secrets().delete(NAME, &DeleteParams::default()).await?;
    bench.operator.start_again().await?;
    bench.until_value(NAME, "REVISION", "1").await?;
    bench.until_more_reads(3).await?;
    assert_eq!(bench.value(NAME, "REVISION").await?.as_deref(), Some("1"));
    bench.until_all_hold("bot", 1, "1").await?;
    expect_rollouts(&bench, &["bot"], 2).await?;
    // Whoever asks for it gets what the source gives.
    crate::common::refresh(&bench, "all the same").await?;
    bench.until_value(NAME, "REVISION", "bad").await?;
    until_phase(&bench, RotationPhase::RolledBack).await.map(drop)
}
