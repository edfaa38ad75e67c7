use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::{Facts, Part, Step, Token, decide, need, renewal};
use crate::leases::Stage;

const NONE: Duration = Duration::ZERO;

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A part of this life with so much of it left.
fn part(now: Instant, life: u64, left: u64, open: bool) -> Part {
    Part { ends: now + secs(left), life: secs(life), open, last: false, sure: true }
}

fn live(parts: Option<&[Part]>) -> Facts<'_> {
    Facts {
        stage: Stage::Live,
        wanted: true,
        has_values: true,
        parts,
        token: None,
        retry: None,
        released: false,
        came_back: false,
        condemned: false,
    }
}

#[test]
fn p7_each_stage_of_a_life_has_its_step() {
    let now = Instant::now() + secs(3600);
    let table = [
        (part(now, 30, 30, true), Step::Wait(Some(now + secs(15)))),
        (part(now, 30, 15, true), Step::Renew),
        (part(now, 30, 1, true), Step::Renew),
        (part(now, 30, 0, true), Step::Replace),
        (part(now, 30, 29, false), Step::Wait(Some(now + secs(19)))),
        (part(now, 30, 10, false), Step::Replace),
    ];
    for (one, step) in table {
        assert_eq!(decide(&live(Some(&[one])), now, NONE), step, "{one:?}");
    }
    // The earlier end counts, whichever it is.
    let lease = part(now, 3600, 3600, true);
    assert_eq!(decide(&live(Some(&[part(now, 30, 15, true), lease])), now, NONE), Step::Renew);
    assert_eq!(decide(&live(Some(&[lease, part(now, 30, 9, false)])), now, NONE), Step::Replace);
    // Nothing is known of it, as after a restart.
    assert_eq!(decide(&live(None), now, NONE), Step::Renew);
    let waits = Facts { retry: Some(now + secs(2)), ..live(None) };
    assert_eq!(decide(&waits, now, NONE), Step::Wait(Some(now + secs(2))));
}

#[test]
fn p7_an_issue_that_was_cut_off_is_revoked_and_values_that_are_lost_are_issued_once_more() {
    let now = Instant::now();
    let parts = [part(now, 30, 30, true)];
    let base = live(Some(&parts));
    assert_eq!(decide(&Facts { stage: Stage::Issuing, has_values: false, ..base.clone() }, now, NONE), Step::Revoke);
    assert!(matches!(decide(&Facts { stage: Stage::Issuing, ..base.clone() }, now, NONE), Step::Wait(_)));
    assert_eq!(decide(&Facts { has_values: false, ..base.clone() }, now, NONE), Step::Replace);
    // Not wanted any more: it is kept alive for the pods, not replaced.
    assert!(matches!(decide(&Facts { has_values: false, wanted: false, ..base }, now, NONE), Step::Wait(_)));
}

#[test]
fn what_is_condemned_is_revoked_whatever_its_stage_and_clocks() {
    let now = Instant::now();
    for stage in [Stage::Live, Stage::Retiring] {
        for parts in [None, Some([part(now, 30, 0, true)]), Some([part(now, 30, 30, true)])] {
            let facts = Facts { stage, condemned: true, ..live(parts.as_ref().map(<[Part; 1]>::as_slice)) };
            assert_eq!(decide(&facts, now, NONE), Step::Revoke);
        }
    }
}

#[test]
fn p7_the_old_credential_lives_until_it_is_released_and_is_then_revoked() {
    let now = Instant::now();
    let parts = [part(now, 30, 10, true)];
    let old = Facts { stage: Stage::Retiring, wanted: false, has_values: false, ..live(Some(&parts)) };
    assert_eq!(decide(&old, now, NONE), Step::Renew);
    assert_eq!(decide(&Facts { released: true, ..old.clone() }, now, NONE), Step::Revoke);
    let ended = [part(now, 30, 0, false)];
    assert_eq!(decide(&Facts { parts: Some(&ended), ..old.clone() }, now, NONE), Step::Ended);
    // After a restart its end is only the earliest that it can have: it may
    // have been renewed since, so it is not given up unrevoked.
    let perhaps = [Part { sure: false, ..ended[0] }];
    let adopted = Facts { parts: Some(&perhaps), ..old };
    assert_eq!(decide(&adopted, now, NONE), Step::Wait(None));
    assert_eq!(decide(&Facts { released: true, ..adopted }, now, NONE), Step::Revoke);
    assert_eq!(decide(&live(Some(&perhaps)), now, NONE), Step::Replace);
}

#[test]
fn p7_what_is_due_for_replacement_is_renewed_until_another_is_there() {
    let now = Instant::now() + secs(3600);
    // Its lease is in its last life; its login can be renewed, and is due.
    let lease = Part::renewed(now, secs(60), secs(40));
    let due = [part(now, 8, 4, true), lease];
    assert_eq!(decide(&live(Some(&due)), now, NONE), Step::Renew);
    let renewed = [part(now, 8, 8, true), lease];
    assert_eq!(decide(&live(Some(&renewed)), now, NONE), Step::Replace);
    assert_eq!(renewal(&live(Some(&renewed)), NONE), Some(now + secs(4)));
    // A renewal that failed holds up neither.
    let failed = Facts { retry: Some(now + secs(2)), ..live(Some(&due)) };
    assert_eq!(decide(&failed, now, NONE), Step::Replace);
    assert_eq!(renewal(&failed, NONE), Some(now + secs(2)));
}

