use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Breaker, Evidence, FIRST_PAUSE, LONGEST_PAUSE, Party, Patience, TRIPS_AFTER, is_everyones};
use crate::stores::{ErrorClass, StoreError};

fn late() -> Evidence {
    Evidence::Outage(StoreError::new(ErrorClass::Timeout, "no answer"))
}

fn refused() -> Evidence {
    Evidence::Outage(StoreError::new(ErrorClass::Unavailable, "connection refused").unconnected(true))
}

/// An identity of a tenant.
fn party(tenant: &str, account: &str) -> Arc<Party> {
    Arc::new(Party { tenant: tenant.into(), account: Some(account.into()), ..Party::default() })
}

fn fail(breaker: &mut Breaker, now: Instant, who: &Arc<Party>, times: usize, evidence: fn() -> Evidence) {
    for _ in 0..times {
        breaker.record(now, false, who, &evidence());
    }
}

#[test]
fn p6_what_shows_that_a_manager_fails_for_everyone() {
    // Failures in a row, those without connection, parties; one's own door, all's.
    let cases = [
        ((4, 0, 4), (false, false), "too few"),
        ((5, 0, 1), (true, false), "one party's alone"),
        ((500, 0, 2), (true, false), "two may have a path or a namespace in common"),
        ((5, 0, 3), (true, true), "several have nothing in common but the manager"),
        ((5, 5, 1), (true, true), "no connection is the same for everyone"),
        ((6, 4, 1), (true, false), "connections are made now and then"),
        ((3, 0, 3), (false, false), "three that may be chance"),
    ];
    for ((failures, unconnected, parties), wanted, why) in cases {
        let verdict = |several| is_everyones(failures, unconnected, parties, several);
        assert_eq!((verdict(1), verdict(super::SEVERAL)), wanted, "{why}");
    }
}

#[test]
fn p6_one_identity_that_always_times_out_closes_its_own_door_and_nobody_elses() {
    let now = Instant::now();
    let (bad, good) = (party("a", "bad"), party("b", "good"));
    let (mut own, mut all) = (Breaker::of_one(), Breaker::of_all());
    for breaker in [&mut own, &mut all] {
        fail(breaker, now, &bad, 100, late);
    }
    assert!(own.admit(now, &bad).is_err());
    assert_eq!((all.admit(now, &good), all.admit(now, &bad)), (Ok(false), Ok(false)));
}

#[test]
fn p6_a_dead_manager_is_refused_at_once_and_probed_by_one_at_a_time() {
    let now = Instant::now();
    let (one, other) = (party("a", "one"), party("b", "other"));
    let mut breaker = Breaker::of_all();
    fail(&mut breaker, now, &one, TRIPS_AFTER, refused);
    let refusal = breaker.admit(now, &other).expect_err("closed, for those who have not tried too");
    assert_eq!((refusal.message.as_str(), refusal.retry_after), ("connection refused", Some(FIRST_PAUSE)));
    let later = now + FIRST_PAUSE;
    assert_eq!(breaker.admit(later, &one), Ok(true), "one probe");
    assert!(breaker.admit(later, &other).is_err(), "and no second beside it");
    breaker.record(later, true, &one, &refused());
    assert!(breaker.admit(later + FIRST_PAUSE, &one).is_err(), "the pause has doubled");
    assert_eq!(breaker.admit(later + FIRST_PAUSE * 2, &other), Ok(true));
    assert!(breaker.record(later, true, &other, &Evidence::Alive), "it has recovered");
    assert_eq!(breaker.admit(later, &one), Ok(false));
}

#[test]
fn p6_a_door_that_timeouts_closed_lets_in_who_has_not_failed_and_one_answer_opens_it() {
    let now = Instant::now();
    let mut breaker = Breaker::of_all();
    let bad: Vec<_> = (0..5).map(|number| party("a", &number.to_string())).collect();
    for who in &bad {
        fail(&mut breaker, now, who, 1, late);
    }
    for who in &bad {
        assert_eq!(breaker.admit(now, who).expect_err("it has failed").retry_after, Some(FIRST_PAUSE));
    }
    let (good, fresh) = (party("b", "good"), party("a", "fresh"));
    assert_eq!(breaker.admit(now, &fresh), Ok(true), "it may be answered");
    assert!(breaker.admit(now, &party("a", "another")).is_err(), "one of a tenant at a time");
    assert_eq!(breaker.admit(now, &good), Ok(true), "and nobody waits for another tenant's");
    breaker.record(now, true, &fresh, &late());
    assert_eq!(breaker.admit(now, &fresh).expect_err("now it has").retry_after, Some(FIRST_PAUSE));
    assert!(breaker.record(now, true, &good, &Evidence::Alive));
    assert_eq!(breaker.admit(now, &bad[0]), Ok(false));
}

