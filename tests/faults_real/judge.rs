//! What must be so after every run.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{
    front::Write,
    scene::{BOT_SECRET, DEPLOYMENTS, DRIFT, Data, Scene, VERSIONS},
    support::history::Seen,
};

/// What is judged.
pub struct Evidence {
    /// Each revision that the namespace's Secrets and Deployments ever had.
    pub secrets: Vec<Seen>,
    pub deployments: Vec<Seen>,
    /// As they are at the end.
    pub bot_secret: Value,
    pub replica_sets: Vec<Value>,
    pub pods: Vec<Value>,
    pub writes: Vec<Write>,
}

/// How a Deployment was rolled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rolled {
    /// How often its template changed.
    templates: usize,
    /// How many ReplicaSets it has had.
    replica_sets: usize,
    /// How its controller counts them.
    counted: String,
    /// How many patches of the operator's the API server took.
    patches: usize,
    /// The template's annotations: which bears the Secret's own revision.
    annotations: BTreeMap<String, bool>,
}

/// What came of a run, as far as two runs must agree on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// What the Secret held, one after another.
    held: Vec<String>,
    /// How far its revision is beyond its first.
    revisions: Option<u64>,
    rolled: BTreeMap<&'static str, Rolled>,
    /// What the status says of the rollout.
    record: String,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub settled: Settled,
    /// What is wrong, whatever other runs came to.
    pub wrong: Vec<String>,
}

impl Outcome {
    /// What is wrong with this run, where that one went without a fault.
    pub fn violations(&self, faultless: &Settled) -> Vec<String> {
        let mut wrong = self.wrong.clone();
        let (is, was) = (&self.settled, faultless);
        for (what, is, was) in [
            ("what the Secret held", format!("{:?}", is.held), format!("{:?}", was.held)),
            ("its revisions", format!("{:?}", is.revisions), format!("{:?}", was.revisions)),
            ("rollouts", format!("{:?}", is.rolled), format!("{:?}", was.rolled)),
            ("status.rollout", is.record.clone(), was.record.clone()),
        ] {
            if is != was {
                wrong.push(format!("{what}: {is}, without a fault {was}"));
            }
        }
        wrong
    }
}

/// Judges a run, of which so much is known to be wrong already.
pub fn judge(scene: &Scene, evidence: &Evidence, mut wrong: Vec<String>) -> Outcome {
    let history: Vec<_> = evidence.secrets.iter().filter(|seen| seen.name == BOT_SECRET).collect();
    let held = judge_secret(scene, &history, &mut wrong);
    let numbers: Vec<_> = history.iter().filter_map(|seen| number_of(&revision_of(&seen.object)?)).collect();
    let revisions = numbers.first().zip(numbers.last()).and_then(|(first, last)| last.checked_sub(*first));
    judge_pods(evidence, &history, &mut wrong);
    let current = history.last().and_then(|seen| revision_of(&seen.object)).unwrap_or_default();
    if let Some(what) = unsettled(&evidence.bot_secret, &current) {
        wrong.push(format!("P9: {what}"));
    }
    let rolled = DEPLOYMENTS.iter().map(|(name, _)| (*name, rolled(evidence, name, &current))).collect();
    let settled = Settled { held, revisions, rolled, record: record(&evidence.bot_secret) };
    Outcome { settled, wrong }
}

/// P1 and P11: written whole, never lost, never older than before, and at the end
/// what the source holds. Answers what it held, one after another.
fn judge_secret(scene: &Scene, history: &[&Seen], wrong: &mut Vec<String>) -> Vec<String> {
    let mut held: Vec<String> = Vec::new();
    let mut newest = 0;
    for seen in history {
        let data = data_of(&seen.object);
        let edited = data.get("KEY").is_some_and(|value| value == DRIFT.as_bytes());
        let what = match scene.version_of(&data) {
            _ if seen.deleted => "gone".to_owned(),
            Some(version) if version < newest => format!("old version {version}"),
            Some(version) => {
                newest = version;
                version.to_string()
            }
            None if edited => "somebody's edit".to_owned(),
            None => "something half written".to_owned(),
        };
        if what.starts_with("old") || what.starts_with("gone") || what.starts_with("something") {
            wrong.push(format!("P1: the Secret was {what} as of {}", seen.version));
        }
        if held.last() != Some(&what) {
            held.push(what);
        }
    }
    if held.last() != Some(&VERSIONS.to_string()) {
        wrong.push("P11: the Secret does not hold what the source holds".to_owned());
    }
    held
}