#[test]
fn a_renewal_that_grants_less_than_asked_begins_the_last_life() {
    let at = Instant::now();
    assert!(Part::renewed(at, secs(30), secs(30)).open);
    assert!(Part::renewed(at, secs(30), secs(29)).open, "rounded down");
    assert!(!Part::renewed(at, secs(30), secs(20)).open);
    let last = Part::renewed(at, secs(30), secs(20));
    assert_eq!(last.life, secs(30));
    // Replaced at once, so that its rollout has all the time that is left …
    assert_eq!(decide(&live(Some(&[last])), at, NONE), Step::Replace);
    // … in which the old one must go on.
    let parts = [last];
    let old = Facts { stage: Stage::Retiring, wanted: false, has_values: false, ..live(Some(&parts)) };
    assert_eq!(decide(&old, at, NONE), Step::Wait(Some(last.ends)));
}

#[test]
fn a_rollout_that_takes_long_makes_the_replacement_earlier_but_never_endless() {
    assert_eq!(need(secs(30), NONE), secs(10));
    assert_eq!(need(secs(30), secs(15)), secs(15));
    assert_eq!(need(secs(30), secs(3600)), secs(20));
}

proptest! {
    /// What is fresh and can be renewed is never replaced; what cannot be
    /// renewed is replaced while enough is left; a wait is never past the end.
    #[test]
    fn p7_nothing_ends_in_use_and_nothing_is_replaced_for_nothing(
        life in 3_u64..100_000, part_left in 0.0_f64..=1.0, open: bool, rollout in 0_u64..200_000,
    ) {
        let now = Instant::now() + secs(200_000);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "within bounds")]
        let left = (life as f64 * part_left) as u64;
        let one = part(now, life, left, open);
        let rollout = secs(rollout);
        let step = decide(&live(Some(&[one])), now, rollout);
        if left == 0 {
            prop_assert_eq!(step, Step::Replace);
        } else if open {
            prop_assert!(step != Step::Replace);
        } else {
            prop_assert_eq!(step == Step::Replace, secs(left) <= need(secs(life), rollout));
        }
        if step == Step::Renew {
            prop_assert!(one.is_renewable_early(now), "it is due again and again");
        }
        if let Step::Wait(Some(at)) = step {
            prop_assert!(at > now && at <= one.ends);
        }
        if left == life {
            prop_assert!(matches!(step, Step::Wait(_)), "a new one is due at once: {:?}", step);
        }
    }
}

fn by_token(parts: &[Part], token: Token) -> Facts<'_> {
    Facts { token: Some(token), ..live(Some(parts)) }
}

#[test]
fn p7_a_credential_is_replaced_before_the_token_ends_that_its_login_is_renewed_with() {
    let now = Instant::now() + secs(100_000);
    let token = |left| Token { ends: now + secs(left), life: secs(86_400) };
    let step = |life, left, token| {
        decide(&by_token(&[part(now, life, left, true), part(now, 86_400, 80_000, true)], token), now, NONE)
    };
    // An hour's login: with 20 minutes left, while renewals still succeed.
    assert_eq!(step(3600, 3000, token(5000)), Step::Wait(Some(now + secs(1200))), "its renewal");
    assert_eq!(step(3600, 1201, token(1300)), Step::Renew);
    assert_eq!(step(3600, 3000, token(1200)), Step::Wait(Some(now + secs(1200))), "its login outlasts the token");
    // Half a minute's login, and the rollout has its time all the same.
    assert_eq!(step(30, 30, token(1201)), Step::Wait(Some(now + secs(1))));
    assert_eq!(step(30, 30, token(1200)), Step::Replace);
    let short = [part(now, 30, 30, true)];
    let slow = |left| decide(&by_token(&short, token(left)), now, secs(1800));
    assert_eq!(slow(2000), Step::Wait(Some(now + Duration::from_millis(7500))), "a renewal");
    assert_eq!(slow(1800), Step::Replace);
    // One that was replaced is renewed for as long as that is possible.
    let old = Facts { wanted: false, stage: Stage::Retiring, ..by_token(&[], token(10)) };
    assert_eq!(
        decide(&Facts { parts: Some(&[part(now, 30, 30, true)]), ..old }, now, NONE),
        Step::Wait(Some(now + secs(15)))
    );
    // A login for a month needs no renewal before the token's end.
    assert_eq!(step(2_764_800, 2_700_000, token(0)), Step::Wait(Some(now + secs(36_800))), "the lease's renewal");
}

#[test]
fn p7_a_new_credential_is_never_due_at_once_however_short_its_token() {
    for token_life in [600, 3600, 86_400] {
        for login in [10, 600, 3600, 86_400, 2_764_800] {
            let now = Instant::now() + secs(100_000);
            let parts = [part(now, login, login, true)];
            let facts = by_token(&parts, Token { ends: now + secs(token_life), life: secs(token_life) });
            let step = decide(&facts, now + secs(3), secs(100_000));
            assert_ne!(step, Step::Replace, "{token_life} {login}");
        }
    }
}

#[test]
fn p7_a_credential_that_came_back_is_replaced_once_more_but_not_at_once() {
    let now = Instant::now() + secs(3600);
    let of = |left: u64, last: bool| [Part { last, ..part(now, 60, left, false) }];
    let step = |parts: &[Part], came_back: bool| decide(&Facts { came_back, ..live(Some(parts)) }, now, NONE);
    assert_eq!(step(&of(15, false), false), Step::Replace);
    assert_eq!(step(&of(15, false), true), Step::Wait(Some(now + secs(5))));
    assert_eq!(step(&of(30, true), false), Step::Replace);
    assert_eq!(step(&of(30, true), true), Step::Wait(Some(now + secs(20))));
    assert_eq!(step(&of(10, true), true), Step::Replace);
}
