//! What the cases share: bots that cost next to nothing, and oracles.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use botsecret::api::{ANNOTATION_STATE, RotationPhase, State};
use botsecret_testbed::wait_for;
use kube::{
    ResourceExt as _,
    api::{GroupVersionKind, Patch, PatchParams},
};
use serde_json::{Value, json};

pub use crate::support::next_second;
use crate::support::{
    Bench, DEADLINE, Result,
    history::{History, Seen},
};

/// The BotSecret, its Secret and its source.
pub const NAME: &str = "price-bot";
pub const SOURCE: &str = "exchange";

/// A bot that waits instead of polling: many of them run side by side.
pub const COMMAND: &str = "trap 'exit 0' TERM; echo holds=$REVISION; while :; do sleep 3600 & wait $!; done";

/// The pod template of a bot that takes its environment from the whole Secret.
pub fn template(app: &str) -> Value {
    json!({
        "metadata": { "labels": { "app": app } },
        "spec": {
            "nodeSelector": { "testbed.botsecret.dev/runtime": "process" },
            "terminationGracePeriodSeconds": 2,
            "containers": [{
                "name": "bot", "image": "sh", "command": ["sh", "-c", COMMAND],
                "envFrom": [{ "secretRef": { "name": NAME } }],
            }],
        },
    })
}

/// A workload of any kind around such a template.
pub fn workload(kind: &str, app: &str, replicas: i32) -> Value {
    let mut spec = json!({ "selector": { "matchLabels": { "app": app } }, "template": template(app) });
    if kind != "DaemonSet" {
        spec["replicas"] = replicas.into();
    }
    if kind == "StatefulSet" {
        spec["serviceName"] = app.into();
        spec["podManagementPolicy"] = "Parallel".into();
    }
    json!({ "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": app }, "spec": spec })
}

pub fn deployment(app: &str, replicas: i32) -> Value {
    workload("Deployment", app, replicas)
}

/// One that takes REVISION alone, from this key.
pub fn deployment_of_key(app: &str, key: &str, optional: bool) -> Value {
    let mut object = deployment(app, 1);
    let container = &mut object["spec"]["template"]["spec"]["containers"][0];
    container["envFrom"] = json!([]);
    container["env"] = json!([{
        "name": "REVISION",
        "valueFrom": { "secretKeyRef": { "name": NAME, "key": key, "optional": optional } },
    }]);
    object
}

