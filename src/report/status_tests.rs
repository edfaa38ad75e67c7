//! What a status says after each outcome, case by case.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::status;
use crate::{
    api::{BotSecret, BotSecretStatus, TargetStatus, WorkloadStatus},
    plan::Retry,
    report::{Outcome, Problem, Reason, RolloutReport, SyncReport, WorkloadReport},
    rollout::WorkloadState,
};

fn object(generation: i64, status: Option<&BotSecretStatus>) -> BotSecret {
    serde_json::from_value(json!({
        "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret",
        "metadata": { "name": "bot", "namespace": "trading", "generation": generation },
        "spec": { "serviceAccountName": "bot" },
        "status": status,
    }))
    .expect("a BotSecret")
}

fn outcome(sync: SyncReport) -> Outcome {
    Outcome { sync, ..Outcome::default() }
}

fn synced() -> SyncReport {
    SyncReport::Synced(TargetStatus {
        name: "bot".into(),
        uid: "s".into(),
        resource_version: "7".into(),
        revision: "1.a.b".into(),
        ..TargetStatus::default()
    })
}

fn failed(reason: Reason, stale: bool) -> SyncReport {
    SyncReport::Failed { problem: Problem::new(reason, Retry::Slow, "what to do"), stale }
}

fn trying() -> SyncReport {
    SyncReport::Trying { message: "by what".to_owned() }
}

fn workload(state: WorkloadState) -> WorkloadReport {
    let status = WorkloadStatus { kind: "Deployment".into(), name: "bot".into(), ..WorkloadStatus::default() };
    WorkloadReport { status, state, patched: false }
}

fn standing(workloads: Vec<WorkloadReport>) -> RolloutReport {
    RolloutReport::Standing { revision: "1.a.b".into(), workloads, rotation: None, problem: None }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a time")
}

/// Type, status and reason of each condition, sorted.
fn shown(status: &BotSecretStatus) -> Vec<String> {
    let line = |type_: &str, status: &str, reason: &str| format!("{type_}={status} {reason}");
    let mut lines: Vec<_> = status.conditions.iter().map(|one| line(&one.type_, &one.status, &one.reason)).collect();
    lines.sort();
    lines
}

/// The status after these outcomes, one after the other, at generation 1.
fn after(outcomes: &[SyncReport]) -> BotSecretStatus {
    let mut last = None;
    for (second, sync) in outcomes.iter().enumerate() {
        let second = i64::try_from(second).expect("few");
        last = Some(status(&object(1, last.as_ref()), &outcome(sync.clone()), at(second)));
    }
    last.expect("at least one")
}

#[test]
fn p9_each_outcome_gives_its_conditions_and_no_others() {
    let cases: &[(&[SyncReport], &[&str])] = &[
        (&[synced()], &["Ready=True Synced", "Synced=True Synced"]),
        (
            &[failed(Reason::AccessDenied, true)],
            &["Ready=False AccessDenied", "Stalled=True AccessDenied", "Synced=False AccessDenied"],
        ),
        (
            &[failed(Reason::StoreUnavailable, true)],
            &["Ready=False StoreUnavailable", "Reconciling=True StoreUnavailable", "Synced=False StoreUnavailable"],
        ),
        (&[synced(), failed(Reason::StoreUnavailable, false)], &["Ready=True Synced", "Synced=True Synced"]),
        (
            &[synced(), failed(Reason::StoreUnavailable, true)],
            &["Ready=False StoreUnavailable", "Reconciling=True StoreUnavailable", "Synced=False StoreUnavailable"],
        ),
        (
            &[synced(), failed(Reason::RemoteSecretMissing, false)],
            &[
                "Ready=False RemoteSecretMissing",
                "Stalled=True RemoteSecretMissing",
                "Synced=False RemoteSecretMissing",
            ],
        ),
        (
            &[failed(Reason::AccessDenied, true), failed(Reason::StoreUnavailable, true)],
            &["Ready=False StoreUnavailable", "Reconciling=True StoreUnavailable", "Synced=False StoreUnavailable"],
        ),
        (&[failed(Reason::AccessDenied, true), synced()], &["Ready=True Synced", "Synced=True Synced"]),
        (&[synced(), SyncReport::Suspended { ended: false }], &["Ready=False Suspended", "Synced=True Synced"]),
        (
            &[trying()],
            &["Ready=False CandidatePending", "Reconciling=True CandidatePending", "Synced=False CandidatePending"],
        ),
        (
            &[synced(), trying()],
            &["Ready=True Synced", "Reconciling=True CandidatePending", "Synced=False CandidatePending"],
        ),
        (&[synced(), trying(), synced()], &["Ready=True Synced", "Synced=True Synced"]),
        (
            &[synced(), failed(Reason::CandidateRejected, false), trying()],
            &["Ready=False CandidatePending", "Reconciling=True CandidatePending", "Synced=False CandidatePending"],
        ),
        (
            &[synced(), trying(), failed(Reason::CandidateRejected, false)],
            &["Ready=False CandidateRejected", "Stalled=True CandidateRejected", "Synced=False CandidateRejected"],
        ),
        (
            &[synced(), trying(), SyncReport::Suspended { ended: false }],
            &["Ready=False Suspended", "Synced=False Suspended"],
        ),
        (&[synced(), SyncReport::NotDue], &["Ready=True Synced", "Synced=True Synced"]),
    ];
    for (outcomes, wanted) in cases {
        assert_eq!(shown(&after(outcomes)), *wanted, "after {outcomes:?}");
    }
}

