//! What is written back to AWS Secrets Manager, and what AWS rotates itself.

use botsecret::stores::{Credentials, ErrorClass, RemoteKey};
use botsecret_testbed::{FaultKind, FaultProxy};
use futures::future::try_join_all;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::aws_world::{Desk, may_read};
use crate::log::Log;
use crate::session::{self, Opened};
use crate::world::{OPERATOR, Outcome, key, refusal};

const FIRST: &str = "8c5f2c0e-6f3d-4f7a-9f55-0d6f5b1c0001";
const SECOND: &str = "8c5f2c0e-6f3d-4f7a-9f55-0d6f5b1c0002";

/// May write what begins with this name, as well.
pub fn may_write(prefix: &str, actions: &[&str]) -> Value {
    let mut statements = may_read(prefix);
    if actions.is_empty() {
        return statements;
    }
    let own = json!({
        "Effect": "Allow", "Action": actions,
        "Resource": [
            format!("arn:aws:secretsmanager:*:*:secret:{prefix}/*"), format!("arn:aws:ssm:*:*:parameter/{prefix}/*"),
        ],
    });
    statements.as_array_mut().expect("a list").push(own);
    statements
}

const WRITES: [&str; 3] =
    ["secretsmanager:PutSecretValue", "secretsmanager:UpdateSecretVersionStage", "secretsmanager:RotateSecret"];

async fn desk(prefix: &str) -> Result<(Desk, Opened), Box<dyn std::error::Error>> {
    let desk = Desk::new(prefix).await?;
    desk.admin.allow(&desk.bot.namespace, &may_write(&desk.bot.namespace, &WRITES)).await?;
    let opened = login(&desk).await?;
    Ok((desk, opened))
}

async fn login(desk: &Desk) -> anyhow::Result<Opened> {
    let config = desk.bot.cluster.config(OPERATOR, &["system:masters"])?;
    session::open(config, &desk.secrets_manager(), &desk.bot.account, Credentials::default()).await
}

async fn versions(desk: &Desk, name: &str) -> anyhow::Result<serde_json::Map<String, Value>> {
    let answer = desk.admin.json("secretsmanager", "DescribeSecret", &json!({"SecretId": name})).await?;
    Ok(answer["VersionIdsToStages"].as_object().expect("versions").clone())
}

