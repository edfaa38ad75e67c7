//! The operator's own AWS identity, which only its environment knows: each
//! test is run once more as a process with an environment of its own.

use std::{path::Path, process::Stdio, sync::Arc};

use botsecret::{
    api::{Limits, Provider, StoreRef},
    fetch::{Fetcher, ReferredSecrets, ResolvedStore, ServiceAccount},
    stores::{ClusterEndpoint, ErrorClass, HttpClients, Scope},
};
use botsecret_testbed::{
    FaultProxy,
    clouds::aws::{instance_metadata, pod_identity},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::aws_identity::{Fixed, NoSecrets};
use crate::aws_world::{Desk, bytes, may_read};
use crate::world::{Outcome, from, key};

const TOLD: &str = "BOTSECRET_TEST_AMBIENT";
const STS: &str = "sts.amazonaws.com";

/// Reads one key as told in a process with this environment alone.
async fn in_a_process(told: &Value, environment: &[(&str, &str)]) -> Outcome {
    let answer = tokio::process::Command::new(std::env::current_exe()?)
        .args(["--exact", "aws_ambient::as_a_process_of_its_own", "--ignored", "--nocapture"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env(TOLD, told.to_string())
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let said = String::from_utf8_lossy(&answer.stdout).into_owned() + &String::from_utf8_lossy(&answer.stderr);
    assert!(answer.status.success() && said.contains("1 passed"), "{said}");
    Ok(())
}

/// A key of the desk's, at its peer and its peer's STS.
fn at_the_peer(desk: &Desk) -> Value {
    let store = json!({"endpoint": desk.aws.url(), "stsEndpoint": {"url": desk.aws.url()}});
    json!({"key": desk.named("bot"), "store": store})
}

fn refused(told: &Value, class: ErrorClass, part: &str) -> Value {
    let mut told = told.clone();
    told["refused"] = json!({"class": class.name(), "part": part});
    told
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[tokio::test]
async fn the_operators_own_identity_is_had_from_the_machine_itself_and_not_through_the_stores_proxy() -> Outcome {
    let desk = Desk::new("ambient").await?;
    let namespace = &desk.bot.namespace;
    desk.admin.put_secret(&desk.named("bot"), "value").await?;
    let (id, secret) = desk.admin.user_key(namespace, &may_read(namespace)).await?;
    let proxy = FaultProxy::start().await?;
    proxy.route("secretsmanager.eu-west-1.amazonaws.com", desk.aws.address());
    let agent = pod_identity("pod-token", &id, &secret).await?;
    let told = json!({"key": desk.named("bot"), "proxy": proxy.url(), "store": {"caBundle": proxy.ca_pem()}});
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("eks-pod-identity-token");
    std::fs::write(&file, "pod-token")?;
    // As a test of its own that the token counts.
    let url = format!("{}/v1/credentials", agent.url());
    let full = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str());
    for token in
        [("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pod-token"), ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path(&file))]
    {
        in_a_process(&told, &[full, token]).await?;
    }
    let hosts: Vec<String> = proxy.requests().into_iter().map(|request| request.host).collect();
    assert_eq!(hosts, ["secretsmanager.eu-west-1.amazonaws.com"; 2]);
    assert_eq!(agent.requests().len(), 2);
    let wrong = refused(&told, ErrorClass::Unavailable, "the operator's own AWS identity could not be had");
    in_a_process(&wrong, &[full, ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "another")]).await
}

#[tokio::test]
async fn an_operator_without_an_identity_of_its_own_says_so() -> Outcome {
    let told = json!({"key": "bot", "store": {}});
    in_a_process(&refused(&told, ErrorClass::LoginDenied, "no AWS identity of its own"), &[]).await
}

#[tokio::test]
async fn the_role_of_the_operators_own_pod_is_had_at_the_stores_sts() -> Outcome {
    let desk = Desk::new("irsa").await?;
    desk.admin.put_secret(&desk.named("bot"), "value").await?;
    let token = desk.bot.cluster.service_account_token(&desk.bot.namespace, "bot", &[STS], 600).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{token}\n"))?;
    let environment = [("AWS_ROLE_ARN", desk.role.as_str()), ("AWS_WEB_IDENTITY_TOKEN_FILE", path(&file))];
    in_a_process(&at_the_peer(&desk), &environment).await?;
    let asked = desk.requests().into_iter().find(|request| request.action == "AssumeRoleWithWebIdentity");
    let asked = asked.expect("a login");
    assert_eq!(asked.input["RoleArn"], desk.role);
    assert_eq!(asked.input["RoleSessionName"], "botsecret");
    assert_eq!((desk.count("AssumeRoleWithWebIdentity"), desk.count("GetSecretValue")), (1, 1));
    Ok(())
}

#[tokio::test]
async fn a_pods_own_role_that_cannot_be_had_says_which_file_or_role_is_at_fault() -> Outcome {
    let (desk, other) = (Desk::new("irsa-wrong").await?, Desk::new("irsa-other").await?);
    let folder = tempfile::tempdir()?;
    let (good, empty, none) = (folder.path().join("good"), folder.path().join("empty"), folder.path().join("none"));
    std::fs::write(&good, desk.bot.cluster.service_account_token(&desk.bot.namespace, "bot", &[STS], 600).await?)?;
    std::fs::write(&empty, "\n")?;
    let told = at_the_peer(&desk);
    for (role, file, part) in [
        (&desk.role, &none, "token cannot be read (AWS_WEB_IDENTITY_TOKEN_FILE"),
        (&desk.role, &empty, "token is none (AWS_WEB_IDENTITY_TOKEN_FILE"),
        (&other.role, &good, other.role.as_str()),
        (&other.role, &good, "the operator's own ServiceAccount"),
    ] {
        let environment = [("AWS_ROLE_ARN", role.as_str()), ("AWS_WEB_IDENTITY_TOKEN_FILE", path(file))];
        in_a_process(&refused(&told, ErrorClass::LoginDenied, part), &environment).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_machines_role_is_had_by_the_second_version_of_its_metadata_service() -> Outcome {
    let desk = Desk::new("machine").await?;
    let namespace = &desk.bot.namespace;
    desk.admin.put_secret(&desk.named("bot"), "value").await?;
    let (id, secret) = desk.admin.user_key(namespace, &may_read(namespace)).await?;
    let machine = instance_metadata(Some("node-role"), &id, &secret).await?;
    let url = machine.url();
    let environment = [("AWS_EC2_METADATA_DISABLED", "false"), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str())];
    // Through a proxy that leads nowhere: the machine's own address is not
    // asked for there.
    let mut told = at_the_peer(&desk);
    let proxy = FaultProxy::start().await?;
    proxy.route(&desk.aws.address().to_string(), desk.aws.address());
    told["proxy"] = json!(proxy.url());
    in_a_process(&told, &environment).await?;
    let lines: Vec<String> = machine.requests().into_iter().map(|request| request.line).collect();
    assert_eq!(lines[0], "PUT /latest/api/token", "{lines:?}");
    assert!(lines.iter().any(|line| line.ends_with("security-credentials/node-role")), "{lines:?}");

    let bare = instance_metadata(None, "", "").await?;
    let url = bare.url();
    let environment = [("AWS_EC2_METADATA_DISABLED", "false"), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str())];
    in_a_process(&refused(&told, ErrorClass::LoginDenied, "no AWS identity of its own"), &environment).await
}

#[tokio::test]
async fn p5_a_namespaces_store_has_none_of_the_operators_own_identities() -> Outcome {
    let desk = Desk::new("ambient-no").await?;
    let namespace = &desk.bot.namespace;
    desk.admin.put_secret(&desk.named("bot"), "value").await?;
    let (id, secret) = desk.admin.user_key(namespace, &may_read(namespace)).await?;
    let machine = instance_metadata(Some("node-role"), &id, &secret).await?;
    let url = machine.url();
    let told = json!({"key": desk.named("bot"), "namespaced": true, "store": {"endpoint": desk.aws.url()}});
    let told = refused(&told, ErrorClass::Invalid, "only for a ClusterBotSecretStore");
    let environment = [
        ("AWS_EC2_METADATA_DISABLED", "false"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str()),
        ("AWS_ACCESS_KEY_ID", id.as_str()),
        ("AWS_SECRET_ACCESS_KEY", secret.as_str()),
    ];
    in_a_process(&told, &environment).await?;
    assert!(machine.requests().is_empty() && desk.count("GetSecretValue") == 0);
    Ok(())
}

#[tokio::test]
#[ignore = "run by the others, in an environment of its own"]
async fn as_a_process_of_its_own() {
    let told: Value = serde_json::from_str(&std::env::var(TOLD).expect("told what to do")).expect("JSON");
    let mut spec = json!({"service": "SecretsManager", "region": "eu-west-1", "auth": {"ambient": true}});
    for (field, value) in told["store"].as_object().expect("fields") {
        spec[field] = value.clone();
    }
    let store = ResolvedStore {
        reference: StoreRef { name: "aws".into(), kind: None },
        uid: "aws".into(),
        generation: 1,
        scope: if told["namespaced"] == true { Scope::Namespace } else { Scope::Cluster },
        provider: Provider::Aws(from(spec)),
        proxy: told["proxy"].as_str().map(str::to_owned),
        limits: Limits::default(),
        allows_rotation: false,
        credentials: ReferredSecrets::default(),
    };
    let clients = HttpClients::new(ClusterEndpoint::default());
    let fetcher = Fetcher::new(Arc::new(Fixed(String::new())), Arc::new(NoSecrets), clients);
    let keys = [key(told["key"].as_str().expect("a key"))];
    let read = fetcher.read(&store, &ServiceAccount::default(), &keys, Instant::now()).await.remove(0);
    match (told["refused"]["class"].as_str(), told["refused"]["part"].as_str()) {
        (Some(class), Some(part)) => {
            let error = read.expect_err("refused");
            assert_eq!(error.class.name(), class, "{error}");
            assert!(error.message.contains(part), "{error}");
        }
        _ => assert_eq!(bytes(&read), b"value"),
    }
    assert_eq!(fetcher.counters().token_requests(), 0);
}
