//! A real OAuth 2 issuer: oidc-provider, with client credentials, and with
//! token exchange for the ServiceAccounts of one cluster.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{Process, server_environment};
use crate::{Cluster, peers, ports, runtime, temp, wait_for};

const PATIENCE: Duration = Duration::from_mins(1);

/// One request for a token, as the issuer saw it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TokenRequest {
    /// The grant.
    pub grant: Option<String>,
    /// The scopes that were asked for.
    pub scope: Option<String>,
    /// The client.
    pub client: Option<String>,
    /// The answer's status.
    pub status: u16,
    /// Its error code, where it is one.
    pub error: Option<String>,
}

/// A running issuer; dropped, it is gone.
///
/// It knows the clients `bot` (secret in the header) and `bot-post` (secret in
/// the body), both with [`OidcProvider::CLIENT_SECRET`] and the scopes `read`
/// and `write`, and the client `bots` that may exchange tokens.
#[derive(Debug)]
pub struct OidcProvider {
    url: String,
    log: PathBuf,
    rules: PathBuf,
    _process: Process,
    _folder: TempDir,
}

impl OidcProvider {
    /// A secret that only arrives where it is encoded rightly.
    pub const CLIENT_SECRET: &str = "s:e c+r%e&t=";
    /// The audience of tokens that it exchanges.
    pub const AUDIENCE: &str = "https://issuer.test";

    /// Starts an issuer whose tokens live so many seconds.
    pub async fn start(cluster: &Cluster, token_seconds: u32) -> Result<Self> {
        runtime::install_crypto();
        let client = cluster.client()?;
        let get = |path: &str| http::Request::get(path).body(Vec::new());
        let discovery: Value = client.request(get("/.well-known/openid-configuration")?).await?;
        let keys: Value = serde_json::from_str(&client.request_text(get("/openid/v1/jwks")?).await?)?;
        let (folder, port) = (temp::folder()?, ports::free()?);
        let file = |name: &str| folder.path().join(name);
        let with_secret = |id: &str, method: &str| {
            json!({
                "client_id": id, "client_secret": Self::CLIENT_SECRET, "token_endpoint_auth_method": method,
                "grant_types": ["client_credentials"], "scope": "read write",
                "redirect_uris": [], "response_types": [],
            })
        };
        let settings = json!({
            "port": port, "tokenSeconds": token_seconds, "scopes": ["read", "write"],
            "log": file("requests.log"), "rules": file("rules.json"),
            "clients": [
                with_secret("bot", "client_secret_basic"),
                with_secret("bot-post", "client_secret_post"),
                {
                    "client_id": "bots", "token_endpoint_auth_method": "none",
                    "grant_types": ["urn:ietf:params:oauth:grant-type:token-exchange"],
                    "redirect_uris": [], "response_types": [],
                },
            ],
            "cluster": { "issuer": discovery["issuer"], "audience": Self::AUDIENCE, "jwks": keys },
        });
        std::fs::write(file("settings.json"), settings.to_string())?;
        std::fs::write(file("rules.json"), "{}")?;
        let process = Process::start(
            &peers::program("oidc-provider")?,
            &[file("settings.json").display().to_string()],
            &server_environment(folder.path()),
            &file("oidc-provider.log"),
        )?;
        let url = format!("http://127.0.0.1:{port}");
        let issuer =
            Self { url, log: file("requests.log"), rules: file("rules.json"), _process: process, _folder: folder };
        wait_for("oidc-provider to answer", PATIENCE, async || {
            let answer = reqwest::get(format!("{}/.well-known/openid-configuration", issuer.url)).await?;
            Ok(answer.status().is_success().then_some(()))
        })
        .await?;
        Ok(issuer)
    }

    /// Its token endpoint.
    #[must_use]
    pub fn token_url(&self) -> String {
        format!("{}/token", self.url)
    }

    /// Grants these scopes to each of these subjects
    /// (`system:serviceaccount:NAMESPACE:NAME`), and to no other.
    pub fn grant(&self, rules: &BTreeMap<String, Vec<&str>>) -> Result<()> {
        let fresh = self.rules.with_extension("new");
        std::fs::write(&fresh, serde_json::to_string(rules)?)?;
        std::fs::rename(fresh, &self.rules).context("the rules cannot be replaced")
    }

    /// The token requests so far.
    pub fn requests(&self) -> Result<Vec<TokenRequest>> {
        let text = match std::fs::read_to_string(&self.log) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text?,
        };
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// What the issuer itself says of a token: `active`, `scope`, `client_id`,
    /// `exp`.
    pub async fn introspect(&self, token: &str) -> Result<Value> {
        let encoded = |text: &str| text.bytes().fold(String::new(), |all, byte| all + &format!("%{byte:02X}"));
        let client = reqwest::Client::builder().no_proxy().build()?;
        let answer = client
            .post(format!("{}/token/introspection", self.url))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("client_id=bot-post&client_secret={}&token={}", encoded(Self::CLIENT_SECRET), encoded(token)))
            .send()
            .await?
            .error_for_status()?;
        Ok(answer.json().await?)
    }
}
