//! The clouds, and what an administrator of each gives to a bot.

use botsecret::api::BotSecret;
use botsecret_testbed::{
    Cluster, FaultProxy, OpenBao, OpenBaoOptions, Role,
    clouds::{
        aws::{ACCOUNT, Aws, AwsAdmin, REGION},
        azure::{AzureCloud, LOGIN, RESOURCE, Secret as KeyVaultSecret},
        gcp::{Gcp, Role as GcpRole},
    },
    tokens::ClusterKeys,
    wait_for,
};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::support::{DEADLINE, Operator, OperatorOptions, Result, canary, cluster};

const PROJECT: &str = "trading-prod";
const POOL: &str = "projects/123456789/locations/global/workloadIdentityPools/clusters";
const TENANT: &str = "tenant-a";
const KV: &str = "kv";

/// The four managers, their stores and the operator, shared by all tests of
/// this binary. Each test has namespaces of its own.
pub struct Managers {
    pub cluster: &'static Cluster,
    pub proxy: FaultProxy,
    pub aws: Aws,
    pub gcp: Gcp,
    pub azure: AzureCloud,
    pub bao: OpenBao,
    _operator: Operator,
    _folder: TempDir,
}

/// The names of the ClusterBotSecretStores.
pub const STORES: [&str; 4] = ["aws", "gcp", "azure", "vault"];

pub async fn managers() -> Result<&'static Managers> {
    static MANAGERS: OnceCell<Managers> = OnceCell::const_new();
    MANAGERS.get_or_try_init(Managers::start).await
}

impl Managers {
    async fn start() -> Result<Self> {
        let cluster = cluster().await?;
        let proxy = FaultProxy::start().await?;
        let aws = Aws::start(cluster).await?;
        for service in ["sts", "secretsmanager"] {
            proxy.route(&format!("{service}.{REGION}.amazonaws.com"), aws.address());
        }
        let gcp = Gcp::start(cluster).await?;
        gcp.route(&proxy);
        gcp.project(PROJECT, 123_456_789);
        gcp.provider(&format!("//iam.googleapis.com/{POOL}/providers/one"), &[]);
        let azure = AzureCloud::start(ClusterKeys::fetch(cluster).await?, &proxy).await?;
        azure.vault("bots", TENANT);
        let bao = OpenBao::start(cluster, OpenBaoOptions { tls: false }).await?;
        bao.root()?.enable_kv(KV, 2).await?;
        proxy.route("vault.example", bao.url().trim_start_matches("http://").parse()?);
        let folder = tempfile::tempdir()?;
        let options = OperatorOptions {
            user: "operator:managers".into(),
            namespaces: Vec::new(),
            own_namespace: cluster.namespace("operator").await?,
            kubeconfig: None,
            folder: folder.path().to_owned(),
        };
        let operator = Operator::start(cluster, &options).await?;
        Ok(Self { cluster, proxy, aws, gcp, azure, bao, _operator: operator, _folder: folder })
    }

    /// The store that leads bots of a namespace to a manager, by the role of
    /// this desk.
    pub fn cluster_store(&self, manager: &str, desk: &str, namespace: &str) -> Value {
        json!({
            "apiVersion": "botsecret.dev/v1alpha1", "kind": "ClusterBotSecretStore",
            "metadata": { "name": format!("{manager}-{desk}") },
            "spec": { "namespaces": [namespace], "proxy": self.proxy.url(), manager: self.manager(manager, desk) },
        })
    }

    fn manager(&self, manager: &str, desk: &str) -> Value {
        let ca = self.proxy.ca_pem();
        let endpoint = |host: &str| json!({ "url": format!("https://{host}"), "caBundle": ca });
        match manager {
            "aws" => json!({
                "service": "SecretsManager", "region": REGION, "caBundle": ca,
                "endpoint": format!("https://secretsmanager.{REGION}.amazonaws.com"),
                "stsEndpoint": endpoint(&format!("sts.{REGION}.amazonaws.com")),
                "auth": { "jwt": { "role": format!("arn:aws:iam::{ACCOUNT}:role/{desk}") } },
            }),
            "gcp" => json!({
                "projectID": PROJECT, "caBundle": ca,
                "tokenEndpoints": { "sts": endpoint("sts.googleapis.com"), "iamCredentials": endpoint("iamcredentials.googleapis.com") },
                "auth": { "workloadIdentityFederation": { "audience": format!("//iam.googleapis.com/{POOL}/providers/one") } },
            }),
            "azure" => json!({
                "vaultUrl": "https://bots.vault.test", "tenantId": TENANT, "caBundle": ca,
                "authority": { "url": format!("https://{LOGIN}"), "caBundle": ca, "vaultResource": RESOURCE },
                "auth": { "workloadIdentity": { "clientId": desk } },
            }),
            _ => json!({
                "address": "https://vault.example", "caBundle": ca, "path": KV, "version": "v2",
                "auth": { "kubernetes": { "role": desk } },
            }),
        }
    }
}

