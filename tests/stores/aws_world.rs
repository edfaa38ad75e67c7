//! What the tests of AWS share: one peer, and a bot with a role there.

use std::{error::Error, sync::Arc};

use botsecret::{
    api::Provider,
    fetch::ResolvedStore,
    stores::{ErrorClass, Payload, RemoteSecret, Scope, StoreError},
};
use botsecret_testbed::{
    Cluster,
    clouds::aws::{Aws, AwsAdmin, AwsRequest, REGION},
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::world::{Bot, from};

pub async fn shared_aws() -> Result<&'static Aws, Box<dyn Error>> {
    static AWS: OnceCell<Aws> = OnceCell::const_new();
    let cluster = Cluster::shared().await?;
    Ok(AWS.get_or_try_init(|| Aws::start(cluster)).await?)
}

/// A bot, and what an administrator of its AWS account has given it. Role,
/// secrets and parameters begin with the namespace's name.
pub struct Desk {
    pub bot: Bot,
    pub aws: &'static Aws,
    pub admin: AwsAdmin,
    pub role: String,
}

impl Desk {
    /// With a role that may read what begins with its namespace's name.
    pub async fn new(prefix: &str) -> Result<Self, Box<dyn Error>> {
        let (bot, aws) = (Bot::new(prefix).await?, shared_aws().await?);
        let admin = aws.admin()?;
        let namespace = &bot.namespace;
        let role = admin.bot_role(namespace, &[&format!("{namespace}:bot")], &may_read(namespace)).await?;
        Ok(Self { bot, aws, admin, role })
    }

    /// The name of something of this desk's.
    pub fn named(&self, name: &str) -> String {
        format!("{}/{name}", self.bot.namespace)
    }

    /// The same as Parameter Store names it.
    pub fn parameter(&self, name: &str) -> String {
        format!("/{}/{name}", self.bot.namespace)
    }

    /// A store for its role, with more fields.
    pub fn store(&self, service: &str, more: &Value) -> ResolvedStore {
        let mut spec = json!({
            "service": service,
            "region": REGION,
            "auth": {"jwt": {"role": self.role}},
            "endpoint": self.aws.url(),
            "stsEndpoint": {"url": self.aws.url()},
        });
        if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
            spec.extend(more.clone());
            spec.retain(|_, value| !value.is_null());
        }
        let uid = format!("{service}-{more}-{}", self.bot.namespace);
        let provider = Provider::Aws(from(spec));
        ResolvedStore {
            uid,
            provider,
            scope: Scope::Cluster,
            ..self.bot.kubernetes(&json!({"remoteNamespace": "none"}))
        }
    }

    pub fn secrets_manager(&self) -> ResolvedStore {
        self.store("SecretsManager", &json!({}))
    }

    pub fn parameter_store(&self) -> ResolvedStore {
        self.store("ParameterStore", &json!({}))
    }

    /// What was asked of AWS for this desk; none of it such that AWS itself
    /// would refuse the request's shape.
    pub fn requests(&self) -> Vec<AwsRequest> {
        let all = self.aws.requests().into_iter();
        let own: Vec<AwsRequest> =
            all.filter(|request| request.input.to_string().contains(&self.bot.namespace)).collect();
        assert!(own.iter().all(|request| request.refused.is_none()), "{own:?}");
        own
    }

    /// How often this was asked for this desk.
    pub fn count(&self, action: &str) -> usize {
        self.requests().iter().filter(|request| request.action == action).count()
    }
}

/// Statements that allow every way to read what begins with this name.
pub fn may_read(prefix: &str) -> Value {
    json!([
        {
            "Effect": "Allow",
            "Action": ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"],
            "Resource": format!("arn:aws:secretsmanager:*:*:secret:{prefix}/*"),
        },
        {
            "Effect": "Allow",
            "Action": ["secretsmanager:BatchGetSecretValue", "secretsmanager:ListSecrets", "ssm:DescribeParameters"],
            "Resource": "*",
        },
        {
            "Effect": "Allow",
            "Action": ["ssm:GetParameters", "ssm:GetParametersByPath", "ssm:ListTagsForResource"],
            "Resource": [
                format!("arn:aws:ssm:*:*:parameter/{prefix}"), format!("arn:aws:ssm:*:*:parameter/{prefix}/*"),
            ],
        },
    ])
}

/// The bytes of a secret.
pub fn bytes(read: &Result<Arc<RemoteSecret>, StoreError>) -> &[u8] {
    match read.as_ref().map(|secret| &secret.payload) {
        Ok(Payload::Bytes(bytes)) => bytes.expose(),
        Ok(_) => panic!("not bytes"),
        Err(error) => panic!("{:?}: {error}", error.class),
    }
}

/// The class of a refusal.
pub fn class<T>(read: &Result<T, StoreError>) -> Option<ErrorClass> {
    read.as_ref().err().map(|error| error.class)
}
