//! Google Cloud Secret Manager: reads and searches.

use botsecret::stores::{ErrorClass, FindQuery, RemoteKey};
use botsecret_testbed::{
    ALWAYS, FaultKind,
    clouds::gcp::{Role, VersionState},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    gcp_world::{NUMBER, PROJECT, World, bytes, principal, secret},
    world::{Outcome, from, key, refusal, text},
};

#[tokio::test]
async fn gcp_a_secret_is_read_whole_with_its_version_by_number_alias_or_as_the_latest() -> Outcome {
    let world = World::with("gcp-read", &["price"]).await?;
    let (bot, store, binary) = (&world.bot, world.federated(&json!({})), [0, 159, 146, 150, 13, 10, 0]);
    assert_eq!(world.gcp.put(&secret("price"), &binary), 2);
    world.gcp.alias(&secret("price"), "blue", 1)?;
    let latest = bot.read(&store, "price").await?;
    assert_eq!((bytes(&latest), latest.version), (&binary[..], Some(2)));
    for (version, value, number) in
        [("latest", &binary[..], 2), ("2", &binary, 2), ("1", b"price", 1), ("blue", b"price", 1)]
    {
        let read = bot.read_version(&store, "price", version).await?;
        assert_eq!((bytes(&read), read.version), (value, Some(number)), "{version}");
    }
    assert_eq!((world.asked("sts"), world.asked("secretmanager")), (1, 5));
    Ok(())
}

#[tokio::test]
async fn gcp_a_version_that_is_disabled_destroyed_or_not_there_is_missing_and_says_which() -> Outcome {
    let world = World::with("gcp-gone", &["price"]).await?;
    let (bot, store) = (&world.bot, world.federated(&json!({})));
    for (number, state) in [(2, VersionState::Disabled), (3, VersionState::Destroyed)] {
        assert_eq!(world.gcp.put(&secret("price"), b"new"), number);
        world.gcp.set_state(&secret("price"), number, state)?;
    }
    world.gcp.grant(&principal(&bot.account), Role::Accessor, &format!("projects/{PROJECT}"));
    for (name, version, part) in [
        ("price", None, "destroyed"),
        ("price", Some("2"), "disabled"),
        ("price", Some("9"), "version 9 is not there"),
        ("price", Some("green"), "version green is not there"),
        ("nothing", None, "no such secret"),
        ("nothing", Some("1"), "no such secret"),
    ] {
        let wanted = RemoteKey { key: name.into(), version: version.map(Into::into), metadata: false, dated: false };
        let read = bot.read_all(&store, &[wanted]).await.remove(0);
        let message = refusal(read, ErrorClass::Missing);
        assert!(message.contains(part), "{name} {version:?}: {message}");
    }
    let old = bot.read_version(&store, "price", "1").await?;
    assert_eq!(bytes(&old), b"price");
    world.gcp.set_state(&secret("price"), 2, VersionState::Enabled)?;
    assert_eq!(bytes(&*bot.read_version(&store, "price", "2").await?), b"new");
    Ok(())
}

#[tokio::test]
async fn gcp_a_value_that_was_damaged_on_its_way_is_never_handed_on() -> Outcome {
    let world = World::with("gcp-damaged", &["price"]).await?;
    let (bot, store) = (&world.bot, world.federated(&json!({})));
    world.gcp.damage_next(1);
    let message = refusal(bot.read(&store, "price").await, ErrorClass::Unavailable);
    assert!(message.contains("CRC32C"), "{message}");
    assert_eq!(bytes(&*bot.read(&store, "price").await?), b"price");
    Ok(())
}

