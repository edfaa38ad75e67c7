//! One pod, from being bound to this node until it is gone from the API.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use kube::api::{Api, DeleteParams, Preconditions};
use tokio::sync::watch::{self, Receiver, Sender};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::container::{self, Restart, Stop};
use super::status::{PodStatus, is_sidecar};
use super::volumes::{Source, Volumes};
use super::watch::Newest;
use super::{Node, address};
use crate::cluster::lock;

const RETRY: Duration = Duration::from_millis(500);

/// What the containers of a pod share.
pub(super) struct PodContext {
    pub(super) node: Arc<Node>,
    pub(super) pod: Arc<Pod>,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) status: Arc<PodStatus>,
    pub(super) sources: HashMap<String, Source>,
    /// The pod's own grace period.
    pub(super) grace: Duration,
}

/// Runs the pod; dropping this ends it without a word.
pub(super) async fn run(node: Arc<Node>, pod: Arc<Pod>, newest: Receiver<Newest>) {
    let Some(spec) = pod.spec.clone() else {
        return;
    };
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let status = PodStatus::new(&spec);
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    if !matches!(phase, Some("Succeeded" | "Failed")) {
        // Given back with the end of its last container.
        let (_lent, pod) = address::lend((*pod).clone());
        let pod = Arc::new(pod);
        let (stop, stopped) = watch::channel(None);
        let end = {
            let life = live(&node, &pod, &spec, &status, stopped);
            let told = pass_on_deletion(newest.clone(), stop);
            let written = status.keep_written(&node, &pod);
            tokio::pin!(life, told, written);
            let mut telling = true;
            loop {
                tokio::select! {
                    end = &mut life => break end,
                    () = &mut told, if telling => telling = false,
                    () = &mut written => {}
                }
            }
        };
        status.finish(end);
        status.write(&node, &pod).await;
    }
    // A pod that has ended stays until somebody deletes it.
    let mut newest = newest;
    let deleted = newest
        .wait_for(|newest| newest.as_ref().is_none_or(|pod| pod.metadata.deletion_timestamp.is_some()))
        .await
        .is_ok_and(|newest| newest.is_some());
    if deleted {
        confirm_deletion(&node, &pod).await;
    }
    let _ = std::fs::remove_dir_all(node.pod_folder(&uid));
}

/// Tells the containers when they must be gone; a later, shorter grace too.
async fn pass_on_deletion(mut newest: Receiver<Newest>, stop: Sender<Stop>) {
    loop {
        let grace = match &*newest.borrow_and_update() {
            None => Some(0),
            Some(pod) if pod.metadata.deletion_timestamp.is_some() => {
                Some(pod.metadata.deletion_grace_period_seconds.unwrap_or(30))
            }
            Some(_) => None,
        };
        if let Some(grace) = grace {
            let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
            let until = Instant::now() + grace;
            stop.send_if_modified(|stop| {
                let sooner = stop.is_none_or(|before| until < before);
                if sooner {
                    *stop = Some(until);
                }
                sooner
            });
        }
        if newest.changed().await.is_err() {
            stop.send_if_modified(|stop| stop.replace(Instant::now()).is_none());
            return;
        }
    }
}

/// The object goes when its containers are gone, as with the kubelet.
async fn confirm_deletion(node: &Node, pod: &Pod) {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(node.client(), namespace);
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
        ..DeleteParams::default()
    };
    loop {
        match tokio::time::timeout(Duration::from_secs(10), pods.delete(name, &params)).await {
            Ok(Ok(_)) => return,
            Ok(Err(kube::Error::Api(status))) if [404, 409].contains(&status.code) => return,
            _ => tokio::time::sleep(RETRY).await,
        }
    }
}

/// From the first volume to the last exit; the phase in which it ends.
async fn live(
    node: &Arc<Node>,
    pod: &Arc<Pod>,
    spec: &PodSpec,
    status: &Arc<PodStatus>,
    mut stop: Receiver<Stop>,
) -> &'static str {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let mut volumes = Volumes::new(node.pod_folder(&uid).join("volumes"), pod);
    let delay = *lock(&node.start_delay);
    status.all_wait("");
    let ready = async {
        tokio::time::sleep(delay).await;
        while let Err(message) = volumes.sync(node, pod).await {
            status.all_wait(&message);
            tokio::time::sleep(RETRY).await;
        }
    };
    tokio::select! {
        () = ready => {}
        _ = stop.wait_for(Option::is_some) => return "Failed",
    }
    let grace = spec.termination_grace_period_seconds.unwrap_or(30);
    let context = Arc::new(PodContext {
        node: Arc::clone(node),
        pod: Arc::clone(pod),
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid,
        status: Arc::clone(status),
        sources: volumes.sources(),
        grace: Duration::from_secs(u64::try_from(grace).unwrap_or(30)),
    });
    let keep_synced = async {
        loop {
            let period = *lock(&node.sync_period);
            tokio::time::sleep(period).await;
            // What cannot be read keeps what it held.
            let _ = volumes.sync(node, pod).await;
        }
    };
    tokio::select! {
        phase = run_containers(&context, spec, stop) => phase,
        () = keep_synced => "Failed",
    }
}

async fn run_containers(context: &Arc<PodContext>, spec: &PodSpec, mut stop: Receiver<Stop>) -> &'static str {
    let restart = match spec.restart_policy.as_deref() {
        Some("Never") => Restart::Never,
        Some("OnFailure") => Restart::OnFailure,
        _ => Restart::Always,
    };
    // Sidecars outlive the others, and end when those have.
    let (stop_sidecars, sidecars_stopped) = watch::channel(None);
    let mut sidecars = JoinSet::new();
    let mut failed = false;
    for container in spec.init_containers.iter().flatten() {
        let container = container.clone();
        if is_sidecar(&container) {
            let name = container.name.clone();
            let stopped = sidecars_stopped.clone();
            sidecars.spawn(container::run(Arc::clone(context), container, Restart::Always, stopped));
            tokio::select! {
                () = context.status.started(&name) => {}
                _ = stop.wait_for(Option::is_some) => {}
            }
        } else {
            // An init container that has succeeded is not run again.
            let again = if restart == Restart::Never { Restart::Never } else { Restart::OnFailure };
            let code = container::run(Arc::clone(context), container, again, stop.clone()).await;
            failed = code != Some(0);
        }
        if failed || stop.borrow().is_some() {
            failed = true;
            break;
        }
    }
    if !failed {
        failed = run_main(context, &spec.containers, restart, &stop).await;
    }
    let until = (*stop.borrow()).unwrap_or_else(|| Instant::now() + context.grace);
    stop_sidecars.send_replace(Some(until));
    let mut force = stop.clone();
    while !sidecars.is_empty() {
        tokio::select! {
            _ = sidecars.join_next() => {}
            Ok(()) = force.changed() => {
                let sooner = *force.borrow();
                stop_sidecars.send_if_modified(|stop| {
                    *stop = sooner.or(*stop);
                    true
                });
            }
        }
    }
    if failed { "Failed" } else { "Succeeded" }
}

/// Whether any of them failed.
async fn run_main(
    context: &Arc<PodContext>,
    containers: &[Container],
    restart: Restart,
    stop: &Receiver<Stop>,
) -> bool {
    let mut running = JoinSet::new();
    for container in containers {
        let run = container::run(Arc::clone(context), container.clone(), restart, stop.clone());
        running.spawn(run);
    }
    let mut failed = false;
    while let Some(code) = running.join_next().await {
        failed |= !matches!(code, Ok(Some(0)));
    }
    failed
}
