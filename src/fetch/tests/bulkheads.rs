//! What holds for one identity, one part of a manager or for logins alone, and
//! must not be believed of the rest.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::world::{World, account, class, key, store};
use crate::{
    api::Provider,
    fetch::{Fetcher, ResolvedStore, locked},
    stores::{ErrorClass, StoreError},
};

const SECOND: Duration = Duration::from_secs(1);

fn of(provider: Provider) -> ResolvedStore {
    ResolvedStore { provider, ..store() }
}

fn spec<T: DeserializeOwned>(fields: Value) -> T {
    serde_json::from_value(fields).expect("a provider")
}

fn vault(uid: &str, more: &[(&str, &str)]) -> ResolvedStore {
    let mut vault = json!({"address": "https://vault.example", "auth": {}});
    for (field, value) in more {
        vault[field] = json!(value);
    }
    ResolvedStore { uid: uid.to_owned(), ..of(Provider::Vault(spec(vault))) }
}

/// One of each manager that grants logins elsewhere than where secrets lie.
fn clouds() -> [ResolvedStore; 3] {
    let aws = json!({"service": "SecretsManager", "region": "eu-west-1", "auth": {"jwt": {}}});
    let azure = json!({"vaultUrl": "https://bots.vault.azure.net", "auth": {"workloadIdentity": {}}});
    let federation = json!({"audience": "//iam.googleapis.com/x"});
    let gcp = json!({"projectID": "trading", "auth": {"workloadIdentityFederation": federation}});
    [of(Provider::Aws(spec(aws))), of(Provider::Azure(spec(azure))), of(Provider::Gcp(spec(gcp)))]
}

fn name_of(store: &ResolvedStore) -> &'static str {
    match store.provider {
        Provider::Aws(_) => "aws",
        Provider::Azure(_) => "azure",
        Provider::Gcp(_) => "gcp",
        _ => "vault",
    }
}

async fn read_as(fetcher: &Fetcher, store: &ResolvedStore, who: &str, name: &str) -> Result<(), StoreError> {
    fetcher.read(store, &account(who), &[key(name)], Instant::now()).await.remove(0).map(drop)
}

fn throttled() -> StoreError {
    StoreError::new(ErrorClass::Throttled, "429").after(Some(SECOND * 30))
}

#[tokio::test(start_paused = true)]
async fn p6_reads_that_always_time_out_for_one_identity_shut_out_no_other_of_its_store() {
    let (world, fetcher) = World::new().fetcher();
    for who in ["bad", "good"] {
        read_as(&fetcher, &store(), who, "warm-up").await.expect("read");
    }
    world.fail("hung", StoreError::new(ErrorClass::Timeout, "no answer"));
    for _ in 0..100 {
        assert_eq!(class(&read_as(&fetcher, &store(), "bad", "hung").await), Some(ErrorClass::Timeout));
    }
    let asked = world.seen().2;
    assert!(asked < 10, "{asked}: its own door is closed");
    read_as(&fetcher, &store(), "good", "x").await.expect("another's is open");
    assert!(read_as(&fetcher, &store(), "bad", "x").await.is_err(), "this one waits");
    sleep(SECOND * 20).await;
    let mut recoveries = fetcher.recoveries();
    read_as(&fetcher, &store(), "bad", "x").await.expect("and is probed");
    assert_eq!(recoveries.try_recv().ok().as_deref(), Some("store-1"), "whoever waits for it is woken");
}

