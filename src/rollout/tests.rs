//! What is decided from one fresh read.

use serde_json::{Value, json};

use super::{PodView, Requirement, Step, WorkloadState, decide, holds_older, required};
use crate::{
    api::State,
    watch::{DeploymentView, WorkloadFacts, WorkloadView},
};

const SECRET: &str = "price-bot";
const MARKER: &str = "rollout.botsecret.dev/price-bot";

/// Revision 105 of a sequence that began at 100; key A changed with it, at
/// 12:00:10, and B with 103.
fn state() -> State {
    let state = json!({
        "digest_key": "k", "revision": "105.k.f105", "since": null, "digests": { "A": "a", "B": "b", "C": "c" }, "settled": true,
        "changed": {
            "A": { "revision": "105.k.f105", "at": "2026-01-01T12:00:10Z" },
            "B": { "revision": "103.k.f103", "at": "2026-01-01T12:00:05Z" },
        },
    });
    State::parse(&state.to_string()).expect("a state")
}

fn uses(key: &str) -> Value {
    json!([{ "name": "c", "env": [{ "name": "X", "valueFrom": { "secretKeyRef": { "name": SECRET, "key": key } } }] }])
}

fn pod(second: u32, changes: impl FnOnce(&mut Value)) -> super::PodFacts {
    let mut pod = json!({
        "metadata": { "name": "p", "creationTimestamp": format!("2026-01-01T12:00:{second:02}Z"), "annotations": {} },
        "spec": { "nodeName": "node-1", "containers": uses("A") },
        "status": { "phase": "Running" },
    });
    changes(&mut pod);
    serde_json::from_value::<PodView>(pod).expect("a pod").facts()
}

fn deployment(marker: Option<&str>) -> WorkloadFacts {
    let annotations = marker.map_or(json!({}), |marker| json!({ MARKER: marker }));
    let view: DeploymentView = serde_json::from_value(json!({
        "metadata": { "name": "d", "namespace": "n", "uid": "u", "resourceVersion": "7" },
        "spec": { "template": { "metadata": { "annotations": annotations }, "spec": { "containers": uses("A") } } },
    }))
    .expect("a Deployment");
    view.facts()
}

fn requirement() -> Requirement {
    required(&state(), deployment(None).uses(SECRET)).expect("key A changed")
}

fn is_older(pod: &super::PodFacts) -> bool {
    holds_older(pod, SECRET, &state(), true)
}

fn decided(marker: Option<&str>, pods: &[super::PodFacts], patches: i32) -> Step {
    decide(&deployment(marker), pods, SECRET, &requirement(), &state(), true, patches)
}

#[test]
fn p3_a_pod_may_hold_the_old_value_if_it_began_in_the_second_of_the_write_or_before() {
    assert!(is_older(&pod(9, |_| {})));
    assert!(is_older(&pod(10, |_| {})), "it may have been first");
    assert!(!is_older(&pod(11, |_| {})));
    assert!(
        is_older(&pod(9, |pod| pod["metadata"]["deletionTimestamp"] = "2026-01-01T12:01:00Z".into())),
        "Terminating, it lives"
    );
    assert!(!is_older(&pod(9, |pod| pod["status"]["phase"] = "Failed".into())));
    assert!(!is_older(&pod(9, |pod| pod["spec"]["containers"] = json!([{ "name": "c" }]))), "it uses no Secret");
}

#[test]
fn p3_a_pod_whose_status_lags_behind_what_its_node_has_read_counts_as_old() {
    let waiting = json!([{ "name": "c", "state": { "waiting": { "reason": "ContainerCreating" } } }]);
    assert!(is_older(&pod(9, |pod| pod["status"] = json!({ "phase": "Pending", "containerStatuses": waiting }))));
    assert!(
        !is_older(&pod(9, |pod| drop(pod["spec"].as_object_mut().expect("a spec").remove("nodeName")))),
        "without a node nothing was read"
    );
}

