//! Ways into the API server: certificates, configurations, tokens.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use kube::config::AuthInfo;
use kube::{Client, Config};

use super::components::Plan;
use super::{PATIENCE, lock};
use crate::pki::Authority;
use crate::wait_for;

/// The folder with the user's certificate, key and kubeconfig, made once.
fn credentials(plan: &Plan, authority: &Authority, user: &str, groups: &[&str]) -> Result<PathBuf> {
    // Two tests may ask for the same user at once.
    static MAKING: Mutex<()> = Mutex::new(());
    let _guard = lock(&MAKING);
    let name = [&[user], groups].concat().join("+").replace([':', '/'], "_");
    let folder = plan.folder().join("users").join(name);
    if folder.join("kubeconfig").exists() {
        return Ok(folder);
    }
    std::fs::create_dir_all(&folder)?;
    let pair = authority.client(user, groups)?;
    std::fs::write(folder.join("tls.crt"), &pair.certificate)?;
    std::fs::write(folder.join("tls.key"), &pair.key)?;
    let kubeconfig = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "testbed", "cluster": {
            "server": plan.url(), "certificate-authority": plan.file("ca.crt"),
        }}],
        "users": [{"name": user, "user": {
            "client-certificate": folder.join("tls.crt"), "client-key": folder.join("tls.key"),
        }}],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": user}}],
        "current-context": "testbed",
    });
    // JSON is YAML, so kubectl reads it too.
    std::fs::write(folder.join("kubeconfig"), kubeconfig.to_string())?;
    Ok(folder)
}

pub(super) fn kubeconfig(plan: &Plan, authority: &Authority, user: &str, groups: &[&str]) -> Result<PathBuf> {
    Ok(credentials(plan, authority, user, groups)?.join("kubeconfig"))
}

pub(super) fn config(plan: &Plan, authority: &Authority, user: &str, groups: &[&str]) -> Result<Config> {
    let folder = credentials(plan, authority, user, groups)?;
    let path = |name| folder.join(name).to_str().map(str::to_owned);
    let mut config = Config::new(plan.url().parse()?);
    config.root_cert = Some(vec![authority.der().to_vec()]);
    config.auth_info =
        AuthInfo { client_certificate: path("tls.crt"), client_key: path("tls.key"), ..AuthInfo::default() };
    Ok(config)
}

pub(super) async fn wait_until_ready(client: &Client) -> Result<()> {
    wait_for("the API server to be ready", PATIENCE, || async {
        let request = http::Request::get("/readyz").body(Vec::new())?;
        let answer = tokio::time::timeout(Duration::from_secs(5), client.request_text(request));
        Ok((answer.await?? == "ok").then_some(()))
    })
    .await
}

pub(super) async fn token_request(
    client: &Client,
    namespace: &str,
    name: &str,
    audiences: Vec<String>,
    seconds: i64,
) -> Result<String> {
    let request = TokenRequest {
        spec: TokenRequestSpec { audiences, expiration_seconds: Some(seconds), bound_object_ref: None },
        ..TokenRequest::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let answer = accounts
        .create_token_request(name, &PostParams::default(), &request)
        .await
        .with_context(|| format!("no token for ServiceAccount {namespace}/{name}"))?;
    Ok(answer.status.context("a TokenRequest without status")?.token)
}
