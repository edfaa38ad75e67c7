//! Key Vault: secrets, certificates, keys, and what goes wrong.

use std::{collections::BTreeMap, time::Duration};

use botsecret::stores::{ErrorClass, FindQuery, RemoteKey};
use botsecret_testbed::{
    FaultKind,
    clouds::azure::{LOGIN, Secret},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    azure_world::{Azure, TENANT, VAULT, VAULT_HOST, again, bytes},
    world::{Bot, Outcome, key, refusal},
};

fn tagged(value: &str, tags: &[(&str, &str)]) -> Secret {
    let tags = tags.iter().map(|(tag, value)| ((*tag).to_owned(), (*value).to_owned()));
    Secret { tags: tags.collect(), ..Secret::of(value) }
}

#[tokio::test]
async fn azure_secrets_arrive_byte_for_byte_at_the_newest_or_the_pinned_version() -> Outcome {
    let bot = Bot::new("azure-read").await?;
    let azure = Azure::start(&bot).await?;
    azure.may_read(&bot, "client-a", &["price-bot", "empty", "largest"]);
    let first = azure.cloud.put(VAULT, "price-bot", Secret::of("one"));
    let second = azure.cloud.put(VAULT, "price-bot", Secret::of("{\"key\": 1.10}\r\n\u{fc}\n"));
    azure.cloud.put(VAULT, "empty", Secret::of(""));
    azure.cloud.put(VAULT, "largest", Secret::of(&"x".repeat(25_600)));
    let store = azure.store_of(&bot, "client-a");

    let newest = bot.read(&store, "price-bot").await?;
    assert_eq!(bytes(&newest), "{\"key\": 1.10}\r\n\u{fc}\n".as_bytes());
    assert_eq!(newest.version, None, "versions of Key Vault have no order");
    assert_eq!(bytes(&*bot.read(&store, "secret/price-bot").await?), bytes(&newest));
    assert_eq!(newest.version_name().as_deref(), Some(second.as_str()));
    let pinned = bot.read_version(&store, "price-bot", &first).await?;
    assert_eq!((bytes(&pinned), pinned.version_name().as_deref()), (&b"one"[..], Some(first.as_str())));
    assert_eq!(bytes(&*bot.read(&store, "empty").await?), b"");
    assert_eq!(bytes(&*bot.read(&store, "largest").await?).len(), 25_600);
    refusal(bot.read_version(&store, "price-bot", &"0".repeat(32)).await, ErrorClass::Missing);
    refusal(bot.read_version(&store, "price-bot", "1").await, ErrorClass::Invalid);
    refusal(bot.read(&store, "kv/price-bot").await, ErrorClass::Invalid);

    azure.cloud.put(VAULT, "price-bot", Secret::of("rotated"));
    assert_eq!(bytes(&*bot.read(&store, "price-bot").await?), b"rotated");
    Ok(())
}

#[tokio::test]
async fn azure_certificates_arrive_as_pem_or_pkcs12_and_keys_as_their_public_part() -> Outcome {
    let bot = Bot::new("azure-cert").await?;
    let azure = Azure::start(&bot).await?;
    azure.may_read(&bot, "client-a", &["pem", "pfx", "plain"]);
    azure.cloud.grant(VAULT, "client-a", "keys/get", Some("signing"));
    let pem = "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n";
    let of_type = |value: &str, kind: &str| Secret { content_type: Some(kind.into()), ..Secret::of(value) };
    azure.cloud.certificate(VAULT, "pem", b"der", of_type(pem, "application/x-pem-file"));
    azure.cloud.certificate(VAULT, "pfx", b"der", of_type("MIIAAP8=", "application/x-pkcs12"));
    azure.cloud.put(VAULT, "plain", Secret::of("no certificate"));
    let jwk = azure.cloud.key(VAULT, "signing")?;
    let store = azure.store_of(&bot, "client-a");

    assert_eq!(bytes(&*bot.read(&store, "cert/pem").await?), pem.as_bytes());
    assert_eq!(bytes(&*bot.read(&store, "cert/pfx").await?), [0x30, 0x82, 0, 0, 0xff]);
    assert_eq!(bytes(&*bot.read(&store, "pfx").await?), b"MIIAAP8=", "as a secret it is untouched");
    refusal(bot.read(&store, "cert/plain").await, ErrorClass::Invalid);
    let read: Value = serde_json::from_slice(bytes(&*bot.read(&store, "key/signing").await?))?;
    assert_eq!(read, jwk);
    assert!(read.get("d").is_none(), "no private part");
    let message = refusal(bot.read(&store, "key/other").await, ErrorClass::Denied);
    assert!(message.contains("\"get\" on keys"), "{message}");
    Ok(())
}

