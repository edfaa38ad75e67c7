//! Rotations that come to nothing, and one that never comes.

use std::time::Duration;

use botsecret::api::RotationPhase;
use botsecret_testbed::wait_for;
use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    apps::v1::Deployment,
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{
    common::{NAME, SOURCE, deployment, picky, rotate, until_phase},
    scraper::{Scene, Scraper, number, tells},
    support::{Bench, DEADLINE, Result, Vault, shared_bao},
};

/// A workload that ends on the new value.
pub async fn halted() -> Result<Scene> {
    let bench = Bench::new("alert-halted").await?;
    bench.kubernetes_store("source").await?;
    rotate(&bench, "1").await?;
    bench.apply(picky("Deployment", "bot", 1)).await?;
    bench.apply(bench.bot_secret(NAME, SOURCE)).await?;
    bench.until_all_hold("bot", 1, "1").await?;
    let scraper = Scraper::of(&bench)?;
    let healthy = scraper.healthy().await?;
    rotate(&bench, "bad").await?;
    scraper.during(until_phase(&bench, RotationPhase::Halted)).await?;
    scraper.until("RolloutHalted", |answer| tells(answer, "RolledOut", "RolloutHalted")).await?;
    Ok(scraper.scene(healthy, Duration::ZERO))
}

/// The same where the value before is given back.
pub async fn rolled_back() -> Result<Scene> {
    let bench = Bench::new("alert-rolled-back").await?;
    let vault = Vault::new(&bench, shared_bao().await?, &["bot"]).await?;
    bench.grant_also(include_str!("../../deploy/roll-back.yaml")).await?;
    vault.put(SOURCE, &json!({ "REVISION": "1" })).await?;
    bench.apply(picky("Deployment", "bot", 1)).await?;
    let mut object = bench.bot_secret(NAME, SOURCE);
    object["spec"]["rollout"] = json!({ "healthyFor": "1s", "onFailure": "RollBack" });
    bench.apply(object).await?;
    bench.until_all_hold("bot", 1, "1").await?;
    bench.until_condition(NAME, "RolledOut", "True").await?;
    let scraper = Scraper::of(&bench)?;
    let healthy = scraper.healthy().await?;
    vault.put(SOURCE, &json!({ "REVISION": "bad" })).await?;
    scraper.during(until_phase(&bench, RotationPhase::RolledBack)).await?;
    scraper.during(bench.until_condition(NAME, "RolledOut", "True")).await?;
    let is_over = |answer: &str| tells(answer, "Ready", "RolledBack") && !tells(answer, "RolledOut", "RolloutHalted");
    scraper.until("RolledBack", is_over).await?;
    Ok(scraper.scene(healthy, Duration::ZERO))
}

/// An admission policy that lets the operator patch no Deployment of the namespace.
async fn forbid_patches(bench: &Bench) -> Result {
    let (name, user) = (format!("no-rollouts-{}", bench.namespace), bench.operator.user());
    let policy: ValidatingAdmissionPolicy = serde_json::from_value(json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": { "name": name },
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": { "resourceRules": [{
                "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments"],
            }] },
            "validations": [{
                "expression": format!("request.userInfo.username != '{user}'"), "message": "nothing is rolled today",
            }],
        },
    }))?;
    let binding: ValidatingAdmissionPolicyBinding = serde_json::from_value(json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": { "name": name },
        "spec": {
            "policyName": name, "validationActions": ["Deny"],
            "matchResources": { "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": bench.namespace } } },
        },
    }))?;
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(bench.client.clone());
    policies.create(&PostParams::default(), &policy).await?;
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(bench.client.clone());
    bindings.create(&PostParams::default(), &binding).await?;
    // The API server learns of a policy a moment after it is there.
    let client = bench.cluster.client_as(user, &[])?;
    let deployments: Api<Deployment> = Api::namespaced(client, &bench.namespace);
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { "tried": "now" } } }));
    wait_for("the policy to be in force", DEADLINE, async || match deployments.patch("bot", &dry, &patch).await {
        Err(kube::Error::Api(status)) if status.message.contains("nothing is rolled today") => Ok(Some(())),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(None),
    })
    .await
}

/// A workload that may not be patched.
pub async fn refused() -> Result<Scene> {
    let bench = Bench::new("alert-refused").await?;
    bench.kubernetes_store("source").await?;
    rotate(&bench, "1").await?;
    bench.apply(deployment("bot", 1)).await?;
    bench.apply(bench.bot_secret(NAME, SOURCE)).await?;
    bench.until_all_hold("bot", 1, "1").await?;
    let scraper = Scraper::of(&bench)?;
    let healthy = scraper.healthy().await?;
    scraper.during(forbid_patches(&bench)).await?;
    rotate(&bench, "2").await?;
    scraper.during(bench.until_condition(NAME, "RolledOut", "False")).await?;
    scraper.until("RolloutRefused", |answer| tells(answer, "RolledOut", "RolloutRefused")).await?;
    Ok(scraper.scene(healthy, Duration::ZERO))
}

/// A new value that fails its trial.
pub async fn rejected() -> Result<Scene> {
    let bench = Bench::new("alert-rejected").await?;
    bench.grant_also(include_str!("../../deploy/verify.yaml")).await?;
    bench.kubernetes_store("source").await?;
    rotate(&bench, "1").await?;
    bench
        .apply(json!({
            "apiVersion": "batch/v1", "kind": "CronJob", "metadata": { "name": "try" },
            "spec": { "schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": { "spec": { "template": { "spec": {
                "serviceAccountName": "bot", "restartPolicy": "Never",
                "nodeSelector": { "testbed.botsecret.dev/runtime": "process" },
                "containers": [{
                    "name": "try", "image": "sh", "command": ["sh", "-c", "test \"$REVISION\" = 1"],
                    "envFrom": [{ "secretRef": { "name": format!("{NAME}-candidate") } }],
                }],
            } } } } },
        }))
        .await?;
    let mut object = bench.bot_secret(NAME, SOURCE);
    object["spec"]["verify"] = json!({ "cronJob": "try", "timeout": "40s" });
    bench.apply(object).await?;
    let scraper = Scraper::of(&bench)?;
    let healthy = scraper.healthy().await?;
    rotate(&bench, "bad").await?;
    scraper.during(bench.until_failing(NAME, "CandidateRejected")).await?;
    scraper.until("CandidateRejected", |answer| tells(answer, "Synced", "CandidateRejected")).await?;
    Ok(scraper.scene(healthy, Duration::ZERO))
}

/// A value that nobody rotates.
pub async fn overdue() -> Result<Scene> {
    let bench = Bench::new("alert-overdue").await?;
    let vault = Vault::new(&bench, shared_bao().await?, &["bot"]).await?;
    vault.put(SOURCE, &json!({ "REVISION": "1" })).await?;
    let mut object = bench.bot_secret(NAME, SOURCE);
    object["spec"]["refreshInterval"] = json!("1h");
    // So long that it is seen to be well before.
    object["spec"]["rotation"] = json!({ "maxAge": "90s" });
    bench.apply(object).await?;
    let scraper = Scraper::of(&bench)?;
    let healthy = scraper.healthy().await?;
    scraper.until("a value that is overdue", |answer| number(answer, "botsecret_rotation_overdue") >= 1.0).await?;
    Ok(scraper.scene(healthy, Duration::ZERO))
}
