//! Pods that hold up the return of the value before.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, Preconditions},
};

use super::seen::Eye;
use crate::{
    api::WorkloadKind,
    deadline::within,
    rollout::{Looked, Step, Task, WorkloadState, holds_older},
};

/// Deletes the pods of a StatefulSet that are not ready on the value that failed:
/// its controller waits for them before it replaces any with the value before.
/// <https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#forced-rollback>
///
/// Without the right to do so it is left to the kubelet, which starts their
/// containers again with the value before, though ever more slowly.
pub(super) async fn replace_stuck(eye: Eye<'_>, task: &Task<'_>, looked: &Looked) {
    let is_rolling = looked.step == Step::Report(WorkloadState::Rolling);
    if eye.state.taken_back.is_none() || task.id.kind != WorkloadKind::StatefulSet || !is_rolling {
        return;
    }
    let pods: Api<Pod> = Api::namespaced(eye.context.client.clone(), &task.id.namespace);
    for pod in &looked.pods {
        if pod.terminating || pod.health.ready || !holds_older(pod, task.secret, task.state, task.by_use) {
            continue;
        }
        let preconditions = Preconditions { uid: Some(pod.uid.clone()), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let (namespace, workload) = (&task.id.namespace, &task.id.name);
        match within(pods.delete(&pod.name, &params)).await {
            Ok(_) => tracing::info!(namespace, workload, pod = pod.name, "a stuck pod was deleted, to be replaced"),
            Err(error) => {
                let said = if let kube::Error::Api(status) = &error { status.message.as_str() } else { "no answer" };
                tracing::debug!(namespace, workload, pod = pod.name, "a stuck pod was not deleted: {said}");
            }
        }
    }
}
