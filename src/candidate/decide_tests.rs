//! What is tried, and what becomes of it, case by case.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use super::{Facts, Failure, Step, TOO_LONG, changes, decide, standing, tried};
use crate::{
    api::{RotationPhase, RotationStatus, State},
    candidate::job::{JobFacts, JobState},
};

/// Digests, quiet keys, and whether that is to be tried.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], bool);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn job(state: JobState) -> JobFacts {
    JobFacts {
        uid: "j".to_owned(),
        has_our_label: true,
        is_owned: true,
        fingerprint: "new".to_owned(),
        attempt: "1-a".to_owned(),
        cron_job: "try".to_owned(),
        created: Some(at(1_000)),
        deleting: false,
        state,
    }
}

fn failed() -> JobState {
    JobState::Failed(Failure { reason: "BackoffLimitExceeded".to_owned(), message: "m".to_owned() })
}

fn facts(job: Option<&JobFacts>) -> Facts<'_> {
    Facts {
        fingerprint: "new",
        attempt: "1-a",
        cron_job: "try",
        is_told: true,
        timeout: Duration::from_secs(300),
        job,
        now: at(1_010),
    }
}

fn rotation(phase: RotationPhase, revision: &str) -> RotationStatus {
    RotationStatus {
        revision: revision.to_owned(),
        phase,
        started: Time(at(1)),
        times: Vec::new(),
        message: "why".to_owned(),
        previous: String::new(),
        taken_back: String::new(),
    }
}

#[test]
fn the_job_says_what_becomes_of_the_data() {
    let replace = || Step::Replace("j".to_owned());
    let why = Failure { reason: "BackoffLimitExceeded".to_owned(), message: "m".to_owned() };
    let cases = [
        ("it runs", job(JobState::Running), Step::Wait),
        ("it is done", job(JobState::Complete), Step::Commit),
        ("it failed", job(failed()), Step::Reject(why.clone())),
        ("it is of other data", JobFacts { fingerprint: "old".to_owned(), ..job(JobState::Complete) }, replace()),
        ("of another CronJob", JobFacts { cron_job: "other".to_owned(), ..job(JobState::Complete) }, replace()),
        ("of an earlier BotSecret", JobFacts { is_owned: false, ..job(JobState::Complete) }, replace()),
        ("it is somebody's", JobFacts { has_our_label: false, ..job(JobState::Complete) }, Step::Foreign),
        ("it goes", JobFacts { deleting: true, ..job(JobState::Complete) }, Step::Wait),
        ("an edit meets it", JobFacts { attempt: "0-a".to_owned(), ..job(JobState::Running) }, Step::Wait),
        ("and its end", JobFacts { attempt: "0-a".to_owned(), ..job(JobState::Complete) }, Step::Commit),
        ("and its failure", JobFacts { attempt: "0-a".to_owned(), ..job(failed()) }, Step::Reject(why)),
    ];
    for (what, job, wanted) in cases {
        assert_eq!(decide(&facts(Some(&job))), wanted, "{what}");
    }
    assert_eq!(decide(&facts(None)), Step::Start);
}

#[test]
fn what_failed_is_tried_once_more_when_somebody_asks_and_no_more_often() {
    let before = JobFacts { attempt: "0-a".to_owned(), ..job(failed()) };
    let asked = Facts { is_told: false, ..facts(Some(&before)) };
    assert_eq!(decide(&asked), Step::Replace("j".to_owned()));
    // The operator died before the status told of it: this one is the new one.
    let again = job(failed());
    assert!(matches!(decide(&Facts { is_told: false, ..facts(Some(&again)) }), Step::Reject(_)));
    let running = JobFacts { attempt: "0-a".to_owned(), ..job(JobState::Running) };
    assert_eq!(decide(&Facts { is_told: false, ..facts(Some(&running)) }), Step::Wait);
}

#[test]
fn a_job_that_nobody_ends_is_given_up_a_minute_after_its_time() {
    let running = job(JobState::Running);
    let late = |second: i64| decide(&Facts { now: at(1_000 + second), ..facts(Some(&running)) });
    assert_eq!(late(359), Step::Wait);
    let Step::Reject(failure) = late(361) else { panic!("{:?}", late(361)) };
    assert_eq!(failure.reason, TOO_LONG);
    let before = JobFacts { attempt: "0-a".to_owned(), ..running };
    let asked = Facts { now: at(2_000), is_told: false, ..facts(Some(&before)) };
    assert_eq!(decide(&asked), Step::Replace("j".to_owned()));
}

#[test]
fn a_rejection_stands_for_the_same_data_until_somebody_asks() {
    let rejected = rotation(RotationPhase::Rejected, "new");
    assert_eq!(standing(Some(&rejected), "new", true), Some("why"));
    assert_eq!(standing(Some(&rejected), "new", false), None);
    assert_eq!(standing(Some(&rejected), "newer", true), None);
    assert_eq!(standing(None, "new", true), None);
    for phase in [RotationPhase::Candidate, RotationPhase::Halted, RotationPhase::Verified] {
        assert_eq!(standing(Some(&rotation(phase, "new")), "new", true), None, "{phase:?}");
    }
    assert_eq!(tried(&rejected), Some("new"));
    assert_eq!(tried(&rotation(RotationPhase::Candidate, "new")), Some("new"));
    assert_eq!(tried(&rotation(RotationPhase::Rolling, "1.a.b")), None);
}

#[test]
fn only_what_rolls_workloads_is_tried() {
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let set = |keys: &[&str]| -> BTreeSet<String> { keys.iter().map(|key| (*key).to_owned()).collect() };
    let state = State {
        digest_key: "k".to_owned(),
        digests: map(&[("A", "1"), ("TOKEN", "2")]),
        quiet: set(&["TOKEN"]),
        ..State::default()
    };
    let cases: [Case<'_>; 7] = [
        (&[("A", "1"), ("TOKEN", "2")], &["TOKEN"], false),
        (&[("A", "1"), ("TOKEN", "3")], &["TOKEN"], false),
        (&[("A", "2"), ("TOKEN", "2")], &["TOKEN"], true),
        (&[("TOKEN", "2")], &["TOKEN"], true),
        (&[("A", "1"), ("TOKEN", "2"), ("B", "1")], &["TOKEN"], true),
        (&[("A", "1"), ("TOKEN", "2")], &[], false),
        (&[("A", "1"), ("TOKEN", "2")], &["A", "TOKEN"], false),
    ];
    for (digests, quiet, wanted) in cases {
        assert_eq!(changes(Some(&state), "k", &map(digests), &set(quiet)), Some(wanted), "{digests:?} {quiet:?}");
    }
    assert_eq!(changes(Some(&state), "another", &map(&[("A", "1")]), &set(&[])), None);
    assert_eq!(changes(None, "k", &map(&[("A", "1")]), &set(&[])), Some(true));
}
