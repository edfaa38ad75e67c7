//! moto as the second opinion: another program's reading of the same
//! protocols. It checks no identity.

use std::{
    net::{Ipv4Addr, TcpListener},
    time::Duration,
};

use botsecret::{
    api::{Provider, SecretKeyRef},
    fetch::ResolvedStore,
    secret::SecretBytes,
    stores::{Credentials, FindQuery, RemoteKey, Scope},
};
use botsecret_testbed::{Process, peers, wait_for};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::aws_world::bytes;
use crate::session;
use crate::world::{Bot, OPERATOR, Outcome, from, key};

struct Moto {
    url: String,
    client: reqwest::Client,
    _process: Process,
    _folder: tempfile::TempDir,
}

impl Moto {
    async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let environment = ["PATH", "HOME"].into_iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?)));
        let arguments = ["-H".to_owned(), "127.0.0.1".to_owned(), "-p".to_owned(), port.to_string()];
        let log = folder.path().join("log");
        let process = Process::start(&peers::program("moto")?, &arguments, &environment.collect::<Vec<_>>(), &log)?;
        let (url, client) = (format!("http://127.0.0.1:{port}"), reqwest::Client::builder().no_proxy().build()?);
        wait_for("moto to answer", Duration::from_secs(60), async || {
            client.get(format!("{url}/moto-api/")).send().await?;
            Ok(Some(()))
        })
        .await?;
        Ok(Self { url, client, _process: process, _folder: folder })
    }

    async fn ask(&self, service: &str, target: &str, input: Value) -> anyhow::Result<Value> {
        let scope = format!("AKIDEXAMPLE/20260101/eu-west-1/{service}/aws4_request");
        let answer = self.client.post(&self.url).header("x-amz-target", target);
        let answer = answer.header("content-type", "application/x-amz-json-1.1");
        let signed = format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=none");
        let answer = answer.header("authorization", signed).body(input.to_string()).send().await?;
        let (status, body) = (answer.status(), answer.text().await?);
        anyhow::ensure!(status.is_success(), "{target}: {status} {body}");
        Ok(serde_json::from_str(&body).unwrap_or_default())
    }
}

#[tokio::test]
async fn moto_agrees_about_both_services_their_batches_versions_and_searches() -> Outcome {
    let (bot, moto) = (Bot::new("moto").await?, Moto::start().await?);
    let secrets: Api<Secret> = Api::namespaced(bot.cluster.client()?, &bot.namespace);
    let keys = json!({"metadata": {"name": "aws"}, "stringData": {"id": "AKIDEXAMPLE", "secret": "none"}});
    secrets.create(&PostParams::default(), &from(keys)).await?;
    let store = |service: &str| {
        let key = |key: &str| json!({"name": "aws", "key": key});
        let spec = json!({
            "service": service, "region": "eu-west-1", "endpoint": moto.url,
            "auth": {"secretRef": {"accessKeyIDSecretRef": key("id"), "secretAccessKeySecretRef": key("secret")}},
        });
        let provider = Provider::Aws(from(spec));
        // Nothing here needs an administrator.
        let base = bot.kubernetes(&json!({"remoteNamespace": "none"}));
        ResolvedStore { uid: service.to_owned(), provider, scope: Scope::Namespace, ..base }
    };
    let manager = store("SecretsManager");
    for name in ["desk/a", "desk/b"] {
        let tags = json!([{"Key": "name", "Value": name}]);
        let input = json!({"Name": name, "SecretString": format!("old {name}"), "Tags": tags});
        moto.ask("secretsmanager", "secretsmanager.CreateSecret", input).await?;
        let input = json!({"SecretId": name, "SecretString": format!("new {name}")});
        moto.ask("secretsmanager", "secretsmanager.PutSecretValue", input).await?;
    }
    let previous = RemoteKey { version: Some("AWSPREVIOUS".into()), ..key("desk/a") };
    let read = bot.read_all(&manager, &[key("desk/a"), key("desk/b"), previous, key("desk/none")]).await;
    assert_eq!([0, 1, 2].map(|place| bytes(&read[place])), [&b"new desk/a"[..], b"new desk/b", b"old desk/a"]);
    assert!(read[3].is_err());
    let tagged = |value: &str| FindQuery { tags: [("name".into(), value.into())].into(), ..FindQuery::default() };
    assert_eq!(bot.fetcher.find(&manager, &bot.account, &tagged("desk/a"), Instant::now()).await?, ["desk/a"]);

    let parameters = store("ParameterStore");
    for (name, value) in [("/desk/a", "one"), ("/desk/a", "two"), ("/desk/b", "b")] {
        let input = json!({"Name": name, "Type": "SecureString", "Value": value, "Overwrite": true});
        moto.ask("ssm", "AmazonSSM.PutParameter", input).await?;
    }
    let tags = json!({"ResourceType": "Parameter", "ResourceId": "/desk/b", "Tags": [{"Key": "name", "Value": "b"}]});
    moto.ask("ssm", "AmazonSSM.AddTagsToResource", tags).await?;
    let read = bot.read_all(&parameters, &[key("/desk/a"), key("/desk/a:1"), key("/desk/b"), key("/desk/none")]).await;
    assert_eq!([0, 1, 2].map(|place| bytes(&read[place])), [&b"two"[..], b"one", b"b"]);
    assert_eq!(read[0].as_ref().map(|secret| secret.version), Ok(Some(2)));
    assert!(read[3].is_err());
    assert_eq!(bot.fetcher.find(&parameters, &bot.account, &tagged("b"), Instant::now()).await?, ["/desk/b"]);
    let below = FindQuery { path: Some("/desk".into()), ..FindQuery::default() };
    assert_eq!(bot.fetcher.find(&parameters, &bot.account, &below, Instant::now()).await?, ["/desk/a", "/desk/b"]);
    Ok(())
}

