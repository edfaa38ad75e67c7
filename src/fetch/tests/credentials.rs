//! Stores with credentials of their own, and whose tokens may go where.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use futures::future::join_all;
use tokio::time::{Instant, sleep};

use super::{
    SECOND,
    world::{World, account, class, key, store, version_of},
};
use crate::{
    api::{Provider, SecretKeyRef},
    fetch::{Fetcher, ReferredSecrets, ResolvedStore, ServiceAccount, locked},
    stores::{ErrorClass, StoreError},
};

/// A store that logs in with Secret `login`, of which the watch saw this.
#[allow(clippy::option_option, reason = "nothing seen yet, seen to be absent, seen at a version")]
fn stored(seen: Option<Option<u64>>) -> ResolvedStore {
    let mut stored = store();
    if let Provider::Vault(vault) = &mut stored.provider {
        vault.auth.token_secret_ref = Some(SecretKeyRef { name: "login".into(), key: "password".into() });
    }
    let seen = seen.map(|version| ("login".to_owned(), version.map(|version| version_of("login", version))));
    stored.credentials = ReferredSecrets { namespace: "trading".into(), seen: seen.into_iter().collect() };
    stored
}

async fn read_as(fetcher: &Fetcher, store: &ResolvedStore, account: &ServiceAccount) -> Result<(), StoreError> {
    fetcher.read(store, account, &[key("x")], Instant::now()).await.remove(0).map(drop)
}

#[tokio::test(start_paused = true)]
async fn p2_a_stores_own_credentials_are_read_once_and_one_login_serves_every_account() {
    let (world, fetcher) = World::new().fetcher();
    world.put_secret("login", 1, "hunter2\n");
    let store = stored(Some(Some(1)));
    let accounts: Vec<_> = (0..50).map(|number| account(&format!("bot-{number}"))).collect();
    let reads = accounts.iter().map(|account| read_as(&fetcher, &store, account));
    assert!(join_all(reads).await.iter().all(Result::is_ok));
    assert_eq!((world.secret_reads.load(SeqCst), world.opened.load(SeqCst)), (1, 1));
    assert_eq!((world.seen().0, world.seen().1), (0, 1), "no token is asked for");
    assert_eq!(*locked(&world.passwords), ["hunter2"]);
}

#[tokio::test(start_paused = true)]
async fn p6_rotated_credentials_make_a_new_session_and_what_only_touches_the_watch_makes_none() {
    let (world, fetcher) = World::new().fetcher();
    world.put_secret("login", 1, "old");
    let bot = account("bot");
    // The watch has not looked yet, then catches up with what was read.
    for seen in [None, Some(Some(1)), Some(Some(1))] {
        read_as(&fetcher, &stored(seen), &bot).await.expect("read");
    }
    assert_eq!((world.secret_reads.load(SeqCst), world.logins.load(SeqCst)), (1, 1));
    world.put_secret("login", 3, "new");
    read_as(&fetcher, &stored(Some(Some(1))), &bot).await.expect("no news yet");
    assert_eq!(world.logins.load(SeqCst), 1);
    // It reports a state in between first, then the one that was read.
    for seen in [2, 2, 3, 3] {
        read_as(&fetcher, &stored(Some(Some(seen))), &bot).await.expect("read");
    }
    assert_eq!((world.secret_reads.load(SeqCst), world.logins.load(SeqCst)), (2, 2));
    assert_eq!(*locked(&world.passwords), ["old", "new"]);
    assert_eq!(locked(&fetcher.seats).len(), 1, "the old login is gone");
}

#[tokio::test(start_paused = true)]
async fn a_missing_secret_or_key_is_said_with_what_to_do_and_tried_again_when_it_appears() {
    let (world, fetcher) = World::new().fetcher();
    let bot = account("bot");
    let refused = read_as(&fetcher, &stored(Some(None)), &bot).await.expect_err("missing");
    assert_eq!(refused.class, ErrorClass::Invalid);
    assert_eq!(
        refused.message,
        "the store's credentials cannot be used: namespace trading has no Secret login: create it with the key \
         password, or correct the store's reference"
    );
    let missing = stored(Some(None));
    let all = join_all((0..100).map(|_| read_as(&fetcher, &missing, &bot))).await;
    assert!(all.iter().all(|result| class(result) == Some(ErrorClass::Invalid)));
    assert_eq!(world.secret_reads.load(SeqCst), 1, "one failure for all who ask within a second");
    world.put_secret("login", 1, "hunter2");
    read_as(&fetcher, &stored(Some(Some(1))), &bot).await.expect("news are not waited with");

    let mut other = stored(Some(Some(1)));
    other.generation = 2;
    if let Provider::Vault(vault) = &mut other.provider {
        vault.auth.token_secret_ref = Some(SecretKeyRef { name: "login".into(), key: "pass".into() });
    }
    let refused = read_as(&fetcher, &other, &bot).await.expect_err("no such key");
    assert!(refused.message.contains("Secret login in namespace trading has no key pass: add it"), "{refused}");
    assert!(!refused.message.contains("hunter2"));
}

