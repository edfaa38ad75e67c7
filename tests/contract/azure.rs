//! Azure Key Vault, with a federated credential, at a stand-in that verifies
//! the cluster's tokens.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result};
use async_trait::async_trait;
use botsecret::{
    api::{AzureStore, Provider},
    fetch::{Fetcher, ResolvedStore, ServiceAccount},
    stores::ErrorClass,
};
use botsecret_testbed::{
    FaultKind, FaultProxy,
    clouds::azure::{AzureCloud, LOGIN, RESOURCE, Secret},
    tokens::ClusterKeys,
};
use serde_json::json;

use crate::subject::{Content, Subject, World, store};

const TENANT: &str = "tenant-a";
const CLIENT: &str = "client-a";
const VAULT: &str = "bots";
/// A vault where the client was granted nothing.
const OTHER: &str = "others";

struct Azure {
    world: Arc<World>,
    proxy: FaultProxy,
    cloud: AzureCloud,
    account: ServiceAccount,
}

pub async fn subject(world: Arc<World>) -> Result<Box<dyn Subject>> {
    let proxy = FaultProxy::start().await?;
    let cloud = AzureCloud::start(ClusterKeys::fetch(world.cluster).await?, &proxy).await?;
    let account = world.account("contract", "bot").await?;
    for vault in [VAULT, OTHER] {
        cloud.vault(vault, TENANT);
    }
    cloud.trust(TENANT, CLIENT, &account.namespace, &account.name);
    cloud.client(TENANT, "stranger");
    cloud.grant(VAULT, CLIENT, "secrets/get", None);
    cloud.grant(VAULT, CLIENT, "secrets/set", None);
    // As where no such vault was ever made: nobody is there.
    proxy.route("nowhere.vault.test", SocketAddr::from(([127, 0, 0, 1], 1)));
    Ok(Box::new(Azure { world, proxy, cloud, account }))
}

impl Azure {
    fn reading(&self, vault: &str, client: &str) -> Result<ResolvedStore> {
        let spec: AzureStore = serde_json::from_value(json!({
            "vaultUrl": format!("https://{vault}.vault.test"),
            "tenantId": TENANT,
            "caBundle": self.proxy.ca_pem(),
            "auth": {"workloadIdentity": {"clientId": client}},
            "authority": {
                "url": format!("https://{LOGIN}"), "caBundle": self.proxy.ca_pem(), "vaultResource": RESOURCE,
            },
        }))?;
        let store = store(self.name(), Provider::Azure(spec), &self.proxy);
        Ok(ResolvedStore { uid: format!("{}-{vault}-{client}", store.uid), ..store })
    }

    fn put_in(&self, vault: &str, name: &str, content: &Content) -> Result<String> {
        let value = match content {
            Content::Plain(bytes) => std::str::from_utf8(bytes).context("text")?.to_owned(),
            Content::Json(data) => data.to_string(),
        };
        Ok(self.cloud.put(vault, name, Secret::of(&value)))
    }
}

#[async_trait]
impl Subject for Azure {
    fn name(&self) -> &'static str {
        "azure-key-vault"
    }

    fn why_not(&self, case: &str) -> Option<&'static str> {
        match case {
            "binary" => Some("Key Vault keeps secrets as text"),
            "alias or stage" => Some("Key Vault names versions by their id alone"),
            "write back that was overtaken" => Some("Key Vault does not number versions and takes no precondition"),
            _ => None,
        }
    }

    fn proxy(&self) -> &FaultProxy {
        &self.proxy
    }

    fn read_hosts(&self) -> Vec<String> {
        vec![format!("{VAULT}.vault.test")]
    }

    fn login_hosts(&self) -> Vec<String> {
        vec![LOGIN.to_owned()]
    }

    fn store(&self) -> ResolvedStore {
        self.reading(VAULT, CLIENT).expect("a store")
    }

    fn account(&self) -> ServiceAccount {
        self.account.clone()
    }

    fn fetcher(&self) -> Result<Fetcher> {
        self.world.fetcher()
    }

    async fn put(&self, name: &str, content: &Content) -> Result<Option<String>> {
        self.put_in(VAULT, name, content).map(Some)
    }

    fn largest(&self) -> usize {
        25_600
    }

    fn odd_names(&self) -> Vec<String> {
        ["UPPER-lower-09", "a--b", "-", "0"].map(str::to_owned).into_iter().chain(["x".repeat(127)]).collect()
    }

    fn numbers_versions(&self) -> bool {
        false
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.cloud.purge(VAULT, name);
        Ok(())
    }

    async fn soft_delete(&self, name: &str) -> Result<()> {
        self.cloud.delete(VAULT, name, true);
        Ok(())
    }

    async fn disable(&self, name: &str) -> Result<()> {
        self.cloud.disable(VAULT, name);
        Ok(())
    }

    fn absent_version(&self) -> &'static str {
        "00000000000000000000000000000000"
    }

    async fn put_denied(&self, name: &str, content: &Content) -> Result<(ResolvedStore, String)> {
        self.put_in(OTHER, name, content)?;
        Ok((self.reading(OTHER, CLIENT)?, name.to_owned()))
    }

    /// A vault that is not there has no address.
    async fn missing_place(&self) -> Result<(ResolvedStore, String, ErrorClass)> {
        Ok((self.reading("nowhere", CLIENT)?, "x".into(), ErrorClass::Unavailable))
    }

    async fn not_let_in(&self) -> Result<(ResolvedStore, ServiceAccount)> {
        Ok((self.reading(VAULT, "stranger")?, self.account.clone()))
    }

    async fn end_logins(&self) -> Result<()> {
        self.cloud.end_logins();
        Ok(())
    }

    fn throttled(&self, retry_after: Option<u64>) -> FaultKind {
        let seconds = retry_after.map(|seconds| seconds.to_string());
        let headers: Vec<_> = seconds.iter().map(|seconds| ("retry-after", seconds.as_str())).collect();
        FaultKind::answer(429, &headers, r#"{"error":{"code":"Throttled","message":"Request was not processed"}}"#)
    }
}
