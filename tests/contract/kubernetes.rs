//! A real API server, behind a front of the proxy.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use botsecret::{
    api::{KubernetesStore, Provider},
    fetch::{Fetcher, ResolvedStore, ServiceAccount},
    stores::{ClusterEndpoint, ErrorClass},
};
use botsecret_testbed::{FaultKind, FaultProxy, wait_for};
use k8s_openapi::{
    ByteString,
    api::{
        authorization::v1::SubjectAccessReview,
        core::v1::Secret,
        rbac::v1::{Role, RoleBinding},
    },
};
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::{Value, json};

use crate::subject::{Content, Subject, World, store};

const NO_VERSIONS: &str = "Kubernetes keeps one state of a Secret and no versions";

struct Kubernetes {
    world: Arc<World>,
    proxy: FaultProxy,
    front: String,
    account: ServiceAccount,
    /// Where the Secrets are that the account may read, and where others are.
    ours: String,
    theirs: String,
}

pub async fn subject(world: Arc<World>) -> Result<Box<dyn Subject>> {
    let (proxy, cluster) = (FaultProxy::start().await?, world.cluster);
    let address = cluster.url().strip_prefix("https://").context("an https URL")?.trim_end_matches('/').parse()?;
    let front = proxy.front_tls(address, cluster.ca_pem()).await?.to_string();
    let account = world.account("contract", "bot").await?;
    let (ours, theirs) = (cluster.namespace("contract-ours").await?, cluster.namespace("contract-theirs").await?);
    let subject = Kubernetes { world, proxy, front, account, ours, theirs };
    subject.grant().await?;
    Ok(Box::new(subject))
}

impl Kubernetes {
    fn client(&self) -> Result<kube::Client> {
        self.world.cluster.client()
    }

