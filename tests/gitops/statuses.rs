//! The health of every status that the operator can write, by its own code.

use botsecret::{
    api::{BotSecret, BotSecretStatus, TargetStatus, WorkloadStatus},
    plan::Retry,
    report::{Outcome, Problem, Reason, RolloutReport, Rotated, SyncReport, WorkloadReport, rotated, status},
    rollout::WorkloadState,
};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::argo::{Health, act, actions, health};

const WORDS: &str = "what to do";

fn at() -> Timestamp {
    Timestamp::from_second(1).expect("a time")
}

fn object(generation: i64, suspend: Option<bool>, status: Option<&BotSecretStatus>) -> BotSecret {
    serde_json::from_value(json!({
        "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret",
        "metadata": { "name": "bot", "namespace": "trading", "generation": generation, "resourceVersion": "7" },
        "spec": { "serviceAccountName": "bot", "suspend": suspend },
        "status": status,
    }))
    .expect("a BotSecret")
}

/// As the API server gives it.
pub fn shown(generation: i64, suspend: Option<bool>, status: Option<&BotSecretStatus>) -> Value {
    serde_json::to_value(object(generation, suspend, status)).expect("JSON")
}

fn outcome(sync: SyncReport) -> Outcome {
    Outcome { sync, ..Outcome::default() }
}

fn problem(reason: Reason) -> Problem {
    Problem::new(reason, Retry::Slow, WORDS)
}

fn target() -> TargetStatus {
    TargetStatus { name: "bot".into(), uid: "s".into(), revision: "1.a.b".into(), ..TargetStatus::default() }
}

pub fn synced() -> Outcome {
    outcome(SyncReport::Synced(target()))
}

pub fn failed(reason: Reason, stale: bool) -> Outcome {
    outcome(SyncReport::Failed { problem: problem(reason), stale })
}

pub fn trying() -> Outcome {
    outcome(SyncReport::Trying { message: WORDS.to_owned() })
}

pub fn suspended() -> Outcome {
    outcome(SyncReport::Suspended { ended: false })
}

pub fn taken_back() -> Outcome {
    outcome(SyncReport::TakenBack { target: target(), problem: problem(Reason::RolledBack) })
}

/// The same, with workloads in these states.
pub fn with(sync: Outcome, states: &[WorkloadState]) -> Outcome {
    rolled(sync, states, None)
}

fn rolled(sync: Outcome, states: &[WorkloadState], problem: Option<Problem>) -> Outcome {
    let named = || WorkloadStatus { kind: "Deployment".into(), name: "bot".into(), ..WorkloadStatus::default() };
    let report = |state: &WorkloadState| WorkloadReport { status: named(), state: *state, patched: false };
    let workloads = states.iter().map(report).collect();
    let rollout = RolloutReport::Standing { revision: "1.a.b".into(), workloads, rotation: None, problem };
    Outcome { rollout, ..sync }
}

/// The status after these outcomes, one after the other, at generation 1.
pub fn after(outcomes: &[Outcome]) -> BotSecretStatus {
    let next =
        |last: Option<BotSecretStatus>, outcome: &Outcome| Some(status(&object(1, None, last.as_ref()), outcome, at()));
    outcomes.iter().fold(None, next).expect("at least one")
}

/// The object after them.
pub fn seen(outcomes: &[Outcome]) -> Value {
    shown(1, None, Some(&after(outcomes)))
}

fn said(status: &str, reason: Reason, message: &str) -> Health {
    Health { status: status.to_owned(), message: format!("{reason}: {message}") }
}

fn begins(found: &Health, status: &str, message: &str) {
    assert!(found.status == status && found.message.starts_with(message), "{status}, {message}: {found:?}");
}

#[test]
fn p9_what_keeps_the_secret_from_being_true_is_degraded_unless_it_ends_by_itself() {
    use Reason::{CandidatePending, StaleRead, TargetTerminating};
    for reason in Reason::ALL {
        for before in [vec![], vec![synced()]] {
            let outcomes = [before, vec![failed(reason, true)]].concat();
            let ends = matches!(reason, CandidatePending | StaleRead | TargetTerminating);
            let wanted = if ends { "Progressing" } else { "Degraded" };
            assert_eq!(health(&seen(&outcomes)), said(wanted, reason, WORDS));
        }
    }
}