#[test]
fn p3_a_marker_shows_what_a_pod_holds_unless_it_is_of_another_sequence() {
    let marked = |marker: &str| pod(10, |pod| pod["metadata"]["annotations"][MARKER] = marker.into());
    assert!(!is_older(&marked("105.k.f105")));
    for foreign in ["105.k.other", "104.k.f104", "900.x.y", "nonsense", ""] {
        assert!(is_older(&marked(foreign)), "{foreign}");
    }
    // One that was handed the next revision, judged by a key of an older one.
    let by_b = |marker: &str| {
        pod(5, |pod| {
            pod["metadata"]["annotations"][MARKER] = marker.into();
            pod["spec"]["containers"] = uses("B");
        })
    };
    assert!(!is_older(&by_b("103.k.f103")) && !is_older(&by_b("104.k.f104")) && !is_older(&by_b("105.k.f105")));
    assert!(is_older(&by_b("106.k.f106")));
}

#[test]
fn p3_a_workload_is_patched_once_and_once_more_where_that_was_undone_and_never_again() {
    let old = [pod(9, |_| {}), pod(20, |_| {})];
    assert_eq!(decided(None, &old, 0), Step::Patch(1));
    assert_eq!(decided(Some("105.k.f105"), &old, 1), Step::Report(WorkloadState::Rolling));
    assert_eq!(decided(None, &old, 1), Step::Patch(2));
    assert_eq!(decided(None, &old, 2), Step::Report(WorkloadState::Reverted));
    assert_eq!(decided(None, &[pod(20, |_| {})], 2), Step::Report(WorkloadState::RolledOut));
    assert_eq!(decided(None, &[], 0), Step::Report(WorkloadState::RolledOut));
    assert_eq!(decided(Some("900.x.y"), &old, 0), Step::Patch(1), "a copied marker is no delivery");
}

#[test]
fn p3_old_pods_that_are_on_their_way_out_are_waited_for_and_not_rolled() {
    let leaving = [pod(9, |pod| pod["metadata"]["deletionTimestamp"] = "2026-01-01T12:01:00Z".into()), pod(20, |_| {})];
    assert_eq!(decided(None, &leaving, 0), Step::Report(WorkloadState::Rolling));
    assert_eq!(decided(None, &leaving, 2), Step::Report(WorkloadState::Rolling));
}

/// Revision 106, at 12:00:30, brought back what pods that began before 12:00:10
/// hold.
fn taken_back() -> State {
    let state = json!({
        "digest_key": "k", "revision": "106.k.f104", "since": null, "digests": { "A": "a" }, "settled": true,
        "changed": { "A": { "revision": "106.k.f104", "at": "2026-01-01T12:00:30Z", "same_before": "2026-01-01T12:00:10Z" } },
    });
    State::parse(&state.to_string()).expect("a state")
}

#[test]
fn p3_a_value_that_comes_back_rolls_those_that_may_hold_the_failed_one_and_nobody_else() {
    let holds_failed = |pod: &super::PodFacts| holds_older(pod, SECRET, &taken_back(), true);
    assert!(!holds_failed(&pod(9, |_| {})), "it began with the value that came back");
    assert!(holds_failed(&pod(10, |_| {})), "it may have begun with the failed one");
    assert!(holds_failed(&pod(30, |_| {})));
    assert!(!holds_failed(&pod(31, |_| {})));
    let marked = pod(20, |pod| pod["metadata"]["annotations"][MARKER] = "105.k.f105".into());
    assert!(holds_failed(&marked), "it was handed the failed one");
    let started = |restarts: i32, at: &str| {
        let containers =
            json!([{ "name": "c", "restartCount": restarts, "state": { "running": { "startedAt": at } } }]);
        pod(9, |pod| pod["status"]["containerStatuses"] = containers)
    };
    assert!(holds_failed(&started(1, "2026-01-01T12:00:20Z")), "a container is given the Secret of its own start");
    assert!(!holds_failed(&started(0, "2026-01-01T12:00:20Z")), "a slow first start");
    assert!(!holds_failed(&started(3, "2026-01-01T11:50:00Z")));
    assert!(!holds_failed(&started(3, "2026-01-01T12:10:00Z")), "it was started with what came back");
}
