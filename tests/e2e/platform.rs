//! A cluster of its own, with an operator that serves every namespace and an
//! OpenBao that the platform offers to its teams.

use botsecret_testbed::{BaoClient, Cluster, ClusterOptions, OpenBao, OpenBaoOptions};
use kube::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Operator, OperatorOptions, Result, install};

// Dropped from top to bottom.
pub struct Platform {
    pub client: Client,
    pub root: BaoClient,
    pub bao: OpenBao,
    /// The operator's own namespace.
    pub own: String,
    _operator: Operator,
    _folder: TempDir,
    pub cluster: Cluster,
}

impl Platform {
    /// With the secret `kv/bot`, and the policy `bots` that may read it.
    pub async fn start() -> Result<Self> {
        let cluster = Cluster::start(ClusterOptions { process_nodes: 0, ..ClusterOptions::default() }).await?;
        install(&cluster).await?;
        let (own, folder) = (cluster.namespace("own").await?, tempfile::tempdir()?);
        let options = OperatorOptions {
            user: "operator:everywhere".into(),
            namespaces: Vec::new(),
            own_namespace: own.clone(),
            kubeconfig: None,
            folder: folder.path().to_owned(),
        };
        let operator = Operator::start(&cluster, &options).await?;
        let bao = OpenBao::start(&cluster, OpenBaoOptions { tls: false }).await?;
        let root = bao.root()?;
        root.enable_kv("kv", 2).await?;
        root.put_kv2("kv", "bot", &json!({ "A": "a value of the platform's" })).await?;
        root.policy("bots", r#"path "kv/data/*" { capabilities = ["read"] }"#).await?;
        Ok(Self { client: cluster.client()?, root, bao, own, _operator: operator, _folder: folder, cluster })
    }

    /// The ClusterBotSecretStore `platform`, offered to these namespaces.
    pub fn store(&self, namespaces: &Value, auth: &Value) -> Value {
        let vault = json!({ "address": self.bao.url(), "path": "kv", "version": "v2", "auth": auth });
        json!({
            "apiVersion": "botsecret.dev/v1alpha1", "kind": "ClusterBotSecretStore", "metadata": { "name": "platform" },
            "spec": { "namespaces": namespaces, "vault": vault },
        })
    }

    /// The BotSecret `bot` that reads from it, as the ServiceAccount `default`.
    pub fn bot_secret() -> Value {
        json!({
            "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret", "metadata": { "name": "bot" },
            "spec": {
                "serviceAccountName": "default", "refreshInterval": "1h",
                "storeRef": { "name": "platform", "kind": "ClusterBotSecretStore" },
                "dataFrom": [{ "extract": { "key": "bot" } }],
            },
        })
    }
}
