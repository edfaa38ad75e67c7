//! AWS Secrets Manager and AWS Systems Manager Parameter Store.

#![allow(rustdoc::bare_urls, reason = "kubectl explain shows these texts, where Markdown is noise")]
#![allow(clippy::struct_field_names, reason = "the names that users of External Secrets know")]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretKeyRef;

/// AWS Secrets Manager or AWS Systems Manager Parameter Store.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.role) || (!has(self.externalID) && !has(self.sessionTags))")
    .message("externalID and sessionTags belong to the second hop: write role"))]
pub struct AwsStore {
    /// SecretsManager or ParameterStore.
    pub service: AwsService,
    /// The region, such as eu-west-1. A secret named by its ARN is read in the
    /// region that the ARN names.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z]{2,4}(-[a-z]+)+-[0-9]+$')").message("write a region such as eu-west-1"))]
    pub region: String,
    /// How to log in.
    pub auth: AwsAuth,
    /// A role that is assumed with the identity above, in a second hop. The
    /// session then lasts an hour at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 20, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^arn:aws[-a-z]*:iam::[0-9]{12}:role/.+$')").message("write a role's ARN: arn:aws:iam::<account>:role/<name>"))]
    pub role: Option<String>,
    /// The external id that the second hop's role asks for.
    #[serde(default, rename = "externalID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 1224))]
    pub external_id: Option<String>,
    /// Session tags for the second hop, for policies to look at. The operator
    /// always adds botsecret:namespace and botsecret:serviceAccount where this
    /// list is set, be it empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["key"]))]
    #[x_kube(validation = Rule::new("!self.exists(tag, tag.key.lowerAscii().startsWith('botsecret:'))")
        .message("tags that begin with botsecret: say who reads and are set by the operator alone"))]
    pub session_tags: Option<Vec<AwsSessionTag>>,
    /// The service's endpoint, where it is not the region's public one (a VPC
    /// endpoint, say).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^/?#@ ]+/?$')")
        .message("write scheme, host and port only, such as https://vpce-1.secretsmanager.eu-west-1.vpce.amazonaws.com"))]
    pub endpoint: Option<String>,
    /// Certificates to trust at endpoint, PEM or base64 of PEM. The public roots when
    /// not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 131_072))]
    pub ca_bundle: Option<String>,
    /// Where STS is, in place of the region's public endpoint. Only in a
    /// ClusterBotSecretStore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sts_endpoint: Option<super::TokenEndpoint>,
}

/// SecretsManager or ParameterStore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
pub enum AwsService {
    /// AWS Secrets Manager.
    SecretsManager,
    /// AWS Systems Manager Parameter Store.
    ParameterStore,
}

/// How to log in to AWS.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.jwt), has(self.secretRef), has(self.ambient)].filter(set, set).size() == 1")
    .message("write exactly one way to log in: jwt, secretRef or ambient"))]
pub struct AwsAuth {
    /// AssumeRoleWithWebIdentity with a token of the BotSecret's ServiceAccount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<AwsJwtAuth>,
    /// Static keys from a Secret, as the last resort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<AwsSecretAuth>,
    /// true: the operator's own identity (IRSA, Pod Identity, instance role),
    /// the same for every BotSecret. Only in a ClusterBotSecretStore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self").message("write true, or leave it out"))]
    pub ambient: Option<bool>,
}

/// AssumeRoleWithWebIdentity.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.role) != has(self.serviceAccountRoles)").message("write one of role and serviceAccountRoles"))]
pub struct AwsJwtAuth {
    /// The role to assume. The ServiceAccount's annotation is then not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 20, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^arn:aws[-a-z]*:iam::[0-9]{12}:role/.+$')").message("write a role's ARN: arn:aws:iam::<account>:role/<name>"))]
    pub role: Option<String>,
    /// The roles that a ServiceAccount may name in its annotation
    /// eks.amazonaws.com/role-arn; * stands for any characters but a slash and a colon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100), inner(length(min = 20, max = 2048)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    #[x_kube(validation = Rule::new("self.all(role, role.matches('^arn:aws[-a-z]*:iam::[0-9]{12}:role/.+$'))")
        .message("write patterns of roles' ARNs, each with its account: arn:aws:iam::<account>:role/bots-*"))]
    pub service_account_roles: Option<Vec<String>>,
    /// The audience of the token that is sent; "sts.amazonaws.com" when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub audience: Option<String>,
}

/// Static keys.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AwsSecretAuth {
    /// The access key id.
    #[serde(rename = "accessKeyIDSecretRef")]
    pub access_key_id_secret_ref: SecretKeyRef,
    /// The secret access key.
    pub secret_access_key_secret_ref: SecretKeyRef,
    /// The session token, where the keys are temporary ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token_secret_ref: Option<SecretKeyRef>,
}

/// A session tag.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AwsSessionTag {
    /// Its key.
    #[schemars(length(min = 1, max = 128))]
    pub key: String,
    /// Its value.
    #[schemars(length(max = 256))]
    pub value: String,
}

impl AwsAuth {
    pub(super) fn secret_refs(&self) -> Vec<&SecretKeyRef> {
        let keys = self.secret_ref.iter();
        keys.flat_map(|auth| {
            [
                Some(&auth.access_key_id_secret_ref),
                Some(&auth.secret_access_key_secret_ref),
                auth.session_token_secret_ref.as_ref(),
            ]
        })
        .flatten()
        .collect()
    }
}
