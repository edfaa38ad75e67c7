//! What must be so after every run.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use serde_json::{Value, json};

use super::{
    clock,
    faults::LATE,
    store::{Actor, Revision},
    world::{
        Act, BOT_SECRET, DEPLOYMENTS, IDLE_FROM, NAMESPACE, Scenario, Start, World, data_of,
        manager::Fields,
        script::{DELETED_AT, LAST_PATH},
    },
};

/// Where the value before is kept while a rotation that may be taken back lasts.
const PREVIOUS: &str = "price-bot-previous";
/// Where a value that is made here is kept until it is at its source.
const NEXT: &str = "price-bot-next";

/// When the last writes for a BotSecret that is deleted are made: from its rotation on,
/// until the last that was under way is given up.
const LATEST_OF_THE_GONE: Range<Duration> = Duration::from_secs(100)..Duration::from_secs(145);

/// What came of a run, as far as two runs must agree on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Which of the manager's versions the Secret holds, and how many there are.
    pub version: (Option<usize>, usize),
    /// How far the Secret's revision is beyond its first, and its fingerprint, where
    /// that is the same in every run.
    pub revision: Option<(u64, String)>,
    /// By Deployment: the template's annotations, revisions as above.
    pub templates: BTreeMap<String, BTreeMap<String, Option<(u64, String)>>>,
    /// By Deployment: how often the operator changed its template, as far as
    /// that is [counted](Scenario::counted_from).
    pub rollouts: BTreeMap<String, usize>,
    /// What the status says of the rollout: whether it is complete, and of each
    /// workload the state and the patches.
    pub record: String,
    /// By Deployment: how many pods were started, since then.
    pub starts: BTreeMap<String, usize>,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub settled: Settled,
    /// What is wrong, whatever other runs came to.
    pub wrong: Vec<String>,
}

impl Outcome {
    pub fn of(world: &World) -> Self {
        let revisions = world.store.revisions();
        let base = first_revision(&revisions, world.scenario.made_at());
        let from = world.scenario.counted_from();
        let relative = |text: &str| {
            let mut parts = text.splitn(2, '.');
            let number: u64 = parts.next()?.parse().ok()?;
            let fingerprint = parts.next()?;
            // Of what is issued once more, the number is another.
            let is_random = world.scenario == Scenario::Made || world.scenario.is_leased();
            Some((number.checked_sub(base?)?, if is_random { String::new() } else { fingerprint.to_owned() }))
        };
        let secret = world.store.get("secrets", NAMESPACE, BOT_SECRET);
        let revision = secret.as_deref().and_then(revision_of).and_then(|text| relative(&text));
        let mut templates = BTreeMap::new();
        for name in DEPLOYMENTS {
            let deployment = world.store.get("deployments", NAMESPACE, name).expect("nobody deletes it");
            let annotations = &deployment["spec"]["template"]["metadata"]["annotations"];
            let annotations = annotations.as_object().into_iter().flatten();
            let annotations = annotations.map(|(name, value)| (name.clone(), value.as_str().and_then(relative)));
            templates.insert(name.to_owned(), annotations.collect());
        }
        let count = |counts: &dyn Fn(&str) -> usize| -> BTreeMap<String, usize> {
            DEPLOYMENTS.iter().map(|name| ((*name).to_owned(), counts(name))).collect()
        };
        let starts = &world.controllers.starts;
        let settled = Settled {
            version: version(world),
            revision,
            templates,
            rollouts: count(&|name| revisions.iter().filter(|one| one.at >= from && rolls(one, name)).count()),
            record: record(world),
            starts: count(&|name| starts.iter().filter(|one| one.at >= from && one.deployment == name).count()),
        };
        let mut wrong = Vec::new();
        judge_secret(world, &revisions, &mut wrong);
        judge_pods(world, starts, &mut wrong);
        judge_rest(world, &revisions, &mut wrong);
        if world.scenario.is_leased() {
            judge_leases(world, &revisions, &mut wrong);
        }
        Self { settled, wrong }
    }

    /// What is wrong with this run, where that one went without a fault.
    pub fn violations(&self, faultless: &Settled) -> Vec<String> {
        let mut wrong = self.wrong.clone();
        let (is, was) = (&self.settled, faultless);
        let mut compare = |what: &str, is: String, was: String| {
            if is != was {
                wrong.push(format!("{what}: {is}, without a fault {was}"));
            }
        };
        compare("version held, and made", format!("{:?}", is.version), format!("{:?}", was.version));
        compare("revision", format!("{:?}", is.revision), format!("{:?}", was.revision));
        compare("template annotations", format!("{:?}", is.templates), format!("{:?}", was.templates));
        compare("rollout patches", format!("{:?}", is.rollouts), format!("{:?}", was.rollouts));
        compare("status.rollout", is.record.clone(), was.record.clone());
        compare("pods started", format!("{:?}", is.starts), format!("{:?}", was.starts));
        wrong
    }
}

