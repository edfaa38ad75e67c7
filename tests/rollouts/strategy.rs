//! In which order and how many at a time workloads roll, and what a value that
//! does not work can do.

use std::{
    cell::Cell,
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::ensure;
use botsecret::api::RotationPhase;
use botsecret_testbed::wait_for;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    common::{
        LONG, NAME, SOURCE, delivered, deployment, expect_rollouts, follow, is_rolling, make_picky, patches, picky,
        rotate, scene, served_throughout, until_phase, until_phase_of, until_rolled_out, until_state,
    },
    support::{Bench, Result},
};

pub fn with_rollout(bench: &Bench, rollout: &Value) -> Value {
    let mut object = bench.bot_secret(NAME, SOURCE);
    object["spec"]["rollout"] = rollout.clone();
    object
}

async fn edit(bench: &Bench, rollout: Value) -> Result {
    let patch = json!({ "spec": { "rollout": rollout } });
    bench.bot_secrets().patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// Whether each of these apps has all its pods ready, now.
async fn all_serve(bench: &Bench, apps: &[String]) -> Result {
    let pods: Api<Pod> = Api::namespaced(bench.client.clone(), &bench.namespace);
    let pods = pods.list(&ListParams::default()).await?;
    for app in apps {
        let of_app = pods.items.iter().filter(|pod| {
            pod.metadata.labels.as_ref().is_some_and(|labels| labels.get("app") == Some(app))
                && pod.metadata.deletion_timestamp.is_none()
        });
        let ready = of_app.filter(|pod| {
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True")
        });
        ensure!(ready.count() >= 1, "{app} does not serve");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_does_not_work_touches_one_workload_and_the_next_good_one_goes_through() -> Result {
    let bench = Bench::new("poisoned").await?;
    bench.kubernetes_store("source").await?;
    rotate(&bench, "1").await?;
    let apps: Vec<_> = (0..19).map(|number| format!("bot-{number:02}")).collect();
    let histories = [follow(&bench, "Deployment").await?, follow(&bench, "StatefulSet").await?];
    for app in &apps {
        bench.apply(picky("Deployment", app, 1)).await?;
    }
    bench.apply(picky("StatefulSet", "state", 1)).await?;
    bench.apply(with_rollout(&bench, &json!({ "healthyFor": "1s", "maxConcurrent": 10 }))).await?;
    bench.until_condition(NAME, "Ready", "True").await?;
    for app in apps.iter().map(String::as_str).chain(["state"]) {
        bench.until_all_hold(app, 1, "1").await?;
    }
    rotate(&bench, "bad").await?;
    let message = until_phase(&bench, RotationPhase::Halted).await?;
    assert!(message.starts_with("Deployment bot-00 failed on the new value"), "{message}");
    let (reason, message) = bench.until_condition(NAME, "RolledOut", "False").await?;
    assert_eq!(reason, "RolloutHalted");
    assert!(message.contains("19 workloads were not touched"), "{message}");
    bench.until_condition(NAME, "Stalled", "True").await?;
    // Each refresh finds the bad value, and touches nobody else.
    bench.until_more_reads(5).await?;
    let others = apps.get(1..).unwrap_or_default();
    all_serve(&bench, others).await?;
    expect_rollouts(&bench, &["bot-00"], 1).await?;
    for app in others {
        expect_rollouts(&bench, &[app], 0).await?;
    }
    ensure!(patches(&bench, "statefulsets", "state").await? == 0);
    let others: Vec<_> = others.iter().map(String::as_str).collect();
    served_throughout(&histories[0].complete().await?, &others)?;
    served_throughout(&histories[1].complete().await?, &["state"])?;
    rotate(&bench, "2").await?;
    until_phase(&bench, RotationPhase::Verified).await?;
    for app in apps.iter().map(String::as_str).chain(["state"]) {
        bench.until_all_hold(app, 1, "2").await?;
    }
    expect_rollouts(&bench, &["bot-00"], 2).await?;
    expect_rollouts(&bench, &["bot-01", "bot-18"], 1).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_ends_while_it_is_watched_has_failed_and_a_halt_writes_nothing_at_rest() -> Result {
    let bench = Bench::new("late").await?;
    bench.kubernetes_store("source").await?;
    rotate(&bench, "1").await?;
    bench.apply(picky("StatefulSet", "a-state", 1)).await?;
    bench.apply(picky("Deployment", "bot", 1)).await?;
    let first = json!({ "kind": "StatefulSet", "name": "a-state", "healthyFor": "10s" });
    bench.apply(with_rollout(&bench, &json!({ "healthyFor": "1s", "canary": first }))).await?;
    for app in ["a-state", "bot"] {
        bench.until_all_hold(app, 1, "1").await?;
    }
    rotate(&bench, "late").await?;
    let message = until_phase(&bench, RotationPhase::Halted).await?;
    assert!(message.starts_with("StatefulSet a-state failed on the new value"), "{message}");
    bench.until_condition(NAME, "Stalled", "True").await?;
    let before = bench.bot_secrets().get(NAME).await?;
    bench.until_more_reads(8).await?;
    let after = bench.bot_secrets().get(NAME).await?;
    ensure!(after.metadata.resource_version == before.metadata.resource_version, "{:?}", after.status);
    expect_rollouts(&bench, &["bot"], 0).await?;
    rotate(&bench, "2").await?;
    until_phase(&bench, RotationPhase::Verified).await?;
    for app in ["a-state", "bot"] {
        bench.until_all_hold(app, 1, "2").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_that_was_broken_before_stops_no_good_value_and_comes_last() -> Result {
    let bench = Bench::new("broken-before").await?;
    scene(&bench, &["bot-b"]).await?;
    let mut broken = deployment("bot-a", 1);
    broken["spec"]["template"]["spec"]["containers"][0]["command"] =
        json!(["sh", "-c", "echo holds=$REVISION; exit 1"]);
    bench.apply(broken).await?;
    let pods: Api<Pod> = Api::namespaced(bench.client.clone(), &bench.namespace);
    wait_for("bot-a to keep ending", LONG, async || {
        let list = pods.list(&ListParams::default().labels("app=bot-a")).await?;
        let statuses =
            list.items.iter().flat_map(|pod| pod.status.iter().flat_map(|status| &status.container_statuses));
        Ok(statuses.flatten().any(|one| one.restart_count > 1).then_some(()))
    })
    .await?;
    rotate(&bench, "2").await?;
    bench.until_all_hold("bot-b", 2, "2").await?;
    expect_rollouts(&bench, &["bot-b"], 1).await?;
    let workloads = wait_for("bot-a to be rolled, on record too", LONG, async || {
        let status = bench.bot_secrets().get(NAME).await?.status.unwrap_or_default();
        let workloads = status.rollout.map(|rollout| rollout.workloads).unwrap_or_default();
        let is_rolled = workloads.iter().any(|one| one.name == "bot-a" && one.patches == 1);
        Ok(is_rolled.then_some(workloads))
    })
    .await?;
    ensure!(patches(&bench, "deployments", "bot-a").await? == 1, "{workloads:?}");
    let broken = workloads.iter().find(|one| one.name == "bot-a");
    ensure!(broken.is_some_and(|one| one.unhealthy_before && one.state != "Failed"), "{workloads:?}");
    let good = workloads.iter().find(|one| one.name == "bot-b").and_then(|one| one.rolled_at.clone());
    ensure!(good.map(|at| at.0) <= broken.and_then(|one| one.rolled_at.clone()).map(|at| at.0), "{workloads:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_deployments_roll_five_at_a_time_and_ten_changes_meanwhile_end_on_the_newest() -> Result {
    let bench = Bench::new("fifty").await?;
    bench.kubernetes_store("source").await?;
    rotate(&bench, "1").await?;
    let apps: Vec<_> = (0..50).map(|number| format!("bot-{number:02}")).collect();
    let history = follow(&bench, "Deployment").await?;
    for app in &apps {
        bench.apply(deployment(app, 1)).await?;
    }
    bench.apply(with_rollout(&bench, &json!({ "healthyFor": "0s", "maxConcurrent": 5 }))).await?;
    bench.until_condition(NAME, "Ready", "True").await?;
    for app in &apps {
        bench.until_all_hold(app, 1, "1").await?;
    }
    let settled = history.complete().await?.len();
    rotate(&bench, "2").await?;
    let (next, changed) = (Cell::new(3), Cell::new(Instant::now()));
    wait_for("everybody to hold the newest value", LONG, async || {
        if next.get() <= 12 && changed.get().elapsed() > Duration::from_secs(1) {
            rotate(&bench, &next.get().to_string()).await?;
            next.set(next.get() + 1);
            changed.set(Instant::now());
        }
        let held = bench.holdings("bot")?;
        Ok((next.get() > 12 && held.len() == 50 && held.iter().all(|one| one == "12")).then_some(()))
    })
    .await?;
    until_phase(&bench, RotationPhase::Verified).await?;
    // What the controllers said in every revision, whatever the operator says.
    let (mut rolling, mut most) = (BTreeSet::new(), 0);
    for (index, seen) in history.complete().await?.into_iter().enumerate() {
        if is_rolling(&seen.object) {
            rolling.insert(seen.name);
        } else {
            rolling.remove(&seen.name);
        }
        most = if index < settled { 0 } else { most.max(rolling.len()) };
    }
    ensure!((1..=5).contains(&most), "{most} at once");
    for app in &apps {
        let count = patches(&bench, "deployments", app).await?;
        ensure!((1..=2).contains(&count), "{app} rolled {count} times");
    }
    println!("fifty Deployments: at most {most} rolling at once");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_bot_secrets_of_one_workload_that_rotate_together_roll_it_once() -> Result {
    let bench = Bench::new("together").await?;
    bench.kubernetes_store("source").await?;
    rotate(&bench, "1").await?;
    bench.put_source("second", &[("SECOND", "1")]).await?;
    let mut bot = deployment("bot", 2);
    bot["spec"]["template"]["spec"]["containers"][0]["envFrom"] =
        json!([{ "secretRef": { "name": NAME } }, { "secretRef": { "name": "second" } }]);
    bench.apply(bot).await?;
    bench.apply(bench.bot_secret(NAME, SOURCE)).await?;
    bench.apply(bench.bot_secret("second", "second")).await?;
    bench.until_all_hold("bot", 2, "1").await?;
    for round in 1..=2 {
        let value = (round + 1).to_string();
        let second = [("SECOND", value.as_str())];
        let (one, other) = tokio::join!(rotate(&bench, &value), bench.put_source("second", &second));
        one.and(other)?;
        bench.until_value("second", "SECOND", &value).await?;
        delivered(&bench, &["bot"], &value, round).await?;
        for name in [NAME, "second"] {
            bench.until_condition(name, "RolledOut", "True").await?;
        }
        let processes = bench.kubelet()?.processes();
        for process in processes.iter().filter(|process| process.namespace == bench.namespace) {
            ensure!(process.environment()?.get("SECOND") == Some(&value), "{} holds an old value", process.pod);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_that_fails_halts_every_rotation_that_joined_its_rollout() -> Result {
    let bench = Bench::new("joined").await?;
    bench.kubernetes_store("source").await?;
    rotate(&bench, "1").await?;
    bench.put_source("second", &[("SECOND", "1")]).await?;
    let mut shared = deployment("bot", 1);
    make_picky(&mut shared);
    shared["spec"]["template"]["spec"]["containers"][0]["envFrom"] =
        json!([{ "secretRef": { "name": NAME } }, { "secretRef": { "name": "second" } }]);
    let mut other = deployment("another", 1);
    other["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!([{ "secretRef": { "name": "second" } }]);
    for bot in [shared, other] {
        bench.apply(bot).await?;
    }
    bench.apply(bench.bot_secret(NAME, SOURCE)).await?;
    let mut second = bench.bot_secret("second", "second");
    let open = second.clone();
    second["spec"]["rollout"] = json!({ "window": [{ "schedule": "0 0 31 12 *", "duration": "1m" }] });
    bench.apply(second).await?;
    for name in [NAME, "second"] {
        bench.until_condition(name, "RolledOut", "True").await?;
    }
    bench.until_all_hold("bot", 1, "1").await?;
    bench.put_source("second", &[("SECOND", "2")]).await?;
    let waits = until_phase_of(&bench, "second", RotationPhase::Written).await?;
    ensure!(waits.contains("rollout.window"), "{waits}");
    // By the second that it was written in it must have been there.
    let written = Instant::now();
    wait_for("the second to be over", LONG, async || Ok((written.elapsed().as_secs() >= 1).then_some(()))).await?;
    rotate(&bench, "bad").await?;
    until_phase(&bench, RotationPhase::Halted).await?;
    let message = until_phase_of(&bench, "second", RotationPhase::Halted).await?;
    let wanted = format!("Deployment bot failed in the rollout for BotSecret {NAME}");
    ensure!(message.starts_with(&wanted), "{message}");
    let (status, reason, told) = bench.condition("second", "RolledOut").await?.unwrap_or_default();
    ensure!((status.as_str(), reason.as_str()) == ("False", "RolloutHalted") && told == message, "{told}");
    // It is halted, whatever its windows say.
    bench.apply(open).await?;
    bench.until_more_reads(5).await?;
    expect_rollouts(&bench, &["bot"], 1).await?;
    expect_rollouts(&bench, &["another"], 0).await?;
    rotate(&bench, "2").await?;
    bench.until_all_hold("bot", 1, "2").await?;
    for name in [NAME, "second"] {
        bench.until_condition(name, "RolledOut", "True").await?;
    }
    expect_rollouts(&bench, &["bot"], 2).await?;
    expect_rollouts(&bench, &["another"], 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_rolls_outside_the_window_and_the_order_is_kept_inside() -> Result {
    let bench = Bench::new("window").await?;
    scene(&bench, &["bot-a", "bot-b", "bot-c"]).await?;
    // Denied at any time.
    let never = json!([{ "kind": "Deny", "schedule": "* * * * *", "duration": "1h" }]);
    edit(
        &bench,
        json!({ "window": never, "order": [
        { "kind": "Deployment", "name": "bot-c", "weight": -1 },
        { "kind": "Deployment", "name": "bot-a", "after": [{ "kind": "Deployment", "name": "bot-b" }] },
    ] }),
    )
    .await?;
    rotate(&bench, "2").await?;
    bench.until_value(NAME, "REVISION", "2").await?;
    let message = until_phase(&bench, RotationPhase::Written).await?;
    assert_eq!(message, "no rollout.window ever opens");
    until_state(&bench, "bot-a", "Waiting").await?;
    bench.until_more_reads(3).await?;
    expect_rollouts(&bench, &["bot-a", "bot-b", "bot-c"], 0).await?;
    edit(&bench, json!({ "window": null })).await?;
    delivered(&bench, &["bot-a", "bot-b", "bot-c"], "2", 1).await?;
    let requests = bench.cluster.audit().requests_by(bench.operator.user()).await?;
    let order: Vec<_> = requests
        .iter()
        .filter(|one| one.verb == "patch" && one.resource == "deployments" && one.namespace == bench.namespace)
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(order, ["bot-c", "bot-b", "bot-a"]);
    // Rolled a moment ago: what changes now comes with the next, at its time.
    edit(&bench, json!({ "minInterval": "1h" })).await?;
    rotate(&bench, "3").await?;
    bench.until_value(NAME, "REVISION", "3").await?;
    let message = until_phase(&bench, RotationPhase::Written).await?;
    ensure!(message.starts_with("rollout.minInterval is over at "), "{message}");
    expect_rollouts(&bench, &["bot-a", "bot-b", "bot-c"], 1).await?;
    rotate(&bench, "4").await?;
    bench.until_value(NAME, "REVISION", "4").await?;
    edit(&bench, json!({ "minInterval": null })).await?;
    delivered(&bench, &["bot-a", "bot-b", "bot-c"], "4", 2).await?;
    until_rolled_out(&bench).await
}
