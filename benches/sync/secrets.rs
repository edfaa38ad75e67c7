//! Memory beside large Secrets that are nobody's business here: a cache of Secrets, or a
//! watch of them whole, would hold each of them.

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};

use super::{
    Size,
    figures::{Figures, Memory},
    progress::say,
    scene::Scene,
    sync::Stage,
};

/// BotSecrets that the operator has to do with meanwhile.
pub const OBJECTS: usize = 200;
/// What each Secret weighs: just under the 1 MiB that a Secret may hold
/// (`MaxSecretSize`, k8s.io/api/core/v1).
const BYTES: usize = 1_000_000;
/// How many are written at once: on its way each is in memory several times.
const AT_ONCE: usize = 4;

/// The operator over the same BotSecrets, without and with the Secrets, in their own
/// namespace and without labels: it sees them made, and finds them when it starts.
/// On a cluster of its own, which no other measurement has filled.
pub async fn measure(size: Size, figures: &mut Figures) -> Result<()> {
    let scene = Scene::set(Size { objects: OBJECTS.min(size.objects), deployments: 0, ..size }).await?;
    let mut stage = Stage::enter(&scene).await?;
    stage.fill().await?;
    figures.alone = memory(&stage)?;
    Stage::leave(stage).await?;
    let mut stage = Stage::enter(&scene).await?;
    // It would hold them all, too.
    scene.cluster.stop_controller_manager().await?;
    create(&scene, &stage.namespace, size.secrets).await?;
    stage.fill().await?;
    let seen = memory(&stage)?;
    say(&format!("restarting the operator beside {} Secrets", size.secrets));
    stage.start_again().await?;
    stage.until_quiet().await?;
    figures.beside_secrets = seen.or_more(memory(&stage)?);
    stage.operator.stop().await
}

fn memory(stage: &Stage<'_>) -> Result<Memory> {
    Ok(Memory { settled: stage.operator.memory()?, peak: stage.operator.peak_memory()? })
}

async fn create(scene: &Scene, namespace: &str, count: usize) -> Result<()> {
    say(&format!("creating {count} Secrets of {BYTES} bytes each"));
    let api: &Api<Secret> = &Api::namespaced(scene.client.clone(), namespace);
    futures::stream::iter(0..count)
        .map(async |number| {
            let (params, secret) = (PostParams::default(), secret(number)?);
            api.create(&params, &secret).await.map(drop).with_context(|| format!("Secret {number}"))
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
}

/// Of bytes that nothing compresses.
fn secret(number: usize) -> Result<Secret> {
    let mut bytes = vec![0_u8; BYTES];
    fastrand::Rng::with_seed(u64::try_from(number)?).fill(&mut bytes);
    Ok(Secret {
        metadata: ObjectMeta { name: Some(format!("other-{number:05}")), ..ObjectMeta::default() },
        data: Some([("data".to_owned(), ByteString(bytes))].into()),
        ..Secret::default()
    })
}