/// One that stays in mid-rollout for a while: one pod at a time, and a pause.
pub fn slow_deployment(app: &str, replicas: i32) -> Value {
    let mut object = deployment(app, replicas);
    object["spec"]["minReadySeconds"] = 4.into();
    object["spec"]["strategy"] = json!({ "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } });
    object
}

/// Makes the source hold this revision.
pub async fn rotate(bench: &Bench, revision: &str) -> Result {
    bench.put_source(SOURCE, &[("REVISION", revision)]).await
}

/// Store, source, BotSecret and Deployments of two pods each, all at revision 1.
pub async fn scene(bench: &Bench, apps: &[&str]) -> Result {
    bench.kubernetes_store("source").await?;
    rotate(bench, "1").await?;
    for app in apps {
        bench.apply(deployment(app, 2)).await?;
    }
    bench.apply(bench.bot_secret(NAME, SOURCE)).await?;
    bench.until_condition(NAME, "Ready", "True").await?;
    for app in apps {
        bench.until_all_hold(app, 2, "1").await?;
    }
    Ok(())
}

/// One number of `/metrics`.
pub async fn metric(bench: &Bench, name: &str) -> Result<u64> {
    let text = bench.operator.metrics().await?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    Ok(line.with_context(|| format!("no metric {name}"))?.parse()?)
}

/// Waits until the operator has read the source twice more from now on: had it
/// had anything to do, it would have done it by then.
pub async fn two_more_refreshes(bench: &Bench) -> Result {
    let before = metric(bench, "botsecret_store_reads_total").await?;
    wait_for("two more refreshes", DEADLINE, async || {
        let reads = metric(bench, "botsecret_store_reads_total").await?;
        Ok((reads >= before + 3).then_some(()))
    })
    .await
}

/// How many patches of this workload by the operator took effect.
pub async fn patches(bench: &Bench, plural: &str, app: &str) -> Result<usize> {
    let requests = bench.cluster.audit().requests_by(bench.operator.user()).await?;
    let ours = requests.iter().filter(|request| {
        request.verb == "patch"
            && request.resource == plural
            && request.name == app
            && request.namespace == bench.namespace
    });
    Ok(ours.filter(|request| (200..300).contains(&request.code)).count())
}

/// Whether each Deployment has been rolled exactly so often: by its
/// controller's own count, and by the patches that the operator made.
pub async fn expect_rollouts(bench: &Bench, apps: &[&str], rollouts: usize) -> Result {
    for app in apps {
        let found = (bench.rollouts(app).await?, patches(bench, "deployments", app).await?);
        ensure!(
            found == (i64::try_from(rollouts)? + 1, rollouts),
            "{app}: {} rollouts expected, but its controller counts {} templates and the audit log {} patches",
            rollouts,
            found.0,
            found.1
        );
    }
    Ok(())
}

/// Everything is delivered, and stays as it is, after exactly so many rollouts.
pub async fn delivered(bench: &Bench, apps: &[&str], revision: &str, rollouts: usize) -> Result {
    for app in apps {
        bench.until_all_hold(app, 2, revision).await?;
    }
    until_rolled_out(bench).await?;
    two_more_refreshes(bench).await?;
    expect_rollouts(bench, apps, rollouts).await?;
    for app in apps {
        bench.until_all_hold(app, 2, revision).await?;
    }
    Ok(())
}

/// Waits until the status says, of the Secret's present revision, that its
/// rollout is complete. The revision is the Secret's own: right after a write
/// the status speaks of the one before.
pub async fn until_rolled_out(bench: &Bench) -> Result {
    wait_for("the rollout to be complete", DEADLINE, async || {
        let status = bench.bot_secrets().get(NAME).await?.status.unwrap_or_default();
        let (Some(target), Some(rollout)) = (&status.target, &status.rollout) else { bail!("no rollout yet") };
        let secret = bench.secrets().get(&target.name).await?;
        let state = secret.annotations().get(ANNOTATION_STATE).and_then(|text| State::parse(text));
        let present = state.context("the Secret bears no state")?.revision.to_string();
        if rollout.complete && rollout.revision == present && target.revision == present {
            return Ok(Some(()));
        }
        bail!("{rollout:?}, of {present}")
    })
    .await
}

/// Waits until the status says this of a workload.
pub async fn until_state(bench: &Bench, app: &str, state: &str) -> Result {
    wait_for(&format!("{app} to be {state}"), DEADLINE, async || {
        let status = bench.bot_secrets().get(NAME).await?.status.unwrap_or_default();
        let workloads = status.rollout.map(|rollout| rollout.workloads).unwrap_or_default();
        match workloads.iter().find(|workload| workload.name == app) {
            Some(workload) if workload.state == state => Ok(Some(())),
            _ => bail!("{workloads:?}"),
        }
    })
    .await
}

/// The revision that the status records of the Secret.
pub async fn revision(bench: &Bench) -> Result<String> {
    let status = bench.bot_secrets().get(NAME).await?.status;
    Ok(status.and_then(|status| status.target).context("no target in status")?.revision)
}

/// A merge patch by a person.
pub async fn edit_deployment(bench: &Bench, app: &str, patch: Value) -> Result {
    bench.deployments().patch(app, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// Waits until old and new processes run side by side.
pub async fn until_midway(bench: &Bench, app: &str, old: &str, new: &str) -> Result {
    wait_for("the rollout to be under way", DEADLINE, async || {
        let held = bench.holdings(app)?;
        Ok((held.iter().any(|one| one == old) && held.iter().any(|one| one == new)).then_some(()))
    })
    .await
}

/// Asks for a refresh, by any new text.
pub async fn refresh(bench: &Bench, text: &str) -> Result {
    let annotations = json!({ "metadata": { "annotations": { "botsecret.dev/refresh": text } } });
    bench.bot_secrets().patch(NAME, &PatchParams::default(), &Patch::Merge(annotations)).await?;
    Ok(())
}

/// A bot that takes any value but one that begins with `bad`: on that it ends at
/// once. On one that begins with `late` it is up for a moment first.
const PICKY: &str = "trap 'exit 0' TERM; echo holds=$REVISION; case $REVISION in bad*) exit 3;; late*) touch /tmp/up; sleep 3; exit 3;; esac; touch /tmp/up; \
                     while :; do sleep 3600 & wait $!; done";

pub fn picky(kind: &str, app: &str, replicas: i32) -> Value {
    let mut object = workload(kind, app, replicas);
    make_picky(&mut object);
    object
}

/// Makes a workload of any kind such a bot.
pub fn make_picky(object: &mut Value) {
    let container = &mut object["spec"]["template"]["spec"]["containers"][0];
    container["command"] = json!(["sh", "-c", PICKY]);
    container["readinessProbe"] = json!({ "exec": { "command": ["test", "-e", "/tmp/up"] }, "periodSeconds": 1 });
}

/// Every revision that the workloads of a kind have from now on.
pub async fn follow(bench: &Bench, kind: &str) -> Result<History> {
    History::follow(&bench.client, &bench.namespace, &GroupVersionKind::gvk("apps", "v1", kind)).await
}

/// Whether each of these had a pod that served in every revision since its first.
pub fn served_throughout(history: &[Seen], apps: &[&str]) -> Result {
    let serves = |seen: &&Seen| seen.object["status"]["availableReplicas"].as_u64().unwrap_or(0) >= 1;
    for app in apps {
        let mut served = history.iter().filter(|seen| seen.name == *app).skip_while(|seen| !serves(seen)).peekable();
        ensure!(served.peek().is_some(), "{app} never served anybody");
        let gap = served.find(|seen| !serves(seen));
        ensure!(gap.is_none(), "{app} served nobody: {}", gap.map_or(&Value::Null, |seen| &seen.object["status"]));
    }
    Ok(())
}

/// Whether its controller is at it.
pub fn is_rolling(object: &Value) -> bool {
    let status = &object["status"];
    let count = |name: &str| status[name].as_u64().unwrap_or(0);
    let is_seen = status["observedGeneration"] == object["metadata"]["generation"];
    !is_seen || count("updatedReplicas") < 1 || count("replicas") > 1
}

/// Long enough for many workloads, one after another.
pub const LONG: Duration = Duration::from_secs(240);

/// Waits until the rotation is in this phase; answers what it says.
pub async fn until_phase(bench: &Bench, phase: RotationPhase) -> Result<String> {
    until_phase_of(bench, NAME, phase).await
}

/// The same of the BotSecret of this name.
pub async fn until_phase_of(bench: &Bench, name: &str, phase: RotationPhase) -> Result<String> {
    wait_for(&format!("the rotation to be {}", phase.name()), LONG, async || {
        let status = bench.bot_secrets().get(name).await?.status.unwrap_or_default();
        match status.rotation {
            Some(rotation) if rotation.phase == phase => Ok(Some(rotation.message)),
            other => bail!("{other:?}; {:?}", status.rollout),
        }
    })
    .await
}
