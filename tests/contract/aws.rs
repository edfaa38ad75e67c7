//! AWS Secrets Manager and Parameter Store, under the names that they have.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use botsecret::{
    api::Provider,
    fetch::{Fetcher, ResolvedStore, ServiceAccount},
    stores::ErrorClass,
};
use botsecret_testbed::{
    FaultKind, FaultProxy,
    clouds::aws::{Aws as Peer, REGION},
};
use serde_json::{Value, json};

use crate::subject::{Content, Subject, World, store};

const STS: &str = "sts.eu-west-1.amazonaws.com";

struct Aws {
    world: Arc<World>,
    proxy: FaultProxy,
    peer: Peer,
    account: ServiceAccount,
    role: String,
    service: Service,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Service {
    SecretsManager,
    ParameterStore,
}

pub async fn secrets_manager(world: Arc<World>) -> Result<Box<dyn Subject>> {
    start(world, Service::SecretsManager).await
}

pub async fn parameter_store(world: Arc<World>) -> Result<Box<dyn Subject>> {
    start(world, Service::ParameterStore).await
}

async fn start(world: Arc<World>, service: Service) -> Result<Box<dyn Subject>> {
    let (peer, proxy) = (Peer::start(world.cluster).await?, FaultProxy::start().await?);
    let account = world.account("contract", "bot").await?;
    let subject = format!("{}:{}", account.namespace, account.name);
    let statements = json!([
        {
            "Effect": "Allow",
            "Action": [
                "secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue",
                "secretsmanager:UpdateSecretVersionStage", "ssm:GetParameters", "ssm:PutParameter",
            ],
            "Resource": ["arn:aws:secretsmanager:*:*:secret:allowed/*", "arn:aws:ssm:*:*:parameter/allowed/*"],
        },
        {
            "Effect": "Allow", "Action": ["secretsmanager:BatchGetSecretValue", "ssm:DescribeParameters"],
            "Resource": "*",
        },
    ]);
    let role = peer.admin()?.bot_role("bots", &[&subject], &statements).await?;
    let aws = Aws { world, proxy, peer, account, role, service };
    for host in [STS, aws.host()] {
        aws.proxy.route(host, aws.peer.address());
    }
    Ok(Box::new(aws))
}

impl Aws {
    fn host(&self) -> &'static str {
        match self.service {
            Service::SecretsManager => "secretsmanager.eu-west-1.amazonaws.com",
            Service::ParameterStore => "ssm.eu-west-1.amazonaws.com",
        }
    }

    fn reading(&self, role: &str) -> Result<ResolvedStore> {
        let service = match self.service {
            Service::SecretsManager => "SecretsManager",
            Service::ParameterStore => "ParameterStore",
        };
        let spec = json!({
            "service": service,
            "region": REGION,
            "auth": {"jwt": {"role": role}},
            "caBundle": self.proxy.ca_pem(),
            "stsEndpoint": {"url": format!("https://{STS}"), "caBundle": self.proxy.ca_pem()},
        });
        Ok(store(self.name(), Provider::Aws(serde_json::from_value(spec)?), &self.proxy))
    }

    async fn write(&self, key: &str, content: &Content) -> Result<String> {
        let admin = self.peer.admin()?;
        let bytes = match content {
            Content::Plain(bytes) => bytes.clone(),
            Content::Json(value) => value.to_string().into_bytes(),
        };
        match (self.service, String::from_utf8(bytes)) {
            (Service::SecretsManager, Ok(text)) => admin.put_secret(key, &text).await,
            (Service::SecretsManager, Err(binary)) => admin.put_binary(key, &STANDARD.encode(binary.as_bytes())).await,
            (Service::ParameterStore, Ok(text)) => {
                Ok(admin.put_parameter(key, "SecureString", &text).await?.to_string())
            }
            (Service::ParameterStore, Err(_)) => bail!("parameters are text"),
        }
    }

    async fn ask(&self, action: &str, input: Value) -> Result<Value> {
        let service = if self.service == Service::SecretsManager { "secretsmanager" } else { "ssm" };
        self.peer.admin()?.json(service, action, &input).await
    }
}

