//! The requests of a rollout: a fresh read, a decision, a guarded patch.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    core::{NamespaceResourceScope, Selector},
};

use super::{Delivery, PodFacts, PodView, Requirement, Step, decide, holds_older, pods::began_before};
use crate::{
    api::{State, WorkloadKind, delivery_annotation, field_manager, marker_annotation},
    deadline::within,
    traces,
    watch::{DaemonSetView, DeploymentView, RolloutView, StatefulSetView, WorkloadFacts, WorkloadId, WorkloadView},
};

/// As messages call it.
const PATCH: &str = "patch";

/// A workload that could not be rolled this time.
#[derive(Debug, thiserror::Error)]
pub enum RollOutError {
    /// Somebody else wrote or deleted it in between: try again at once.
    #[error("{kind} {name} changed while it was rolled; it is tried again")]
    Conflict {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The operator lacks a right, or an admission policy refused the patch.
    #[error("the Kubernetes API refused to {action} {kind} {name}: {said}")]
    Refused {
        /// What was asked.
        action: &'static str,
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The API server's message.
        said: String,
    },
    /// It is not as it must be to be rolled.
    #[error("{kind} {name} cannot be rolled: {said}")]
    Unfit {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Why.
        said: String,
    },
    /// The API server failed or did not answer.
    #[error("the Kubernetes API did not answer for {kind} {name}; it is tried again")]
    Unavailable {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
    },
}

/// What is to be done to one workload.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// The BotSecret that asks for it.
    pub bot_secret: &'a str,
    /// The Secret that the workload uses.
    pub secret: &'a str,
    /// The workload.
    pub id: &'a WorkloadId,
    /// What its pods must hold.
    pub requirement: &'a Requirement,
    /// The Secret's state, its times final.
    pub state: &'a State,
    /// The digest key's id, and the keyed digest of the data that it uses.
    pub held: (&'a str, &'a str),
    /// Whether it was found by its use.
    pub by_use: bool,
    /// How many patches for this revision the status records.
    pub patches_on_record: i32,
}

/// A workload and its pods as they are now, and what that asks for.
#[derive(Clone, Debug)]
pub struct Looked {
    /// The workload.
    pub workload: WorkloadFacts,
    /// Its pods.
    pub pods: Vec<PodFacts>,
    /// What is to be done.
    pub step: Step,
    /// How many patches it got for this revision.
    pub patches: i32,
    /// Whether the same would not be found at any later time, so that it must
    /// be on record: it was patched, and the report of that was lost, or a pod
    /// from before the write had no node yet.
    pub to_record: bool,
}

impl Looked {
    /// Its pods that hold the value, or will when they start.
    pub fn new_pods<'a>(&'a self, task: &'a Task<'_>) -> impl Iterator<Item = &'a PodFacts> {
        let holds_new = |pod: &&PodFacts| !holds_older(pod, task.secret, task.state, task.by_use);
        self.pods.iter().filter(|pod| !pod.terminating && !pod.finished).filter(holds_new)
    }
}

/// Reads one workload and its pods afresh. `None` where it is gone, or no longer
/// uses the Secret.
///
/// # Errors
/// As [`RollOutError`].
pub async fn look(client: &Client, task: &Task<'_>) -> Result<Option<Looked>, RollOutError> {
    let Task { id, secret, requirement, by_use, .. } = *task;
    let read = match id.kind {
        WorkloadKind::Deployment => read::<DeploymentView>(client, id).await?,
        WorkloadKind::StatefulSet => read::<StatefulSetView>(client, id).await?,
        WorkloadKind::DaemonSet => read::<DaemonSetView>(client, id).await?,
        WorkloadKind::Rollout => read_rollout(client, id).await?,
    };
    let Some(workload) = read else { return Ok(None) };
    if by_use && workload.uses(secret).is_none() {
        // The edit that ended the use replaces its pods.
        return Ok(None);
    }
    let pods = pods_of(client, &workload).await?;
    let on_workload = delivered(&workload, secret, requirement);
    let patches = task.patches_on_record.max(on_workload.unwrap_or(0));
    let step = decide(&workload, &pods, secret, requirement, task.state, by_use, patches);
    let waiting = pods.iter().any(|pod| !pod.scheduled && began_before(pod, secret, task.state, by_use));
    Ok(Some(Looked { workload, pods, step, patches, to_record: on_workload.is_some() || waiting }))
}

