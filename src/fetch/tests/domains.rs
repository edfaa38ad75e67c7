//! What the stores of one quota domain share, and what they do not.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use futures::future::join_all;
use tokio::time::{Instant, sleep};

use super::world::{World, account, class, key, store};
use crate::{
    api::Limits,
    fetch::{Fetcher, ResolvedStore, locked},
    stores::{ErrorClass, StoreError},
};

const SECOND: Duration = Duration::from_secs(1);

fn named(uid: &str) -> ResolvedStore {
    let mut named = store();
    named.uid = uid.to_owned();
    named
}

fn limits(json: &str) -> Limits {
    serde_json::from_str(json).expect("limits")
}

async fn read_at(fetcher: &Fetcher, store: &ResolvedStore, who: &str, name: &str) -> Result<u64, StoreError> {
    let answer = fetcher.read(store, &account(who), &[key(name)], Instant::now()).await.remove(0);
    answer.map(|secret| secret.version.expect("numbered"))
}

#[tokio::test(start_paused = true)]
async fn p6_500_service_accounts_of_several_stores_share_the_limits_of_their_manager() {
    let mut world = World::new();
    world.quota = (Some(100), 20);
    *locked(&world.read_takes) = SECOND;
    let (world, fetcher) = world.fetcher();
    let stores: Vec<_> = (0..5).map(|number| named(&format!("store-{number}"))).collect();
    let start = Instant::now();
    let reads = (0..500).map(|number| {
        let (fetcher, store) = (Arc::clone(&fetcher), stores[number % 5].clone());
        async move { read_at(&fetcher, &store, &format!("bot-{number}"), "x").await }
    });
    assert!(join_all(reads).await.iter().all(Result::is_ok));
    assert_eq!(world.seen(), (500, 500, 500));
    assert!(world.most_in_flight.load(SeqCst) <= 20, "{:?}", world.most_in_flight);
    let mut sent: Vec<_> = locked(&world.requests).iter().map(|(_, when)| *when - start).collect();
    sent.sort();
    assert_eq!(sent.len(), 1000, "each logs in and reads");
    let busiest = sent.windows(101).map(|window| window[100].checked_sub(window[0]).unwrap()).min().expect("many");
    assert!(busiest >= Duration::from_millis(990), "a hundred a second, logins included: {busiest:?}");
}

