//! What all managers share, with a manager whose every answer a test decides,
//! and time that stands still until everyone waits.

mod bulkheads;
mod credentials;
mod domains;
mod find;
mod issuing;
mod told;
mod world;

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use tokio::time::{Instant, advance, sleep};

pub(super) use self::world::store;
use self::world::{World, account, class, key, read, read_since};
use super::{locked, seat::RESULT_KEPT};
use crate::stores::{ErrorClass, StoreError};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn p2_many_readers_of_one_identity_share_one_token_and_one_login() {
    let (world, fetcher) = World::new().fetcher();
    let names: Vec<String> = (0..200).map(|number| format!("secret-{number}")).collect();
    let reads = names.iter().map(|name| read(&fetcher, name));
    assert!(futures::future::join_all(reads).await.iter().all(Result::is_ok));
    assert_eq!(world.seen(), (1, 1, 200));
    assert_eq!(world.most_in_flight.load(SeqCst), 16, "the default limit");
    assert_eq!(fetcher.counters().logins(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_identity_and_each_generation_of_a_store_has_a_login_of_its_own() {
    let (world, fetcher) = World::new().fetcher();
    let mut edited = store();
    edited.generation = 2;
    for (store, name) in [(store(), "a"), (store(), "b"), (edited, "a")] {
        let answers = fetcher.read(&store, &account(name), &[key("x")], Instant::now()).await;
        assert!(answers.iter().all(Result::is_ok));
    }
    assert_eq!(world.seen(), (2, 3, 3), "the token of account a serves both generations");
}

#[tokio::test(start_paused = true)]
async fn p2_reads_of_one_remote_secret_are_shared_and_a_result_older_than_asked_for_is_not() {
    let (world, fetcher) = World::new().fetcher();
    let due = Instant::now();
    let all = futures::future::join_all((0..50).map(|_| read_since(&fetcher, "x", due))).await;
    assert!(all.iter().all(|value| *value == Ok(1)));
    assert_eq!(world.seen().2, 1);
    world.value.store(2, SeqCst);
    sleep(SECOND).await;
    assert_eq!(read_since(&fetcher, "x", due).await, Ok(1), "it began after this one fell due");
    assert_eq!(read(&fetcher, "x").await, Ok(2), "a later due time wants a later read");
    assert_eq!((world.seen().2, fetcher.counters().reads(), fetcher.counters().shared_reads()), (2, 2, 50));
}

#[tokio::test(start_paused = true)]
async fn a_read_under_way_that_began_too_early_is_not_joined_but_one_in_the_queue_is() {
    let (world, fetcher) = World::new().fetcher();
    read(&fetcher, "warm-up").await.expect("read");
    *locked(&world.read_takes) = SECOND;
    let early = tokio::spawn({
        let fetcher = Arc::clone(&fetcher);
        async move { read(&fetcher, "x").await }
    });
    sleep(SECOND / 2).await;
    world.value.store(2, SeqCst);
    assert_eq!(read(&fetcher, "x").await, Ok(2), "the one under way may hold the old value");
    assert_eq!(early.await.expect("joined"), Ok(1));

    let mut narrow = store();
    (narrow.uid, narrow.limits.max_in_flight) = ("store-2".into(), Some(1));
    let (narrow, before) = (Arc::new(narrow), world.seen().2);
    let start = |name: &'static str| {
        let (fetcher, narrow) = (Arc::clone(&fetcher), Arc::clone(&narrow));
        tokio::spawn(async move { fetcher.read(&narrow, &account("bot"), &[key(name)], Instant::now()).await })
    };
    let first = start("in-the-way");
    sleep(SECOND / 10).await;
    let second = start("queued");
    sleep(SECOND / 10).await;
    let third = start("queued");
    for read in [first, second, third] {
        assert!(read.await.expect("joined").iter().all(Result::is_ok));
    }
    assert_eq!(world.seen().2 - before, 2);
}

#[tokio::test(start_paused = true)]
async fn p4_a_value_that_was_read_is_dropped_soon() {
    let (_world, fetcher) = World::new().fetcher();
    let answers = fetcher.read(&store(), &account("bot"), &[key("x")], Instant::now()).await;
    let kept = Arc::downgrade(answers[0].as_ref().expect("read"));
    drop(answers);
    assert!(kept.upgrade().is_some(), "others may share it for a moment");
    sleep(RESULT_KEPT + SECOND).await;
    assert!(kept.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn p2_a_login_is_renewed_ahead_of_expiry_while_reads_go_on_with_the_old_one() {
    let mut world = World::new();
    world.login_takes = SECOND * 2;
    let (world, fetcher) = world.fetcher();
    read(&fetcher, "x").await.expect("read");
    sleep(Duration::from_secs(2300)).await;
    read(&fetcher, "x").await.expect("read");
    assert_eq!(world.logins.load(SeqCst), 1, "more than a third is left");
    sleep(Duration::from_secs(150)).await;
    let start = Instant::now();
    let reads = (0..20).map(|number| format!("y-{number}"));
    let reads: Vec<_> = reads.map(|name| (Arc::clone(&fetcher), name)).collect();
    futures::future::join_all(reads.iter().map(|(fetcher, name)| read(fetcher, name))).await;
    assert!(start.elapsed() < SECOND, "nobody waits for the renewal");
    assert_eq!(world.logins.load(SeqCst), 2, "one renewal for all");
    sleep(SECOND * 5).await;
    read(&fetcher, "z").await.expect("read");
    assert_eq!(locked(&world.reads).last().expect("a read").0, 2, "the new login is in use");
}

#[tokio::test(start_paused = true)]
async fn a_login_that_has_expired_is_waited_for_and_a_failed_renewal_leaves_the_old_one_in_use() {
    let (world, fetcher) = World::new().fetcher();
    read(&fetcher, "x").await.expect("read");
    sleep(Duration::from_secs(3000)).await;
    *locked(&world.login_fails) = Some(StoreError::new(ErrorClass::LoginDenied, "no"));
    for _ in 0..5 {
        read(&fetcher, "x").await.expect("the old login still works");
        sleep(SECOND).await;
    }
    assert_eq!(world.logins.load(SeqCst), 2, "a failed renewal is not repeated at once");
    sleep(Duration::from_secs(700)).await;
    assert_eq!(class(&read(&fetcher, "x").await), Some(ErrorClass::LoginDenied));
    *locked(&world.login_fails) = None;
    sleep(SECOND * 2).await;
    read(&fetcher, "x").await.expect("read");
}

#[tokio::test(start_paused = true)]
async fn a_session_without_an_end_of_its_own_lives_as_long_as_its_token() {
    let mut world = World::new();
    world.login_life = None;
    let (world, fetcher) = world.fetcher();
    read(&fetcher, "x").await.expect("read");
    sleep(Duration::from_secs(390)).await;
    read(&fetcher, "x").await.expect("read");
    assert_eq!(world.seen().0, 1);
    sleep(Duration::from_secs(20)).await;
    read(&fetcher, "x").await.expect("read");
    sleep(SECOND).await;
    assert_eq!((world.seen().0, world.seen().1), (2, 2), "renewed with a new token");
}

#[tokio::test(start_paused = true)]
async fn logins_too_short_to_be_used_are_an_error_and_no_endless_loop() {
    let mut world = World::new();
    world.login_life = Some(Duration::ZERO);
    let (world, fetcher) = world.fetcher();
    assert_eq!(class(&read(&fetcher, "x").await), Some(ErrorClass::LoginDenied));
    assert_eq!(world.logins.load(SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_failed_login_is_shared_by_those_who_wait_and_tried_again_a_moment_later() {
    let (world, fetcher) = World::new().fetcher();
    *locked(&world.login_fails) = Some(StoreError::new(ErrorClass::LoginDenied, "no such role"));
    let names: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    let all = futures::future::join_all(names.iter().map(|name| read(&fetcher, name))).await;
    assert!(all.iter().all(|result| class(result) == Some(ErrorClass::LoginDenied)));
    assert_eq!(world.seen(), (1, 1, 0));
    *locked(&world.login_fails) = None;
    sleep(SECOND * 2).await;
    assert_eq!(read(&fetcher, "x").await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_dead_login_is_replaced_once_and_the_reads_are_repeated_once() {
    let (world, fetcher) = World::new().fetcher();
    read(&fetcher, "x").await.expect("read");
    sleep(SECOND * 60).await;
    world.dead_up_to.store(1, SeqCst);
    let names: Vec<String> = (0..10).map(|number| number.to_string()).collect();
    let all = futures::future::join_all(names.iter().map(|name| read(&fetcher, name))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(world.seen(), (2, 2, 21), "one new token, one new login, each read twice");
}

#[tokio::test(start_paused = true)]
async fn p6_a_manager_that_refuses_and_answers_in_turn_causes_few_logins_and_fewer_tokens() {
    let (world, fetcher) = World::new().fetcher();
    for _ in 0..59 {
        let _ = read(&fetcher, "x").await;
        world.dead_up_to.store(world.logins.load(SeqCst), SeqCst);
        let _ = read(&fetcher, "x").await;
        sleep(SECOND).await;
    }
    assert_eq!((world.seen().0, world.seen().1), (1, 5), "the first login, and one every 15 s");
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_is_not_answered_does_not_show_that_the_new_login_helped() {
    let (world, fetcher) = World::new().fetcher();
    read(&fetcher, "x").await.expect("read");
    world.dead_up_to.store(1, SeqCst);
    let retried = tokio::spawn({
        let fetcher = Arc::clone(&fetcher);
        async move { read(&fetcher, "x").await }
    });
    sleep(Duration::from_millis(15)).await;
    *locked(&world.read_takes) = SECOND * 100;
    assert_eq!(class(&retried.await.expect("joined")), Some(ErrorClass::Timeout));
    *locked(&world.read_takes) = Duration::from_millis(10);
    world.dead_up_to.store(2, SeqCst);
    sleep(SECOND * 10).await;
    assert_eq!(class(&read(&fetcher, "x").await), Some(ErrorClass::Denied), "20 s after the last new login");
    assert_eq!(world.logins.load(SeqCst), 2);
    sleep(SECOND * 10).await;
    read(&fetcher, "x").await.expect("a login that is really dead is still replaced");
}

#[tokio::test(start_paused = true)]
async fn p6_what_one_read_holds_in_memory_is_bounded() {
    let (world, fetcher) = World::new().fetcher();
    world.weight.store(1 << 20, SeqCst);
    let keys: Vec<_> = (0..1000).map(|number| key(&number.to_string())).collect();
    let answers = fetcher.read(&store(), &account("bot"), &keys, Instant::now()).await;
    assert_eq!(answers.len(), 1000);
    assert!(answers[..8].iter().all(Result::is_ok), "8 MiB");
    assert!(answers[8..].iter().all(|answer| class(answer) == Some(ErrorClass::TooLarge)));
    sleep(SECOND * 60).await;
    assert!(world.seen().2 <= 80, "{} were read", world.seen().2);
    world.weight.store(8 << 10, SeqCst);
    let answers = fetcher.read(&store(), &account("bot"), &keys, Instant::now()).await;
    assert!(answers.iter().all(Result::is_ok), "1000 that are small enough");
}

#[tokio::test(start_paused = true)]
async fn a_new_logins_refusal_is_final_and_a_forbidden_path_does_not_cause_login_after_login() {
    let (world, fetcher) = World::new().fetcher();
    world.fail("forbidden", StoreError::new(ErrorClass::Denied, "403").ending_session());
    let refused = read(&fetcher, "forbidden").await.expect_err("refused");
    assert_eq!((refused.class, refused.session_dead), (ErrorClass::Denied, false));
    assert_eq!(world.seen(), (1, 1, 1), "the login was new: no second try");
    read(&fetcher, "x").await.expect("read");
    for _ in 0..600 {
        assert_eq!(class(&read(&fetcher, "forbidden").await), Some(ErrorClass::Denied));
        sleep(SECOND).await;
    }
    let logins = world.logins.load(SeqCst);
    assert!((2..=9).contains(&logins), "{logins} logins in ten minutes of asking each second");
    world.dead_up_to.store(logins, SeqCst);
    sleep(Duration::from_secs(120)).await;
    read(&fetcher, "x").await.expect("a login that is really dead is still replaced");
}

#[tokio::test(start_paused = true)]
async fn p6_a_manager_that_never_answers_costs_one_deadline_and_then_nothing() {
    let (world, fetcher) = World::new().fetcher();
    read(&fetcher, "warm-up").await.expect("read");
    *locked(&world.read_takes) = Duration::from_secs(100_000);
    let names: Vec<String> = (0..500).map(|number| number.to_string()).collect();
    let start = Instant::now();
    let all = futures::future::join_all(names.iter().map(|name| read(&fetcher, name))).await;
    assert!(all.iter().all(|result| class(result) == Some(ErrorClass::Timeout)));
    assert_eq!(start.elapsed().as_secs(), 10, "500 readers, 16 at once: the queue does not wait in turns");
    assert_eq!(world.seen().2, 17);
    let start = Instant::now();
    assert_eq!(class(&read(&fetcher, "x").await), Some(ErrorClass::Timeout));
    assert!(start.elapsed() < SECOND);

    let mut other = store();
    other.uid = "store-2".into();
    if let crate::api::Provider::Vault(vault) = &mut other.provider {
        vault.address = "https://other.example".into();
    }
    *locked(&world.read_takes) = SECOND;
    let start = Instant::now();
    let healthy = fetcher.read(&other, &account("bot"), &[key("x")], Instant::now()).await;
    assert!(healthy[0].is_ok() && start.elapsed() < SECOND * 2, "another store is not delayed");
}

#[tokio::test(start_paused = true)]
async fn p6_a_store_that_answers_again_is_announced_once() {
    let (world, fetcher) = World::new().fetcher();
    let mut recoveries = fetcher.recoveries();
    world.fail("x", StoreError::new(ErrorClass::Unavailable, "Vault is sealed: unseal it"));
    for _ in 0..20 {
        let error = read(&fetcher, "x").await.expect_err("down");
        assert_eq!(error.message, "Vault is sealed: unseal it", "one text throughout");
        sleep(SECOND).await;
    }
    assert!(recoveries.try_recv().is_err());
    locked(&world.fails).clear();
    sleep(Duration::from_secs(60)).await;
    for _ in 0..3 {
        read(&fetcher, "x").await.expect("up");
    }
    assert_eq!(recoveries.try_recv().ok().as_deref(), Some("store-1"));
    assert!(recoveries.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_takes_nobody_along() {
    let (world, fetcher) = World::new().fetcher();
    *locked(&world.read_takes) = SECOND * 3;
    let due = Instant::now();
    let leader = tokio::spawn({
        let fetcher = Arc::clone(&fetcher);
        async move { read_since(&fetcher, "x", due).await }
    });
    let follower = tokio::spawn({
        let fetcher = Arc::clone(&fetcher);
        async move { read_since(&fetcher, "x", due).await }
    });
    sleep(SECOND).await;
    leader.abort();
    assert_eq!(follower.await.expect("joined"), Ok(1));
    assert_eq!(world.seen(), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_panics_is_an_error_for_its_readers_and_for_nobody_after_them() {
    let (world, fetcher) = World::new().fetcher();
    world.panics.store(true, SeqCst);
    let all = futures::future::join_all((0..3).map(|_| read(&fetcher, "x"))).await;
    assert!(all.iter().all(|result| class(result) == Some(ErrorClass::Unavailable)));
    world.panics.store(false, SeqCst);
    advance(Duration::from_millis(1)).await;
    assert_eq!(read(&fetcher, "x").await, Ok(1));
    assert_eq!(fetcher.counters().panics(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_at_the_same_time_is_read_in_batches_where_the_manager_can() {
    let mut world = World::new();
    world.batch = 20;
    let (world, fetcher) = world.fetcher();
    world.fail("s-7", StoreError::new(ErrorClass::Missing, "not there"));
    let names: Vec<String> = (0..50).map(|number| format!("s-{number}")).collect();
    let all = futures::future::join_all(names.iter().map(|name| read(&fetcher, name))).await;
    for (number, result) in all.iter().enumerate() {
        assert_eq!(class(result), (number == 7).then_some(ErrorClass::Missing), "{number}");
    }
    let sizes: Vec<usize> = locked(&world.reads).iter().map(|(_, keys)| keys.len()).collect();
    assert_eq!(sizes, [20, 20, 10]);
}

#[tokio::test(start_paused = true)]
async fn p6_a_throttled_store_is_left_alone_as_long_as_it_asks() {
    let (world, fetcher) = World::new().fetcher();
    let wait = Some(Duration::from_secs(30));
    world.fail("x", StoreError::new(ErrorClass::Throttled, "429").after(wait));
    assert_eq!(read(&fetcher, "x").await.expect_err("throttled").retry_after, wait);
    locked(&world.fails).clear();
    sleep(SECOND * 10).await;
    let refused = read(&fetcher, "y").await.expect_err("too early");
    assert_eq!(refused.class, ErrorClass::Throttled);
    assert!(refused.retry_after.is_some_and(|left| left <= SECOND * 20));
    sleep(SECOND * 20).await;
    read(&fetcher, "y").await.expect("read");
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_or_idle_is_forgotten_and_a_good_login_is_kept() {
    let (world, fetcher) = World::new().fetcher();
    read(&fetcher, "x").await.expect("read");
    sleep(Duration::from_secs(1800)).await;
    fetcher.sweep();
    read(&fetcher, "x").await.expect("read");
    assert_eq!(world.logins.load(SeqCst), 1);
    fetcher.forget_account("uid-bot");
    read(&fetcher, "x").await.expect("read");
    assert_eq!((world.seen().0, world.seen().1), (2, 2));
    fetcher.forget_store("store-1");
    read(&fetcher, "x").await.expect("read");
    assert_eq!(world.logins.load(SeqCst), 3);
    sleep(Duration::from_secs(4000)).await;
    fetcher.sweep();
    // What a domain shares goes when its last seat has gone.
    assert!(locked(&fetcher.seats).is_empty() && fetcher.stores.is_empty() && fetcher.domains.is_empty());
}
