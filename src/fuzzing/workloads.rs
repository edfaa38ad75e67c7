//! Workloads and pods as somebody else writes them, and what a rollout makes of them.

use std::sync::LazyLock;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    api::{KeyChange, Revision, State, marker_annotation},
    rollout::{self, Delivery, Health, Patience, PodFacts, PodView, Requirement, Step, holds_older, required},
    watch::{DaemonSetView, DeploymentView, RolloutView, StatefulSetView, WorkloadFacts, WorkloadView},
};

/// The Secret whose key `A` changed.
const SECRET: &str = "db";

static STATE: LazyLock<State> = LazyLock::new(|| {
    let revision = Revision { number: 3, key: "5f2a".to_owned(), fingerprint: "9c81".to_owned() };
    let change = KeyChange {
        revision: revision.clone(),
        at: "2026-01-01T00:00:00Z".parse().expect("a time"),
        initial: false,
        added: false,
        same_before: Some("2025-12-31T00:00:00Z".parse().expect("a time")),
    };
    State {
        digest_key: "5f2a".to_owned(),
        revision,
        digests: [("A".to_owned(), "x".to_owned())].into(),
        changed: [("A".to_owned(), change)].into(),
        settled: true,
        ..State::default()
    }
});

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cluster {
    workload: Value,
    pods: Vec<Value>,
}

/// A workload in JSON, as one of each kind, and its pods.
pub(super) fn workloads(input: &[u8]) {
    let Ok(Cluster { workload, pods }) = serde_json::from_slice(input) else { return };
    let pods = pods.iter().filter_map(|pod| PodView::deserialize(pod).ok());
    let pods: Vec<PodFacts> = pods.map(|pod| pod.facts()).collect();
    decided::<DeploymentView>(&workload, &pods);
    decided::<StatefulSetView>(&workload, &pods);
    decided::<DaemonSetView>(&workload, &pods);
    decided::<RolloutView>(&workload, &pods);
}

fn decided<V: WorkloadView>(workload: &Value, pods: &[PodFacts]) {
    let Ok(view) = V::deserialize(workload) else { return };
    let facts = view.facts();
    assert_eq!(facts.id.kind, V::KIND);
    let secrets: Vec<&str> = facts.uses.iter().map(|used| used.secret.as_str()).collect();
    assert!(secrets.is_sorted_by(|one, next| one < next), "{secrets:?}");
    for delivery in facts.records.values().filter_map(|record| Delivery::parse(record)) {
        assert_eq!(Delivery::parse(&delivery.to_annotation()), Some(delivery));
    }
    for by_use in [true, false] {
        if let Some(requirement) = required(&STATE, facts.uses(SECRET).filter(|_| by_use)) {
            rolled(&facts, pods, &requirement, by_use);
        }
    }
    judged(&facts, pods);
}

/// It is patched only for pods that may hold the old value, never again once it bears
/// the marker, and no third time.
fn rolled(facts: &WorkloadFacts, pods: &[PodFacts], requirement: &Requirement, by_use: bool) {
    let holds = |pod: &&PodFacts| holds_older(pod, SECRET, &STATE, by_use);
    let marked = facts.markers.get(&marker_annotation(SECRET)).is_some_and(|marker| requirement.met_by(marker));
    for patches in [0, 1, 2, i32::MAX] {
        let step = rollout::decide(facts, pods, SECRET, requirement, &STATE, by_use, patches);
        if let Step::Patch(number) = step {
            assert!(!marked && !facts.deleting && (1..=2).contains(&number), "patch {number}");
            assert!(pods.iter().filter(holds).any(|pod| !pod.terminating), "nobody holds the old value");
        }
    }
    for pod in pods.iter().filter(holds) {
        assert!(pod.scheduled && !pod.finished);
    }
}

/// It is well, or watched, only if it and all of its pods are up.
fn judged(facts: &WorkloadFacts, pods: &[PodFacts]) {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    let hour = SignedDuration::from_hours(1);
    let patience = Patience { rolled_at: start, new_since: Some(start), deadline: hour, watched_for: hour };
    for now in [start, Timestamp::MAX] {
        if matches!(rollout::health(facts, pods, patience, now), Health::Well | Health::Watched(_)) {
            assert!(facts.progress.settled && !facts.progress.failed && pods.iter().all(|pod| pod.health.ready));
        }
    }
    let _ = rollout::was_ill(facts, pods);
}