#[tokio::test(start_paused = true)]
async fn p6_a_stores_own_limits_bind_that_store_alone() {
    let (world, fetcher) = World::new().fetcher();
    let mut slow = named("slow");
    slow.limits = limits(r#"{"requestsPerSecond": 1, "maxInFlight": 1}"#);
    let other = named("other");
    for store in [&slow, &other] {
        read_at(&fetcher, store, "bot", "warm-up").await.expect("read");
    }
    let start = Instant::now();
    let slow_reads = tokio::spawn({
        let (fetcher, slow) = (Arc::clone(&fetcher), slow.clone());
        async move {
            let names: Vec<_> = (0..10).map(|number| number.to_string()).collect();
            join_all(names.iter().map(|name| read_at(&fetcher, &slow, "bot", name))).await
        }
    });
    let names: Vec<_> = (0..100).map(|number| number.to_string()).collect();
    assert!(join_all(names.iter().map(|name| read_at(&fetcher, &other, "bot", name))).await.iter().all(Result::is_ok));
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
    assert!(slow_reads.await.expect("joined").iter().all(Result::is_ok));
    assert!(start.elapsed() >= SECOND * 9, "{:?}", start.elapsed());
    assert_eq!(world.seen().2, 112);
}

/// Reads with a store that fails, more than enough times, and then as others.
async fn others_still_read(bad: ResolvedStore, breaks: impl Fn(&World), mends: impl Fn(&World)) {
    let (world, fetcher) = World::new().fetcher();
    let others = [named("other"), named("third")];
    for store in others.iter().chain([&bad]) {
        read_at(&fetcher, store, "bot", "warm-up").await.expect("read");
    }
    breaks(&world);
    for number in 0..20 {
        let refused = read_at(&fetcher, &bad, "bot", &number.to_string()).await;
        assert!(class(&refused).is_some_and(ErrorClass::is_outage), "{refused:?}");
    }
    let asked = world.seen().2;
    assert!(read_at(&fetcher, &bad, "bot", "x").await.is_err());
    assert_eq!(world.seen().2, asked, "the bad store itself is left alone");
    mends(&world);
    for store in &others {
        read_at(&fetcher, store, "bot", "y").await.expect("another store of the same manager is not shut out");
    }
}

#[tokio::test(start_paused = true)]
async fn p6_a_tenants_timeout_of_100_ms_shuts_out_nobody_else() {
    let mut hasty = named("hasty");
    hasty.limits = limits(r#"{"timeout": "100ms"}"#);
    let slow = |world: &World| *locked(&world.read_takes) = SECOND;
    // The manager is as slow for the others, who give it the time.
    others_still_read(hasty, slow, |_| {}).await;
}

#[tokio::test(start_paused = true)]
async fn p6_a_tenants_wrong_certificate_or_dead_proxy_shuts_out_nobody_else() {
    let mut untrusting = named("untrusting");
    if let crate::api::Provider::Vault(vault) = &mut untrusting.provider {
        vault.ca_bundle = Some("another".to_owned());
    }
    let mut detoured = named("detoured");
    detoured.proxy = Some("http://dead.example:3128".to_owned());
    for bad in [untrusting, detoured] {
        let fails = |world: &World| {
            for name in (0..20).map(|number| number.to_string()).chain(["x".to_owned()]) {
                world.fail(&name, StoreError::new(ErrorClass::Unavailable, "cannot talk to it"));
            }
        };
        others_still_read(bad, fails, |_| {}).await;
    }
}

#[tokio::test(start_paused = true)]
async fn p6_what_one_store_learns_of_a_dead_manager_counts_for_all_that_reach_it_alike() {
    let (world, fetcher) = World::new().fetcher();
    let mut recoveries = fetcher.recoveries();
    let stores = [named("one"), named("two"), named("three")];
    for store in &stores {
        read_at(&fetcher, store, "bot", "warm-up").await.expect("read");
    }
    world.fail("x", StoreError::new(ErrorClass::Unavailable, "connection refused").unconnected(true));
    for _ in 0..10 {
        assert!(read_at(&fetcher, &stores[0], "bot", "x").await.is_err());
    }
    let asked = world.seen().2;
    assert_eq!(class(&read_at(&fetcher, &stores[1], "bot", "y").await), Some(ErrorClass::Unavailable));
    assert_eq!(world.seen().2, asked, "it is not asked for others either");
    locked(&world.fails).clear();
    sleep(SECOND * 20).await;
    read_at(&fetcher, &stores[2], "bot", "y").await.expect("up");
    let mut told: Vec<_> = std::iter::from_fn(|| recoveries.try_recv().ok()).collect();
    told.sort();
    assert_eq!(told, ["one", "three", "two"], "whoever waits for any of them is woken");
}

#[tokio::test(start_paused = true)]
async fn p6_a_manager_that_wants_patience_has_it_from_every_store() {
    let (world, fetcher) = World::new().fetcher();
    let stores = [named("one"), named("two")];
    for store in &stores {
        read_at(&fetcher, store, "bot", "warm-up").await.expect("read");
    }
    let wait = Some(SECOND * 30);
    world.fail("x", StoreError::new(ErrorClass::Throttled, "429").after(wait));
    assert!(read_at(&fetcher, &stores[0], "bot", "x").await.is_err());
    sleep(SECOND * 10).await;
    let refused = read_at(&fetcher, &stores[1], "bot", "y").await.expect_err("too early");
    assert_eq!((refused.class, refused.retry_after), (ErrorClass::Throttled, Some(SECOND * 20)));
    let mut elsewhere = named("elsewhere");
    elsewhere.proxy = Some("http://other.example:3128".to_owned());
    read_at(&fetcher, &elsewhere, "bot", "y").await.expect("what a tenant's own proxy asks for is between those two");
    sleep(SECOND * 20).await;
    read_at(&fetcher, &stores[1], "bot", "y").await.expect("read");
}
