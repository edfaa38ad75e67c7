//! OpenBao: it trusts the cluster's tokens, counts, and can be broken.

use std::time::Duration;

use anyhow::Result;
use botsecret_testbed::{BlackHole, Cluster, OpenBao, OpenBaoOptions, Role, wait_for};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

const AUDIENCE: &str = "openbao";

async fn bot(cluster: &Cluster) -> Result<String> {
    let namespace = cluster.namespace("bao").await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client()?, &namespace);
    let account = serde_json::from_value(json!({"metadata": {"name": "bot"}}))?;
    accounts.create(&PostParams::default(), &account).await?;
    Ok(namespace)
}

/// A login with a fresh token of that audience: the status and the answer.
async fn login(cluster: &Cluster, bao: &OpenBao, mount: &str, namespace: &str, audience: &str) -> Result<(u16, Value)> {
    let token = cluster.service_account_token(namespace, "bot", &[audience], 600).await?;
    let body = json!({"role": "bots", "jwt": token});
    let path = format!("auth/{mount}/login");
    bao.client("")?.request("POST", &path, Some(&body)).await
}

#[tokio::test]
async fn a_service_accounts_token_logs_in_by_kubernetes_and_jwt_and_reads_what_its_policy_allows() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let namespace = bot(cluster).await?;
    for tls in [false, true] {
        let bao = OpenBao::start(cluster, OpenBaoOptions { tls }).await?;
        let root = bao.root()?;
        root.enable_kv("kv", 2).await?;
        assert_eq!(root.put_kv2("kv", "bot", &json!({"key": "1"})).await?, 1);
        assert_eq!(root.put_kv2("kv", "bot", &json!({"key": "2"})).await?, 2);
        root.policy("bots", r#"path "kv/data/bot" { capabilities = ["read"] }"#).await?;
        let role = Role {
            name: "bots",
            namespaces: &[&namespace],
            service_accounts: &["bot"],
            policies: &["bots"],
            audience: AUDIENCE,
            ttl: "20m",
        };
        root.kubernetes_role(&role).await?;
        root.jwt_role(&role).await?;
        for mount in ["kubernetes", "jwt"] {
            let mark = bao.mark()?;
            let (status, answer) = login(cluster, &bao, mount, &namespace, AUDIENCE).await?;
            assert_eq!(status, 200, "{mount}: {answer}");
            let token = answer["auth"]["client_token"].as_str().unwrap_or_default();
            let client = bao.client(token)?;
            assert_eq!(client.read("kv/data/bot").await?["data"]["data"]["key"], "2");
            assert_eq!(client.request("GET", "kv/data/other", None).await?.0, 403);
            let requests = bao.requests_since(&mark)?;
            assert_eq!(requests.len(), 3, "{requests:#?}");
            assert_eq!(bao.logins_since(&mark)?, 1);
            assert!(requests[0].accessor.is_some());
            assert_eq!(requests[0].accessor, requests[1].accessor);
            assert!(requests[2].error.is_some());

            let (status, answer) = login(cluster, &bao, mount, &namespace, "wrong").await?;
            assert!((400..=403).contains(&status), "{mount}: {status} {answer}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn data_outlives_a_seal_a_stop_and_a_kill() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let bao = OpenBao::start(cluster, OpenBaoOptions::default()).await?;
    let root = bao.root()?;
    root.enable_kv("old", 1).await?;
    root.write("old/a", &json!({"key": "1"})).await?;
    bao.seal().await?;
    assert_eq!(root.request("GET", "old/a", None).await?.0, 503);
    bao.unseal().await?;
    root.read("old/a").await?;
    bao.stop().await?;
    assert!(root.read("old/a").await.is_err());
    bao.start_again().await?;
    root.read("old/a").await?;
    bao.kill().await?;
    bao.start_again().await?;
    assert_eq!(root.read("old/a").await?["data"]["key"], "1");
    root.delete("old/a").await?;
    assert_eq!(root.request("GET", "old/a", None).await?.0, 404);
    Ok(())
}

#[tokio::test]
async fn a_black_hole_accepts_and_never_answers() -> Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let hole = BlackHole::start().await?;
    let mut connection = tokio::net::TcpStream::connect(hole.address()).await?;
    connection.write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
    let mut byte = [0];
    let answer = tokio::time::timeout(Duration::from_millis(300), connection.read(&mut byte));
    assert!(answer.await.is_err());
    wait_for(
        "the connection to be counted",
        Duration::from_secs(30),
        async || Ok((hole.accepted() == 1).then_some(())),
    )
    .await?;
    drop(hole);
    let end = tokio::time::timeout(Duration::from_secs(30), connection.read(&mut byte)).await?;
    assert!(matches!(end, Ok(0) | Err(_)));
    Ok(())
}
