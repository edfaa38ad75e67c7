//! Both versions of the key/value engine, in a real OpenBao each.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use async_trait::async_trait;
use botsecret::{
    api::{Provider, VaultStore},
    fetch::{Fetcher, ResolvedStore, ServiceAccount},
    stores::ErrorClass,
};
use botsecret_testbed::{FaultProxy, OpenBao, OpenBaoOptions, Role};
use serde_json::{Value, json};

use crate::subject::{Content, Subject, World, store};

const HOST: &str = "vault.contract.test:8200";
const MOUNT: &str = "team/kv";
const ROLE: &str = "bots";

struct Vault {
    world: Arc<World>,
    proxy: FaultProxy,
    bao: OpenBao,
    account: ServiceAccount,
    engine: u8,
}

pub async fn version_1(world: Arc<World>) -> Result<Box<dyn Subject>> {
    start(world, 1).await
}

pub async fn version_2(world: Arc<World>) -> Result<Box<dyn Subject>> {
    start(world, 2).await
}

async fn start(world: Arc<World>, engine: u8) -> Result<Box<dyn Subject>> {
    let bao = OpenBao::start(world.cluster, OpenBaoOptions { tls: false }).await?;
    let proxy = FaultProxy::start().await?;
    proxy.route(HOST, bao.url().strip_prefix("http://").context("a plain URL")?.parse()?);
    let account = world.account("contract", "bot").await?;
    let root = bao.root()?;
    root.enable_kv(MOUNT, engine).await?;
    let data = if engine == 1 { MOUNT.to_owned() } else { format!("{MOUNT}/data") };
    let policy = format!(
        r#"path "{data}/*" {{ capabilities = ["read", "create", "update"] }} path "{data}/denied/*" {{ capabilities = ["deny"] }}"#
    );
    root.policy(ROLE, &policy).await?;
    root.kubernetes_role(&Role {
        name: ROLE,
        namespaces: &[&account.namespace],
        service_accounts: &[&account.name],
        policies: &[ROLE],
        audience: "vault",
        ttl: "20m",
    })
    .await?;
    Ok(Box::new(Vault { world, proxy, bao, account, engine }))
}

impl Vault {
    fn reading(&self, more: &Value) -> Result<ResolvedStore> {
        let mut spec = json!({
            "address": format!("https://{HOST}"),
            "caBundle": self.proxy.ca_pem(),
            "path": MOUNT,
            "auth": {"kubernetes": {"role": ROLE}},
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        let spec: VaultStore = serde_json::from_value(spec)?;
        Ok(store(self.name(), Provider::Vault(spec), &self.proxy))
    }

    /// The path of a secret for one of the engine's ways to it.
    fn path(&self, way: &str, name: &str) -> String {
        // As a URL has it: the bed's client sends a path as it is.
        let encoded: String = name
            .bytes()
            .map(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' => char::from(byte).to_string(),
                byte => format!("%{byte:02X}"),
            })
            .collect();
        if self.engine == 1 { format!("{MOUNT}/{encoded}") } else { format!("{MOUNT}/{way}/{encoded}") }
    }
}

#[async_trait]
impl Subject for Vault {
    fn name(&self) -> &'static str {
        if self.engine == 1 { "vault-kv1" } else { "vault-kv2" }
    }

    fn why_not(&self, case: &str) -> Option<&'static str> {
        match (case, self.engine) {
            ("binary", _) => Some("Vault keeps JSON documents, which hold text and no other bytes"),
            ("alias or stage", _) => Some("Vault names versions by their number alone"),
            ("write back", 1) => {
                Some("version 1 of the engine keeps no versions, so that a write could be over somebody else's")
            }
            ("pinned version" | "disabled version" | "write back that was overtaken", 1) => {
                Some("version 1 of the engine keeps no versions")
            }
            ("age at the source", 1) => Some("version 1 of the engine keeps no times"),
            ("soft-deleted", 1) => Some("version 1 of the engine deletes for good"),
            _ => None,
        }
    }

    fn proxy(&self) -> &FaultProxy {
        &self.proxy
    }

    fn read_hosts(&self) -> Vec<String> {
        vec![HOST.to_owned()]
    }

    fn login_hosts(&self) -> Vec<String> {
        vec![HOST.to_owned()]
    }

    fn store(&self) -> ResolvedStore {
        self.reading(&json!({})).expect("a store")
    }

    fn account(&self) -> ServiceAccount {
        self.account.clone()
    }

    fn fetcher(&self) -> Result<Fetcher> {
        self.world.fetcher()
    }

    async fn put(&self, name: &str, content: &Content) -> Result<Option<String>> {
        let data = match content {
            Content::Plain(bytes) => json!({"value": std::str::from_utf8(bytes).context("text")?}),
            Content::Json(data) => data.clone(),
        };
        let root = self.bao.root()?;
        if self.engine == 1 {
            root.write(&self.path("", name), &data).await?;
            return Ok(None);
        }
        let written = root.write(&self.path("data", name), &json!({"data": data})).await?;
        let version = written["data"]["version"].as_u64().or(written["version"].as_u64());
        Ok(Some(version.context("the version that was written")?.to_string()))
    }

    fn plain_property(&self) -> Option<&'static str> {
        Some("value")
    }

    /// The storage takes entries of 1 MiB, of which some bytes are the engine's.
    fn largest(&self) -> usize {
        1_048_000
    }

    fn odd_names(&self) -> Vec<String> {
        [
            "a/b/c/d",
            "with space",
            "UPPER.lower_-",
            "per%20cent%2f",
            "question?mark#hash&and=more",
            "Größe/日本",
            "dots..inside/.hidden",
            "plus+semicolon;colon:at@comma,",
            "back\\slash\"quote'",
        ]
        .map(str::to_owned)
        .into_iter()
        .chain(["x".repeat(400)])
        .collect()
    }

    fn numbers_versions(&self) -> bool {
        self.engine == 2
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.bao.root()?.delete(&self.path("metadata", name)).await
    }

    async fn soft_delete(&self, name: &str) -> Result<()> {
        self.bao.root()?.delete(&self.path("data", name)).await
    }

    /// A version that is destroyed is listed still.
    async fn disable(&self, name: &str) -> Result<()> {
        let root = self.bao.root()?;
        let (status, metadata) = root.request("GET", &self.path("metadata", name), None).await?;
        ensure!(status == 200, "{status}");
        let newest = &metadata["data"]["current_version"];
        root.write(&self.path("destroy", name), &json!({"versions": [newest]})).await?;
        Ok(())
    }

    async fn put_denied(&self, name: &str, content: &Content) -> Result<(ResolvedStore, String)> {
        let name = format!("denied/{name}");
        self.put(&name, content).await?;
        Ok((self.store(), name))
    }

    /// Vault does not tell a mount that is not there from one that one may
    /// not see.
    async fn missing_place(&self) -> Result<(ResolvedStore, String, ErrorClass)> {
        Ok((self.reading(&json!({"path": "no-such-mount"}))?, "x".into(), ErrorClass::Denied))
    }

    async fn not_let_in(&self) -> Result<(ResolvedStore, ServiceAccount)> {
        Ok((self.reading(&json!({"auth": {"kubernetes": {"role": "nobody"}}}))?, self.account.clone()))
    }

    async fn end_logins(&self) -> Result<()> {
        let path = "sys/leases/revoke-prefix/auth/kubernetes/login";
        let (status, said) = self.bao.root()?.request("PUT", path, Some(&json!({"sync": true}))).await?;
        if !(200..300).contains(&status) {
            bail!("the logins cannot be revoked: {status} {said}");
        }
        Ok(())
    }
}
