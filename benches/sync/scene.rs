//! What every phase stands on: a cluster, an OpenBao with values, and the
//! BotSecrets to make.

use anyhow::{Result, ensure};
use botsecret::api::{BotSecret, BotSecretStore};
use botsecret_testbed::{BaoRequest, Cluster, ClusterOptions, OpenBao, OpenBaoOptions, Role};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::json;

use super::{Size, progress::say, support};

/// Requests under way at once, in the floor and in the run.
pub const IN_FLIGHT: usize = 50;

/// A cluster without nodes and an OpenBao.
pub struct Scene {
    pub cluster: Cluster,
    pub bao: OpenBao,
    pub client: Client,
    pub size: Size,
    /// The operator's own namespace.
    pub home: String,
}

impl Scene {
    /// Starts everything but the operator, and writes the values.
    pub async fn set(size: Size) -> Result<Self> {
        say("starting a control plane and OpenBao");
        let cluster = Cluster::start(ClusterOptions { process_nodes: 0, kwok_nodes: 0 }).await?;
        support::install(&cluster).await?;
        let bao = OpenBao::start(&cluster, OpenBaoOptions { tls: false }).await?;
        let client = cluster.client()?;
        let home = cluster.namespace("botsecret-system").await?;
        let scene = Self { cluster, bao, client, size, home };
        scene.write_values().await?;
        Ok(scene)
    }

    async fn write_values(&self) -> Result<()> {
        say(&format!("writing {} values to OpenBao", self.size.objects));
        let root = self.bao.root()?;
        root.enable_kv("kv", 2).await?;
        root.policy("bots", r#"path "kv/data/bots/*" { capabilities = ["read"] }"#).await?;
        let role = Role {
            name: "bots",
            namespaces: &["*"],
            service_accounts: &["bot"],
            policies: &["bots"],
            audience: "vault",
            ttl: "1h",
        };
        root.kubernetes_role(&role).await?;
        let paths = (0..self.size.objects).map(|number| (number, format!("bots/{}", name(number))));
        futures::stream::iter(paths)
            .map(|(number, path)| {
                let root = root.clone();
                let data = json!({ "key": format!("key-of-{number}"), "secret": format!("{number:032x}") });
                async move { root.put_kv2("kv", &path, &data).await }
            })
            .buffer_unordered(16)
            .try_collect::<Vec<_>>()
            .await?;
        Ok(())
    }

    /// A namespace with the bots' ServiceAccount and store.
    pub async fn namespace(&self, prefix: &str) -> Result<String> {
        let namespace = self.cluster.namespace(prefix).await?;
        let account: ServiceAccount = serde_json::from_value(json!({ "metadata": { "name": "bot" } }))?;
        Api::namespaced(self.client.clone(), &namespace).create(&PostParams::default(), &account).await?;
        let store: BotSecretStore = serde_json::from_value(json!({
            "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecretStore", "metadata": { "name": "vault" },
            "spec": { "vault": {
                "address": self.bao.url(), "path": "kv", "version": "v2", "auth": { "kubernetes": { "role": "bots" } },
            } },
        }))?;
        Api::namespaced(self.client.clone(), &namespace).create(&PostParams::default(), &store).await?;
        Ok(namespace)
    }

    pub fn bot_secrets(&self, namespace: &str) -> Api<BotSecret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Creates the first `count` BotSecrets, [`IN_FLIGHT`] at a time.
    pub async fn create_bot_secrets(&self, namespace: &str, count: usize) -> Result<Vec<BotSecret>> {
        let objects = (0..count).map(bot_secret).collect::<Result<Vec<_>>>()?;
        let api = self.bot_secrets(namespace);
        in_flight(objects, async |object| Ok(api.create(&PostParams::default(), &object).await?)).await
    }

    /// Deletes what the operator, or the floor in its place, has to do with.
    pub async fn clear(&self, namespace: &str) -> Result<()> {
        let (delete, all) = (DeleteParams::default(), ListParams::default());
        self.bot_secrets(namespace).delete_collection(&delete, &all).await?;
        let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(self.client.clone(), namespace);
        secrets.delete_collection(&delete, &all).await?;
        let left = self.bot_secrets(namespace).list_metadata(&all).await?.items.len();
        ensure!(left == 0, "{left} BotSecrets of namespace {namespace} are still there");
        Ok(())
    }
}

/// Does this for each, [`IN_FLIGHT`] at a time.
pub async fn in_flight<T, U>(items: Vec<T>, task: impl AsyncFn(T) -> Result<U>) -> Result<Vec<U>> {
    futures::stream::iter(items).map(|item| task(item)).buffer_unordered(IN_FLIGHT).try_collect().await
}

fn name(number: usize) -> String {
    format!("bot-{number:05}")
}

/// Two keys of one path. The interval lies beyond the run: its ticks must not
/// fall into it.
fn bot_secret(number: usize) -> Result<BotSecret> {
    let name = name(number);
    let path = format!("bots/{name}");
    Ok(serde_json::from_value(json!({
        "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret", "metadata": { "name": name },
        "spec": {
            "serviceAccountName": "bot",
            "storeRef": { "name": "vault" },
            "refreshInterval": "24h",
            "data": [
                { "secretKey": "EXCHANGE_KEY", "remoteRef": { "key": path, "property": "key" } },
                { "secretKey": "EXCHANGE_SECRET", "remoteRef": { "key": path, "property": "secret" } },
            ],
        },
    }))?)
}

/// Requests for a bot's values, not those to log in nor those of this program.
pub fn is_read(request: &BaoRequest) -> bool {
    !request.is_login()
        && request.operation == "read"
        && !request.path.starts_with("auth/")
        && !request.path.starts_with("sys/")
        || request.path.starts_with("sys/internal/ui/mounts")
}
