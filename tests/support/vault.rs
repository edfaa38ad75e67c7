//! OpenBao for tests: one server a test binary, a mount and a role of its own
//! for each bench. A test that breaks the server starts one for itself.

use botsecret_testbed::{BaoClient, OpenBao, OpenBaoOptions, Role};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{Bench, Result, canary};

/// The server that tests share.
pub async fn shared_bao() -> Result<&'static OpenBao> {
    static BAO: OnceCell<OpenBao> = OnceCell::const_new();
    let cluster = super::cluster().await?;
    BAO.get_or_try_init(|| OpenBao::start(cluster, OpenBaoOptions { tls: true })).await
}

/// A bench's corner of an OpenBao: mount, policy, role and audit filter are
/// named as its namespace.
pub struct Vault<'a> {
    /// The server.
    pub bao: &'a OpenBao,
    /// With every right.
    pub root: BaoClient,
    name: String,
}

impl<'a> Vault<'a> {
    /// A mount of version 2 that the bench's ServiceAccounts `accounts` may
    /// read, and a store `source` for it.
    pub async fn new(bench: &Bench, bao: &'a OpenBao, accounts: &[&str]) -> Result<Self> {
        let vault = Self { bao, root: bao.root()?, name: bench.namespace.clone() };
        vault.root.enable_kv(&vault.name, 2).await?;
        vault.policy(&format!(r#"path "{}/data/*" {{ capabilities = ["read"] }}"#, vault.name)).await?;
        let role = Role {
            name: &vault.name,
            namespaces: &[&bench.namespace],
            service_accounts: accounts,
            policies: &[&vault.name],
            audience: "vault",
            ttl: "20m",
        };
        vault.root.kubernetes_role(&role).await?;
        bench.apply(vault.store("source")).await?;
        Ok(vault)
    }

    /// What the role may do, in place of what it could do before.
    pub async fn policy(&self, text: &str) -> Result {
        self.root.policy(&self.name, text).await
    }

    /// A BotSecretStore for the mount. Its engine is not looked up, so that
    /// each request is a login or a read.
    pub fn store(&self, name: &str) -> Value {
        json!({
            "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecretStore", "metadata": { "name": name },
            "spec": { "vault": self.spec() },
        })
    }

    /// The manager's part of a store.
    pub fn spec(&self) -> Value {
        let mut spec = json!({
            "address": self.bao.url(), "path": self.name, "version": "v2",
            "auth": { "kubernetes": { "role": self.name } },
        });
        if let Some(certificate) = self.bao.ca_pem() {
            spec["caBundle"] = json!(certificate);
        }
        spec
    }

    /// Writes a secret; answers its version.
    pub async fn put(&self, path: &str, data: &Value) -> Result<u64> {
        canary::watch_values_of(data);
        self.root.put_kv2(&self.name, path, data).await
    }

    /// Destroys one version of a secret.
    pub async fn destroy(&self, path: &str, version: u64) -> Result {
        self.root.write(&format!("{}/destroy/{path}", self.name), &json!({ "versions": [version] })).await.map(drop)
    }

    /// Deletes a secret with all its versions.
    pub async fn remove(&self, path: &str) -> Result {
        self.root.delete(&format!("{}/metadata/{path}", self.name)).await
    }

    /// The path under which the audit log shows reads of this secret.
    pub fn read_path(&self, path: &str) -> String {
        format!("{}/data/{path}", self.name)
    }
}
