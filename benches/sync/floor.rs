//! What the same writes cost without an operator.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use botsecret::api::BotSecret;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{
    figures::Figures,
    processes::Cpu,
    progress::say,
    scene::{Scene, in_flight},
    sync::Sample,
};

/// A bare client creates the BotSecrets, then Secrets as the operator writes
/// them, then patches statuses as the operator does. The least of all runs counts.
pub async fn measure(scene: &Scene, sample: &Sample, run: usize, figures: &mut Figures) -> Result<()> {
    let namespace = scene.namespace("floor").await?;
    // What the cleaning before this has set off is over by then.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = Cpu::now()?;
    let began = Instant::now();
    let objects = scene.create_bot_secrets(&namespace, scene.size.objects).await?;
    let (created, secrets) = (began.elapsed(), Instant::now());
    write_secrets(scene, &namespace, sample, &objects).await?;
    let (written, statuses) = (secrets.elapsed(), Instant::now());
    patch_statuses(scene, &namespace, sample, objects).await?;
    let total = began.elapsed().as_secs_f64();
    say(&format!(
        "floor, run {run}: {total:.2} s (BotSecrets {:.2} s, Secrets {:.2} s, statuses {:.2} s)",
        created.as_secs_f64(),
        written.as_secs_f64(),
        statuses.elapsed().as_secs_f64()
    ));
    say(&Cpu::now()?.since(&before));
    figures.floor_seconds = figures.floor_seconds.min(total);
    scene.clear(&namespace).await
}

async fn write_secrets(scene: &Scene, namespace: &str, sample: &Sample, objects: &[BotSecret]) -> Result<()> {
    let api: Api<Secret> = Api::namespaced(scene.client.clone(), namespace);
    let secrets = objects.iter().map(|object| {
        let mut secret = sample.secret.clone();
        secret.metadata.name = Some(object.name_any());
        secret.metadata.namespace = Some(namespace.to_owned());
        // Or the garbage collector would delete them meanwhile.
        for owner in secret.metadata.owner_references.iter_mut().flatten() {
            owner.name = object.name_any();
            owner.uid = object.uid().unwrap_or_default();
        }
        secret
    });
    in_flight(secrets.collect(), async |secret| Ok(api.create(&PostParams::default(), &secret).await.map(drop)?))
        .await?;
    Ok(())
}

async fn patch_statuses(scene: &Scene, namespace: &str, sample: &Sample, objects: Vec<BotSecret>) -> Result<()> {
    let api = scene.bot_secrets(namespace);
    let status: &Value = &sample.status;
    in_flight(objects, async |object| {
        let patch = json!({
            "metadata": { "uid": object.uid(), "resourceVersion": object.resource_version() },
            "status": status,
        });
        let name = object.name_any();
        let patched = api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        patched.map(drop).with_context(|| format!("status of {name}"))
    })
    .await?;
    Ok(())
}
