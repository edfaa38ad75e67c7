use std::time::Duration;

use tokio::time::Instant;

use super::{Circumstances, Refusals, wait};
use crate::{
    fetch::{ReferredSecrets, SecretVersion, ServiceAccount},
    leases::Fingerprint,
    plan::Retry,
    report::{Problem, Reason},
};

const WAIT: Duration = Duration::from_secs(5);

fn circumstances() -> Circumstances {
    Circumstances {
        store: ("store".into(), 1),
        credentials: ReferredSecrets::default(),
        account: ServiceAccount { name: "bot".into(), uid: "account".into(), ..ServiceAccount::default() },
    }
}

fn refused() -> Problem {
    Problem::new(Reason::InvalidStore, Retry::Slow, "neither a lease nor an end")
}

fn entry() -> Fingerprint {
    Fingerprint("entry".into())
}

#[test]
fn p7_what_was_refused_is_not_tried_again_before_its_wait_is_over() {
    let (mut refusals, now) = (Refusals::default(), Instant::now());
    refusals.note(&entry(), circumstances(), &refused(), |_| WAIT, now);
    let standing = |refusals: &Refusals, at| refusals.standing(&entry(), &circumstances(), at).cloned();
    assert_eq!(standing(&refusals, now + WAIT - Duration::from_millis(1)), Some(refused()));
    assert_eq!(standing(&refusals, now + WAIT), None);
    // Each further refusal of the same counts.
    refusals.note(&entry(), circumstances(), &refused(), |tries| WAIT * (tries + 1), now + WAIT);
    assert_eq!(standing(&refusals, now + WAIT * 3 - Duration::from_millis(1)), Some(refused()));
    assert!(refusals.standing(&Fingerprint("other".into()), &circumstances(), now).is_none());
    refusals.keep(|entry| entry != "entry");
    assert_eq!(standing(&refusals, now), None, "the entry was edited away and came back");
}

#[test]
fn p6_another_store_generation_credential_or_account_is_a_reason_to_try() {
    let (mut refusals, now) = (Refusals::default(), Instant::now());
    refusals.note(&entry(), circumstances(), &refused(), |_| WAIT, now);
    let version = SecretVersion { uid: "secret".into(), resource_version: "2".into() };
    let changes: [fn(&mut Circumstances); 4] = [
        |seen| seen.store.0 = "another".into(),
        |seen| seen.store.1 = 2,
        |seen| seen.account.uid = "another".into(),
        |seen| drop(seen.account.annotations.insert("eks.amazonaws.com/role-arn".into(), "another".into())),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut seen = circumstances();
        change(&mut seen);
        assert!(refusals.standing(&entry(), &seen, now).is_none(), "change {number}");
    }
    let mut seen = circumstances();
    seen.credentials.seen.insert("approle".into(), Some(version));
    assert!(refusals.standing(&entry(), &seen, now).is_none());
    // The count begins anew with them.
    refusals.note(&entry(), seen, &refused(), |tries| WAIT * (tries + 1), now);
    assert!(refusals.standing(&entry(), &circumstances(), now).is_none());
}

#[test]
fn p6_what_passes_by_itself_is_left_to_its_own_back_off() {
    let (mut refusals, now) = (Refusals::default(), Instant::now());
    for (reason, retry) in [
        (Reason::StoreUnavailable, Retry::Backoff),
        (Reason::StoreThrottled, Retry::After(WAIT)),
        (Reason::KubernetesUnavailable, Retry::Soon),
        (Reason::LoginDenied, Retry::Slow),
    ] {
        refusals.note(&entry(), circumstances(), &Problem::new(reason, retry, "down"), |_| WAIT, now);
        assert!(refusals.standing(&entry(), &circumstances(), now).is_none(), "{reason:?}");
    }
}

#[test]
fn p7_tries_become_seldom_up_to_five_minutes_and_half_a_minute_where_a_credential_is_in_use() {
    let seconds =
        |tries, interval: Option<u64>, in_use| wait(tries, interval.map(Duration::from_secs), in_use).as_secs();
    let waits = |interval, in_use| (0..8).map(|tries| seconds(tries, interval, in_use)).collect::<Vec<_>>();
    assert_eq!(waits(Some(2), false), [5, 10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(waits(Some(60), false), [60, 120, 240, 300, 300, 300, 300, 300]);
    assert_eq!(waits(Some(3600), false), [300; 8]);
    assert_eq!(waits(None, false), [300; 8]);
    assert_eq!(waits(Some(1), true), [5, 10, 20, 30, 30, 30, 30, 30]);
    assert_eq!(seconds(u32::MAX, Some(1), false), 300);
}