#[test]
fn p6_the_pause_is_bounded_and_a_probe_given_up_frees_its_place() {
    let mut now = Instant::now();
    let who = party("a", "one");
    for evidence in [late, refused] {
        let mut breaker = Breaker::of_one();
        fail(&mut breaker, now, &who, TRIPS_AFTER, evidence);
        for _ in 0..20 {
            now += LONGEST_PAUSE;
            assert_eq!(breaker.admit(now, &who), Ok(true));
            breaker.record(now, true, &who, &Evidence::None);
            assert_eq!(breaker.admit(now, &who), Ok(true));
            breaker.record(now, true, &who, &evidence());
        }
        assert_eq!(breaker.admit(now + LONGEST_PAUSE, &who), Ok(true));
    }
}

#[test]
fn p6_probes_side_by_side_make_the_pause_no_longer_than_one_would() {
    let now = Instant::now();
    let parties: Vec<_> = (0..8).map(|number| party(&number.to_string(), "bot")).collect();
    let mut breaker = Breaker::of_all();
    for who in &parties {
        fail(&mut breaker, now, who, 1, late);
    }
    let later = now + FIRST_PAUSE;
    for who in &parties {
        assert_eq!(breaker.admit(later, who), Ok(true));
    }
    for who in &parties {
        breaker.record(later, true, who, &late());
    }
    assert!(breaker.admit(later + FIRST_PAUSE, &parties[0]).is_err());
    assert_eq!(breaker.admit(later + FIRST_PAUSE * 2, &parties[0]), Ok(true));
}

#[test]
fn p6_probes_of_a_failure_that_changes_its_kind_all_free_their_places() {
    let mut now = Instant::now();
    let (one, other) = (party("a", "one"), party("b", "other"));
    let mut breaker = Breaker::of_all();
    fail(&mut breaker, now, &one, TRIPS_AFTER, refused);
    for evidence in [late, refused, late, late, refused] {
        now += LONGEST_PAUSE;
        assert_eq!(breaker.admit(now, &one), Ok(true));
        let second = breaker.admit(now, &other).is_ok();
        breaker.record(now, true, &one, &evidence());
        if second {
            breaker.record(now, true, &other, &evidence());
        }
    }
    now += LONGEST_PAUSE;
    assert_eq!(breaker.admit(now, &other), Ok(true));
    breaker.record(now, true, &other, &Evidence::None);
    assert_eq!(breaker.admit(now, &one), Ok(true));
}

#[test]
fn an_answer_of_any_kind_ends_the_count() {
    let (now, who) = (Instant::now(), party("a", "one"));
    for mut breaker in [Breaker::of_one(), Breaker::of_all()] {
        for _ in 0..TRIPS_AFTER * 3 {
            breaker.record(now, false, &who, &refused());
            breaker.record(now, false, &who, &Evidence::of(&StoreError::new(ErrorClass::Denied, "no")));
        }
        assert_eq!(breaker.admit(now, &who), Ok(false));
    }
}

#[test]
fn p6_one_secret_that_always_fails_shuts_out_nobody() {
    let (now, who) = (Instant::now(), party("a", "one"));
    for mut breaker in [Breaker::of_one(), Breaker::of_all()] {
        for _ in 0..TRIPS_AFTER * 3 {
            for class in [ErrorClass::Unavailable, ErrorClass::Timeout] {
                let broken = StoreError::new(class, "Vault answered 500").about_one();
                breaker.record(now, false, &who, &Evidence::of(&broken));
            }
        }
        assert_eq!(breaker.admit(now, &who), Ok(false));
    }
}

#[test]
fn p6_nothing_is_asked_while_the_manager_wants_patience() {
    let now = Instant::now();
    let mut patience = Patience::default();
    let throttled = |seconds| {
        let wait = Some(Duration::from_secs(seconds));
        Evidence::of(&StoreError::new(ErrorClass::Throttled, "429").after(wait))
    };
    patience.record(now, &throttled(7));
    patience.record(now, &throttled(1));
    patience.record(now, &Evidence::Alive);
    let refusal = patience.refusal(now + Duration::from_secs(2)).expect("too early");
    assert_eq!((refusal.class, refusal.retry_after), (ErrorClass::Throttled, Some(Duration::from_secs(5))));
    assert_eq!(patience.refusal(now + Duration::from_secs(7)), None);
}
