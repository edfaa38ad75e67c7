//! Searches.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use futures::future::join_all;
use tokio::time::{Instant, sleep};

use super::{
    SECOND,
    world::{World, account, class, read, store},
};
use crate::{
    fetch::{Fetcher, locked, seat::RESULT_KEPT},
    stores::{ErrorClass, FindQuery, StoreError},
};

async fn find(fetcher: &Fetcher, path: &str, since: Instant) -> Result<Vec<String>, StoreError> {
    let query = FindQuery { path: Some(path.to_owned()), ..FindQuery::default() };
    fetcher.find(&store(), &account("bot"), &query, since).await
}

#[tokio::test(start_paused = true)]
async fn p2_searches_for_the_same_are_shared_and_a_result_older_than_asked_for_is_not() {
    let (world, fetcher) = World::new().fetcher();
    let due = Instant::now();
    let all = join_all((0..50).map(|_| find(&fetcher, "a", due))).await;
    assert!(all.iter().all(|found| found.as_deref() == Ok(&["a-1".to_owned()][..])), "{all:?}");
    assert_eq!((world.seen().1, world.finds.load(SeqCst)), (1, 1));
    assert_eq!((fetcher.counters().finds(), fetcher.counters().shared_finds()), (1, 49));
    world.value.store(2, SeqCst);
    sleep(SECOND).await;
    assert_eq!(find(&fetcher, "a", due).await.expect("found"), ["a-1"], "it began after this one fell due");
    assert_eq!(find(&fetcher, "a", Instant::now()).await.expect("found"), ["a-2"]);
    assert_eq!(find(&fetcher, "b", due).await.expect("found"), ["b-2"]);
    assert_eq!(world.finds.load(SeqCst), 3);
    sleep(RESULT_KEPT + SECOND).await;
    let seats: Vec<_> = locked(&fetcher.seats).values().cloned().collect();
    assert!(seats.iter().all(|seat| locked(&seat.finds).is_empty()), "what was found is dropped soon");
}

#[tokio::test(start_paused = true)]
async fn a_search_with_a_dead_login_is_repeated_once_with_a_new_one() {
    let (world, fetcher) = World::new().fetcher();
    read(&fetcher, "x").await.expect("read");
    world.dead_up_to.store(1, SeqCst);
    assert_eq!(find(&fetcher, "a", Instant::now()).await.expect("found"), ["a-1"]);
    assert_eq!((world.logins.load(SeqCst), world.finds.load(SeqCst)), (2, 2));
    sleep(SECOND * 15).await;
    world.dead_up_to.store(9, SeqCst);
    let refused = find(&fetcher, "b", Instant::now()).await.expect_err("refused");
    assert_eq!((refused.class, refused.session_dead), (ErrorClass::Denied, false));
    assert_eq!((world.logins.load(SeqCst), world.finds.load(SeqCst)), (3, 4), "and no third time");
}

#[tokio::test(start_paused = true)]
async fn p6_a_search_takes_a_place_and_ends_at_the_deadline_and_outlives_who_asked() {
    let (world, fetcher) = World::new().fetcher();
    read(&fetcher, "x").await.expect("read");
    *locked(&world.read_takes) = SECOND * 3;
    let due = Instant::now();
    let leader = tokio::spawn({
        let fetcher = Arc::clone(&fetcher);
        async move { find(&fetcher, "a", due).await }
    });
    let follower = tokio::spawn({
        let fetcher = Arc::clone(&fetcher);
        async move { find(&fetcher, "a", due).await }
    });
    sleep(SECOND).await;
    leader.abort();
    assert_eq!(follower.await.expect("joined").expect("found"), ["a-1"]);
    *locked(&world.read_takes) = SECOND * 100;
    let start = Instant::now();
    let names: Vec<_> = (0..100).map(|number| number.to_string()).collect();
    let all = join_all(names.iter().map(|name| find(&fetcher, name, start))).await;
    assert!(all.iter().all(|found| class(found) == Some(ErrorClass::Timeout)));
    assert_eq!((start.elapsed().as_secs(), world.finds.load(SeqCst)), (10, 17), "16 at once, and then none");
}