fn record(world: &World) -> String {
    let object = world.store.get("botsecrets", NAMESPACE, BOT_SECRET).expect("nobody deletes it");
    let rollout = &object["status"]["rollout"];
    let workloads = rollout["workloads"].as_array().into_iter().flatten();
    let workloads: Vec<_> =
        workloads.map(|one| format!("{} {} {}", one["name"], one["state"], one["patches"])).collect();
    format!("complete: {}, {workloads:?}", rollout["complete"])
}

/// Which version the Secret holds, and how many were made; of credentials that are
/// issued, whether it lives.
fn version(world: &World) -> (Option<usize>, usize) {
    let held = world.secret();
    if !world.scenario.is_leased() {
        return (held.and_then(|data| world.manager.number_of(&data)), world.manager.version());
    }
    let found = held.and_then(|data| world.manager.leases.find(&data));
    (found.map(|(_, ends)| usize::from(ends > clock::elapsed())), 0)
}

/// P7: what is issued lives as long as anybody may hold it and no longer, and
/// nothing is issued that nobody asked for.
fn judge_leases(world: &World, revisions: &[Revision], wrong: &mut Vec<String>) {
    let leases = &world.manager.leases;
    let held = world.secret().and_then(|data| leases.find(&data));
    if held.as_ref().is_none_or(|(path, _)| path != LAST_PATH) {
        wrong.push(format!("P11: the Secret holds what {held:?} issued"));
    }
    if leases.alive() != 1 {
        wrong.push(format!("P7: {} credentials live at the end", leases.alive()));
    }
    // One for each path and each request, and one for each that was cut off.
    let most = 5 + world.fired();
    if leases.issued() > most {
        wrong.push(format!("P7: {} credentials were issued, {most} are explained", leases.issued()));
    }
    if leases.lapsed() > world.fired() {
        wrong.push(format!("P7: {} credentials were left to end by themselves", leases.lapsed()));
    }
    for start in &world.controllers.starts {
        let Some((_, ends)) = leases.find(&start.held) else { continue };
        let is_it = |one: &&Revision| one.key.plural == "pods" && one.key.name == start.pod && one.deleted;
        let gone = revisions.iter().find(is_it).map_or_else(clock::elapsed, |one| one.at);
        // Who deletes a BotSecret ends its credentials, whoever holds them.
        if (DELETED_AT..world.scenario.made_at()).contains(&ends) {
            continue;
        }
        if ends <= start.at {
            wrong.push(format!("P7: pod {} started with a credential that had ended", start.pod));
        } else if ends < gone {
            wrong.push(format!("P7: a credential ended at {ends:?} while pod {} held it until {gone:?}", start.pod));
        }
    }
}

/// P1: written whole, never lost.
fn judge_secret(world: &World, revisions: &[Revision], wrong: &mut Vec<String>) {
    if !world.scenario.is_leased() && world.secret() != Some(world.manager.newest()) {
        wrong.push("P11: the Secret does not hold what the manager holds".to_owned());
    }
    let holds = |name| world.store.get("secrets", NAMESPACE, name).is_some_and(|secret| !data_of(&secret).is_empty());
    if holds(PREVIOUS) {
        wrong.push("P11: the value before is kept for ever".to_owned());
    }
    if holds(NEXT) {
        wrong.push("P11: a value that was made is kept for ever".to_owned());
    }
    let is_whole = |data: &Fields| is_whole(world, data);
    let by_script = world.scenario.script().iter().any(|(_, act)| *act == Act::DeleteSecret);
    // Collected after its BotSecret.
    let is_collected = |one: &Revision| world.scenario == Scenario::Deleted && is_of_another(world, &one.after);
    for one in revisions.iter().filter(|one| one.key.plural == "secrets" && one.key.namespace == NAMESPACE) {
        if one.key.name == PREVIOUS && world.scenario.bad_version().is_some() {
            let data = data_of(&one.after);
            if !one.deleted && !data.is_empty() && !is_whole(&data) {
                wrong.push(format!("P1: the value before was half kept at {:?}", one.at));
            }
        } else if one.key.name == NEXT && world.scenario == Scenario::Made {
            // What it holds is proved by what arrives at the manager.
        } else if one.key.name != BOT_SECRET {
            wrong.push(format!("P5: Secret {} was written", one.key.name));
        } else if one.deleted && !(one.by == Actor::World && (by_script || is_collected(one))) {
            wrong.push(format!("P1: the Secret was deleted at {:?}", one.at));
        } else if !one.deleted && !is_whole(&data_of(&one.after)) {
            wrong.push(format!("P1: the Secret was half written at {:?}", one.at));
        }
    }
}

