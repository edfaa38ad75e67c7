//! What kstatus, and so Flux, makes of the same statuses. docs/gitops.md says it in words.

use botsecret::{report::Reason, rollout::WorkloadState};
use serde_json::Value;

use crate::statuses::{after, failed, seen, shown, suspended, synced, taken_back, trying, with};

/// As `status.Compute` does (kubernetes-sigs/cli-utils, pkg/kstatus/status) for a kind
/// that it has no rules of its own for: the first of Reconciling and Stalled decides.
pub fn kstatus(object: &Value) -> &'static str {
    if object["metadata"]["deletionTimestamp"].is_string() {
        return "Terminating";
    }
    let observed = &object["status"]["observedGeneration"];
    if observed.is_i64() && *observed != object["metadata"]["generation"] {
        return "InProgress";
    }
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    for condition in conditions.iter().filter(|condition| condition["status"] == "True") {
        if condition["type"] == "Reconciling" {
            return "InProgress";
        }
        if condition["type"] == "Stalled" {
            return "Failed";
        }
    }
    match conditions.iter().find(|condition| condition["type"] == "Ready").map(|ready| &ready["status"]) {
        Some(status) if status != "True" => "InProgress",
        _ => "Current",
    }
}

#[test]
fn p9_kstatus_reads_what_is_done_what_is_on_its_way_and_what_waits_for_somebody() {
    let rolling = [WorkloadState::Rolling];
    let halted = [WorkloadState::Failed];
    for (outcomes, wanted) in [
        (vec![synced()], "Current"),
        (vec![synced(), failed(Reason::StoreUnavailable, false)], "Current"),
        (vec![with(synced(), &[WorkloadState::RolledOut])], "Current"),
        (vec![with(synced(), &[WorkloadState::Paused])], "Current"),
        (vec![with(synced(), &[WorkloadState::Missing])], "Current"),
        (vec![with(synced(), &rolling)], "InProgress"),
        (vec![with(synced(), &[WorkloadState::Waiting])], "InProgress"),
        (vec![trying()], "InProgress"),
        (vec![synced(), trying()], "InProgress"),
        (vec![failed(Reason::StoreUnavailable, true)], "InProgress"),
        (vec![failed(Reason::AccessDenied, true)], "Failed"),
        (vec![synced(), failed(Reason::CandidateRejected, false)], "Failed"),
        (vec![with(synced(), &rolling), with(synced(), &halted)], "Failed"),
        (vec![synced(), taken_back()], "Failed"),
        (vec![with(synced(), &rolling), failed(Reason::AccessDenied, false)], "Failed"),
        (vec![with(synced(), &[WorkloadState::Reverted])], "Failed"),
        (vec![synced(), suspended()], "InProgress"),
        (vec![failed(Reason::AccessDenied, true), synced()], "Current"),
    ] {
        assert_eq!(kstatus(&seen(&outcomes)), wanted, "{outcomes:?}");
    }
    let mut leaving = seen(&[synced()]);
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    assert_eq!(kstatus(&leaving), "Terminating");
}

#[test]
fn p9_kstatus_takes_no_word_on_an_earlier_generation() {
    for outcome in [synced(), failed(Reason::AccessDenied, true), with(synced(), &[WorkloadState::Rolling])] {
        assert_eq!(kstatus(&shown(2, None, Some(&after(&[outcome])))), "InProgress");
    }
}
