//! Rights without which the operator never becomes ready: it decides nothing before
//! it has seen all of the world.

use std::collections::BTreeSet;

use anyhow::ensure;
use botsecret_testbed::wait_for;

use crate::{
    right::{Right, granted},
    scene::Scene,
    support::{DEADLINE, Result},
};

/// Watched in some installations only.
const OPTIONAL: [&str; 2] = ["clusterbotsecretstores", "rollouts"];

pub async fn it_is_never_ready(right: Right) -> Result {
    let mut scene = Scene::without(right).await?;
    becomes_ready_with_it_alone(&mut scene).await
}

pub async fn becomes_ready_with_it_alone(scene: &mut Scene) -> Result {
    scene.bench.operator.launch()?;
    scene.until_refused(2).await?;
    scene.until_logged().await?;
    until_all_else_is_listed(scene).await?;
    let probe = reqwest::get(scene.bench.operator.url("/readyz")).await?.status().as_u16();
    ensure!(probe == 503, "/readyz answers {probe}");
    let log = scene.bench.operator.log();
    ensure!(!log.contains("every list is complete"), "it has all that it needs");
    scene.give().await?;
    scene.bench.operator.until_ready().await?;
    scene.synced().await?;
    scene.end().await
}

/// A watch begins where a list was complete.
async fn until_all_else_is_listed(scene: &Scene) -> Result {
    let is_due = |right: &Right| {
        right.verb == "watch" && right.resource != scene.right.resource && !OPTIONAL.contains(&right.resource.as_str())
    };
    let due: BTreeSet<_> = granted("ClusterRole")?.into_iter().filter(is_due).collect();
    ensure!(due.len() > 5, "{due:?}");
    wait_for("everything else to be listed", DEADLINE, async || {
        let requests = scene.requests().await?;
        let is_watched =
            |right: &&Right| requests.iter().any(|request| right.is_needed_for(request) && request.code == 200);
        let left: Vec<_> = due.iter().filter(|right| !is_watched(right)).collect();
        ensure!(left.is_empty(), "not yet: {left:?}");
        Ok(Some(()))
    })
    .await
}