#[tokio::test]
async fn azure_tags_are_read_as_metadata() -> Outcome {
    let bot = Bot::new("azure-tags").await?;
    let azure = Azure::start(&bot).await?;
    azure.may_read(&bot, "client-a", &["price-bot"]);
    azure.cloud.put(VAULT, "price-bot", tagged("hidden", &[("team", "trading")]));
    let key = RemoteKey { metadata: true, ..key("price-bot") };
    let tags = bot.read_all(&azure.store_of(&bot, "client-a"), &[key]).await.remove(0)?;
    assert_eq!(bytes(&tags), br#"{"team":"trading"}"#);
    Ok(())
}

#[tokio::test]
async fn azure_what_is_missing_deleted_or_disabled_is_told_apart_from_what_is_denied() -> Outcome {
    let bot = Bot::new("azure-gone").await?;
    let azure = Azure::start(&bot).await?;
    azure.may_read(&bot, "client-a", &["none", "deleted", "disabled"]);
    for name in ["deleted", "disabled", "denied"] {
        azure.cloud.put(VAULT, name, Secret::of("value"));
    }
    azure.cloud.delete(VAULT, "deleted", true);
    azure.cloud.disable(VAULT, "disabled");
    let store = azure.store_of(&bot, "client-a");
    for (name, class, part) in [
        ("none", ErrorClass::Missing, "not in the vault"),
        ("deleted", ErrorClass::Missing, "recover it"),
        ("disabled", ErrorClass::Missing, "disabled: enable it"),
        ("denied", ErrorClass::Denied, "grant client-a \"get\" on secrets"),
    ] {
        let message = refusal(bot.read(&store, name).await, class);
        assert!(message.contains(part), "{name}: {message}");
    }
    azure.cloud.delete(VAULT, "deleted", false);
    assert_eq!(bytes(&*bot.read(&store, "deleted").await?), b"value");
    assert_eq!(bot.fetcher.counters().logins(), 1, "a right that is missing ends no login");
    Ok(())
}

#[tokio::test]
async fn azure_secrets_are_found_by_prefix_name_and_tag_over_all_pages() -> Outcome {
    let bot = Bot::new("azure-find").await?;
    let azure = Azure::start(&bot).await?;
    azure.may_read(&bot, "client-a", &[]);
    for number in 0..60 {
        let team = if number % 2 == 0 { "even" } else { "odd" };
        azure.cloud.put(VAULT, &format!("bot-{number:02}"), tagged("value", &[("team", team), ("all", "yes")]));
    }
    azure.cloud.put(VAULT, "other", Secret::of("value"));
    azure.cloud.disable(VAULT, "bot-58");
    let store = azure.store_of(&bot, "client-a");
    let find = async |path: Option<&str>, name: Option<&str>, tags: &[(&str, &str)]| {
        let tags: BTreeMap<_, _> = tags.iter().map(|(tag, value)| ((*tag).into(), (*value).into())).collect();
        let query = FindQuery { path: path.map(str::to_owned), name: name.map(str::to_owned), tags };
        bot.fetcher.find(&store, &bot.account, &query, Instant::now()).await
    };
    let message = refusal(find(None, None, &[]).await, ErrorClass::Denied);
    assert!(message.contains("\"list\" on secrets"), "{message}");
    azure.cloud.grant(VAULT, "client-a", "secrets/list", None);
    assert_eq!(find(None, None, &[]).await?.len(), 60);
    assert_eq!(find(Some("bot-"), None, &[]).await?.len(), 59);
    assert_eq!(find(None, None, &[("team", "even"), ("all", "yes")]).await?.len(), 29);
    assert_eq!(
        find(Some("bot-"), Some("-5[0-9]$"), &[("team", "even")]).await?,
        ["bot-50", "bot-52", "bot-54", "bot-56"]
    );
    assert_eq!(find(None, None, &[("team", "none")]).await?, [""; 0]);
    refusal(find(None, Some("("), &[]).await, ErrorClass::Invalid);
    Ok(())
}

#[tokio::test]
async fn p5_azure_a_list_that_goes_on_elsewhere_takes_no_login_there() -> Outcome {
    let bot = Bot::new("azure-next").await?;
    let azure = Azure::start(&bot).await?;
    azure.may_read(&bot, "client-a", &["a"]);
    azure.cloud.put(VAULT, "a", Secret::of("value"));
    azure.cloud.vault("thief", TENANT);
    let store = azure.store_of(&bot, "client-a");
    bot.read(&store, "a").await?;
    let elsewhere = json!({"value": [], "nextLink": "https://thief.vault.test/secrets?api-version=7.5"}).to_string();
    azure.proxy.fault_on(VAULT_HOST, "GET /secrets?", FaultKind::answer(200, &[], &elsewhere), 1);
    let found = bot.fetcher.find(&store, &bot.account, &FindQuery::default(), Instant::now()).await;
    refusal(found, ErrorClass::Unavailable);
    assert_eq!(azure.asked("thief.vault.test"), 0);
    Ok(())
}

#[tokio::test]
async fn azure_one_login_and_one_challenge_serve_all_reads_and_a_dead_login_is_made_again() -> Outcome {
    let bot = Bot::new("azure-count").await?;
    let azure = Azure::start(&bot).await?;
    let names: Vec<String> = (0..20).map(|number| format!("bot-{number}")).collect();
    azure.may_read(&bot, "client-a", &names.iter().map(String::as_str).collect::<Vec<_>>());
    for name in &names {
        azure.cloud.put(VAULT, name, Secret::of(name));
    }
    let (store, keys) = (azure.store_of(&bot, "client-a"), names.iter().map(|name| key(name)).collect::<Vec<_>>());
    bot.read(&store, &names[0]).await?;
    assert_eq!((azure.asked(LOGIN), azure.asked(VAULT_HOST)), (1, 2), "a login, a challenge, a read");
    for _ in 0..2 {
        for (secret, name) in bot.read_all(&store, &keys).await.into_iter().zip(&names) {
            assert_eq!(bytes(&*secret?), name.as_bytes());
        }
    }
    assert_eq!((azure.asked(LOGIN), azure.asked(VAULT_HOST)), (1, 42));
    assert_eq!((bot.fetcher.counters().token_requests(), bot.fetcher.counters().logins()), (1, 1));

    azure.cloud.end_logins();
    for secret in bot.read_all(&store, &keys).await {
        secret?;
    }
    assert_eq!(azure.asked(LOGIN), 2);
    Ok(())
}

#[tokio::test]
async fn p6_azure_the_sdk_tries_once_and_the_error_is_sorted_by_what_was_answered() -> Outcome {
    let bot = Bot::new("azure-once").await?;
    let throttled = r#"{"error":{"code":"Throttled","message":"canary"}}"#;
    for (fault, class) in [
        (FaultKind::status(500), ErrorClass::Unavailable),
        (FaultKind::status(503), ErrorClass::Unavailable),
        (FaultKind::answer(429, &[("retry-after", "7")], throttled), ErrorClass::Throttled),
        (FaultKind::status(429), ErrorClass::Throttled),
        (FaultKind::answer(302, &[("location", "https://elsewhere.test")], ""), ErrorClass::Unavailable),
        (FaultKind::Truncate(3), ErrorClass::Unavailable),
        (FaultKind::Garbage, ErrorClass::Unavailable),
        (FaultKind::Reset, ErrorClass::Unavailable),
        (FaultKind::NoAnswer, ErrorClass::Timeout),
        (FaultKind::Flood, ErrorClass::TooLarge),
    ] {
        let (azure, shown) = (Azure::start(&bot).await?, format!("{fault:?}"));
        azure.may_read(&bot, "client-a", &["a"]);
        azure.cloud.put(VAULT, "a", Secret::of("value"));
        let mut store = azure.store_of(&bot, "client-a");
        store.uid = format!("{}-{shown}", store.uid);
        store.limits.timeout = Some(crate::world::from(json!("2s")));
        // One that asked for patience is not asked for a while, by anyone.
        let bot = again(&bot)?;
        bot.read(&store, "a").await?;
        azure.proxy.fault(VAULT_HOST, fault, 1);
        let error = bot.read(&store, "a").await.expect_err(&shown);
        assert_eq!(error.class, class, "{shown}: {error}");
        assert!(!error.message.contains("canary"), "{error}");
        if shown.contains("retry-after") {
            assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
        }
        assert_eq!((azure.asked(LOGIN), azure.asked(VAULT_HOST)), (1, 3), "{shown}: no second try");
    }
    Ok(())
}

#[tokio::test]
async fn p6_azure_a_sick_entra_id_is_asked_once_a_login() -> Outcome {
    let bot = Bot::new("azure-sick").await?;
    let loops = r#"{"error":"invalid_grant","error_description":"AADSTS50196: canary","error_codes":[50196]}"#;
    for (fault, class) in [
        (FaultKind::status(503), ErrorClass::Unavailable),
        (FaultKind::answer(429, &[("retry-after", "3")], "{}"), ErrorClass::Throttled),
        (FaultKind::answer(400, &[], loops), ErrorClass::Throttled),
        (FaultKind::Garbage, ErrorClass::Unavailable),
    ] {
        let (azure, bot) = (Azure::start(&bot).await?, again(&bot)?);
        azure.may_read(&bot, "client-a", &["a"]);
        azure.cloud.put(VAULT, "a", Secret::of("value"));
        azure.proxy.fault(LOGIN, fault.clone(), 1);
        let error = bot.read(&azure.store_of(&bot, "client-a"), "a").await.expect_err("a login that fails");
        assert_eq!(error.class, class, "{fault:?}: {error}");
        assert!(!error.message.contains("canary"), "{error}");
        assert_eq!((azure.asked(LOGIN), azure.asked(VAULT_HOST)), (1, 0), "{fault:?}");
    }
    Ok(())
}