#[tokio::test]
async fn a_property_is_written_in_place_and_becomes_the_current_version_once() -> Outcome {
    let (desk, opened) = desk("aws-write").await?;
    let name = desk.named("bot");
    desk.admin.put_secret(&name, r#"{ "rate": 1.10, "password": "old", "host": "db" }"#).await?;
    let wanted = r#"{ "rate": 1.10, "password": "n\"ew", "host": "db" }"#;
    // The second time as after a reply that was lost.
    for _ in 0..2 {
        opened.write(&key(&name), Some("password"), b"n\"ew", None, FIRST).await?;
        assert_eq!(opened.bytes(&key(&name)).await?, wanted.as_bytes());
    }
    let all = versions(&desk, &name).await?;
    assert_eq!(all.len(), 2, "one new version: {all:?}");
    assert!(all[FIRST].as_array().expect("stages").contains(&json!("AWSCURRENT")), "{all:?}");
    assert_eq!(desk.count("PutSecretValue"), 1);
    let previous = RemoteKey { version: Some("AWSPREVIOUS".into()), ..key(&name) };
    assert!(opened.bytes(&previous).await?.starts_with(br#"{ "rate": 1.10, "password": "old""#));
    Ok(())
}

#[tokio::test]
async fn a_whole_value_is_written_as_what_it_was_text_or_bytes() -> Outcome {
    let (desk, opened) = desk("aws-whole").await?;
    let (text, binary) = (desk.named("text"), desk.named("binary"));
    desk.admin.put_secret(&text, "old").await?;
    desk.admin.put_binary(&binary, "AP8KgA==").await?;
    for (name, value, is_text) in
        [(&text, &b"new"[..], true), (&text, &[0xff, 0, 1], false), (&binary, b"plain", false)]
    {
        opened.write(&key(name), None, value, None, &uuid(value)).await?;
        assert_eq!(opened.bytes(&key(name)).await?, value, "{name}");
        let shown = desk.admin.json("secretsmanager", "GetSecretValue", &json!({"SecretId": name})).await?;
        assert_eq!(shown["SecretString"].is_string(), is_text, "{name}");
    }
    Ok(())
}

/// One that differs with the value.
fn uuid(value: &[u8]) -> String {
    format!("8c5f2c0e-6f3d-4f7a-9f55-0d6f5b1c{:04}", value.iter().map(|byte| u32::from(*byte)).sum::<u32>())
}

#[tokio::test]
async fn a_write_whose_reply_was_lost_is_repeated_without_another_version() -> Outcome {
    let (desk, _) = desk("aws-lost").await?;
    let (proxy, host) = (FaultProxy::start().await?, "secretsmanager.eu-west-1.amazonaws.com");
    proxy.route(host, desk.aws.address());
    // The token endpoint is plain here, so it goes through the proxy as well.
    proxy.route(&desk.aws.address().to_string(), desk.aws.address());
    let mut store = desk.store("SecretsManager", &json!({"endpoint": null, "caBundle": proxy.ca_pem()}));
    store.proxy = Some(proxy.url());
    let config = desk.bot.cluster.config(OPERATOR, &["system:masters"])?;
    let opened = session::open(config, &store, &desk.bot.account, Credentials::default()).await?;
    for (action, attempt) in [("PutSecretValue", FIRST), ("UpdateSecretVersionStage", SECOND)] {
        let name = desk.named(action);
        desk.admin.put_secret(&name, r#"{"password":"old"}"#).await?;
        proxy.fault_on(host, action, FaultKind::Truncate(0), 1);
        let lost = opened.write(&key(&name), Some("password"), b"new", None, attempt).await;
        refusal(lost, ErrorClass::Unavailable);
        opened.write(&key(&name), Some("password"), b"new", None, attempt).await?;
        assert_eq!(opened.bytes(&key(&name)).await?, br#"{"password":"new"}"#);
        let all = versions(&desk, &name).await?;
        assert!(all.len() == 2 && all.contains_key(attempt), "{action}: {all:?}");
    }
    Ok(())
}

#[tokio::test]
async fn those_who_write_at_once_lose_nothing_of_each_others() -> Outcome {
    let (desk, opened) = desk("aws-race").await?;
    let key = key(&desk.named("bot"));
    desk.admin.put_secret(&key.key, "{}").await?;
    let logins = try_join_all((0..6).map(|_| login(&desk))).await?;
    let writers = logins.iter().enumerate().map(|(number, login)| {
        let (key, property) = (&key, format!("p{number}"));
        async move {
            for attempt in 0..100 {
                let id = format!("8c5f2c0e-6f3d-4f7a-9f55-{number:04}0000{attempt:04}");
                match login.write(key, Some(&property), property.as_bytes(), None, &id).await {
                    Ok(()) => return Ok(attempt),
                    Err(error) if error.class == ErrorClass::Conflict => {}
                    Err(error) => return Err(anyhow::anyhow!("{:?}: {error}", error.class)),
                }
            }
            anyhow::bail!("{property} never came to be written")
        }
    });
    let attempts = try_join_all(writers).await?;
    assert!(attempts.iter().any(|attempt| *attempt > 0), "nobody was in anybody's way, which shows nothing");
    let all: Value = serde_json::from_slice(&opened.bytes(&key).await?)?;
    let wanted: Value = (0..6).map(|number| (format!("p{number}"), json!(format!("p{number}")))).collect();
    assert_eq!(all, wanted);
    Ok(())
}

#[tokio::test]
async fn what_may_not_be_written_says_what_to_allow() -> Outcome {
    let (desk, opened) = desk("aws-no-write").await?;
    let (namespace, name) = (&desk.bot.namespace, desk.named("bot"));
    desk.admin.put_secret(&name, "old").await?;
    desk.admin.put_secret(&format!("{namespace}-other/x"), "old").await?;
    for (allowed, lacking) in [(&WRITES[1..], "secretsmanager:PutSecretValue"), (&WRITES[..1], WRITES[1])] {
        desk.admin.allow(namespace, &may_write(namespace, allowed)).await?;
        let message = refusal(opened.write(&key(&name), None, b"new", None, FIRST).await, ErrorClass::Denied);
        assert!(message.contains(lacking), "{message}");
        assert_eq!(opened.bytes(&key(&name)).await?, b"old");
    }
    desk.admin.allow(namespace, &may_write(namespace, &[])).await?;
    let message = refusal(opened.session.rotate(&key(&name), FIRST).await, ErrorClass::Denied);
    assert!(message.contains("secretsmanager:RotateSecret"), "{message}");
    desk.admin.allow(namespace, &may_write(namespace, &WRITES)).await?;
    let other = key(&format!("{namespace}-other/x"));
    refusal(opened.write(&other, None, b"new", None, FIRST).await, ErrorClass::Denied);
    refusal(opened.write(&key(&desk.named("none")), None, b"new", None, FIRST).await, ErrorClass::Missing);
    refusal(opened.write(&key(&desk.named("none")), Some("a"), b"new", None, FIRST).await, ErrorClass::Missing);
    refusal(opened.write(&key(&name), Some("a"), b"new", None, FIRST).await, ErrorClass::Invalid);
    let large = vec![b'x'; 65_537];
    let message = refusal(opened.write(&key(&name), None, &large, None, FIRST).await, ErrorClass::Invalid);
    assert!(message.contains("65536"), "{message}");
    opened.write(&key(&name), None, &large[1..], None, SECOND).await?;
    assert_eq!(opened.bytes(&key(&name)).await?.len(), 65_536);
    Ok(())
}

#[tokio::test]
async fn aws_rotates_under_the_attempts_own_version() -> Outcome {
    let (desk, opened) = desk("aws-rotate").await?;
    let name = desk.named("bot");
    desk.admin.put_secret(&name, "old").await?;
    for _ in 0..2 {
        opened.session.rotate(&key(&name), FIRST).await?;
    }
    // This server keeps no version before.
    let all = versions(&desk, &name).await?;
    assert!(all[FIRST].as_array().expect("stages").contains(&json!("AWSCURRENT")), "{all:?}");
    let asked = desk.requests().into_iter().find(|request| request.action == "RotateSecret").expect("it was asked");
    assert_eq!(asked.input["RotateImmediately"], json!(true));
    let pinned = RemoteKey { version: Some("AWSPREVIOUS".into()), ..key(&name) };
    refusal(opened.session.rotate(&pinned, FIRST).await, ErrorClass::Invalid);
    Ok(())
}

#[tokio::test]
async fn p2_a_read_tells_when_the_version_was_made_in_the_same_answer() -> Outcome {
    let (desk, opened) = desk("aws-age").await?;
    let before = Timestamp::now().as_second() - 1;
    let keys = ["a", "b"].map(|name| key(&desk.named(name)));
    for key in &keys {
        desk.admin.put_secret(&key.key, "old").await?;
    }
    let pinned = RemoteKey { version: Some("AWSCURRENT".into()), ..keys[0].clone() };
    for asked in [&keys[..1], &keys[..], &[pinned]] {
        for read in opened.session.read(asked).await {
            let changed = read?.changed.expect("AWS tells it").as_second();
            assert!((before..=Timestamp::now().as_second()).contains(&changed), "{changed}");
        }
    }
    let counts = ["GetSecretValue", "BatchGetSecretValue", "DescribeSecret"].map(|one| desk.count(one));
    assert_eq!(counts, [2, 1, 0]);
    Ok(())
}

#[tokio::test]
async fn p4_what_is_written_is_in_no_log_even_at_trace() -> Outcome {
    let (desk, _) = desk("write-logs").await?;
    let mut actions = WRITES.to_vec();
    actions.push("ssm:PutParameter");
    desk.admin.allow(&desk.bot.namespace, &may_write(&desk.bot.namespace, &actions)).await?;
    let (secret, parameter) = (desk.named("bot"), desk.parameter("bot"));
    desk.admin.put_secret(&secret, r#"{"password":"canary-old"}"#).await?;
    desk.admin.put_parameter(&parameter, "SecureString", r#"{"password":"canary-old"}"#).await?;
    let (log, guard) = Log::of_this_thread();
    for (store, name) in [(desk.secrets_manager(), &secret), (desk.parameter_store(), &parameter)] {
        let config = desk.bot.cluster.config(OPERATOR, &["system:masters"])?;
        let opened = session::open(config, &store, &desk.bot.account, Credentials::default()).await?;
        opened.write(&key(name), Some("password"), b"canary-new", None, FIRST).await?;
        assert_eq!(opened.bytes(&key(name)).await?, br#"{"password":"canary-new"}"#);
    }
    drop(guard);
    let logged = log.take();
    assert!(logged.contains("serviceaccounts/bot/token"), "other libraries are heard:\n{logged}");
    assert!(!logged.contains("canary"));
    Ok(())
}
