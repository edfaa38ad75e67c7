//! What is written back to Google Cloud Secret Manager.

use botsecret::stores::{Credentials, ErrorClass, RemoteKey};
use botsecret_testbed::{
    FaultKind,
    clouds::gcp::{Role, VersionState},
};
use serde_json::json;

use crate::{
    gcp_world::{PROJECT, World, principal, secret},
    session::{self, Opened},
    world::{OPERATOR, Outcome, key, refusal},
};

const MANAGER: &str = "secretmanager.googleapis.com";

/// A world whose bot may read and write these.
async fn world(prefix: &str, ids: &[&str]) -> Result<(World, Opened), Box<dyn std::error::Error>> {
    let world = World::with(prefix, ids).await?;
    for id in ids {
        world.gcp.grant(&principal(&world.bot.account), Role::Adder, &secret(id));
    }
    let config = world.bot.cluster.config(OPERATOR, &["system:masters"])?;
    let opened =
        session::open(config, &world.federated(&json!({})), &world.bot.account, Credentials::default()).await?;
    assert!(opened.can.write_back);
    Ok((world, opened))
}

fn added(world: &World) -> usize {
    world.gcp.requests().iter().filter(|request| request.path.ends_with(":addVersion")).count()
}

#[tokio::test]
async fn gcp_a_property_or_the_whole_is_added_as_the_next_version_once() -> Outcome {
    let (world, opened) = world("gcp-write", &["price"]).await?;
    world.gcp.put(&secret("price"), br#"{ "rate": 1.10, "password": "old" }"#);
    for _ in 0..2 {
        opened.write(&key("price"), Some("password"), b"new", Some(2), "one").await?;
        let read = opened.read(&key("price")).await?;
        assert_eq!((read.version, read.changed), (Some(3), None));
        assert_eq!(opened.bytes(&key("price")).await?, br#"{ "rate": 1.10, "password": "new" }"#);
    }
    let binary = [0, 0xff, 10];
    opened.write(&key("price"), None, &binary, Some(3), "two").await?;
    assert_eq!(opened.bytes(&key("price")).await?, binary);
    assert_eq!((added(&world), world.gcp.newest(&secret("price"))), (2, Some(4)));
    Ok(())
}

#[tokio::test]
async fn gcp_a_write_whose_reply_was_lost_is_known_again_though_latest_lags_behind() -> Outcome {
    let (world, opened) = world("gcp-lost", &["price"]).await?;
    world.gcp.put(&secret("price"), br#"{"password":"old"}"#);
    world.proxy.fault_on(MANAGER, ":addVersion", FaultKind::Truncate(0), 1);
    let lost = opened.write(&key("price"), Some("password"), b"new", Some(2), "one").await;
    refusal(lost, ErrorClass::Unavailable);
    assert_eq!(world.gcp.newest(&secret("price")), Some(3), "it was written all the same");
    world.gcp.lag(1);
    assert_eq!(opened.bytes(&key("price")).await?, br#"{"password":"old"}"#);
    opened.write(&key("price"), Some("password"), b"new", Some(2), "one").await?;
    assert_eq!(world.gcp.newest(&secret("price")), Some(3), "a repetition adds none");
    // Nor is another one's version taken for the one that was read.
    world.gcp.put(&secret("price"), br#"{"password":"theirs"}"#);
    world.gcp.lag(2);
    let late = opened.write(&key("price"), Some("password"), b"newer", Some(3), "two").await;
    let message = refusal(late, ErrorClass::Conflict);
    assert!(message.contains("version 4"), "{message}");
    assert_eq!(added(&world), 1);
    Ok(())
}

#[tokio::test]
async fn gcp_when_a_version_was_made_is_asked_once_and_only_of_whoever_may_know() -> Outcome {
    let (world, opened) = world("gcp-dated", &["price", "closed"]).await?;
    world.gcp.grant(&principal(&world.bot.account), Role::Viewer, &secret("price"));
    let dated = |id: &str| RemoteKey { dated: true, ..key(id) };
    let asked = || {
        let requests = world.gcp.requests().into_iter();
        requests.filter(|request| request.path.contains("/versions/") && !request.path.contains(':')).count()
    };
    let first = opened.read(&dated("price")).await?.changed.expect("a date");
    assert_eq!(opened.read(&dated("price")).await?.changed, Some(first));
    assert_eq!(opened.read(&key("price")).await?.changed, None);
    assert_eq!(asked(), 1);
    world.gcp.put(&secret("price"), b"next");
    assert!(opened.read(&dated("price")).await?.changed.expect("a date") > first);
    assert_eq!(asked(), 2);
    for _ in 0..2 {
        assert_eq!(opened.read(&dated("closed")).await?.changed, None, "the value comes all the same");
    }
    assert_eq!(asked(), 3);
    Ok(())
}

#[tokio::test]
async fn gcp_what_cannot_be_written_says_what_to_do() -> Outcome {
    let (world, opened) = world("gcp-no-write", &["price", "off"]).await?;
    let bot = principal(&world.bot.account);
    world.gcp.put(&secret("mine"), b"old");
    world.gcp.grant(&bot, Role::Accessor, &secret("mine"));
    let message = refusal(opened.write(&key("mine"), None, b"new", None, "one").await, ErrorClass::Denied);
    for part in ["secretmanager.versions.add", "roles/secretmanager.secretVersionAdder", &bot] {
        assert!(message.contains(part), "{message}");
    }
    refusal(opened.write(&key("price"), Some("a"), b"new", None, "one").await, ErrorClass::Invalid);
    let large = vec![b'x'; 65_537];
    let message = refusal(opened.write(&key("price"), None, &large, None, "one").await, ErrorClass::Invalid);
    assert!(message.contains("65536"), "{message}");
    refusal(opened.write(&key("price"), None, b"", None, "one").await, ErrorClass::Invalid);
    let message = refusal(opened.session.rotate(&key("price"), "one").await, ErrorClass::Invalid);
    assert!(message.contains("rotation.generate"), "{message}");
    // The newest version is read, and no older one in its place.
    assert_eq!(world.gcp.put(&secret("off"), br#"{"a":"b"}"#), 2);
    world.gcp.set_state(&secret("off"), 2, VersionState::Disabled)?;
    refusal(opened.write(&key("off"), Some("a"), b"new", None, "one").await, ErrorClass::Missing);
    assert_eq!(added(&world), 1, "the one that was denied");
    for role in [Role::Accessor, Role::Adder] {
        world.gcp.grant(&bot, role, &format!("projects/{PROJECT}"));
    }
    refusal(opened.write(&key("nothing"), Some("a"), b"new", None, "one").await, ErrorClass::Missing);
    refusal(opened.write(&key("nothing"), None, b"new", None, "one").await, ErrorClass::Missing);
    opened.write(&key("price"), None, &large[1..], Some(1), "one").await?;
    assert_eq!(opened.bytes(&key("price")).await?.len(), 65_536);
    Ok(())
}

#[tokio::test]
async fn gcp_a_version_that_came_between_is_told_of_though_it_cannot_be_prevented() -> Outcome {
    let (world, opened) = world("gcp-between", &["price"]).await?;
    world.gcp.put(&secret("price"), br#"{"password":"old"}"#);
    // What the write looks at is one version behind what is added to.
    let behind = json!({"error": {"code": 404, "message": "Secret Version [x] not found.", "status": "NOT_FOUND"}});
    world.gcp.put(&secret("price"), br#"{"password":"theirs"}"#);
    world.gcp.lag(1);
    world.proxy.fault_on(MANAGER, "/versions/3:access", FaultKind::answer(404, &[], &behind.to_string()), 1);
    let written = opened.write(&key("price"), Some("password"), b"new", Some(2), "one").await;
    let message = refusal(written, ErrorClass::Conflict);
    assert!(message.contains("version 4 was made from version 2"), "{message}");
    Ok(())
}
