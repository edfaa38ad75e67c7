//! Rights to the Lease, which lies in the operator's own namespace.

use anyhow::{Context as _, ensure};
use botsecret_testbed::{AuditMark, wait_for};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::json;

use crate::{
    right::Right,
    scene::{NAME, Scene, is_unwritten},
    support::{DEADLINE, Operator, Result},
};

const LEASE: &str = "botsecret";

/// As the container of this pod.
fn electing(pod: &str) -> [&str; 3] {
    ["--leader-elect", "--pod-uid", pod]
}

/// At the first start, when there is no Lease yet.
pub async fn nobody_ever_leads(right: Right) -> Result {
    let mut scene = Scene::with_arguments(right, &electing("one")).await?;
    leads_with_it_alone(&mut scene).await
}

/// At a later one: the Lease is there, and nobody holds it.
pub async fn nobody_leads_again(right: Right) -> Result {
    let mut scene = Scene::with_arguments(right, &electing("one")).await?;
    let identity = json!({ "name": LEASE, "namespace": scene.own });
    let released = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": identity,
        "spec": { "leaseDurationSeconds": 1 },
    });
    scene.bench.apply(released).await?;
    leads_with_it_alone(&mut scene).await
}

async fn leads_with_it_alone(scene: &mut Scene) -> Result {
    scene.bench.operator.launch()?;
    scene.bench.operator.until_ready().await?;
    scene.until_refused(2).await?;
    scene.until_logged().await?;
    ensure!(!scene.bench.operator.log().contains("this replica leads"), "it leads");
    let status = scene.bench.bot_secrets().get(NAME).await?.status;
    ensure!(is_unwritten(status.as_ref()), "somebody writes: {status:?}");
    scene.give().await?;
    scene.synced().await?;
    scene.end().await
}

/// A Lease that its holder hands back is taken at once by who sees that. A standby that
/// cannot, finds it only when the time is over for which it believed the holder, and it
/// looks again by itself.
pub async fn a_standby_does_not_see_that_the_lease_is_free(right: Right) -> Result {
    let mut scene = Scene::with_arguments(right, &electing("one")).await?;
    let mut whole = scene.replica("whole", &electing("two")).await?;
    // Nobody is there before it: it need not wait for anybody.
    scene.begin().await?;
    until_led_by(&scene, "one").await?;
    let log = scene.bench.cluster.audit();

    whole.launch()?;
    whole.until_ready().await?;
    wait_for("the other to watch the Lease", DEADLINE, async || {
        let requests = log.requests_by(whole.user()).await?;
        let is_it = |verb: &str, resource: &str, code: u16| (verb, resource, code) == ("watch", "leases", 200);
        Ok(requests.iter().any(|one| is_it(&one.verb, &one.resource, one.code)).then_some(()))
    })
    .await?;
    let mark = log.mark().await?;
    scene.bench.operator.terminate().await?;
    until_led_by(&scene, "two").await?;
    let looks = looks_since(&scene, &whole, &mark).await?;
    ensure!(looks == 0, "with every right it looked by itself, {looks} times");

    scene.bench.operator.start_again().await?;
    scene.until_refused(1).await?;
    let mark = log.mark().await?;
    whole.terminate().await?;
    until_led_by(&scene, "one").await?;
    let looks = looks_since(&scene, &scene.bench.operator, &mark).await?;
    ensure!(looks > 0, "without it, it saw that the Lease is free");
    scene.end().await
}

async fn until_led_by(scene: &Scene, pod: &str) -> Result {
    let leases: Api<Lease> = Api::namespaced(scene.bench.client.clone(), &scene.own);
    wait_for(&format!("{pod} to lead"), DEADLINE, async || {
        let spec = leases.get(LEASE).await?.spec.context("an empty Lease")?;
        let holder = spec.holder_identity.unwrap_or_default();
        ensure!(holder.ends_with(&format!("_{pod}")), "{holder:?} leads");
        Ok(Some(()))
    })
    .await
}

/// How often it has read the Lease since then.
async fn looks_since(scene: &Scene, operator: &Operator, mark: &AuditMark) -> Result<usize> {
    let requests = scene.bench.cluster.audit().requests_by_since(operator.user(), mark).await?;
    Ok(requests.iter().filter(|request| request.verb == "get" && request.resource == "leases").count())
}