#[tokio::test]
async fn gcp_regional_secrets_are_asked_for_at_their_own_endpoint() -> Outcome {
    let world = World::with("gcp-regional", &["price"]).await?;
    let bot = &world.bot;
    let regional = format!("projects/{PROJECT}/locations/europe-west1/secrets/price");
    world.gcp.put(&regional, b"in europe");
    world.gcp.grant(&principal(&bot.account), Role::Accessor, &regional);
    let mut store = world.federated(&json!({}));
    assert_eq!(bytes(&*bot.read(&store, "price").await?), b"price");
    assert_eq!(bytes(&*bot.read(&store, &regional).await?), b"in europe", "by its full name");
    if let botsecret::api::Provider::Gcp(spec) = &mut store.provider {
        spec.location = Some("europe-west1".into());
    }
    store.uid = "regional".into();
    assert_eq!(bytes(&*bot.read(&store, "price").await?), b"in europe");
    assert_eq!(bytes(&*bot.read(&store, &secret("price")).await?), b"price", "a global one by its full name");
    let hosts: Vec<_> = world.proxy.requests().into_iter().map(|request| request.host).collect();
    let count = |host: &str| hosts.iter().filter(|asked| asked.starts_with(host)).count();
    assert_eq!(count("secretmanager.europe-west1.rep.googleapis.com"), 2, "{hosts:?}");
    assert_eq!(count("secretmanager.googleapis.com"), 2, "{hosts:?}");
    Ok(())
}

#[tokio::test]
async fn p6_gcp_a_dead_location_stops_no_read_of_the_stores_own() -> Outcome {
    let ids: Vec<String> = (0..12).map(|number| format!("price-{number}")).collect();
    let world = World::with("gcp-dead-location", &["price"]).await?;
    let (bot, mut store) = (&world.bot, world.federated(&json!({})));
    store.limits = from(json!({"timeout": "1s"}));
    // Once, so that the login counts for nothing below.
    assert_eq!(bytes(&*bot.read(&store, "price").await?), b"price");
    let busy = FaultKind::answer(503, &[], "{}");
    for (fault, class) in [
        (FaultKind::NoAnswer, ErrorClass::Timeout),
        (FaultKind::Reset, ErrorClass::Unavailable),
        (busy, ErrorClass::Unavailable),
    ] {
        world.proxy.fault("secretmanager.europe-west1.rep.googleapis.com", fault.clone(), ALWAYS);
        let keys: Vec<_> =
            ids.iter().map(|id| key(&format!("projects/{PROJECT}/locations/europe-west1/secrets/{id}"))).collect();
        for read in bot.read_all(&store, &keys).await {
            refusal(read, class);
        }
        assert_eq!(bytes(&*bot.read(&store, "price").await?), b"price", "{fault:?}");
        world.proxy.clear("*");
    }
    Ok(())
}

#[tokio::test]
async fn gcp_another_projects_secret_is_read_by_its_full_name_where_the_identity_may() -> Outcome {
    let world = World::with("gcp-projects", &["price"]).await?;
    let (bot, store) = (&world.bot, world.federated(&json!({})));
    world.gcp.project("other-team", 77);
    for id in ["shared", "private"] {
        world.gcp.put(&format!("projects/other-team/secrets/{id}"), id.as_bytes());
    }
    world.gcp.grant(&principal(&bot.account), Role::Accessor, "projects/other-team/secrets/shared");
    for name in ["projects/other-team/secrets/shared", "projects/77/secrets/shared"] {
        assert_eq!(bytes(&*bot.read(&store, name).await?), b"shared", "{name}");
    }
    assert_eq!(bytes(&*bot.read(&store, &format!("projects/{NUMBER}/secrets/price")).await?), b"price");
    let message = refusal(bot.read(&store, "projects/other-team/secrets/private").await, ErrorClass::Denied);
    assert!(message.contains("secretmanager.versions.access"), "{message}");
    Ok(())
}

