use std::{sync::Arc, time::Duration};

use tokio::{
    sync::broadcast,
    time::{Instant, advance, sleep},
};

use super::{Lane, StoreLimits};
use crate::{
    api::Limits,
    fetch::{
        breaker::{Evidence, Party},
        domains::Domains,
        tests,
        way::Routes,
    },
    stores::{ErrorClass, HttpClients, Identity, QuotaDomain, StoreError, Turns as _},
};

fn domain(requests_per_second: Option<u32>, in_flight: u32) -> QuotaDomain {
    QuotaDomain { name: "manager".into(), requests_per_second, in_flight }
}

fn domains() -> Domains {
    Domains::new(broadcast::channel(4).0)
}

fn lane_of(domains: &Domains, store: &str, limits: &Limits, quota: &QuotaDomain) -> Arc<Lane> {
    let identity = Identity { audience: None, role: String::new(), quota: quota.clone() };
    let party = Arc::new(Party { tenant: "trading".into(), store: store.to_owned(), ..Party::default() });
    domains.lane(&party, &Arc::new(StoreLimits::new(limits)), &Routes::of(&tests::store(), &identity).reads)
}

fn lane(limits: &Limits) -> Arc<Lane> {
    lane_of(&domains(), "store", limits, &domain(None, 1000))
}

fn at_rate(requests_per_second: u32) -> Limits {
    Limits { requests_per_second: Some(requests_per_second), ..Limits::default() }
}