#[test]
fn p9_a_rollout_is_progressing_until_it_is_done_or_somebody_must_act() {
    use Reason::{Reverted, RolloutHalted, RolloutRefused, WaitingForWorkload};
    for reason in Reason::ALL {
        let wanted = match reason {
            Reverted | RolloutHalted | RolloutRefused => "Degraded",
            WaitingForWorkload => "Healthy",
            _ => "Progressing",
        };
        let outcome = rolled(synced(), &[], Some(problem(reason)));
        assert_eq!(health(&seen(&[outcome])), said(wanted, reason, WORDS));
    }
    let cases: &[(&[WorkloadState], &str, &str)] = &[
        (&[], "Healthy", "Synced: Secret bot holds"),
        (&[WorkloadState::RolledOut], "Healthy", "Synced: "),
        (&[WorkloadState::RolledOut, WorkloadState::Rolling], "Progressing", "RollingOut: rolling Deployment bot"),
        (&[WorkloadState::Waiting], "Progressing", "RollingOut: Deployment bot must roll still"),
        (&[WorkloadState::Failed, WorkloadState::Waiting], "Degraded", "RolloutHalted: Deployment bot failed"),
        (&[WorkloadState::Reverted], "Degraded", "Reverted: somebody undid"),
        // They may come with a later wave of the same sync.
        (&[WorkloadState::Paused], "Healthy", "WaitingForWorkload: Deployment bot: resume"),
        (&[WorkloadState::OnDelete], "Healthy", "WaitingForWorkload: "),
        (&[WorkloadState::Partitioned], "Healthy", "WaitingForWorkload: "),
        (&[WorkloadState::Missing], "Healthy", "WaitingForWorkload: Deployment bot does not exist"),
    ];
    for (states, wanted, message) in cases {
        begins(&health(&seen(&[with(synced(), states)])), wanted, message);
    }
}

#[test]
fn p9_the_health_follows_what_happens_one_thing_after_the_other() {
    let rolling = [WorkloadState::Rolling];
    let halted = [WorkloadState::Failed];
    for (outcomes, wanted, message) in [
        (vec![synced()], "Healthy", "Synced: Secret bot holds the current values"),
        (vec![synced(), outcome(SyncReport::NotDue)], "Healthy", "Synced: "),
        // An outage flips nothing while the data is young enough.
        (vec![synced(), failed(Reason::StoreUnavailable, false)], "Healthy", "Synced: "),
        (vec![synced(), failed(Reason::StoreUnavailable, true)], "Degraded", "StoreUnavailable: "),
        (vec![failed(Reason::StoreNotFound, true), synced()], "Healthy", "Synced: "),
        (vec![trying()], "Progressing", "CandidatePending: "),
        (vec![synced(), trying()], "Progressing", "CandidatePending: "),
        (vec![synced(), trying(), failed(Reason::CandidateRejected, false)], "Degraded", "CandidateRejected: "),
        (vec![synced(), failed(Reason::CandidateRejected, false), trying()], "Progressing", "CandidatePending: "),
        (vec![synced(), with(synced(), &rolling)], "Progressing", "RollingOut: "),
        (vec![with(synced(), &rolling), with(synced(), &halted)], "Degraded", "RolloutHalted: "),
        // The next value is tried while nobody has mended what failed.
        (vec![with(synced(), &halted), trying()], "Degraded", "RolloutHalted: "),
        (vec![with(synced(), &halted), with(synced(), &rolling)], "Progressing", "RollingOut: "),
        (vec![with(synced(), &halted), with(taken_back(), &rolling)], "Degraded", "RolledBack: "),
        (vec![taken_back(), synced()], "Healthy", "Synced: "),
        // A verdict is not hidden by pods that are being replaced.
        (vec![with(synced(), &rolling), failed(Reason::AccessDenied, true)], "Degraded", "AccessDenied: "),
        (
            vec![synced(), outcome(SyncReport::Deleted(problem(Reason::RemoteSecretMissing)))],
            "Degraded",
            "RemoteSecretMissing: ",
        ),
    ] {
        begins(&health(&seen(&outcomes)), wanted, message);
    }
}

