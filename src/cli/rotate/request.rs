//! The request itself: one guarded patch of one annotation.

use k8s_openapi::{api::authentication::v1::SelfSubjectReview, jiff::Timestamp};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::super::Error;
use crate::{
    api::{ANNOTATION_ROTATE, BotSecret, RotateRequest},
    deadline::within,
    plan::{emergency, rotation_requested, unrecorded},
};

/// How often a lost race is run again.
const RACES: u32 = 5;

/// Writes the request, if there is anything that could take it up.
pub(super) async fn request(
    client: &Client,
    api: &Api<BotSecret>,
    (namespace, name): (&str, &str),
    reason: String,
    revoke: bool,
) -> Result<RotateRequest, Error> {
    let mut wanted = RotateRequest { id: new_id()?, reason, revoke, by: own_name(client).await };
    for _ in 0..RACES {
        let object = within(api.get(name)).await.map_err(|error| refused(&error, "get", namespace, name))?;
        check(&object, revoke)?;
        // One that is not over yet would be forgotten, and with it what was to go.
        let is_open = unrecorded(&object).is_some() || emergency(&object).is_some();
        wanted.revoke |= rotation_requested(&object).is_some_and(|before| is_open && before.revoke);
        let patch = json!({ "metadata": {
            "uid": object.metadata.uid, "resourceVersion": object.metadata.resource_version,
            "annotations": { ANNOTATION_ROTATE: wanted.to_annotation() },
        } });
        let params = PatchParams { field_manager: Some("botsecret-rotate".to_owned()), ..PatchParams::default() };
        match within(api.patch(name, &params, &Patch::Merge(&patch))).await {
            Ok(_) => return Ok(wanted),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(refused(&error, "patch", namespace, name)),
        }
    }
    Err(format!("BotSecret {name} in namespace {namespace} keeps changing: try again").into())
}

/// What keeps a request from ever having an effect.
fn check(object: &BotSecret, revoke: bool) -> Result<(), String> {
    let (name, namespace) =
        (object.metadata.name.as_deref().unwrap_or_default(), object.metadata.namespace.as_deref().unwrap_or_default());
    if object.metadata.deletion_timestamp.is_some() {
        return Err(format!("BotSecret {name} in namespace {namespace} is being deleted: its credentials go with it"));
    }
    if object.spec.suspend == Some(true) {
        return Err(format!(
            "BotSecret {name} in namespace {namespace} is suspended, so nothing of it is read, written or rolled: set spec.suspend to false first"
        ));
    }
    if revoke && !object.spec.data_from.iter().any(|entry| entry.dynamic.is_some()) {
        return Err(format!(
            "BotSecret {name} in namespace {namespace} has no leased credential (dataFrom.dynamic) that could be revoked: revoke its values at their manager, then ask without --revoke"
        ));
    }
    Ok(())
}

/// A request that the API server did not take, in words.
fn refused(error: &kube::Error, verb: &str, namespace: &str, name: &str) -> Error {
    let kube::Error::Api(status) = error else {
        return format!("the Kubernetes API cannot be reached: check the kubeconfig and the network ({error})").into();
    };
    match status.code {
        401 => "the Kubernetes API does not know you: log in again".into(),
        403 => format!(
            "you may not {verb} BotSecret {name} in namespace {namespace}, so you may not rotate it: ask for get and patch on botsecrets.botsecret.dev there. The API server said: {}",
            status.message
        )
        .into(),
        404 if status.message.contains(name) => format!(
            "BotSecret {name} does not exist in namespace {namespace}: name another with --namespace, or list all with kubectl get botsecrets --all-namespaces"
        )
        .into(),
        404 => "this cluster knows no BotSecrets: check the context, or install the definitions (kubectl apply -k deploy/)"
            .into(),
        _ => format!("the Kubernetes API refused to {verb} BotSecret {name}: {}", status.message).into(),
    }
}

/// As whom the API server knows us. Nobody is refused for not being told.
async fn own_name(client: &Client) -> String {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = within(api.create(&PostParams::default(), &SelfSubjectReview::default())).await.ok();
    let user = review.and_then(|review| review.status?.user_info);
    user.and_then(|user| user.username).unwrap_or_default()
}

/// One that no other request has: its time, for people, and chance.
fn new_id() -> Result<String, Error> {
    let mut bytes = [0; 4];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "the system gave no randomness")?;
    Ok(format!("{}-{:08x}", Timestamp::now().strftime("%Y%m%dT%H%M%SZ"), u32::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{check, new_id};
    use crate::api::{BotSecret, RotateRequest};

    fn object(spec: &Value, deleted: bool) -> BotSecret {
        let deleted = deleted.then_some("2026-01-01T00:00:00Z");
        let mut object = json!({
            "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret",
            "metadata": { "name": "bot", "namespace": "trading", "deletionTimestamp": deleted },
            "spec": { "serviceAccountName": "bot" },
        });
        for (name, value) in spec.as_object().expect("fields") {
            object["spec"][name] = value.clone();
        }
        serde_json::from_value(object).expect("a BotSecret")
    }

    #[test]
    fn what_could_have_no_effect_is_refused_and_says_what_to_do() {
        let leased = json!({ "dataFrom": [{ "dynamic": { "path": "database/creds/bot" } }] });
        for (spec, deleted, revoke, said) in [
            (json!({}), false, false, None),
            (leased.clone(), false, true, None),
            (json!({}), false, true, Some("revoke its values at their manager")),
            (json!({ "suspend": true }), false, false, Some("spec.suspend")),
            (leased, true, true, Some("being deleted")),
        ] {
            let answer = check(&object(&spec, deleted), revoke);
            match said {
                None => assert_eq!(answer, Ok(()), "{spec}"),
                Some(words) => assert!(answer.as_ref().is_err_and(|error| error.contains(words)), "{spec}: {answer:?}"),
            }
        }
    }

    #[test]
    fn an_id_is_another_each_time_and_one_that_the_operator_takes() {
        let (one, other) = (new_id().expect("an id"), new_id().expect("an id"));
        assert_ne!(one, other);
        let request = RotateRequest { id: one, reason: "r".into(), revoke: false, by: String::new() };
        assert_eq!(RotateRequest::parse(&request.to_annotation()), Some(request));
    }
}
