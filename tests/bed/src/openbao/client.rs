//! The few calls that tests make themselves.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::{Certificate, Client, Method};
use serde_json::{Value, json};

/// A client with one token; of the runtime on which it was made.
#[derive(Clone, Debug)]
pub struct BaoClient {
    http: Client,
    url: String,
    token: String,
}

impl BaoClient {
    pub(super) fn new(url: &str, ca: Option<&str>, token: &str) -> Result<Self> {
        // Loopback only: a proxy of the machine has no business here.
        let mut builder = Client::builder().no_proxy().timeout(Duration::from_secs(30)).tls_certs_only(Vec::new());
        if let Some(ca) = ca {
            builder = builder.tls_certs_only([Certificate::from_pem(ca.as_bytes())?]);
        }
        Ok(Self { http: builder.build()?, url: url.to_owned(), token: token.to_owned() })
    }

    /// Any request under `/v1/`; a refusal is an answer, not an error.
    pub async fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        let method = Method::from_bytes(method.as_bytes())?;
        let mut request = self.http.request(method, format!("{}/v1/{path}", self.url));
        if !self.token.is_empty() {
            request = request.header("X-Vault-Token", &self.token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        if text.is_empty() {
            return Ok((status, Value::Null));
        }
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok((status, value))
    }

    async fn demand(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let (status, value) = self.request(method, path, body).await?;
        if !(200..300).contains(&status) {
            bail!("{method} {path}: {status} {value}");
        }
        Ok(value)
    }

    /// Writes (POST); an error when refused.
    pub async fn write(&self, path: &str, body: &Value) -> Result<Value> {
        self.demand("POST", path, Some(body)).await
    }

    /// Reads (GET); an error when refused or absent.
    pub async fn read(&self, path: &str) -> Result<Value> {
        self.demand("GET", path, None).await
    }

    /// Deletes.
    pub async fn delete(&self, path: &str) -> Result<()> {
        self.demand("DELETE", path, None).await.map(drop)
    }

    /// Mounts a KV engine of version 1 or 2, and waits out its upgrade.
    pub async fn enable_kv(&self, mount: &str, version: u8) -> Result<()> {
        let options = json!({"type": "kv", "options": {"version": version.to_string()}});
        self.write(&format!("sys/mounts/{mount}"), &options).await?;
        if version == 1 {
            return Ok(());
        }
        // A new mount of version 2 answers 400 "Upgrading from non-versioned
        // to versioned data" for a moment.
        crate::wait_for("the KV engine to be upgraded", Duration::from_secs(20), || async {
            self.read(&format!("{mount}/config")).await.map(Some)
        })
        .await?;
        Ok(())
    }

    /// Writes a secret of a KV engine of version 2; says which version it became.
    pub async fn put_kv2(&self, mount: &str, path: &str, data: &Value) -> Result<u64> {
        let body = json!({"data": data});
        let answer = self.write(&format!("{mount}/data/{path}"), &body).await?;
        answer["data"]["version"].as_u64().context("an answer without version")
    }

    /// Sets a policy from its HCL text.
    pub async fn policy(&self, name: &str, hcl: &str) -> Result<()> {
        let body = json!({"policy": hcl});
        self.write(&format!("sys/policies/acl/{name}"), &body).await.map(drop)
    }
}