/// Makes a workload roll that is still as it was looked at: the `number`-th
/// patch for this revision.
///
/// # Errors
/// As [`RollOutError`]; nothing was changed then, or, where the answer was
/// lost, the marker in the template says so on the next pass.
pub async fn roll_out(client: &Client, task: &Task<'_>, looked: &Looked, number: i32) -> Result<(), RollOutError> {
    traces::patching(task.id, patched(client, task, looked, number)).await
}

async fn patched(client: &Client, task: &Task<'_>, looked: &Looked, number: i32) -> Result<(), RollOutError> {
    match task.id.kind {
        WorkloadKind::Deployment => patch::<DeploymentView>(client, task, &looked.workload, number).await,
        WorkloadKind::StatefulSet => patch::<StatefulSetView>(client, task, &looked.workload, number).await,
        WorkloadKind::DaemonSet => patch::<DaemonSetView>(client, task, &looked.workload, number).await,
        WorkloadKind::Rollout if looked.workload.template_from.is_some() => {
            patch::<DeploymentView>(client, task, &looked.workload, number).await
        }
        // By its template like the others, so that it takes the steps that its
        // owner wants a change to take; spec.restartAt leaves them out.
        WorkloadKind::Rollout => patch::<RolloutView>(client, task, &looked.workload, number).await,
    }
}

/// `None` also where the kind itself is not there.
async fn read<V>(client: &Client, id: &WorkloadId) -> Result<Option<WorkloadFacts>, RollOutError>
where
    V: WorkloadView + Resource<Scope = NamespaceResourceScope>,
{
    let workloads: Api<V> = Api::namespaced(client.clone(), &id.namespace);
    match within(workloads.get(&id.name)).await {
        Ok(view) => Ok(Some(view.facts())),
        // Whatever else it says: of a kind that is not there it is no Status.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(sort(id, "read", &error)),
    }
}

/// A Rollout, and the Deployment whose template it takes: Argo Rollouts refuses
/// one that has a template beside its reference, so that the marker can lie only
/// in the Deployment's.
async fn read_rollout(client: &Client, id: &WorkloadId) -> Result<Option<WorkloadFacts>, RollOutError> {
    let Some(mut rollout) = read::<RolloutView>(client, id).await? else { return Ok(None) };
    let Some(from) = &mut rollout.template_from else { return Ok(Some(rollout)) };
    let refused = |said: String| RollOutError::Unfit { kind: id.kind.name(), name: id.name.clone(), said };
    let kind = WorkloadKind::Deployment;
    if from.kind != kind.name() {
        let said = format!("spec.workloadRef names a {}: only that of a Deployment can be changed", from.kind);
        return Err(refused(said));
    }
    let of_template = WorkloadId { namespace: id.namespace.clone(), kind, name: from.name.clone() };
    let Some(deployment) = read::<DeploymentView>(client, &of_template).await? else {
        return Err(refused(format!("Deployment {}, which spec.workloadRef names, does not exist", from.name)));
    };
    // Its own generation stays as it was when the Deployment's template changes.
    let is_seen = from.observed.is_none() || from.observed == deployment.generation;
    rollout.progress.settled &= is_seen;
    rollout.progress.failed &= is_seen;
    (from.uid, from.resource_version) = (deployment.uid, deployment.resource_version);
    (rollout.uses, rollout.markers, rollout.records) = (deployment.uses, deployment.markers, deployment.records);
    if rollout.selector == LabelSelector::default() {
        rollout.selector = deployment.selector;
    }
    Ok(Some(rollout))
}

/// How many patches for this revision the workload bears the record of.
fn delivered(workload: &WorkloadFacts, secret: &str, requirement: &Requirement) -> Option<i32> {
    let record = Delivery::parse(workload.records.get(&delivery_annotation(secret))?)?;
    (record.revision == requirement.revision).then_some(record.patches)
}

/// The pods that this workload's controller made.
async fn pods_of(client: &Client, workload: &WorkloadFacts) -> Result<Vec<PodFacts>, RollOutError> {
    let id = &workload.id;
    let selector = Selector::try_from(workload.selector.clone()).map_err(|_| RollOutError::Refused {
        action: "select the pods of",
        kind: id.kind.name(),
        name: id.name.clone(),
        said: "its selector cannot be read".to_owned(),
    })?;
    if selector.selects_all() {
        // Never taken literally: it would name every pod of the namespace.
        return Ok(Vec::new());
    }
    let api: Api<PodView> = Api::namespaced(client.clone(), &id.namespace);
    let list = within(api.list(&ListParams::default().labels_from(&selector)))
        .await
        .map_err(|error| sort(id, "list the pods of", &error))?;
    Ok(list.items.iter().map(PodView::facts).filter(|pod| belongs_to(pod, id)).collect())
}

