//! An OAuth 2 issuer that takes the cluster's tokens as federated assertions.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use async_trait::async_trait;
use botsecret::{
    api::{OAuth2Store, Provider},
    fetch::{Fetcher, ResolvedStore, ServiceAccount},
    stores::ErrorClass,
};
use botsecret_testbed::{FaultProxy, FederatedClient, FederatedIssuer, tokens::ClusterKeys};
use serde_json::json;

use crate::subject::{Content, Subject, World, store};

const HOST: &str = "issuer.contract.test";
const OWN_VALUES: &str = "an issuer makes the values: nothing can be put there";
const NO_VERSIONS: &str = "an access token has no versions";
const NOTHING_MISSING: &str = "an issuer grants a scope or denies it: it does not say which ones there are";

struct Issuer {
    world: Arc<World>,
    proxy: FaultProxy,
    peer: FederatedIssuer,
    account: ServiceAccount,
    stranger: ServiceAccount,
}

pub async fn subject(world: Arc<World>) -> Result<Box<dyn Subject>> {
    let proxy = FaultProxy::start().await?;
    let issuer = FederatedIssuer::start(ClusterKeys::fetch(world.cluster).await?, Duration::from_secs(900)).await?;
    proxy.route(HOST, issuer.address());
    let account = world.account("contract", "bot").await?;
    let stranger = world.account_in(&account.namespace, "stranger").await?;
    Ok(Box::new(Issuer { world, proxy, peer: issuer, account, stranger }))
}

impl Issuer {
    fn at(&self, path: &str) -> ResolvedStore {
        let spec: OAuth2Store = serde_json::from_value(json!({
            "tokenURL": format!("https://{HOST}{path}"), "caBundle": self.proxy.ca_pem(),
            "auth": { "federatedAssertion": { "clientID": "bot", "audience": FederatedIssuer::AUDIENCE } },
        }))
        .expect("a store");
        let store = store(self.name(), Provider::OAuth2(spec), &self.proxy);
        ResolvedStore { uid: format!("{}{path}", store.uid), ..store }
    }
}

#[async_trait]
impl Subject for Issuer {
    fn name(&self) -> &'static str {
        "oauth2"
    }

    fn why_not(&self, case: &str) -> Option<&'static str> {
        match case {
            "property" | "nested" | "literal dotted key" | "number" | "binary" | "empty value" | "largest value"
            | "unicode" => Some(OWN_VALUES),
            "pinned version"
            | "alias or stage"
            | "disabled version"
            | "stale read after rotation"
            | "write back that was overtaken" => Some(NO_VERSIONS),
            "age at the source" => Some("an access token is made by the read"),
            "rotation" => Some("an access token does not change: another one is had before it ends"),
            "missing" | "vanished" | "soft-deleted" | "batch of 100 with 3 missing" => Some(NOTHING_MISSING),
            "token expired in mid-flight" => Some("each request shows its proof: there is no login that could end"),
            _ => None,
        }
    }

    fn proxy(&self) -> &FaultProxy {
        &self.proxy
    }

    /// A token that is had is kept: what asks the issuer is the first read.
    fn read_hosts(&self) -> Vec<String> {
        Vec::new()
    }

    fn login_hosts(&self) -> Vec<String> {
        vec![HOST.to_owned()]
    }

    fn store(&self) -> ResolvedStore {
        self.at("/token")
    }

    fn account(&self) -> ServiceAccount {
        self.account.clone()
    }

    fn fetcher(&self) -> Result<Fetcher> {
        self.world.fetcher()
    }

    /// Grants the scope of this name.
    async fn put(&self, name: &str, _content: &Content) -> Result<Option<String>> {
        let ServiceAccount { namespace, name: account, .. } = &self.account;
        self.peer.grant(FederatedClient {
            id: "bot".to_owned(),
            subject: format!("system:serviceaccount:{namespace}:{account}"),
            scopes: vec![name.to_owned()],
        });
        Ok(None)
    }

    fn plain_property(&self) -> Option<&'static str> {
        Some("access_token")
    }

    /// The issuer itself says that it lives.
    async fn agrees(&self, _put: &[u8], read: &[u8]) -> Result<bool> {
        Ok(self.peer.client_of(std::str::from_utf8(read)?).is_some_and(|client| client == "bot"))
    }

    fn largest(&self) -> usize {
        0
    }

    fn odd_names(&self) -> Vec<String> {
        let long = "s".repeat(2000);
        ["https://api.test/.default", "a:b/c?d=e&f#g", "100%25+~*'()", "!$,;@[]^_`{|}", &long].map(str::to_owned).into()
    }

    async fn delete(&self, _name: &str) -> Result<()> {
        anyhow::bail!("no case needs it")
    }

    async fn put_denied(&self, name: &str, _content: &Content) -> Result<(ResolvedStore, String)> {
        Ok((self.store(), name.to_owned()))
    }

    async fn missing_place(&self) -> Result<(ResolvedStore, String, ErrorClass)> {
        Ok((self.at("/realms/nowhere/token"), "read".to_owned(), ErrorClass::Invalid))
    }

    async fn not_let_in(&self) -> Result<(ResolvedStore, ServiceAccount)> {
        Ok((self.store(), self.stranger.clone()))
    }

    async fn end_logins(&self) -> Result<()> {
        anyhow::bail!("no case needs it")
    }
}
