//! Google Cloud Secret Manager, by Workload Identity Federation.

use std::sync::Arc;

use anyhow::{Context, Result};
use async_trait::async_trait;
use botsecret::{
    api::{GcpStore, Provider},
    fetch::{Fetcher, ResolvedStore, ServiceAccount},
    stores::ErrorClass,
};
use botsecret_testbed::{
    FaultKind, FaultProxy,
    clouds::gcp::{Gcp, Role, VersionState},
};
use serde_json::{Value, json};

use crate::subject::{Content, Subject, World, store};

const NAME: &str = "gcp-secret-manager";
const PROJECT: &str = "contract";
const OTHER: &str = "other-team";
const POOL: &str = "projects/42/locations/global/workloadIdentityPools/clusters";

struct SecretManager {
    world: Arc<World>,
    proxy: FaultProxy,
    gcp: Gcp,
    account: ServiceAccount,
}

pub async fn subject(world: Arc<World>) -> Result<Box<dyn Subject>> {
    let (gcp, proxy) = (Gcp::start(world.cluster).await?, FaultProxy::start().await?);
    gcp.route(&proxy);
    gcp.project(PROJECT, 42);
    gcp.project(OTHER, 43);
    gcp.provider(&provider("one"), &[]);
    let account = world.account("contract", "bot").await?;
    let bot = format!(
        "principal://iam.googleapis.com/{POOL}/subject/system:serviceaccount:{}:{}",
        account.namespace, account.name
    );
    for role in [Role::Accessor, Role::Adder] {
        gcp.grant(&bot, role, &format!("projects/{PROJECT}"));
    }
    Ok(Box::new(SecretManager { world, proxy, gcp, account }))
}

fn provider(name: &str) -> String {
    format!("//iam.googleapis.com/{POOL}/providers/{name}")
}

fn secret(project: &str, name: &str) -> String {
    format!("projects/{project}/secrets/{name}")
}

/// As Google words a refusal.
fn refusal(status: u16, code: &str, headers: &[(&str, &str)]) -> FaultKind {
    let body = json!({"error": {"code": status, "message": "Quota exceeded or internal error.", "status": code}});
    FaultKind::answer(status, headers, &body.to_string())
}

impl SecretManager {
    fn reading(&self, project: &str, provider: &str) -> Result<ResolvedStore> {
        let ca = self.proxy.ca_pem();
        let spec: GcpStore = serde_json::from_value(json!({
            "projectID": project,
            "caBundle": ca,
            "auth": {"workloadIdentityFederation": {"audience": provider}},
            "tokenEndpoints": {"sts": {"url": "https://sts.googleapis.com", "caBundle": ca}},
        }))?;
        Ok(store(NAME, Provider::Gcp(spec), &self.proxy))
    }

    fn put_in(&self, project: &str, name: &str, content: &Content) -> u64 {
        let bytes = match content {
            Content::Plain(bytes) => bytes.clone(),
            Content::Json(value) => Value::to_string(value).into_bytes(),
        };
        self.gcp.put(&secret(project, name), &bytes)
    }
}

#[async_trait]
impl Subject for SecretManager {
    fn name(&self) -> &'static str {
        NAME
    }

    fn why_not(&self, case: &str) -> Option<&'static str> {
        match case {
            "empty value" => Some("Secret Manager refuses a version without data"),
            "soft-deleted" => Some("Secret Manager deletes a secret for good"),
            "age at the source" => Some("an access tells the value and its version, and no time"),
            _ => None,
        }
    }

    fn proxy(&self) -> &FaultProxy {
        &self.proxy
    }

    fn read_hosts(&self) -> Vec<String> {
        vec!["secretmanager.googleapis.com".to_owned()]
    }

    fn login_hosts(&self) -> Vec<String> {
        vec!["sts.googleapis.com".to_owned()]
    }

    fn store(&self) -> ResolvedStore {
        self.reading(PROJECT, &provider("one")).expect("a store")
    }

    fn account(&self) -> ServiceAccount {
        self.account.clone()
    }

    fn fetcher(&self) -> Result<Fetcher> {
        self.world.fetcher()
    }

    async fn put(&self, name: &str, content: &Content) -> Result<Option<String>> {
        Ok(Some(self.put_in(PROJECT, name, content).to_string()))
    }

    fn largest(&self) -> usize {
        65_536
    }

    fn odd_names(&self) -> Vec<String> {
        vec!["UPPER_lower-0".to_owned(), "-".to_owned(), "_".to_owned(), "0".to_owned(), "x".repeat(255)]
    }

    async fn alias(&self, name: &str, version: &str) -> Result<String> {
        self.gcp.alias(&secret(PROJECT, name), "blue-green_1", version.parse()?)?;
        Ok("blue-green_1".to_owned())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.gcp.delete(&secret(PROJECT, name))
    }

    async fn disable(&self, name: &str) -> Result<()> {
        let name = secret(PROJECT, name);
        let newest = self.gcp.newest(&name).context("a version")?;
        self.gcp.set_state(&name, newest, VersionState::Disabled)
    }

    async fn put_denied(&self, name: &str, content: &Content) -> Result<(ResolvedStore, String)> {
        self.put_in(OTHER, name, content);
        Ok((self.store(), secret(OTHER, name)))
    }

    /// Google does not tell a project that is not there from one that one may
    /// not see.
    async fn missing_place(&self) -> Result<(ResolvedStore, String, ErrorClass)> {
        Ok((self.reading("no-such-project", &provider("one"))?, "x".into(), ErrorClass::Denied))
    }

    async fn not_let_in(&self) -> Result<(ResolvedStore, ServiceAccount)> {
        Ok((self.reading(PROJECT, &provider("none"))?, self.account.clone()))
    }

    async fn end_logins(&self) -> Result<()> {
        self.gcp.end_tokens();
        Ok(())
    }

    fn throttled(&self, retry_after: Option<u64>) -> FaultKind {
        let seconds = retry_after.map(|seconds| seconds.to_string());
        let headers: Vec<_> = seconds.iter().map(|seconds| ("retry-after", seconds.as_str())).collect();
        refusal(429, "RESOURCE_EXHAUSTED", &headers)
    }

    fn broken(&self) -> Vec<FaultKind> {
        [(500, "INTERNAL"), (500, "UNKNOWN"), (503, "UNAVAILABLE"), (409, "ABORTED")]
            .map(|(status, code)| refusal(status, code, &[]))
            .into_iter()
            .chain([502, 503].map(|status| FaultKind::answer(status, &[], "<html>upstream error</html>")))
            .collect()
    }

    fn requests_for(&self, secrets: usize) -> usize {
        secrets
    }
}
