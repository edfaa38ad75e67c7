//! What a controller manager and kubelets do, as far as a rollout needs them:
//! Deployments keep their pods, pods read the Secret when they start.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::super::{
    clock,
    store::{Store, Verb},
};

/// How soon a controller does its next step.
const STEP: Duration = Duration::from_millis(50);
const UNTIL_SCHEDULED: Duration = Duration::from_millis(100);
const UNTIL_STARTED: Duration = Duration::from_millis(600);
const UNTIL_GONE: Duration = Duration::from_millis(1_200);

/// What a pod's process was started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    pub pod: String,
    pub deployment: String,
    pub at: Duration,
    pub held: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Life {
    created: Duration,
    started: bool,
    ending: Option<Duration>,
}

/// The controllers, and what they know beside the store.
#[derive(Debug, Default)]
pub struct Controllers {
    lives: BTreeMap<String, Life>,
    made: u64,
    pub starts: Vec<Start>,
    /// The values on which a bot ends as soon as it starts.
    deadly: Option<BTreeMap<String, Vec<u8>>>,
}

/// The data of a Secret.
pub fn data_of(secret: &Value) -> BTreeMap<String, Vec<u8>> {
    let decode = |value: &Value| STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default();
    secret["data"].as_object().into_iter().flatten().map(|(key, value)| (key.clone(), decode(value))).collect()
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

impl Controllers {
    /// Those of a world in which bots end on these values.
    pub fn new(deadly: Option<BTreeMap<String, Vec<u8>>>) -> Self {
        Self { deadly, ..Self::default() }
    }

    /// Does what is due; answers when to be called again, if nothing changes.
    pub fn step(&mut self, store: &Store) -> Option<Duration> {
        let now = clock::elapsed();
        let mut next = None;
        let mut soon = |at: Duration| next = Some(next.map_or(at, |next: Duration| next.min(at)));
        for pod in store.all("pods") {
            if let Some(at) = self.kubelet(store, &pod, now) {
                soon(at);
            }
        }
        for deployment in store.all("deployments") {
            if self.deployment(store, &deployment, now) {
                soon(now + STEP);
            }
        }
        collect_garbage(store);
        next
    }

    /// One pod, one step; answers when its next is due.
    fn kubelet(&mut self, store: &Store, pod: &Arc<Value>, now: Duration) -> Option<Duration> {
        let (namespace, name) = (text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
        let life = *self.lives.entry(name.to_owned()).or_insert(Life { created: now, ..Life::default() });
        if let Some(ending) = life.ending {
            if now < ending {
                return Some(ending);
            }
            // The grace period is over: as the kubelet's own delete.
            store.ask(Verb::MergePatch, "pods", (namespace, name, ""), &json!({ "metadata": { "finalizers": null } }));
            self.lives.remove(name);
            return None;
        }
        if text(pod, "/spec/nodeName").is_empty() {
            let due = life.created + UNTIL_SCHEDULED;
            if now < due {
                return Some(due);
            }
            store.ask(Verb::MergePatch, "pods", (namespace, name, ""), &json!({ "spec": { "nodeName": "node-1" } }));
        }
        if life.started {
            return None;
        }
        let due = life.created + UNTIL_STARTED;
        if now < due {
            return Some(due);
        }
        let wanted = text(pod, "/spec/containers/0/envFrom/0/secretRef/name");
        let Some(secret) = store.get("secrets", namespace, wanted) else {
            return Some(now + Duration::from_secs(1));
        };
        let held = data_of(&secret);
        let dies = self.deadly.as_ref() == Some(&held);
        let deployment = text(pod, "/metadata/labels/app").to_owned();
        self.starts.push(Start { pod: name.to_owned(), deployment, at: now, held });
        self.lives.insert(name.to_owned(), Life { started: true, ..life });
        let mut status = json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] });
        if dies {
            status["conditions"][0]["status"] = json!("False");
            // As after some tries, which nobody waits for here.
            status["containerStatuses"] =
                json!([{ "name": "bot", "restartCount": 3, "state": { "waiting": { "reason": "CrashLoopBackOff" } } }]);
        }
        store.ask(Verb::MergePatch, "pods", (namespace, name, "status"), &json!({ "status": status }));
        None
    }

    /// One step of a rolling update with one pod more and none less; answers
    /// whether there is more to do.
    fn deployment(&mut self, store: &Store, deployment: &Arc<Value>, now: Duration) -> bool {
        let (namespace, name) = (text(deployment, "/metadata/namespace"), text(deployment, "/metadata/name"));
        let wanted = usize::try_from(deployment["spec"]["replicas"].as_u64().unwrap_or(1)).expect("few");
        let template = &deployment["spec"]["template"];
        let set = format!("{name}-{}", hash_of(template));
        let (mut new, mut old, mut going) = (Vec::new(), Vec::new(), 0);
        for pod in store.all("pods") {
            let owner = text(&pod, "/metadata/ownerReferences/0/name").to_owned();
            if owner.rsplit_once('-').map(|(stem, _)| stem) != Some(name) {
                continue;
            }
            if pod["metadata"]["deletionTimestamp"].is_string() {
                going += 1;
            } else if owner == set {
                new.push(pod);
            } else {
                old.push(pod);
            }
        }
        let is_ready = |pod: &&Arc<Value>| text(pod, "/status/conditions/0/status") == "True";
        let ready = |pods: &[Arc<Value>]| pods.iter().filter(is_ready).count();
        let surge = usize::from(!old.is_empty());
        let mut more = going > 0;
        if new.len() < wanted && new.len() + old.len() < wanted + surge {
            self.create_pod(store, deployment, &set);
            more = true;
        } else if let Some(pod) = old.iter().find(|pod| !is_ready(pod)).or(old.first()).or(new.first())
            && (ready(&new) + ready(&old) > wanted || new.len() > wanted || fails(pod) && !old.is_empty())
        {
            let name = text(pod, "/metadata/name");
            store.ask(Verb::Delete, "pods", (namespace, name, ""), &json!({}));
            if let Some(life) = self.lives.get_mut(name) {
                life.ending = Some(now + UNTIL_GONE);
            }
            more = true;
        }
        let status = json!({
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": new.len() + old.len(), "updatedReplicas": new.len(),
            "readyReplicas": ready(&new) + ready(&old), "availableReplicas": ready(&new) + ready(&old),
        });
        if deployment["status"] != status {
            store.ask(Verb::MergePatch, "deployments", (namespace, name, "status"), &json!({ "status": status }));
        }
        more
    }

    fn create_pod(&mut self, store: &Store, deployment: &Value, set: &str) {
        self.made += 1;
        let namespace = text(deployment, "/metadata/namespace");
        let template = &deployment["spec"]["template"];
        let owner = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": set, "uid": format!("uid-of-{set}"),
            "controller": true,
        });
        let pod = json!({
            "metadata": {
                "name": format!("{set}-{}", self.made),
                "labels": template["metadata"]["labels"],
                "annotations": template["metadata"]["annotations"],
                "ownerReferences": [owner],
                // Stands for the grace period: while it is there, so is the pod.
                "finalizers": ["kubelet/grace-period"],
            },
            "spec": template["spec"],
        });
        store.ask(Verb::Create, "pods", (namespace, "", ""), &pod).granted();
    }
}

/// Deletes the Secrets whose BotSecret is gone.
fn collect_garbage(store: &Store) {
    let alive: Vec<_> = store.all("botsecrets").iter().map(|one| text(one, "/metadata/uid").to_owned()).collect();
    for secret in store.all("secrets") {
        let owners = secret["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        let mut owners = owners.map(|owner| text(owner, "/uid")).peekable();
        if owners.peek().is_some() && !owners.any(|uid| alive.iter().any(|one| one == uid)) {
            let (namespace, name) = (text(&secret, "/metadata/namespace"), text(&secret, "/metadata/name"));
            store.ask(Verb::Delete, "secrets", (namespace, name, ""), &json!({}));
        }
    }
}

/// Whether its process does not stay alive.
fn fails(pod: &Value) -> bool {
    pod["status"]["containerStatuses"][0]["restartCount"].is_number()
}

fn hash_of(template: &Value) -> String {
    // The same for every run of a program, which is all that is asked of it.
    let mut hasher = DefaultHasher::new();
    template.to_string().hash(&mut hasher);
    format!("{:010x}", hasher.finish() & 0xff_ffff_ffff)
}
