//! The requests of a trial. Each write has a precondition.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    batch::v1::{CronJob, Job},
    core::v1::{Pod, Secret},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{
        ApiResource, DeleteParams, DynamicObject, ListParams, ObjectMeta, PostParams, Preconditions, PropagationPolicy,
    },
};
use serde_json::Value;

use super::{
    CandidateError, Trial,
    job::{JobFacts, has_our_label},
};
use crate::{
    api::{ANNOTATION_CANDIDATE, LABEL_CANDIDATE, candidate_job},
    apply::{Aside, AsideError},
    deadline::within,
    watch::SECRET_FIELD_MANAGER,
};

/// What asks the API server on behalf of one trial.
pub(super) struct Requests<'a> {
    trial: &'a Trial<'a>,
    aside: Aside<'a>,
    pods: Api<Pod>,
    // Untyped: what a newer Kubernetes knows of a Job is taken over too.
    cron_jobs: Api<DynamicObject>,
    jobs: Api<DynamicObject>,
}

/// The data that a candidate says it holds.
pub(super) fn fingerprint_of(secret: &Secret) -> Option<&str> {
    secret.annotations().get(ANNOTATION_CANDIDATE).map(String::as_str)
}

impl<'a> Requests<'a> {
    pub(super) fn new(client: &Client, trial: &'a Trial<'a>) -> Self {
        let namespace = &trial.desired.namespace;
        let untyped = |resource| Api::namespaced_with(client.clone(), namespace, &resource);
        Self {
            trial,
            aside: Aside::new(client, trial.desired, trial.secret(), LABEL_CANDIDATE),
            pods: Api::namespaced(client.clone(), namespace),
            cron_jobs: untyped(ApiResource::erase::<CronJob>(&())),
            jobs: untyped(ApiResource::erase::<Job>(&())),
        }
    }

    pub(super) fn is_ours(&self, meta: &ObjectMeta) -> bool {
        has_our_label(meta, self.trial)
    }

    pub(super) async fn cron_job(&self) -> Result<Option<DynamicObject>, CandidateError> {
        let name = &self.trial.verify.cron_job;
        within(self.cron_jobs.get_opt(name)).await.map_err(|error| sorted(&error, "read", &format!("CronJob {name}")))
    }

    pub(super) async fn job(&self) -> Result<Option<JobFacts>, CandidateError> {
        Ok(self.job_named(&self.trial.job()).await?.map(|job| JobFacts::of(&job, self.trial)))
    }

    async fn job_named(&self, name: &str) -> Result<Option<DynamicObject>, CandidateError> {
        within(self.jobs.get_opt(name)).await.map_err(|error| sorted(&error, "read", &format!("Job {name}")))
    }

    /// Makes the Job. One that is there by now is looked at by the next pass.
    pub(super) async fn create_job(&self, job: &Value) -> Result<(), CandidateError> {
        let name = self.trial.job();
        // What was just built of an object's parts is one.
        let job: DynamicObject = serde_json::from_value(job.clone())
            .map_err(|_| CandidateError::Invalid(format!("CronJob {} makes no Job", self.trial.verify.cron_job)))?;
        match within(self.jobs.create(&post_params(), &job)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(sorted(&error, "make", &format!("Job {name}"))),
        }
    }

    /// The pods that this Job made.
    pub(super) async fn pods_of(&self, job_uid: &str) -> Result<Vec<Pod>, CandidateError> {
        let name = self.trial.job();
        let params = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={name}"));
        let pods = within(self.pods.list(&params))
            .await
            .map_err(|error| sorted(&error, "list", &format!("the pods of Job {name}")))?;
        let made_by = |pod: &Pod| pod.owner_references().iter().any(|owner| owner.uid == job_uid);
        Ok(pods.items.into_iter().filter(made_by).collect())
    }

    /// Deletes the Job that tried this data, if it is ours and there.
    pub(super) async fn delete_job_of(&self, fingerprint: &str) -> Result<(), CandidateError> {
        let name = candidate_job(&self.trial.desired.name, fingerprint);
        match self.job_named(&name).await? {
            Some(job) if self.is_ours(&job.metadata) && job.metadata.deletion_timestamp.is_none() => {
                self.delete_job(&name, job.metadata.uid.as_deref().unwrap_or_default()).await
            }
            _ => Ok(()),
        }
    }

    /// Deletes this very Job, and its pods with it.
    pub(super) async fn delete_job(&self, name: &str, uid: &str) -> Result<(), CandidateError> {
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
            // Without it, a Job that is deleted leaves its pods behind.
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        match within(self.jobs.delete(name, &params)).await {
            Ok(_) => Ok(()),
            // Gone, or another one by now.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(sorted(&error, "delete", &format!("Job {name}"))),
        }
    }

    pub(super) async fn secret(&self) -> Result<Option<Secret>, CandidateError> {
        Ok(self.aside.get().await?)
    }

    /// Makes the candidate hold the data, where it does not yet.
    pub(super) async fn put_secret(&self, live: Option<&Secret>) -> Result<(), CandidateError> {
        let annotation = (ANNOTATION_CANDIDATE.to_owned(), self.trial.fingerprint.to_owned());
        let put = self.aside.put(live, &self.trial.desired.data, BTreeMap::from([annotation])).await;
        let name = self.aside.name();
        put.map_err(|error| match error {
            AsideError::Secret(error) => error.into(),
            AsideError::Foreign => CandidateError::Foreign(format!(
                "Secret {name} exists and is not this BotSecret's candidate: delete it or choose another target.name, so that a new value can be tried in it"
            )),
            AsideError::Changed | AsideError::Leaving => CandidateError::Conflict(format!("Secret {name}")),
        })
    }

    /// Deletes the candidate, if it is ours and there.
    pub(super) async fn delete_secret(&self) -> Result<(), CandidateError> {
        Ok(self.aside.delete().await?)
    }
}

fn post_params() -> PostParams {
    PostParams { field_manager: Some(SECRET_FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

/// Sorts an answer about a CronJob, a Job or its pods: none of them is sent a
/// value.
fn sorted(error: &kube::Error, action: &str, what: &str) -> CandidateError {
    let kube::Error::Api(status) = error else { return CandidateError::Unavailable(what.to_owned()) };
    let said = status.message.as_str();
    match status.code {
        409 => CandidateError::Conflict(what.to_owned()),
        403 if said.contains("because it is being terminated") => CandidateError::Terminating,
        403 if said.contains("exceeded quota") => CandidateError::Invalid(format!(
            "the Kubernetes API refused to {action} {what}: {said}; raise the ResourceQuota"
        )),
        400..=499 if said.contains("ValidatingAdmissionPolicy") || said.contains("admission webhook") => {
            CandidateError::Invalid(format!(
                "the Kubernetes API refused to {action} {what}: {said}; adapt the admission policy or the CronJob"
            ))
        }
        401 | 403 => CandidateError::Forbidden(format!(
            "the operator may not {action} {what}: an administrator grants what spec.verify takes with deploy/verify.yaml"
        )),
        400 | 404 | 422 => CandidateError::Invalid(format!(
            "the Kubernetes API refused to {action} {what}: {said}; correct the CronJob"
        )),
        _ => CandidateError::Unavailable(what.to_owned()),
    }
}