#[async_trait]
impl Subject for Aws {
    fn name(&self) -> &'static str {
        match self.service {
            Service::SecretsManager => "aws-secrets-manager",
            Service::ParameterStore => "aws-parameter-store",
        }
    }

    fn why_not(&self, case: &str) -> Option<&'static str> {
        match (case, self.service) {
            ("empty value", _) => Some("AWS takes no empty value"),
            ("disabled version", _) => Some("AWS cannot disable a version"),
            ("missing mount or vault", _) => {
                Some("names lie in the role's account and region themselves, which are always there")
            }
            ("binary", Service::ParameterStore) => Some("Parameter Store keeps text and no other bytes"),
            ("write back that was overtaken", Service::SecretsManager) => {
                Some("Secrets Manager does not number versions: AWS itself refuses a write that was overtaken")
            }
            ("soft-deleted", Service::ParameterStore) => Some("Parameter Store deletes for good"),
            _ => None,
        }
    }

    fn proxy(&self) -> &FaultProxy {
        &self.proxy
    }

    fn read_hosts(&self) -> Vec<String> {
        vec![self.host().to_owned()]
    }

    fn login_hosts(&self) -> Vec<String> {
        vec![STS.to_owned()]
    }

    fn store(&self) -> ResolvedStore {
        self.reading(&self.role).expect("a store")
    }

    fn account(&self) -> ServiceAccount {
        self.account.clone()
    }

    fn fetcher(&self) -> Result<Fetcher> {
        self.world.fetcher()
    }

    async fn put(&self, name: &str, content: &Content) -> Result<Option<String>> {
        self.write(&self.key(name), content).await.map(Some)
    }

    fn key(&self, name: &str) -> String {
        match self.service {
            Service::SecretsManager => format!("allowed/{name}"),
            Service::ParameterStore => format!("/allowed/{name}"),
        }
    }

    /// 64 KiB; and 4 KiB for a parameter of the standard tier.
    fn largest(&self) -> usize {
        if self.service == Service::SecretsManager { 65_536 } else { 4096 }
    }

    fn odd_names(&self) -> Vec<String> {
        let both = ["a/b/c/d", "UPPER.lower_-", "dots..inside/.hidden", "1"].map(str::to_owned).into_iter();
        match self.service {
            Service::SecretsManager => {
                both.chain(["plus+equals=at@".to_owned(), "bang!x".to_owned(), "x".repeat(500)]).collect()
            }
            Service::ParameterStore => both.chain(["x".repeat(900)]).collect(),
        }
    }

    fn numbers_versions(&self) -> bool {
        self.service == Service::ParameterStore
    }

    async fn alias(&self, name: &str, version: &str) -> Result<String> {
        let key = self.key(name);
        match self.service {
            Service::SecretsManager => {
                let input = json!({"SecretId": key, "VersionStage": "blue", "MoveToVersionId": version});
                self.ask("UpdateSecretVersionStage", input).await?;
            }
            Service::ParameterStore => {
                let version: u64 = version.parse().context("a version")?;
                let input = json!({"Name": key, "ParameterVersion": version, "Labels": ["blue"]});
                self.ask("LabelParameterVersion", input).await?;
            }
        }
        Ok("blue".to_owned())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let key = self.key(name);
        match self.service {
            Service::SecretsManager => {
                self.ask("DeleteSecret", json!({"SecretId": key, "ForceDeleteWithoutRecovery": true})).await?
            }
            Service::ParameterStore => self.ask("DeleteParameter", json!({"Name": key})).await?,
        };
        Ok(())
    }

    async fn soft_delete(&self, name: &str) -> Result<()> {
        self.ask("DeleteSecret", json!({"SecretId": self.key(name), "RecoveryWindowInDays": 7})).await?;
        Ok(())
    }

    async fn put_denied(&self, name: &str, content: &Content) -> Result<(ResolvedStore, String)> {
        let key = self.key(name).replace("allowed/", "denied/");
        self.write(&key, content).await?;
        Ok((self.store(), key))
    }

    async fn missing_place(&self) -> Result<(ResolvedStore, String, ErrorClass)> {
        bail!("see why_not")
    }

    async fn not_let_in(&self) -> Result<(ResolvedStore, ServiceAccount)> {
        let admin = self.peer.admin()?;
        let role = admin.bot_role("others", &["elsewhere:bot"], &json!([])).await?;
        Ok((self.reading(&role)?, self.account.clone()))
    }

    /// The peer ends no session before its time, so the proxy says what AWS
    /// would.
    async fn end_logins(&self) -> Result<()> {
        let body = json!({"__type": "ExpiredTokenException", "message": "The security token is expired"}).to_string();
        let json = [("content-type", "application/x-amz-json-1.1")];
        self.proxy.fault(self.host(), FaultKind::answer(400, &json, &body), 1);
        Ok(())
    }

    fn throttled(&self, retry_after: Option<u64>) -> FaultKind {
        let seconds = retry_after.map(|seconds| seconds.to_string());
        let mut headers = vec![("content-type", "application/x-amz-json-1.1")];
        headers.extend(seconds.iter().map(|seconds| ("retry-after", seconds.as_str())));
        FaultKind::answer(429, &headers, r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#)
    }

    fn requests_for(&self, secrets: usize) -> usize {
        secrets.div_ceil(if self.service == Service::SecretsManager { 20 } else { 10 })
    }
}
