//! AWS Secrets Manager.

use botsecret::stores::{ErrorClass, FindQuery, Payload, RemoteKey};
use botsecret_testbed::{FaultProxy, clouds::aws::ACCOUNT};
use serde_json::json;
use tokio::time::Instant;

use crate::aws_world::{Desk, bytes, class};
use crate::world::{Outcome, key, refusal};

const MANAGER: &str = "SecretsManager";

#[tokio::test]
async fn p2_a_hundred_keys_of_ten_secrets_cost_one_login_and_one_read_a_refresh() -> Outcome {
    let desk = Desk::new("keys").await?;
    for number in 0..10 {
        desk.admin.put_secret(&desk.named(&number.to_string()), &format!(r#"{{"number":{number}}}"#)).await?;
    }
    let keys: Vec<RemoteKey> = (0..100).map(|number| key(&desk.named(&(number % 10).to_string()))).collect();
    let store = desk.secrets_manager();
    for refresh in 1..=2 {
        let secrets = desk.bot.read_all(&store, &keys).await;
        for (number, secret) in secrets.iter().enumerate() {
            assert_eq!(bytes(secret), format!(r#"{{"number":{}}}"#, number % 10).as_bytes());
        }
        let counts = ["AssumeRoleWithWebIdentity", "BatchGetSecretValue", "GetSecretValue"].map(|one| desk.count(one));
        assert_eq!(counts, [1, refresh, 0]);
    }
    assert_eq!(desk.bot.fetcher.counters().token_requests(), 1);
    Ok(())
}

#[tokio::test]
async fn p2_a_hundred_secrets_cost_five_reads() -> Outcome {
    let desk = Desk::new("hundred").await?;
    for number in 0..100 {
        desk.admin.put_secret(&desk.named(&number.to_string()), &number.to_string()).await?;
    }
    let keys: Vec<RemoteKey> = (0..100).map(|number| key(&desk.named(&number.to_string()))).collect();
    let secrets = desk.bot.read_all(&desk.secrets_manager(), &keys).await;
    for (number, secret) in secrets.iter().enumerate() {
        assert_eq!(bytes(secret), number.to_string().as_bytes());
    }
    let counts = ["AssumeRoleWithWebIdentity", "BatchGetSecretValue", "GetSecretValue"].map(|one| desk.count(one));
    assert_eq!(counts, [1, 5, 0]);
    Ok(())
}

#[tokio::test]
async fn text_json_and_bytes_arrive_as_they_were_written() -> Outcome {
    let desk = Desk::new("bytes").await?;
    let texts = [("json", r#"{"rate": 1.10, "tls.crt": "a\r\nb\n"}"#), ("text", " päss\r\nword\n"), ("one", "x")];
    for (name, text) in texts {
        desk.admin.put_secret(&desk.named(name), text).await?;
    }
    desk.admin.put_binary(&desk.named("binary"), "AP8KgA==").await?;
    let store = desk.secrets_manager();
    for (name, text) in texts {
        // By itself; and beside others, in a batch.
        let alone = desk.bot.read(&store, &desk.named(name)).await;
        assert_eq!(bytes(&alone), text.as_bytes());
        let both = desk.bot.read_all(&store, &[key(&desk.named(name)), key(&desk.named("binary"))]).await;
        assert_eq!((bytes(&both[0]), bytes(&both[1])), (text.as_bytes(), &[0, 255, 10, 128][..]));
    }
    Ok(())
}

#[tokio::test]
async fn a_version_is_pinned_by_its_id_or_by_a_stage() -> Outcome {
    let desk = Desk::new("versions").await?;
    let name = desk.named("bot");
    let first = desk.admin.put_secret(&name, "one").await?;
    let second = desk.admin.put_secret(&name, "two").await?;
    let stage = json!({"SecretId": name, "VersionStage": "blue", "MoveToVersionId": first});
    desk.admin.json("secretsmanager", "UpdateSecretVersionStage", &stage).await?;
    let store = desk.secrets_manager();
    for (version, value) in [
        (first.as_str(), "one"),
        (second.as_str(), "two"),
        (&format!("uuid/{first}"), "one"),
        ("AWSPREVIOUS", "one"),
        ("AWSCURRENT", "two"),
        ("blue", "one"),
    ] {
        let read = desk.bot.read_version(&store, &name, version).await;
        assert_eq!(bytes(&read), value.as_bytes(), "{version}");
        // However it was asked for, the audit log is to name the very version.
        let id = if value == "one" { &first } else { &second };
        assert_eq!(read.expect("a value").version_name().as_deref(), Some(id.as_str()), "{version}");
    }
    let other = desk.named("other");
    let third = desk.admin.put_secret(&other, "three").await?;
    let batch = desk.bot.read_all(&store, &[key(&name), key(&other)]).await;
    let named: Vec<_> = batch.iter().map(|read| read.as_ref().ok().and_then(|read| read.version_name())).collect();
    assert_eq!(named, [Some(second.as_str().into()), Some(third.as_str().into())]);
    for version in ["green", "00000000-0000-0000-0000-000000000000"] {
        let message = refusal(desk.bot.read_version(&store, &name, version).await, ErrorClass::Missing);
        assert!(message.contains("version"), "{message}");
    }
    Ok(())
}

#[tokio::test]
async fn a_new_value_is_seen_and_what_is_deleted_or_was_never_there_is_missing() -> Outcome {
    let desk = Desk::new("missing").await?;
    let (kept, deleted, none) = (desk.named("kept"), desk.named("deleted"), desk.named("none"));
    for name in [&kept, &deleted] {
        desk.admin.put_secret(name, "one").await?;
    }
    let store = desk.secrets_manager();
    let keys = [key(&kept), key(&deleted), key(&none)];
    let before = desk.bot.read_all(&store, &keys).await;
    assert_eq!((bytes(&before[1]), class(&before[2])), (&b"one"[..], Some(ErrorClass::Missing)));
    desk.admin.put_secret(&kept, "two").await?;
    let delete = json!({"SecretId": deleted, "RecoveryWindowInDays": 7});
    desk.admin.json("secretsmanager", "DeleteSecret", &delete).await?;
    let after = desk.bot.read_all(&store, &keys).await;
    assert_eq!(bytes(&after[0]), b"two");
    for (place, part) in [(1, "marked for deletion"), (2, "no such secret")] {
        let error = after[place].as_ref().expect_err("missing");
        assert_eq!(error.class, ErrorClass::Missing);
        assert!(error.message.contains(part), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn an_arns_region_wins_over_the_stores_and_its_account_is_sent_on() -> Outcome {
    let desk = Desk::new("arns").await?;
    let name = desk.named("bot");
    desk.admin.put_secret(&name, "of eu-west-1").await?;
    let elsewhere = desk.admin.in_region("us-east-1");
    elsewhere.put_secret(&name, "of us-east-1").await?;
    // Under the names that the services really have.
    let proxy = FaultProxy::start().await?;
    let hosts = ["eu-west-1", "us-east-1"].map(|region| format!("secretsmanager.{region}.amazonaws.com"));
    for host in &hosts {
        proxy.route(host, desk.aws.address());
    }
    let mut store = desk.store(MANAGER, &json!({"endpoint": null, "caBundle": proxy.ca_pem()}));
    store.proxy = Some(proxy.url());
    // The token endpoint is plain here, so it goes through the proxy as well.
    proxy.route(&desk.aws.address().to_string(), desk.aws.address());
    let arns = [desk.admin.secret_arn(&name).await?, elsewhere.secret_arn(&name).await?];
    // The peer knows one account at a time.
    let foreign = arns[0].replace(ACCOUNT, "999999999999");
    let keys = [key(&name), key(&arns[0]), key(&arns[1]), key(&foreign)];
    let read = desk.bot.read_all(&store, &keys).await;
    let values: Vec<&str> = read[..3].iter().map(|one| std::str::from_utf8(bytes(one)).expect("text")).collect();
    assert_eq!(values, ["of eu-west-1", "of eu-west-1", "of us-east-1"]);
    assert!(class(&read[3]).is_some());
    assert!(desk.requests().iter().any(|request| request.input.to_string().contains(&foreign)));
    let asked: Vec<String> = proxy.requests().into_iter().map(|request| request.host).collect();
    assert!(hosts.iter().all(|host| asked.contains(host)), "{asked:?}");
    Ok(())
}

#[tokio::test]
async fn secrets_are_found_by_the_beginning_of_their_name_by_a_pattern_and_by_tags() -> Outcome {
    let desk = Desk::new("find").await?;
    for (name, tag) in [("a/one", "blue"), ("a/two", "bluegreen"), ("b/three", "blue"), ("a/gone", "blue")] {
        let tags = json!([{"Key": "stage", "Value": tag}, {"Key": "desk", "Value": desk.bot.namespace}]);
        let input = json!({"Name": desk.named(name), "SecretString": name, "Tags": tags});
        desk.admin.json("secretsmanager", "CreateSecret", &input).await?;
    }
    desk.admin.json("secretsmanager", "DeleteSecret", &json!({"SecretId": desk.named("a/gone")})).await?;
    let store = desk.secrets_manager();
    let tags =
        |stage: &str| [("desk", desk.bot.namespace.as_str()), ("stage", stage)].map(|(a, b)| (a.into(), b.into()));
    for (query, names) in [
        (FindQuery { path: Some(desk.named("a/")), ..FindQuery::default() }, vec!["a/one", "a/two"]),
        (
            FindQuery { path: Some(desk.named("")), name: Some("/t[a-z]+$".into()), ..FindQuery::default() },
            vec!["a/two", "b/three"],
        ),
        (FindQuery { tags: tags("blue").into(), ..FindQuery::default() }, vec!["a/one", "b/three"]),
        (FindQuery { tags: tags("green").into(), ..FindQuery::default() }, vec![]),
    ] {
        let found = desk.bot.fetcher.find(&store, &desk.bot.account, &query, Instant::now()).await?;
        let names: Vec<String> = names.into_iter().map(|name| desk.named(name)).collect();
        assert_eq!(found.as_slice(), names, "{query:?}");
    }
    let wrong = FindQuery { name: Some("(".into()), ..FindQuery::default() };
    refusal(desk.bot.fetcher.find(&store, &desk.bot.account, &wrong, Instant::now()).await, ErrorClass::Invalid);
    let metadata = RemoteKey { metadata: true, ..key(&desk.named("a/one")) };
    let read = desk.bot.read_all(&store, &[metadata]).await.remove(0)?;
    let Payload::Json(text) = &read.payload else { panic!("not JSON") };
    assert_eq!(text.expose(), json!({"desk": desk.bot.namespace, "stage": "blue"}).to_string());
    Ok(())
}

#[tokio::test]
async fn where_batches_are_denied_single_reads_do_and_that_is_remembered() -> Outcome {
    let desk = Desk::new("nobatch").await?;
    let only = json!([{
        "Effect": "Allow", "Action": "secretsmanager:GetSecretValue",
        "Resource": format!("arn:aws:secretsmanager:*:*:secret:{}/*", desk.bot.namespace),
    }]);
    desk.admin.allow(&desk.bot.namespace, &only).await?;
    let keys: Vec<RemoteKey> = ["a", "b", "c"].iter().map(|name| key(&desk.named(name))).collect();
    for key in &keys {
        desk.admin.put_secret(&key.key, &key.key).await?;
    }
    let store = desk.secrets_manager();
    for refresh in 1..=2 {
        let read = desk.bot.read_all(&store, &keys).await;
        assert!(read.iter().zip(&keys).all(|(read, key)| bytes(read) == key.key.as_bytes()));
        let counts = ["BatchGetSecretValue", "GetSecretValue", "AssumeRoleWithWebIdentity"].map(|one| desk.count(one));
        assert_eq!(counts, [1, 3 * refresh, 1]);
    }
    Ok(())
}
