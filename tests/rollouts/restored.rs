//! Secrets that a backup brings back.

use botsecret::api::BotSecretStore;
use botsecret_testbed::wait_for;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{
    common::{NAME, delivered, deployment, next_second, rotate, scene, until_rolled_out},
    support::{Bench, DEADLINE, Result},
};

/// As backup tools restore it.
fn stripped(saved: &Secret, owners: bool) -> Secret {
    let mut secret = saved.clone();
    let meta = &mut secret.metadata;
    (meta.uid, meta.resource_version, meta.managed_fields, meta.creation_timestamp) = (None, None, None, None);
    if !owners {
        meta.owner_references = None;
    }
    secret
}

async fn restore(bench: &Bench, saved: &Secret) -> Result {
    bench.secrets().delete(NAME, &DeleteParams::default()).await?;
    match bench.secrets().create(&PostParams::default(), saved).await {
        // The operator was faster: written over, as restore tools do.
        Err(kube::Error::Api(status)) if status.code == 409 => {
            bench.secrets().delete(NAME, &DeleteParams::default()).await?;
            drop(bench.secrets().create(&PostParams::default(), saved).await);
        }
        result => drop(result?),
    }
    Ok(())
}

/// A bot that was rolled to revision 2, and one that is younger than that rotation and
/// so bears no marker. Answers the Secret of revision 1.
async fn before_and_after_a_rotation(bench: &Bench) -> Result<Secret> {
    scene(bench, &["one"]).await?;
    let first = bench.secrets().get(NAME).await?;
    delivered(bench, &["one"], "1", 0).await?;
    rotate(bench, "2").await?;
    delivered(bench, &["one"], "2", 1).await?;
    next_second().await;
    bench.apply(deployment("late", 2)).await?;
    bench.until_all_hold("late", 2, "2").await?;
    until_rolled_out(bench).await?;
    Ok(first)
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_secret_restored_from_backup_rolls_nothing_with_and_without_owner_references() -> Result {
    let mut bench = Bench::new("restored").await?;
    let first = before_and_after_a_rotation(&bench).await?;
    let second = bench.secrets().get(NAME).await?;
    for saved in [&second, &first] {
        for owners in [true, false] {
            for up in [true, false] {
                if !up {
                    bench.operator.kill().await?;
                }
                restore(&bench, &stripped(saved, owners)).await?;
                if !up {
                    bench.operator.start_again().await?;
                }
                bench.until_value(NAME, "REVISION", "2").await?;
                let context = |error: anyhow::Error| error.context(format!("owners {owners}, operator up {up}"));
                delivered(&bench, &["one"], "2", 1).await.map_err(context)?;
                delivered(&bench, &["late"], "2", 0).await.map_err(context)?;
            }
        }
    }
    // Lost altogether, with the operator up and down.
    bench.secrets().delete(NAME, &DeleteParams::default()).await?;
    bench.until_value(NAME, "REVISION", "2").await?;
    bench.operator.kill().await?;
    bench.secrets().delete(NAME, &DeleteParams::default()).await?;
    bench.operator.start_again().await?;
    bench.until_value(NAME, "REVISION", "2").await?;
    delivered(&bench, &["one"], "2", 1).await?;
    delivered(&bench, &["late"], "2", 0).await?;
    // An old backup and a rotation at once: pods hold neither's value.
    bench.operator.kill().await?;
    restore(&bench, &stripped(&first, false)).await?;
    rotate(&bench, "1").await?;
    bench.operator.start_again().await?;
    delivered(&bench, &["one"], "1", 2).await?;
    delivered(&bench, &["late"], "1", 1).await
}

/// Found by chance where a write lost a race: the status then spoke of the old
/// revision's rollout, and that of the last one counted as not delivered.
#[tokio::test(flavor = "multi_thread")]
async fn p3_an_old_backup_restored_while_its_store_is_away_rolls_nothing_later() -> Result {
    let bench = Bench::new("restored-away").await?;
    let first = before_and_after_a_rotation(&bench).await?;
    let stores: Api<BotSecretStore> = Api::namespaced(bench.client.clone(), &bench.namespace);
    stores.delete("source", &DeleteParams::default()).await?;
    bench.until_condition(NAME, "Synced", "False").await?;
    restore(&bench, &stripped(&first, true)).await?;
    // A pass that has seen it has ended.
    let refresh = json!({ "metadata": { "annotations": { "botsecret.dev/refresh": "restored" } } });
    bench.bot_secrets().patch(NAME, &PatchParams::default(), &Patch::Merge(refresh)).await?;
    wait_for("the request to be handled", DEADLINE, async || {
        let status = bench.bot_secrets().get(NAME).await?.status.unwrap_or_default();
        Ok((status.last_handled_refresh.as_deref() == Some("restored")).then_some(()))
    })
    .await?;
    bench.kubernetes_store("source").await?;
    bench.until_value(NAME, "REVISION", "2").await?;
    delivered(&bench, &["one"], "2", 1).await?;
    delivered(&bench, &["late"], "2", 0).await
}