#[tokio::test(start_paused = true)]
async fn requests_are_spaced_as_the_rate_says_and_an_idle_time_saves_up_none() {
    let lane = lane(&at_rate(10));
    advance(Duration::from_secs(60)).await;
    let start = Instant::now();
    for _ in 0..11 {
        let pass = lane.enter().await.expect("let through");
        lane.next().await;
        pass.done(Evidence::Alive);
    }
    assert!((1000..1020).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_limit_are_in_flight_and_those_who_wait_are_served_in_order() {
    let lane = lane(&Limits { max_in_flight: Some(1), ..Limits::default() });
    let first = lane.enter().await.expect("let through");
    let (sender, mut order) = tokio::sync::mpsc::unbounded_channel();
    for number in 0..3 {
        let (lane, sender) = (Arc::clone(&lane), sender.clone());
        tokio::spawn(async move {
            let pass = lane.enter().await.expect("let through");
            sender.send(number).expect("received");
            pass.done(Evidence::Alive);
        });
        tokio::task::yield_now().await;
    }
    assert!(order.try_recv().is_err(), "the place is taken");
    first.done(Evidence::Alive);
    assert_eq!([order.recv().await, order.recv().await, order.recv().await], [Some(0), Some(1), Some(2)]);
}

#[tokio::test(start_paused = true)]
async fn p6_a_request_without_answer_ends_at_the_stores_deadline() {
    let limits: Limits = serde_json::from_str(r#"{"timeout":"3s"}"#).expect("limits");
    let start = Instant::now();
    let pass = lane(&limits).enter().await.expect("let through");
    let error = pass.within(std::future::pending::<()>()).await.expect_err("late");
    assert_eq!((error.class, start.elapsed()), (ErrorClass::Timeout, Duration::from_secs(3)));
    assert!(error.message.starts_with("the manager did not answer within 3s: check"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn p6_each_request_of_an_attempt_has_the_stores_deadline_for_itself_too() {
    let limits: Limits = serde_json::from_str(r#"{"timeout":"3s"}"#).expect("limits");
    let pass = lane(&limits).enter().await.expect("let through");
    let limit = pass.within(async { HttpClients::send_limit() }).await.expect("in time");
    assert_eq!(limit, Some(Duration::from_secs(3)));
    assert_eq!(HttpClients::send_limit(), None);
}

#[tokio::test(start_paused = true)]
async fn p6_the_deadline_stands_still_while_a_request_waits_for_its_turn() {
    let limits: Limits = serde_json::from_str(r#"{"timeout":"3s"}"#).expect("limits");
    let domains = domains();
    let slow = lane_of(&domains, "store", &limits, &domain(Some(1), 1000));
    let start = Instant::now();
    let attempts = (0..10).map(|_| async {
        let pass = slow.enter().await.expect("let through");
        let request = async {
            let _turn = slow.next().await;
            sleep(Duration::from_secs(2)).await;
        };
        pass.within(request).await.map(|()| start.elapsed().as_secs())
    });
    let done = futures::future::join_all(attempts).await;
    let ended: Vec<u64> = done.into_iter().map(|ended| ended.expect("in time")).collect();
    assert_eq!(ended, (2..12).collect::<Vec<u64>>(), "one begins each second and takes two");
    let pass = slow.enter().await.expect("let through");
    let request = async {
        let _turn = slow.next().await;
        sleep(Duration::from_secs(4)).await;
    };
    assert_eq!(pass.within(request).await.expect_err("late").class, ErrorClass::Timeout);
}

#[tokio::test(start_paused = true)]
async fn p6_a_domains_rate_and_places_bound_all_of_its_stores_together() {
    let domains = domains();
    let quota = domain(Some(10), 2);
    let one = lane_of(&domains, "one", &Limits::default(), &quota);
    let two = lane_of(&domains, "two", &Limits::default(), &quota);
    let start = Instant::now();
    for _ in 0..5 {
        drop((one.next().await, two.next().await));
    }
    assert_eq!(start.elapsed().as_millis(), 900, "ten requests at ten a second");
    let held = (one.next().await, two.next().await);
    let third = tokio::time::timeout(Duration::from_secs(60), one.next()).await;
    assert!(third.is_err(), "both places are taken");
    drop(held);
    tokio::time::timeout(Duration::from_secs(1), one.next()).await.expect("a place");
}

#[tokio::test(start_paused = true)]
async fn p6_a_store_that_waits_for_its_own_rate_takes_no_place_of_the_domain() {
    let domains = domains();
    let quota = domain(None, 1);
    let slow = lane_of(&domains, "slow", &at_rate(1), &quota);
    let other = lane_of(&domains, "other", &Limits::default(), &quota);
    drop(slow.next().await);
    let waiting = tokio::spawn(async move { drop(slow.next().await) });
    tokio::task::yield_now().await;
    let start = Instant::now();
    drop(other.next().await);
    assert_eq!(start.elapsed(), Duration::ZERO);
    waiting.await.expect("its turn comes");
}

#[tokio::test(start_paused = true)]
async fn p6_those_who_queue_before_a_manager_that_dies_or_wants_patience_are_sent_home() {
    let outage = || StoreError::new(ErrorClass::Unavailable, "connection refused");
    let throttled = || StoreError::new(ErrorClass::Throttled, "429").after(Some(Duration::from_secs(30)));
    for (shown, times) in [(outage(), 5), (throttled(), 1)] {
        let domains = domains();
        let lane = lane_of(&domains, "store", &Limits::default(), &domain(None, 1));
        let place = lane.next().await;
        let queued = lane.enter().await.expect("let through");
        let queue = tokio::spawn({
            let lane = Arc::clone(&lane);
            async move { queued.within(async { drop(lane.next().await) }).await }
        });
        tokio::task::yield_now().await;
        for _ in 0..times {
            lane.enter().await.expect("let through").done(Evidence::of(&shown));
        }
        drop(place);
        let refused = queue.await.expect("joined").expect_err("nothing is sent");
        assert_eq!(refused.message, shown.message);
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_was_held_up_catches_up_on_a_tenth_of_a_second_and_no_more() {
    let lane = lane(&at_rate(100));
    lane.next().await;
    for (held_up, at_once) in [(50, 5), (90, 9), (5_000, 1)] {
        lane.next().await;
        advance(Duration::from_millis(held_up)).await;
        let start = Instant::now();
        let mut sent = 0;
        while start.elapsed().is_zero() {
            lane.next().await;
            sent += 1;
        }
        assert_eq!(sent, at_once + 1, "after {held_up} ms: the last of these waited for its time");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_given_up_while_it_waits_takes_no_turn() {
    let lane = lane(&at_rate(1));
    lane.next().await;
    let start = Instant::now();
    for _ in 0..20 {
        assert!(tokio::time::timeout(Duration::from_millis(10), lane.next()).await.is_err());
    }
    lane.next().await;
    assert_eq!(start.elapsed(), Duration::from_secs(1));
}