#[tokio::test(start_paused = true)]
async fn p6_five_hundred_identities_of_a_manager_that_never_answers_cost_it_few_requests() {
    let (world, fetcher) = World::new().fetcher();
    let names: Vec<String> = (0..500).map(|number| format!("bot-{number}")).collect();
    for who in &names {
        read_as(&fetcher, &store(), who, "warm-up").await.expect("read");
    }
    *locked(&world.read_takes) = SECOND * 100_000;
    let (before, start) = (world.seen().2, Instant::now());
    let store = store();
    let all = futures::future::join_all(names.iter().map(|who| read_as(&fetcher, &store, who, "x"))).await;
    assert!(all.iter().all(|answer| class(answer) == Some(ErrorClass::Timeout)));
    let asked = world.seen().2 - before;
    assert!(start.elapsed() <= SECOND * 20 && asked <= 20, "{asked} in {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn p6_patience_that_one_vault_namespace_or_mount_asks_for_is_had_there_alone() {
    let (world, fetcher) = World::new().fetcher();
    let poor = vault("poor", &[("namespace", "a"), ("path", "kv")]);
    let same = vault("same", &[("namespace", "a"), ("path", "kv")]);
    let others = [
        vault("another-namespace", &[("namespace", "b"), ("path", "kv")]),
        vault("another-mount", &[("namespace", "a"), ("path", "flags")]),
        vault("the-root", &[("path", "kv")]),
    ];
    for store in others.iter().chain([&poor, &same]) {
        read_as(&fetcher, store, "bot", "warm-up").await.expect("read");
    }
    world.fail("x", throttled());
    assert!(read_as(&fetcher, &poor, "bot", "x").await.is_err());
    let refused = read_as(&fetcher, &same, "bot", "y").await;
    assert_eq!(class(&refused), Some(ErrorClass::Throttled), "it is asked of all who read there");
    for store in &others {
        read_as(&fetcher, store, "bot", "y").await.expect("it was not asked of this one");
    }
}

#[tokio::test(start_paused = true)]
async fn p6_patience_that_is_asked_of_logins_is_not_asked_of_reads_nor_the_other_way_round() {
    for store in clouds().into_iter().chain([vault("store-1", &[])]) {
        let (world, fetcher) = World::new().fetcher();
        let named = name_of(&store);
        read_as(&fetcher, &store, "bot", "warm-up").await.expect(named);
        *locked(&world.login_fails) = Some(throttled());
        assert_eq!(class(&read_as(&fetcher, &store, "new", "x").await), Some(ErrorClass::Throttled), "{named}");
        read_as(&fetcher, &store, "bot", "x").await.expect(named);
        let logins = world.logins.load(SeqCst);
        sleep(SECOND * 2).await;
        let refused = read_as(&fetcher, &store, "newer", "x").await.expect_err(named);
        assert_eq!(refused.class, ErrorClass::Throttled, "{named}");
        assert!(refused.retry_after.is_some_and(|wait| wait > SECOND * 27 && wait <= SECOND * 28), "{refused:?}");
        assert_eq!(world.logins.load(SeqCst), logins, "{named}: logins have patience");

        let (world, fetcher) = World::new().fetcher();
        read_as(&fetcher, &store, "bot", "warm-up").await.expect(named);
        world.fail("x", throttled());
        assert!(read_as(&fetcher, &store, "bot", "x").await.is_err());
        assert_eq!(class(&read_as(&fetcher, &store, "new", "y").await), Some(ErrorClass::Throttled), "{named}");
        assert_eq!((world.logins.load(SeqCst), world.seen().2), (2, 2), "{named}: it logs in, and reads nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn p6_a_dead_token_service_stops_no_read_of_those_who_are_logged_in() {
    for store in clouds() {
        let (world, fetcher) = World::new().fetcher();
        let named = name_of(&store);
        read_as(&fetcher, &store, "bot", "warm-up").await.expect(named);
        let dead = StoreError::new(ErrorClass::Unavailable, "connection refused").unconnected(true);
        *locked(&world.login_fails) = Some(dead);
        for number in 0..10 {
            assert!(read_as(&fetcher, &store, &format!("new-{number}"), "x").await.is_err());
        }
        assert_eq!(world.logins.load(SeqCst), 1 + 5, "{named}: it is left alone");
        read_as(&fetcher, &store, "bot", "x").await.expect(named);
    }
}

#[tokio::test(start_paused = true)]
async fn p6_logins_at_a_clouds_token_service_use_up_none_of_the_requests_that_reads_have() {
    for store in clouds() {
        let mut world = World::new();
        world.quota = (Some(1), 100);
        let (_world, fetcher) = world.fetcher();
        let start = Instant::now();
        let reads = (0..5).map(|number| {
            let (fetcher, store) = (&fetcher, &store);
            async move { read_as(fetcher, store, &format!("bot-{number}"), "x").await }
        });
        assert!(futures::future::join_all(reads).await.iter().all(Result::is_ok));
        assert!((SECOND * 4..SECOND * 5).contains(&start.elapsed()), "{}: {:?}", name_of(&store), start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn p6_large_values_of_many_reads_at_once_are_bounded_together_and_small_ones_are_not_held_up() {
    let (world, fetcher) = World::new().fetcher();
    world.weight.store(1 << 20, SeqCst);
    let stores: Vec<_> = (0..4).map(|number| vault(&format!("store-{number}"), &[])).collect();
    let keys: Vec<_> = (0..8).map(|number| key(&number.to_string())).collect();
    let names: Vec<_> = (0..6).map(|number| format!("bot-{number}")).collect();
    let readers = stores.iter().flat_map(|store| names.iter().map(move |who| (store, who)));
    // 192 MiB, were all of it held.
    let reads = readers.map(|(store, who)| {
        let (fetcher, keys) = (&fetcher, &keys);
        async move { fetcher.read(store, &account(who), keys, Instant::now()).await }
    });
    let answers: Vec<_> = futures::future::join_all(reads).await.into_iter().flatten().collect();
    let held = answers.iter().filter(|answer| answer.is_ok()).count();
    println!("{held} MiB of {} MiB are held", answers.len());
    assert_eq!((held, answers.len()), (64, 192));
    let refused = answers.iter().find_map(|answer| answer.as_ref().err()).expect("one");
    assert_eq!((refused.class, refused.about_one), (ErrorClass::Unavailable, true));
    world.weight.store(1 << 10, SeqCst);
    for store in &stores {
        read_as(&fetcher, store, "bot-0", "small").await.expect("it has room");
    }
    drop(answers);
    sleep(SECOND * 3).await;
    world.weight.store(1 << 20, SeqCst);
    for store in &stores {
        read_as(&fetcher, store, "bot-0", "large").await.expect("there is room again");
    }
}