#[test]
fn p9_a_value_that_is_too_old_or_a_lease_that_is_replaced_is_told_and_breaks_no_sync() {
    let told = |status: &BotSecretStatus| health(&shown(1, None, Some(status)));
    for reason in Reason::ALL {
        let mut next = after(&[synced()]);
        rotated(&mut next, Some(1), Some(&Rotated { overdue: None, problem: Some(&problem(reason)) }), at());
        assert_eq!(told(&next), said("Healthy", reason, WORDS));
    }
    let mut next = after(&[synced()]);
    rotated(&mut next, Some(1), Some(&Rotated { overdue: Some("too old"), problem: None }), at());
    assert_eq!(told(&next), said("Healthy", Reason::RotationOverdue, "too old"));
    rotated(&mut next, Some(1), Some(&Rotated { overdue: None, problem: None }), at());
    begins(&told(&next), "Healthy", "Synced: ");
    // As runtime/leasing writes it.
    let mut lease = next.conditions.first().expect("Ready").clone();
    "LeasesRenewable".clone_into(&mut lease.type_);
    "False".clone_into(&mut lease.status);
    Reason::LeaseNotRenewable.name().clone_into(&mut lease.reason);
    WORDS.clone_into(&mut lease.message);
    next.conditions.push(lease);
    assert_eq!(told(&next), said("Healthy", Reason::LeaseNotRenewable, WORDS));
}

#[test]
fn p9_what_the_operator_has_not_looked_at_yet_is_progressing_whatever_was_said_before() {
    let nobody = "NotObserved: no operator has looked";
    begins(&health(&shown(1, None, None)), "Progressing", nobody);
    // A race that was lost is told only when it goes on.
    begins(&health(&seen(&[failed(Reason::KubernetesUnavailable, false)])), "Progressing", nobody);
    for outcome in [synced(), failed(Reason::AccessDenied, true), with(synced(), &[WorkloadState::Failed])] {
        let edited = shown(2, None, Some(&after(&[outcome])));
        begins(&health(&edited), "Progressing", "NotObserved: the operator has not looked at this generation");
    }
}

#[test]
fn p9_what_is_suspended_is_suspended_and_what_is_being_deleted_is_on_its_way() {
    let each = || [synced(), failed(Reason::AccessDenied, true), trying(), with(synced(), &[WorkloadState::Failed])];
    begins(&health(&shown(1, Some(true), None)), "Suspended", "Suspended: spec.suspend is true");
    for before in each() {
        // As soon as it is asked for, and when the operator has seen it.
        let asked = after(std::slice::from_ref(&before));
        begins(&health(&shown(2, Some(true), Some(&asked))), "Suspended", "Suspended: spec.suspend is true");
        let done = after(&[before, suspended()]);
        begins(&health(&shown(1, Some(true), Some(&done))), "Suspended", "Suspended: suspended: nothing is read");
        // And until it has looked at it again.
        begins(&health(&shown(2, Some(false), Some(&done))), "Progressing", "NotObserved: ");
    }
    for before in each() {
        for suspend in [None, Some(true)] {
            let mut leaving = shown(1, suspend, Some(&after(std::slice::from_ref(&before))));
            leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            begins(&health(&leaving), "Progressing", "Deleting: ");
        }
    }
}

#[test]
fn an_action_is_offered_only_where_it_does_something_and_changes_nothing_else() {
    let status = after(&[synced()]);
    let offered = |object: &Value| {
        let all = actions(object);
        assert_eq!(all.len(), 3, "{all:?}");
        all.into_iter().filter(|(_, offered)| *offered).map(|(name, _)| name).collect::<Vec<_>>()
    };
    let running = shown(1, None, Some(&status));
    let held = shown(1, Some(true), Some(&status));
    assert_eq!(offered(&running), ["refresh", "suspend"]);
    assert_eq!(offered(&shown(1, None, None)), ["refresh", "suspend"]);
    assert_eq!(offered(&held), ["resume"]);
    let mut leaving = held.clone();
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert!(offered(&leaving).is_empty());

    let asked = |value: &str| json!({ "metadata": { "annotations": { "botsecret.dev/refresh": value } } });
    assert_eq!(act("refresh", &running), asked("argocd-7"));
    let mut again = running.clone();
    again["metadata"]["annotations"] = json!({ "botsecret.dev/refresh": "argocd-7", "team": "a" });
    again["metadata"]["resourceVersion"] = json!("8");
    assert_eq!(act("refresh", &again), asked("argocd-8"));
    assert_eq!(act("suspend", &running), json!({ "spec": { "suspend": true } }));
    assert_eq!(act("resume", &held), json!({ "spec": { "suspend": false } }));
}