/// Whether the manager ever gave this, as a whole.
fn is_whole(world: &World, data: &Fields) -> bool {
    match world.scenario {
        Scenario::Leased | Scenario::Deleted => world.manager.leases.find(data).is_some(),
        _ => world.manager.number_of(data).is_some(),
    }
}

/// P3, by pods: each started with whole values, and each that is left holds
/// the newest.
fn judge_pods(world: &World, starts: &[Start], wrong: &mut Vec<String>) {
    for start in starts.iter().filter(|start| !is_whole(world, &start.held)) {
        wrong.push(format!("P1: pod {} started with a half-written value", start.pod));
    }
    let newest = match world.scenario {
        Scenario::Leased | Scenario::Deleted => world.secret().unwrap_or_default(),
        _ => world.manager.newest(),
    };
    for pod in world.store.all("pods") {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        match starts.iter().find(|start| start.pod == name) {
            Some(start) if start.held == newest => {}
            Some(_) => wrong.push(format!("P3: pod {name} still holds an old value")),
            None => wrong.push(format!("P11: pod {name} never started")),
        }
    }
}

/// P2 and P9: at rest nothing is written, and the status says that all is well.
fn judge_rest(world: &World, revisions: &[Revision], wrong: &mut Vec<String>) {
    for one in revisions.iter().filter(|one| one.by == Actor::Operator && one.at >= IDLE_FROM) {
        wrong.push(format!("P2: {} {} was written at rest, at {:?}", one.key.plural, one.key.name, one.at));
    }
    // Who wrote it has given it up and done it anew: it is to be refused.
    // For a BotSecret that is gone nobody does it anew: a workload may restart once
    // more, and a Secret that is created goes with the owner that it names.
    let is_of_the_gone = |one: &&Revision| {
        let came = (DELETED_AT..world.scenario.made_at()).contains(&one.at)
            || LATEST_OF_THE_GONE.contains(&one.at.saturating_sub(LATE));
        let made = one.key.plural == "secrets" && one.before.is_none() && is_of_another(world, &one.after);
        world.scenario == Scenario::Deleted && came && (one.key.plural == "deployments" || made)
    };
    let late = revisions.iter().filter(|one| one.by == Actor::Late && one.key.plural != "events");
    for one in late.filter(|one| !is_of_the_gone(one)) {
        wrong.push(format!("P3: a late write of {} {} took effect", one.key.plural, one.key.name));
    }
    let object = world.store.get("botsecrets", NAMESPACE, BOT_SECRET).expect("nobody deletes it");
    if object["status"]["observedGeneration"] != object["metadata"]["generation"] {
        wrong.push("P9: the status is of an older generation".to_owned());
    }
    let emergency = &object["status"]["emergency"];
    if matches!(world.scenario, Scenario::Made | Scenario::Leased)
        && (&emergency["id"], &emergency["phase"]) != (&json!("last"), &json!("RolledOut"))
    {
        wrong.push(format!("P9: what was wanted at once ended as {emergency}"));
    }
    for type_ in ["Ready", "RolledOut"] {
        let conditions = object["status"]["conditions"].as_array();
        let is = conditions.into_iter().flatten().find(|one| one["type"] == type_).map(|one| &one["status"]);
        if is.and_then(Value::as_str) != Some("True") {
            wrong.push(format!("P9: {type_} is {is:?} at the end"));
        }
    }
}

/// Whether it belongs to a BotSecret that is not the one that is there at the end.
fn is_of_another(world: &World, secret: &Value) -> bool {
    let living = world.store.get("botsecrets", NAMESPACE, BOT_SECRET).expect("it is there at the end");
    let owners: Vec<_> = secret["metadata"]["ownerReferences"].as_array().into_iter().flatten().collect();
    !owners.is_empty() && owners.iter().all(|owner| owner["uid"] != living["metadata"]["uid"])
}

/// Whether the operator changed this Deployment's template here.
fn rolls(one: &Revision, name: &str) -> bool {
    let template = |object: &Value| object["spec"]["template"].clone();
    one.by == Actor::Operator
        && one.key.plural == "deployments"
        && one.key.name == name
        && one.before.as_deref().map(template) != Some(template(&one.after))
}

fn revision_of(secret: &Value) -> Option<String> {
    let state: Value = serde_json::from_str(secret["metadata"]["annotations"]["botsecret.dev/state"].as_str()?).ok()?;
    state["revision"].as_str().map(str::to_owned)
}

/// Where the sequence of revisions begins: at the second of the first write.
fn first_revision(revisions: &[Revision], made_at: Duration) -> Option<u64> {
    let is_it = |one: &&Revision| one.key.plural == "secrets" && one.key.name == BOT_SECRET && one.at >= made_at;
    let first = revisions.iter().find(is_it)?;
    revision_of(&first.after)?.split('.').next()?.parse().ok()
}