    /// The account may get the Secrets of one namespace.
    async fn grant(&self) -> Result<()> {
        let role: Role = serde_json::from_value(json!({
            "metadata": {"name": "reader"},
            "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}],
        }))?;
        let binding: RoleBinding = serde_json::from_value(json!({
            "metadata": {"name": "reader"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
            "subjects": [{"kind": "ServiceAccount", "name": self.account.name, "namespace": self.account.namespace}],
        }))?;
        Api::namespaced(self.client()?, &self.ours).create(&PostParams::default(), &role).await?;
        Api::namespaced(self.client()?, &self.ours).create(&PostParams::default(), &binding).await?;
        // The authorizer learns of a binding a moment later.
        let review: SubjectAccessReview = serde_json::from_value(json!({"metadata": {}, "spec": {
            "user": format!("system:serviceaccount:{}:{}", self.account.namespace, self.account.name),
            "resourceAttributes": {"namespace": self.ours, "resource": "secrets", "verb": "get", "name": "any"},
        }}))?;
        let reviews: Api<SubjectAccessReview> = Api::all(self.client()?);
        wait_for("the right to be known", Duration::from_secs(30), async || {
            let said = reviews.create(&PostParams::default(), &review).await?;
            Ok(said.status.is_some_and(|status| status.allowed).then_some(()))
        })
        .await
    }

    fn reading(&self, spec: Value) -> Result<ResolvedStore> {
        let spec: KubernetesStore = serde_json::from_value(spec)?;
        let mut store = store(self.name(), Provider::Kubernetes(spec), &self.proxy);
        // This cluster is reached as the operator reaches it.
        store.proxy = None;
        Ok(store)
    }

    async fn put_in(&self, namespace: &str, name: &str, content: &Content) -> Result<()> {
        let data: BTreeMap<String, ByteString> = match content {
            Content::Plain(bytes) => BTreeMap::from([("value".to_owned(), ByteString(bytes.clone()))]),
            Content::Json(Value::Object(members)) => {
                let field = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                members.iter().map(|(key, value)| (key.clone(), ByteString(field(value).into_bytes()))).collect()
            }
            Content::Json(_) => bail!("a Secret holds named values"),
        };
        let secrets: Api<Secret> = Api::namespaced(self.client()?, namespace);
        let mut secret = Secret { data: Some(data), ..Secret::default() };
        secret.metadata.name = Some(name.to_owned());
        if secrets.get_opt(name).await?.is_some() {
            secrets.replace(name, &PostParams::default(), &secret).await?;
        } else {
            secrets.create(&PostParams::default(), &secret).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Subject for Kubernetes {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    fn why_not(&self, case: &str) -> Option<&'static str> {
        match case {
            "pinned version" | "alias or stage" | "disabled version" | "write back that was overtaken" => {
                Some(NO_VERSIONS)
            }
            "soft-deleted" => Some("a Secret that is deleted cannot be had back"),
            "age at the source" => {
                Some("a Secret tells who wrote to it last, labels included, and of no value how old it is")
            }
            _ => None,
        }
    }

    fn proxy(&self) -> &FaultProxy {
        &self.proxy
    }

    fn read_hosts(&self) -> Vec<String> {
        vec![self.front.clone()]
    }

    fn login_hosts(&self) -> Vec<String> {
        Vec::new()
    }

    fn store(&self) -> ResolvedStore {
        self.reading(json!({"remoteNamespace": self.ours})).expect("a store")
    }

    fn account(&self) -> ServiceAccount {
        self.account.clone()
    }

    fn fetcher(&self) -> Result<Fetcher> {
        let url = format!("https://{}", self.front);
        let ca_pem = Some(self.proxy.ca_pem().to_owned());
        self.world.fetcher_with(ClusterEndpoint { url, ca_pem, ca_file: None })
    }

    async fn put(&self, name: &str, content: &Content) -> Result<Option<String>> {
        self.put_in(&self.ours, name, content).await.map(|()| None)
    }

    fn plain_property(&self) -> Option<&'static str> {
        Some("value")
    }

    /// What a Secret may hold, less the name of the key that is filled.
    fn largest(&self) -> usize {
        (1 << 20) - "VALUE".len()
    }

    fn odd_names(&self) -> Vec<String> {
        vec!["0".into(), "a.b-c.d0".into(), "x".repeat(253), "1-2.3".into()]
    }

    fn numbers_versions(&self) -> bool {
        false
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let secrets: Api<Secret> = Api::namespaced(self.client()?, &self.ours);
        secrets.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    async fn put_denied(&self, name: &str, content: &Content) -> Result<(ResolvedStore, String)> {
        self.put_in(&self.theirs, name, content).await?;
        let mut store = self.reading(json!({"remoteNamespace": self.theirs}))?;
        store.uid.push_str("-theirs");
        Ok((store, name.to_owned()))
    }

    /// RBAC does not say whether a namespace is there.
    async fn missing_place(&self) -> Result<(ResolvedStore, String, ErrorClass)> {
        Ok((self.reading(json!({"remoteNamespace": "no-such-namespace"}))?, "x".into(), ErrorClass::Denied))
    }

    /// A cluster that does not take the token's audience.
    async fn not_let_in(&self) -> Result<(ResolvedStore, ServiceAccount)> {
        let store = self.reading(json!({
            "remoteNamespace": self.ours,
            "server": {"url": format!("https://{}", self.front), "caBundle": self.proxy.ca_pem()},
            "audience": "another-cluster",
        }))?;
        Ok((store, self.account.clone()))
    }

    fn asks_to_log_in(&self) -> bool {
        false
    }

    /// A token lives for ten minutes at least, so the proxy says what the API
    /// server says when one has ended.
    async fn end_logins(&self) -> Result<()> {
        let said = json!({"kind": "Status", "status": "Failure", "reason": "Unauthorized", "code": 401}).to_string();
        self.proxy.fault(&self.front, FaultKind::answer(401, &[("content-type", "application/json")], &said), 1);
        Ok(())
    }
}
