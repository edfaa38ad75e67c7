//! What a later version of the operator leaves behind: its definition, and a
//! status in words that this version does not know.

use botsecret::api::{BotSecret, definitions};
use botsecret_testbed::{Cluster, wait_for};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{Bench, DEADLINE, Result};

/// A word for which this version has no meaning.
pub const NEW: &str = "SomethingNew";

/// Makes the definition of BotSecrets on the cluster a later one: phases and
/// settings that this version does not know, and fields wherever there may be
/// some. What was valid stays so.
pub async fn install_later(cluster: &Cluster) -> Result {
    let definition = definitions().into_iter().find(|one| one.spec.names.kind == "BotSecret").expect("BotSecret");
    let name = definition.name_any();
    let mut definition = serde_json::to_value(definition)?;
    let schema = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let status = &mut schema["status"]["properties"];
    let anything = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    for phase in ["/rotation/properties/phase", "/rotation/properties/times/items/properties/phase"] {
        let phase = status.pointer_mut(phase).expect("a phase");
        phase["enum"].as_array_mut().expect("phases").push(json!(NEW));
    }
    for part in ["", "/rotation/properties", "/rollout/properties", "/target/properties", "/leases/items/properties"] {
        status.pointer_mut(part).expect("a part")["later"] = anything.clone();
    }
    status["rollout"]["properties"]["workloads"]["items"]["properties"]["later"] = anything;
    let choices = schema.pointer_mut("/spec/properties/rollout/properties/workloads").expect("a choice");
    choices["enum"].as_array_mut().expect("choices").push(json!(NEW));
    let definition: CustomResourceDefinition = serde_json::from_value(definition)?;
    let api: Api<CustomResourceDefinition> = Api::all(cluster.client()?);
    api.patch(&name, &PatchParams::apply("tests").force(), &Patch::Apply(&definition)).await?;
    Ok(())
}

/// A status as it is, to be edited as nobody's type says.
pub async fn status_of(bench: &Bench, name: &str) -> Result<Value> {
    Ok(serde_json::to_value(bench.bot_secrets().get(name).await?.status)?)
}

/// Writes a status, whole: what it does not say is gone.
pub async fn write_status(bench: &Bench, name: &str, status: &Value) -> Result {
    let resource = ApiResource::erase::<BotSecret>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(bench.client.clone(), &bench.namespace, &resource);
    // A definition that was changed a moment ago may not be served yet.
    wait_for("the status to be taken", DEADLINE, async || {
        let mut object = api.get(name).await?;
        object.data["status"] = status.clone();
        let written = api.replace_status(name, &PostParams::default(), &object).await?;
        anyhow::ensure!(written.data["status"] == *status, "something of it was dropped: {}", written.data["status"]);
        Ok(Some(()))
    })
    .await
}

/// The same rotation in the words of a later version.
pub fn by_later(status: &mut Value) {
    let rotation = &mut status["rotation"];
    let at = rotation["started"].clone();
    rotation["phase"] = json!(NEW);
    rotation["times"].as_array_mut().expect("times").push(json!({ "phase": NEW, "at": at }));
    for workload in status["rollout"]["workloads"].as_array_mut().expect("workloads") {
        workload["state"] = json!(NEW);
        workload["later"] = json!({ "weight": 1 });
    }
    for condition in status["conditions"].as_array_mut().expect("conditions") {
        condition["reason"] = json!(NEW);
    }
    for lease in status.get_mut("leases").and_then(Value::as_array_mut).into_iter().flatten() {
        lease["later"] = json!({ "weight": 1 });
    }
    for part in ["rotation", "rollout", "target"] {
        status[part]["later"] = json!({ "weight": 1 });
    }
    status["later"] = json!({ "weight": 1 });
}

/// The same rotation as a version knew it that rolled everybody at once: without
/// a rotation, and of a workload only how far it is.
pub fn by_earlier(status: &mut Value) {
    status.as_object_mut().expect("a status").remove("rotation");
    let target = status["target"].as_object_mut().expect("a target");
    target.retain(|name, _| !["rolling", "quiet"].contains(&name.as_str()));
    let workloads = status["rollout"]["workloads"].as_array_mut().expect("workloads");
    workloads.retain(|workload| workload["state"] != "Waiting");
    for workload in workloads {
        let known = ["kind", "name", "uid", "revision", "state", "patches"];
        workload.as_object_mut().expect("a workload").retain(|name, _| known.contains(&name.as_str()));
    }
}
