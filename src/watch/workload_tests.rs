//! What is read from workloads.

use serde_json::{Value, json};

use super::{Progress, WorkloadFacts, WorkloadView};
use crate::{
    api::WorkloadKind,
    watch::{RolloutView, UpdateStrategy},
};

fn rollout(spec: &Value, status: &Value) -> WorkloadFacts {
    let view = json!({
        "metadata": { "name": "r", "namespace": "n", "generation": 12 }, "spec": spec, "status": status,
    });
    serde_json::from_value::<RolloutView>(view).expect("a Rollout").facts()
}

#[test]
fn a_rollout_stands_where_argo_rollouts_says_once_it_has_seen_the_template() {
    let progress = |observed: &str, phase: &str, available: i32| {
        let status = json!({ "observedGeneration": observed, "phase": phase, "availableReplicas": available });
        rollout(&json!({ "replicas": 2 }), &status).progress
    };
    let none = Progress { settled: false, serving: true, failed: false };
    assert_eq!(progress("12", "Healthy", 2), Progress { settled: true, ..none });
    // As text "9" would come after "12".
    assert_eq!(progress("9", "Healthy", 2), none, "of the template before");
    assert_eq!(progress("12", "Progressing", 2), none);
    assert_eq!(progress("12", "Degraded", 1), Progress { serving: false, failed: true, ..none });
    assert_eq!(progress("9", "Degraded", 2), none, "of the template before");
    assert_eq!(progress("5f9c7b", "Healthy", 2), Progress { settled: true, ..none }, "of a controller before 0.10");
    let unseen = rollout(&json!({}), &json!({}));
    assert_eq!((unseen.progress, unseen.id.kind), (Progress::default(), WorkloadKind::Rollout));
    assert_eq!(unseen.strategy, UpdateStrategy::Automatic);
}

#[test]
fn a_rollout_is_paused_by_its_spec_or_by_a_step_until_somebody_resumes_it() {
    let paused = |spec: Value, observed: &str, conditions: Value| {
        let status = json!({ "observedGeneration": observed, "phase": "Paused", "pauseConditions": conditions });
        rollout(&spec, &status).paused
    };
    let step = || json!([{ "reason": "CanaryPauseStep", "startTime": "2026-01-01T00:00:00Z" }]);
    assert!(paused(json!({ "paused": true }), "12", Value::Null));
    assert!(paused(json!({}), "12", step()));
    assert!(!paused(json!({}), "12", json!([])), "resumed");
    assert!(!paused(json!({}), "11", step()), "on the template before");
}

#[test]
fn a_rollout_that_takes_the_template_of_another_object_names_it() {
    let reference = json!({ "workloadRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "d" } });
    let facts = rollout(&reference, &json!({}));
    let from = facts.template_from.expect("a reference");
    assert_eq!((from.kind.as_str(), from.name.as_str(), from.uid.as_str()), ("Deployment", "d", ""));
    assert!(facts.uses.is_empty());
    assert!(rollout(&json!({}), &json!({})).template_from.is_none());
}