#[tokio::test(start_paused = true)]
async fn p5_credentials_that_were_deleted_end_the_session() {
    let (world, fetcher) = World::new().fetcher();
    world.put_secret("login", 1, "hunter2");
    let bot = account("bot");
    read_as(&fetcher, &stored(Some(Some(1))), &bot).await.expect("read");
    locked(&world.secrets).clear();
    assert_eq!(class(&read_as(&fetcher, &stored(Some(None)), &bot).await), Some(ErrorClass::Invalid));
}

#[tokio::test(start_paused = true)]
async fn p2_credentials_that_cannot_be_read_for_a_moment_cost_no_login_and_those_that_are_refused_end_theirs() {
    use ErrorClass::{Invalid, Throttled, Timeout, Unavailable};
    for (said, logins) in [(Unavailable, 1), (Timeout, 1), (Throttled, 1), (Invalid, 2)] {
        let (world, fetcher) = World::new().fetcher();
        let bot = account("bot");
        world.put_secret("login", 3, "hunter2");
        read_as(&fetcher, &stored(Some(Some(1))), &bot).await.expect("read");
        // The watch is on its way to what was read: whether that is so must be looked at.
        *locked(&world.secrets_fail) = Some(StoreError::new(said, "no answer"));
        let failed = read_as(&fetcher, &stored(Some(Some(2))), &bot).await;
        assert_eq!(class(&failed), Some(said), "nobody goes on with what may have been replaced");
        *locked(&world.secrets_fail) = None;
        sleep(SECOND * 2).await;
        read_as(&fetcher, &stored(Some(Some(2))), &bot).await.expect("read");
        assert_eq!((world.opened.load(SeqCst), world.logins.load(SeqCst)), (logins, logins), "{said:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn p5_credentials_that_are_replaced_while_they_cannot_be_read_are_not_used_again() {
    let (world, fetcher) = World::new().fetcher();
    let bot = account("bot");
    world.put_secret("login", 1, "old");
    read_as(&fetcher, &stored(Some(Some(1))), &bot).await.expect("read");
    *locked(&world.secrets_fail) = Some(StoreError::new(ErrorClass::Unavailable, "no answer"));
    assert!(read_as(&fetcher, &stored(Some(Some(2))), &bot).await.is_err());
    world.put_secret("login", 2, "new");
    *locked(&world.secrets_fail) = None;
    sleep(SECOND * 2).await;
    read_as(&fetcher, &stored(Some(Some(2))), &bot).await.expect("read");
    assert_eq!(*locked(&world.passwords), ["old", "new"]);
    assert_eq!(locked(&fetcher.seats).len(), 1, "the old login is gone");
}

#[tokio::test(start_paused = true)]
async fn p5_a_token_for_the_kubernetes_api_is_no_credential_for_a_manager() {
    let (world, fetcher) = World::new().fetcher();
    for kind in ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "botsecret.dev/digest-key"] {
        locked(&world.secrets).insert("login".into(), (1, kind.to_owned(), "hunter2".to_owned()));
        let refused = read_as(&fetcher, &stored(None), &account("bot")).await.expect_err("refused");
        assert!(refused.message.contains(kind) && refused.message.contains("refer to another"), "{refused}");
        sleep(SECOND * 2).await;
    }
    assert_eq!(world.logins.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn p5_no_token_is_asked_for_that_a_cloud_accepts_from_a_store_that_is_not_of_it() {
    let (world, fetcher) = World::new().fetcher();
    let mut store = store();
    if let Provider::Vault(vault) = &mut store.provider {
        let jwt = r#"{"role":"bots","audience":"sts.amazonaws.com"}"#;
        vault.auth.jwt = Some(serde_json::from_str(jwt).expect("auth"));
    }
    let refused = read_as(&fetcher, &store, &account("bot")).await.expect_err("refused");
    assert_eq!(refused.class, ErrorClass::Invalid);
    assert_eq!(world.seen(), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_changed_identity_annotation_makes_another_session() {
    let (world, fetcher) = World::new().fetcher();
    let mut bot = account("bot");
    for role in ["one", "one", "two"] {
        bot.annotations.insert("eks.amazonaws.com/role-arn".into(), role.into());
        read_as(&fetcher, &store(), &bot).await.expect("read");
    }
    assert_eq!((world.seen().0, world.seen().1), (1, 2), "the token serves both");
    let fetcher = Arc::clone(&fetcher);
    fetcher.forget_account("uid-bot");
    assert!(locked(&fetcher.seats).is_empty());
}
