//! What is written back to Key Vault.

use botsecret::stores::{Credentials, ErrorClass};
use botsecret_testbed::clouds::azure::Secret;
use k8s_openapi::jiff::Timestamp;

use crate::{
    azure_world::{Azure, VAULT, VAULT_HOST},
    session::{self, Opened},
    world::{Bot, OPERATOR, Outcome, key, refusal},
};

/// A bot whose client may read and write these.
async fn world(prefix: &str, names: &[&str]) -> Result<(Bot, Azure, Opened), Box<dyn std::error::Error>> {
    let bot = Bot::new(prefix).await?;
    let azure = Azure::start(&bot).await?;
    azure.may_read(&bot, "client-a", names);
    for name in names {
        azure.cloud.grant(VAULT, "client-a", "secrets/set", Some(name));
    }
    let config = bot.cluster.config(OPERATOR, &["system:masters"])?;
    let opened = session::open(config, &azure.store_of(&bot, "client-a"), &bot.account, Credentials::default()).await?;
    assert!(opened.can.write_back);
    Ok((bot, azure, opened))
}

fn put(azure: &Azure, name: &str, value: &str) {
    let tags = [("team".to_owned(), "a b".to_owned())].into();
    let secret = Secret { content_type: Some("application/json".into()), tags, ..Secret::of(value) };
    azure.cloud.put(VAULT, name, secret);
}

#[tokio::test]
async fn azure_a_new_version_keeps_the_rest_its_content_type_and_its_tags() -> Outcome {
    let (_bot, azure, opened) = world("azure-write", &["bot"]).await?;
    put(&azure, "bot", r#"{ "rate": 1.10, "password": "old" }"#);
    let before = Timestamp::now().as_second() - 1;
    for name in ["bot", "secret/bot"] {
        opened.write(&key(name), Some("password"), b"n\"ew", None, "one").await?;
    }
    let versions = azure.cloud.versions(VAULT, "bot");
    let values: Vec<&str> = versions.iter().map(|version| version.value.as_str()).collect();
    assert_eq!(values, [r#"{ "rate": 1.10, "password": "old" }"#, r#"{ "rate": 1.10, "password": "n\"ew" }"#]);
    assert_eq!(versions[1].content_type.as_deref(), Some("application/json"));
    assert_eq!(versions[1].tags, versions[0].tags);
    let changed = opened.read(&key("bot")).await?.changed.expect("Key Vault tells it").as_second();
    assert!((before..=Timestamp::now().as_second()).contains(&changed));
    opened.write(&key("bot"), None, "zażółć".as_bytes(), None, "two").await?;
    assert_eq!(opened.bytes(&key("bot")).await?, "zażółć".as_bytes());
    Ok(())
}

#[tokio::test]
async fn azure_what_cannot_be_written_says_what_to_do() -> Outcome {
    let (bot, azure, opened) = world("azure-no-write", &["bot", "tls", "none"]).await?;
    azure.may_read(&bot, "client-a", &["mine"]);
    for name in ["bot", "mine"] {
        put(&azure, name, "old");
    }
    azure.cloud.certificate(VAULT, "tls", b"der", Secret::of("pem"));
    let message = refusal(opened.write(&key("mine"), None, b"new", None, "one").await, ErrorClass::Denied);
    assert!(message.contains("\"set\" on secrets") && message.contains("Key Vault Secrets Officer"), "{message}");
    for name in ["tls", "cert/tls", "key/tls"] {
        let message = refusal(opened.write(&key(name), None, b"new", None, "one").await, ErrorClass::Invalid);
        assert!(message.contains("certificate"), "{name}: {message}");
    }
    refusal(opened.write(&key("none"), None, b"new", None, "one").await, ErrorClass::Missing);
    refusal(opened.write(&key("bot"), Some("a"), b"new", None, "one").await, ErrorClass::Invalid);
    refusal(opened.write(&key("bot"), None, &[0xff], None, "one").await, ErrorClass::Invalid);
    let large = vec![b'x'; 25_601];
    let message = refusal(opened.write(&key("bot"), None, &large, None, "one").await, ErrorClass::Invalid);
    assert!(message.contains("25600"), "{message}");
    refusal(opened.session.rotate(&key("bot"), "one").await, ErrorClass::Invalid);
    azure.cloud.disable(VAULT, "bot");
    refusal(opened.write(&key("bot"), None, b"new", None, "one").await, ErrorClass::Missing);
    let asked = azure.proxy.requests();
    let puts = asked.iter().filter(|request| request.host == VAULT_HOST && request.method == "PUT").count();
    assert_eq!(puts, 1, "the one that was denied");
    Ok(())
}