/// A namespace with a bot that every manager knows.
pub struct Desk {
    pub managers: &'static Managers,
    pub client: Client,
    pub namespace: String,
    admin: AwsAdmin,
}

impl Desk {
    /// The bot may read, in each manager, what is named after its namespace.
    pub async fn new(name: &str) -> Result<Self> {
        let managers = managers().await?;
        let client = managers.cluster.client()?;
        let namespace = managers.cluster.namespace(name).await?;
        let desk = Self { managers, client, admin: managers.aws.admin()?, namespace };
        desk.apply(json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "bot" } })).await?;
        let namespace = &desk.namespace;
        let statements = json!([
            { "Effect": "Allow", "Action": ["secretsmanager:GetSecretValue"], "Resource": format!("arn:aws:secretsmanager:*:*:secret:{namespace}-*") },
            { "Effect": "Allow", "Action": ["secretsmanager:BatchGetSecretValue"], "Resource": "*" },
        ]);
        desk.admin.bot_role(namespace, &[&format!("{namespace}:bot")], &statements).await?;
        managers.azure.trust(TENANT, namespace, namespace, "bot");
        let root = managers.bao.root()?;
        root.policy(namespace, &format!(r#"path "{KV}/data/{namespace}-*" {{ capabilities = ["read"] }}"#)).await?;
        root.kubernetes_role(&Role {
            name: namespace,
            namespaces: &[namespace],
            service_accounts: &["bot"],
            policies: &[namespace],
            audience: "vault",
            ttl: "20m",
        })
        .await?;
        for manager in STORES {
            desk.apply(managers.cluster_store(manager, namespace, namespace)).await?;
        }
        Ok(desk)
    }

    /// The store that leads this desk's bots to a manager.
    pub fn store_name(&self, manager: &str) -> String {
        format!("{manager}-{}", self.namespace)
    }

    /// What a secret of this desk's is called in every manager.
    pub fn named(&self, name: &str) -> String {
        format!("{}-{name}", self.namespace)
    }

    /// The bot, as Google knows it.
    fn principal(&self) -> String {
        format!("principal://iam.googleapis.com/{POOL}/subject/system:serviceaccount:{}:bot", self.namespace)
    }

    /// Writes a secret, and where rights are given one by one, lets the bot
    /// read it.
    pub async fn put(&self, manager: &str, name: &str, value: &str) -> Result {
        canary::watch(value.as_bytes());
        let (managers, secret) = (self.managers, self.named(name));
        match manager {
            "aws" => drop(self.admin.put_secret(&secret, value).await?),
            "gcp" => {
                let full = format!("projects/{PROJECT}/secrets/{secret}");
                managers.gcp.put(&full, value.as_bytes());
                managers.gcp.grant(&self.principal(), GcpRole::Accessor, &full);
            }
            "azure" => {
                managers.azure.put("bots", &secret, KeyVaultSecret::of(value));
                managers.azure.grant("bots", &self.namespace, "secrets/get", Some(&secret));
            }
            _ => drop(managers.bao.root()?.put_kv2(KV, &secret, &json!({ "value": value })).await?),
        }
        Ok(())
    }

    /// Lets the bot write this secret in every manager, and know how old it is,
    /// through the desk's stores.
    pub async fn allow_writes(&self, name: &str) -> Result {
        let (managers, namespace, secret) = (self.managers, &self.namespace, self.named(name));
        self.allow_in_aws(&["GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage"]).await?;
        managers.azure.grant("bots", namespace, "secrets/set", Some(&secret));
        for role in [GcpRole::Adder, GcpRole::Viewer] {
            managers.gcp.grant(&self.principal(), role, &format!("projects/{PROJECT}/secrets/{secret}"));
        }
        let rule = format!(r#"path "{KV}/data/{namespace}-*" {{ capabilities = ["read", "update"] }}"#);
        managers.bao.root()?.policy(namespace, &rule).await?;
        for manager in STORES {
            let mut store = managers.cluster_store(manager, namespace, namespace);
            store["spec"]["allowRotation"] = json!(true);
            self.apply(store).await?;
        }
        Ok(())
    }

    /// Takes that back in AWS.
    pub async fn forbid_writes_in_aws(&self) -> Result {
        self.allow_in_aws(&["GetSecretValue"]).await
    }

    async fn allow_in_aws(&self, actions: &[&str]) -> Result {
        let of_one = format!("arn:aws:secretsmanager:*:*:secret:{}-*", self.namespace);
        let actions: Vec<_> = actions.iter().map(|action| format!("secretsmanager:{action}")).collect();
        let statements = json!([
            { "Effect": "Allow", "Action": actions, "Resource": of_one },
            { "Effect": "Allow", "Action": ["secretsmanager:BatchGetSecretValue"], "Resource": "*" },
        ]);
        self.admin.allow(&self.namespace, &statements).await?;
        Ok(())
    }

    /// How many versions a secret has.
    pub async fn versions(&self, manager: &str, name: &str) -> Result<usize> {
        let (managers, secret) = (self.managers, self.named(name));
        Ok(match manager {
            "aws" => {
                let told = self.admin.json("secretsmanager", "DescribeSecret", &json!({ "SecretId": secret })).await?;
                told["VersionIdsToStages"].as_object().map_or(0, serde_json::Map::len)
            }
            "gcp" => {
                let newest = managers.gcp.newest(&format!("projects/{PROJECT}/secrets/{secret}"));
                usize::try_from(newest.unwrap_or_default())?
            }
            "azure" => managers.azure.versions("bots", &secret).len(),
            _ => {
                let told = managers.bao.root()?.read(&format!("{KV}/data/{secret}")).await?;
                usize::try_from(told["data"]["metadata"]["version"].as_u64().unwrap_or_default())?
            }
        })
    }

    /// Where a key's value comes from.
    pub fn entry(&self, key: &str, manager: &str, name: &str) -> Value {
        let mut entry = json!({
            "secretKey": key,
            "remoteRef": { "key": self.named(name) },
            "storeRef": { "name": self.store_name(manager), "kind": "ClusterBotSecretStore" },
        });
        if manager == "vault" {
            entry["remoteRef"]["property"] = json!("value");
        }
        entry
    }

    /// A BotSecret with these entries, read every second.
    pub async fn bot_secret(&self, name: &str, data: Vec<Value>) -> Result {
        self.apply(json!({
            "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret", "metadata": { "name": name },
            "spec": { "serviceAccountName": "bot", "refreshInterval": "1s", "data": data },
        }))
        .await
    }

    /// Applies any object, as a person would.
    pub async fn apply(&self, object: Value) -> Result {
        let object: DynamicObject = serde_json::from_value(object)?;
        let types = object.types.clone().expect("a kind");
        let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types)?);
        let api: Api<DynamicObject> = if types.kind.starts_with("Cluster") {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
        };
        api.patch(&object.name_any(), &PatchParams::apply("person").force(), &Patch::Apply(&object)).await?;
        Ok(())
    }

    /// The data of a Secret, as text, with its resourceVersion.
    pub async fn data(&self, name: &str) -> Result<Option<(Vec<(String, String)>, String)>> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        Ok(api.get_opt(name).await?.map(|secret| {
            let version = secret.resource_version().unwrap_or_default();
            let data = secret.data.unwrap_or_default().into_iter();
            (data.map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned())).collect(), version)
        }))
    }

    /// Waits until Ready has this status for the current generation; its reason
    /// and message.
    pub async fn until_ready(&self, name: &str, status: &str) -> Result<(String, String)> {
        let api: Api<BotSecret> = Api::namespaced(self.client.clone(), &self.namespace);
        wait_for(&format!("BotSecret {name} to be Ready={status}"), DEADLINE, async || {
            let object = api.get(name).await?;
            let conditions = object.status.map(|status| status.conditions).unwrap_or_default();
            match conditions.into_iter().find(|condition| condition.type_ == "Ready") {
                Some(ready) if ready.status == status && ready.observed_generation == object.metadata.generation => {
                    Ok(Some((ready.reason, ready.message)))
                }
                Some(ready) => anyhow::bail!("it is {}: {} {}", ready.status, ready.reason, ready.message),
                None => anyhow::bail!("it has no such condition"),
            }
        })
        .await
    }
}