#[test]
fn p9_the_same_outcome_again_changes_nothing_at_all() {
    for sync in [
        synced(),
        failed(Reason::AccessDenied, true),
        failed(Reason::StoreTimeout, true),
        trying(),
        SyncReport::Suspended { ended: false },
    ] {
        let once = status(&object(1, None), &outcome(sync.clone()), at(1));
        let twice = status(&object(1, Some(&once)), &outcome(sync.clone()), at(500));
        assert_eq!(once, twice, "{sync:?}");
        let idle = status(&object(1, Some(&once)), &outcome(SyncReport::NotDue), at(900));
        assert_eq!(once, idle, "{sync:?}");
    }
}

#[test]
fn p9_a_leased_credential_that_ends_while_all_is_suspended_is_told() {
    let ready = |ended| {
        let next = after(&[synced(), SyncReport::Suspended { ended }]);
        next.conditions.into_iter().find(|condition| condition.type_ == "Ready").expect("there is one")
    };
    let words = "a leased credential in Secret bot has ended: resume to replace it";
    assert!(!ready(false).message.contains("leased"), "{}", ready(false).message);
    assert!(ready(true).message.contains(words), "{}", ready(true).message);
    assert_eq!((ready(true).reason, ready(true).status), ("Suspended".to_owned(), "False".to_owned()));
}

#[test]
fn p9_a_transition_time_moves_with_the_status_and_not_with_the_words() {
    let time = |status: &BotSecretStatus| {
        let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
        ready.map(|ready| ready.last_transition_time.0.as_second())
    };
    let denied = status(&object(1, None), &outcome(failed(Reason::AccessDenied, true)), at(1));
    let missing = status(&object(1, Some(&denied)), &outcome(failed(Reason::RemoteSecretMissing, true)), at(2));
    let good = status(&object(1, Some(&missing)), &outcome(synced()), at(3));
    assert_eq!((time(&denied), time(&missing), time(&good)), (Some(1), Some(1), Some(3)));
}

#[test]
fn p9_a_generation_counts_as_observed_only_with_conditions_for_it() {
    let lost_race = status(&object(1, None), &outcome(failed(Reason::KubernetesUnavailable, false)), at(1));
    assert_eq!(
        (lost_race.observed_generation, shown(&lost_race)),
        (None, vec![]),
        "kstatus takes an empty list for done"
    );
    let good = after(&[synced()]);
    let young_outage = status(&object(2, Some(&good)), &outcome(failed(Reason::StoreUnavailable, false)), at(1));
    assert_eq!(young_outage.observed_generation, Some(1));
    let told = status(&object(2, Some(&good)), &outcome(failed(Reason::StoreUnavailable, true)), at(1));
    assert_eq!(told.observed_generation, Some(2));
    let ready = told.conditions.iter().find(|condition| condition.type_ == "Ready").expect("there is one");
    assert_eq!(ready.observed_generation, Some(2));
}

#[test]
fn p1_the_record_of_the_secret_outlives_failures_and_ends_with_its_deletion() {
    let outage = after(&[synced(), failed(Reason::StoreUnavailable, true)]);
    assert!(outage.target.is_some());
    let problem = Problem::new(Reason::RemoteSecretMissing, Retry::Slow, "gone");
    let deleted = after(&[synced(), SyncReport::Deleted(problem)]);
    assert_eq!(deleted.target, None);
    assert_eq!(shown(&deleted)[0], "Ready=False RemoteSecretMissing");
}