/// P3, by pods: each bears a revision that the Secret had, whole; each that is
/// left bears the newest.
fn judge_pods(evidence: &Evidence, history: &[&Seen], wrong: &mut Vec<String>) {
    let known: BTreeSet<_> = history.iter().filter_map(|seen| revision_of(&seen.object)).collect();
    let current = history.last().and_then(|seen| revision_of(&seen.object));
    for set in &evidence.replica_sets {
        let marker = marker_of(&set["spec"]["template"]["metadata"]);
        if marker.as_ref().is_some_and(|marker| !known.contains(marker)) {
            wrong.push(format!("P3: ReplicaSet {} bears a revision that never was", set["metadata"]["name"]));
        }
    }
    let pods = evidence.pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    for pod in pods.filter(|pod| marker_of(&pod["metadata"]) != current) {
        wrong.push(format!("P3: pod {} holds an old value", pod["metadata"]["name"]));
    }
}

fn rolled(evidence: &Evidence, name: &str, current: &str) -> Rolled {
    let history: Vec<_> = evidence.deployments.iter().filter(|seen| seen.name == name).collect();
    let template = |seen: &&Seen| seen.object["spec"]["template"].clone();
    let owned = |set: &&Value| set["metadata"]["ownerReferences"][0]["name"] == name;
    let patch = format!("patch/deployments/{name}");
    let taken = |write: &&Write| write.point.write == patch && write.code.is_some_and(|code| code < 300);
    let last = history.last().map(|seen| &seen.object["metadata"]["annotations"]);
    let counted = last.map(|annotations| annotations["deployment.kubernetes.io/revision"].to_string());
    let annotations = history.last().map(|seen| seen.object["spec"]["template"]["metadata"]["annotations"].clone());
    let annotations = annotations.as_ref().and_then(Value::as_object).into_iter().flatten();
    Rolled {
        templates: history.windows(2).filter(|two| template(&two[0]) != template(&two[1])).count(),
        replica_sets: evidence.replica_sets.iter().filter(owned).count(),
        counted: counted.unwrap_or_default(),
        patches: evidence.writes.iter().filter(taken).count(),
        annotations: annotations.map(|(name, value)| (name.clone(), value == current)).collect(),
    }
}

fn record(object: &Value) -> String {
    let rollout = &object["status"]["rollout"];
    let workloads = rollout["workloads"].as_array().into_iter().flatten();
    let workloads: Vec<_> =
        workloads.map(|one| format!("{} {} {}", one["name"], one["state"], one["patches"])).collect();
    format!("complete: {}, {workloads:?}", rollout["complete"])
}

/// What keeps a BotSecret's status from saying that this revision is delivered.
pub fn unsettled(object: &Value, revision: &str) -> Option<String> {
    let (status, generation) = (&object["status"], &object["metadata"]["generation"]);
    if status["observedGeneration"] != *generation {
        return Some("the status is of an older generation".to_owned());
    }
    for type_ in ["Ready", "RolledOut"] {
        let mut conditions = status["conditions"].as_array().into_iter().flatten();
        let is = conditions.find(|one| one["type"] == type_).and_then(|one| one["status"].as_str());
        if is != Some("True") {
            return Some(format!("{type_} is {is:?}"));
        }
    }
    let rollout = &status["rollout"];
    let of_older = rollout.is_object() && (rollout["revision"] != *revision || rollout["complete"] != true);
    if of_older || status["target"]["revision"] != *revision {
        return Some("the status does not speak of the Secret's revision".to_owned());
    }
    None
}

/// The revision that a Secret says it holds.
pub fn revision_of(secret: &Value) -> Option<String> {
    let state: Value = serde_json::from_str(secret["metadata"]["annotations"]["botsecret.dev/state"].as_str()?).ok()?;
    state["revision"].as_str().map(str::to_owned)
}

fn number_of(revision: &str) -> Option<u64> {
    revision.split('.').next()?.parse().ok()
}

fn marker_of(metadata: &Value) -> Option<String> {
    let marker = &metadata["annotations"][format!("rollout.botsecret.dev/{BOT_SECRET}")];
    marker.as_str().map(str::to_owned)
}

fn data_of(secret: &Value) -> Data {
    let decode = |value: &Value| STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default();
    secret["data"].as_object().into_iter().flatten().map(|(key, value)| (key.clone(), decode(value))).collect()
}
