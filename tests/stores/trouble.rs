//! Denied, dead, sealed, silent and foreign managers.

use std::time::{Duration, Instant};

use botsecret::stores::ErrorClass;
use botsecret_testbed::{BlackHole, OpenBao, OpenBaoOptions, wait_for};
use serde_json::json;

use crate::world::{Bot, Outcome, from, key, refusal, shared_bao, text};

#[tokio::test]
async fn a_path_or_mount_that_may_not_be_read_is_denied_with_the_grant_that_is_missing() -> Outcome {
    let (bao, bot) = (shared_bao().await?, Bot::new("denied").await?);
    let mount = &bot.namespace;
    let root = bot.with_role(bao, &format!(r#"path "{mount}/data/mine" {{ capabilities = ["read"] }}"#)).await?;
    root.enable_kv(mount, 2).await?;
    root.put_kv2(mount, "mine", &json!({"key": "value"})).await?;
    let store = bot.vault(bao, &json!({}));
    bot.read(&store, &format!("{mount}/mine")).await?;
    for _ in 0..5 {
        let message = refusal(bot.read(&store, &format!("{mount}/theirs")).await, ErrorClass::Denied);
        assert!(message.contains(&format!("\"{mount}/data/theirs\"")), "{message}");
        bot.read(&store, &format!("{mount}/mine")).await?;
    }
    assert_eq!(bot.fetcher.counters().logins(), 2, "one try with a new login, and no more");
    let message = refusal(bot.read(&store, "no-such-mount/x").await, ErrorClass::Denied);
    assert!(message.contains("nothing is mounted there"), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_right_that_the_role_was_given_after_the_login_is_had_at_the_next_read() -> Outcome {
    let (bao, bot) = (shared_bao().await?, Bot::new("granted").await?);
    let mount = &bot.namespace;
    let root = bot.with_role(bao, &format!(r#"path "{mount}/data/a" {{ capabilities = ["read"] }}"#)).await?;
    root.enable_kv(mount, 2).await?;
    for name in ["a", "b"] {
        root.put_kv2(mount, name, &json!({"key": name})).await?;
    }
    let store = bot.vault(bao, &json!({"path": mount}));
    bot.read(&store, "a").await?;
    let more = format!("{mount}-more");
    root.policy(&more, &format!(r#"path "{mount}/data/b" {{ capabilities = ["read"] }}"#)).await?;
    root.write(&format!("auth/kubernetes/role/{mount}"), &json!({"token_policies": [mount, more]})).await?;
    assert_eq!(text(&*bot.read(&store, "b").await?), r#"{"key":"b"}"#);
    Ok(())
}

#[tokio::test]
async fn a_login_that_was_revoked_is_made_again_once_and_nobody_notices() -> Outcome {
    let (bao, bot) = (shared_bao().await?, Bot::new("revoked").await?);
    let mount = &bot.namespace;
    let root = bot.with_role(bao, &format!(r#"path "{mount}/*" {{ capabilities = ["read"] }}"#)).await?;
    root.enable_kv(mount, 2).await?;
    let mut keys = Vec::new();
    for number in 0..20 {
        root.put_kv2(mount, &format!("{number}"), &json!({"number": number})).await?;
        keys.push(key(&format!("{number}")));
    }
    let (store, mark) = (bot.vault(bao, &json!({"path": mount})), bao.mark()?);
    bot.read(&store, "0").await?;
    let reads = bao.requests_since(&mark)?;
    let read = reads.iter().rfind(|request| request.path.starts_with(mount)).expect("a read");
    let accessor = read.accessor.as_ref().expect("with its token's accessor");
    root.write("auth/token/revoke-accessor", &json!({"accessor": accessor})).await?;
    for secret in bot.read_all(&store, &keys).await {
        secret?;
    }
    assert_eq!(bot.fetcher.counters().logins(), 2);
    Ok(())
}

#[tokio::test]
async fn p6_a_sealed_or_dead_openbao_is_an_outage_that_says_so_and_ends_by_itself() -> Outcome {
    let bot = Bot::new("sealed").await?;
    let bao = OpenBao::start(bot.cluster, OpenBaoOptions { tls: false }).await?;
    let mount = &bot.namespace;
    let root = bot.with_role(&bao, &format!(r#"path "{mount}/*" {{ capabilities = ["read"] }}"#)).await?;
    root.enable_kv(mount, 2).await?;
    root.put_kv2(mount, "bot", &json!({"key": "value"})).await?;
    let store = bot.vault(&bao, &json!({"path": mount}));
    bot.read(&store, "bot").await?;

    bao.seal().await?;
    let message = refusal(bot.read(&store, "bot").await, ErrorClass::Unavailable);
    assert!(message.contains("sealed"), "{message}");
    let mut another = bot.vault(&bao, &json!({"path": mount}));
    another.uid = "another".into();
    let message = refusal(bot.read(&another, "bot").await, ErrorClass::Unavailable);
    assert!(message.contains("sealed"), "a login says the same: {message}");
    bao.unseal().await?;
    bot.read(&store, "bot").await?;

    bao.stop().await?;
    for _ in 0..8 {
        let message = refusal(bot.read(&store, "bot").await, ErrorClass::Unavailable);
        assert!(message.contains(bao.url()) && message.contains("refused"), "{message}");
    }
    bao.start_again().await?;
    wait_for("the store to be read again", Duration::from_secs(20), async || Ok(bot.read(&store, "bot").await.ok()))
        .await?;
    Ok(())
}

#[tokio::test]
async fn p6_a_manager_that_accepts_and_never_answers_is_a_timeout_for_all_who_ask_at_once() -> Outcome {
    let (bot, hole) = (Bot::new("hole").await?, BlackHole::start().await?);
    let bao = shared_bao().await?;
    let address = format!("http://{}", hole.address());
    let mut store = bot.vault(bao, &json!({"address": address, "caBundle": null}));
    store.limits = from(json!({"timeout": "1s"}));
    let keys: Vec<_> = (0..100).map(|number| key(&format!("kv/{number}"))).collect();
    let start = Instant::now();
    for result in bot.read_all(&store, &keys).await {
        let message = refusal(result, ErrorClass::Timeout);
        assert!(message.starts_with("the manager did not answer within 1s: check"), "{message}");
    }
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!(hole.accepted(), 1, "one login for all");
    Ok(())
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused_with_where_to_put_it() -> Outcome {
    let (bao, bot) = (shared_bao().await?, Bot::new("tls").await?);
    bot.with_role(bao, r#"path "kv/*" { capabilities = ["read"] }"#).await?;
    let store = bot.vault(bao, &json!({"caBundle": null}));
    let message = refusal(bot.read(&store, "kv/bot").await, ErrorClass::Unavailable);
    assert!(message.contains("caBundle") && message.contains(bao.url()), "{message}");
    Ok(())
}
