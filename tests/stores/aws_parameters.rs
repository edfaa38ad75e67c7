//! AWS Systems Manager Parameter Store.

use botsecret::stores::{Credentials, ErrorClass, FindQuery, Payload, RemoteKey};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use crate::aws_world::{Desk, bytes, class};
use crate::aws_writes::may_write;
use crate::session;
use crate::world::{OPERATOR, Outcome, key, refusal};

#[tokio::test]
async fn every_kind_of_parameter_arrives_as_it_was_written_with_its_version() -> Outcome {
    let desk = Desk::new("kinds").await?;
    for (kind, value) in [("String", " a\nb "), ("SecureString", r#"{"a": 1.10}"#), ("StringList", "a,b,c")] {
        let name = desk.parameter(kind);
        desk.admin.put_parameter(&name, kind, "old").await?;
        desk.admin.put_parameter(&name, kind, value).await?;
        let read = desk.bot.read(&desk.parameter_store(), &name).await;
        assert_eq!(bytes(&read), value.as_bytes(), "{kind}");
        assert_eq!(read?.version, Some(2));
    }
    Ok(())
}

#[tokio::test]
async fn p2_parameters_are_read_ten_at_a_time_and_what_is_missing_hides_no_other() -> Outcome {
    let desk = Desk::new("tens").await?;
    let keys: Vec<RemoteKey> = (0..25).map(|number| key(&desk.parameter(&number.to_string()))).collect();
    for (number, key) in keys.iter().enumerate().filter(|(number, _)| number % 8 != 7) {
        desk.admin.put_parameter(&key.key, "SecureString", &number.to_string()).await?;
    }
    let read = desk.bot.read_all(&desk.parameter_store(), &keys).await;
    for (number, answer) in read.iter().enumerate() {
        if number % 8 == 7 {
            assert_eq!(class(answer), Some(ErrorClass::Missing), "{number}");
        } else {
            assert_eq!(bytes(answer), number.to_string().as_bytes());
        }
    }
    assert_eq!(["AssumeRoleWithWebIdentity", "GetParameters"].map(|action| desk.count(action)), [1, 3]);
    Ok(())
}

#[tokio::test]
async fn a_version_or_label_is_pinned_in_the_key_or_beside_it() -> Outcome {
    let desk = Desk::new("labels").await?;
    let name = desk.parameter("bot");
    for value in ["one", "two", "three"] {
        desk.admin.put_parameter(&name, "SecureString", value).await?;
    }
    let label = json!({"Name": name, "ParameterVersion": 2, "Labels": ["live"]});
    desk.admin.json("ssm", "LabelParameterVersion", &label).await?;
    let store = desk.parameter_store();
    // All of the one parameter, at once.
    let pinned = |version: &str| RemoteKey { version: Some(version.into()), ..key(&name) };
    let keys = [key(&name), pinned("1"), pinned("live"), key(&format!("{name}:2")), key(&format!("{name}:live"))];
    let read = desk.bot.read_all(&store, &keys).await;
    let values: Vec<&[u8]> = read.iter().map(bytes).collect();
    assert_eq!(values, [&b"three"[..], b"one", b"two", b"two", b"two"]);
    for version in ["9", "dead"] {
        refusal(desk.bot.read_version(&store, &name, version).await, ErrorClass::Missing);
    }
    Ok(())
}

#[tokio::test]
async fn parameters_are_found_below_a_path_and_by_a_pattern() -> Outcome {
    let desk = Desk::new("paths").await?;
    for (name, stage) in [("a/one", "blue"), ("a/b/two", "green"), ("three", "blue")] {
        let name = desk.parameter(name);
        desk.admin.put_parameter(&name, "SecureString", "value").await?;
        let tags = json!([{"Key": "stage", "Value": stage}, {"Key": "desk", "Value": desk.bot.namespace}]);
        let input = json!({"ResourceType": "Parameter", "ResourceId": name, "Tags": tags});
        desk.admin.json("ssm", "AddTagsToResource", &input).await?;
    }
    let store = desk.parameter_store();
    for (query, names) in [
        (FindQuery { path: Some(desk.parameter("a")), ..FindQuery::default() }, vec!["a/b/two", "a/one"]),
        (
            FindQuery { path: Some(desk.parameter("")), name: Some("/t".into()), ..FindQuery::default() },
            vec!["a/b/two", "three"],
        ),
    ] {
        let found = desk.bot.fetcher.find(&store, &desk.bot.account, &query, Instant::now()).await?;
        let names: Vec<String> = names.into_iter().map(|name| desk.parameter(name)).collect();
        assert_eq!(found.as_slice(), names, "{query:?}");
    }
    let relative = FindQuery { path: Some("a".into()), ..FindQuery::default() };
    refusal(desk.bot.fetcher.find(&store, &desk.bot.account, &relative, Instant::now()).await, ErrorClass::Invalid);
    let metadata = RemoteKey { metadata: true, ..key(&desk.parameter("three")) };
    let read = desk.bot.read_all(&store, &[metadata]).await.remove(0)?;
    let Payload::Json(text) = &read.payload else { panic!("not JSON") };
    assert_eq!(text.expose(), json!({"desk": desk.bot.namespace, "stage": "blue"}).to_string());
    Ok(())
}

#[tokio::test]
async fn a_parameter_that_is_written_stays_what_it_was_but_for_its_value() -> Outcome {
    let desk = Desk::new("parameter-write").await?;
    desk.admin.allow(&desk.bot.namespace, &may_write(&desk.bot.namespace, &["ssm:PutParameter"])).await?;
    let config = desk.bot.cluster.config(OPERATOR, &["system:masters"])?;
    let opened = session::open(config, &desk.parameter_store(), &desk.bot.account, Credentials::default()).await?;
    let before = Timestamp::now().as_second() - 1;
    let about = async |name: &str| {
        let filter = json!([{"Key": "Name", "Option": "Equals", "Values": [name]}]);
        let answer = desk.admin.json("ssm", "DescribeParameters", &json!({"ParameterFilters": filter})).await?;
        anyhow::Ok(answer["Parameters"][0].clone())
    };
    for (name, kind, more) in [
        ("bot", "SecureString", json!({"KeyId": "alias/desk", "Tier": "Advanced"})),
        ("plain", "String", json!({"AllowedPattern": "^.*$"})),
    ] {
        let name = desk.parameter(name);
        let mut input = json!({"Name": name, "Type": kind, "Value": r#"{ "n": 1.0, "password": "old" }"#});
        input.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        desk.admin.json("ssm", "PutParameter", &input).await?;
        let was = about(&name).await?;
        for _ in 0..2 {
            opened.write(&key(&name), Some("password"), b"new", Some(1), "one").await?;
            let read = opened.read(&key(&name)).await?;
            assert_eq!(read.version, Some(2), "one new version");
            assert!(read.changed.is_some_and(|changed| changed.as_second() >= before));
            assert_eq!(opened.bytes(&key(&name)).await?, br#"{ "n": 1.0, "password": "new" }"#);
        }
        let is = about(&name).await?;
        for field in ["Type", "Tier", "KeyId", "AllowedPattern", "DataType"] {
            assert_eq!(is[field], was[field], "{kind} {field}");
        }
        let late = opened.write(&key(&name), Some("password"), b"newer", Some(1), "two").await;
        refusal(late, ErrorClass::Conflict);
    }
    Ok(())
}

#[tokio::test]
async fn a_parameter_that_cannot_be_written_says_what_to_do() -> Outcome {
    let desk = Desk::new("parameter-no-write").await?;
    let (namespace, name) = (desk.bot.namespace.clone(), desk.parameter("bot"));
    let config = desk.bot.cluster.config(OPERATOR, &["system:masters"])?;
    let opened = session::open(config, &desk.parameter_store(), &desk.bot.account, Credentials::default()).await?;
    desk.admin.put_parameter(&name, "SecureString", "old").await?;
    let message = refusal(opened.write(&key(&name), None, b"new", None, "one").await, ErrorClass::Denied);
    assert!(message.contains("ssm:PutParameter"), "{message}");
    desk.admin.allow(&namespace, &may_write(&namespace, &["ssm:PutParameter"])).await?;
    let arn = format!("arn:aws:ssm:eu-west-1:123456789012:parameter{name}");
    for wrong in [format!("{name}:1"), arn] {
        refusal(opened.write(&key(&wrong), None, b"new", None, "one").await, ErrorClass::Invalid);
    }
    refusal(opened.write(&key(&name), None, &[0xff], None, "one").await, ErrorClass::Invalid);
    refusal(opened.write(&key(&desk.parameter("none")), None, b"new", None, "one").await, ErrorClass::Missing);
    let large = [b'x'; 4097];
    let message = refusal(opened.write(&key(&name), None, &large, None, "one").await, ErrorClass::Invalid);
    assert!(message.contains("4096") && message.contains("standard tier"), "{message}");
    opened.write(&key(&name), None, &large[1..], None, "one").await?;
    assert_eq!(opened.bytes(&key(&name)).await?, large[1..]);
    Ok(())
}
