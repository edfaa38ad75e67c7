//! What counts as out of the ordinary, case by case.

use std::time::Duration;

use tokio::time::Instant;

use super::{Anomalies, Anomaly, BURST, DENIED, Denials, Totals, USES, WINDOW};
use crate::{
    api::StoreRef,
    audit::{Asker, Event, Kind, Request, StoreName, Why},
    stores::{ErrorClass, ServiceAccount},
};

fn account(uid: &str) -> ServiceAccount {
    ServiceAccount { namespace: "trading".into(), name: "bot".into(), uid: uid.into(), ..ServiceAccount::default() }
}

fn store(uid: &str) -> StoreName {
    StoreName::of(&StoreRef { name: "vault".into(), kind: None }, uid)
}

fn own() -> Request {
    Request::Own(Duration::from_millis(3))
}

fn for_a_reason() -> Asker {
    Asker { bot_secret: Some("bot".into()), why: Some(Why::Refresh) }
}

/// Whether this identity is new to this store.
fn is_first(anomalies: &mut Anomalies, identity: &str, at: &str) -> bool {
    let (account, store) = (account(identity), store(at));
    let event =
        Event { account: Some(&account), asker: for_a_reason(), request: own(), ..Event::at(Kind::Login, &store) };
    anomalies.note(&event, Instant::now()).contains(&Anomaly::FirstUse)
}

#[test]
fn an_identity_is_new_to_a_store_once_and_so_is_one_that_was_made_again() {
    let mut anomalies = Anomalies::default();
    for (account, store, wanted) in [
        ("a", "vault", true),
        ("a", "vault", false),
        ("a", "aws", true),
        ("b", "vault", true),
        ("a", "vault", false),
        ("b", "vault", false),
    ] {
        assert_eq!(is_first(&mut anomalies, account, store), wanted, "{account} at {store}");
    }
}

#[test]
fn an_identity_that_keeps_asking_is_known_however_many_others_come_and_go() {
    let mut anomalies = Anomalies::default();
    assert!(is_first(&mut anomalies, "bot", "vault"));
    for number in 0..USES + 100 {
        assert!(is_first(&mut anomalies, &format!("other-{number}"), "vault"));
        if number % 1000 == 0 {
            assert!(!is_first(&mut anomalies, "bot", "vault"), "after {number} others");
        }
    }
    assert!(!is_first(&mut anomalies, "bot", "vault"));
    assert!(is_first(&mut anomalies, "other-0", "vault"), "what is remembered is bounded");
}

#[test]
fn ten_denials_within_ten_minutes_are_one_burst_until_none_comes_for_ten_minutes() {
    let start = Instant::now();
    // So many denials, with this time between two; how many bursts.
    for (count, every, wanted) in [
        (BURST - 1, Duration::ZERO, 0),
        (BURST, Duration::ZERO, 1),
        (BURST * 20, Duration::ZERO, 1),
        // The tenth comes just within the window, and just not.
        (BURST, Duration::from_secs(66), 1),
        (BURST * 3, Duration::from_secs(67), 0),
        (BURST * 50, Duration::from_secs(60), 1),
    ] {
        let (mut denials, mut now, mut bursts) = (Denials::default(), start, 0);
        for _ in 0..count {
            bursts += usize::from(denials.makes_burst("bot", now));
            now += every;
        }
        assert_eq!(bursts, wanted, "{count} denials, one each {every:?}");
    }
    let mut denials = Denials::default();
    let mut burst = |account: &str, now| (0..BURST).filter(|_| denials.makes_burst(account, now)).count();
    assert_eq!(burst("bot", start), 1);
    assert_eq!(burst("other", start), 1, "each identity for itself");
    assert_eq!(burst("bot", start + WINDOW / 2), 0, "it goes on");
    assert_eq!(burst("bot", start + WINDOW), 0, "it still does");
    assert_eq!(burst("bot", start + WINDOW * 2), 1, "there was none for ten minutes");
}

#[test]
fn who_is_denied_again_and_again_makes_a_burst_however_many_others_are_denied_something() {
    let (mut denials, now) = (Denials::default(), Instant::now());
    let mut bursts = 0;
    for round in 0..BURST {
        bursts += usize::from(denials.makes_burst("bot", now));
        for number in 0..DENIED / 10 {
            assert!(!denials.makes_burst(&format!("other-{round}-{number}"), now));
        }
    }
    assert_eq!(bursts, 1);
    assert_eq!(denials.0.len(), DENIED, "there are no more");
}

#[test]
fn only_what_a_manager_itself_refused_for_good_is_a_denial() {
    let (account, store) = (account("a"), store("s"));
    let event = |kind, failure| Event {
        account: Some(&account),
        asker: for_a_reason(),
        failure,
        request: own(),
        ..Event::at(kind, &store)
    };
    let denied = Some(ErrorClass::Denied);
    for (event, wanted) in [
        (event(Kind::Read, denied), true),
        (event(Kind::Login, Some(ErrorClass::LoginDenied)), true),
        (event(Kind::Issue, denied), true),
        (event(Kind::Write, denied), true),
        (event(Kind::Read, Some(ErrorClass::Missing)), false),
        (event(Kind::Read, Some(ErrorClass::Unavailable)), false),
        (event(Kind::Read, None), false),
        (event(Kind::Renew, denied), false),
        (event(Kind::Revoke, denied), false),
        (Event { retried: true, ..event(Kind::Read, denied) }, false),
        (Event { denied_before: true, ..event(Kind::Read, denied) }, false),
        (Event { request: Request::Shared, ..event(Kind::Read, denied) }, false),
        (Event { request: Request::None, ..event(Kind::Read, Some(ErrorClass::LoginDenied)) }, false),
        (Event { account: None, ..event(Kind::Login, Some(ErrorClass::LoginDenied)) }, false),
    ] {
        let (mut anomalies, now) = (Anomalies::default(), Instant::now());
        let bursts = (0..BURST).filter(|_| anomalies.note(&event, now).contains(&Anomaly::DenialBurst)).count();
        assert_eq!(bursts, usize::from(wanted), "{event:?}");
        assert_eq!(anomalies.totals().denial_bursts, u64::from(wanted));
    }
}

#[test]
fn a_read_that_nobody_gave_a_reason_for_is_unexplained_and_nothing_else_is() {
    let (account, store, now) = (account("a"), store("s"), Instant::now());
    let mut anomalies = Anomalies::default();
    let event = |kind, asker, request| Event { account: Some(&account), asker, request, ..Event::at(kind, &store) };
    assert_eq!(anomalies.note(&event(Kind::Login, Asker::default(), own()), now), [Anomaly::FirstUse]);
    for (event, wanted) in [
        (event(Kind::Read, for_a_reason(), own()), false),
        (event(Kind::Search, for_a_reason(), own()), false),
        (event(Kind::Read, Asker::default(), own()), true),
        (event(Kind::Search, Asker::default(), own()), true),
        // Counted with the read whose answer it is.
        (event(Kind::Read, Asker::default(), Request::Shared), false),
        (event(Kind::Read, Asker::default(), Request::None), false),
        (event(Kind::Renew, Asker::default(), own()), false),
        (event(Kind::Login, Asker::default(), own()), false),
    ] {
        let wanted: &[_] = if wanted { &[Anomaly::UnexplainedRead] } else { &[] };
        assert_eq!(anomalies.note(&event, now), wanted, "{event:?}");
    }
    assert_eq!(anomalies.totals(), Totals { first_uses: 1, denial_bursts: 0, unexplained_reads: 2 });
}