#[test]
fn p9_rolled_out_says_where_the_workloads_stand_and_what_a_person_must_do() {
    let cases: &[(&[WorkloadState], &str, &str)] = &[
        (&[], "RolledOut=True UpToDate", "no workload"),
        (&[WorkloadState::RolledOut], "RolledOut=True RolledOut", "no pod of Deployment bot"),
        (&[WorkloadState::RolledOut, WorkloadState::Rolling], "RolledOut=False RollingOut", "rolling"),
        (&[WorkloadState::Paused], "RolledOut=False WaitingForWorkload", "resume"),
        (&[WorkloadState::OnDelete], "RolledOut=False WaitingForWorkload", "delete its pods"),
        (&[WorkloadState::Partitioned], "RolledOut=False WaitingForWorkload", "partition"),
        (
            &[WorkloadState::RolledOut, WorkloadState::Missing],
            "RolledOut=False WaitingForWorkload",
            "Deployment bot does not exist: create it, or take it out of rollout.list",
        ),
        (
            &[WorkloadState::Paused, WorkloadState::Missing, WorkloadState::Missing],
            "RolledOut=False WaitingForWorkload",
            "resume or promote to roll; Deployment bot, Deployment bot do not exist: create them",
        ),
        (&[WorkloadState::Reverted, WorkloadState::Rolling], "RolledOut=False Reverted", "undid"),
    ];
    for (states, wanted, words) in cases {
        let mut outcome = outcome(synced());
        outcome.rollout = standing(states.iter().map(|state| workload(*state)).collect());
        let next = status(&object(1, None), &outcome, at(1));
        let found = next.conditions.iter().find(|condition| condition.type_ == "RolledOut").expect("there is one");
        assert!(shown(&next).contains(&(*wanted).to_owned()), "{states:?}: {:?}", shown(&next));
        assert!(found.message.contains(words), "{}", found.message);
        let reconciling = shown(&next).iter().any(|line| line.starts_with("Reconciling=True"));
        assert_eq!(reconciling, wanted.ends_with("RollingOut"), "{states:?}");
        let stalled = shown(&next).contains(&"Stalled=True Reverted".to_owned());
        assert_eq!(stalled, wanted.ends_with("Reverted"), "{states:?}");
        let only_missing = states == &[WorkloadState::RolledOut, WorkloadState::Missing];
        assert_eq!(next.rollout.map(|rollout| rollout.complete), Some(wanted.contains("=True") || only_missing));
    }
}

/// kstatus takes whichever of the two stands first.
#[test]
fn p9_stalled_and_reconciling_never_stand_together_and_reconciling_not_on_what_is_suspended() {
    let rolling = || {
        let mut first = outcome(synced());
        first.rollout = standing(vec![workload(WorkloadState::Rolling)]);
        status(&object(1, None), &first, at(1))
    };
    let then = |sync: SyncReport| {
        let mut next = outcome(sync);
        next.rollout = standing(vec![workload(WorkloadState::Rolling)]);
        let next = shown(&status(&object(1, Some(&rolling())), &next, at(2)));
        let of = |type_: &str| next.iter().find(|line| line.starts_with(type_)).cloned().unwrap_or_default();
        (of("Stalled"), of("Reconciling"))
    };
    assert_eq!(then(synced()), (String::new(), "Reconciling=True RollingOut".to_owned()));
    assert_eq!(then(failed(Reason::AccessDenied, false)), ("Stalled=True AccessDenied".to_owned(), String::new()));
    assert_eq!(then(SyncReport::Suspended { ended: false }), (String::new(), String::new()));
    // What was wrong with the Secret is mended: the rollout waits for somebody still.
    let mut reverted = outcome(failed(Reason::AccessDenied, false));
    reverted.rollout = standing(vec![workload(WorkloadState::Reverted)]);
    let reverted = status(&object(1, None), &reverted, at(1));
    assert!(shown(&reverted).contains(&"Stalled=True AccessDenied".to_owned()), "{:?}", shown(&reverted));
    let mended = status(&object(1, Some(&reverted)), &outcome(synced()), at(2));
    assert!(shown(&mended).contains(&"Stalled=True Reverted".to_owned()), "{:?}", shown(&mended));
}

#[test]
fn switching_rollouts_off_takes_their_condition_away() {
    let mut first = outcome(synced());
    first.rollout = standing(vec![workload(WorkloadState::Rolling)]);
    let rolling = status(&object(1, None), &first, at(1));
    let mut second = outcome(synced());
    second.rollout = RolloutReport::Off;
    let off = status(&object(1, Some(&rolling)), &second, at(2));
    assert_eq!(
        (shown(&off), off.rollout),
        (vec!["Ready=True Synced".to_owned(), "Synced=True Synced".to_owned()], None)
    );
}

#[test]
fn a_message_of_any_length_fits_the_schema() {
    let long = Problem::new(Reason::InvalidData, Retry::Slow, "ä".repeat(40_000));
    let next = status(&object(1, None), &outcome(SyncReport::Failed { problem: long, stale: true }), at(1));
    assert!(next.conditions.iter().all(|condition| condition.message.chars().count() <= 1024));
}

#[test]
fn a_handled_refresh_is_on_record() {
    let mut outcome = outcome(failed(Reason::AccessDenied, true));
    outcome.handled_refresh = Some("now".to_owned());
    let value: Value = serde_json::to_value(status(&object(1, None), &outcome, at(1))).expect("serialises");
    assert_eq!(value["lastHandledRefresh"], "now");
}
