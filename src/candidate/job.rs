//! The CronJob that the user wrote, and the Job that is made from it. Pure.

use k8s_openapi::jiff::Timestamp;
use kube::{
    ResourceExt as _,
    api::{DynamicObject, ObjectMeta},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Trial, decide::Failure};
use crate::api::{ANNOTATION_ATTEMPT, ANNOTATION_CANDIDATE, ANNOTATION_CRON_JOB, LABEL_CANDIDATE, owner_label};

/// A Job that is over stays at least so long, in seconds: how it ended must be
/// read before it goes.
const SHORTEST_STAY: u64 = 600;

/// Whether the CronJob may be used, or what to do that it may.
pub(super) fn check(cron_job: Option<&DynamicObject>, trial: &Trial<'_>) -> Result<(), String> {
    let name = &trial.verify.cron_job;
    let Some(cron_job) = cron_job else {
        return Err(format!(
            "CronJob {name} does not exist, which verify.cronJob names: create it, suspended, or correct the name"
        ));
    };
    let spec = cron_job.data.get("spec").unwrap_or(&Value::Null);
    if spec.get("suspend") != Some(&Value::Bool(true)) {
        return Err(format!(
            "CronJob {name} runs by itself: set suspend: true on it, since its pods are to run only when there is something to try"
        ));
    }
    let pod = spec.pointer("/jobTemplate/spec/template/spec").unwrap_or(&Value::Null);
    let account = pod.get("serviceAccountName").and_then(Value::as_str).filter(|name| !name.is_empty());
    let (account, wanted) = (account.unwrap_or("default"), &trial.object.spec.service_account_name);
    if account != wanted {
        return Err(format!(
            "CronJob {name} runs its pods as ServiceAccount {account}, and only the BotSecret's own may try its values: set serviceAccountName: {wanted} in its pod template"
        ));
    }
    if pod.get("containers").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        return Err(format!("CronJob {name} has no pod template to make a Job from: write one"));
    }
    Ok(())
}

/// The Job, with everything that the CronJob's template says.
pub(super) fn made_from(cron_job: &DynamicObject, trial: &Trial<'_>) -> Value {
    let empty = Value::Null;
    let template = cron_job.data.pointer("/spec/jobTemplate").unwrap_or(&empty);
    let members = |pointer: &str| template.pointer(pointer).and_then(Value::as_object).cloned().unwrap_or_default();
    let (mut labels, mut annotations) = (members("/metadata/labels"), members("/metadata/annotations"));
    let set = |map: &mut Map<String, Value>, name: &str, value: &str| {
        map.insert(name.to_owned(), value.into());
    };
    set(&mut labels, LABEL_CANDIDATE, &owner_label(&trial.desired.bot_secret));
    set(&mut annotations, ANNOTATION_CANDIDATE, trial.fingerprint);
    set(&mut annotations, ANNOTATION_CRON_JOB, &trial.verify.cron_job);
    set(&mut annotations, ANNOTATION_ATTEMPT, &trial.attempt());
    let mut spec = members("/spec");
    let limit = trial.timeout().as_secs().max(1);
    let number = |spec: &Map<String, Value>, name: &str| spec.get(name).and_then(Value::as_u64);
    let deadline = number(&spec, "activeDeadlineSeconds").map_or(limit, |theirs| theirs.min(limit));
    spec.insert("activeDeadlineSeconds".to_owned(), deadline.into());
    spec.entry("backoffLimit").or_insert_with(|| 0.into());
    if let Some(stay) = number(&spec, "ttlSecondsAfterFinished") {
        spec.insert("ttlSecondsAfterFinished".to_owned(), stay.max(SHORTEST_STAY).into());
    }
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": trial.job(),
            "namespace": trial.desired.namespace,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [trial.desired.owner],
        },
        "spec": spec,
    })
}

/// What matters of a Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JobFacts {
    pub(super) uid: String,
    /// Whether a BotSecret of this name made it.
    pub(super) has_our_label: bool,
    /// Whether that is this one, and not one of an earlier life.
    pub(super) is_owned: bool,
    pub(super) fingerprint: String,
    pub(super) attempt: String,
    pub(super) cron_job: String,
    pub(super) created: Option<Timestamp>,
    pub(super) deleting: bool,
    pub(super) state: JobState,
}

/// Where a Job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JobState {
    /// Not over.
    Running,
    /// Well done.
    Complete,
    /// Over, without success.
    Failed(Failure),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    conditions: Option<Vec<Condition>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
    reason: Option<String>,
    message: Option<String>,
}

impl JobFacts {
    pub(super) fn of(job: &DynamicObject, trial: &Trial<'_>) -> Self {
        let meta = &job.metadata;
        let annotation = |name: &str| job.annotations().get(name).cloned().unwrap_or_default();
        Self {
            uid: meta.uid.clone().unwrap_or_default(),
            has_our_label: has_our_label(meta, trial),
            is_owned: meta.owner_references.iter().flatten().any(|owner| owner.uid == trial.desired.owner.uid),
            fingerprint: annotation(ANNOTATION_CANDIDATE),
            attempt: annotation(ANNOTATION_ATTEMPT),
            cron_job: annotation(ANNOTATION_CRON_JOB),
            created: meta.creation_timestamp.as_ref().map(|time| time.0),
            deleting: meta.deletion_timestamp.is_some(),
            state: state(job.data.get("status")),
        }
    }
}

pub(super) fn has_our_label(meta: &ObjectMeta, trial: &Trial<'_>) -> bool {
    let label = meta.labels.as_ref().and_then(|labels| labels.get(LABEL_CANDIDATE));
    label.is_some_and(|label| *label == owner_label(&trial.desired.bot_secret))
}

fn state(status: Option<&Value>) -> JobState {
    let status = status.and_then(|status| Status::deserialize(status).ok()).unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let find = |type_: &str| conditions.iter().find(|one| one.type_ == type_ && one.status == "True");
    if find("Complete").is_some() {
        return JobState::Complete;
    }
    find("Failed").map_or(JobState::Running, |failed| {
        JobState::Failed(Failure {
            reason: failed.reason.clone().unwrap_or_default(),
            message: failed.message.clone().unwrap_or_default(),
        })
    })
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