/// The pods of a Deployment or Rollout hang off its ReplicaSets, which are named
/// after it and the template's hash. More than a hash is another's: `bot` and
/// `bot-canary` may share labels. A Rollout may have the name of the Deployment
/// whose template it takes.
fn belongs_to(pod: &PodFacts, id: &WorkloadId) -> bool {
    pod.controller.as_ref().is_some_and(|(kind, name)| match id.kind {
        WorkloadKind::Deployment => {
            kind == "ReplicaSet" && pod.rollout_hash.is_none() && name.strip_prefix(&id.name).is_some_and(is_hash)
        }
        WorkloadKind::Rollout => {
            let of_hash = |hash: &String| *name == format!("{}-{hash}", id.name);
            kind == "ReplicaSet" && pod.rollout_hash.as_ref().is_some_and(of_hash)
        }
        kind_of_workload => kind == kind_of_workload.name() && *name == id.name,
    })
}

fn is_hash(rest: &str) -> bool {
    rest.strip_prefix('-').is_some_and(|hash| !hash.contains('-'))
}

async fn patch<V>(client: &Client, task: &Task<'_>, workload: &WorkloadFacts, number: i32) -> Result<(), RollOutError>
where
    V: WorkloadView + Resource<Scope = NamespaceResourceScope>,
{
    let Task { secret, requirement, held: (key, held), .. } = *task;
    let api: Api<V> = Api::namespaced(client.clone(), &workload.id.namespace);
    let delivery = Delivery {
        revision: requirement.revision.clone(),
        patches: number,
        key: key.to_owned(),
        held: held.to_owned(),
    };
    let marker = requirement.revision.to_string();
    let (name, uid, version) = match &workload.template_from {
        Some(from) => (&from.name, &from.uid, &from.resource_version),
        None => (&workload.id.name, &workload.uid, &workload.resource_version),
    };
    let body = serde_json::json!({
        "apiVersion": V::api_version(&()),
        "kind": V::kind(&()),
        "metadata": {
            "name": name,
            "namespace": workload.id.namespace,
            "uid": uid,
            "resourceVersion": version,
            "annotations": { delivery_annotation(secret): delivery.to_annotation() },
        },
        "spec": { "template": { "metadata": { "annotations": { marker_annotation(secret): marker } } } },
    });
    let params = PatchParams::apply(&field_manager(task.bot_secret)).force();
    within(api.patch(name, &params, &Patch::Apply(&body)))
        .await
        .map(|written| drop(written.name_any()))
        .map_err(|error| sort(&workload.id, PATCH, &error))
}

fn sort(id: &WorkloadId, action: &'static str, error: &kube::Error) -> RollOutError {
    let (kind, name) = (id.kind.name(), id.name.clone());
    match error {
        kube::Error::Api(status) if status.code == 409 => RollOutError::Conflict { kind, name },
        // Gone since it was looked at: the next look finds nothing to roll.
        kube::Error::Api(status) if status.code == 404 && action == PATCH => RollOutError::Conflict { kind, name },
        kube::Error::Api(status) if (400..500).contains(&status.code) && status.code != 429 => {
            RollOutError::Refused { action, kind, name, said: status.message.clone() }
        }
        _ => RollOutError::Unavailable { kind, name },
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::{PATCH, RollOutError, sort};
    use crate::{api::WorkloadKind, watch::WorkloadId};

    #[test]
    fn a_workload_that_went_before_its_patch_is_looked_at_again_at_once_and_a_refusal_is_told() {
        let id = WorkloadId { namespace: "trading".into(), kind: WorkloadKind::Rollout, name: "bot".into() };
        let sorted = |action, code| {
            let status = Status::failure("no", "").with_code(code);
            match sort(&id, action, &kube::Error::Api(Box::new(status))) {
                RollOutError::Conflict { .. } => "conflict",
                RollOutError::Refused { .. } => "refused",
                RollOutError::Unfit { .. } => "unfit",
                RollOutError::Unavailable { .. } => "unavailable",
            }
        };
        for (code, wanted) in [
            (404, "conflict"),
            (409, "conflict"),
            (401, "refused"),
            (403, "refused"),
            (422, "refused"),
            (429, "unavailable"),
            (500, "unavailable"),
        ] {
            assert_eq!(sorted(PATCH, code), wanted, "{code}");
        }
        // Its pods are listed where there is nothing to be gone.
        assert_eq!(sorted("list the pods of", 404), "refused");
    }
}