#[tokio::test]
async fn moto_agrees_that_an_attempt_makes_one_version() -> Outcome {
    const ATTEMPT: &str = "8c5f2c0e-6f3d-4f7a-9f55-0d6f5b1c0001";
    let (bot, moto) = (Bot::new("moto-writes").await?, Moto::start().await?);
    let reference = |key: &str| json!({"name": "aws", "key": key});
    let spec = json!({
        "service": "SecretsManager", "region": "eu-west-1", "endpoint": moto.url,
        "auth": {"secretRef": {"accessKeyIDSecretRef": reference("id"), "secretAccessKeySecretRef": reference("secret")}},
    });
    let store = ResolvedStore {
        provider: Provider::Aws(from(spec)),
        scope: Scope::Namespace,
        ..bot.kubernetes(&json!({"remoteNamespace": "none"}))
    };
    let held = |key: &str, value: &str| {
        (SecretKeyRef { name: "aws".into(), key: key.into() }, SecretBytes::new(value.as_bytes().to_vec()))
    };
    let credentials = Credentials::new([held("id", "AKIDEXAMPLE"), held("secret", "none")].into());
    let config = bot.cluster.config(OPERATOR, &["system:masters"])?;
    let opened = session::open(config, &store, &bot.account, credentials).await?;
    let input = json!({"Name": "desk/a", "SecretString": r#"{"user": "bot", "password": "old"}"#});
    let first = moto.ask("secretsmanager", "secretsmanager.CreateSecret", input).await?["VersionId"].clone();
    let current = RemoteKey { version: Some("AWSCURRENT".into()), ..key("desk/a") };
    for _ in 0..2 {
        opened.write(&key("desk/a"), Some("password"), b"new", None, ATTEMPT).await?;
        assert_eq!(opened.bytes(&current).await?, br#"{"user": "bot", "password": "new"}"#);
    }
    let describe = json!({"SecretId": "desk/a"});
    let all = moto.ask("secretsmanager", "secretsmanager.DescribeSecret", describe).await?;
    let stages = all["VersionIdsToStages"].as_object().expect("versions").clone();
    assert_eq!(stages.len(), 2, "{stages:?}");
    assert_eq!(stages[first.as_str().expect("an id")], json!(["AWSPREVIOUS"]));
    Ok(())
}