#[tokio::test]
async fn gcp_find_goes_through_all_pages_and_takes_what_fits_labels_name_and_path() -> Outcome {
    let world = World::new("gcp-find").await?;
    let (bot, store) = (&world.bot, world.federated(&json!({})));
    for number in 0..2100 {
        let name = secret(&format!("bot-{number:04}"));
        world.gcp.put(&name, b"x");
        if number % 700 == 0 {
            world.gcp.label(&name, &[("team", "trading"), ("env", "prod")])?;
        }
    }
    world.gcp.put(&secret("other"), b"x");
    world.gcp.label(&secret("other"), &[("team", "trading")])?;
    let find = async |query: FindQuery| bot.fetcher.find(&store, &bot.account, &query, Instant::now()).await;
    let tagged = |pairs: &[(&str, &str)]| FindQuery {
        tags: pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        ..FindQuery::default()
    };
    let message = refusal(find(tagged(&[("env", "prod")])).await, ErrorClass::Denied);
    assert!(message.contains("secretmanager.secrets.list") && message.contains("viewer"), "{message}");
    world.gcp.grant(&principal(&bot.account), Role::Viewer, &format!("projects/{PROJECT}"));

    let found = find(tagged(&[("team", "trading"), ("env", "prod")])).await?;
    assert_eq!(*found, ["bot-0000", "bot-0700", "bot-1400"]);
    let before = world.asked("secretmanager");
    let query = FindQuery { path: Some("bot-".into()), name: Some("0[05]$".into()), ..FindQuery::default() };
    let found = find(query).await?;
    assert_eq!((found.len(), found[0].as_str(), found[41].as_str()), (42, "bot-0000", "bot-2005"));
    assert_eq!(world.asked("secretmanager") - before, 3, "2,101 secrets are three pages");
    refusal(find(tagged(&[("team", "x OR labels.env=prod")])).await, ErrorClass::Invalid);
    Ok(())
}

#[tokio::test]
async fn gcp_metadata_are_labels_and_annotations_and_no_value() -> Outcome {
    let world = World::with("gcp-metadata", &["price"]).await?;
    let (bot, store) = (&world.bot, world.federated(&json!({})));
    world.gcp.label(&secret("price"), &[("env", "prod")])?;
    world.gcp.annotate(&secret("price"), "owner", "team \"trading\"")?;
    let wanted = [RemoteKey { metadata: true, ..key("price") }];
    let message = refusal(bot.read_all(&store, &wanted).await.remove(0), ErrorClass::Denied);
    assert!(message.contains("secretmanager.secrets.get"), "{message}");
    world.gcp.grant(&principal(&bot.account), Role::Viewer, &secret("price"));
    let about = bot.read_all(&store, &wanted).await.remove(0)?;
    let about: Value = serde_json::from_str(text(&about))?;
    assert_eq!(about, json!({"annotations": {"owner": "team \"trading\""}, "labels": {"env": "prod"}}));
    Ok(())
}

#[tokio::test]
async fn p2_gcp_a_hundred_secrets_of_one_identity_cost_one_login_and_a_read_each() -> Outcome {
    let ids: Vec<String> = (0..100).map(|number| format!("price-{number}")).collect();
    let world = World::with("gcp-count", &ids.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let (bot, store) = (&world.bot, world.federated(&json!({})));
    let keys: Vec<_> = ids.iter().map(|id| key(id)).collect();
    for round in 1..=2 {
        for (id, read) in ids.iter().zip(bot.read_all(&store, &keys).await) {
            assert_eq!(bytes(&*read?), id.as_bytes());
        }
        assert_eq!((world.asked("sts"), world.asked("secretmanager")), (1, round * 100));
    }
    assert_eq!(bot.fetcher.counters().token_requests(), 1);
    Ok(())
}

#[tokio::test]
async fn gcp_a_denial_names_the_right_and_whom_to_give_it() -> Outcome {
    let world = World::with("gcp-denied", &["price"]).await?;
    let (bot, store) = (&world.bot, world.federated(&json!({})));
    world.gcp.put(&secret("other"), b"canary");
    for name in ["other", "not-there"] {
        let message = refusal(bot.read(&store, name).await, ErrorClass::Denied);
        for part in ["roles/secretmanager.secretAccessor", &principal(&bot.account)] {
            assert!(message.contains(part), "{message}");
        }
    }
    bot.read(&store, "price").await?;
    assert_eq!(world.asked("sts"), 1, "a denial is no reason to log in again");
    Ok(())
}
