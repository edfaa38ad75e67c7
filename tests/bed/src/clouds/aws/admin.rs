//! An administrator of the AWS peer: what tests put there.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::front::AUDIENCE;
use super::rights::Rights;

/// The account in which everything is, unless said otherwise.
pub const ACCOUNT: &str = "123456789012";
/// The region in which everything is, unless said otherwise.
pub const REGION: &str = "eu-west-1";

/// An administrator of one account and region. Asks the peer itself, so that
/// nothing of it is counted.
#[derive(Clone, Debug)]
pub struct AwsAdmin {
    pub(super) peer: SocketAddr,
    pub(super) issuer: String,
    pub(super) account: String,
    pub(super) region: String,
    pub(super) client: reqwest::Client,
    pub(super) rights: Rights,
}

impl AwsAdmin {
    /// Of another region.
    #[must_use]
    pub fn in_region(&self, region: &str) -> Self {
        Self { region: region.to_owned(), ..self.clone() }
    }

    /// Of another account.
    #[must_use]
    pub fn in_account(&self, account: &str) -> Self {
        Self { account: account.to_owned(), ..self.clone() }
    }

    /// Asks a service that speaks JSON: `secretsmanager` or `ssm`.
    pub async fn json(&self, service: &str, action: &str, input: &Value) -> Result<Value> {
        let prefix = if service == "ssm" { "AmazonSSM" } else { service };
        let request = self.request(service).header("x-amz-target", format!("{prefix}.{action}"));
        let answer =
            request.header("content-type", "application/x-amz-json-1.1").body(input.to_string()).send().await?;
        let (status, body) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{service} {action}: {status} {body}");
        Ok(serde_json::from_str(&body).unwrap_or_default())
    }

    /// Asks a service that speaks queries and XML: `iam` or `sts`.
    pub async fn query(&self, service: &str, action: &str, fields: &[(&str, &str)]) -> Result<String> {
        let mut form = reqwest::Url::parse("http://form/")?;
        form.query_pairs_mut().append_pair("Action", action).append_pair("Version", "2010-05-08").extend_pairs(fields);
        let request = self.request(service).header("content-type", "application/x-www-form-urlencoded");
        let answer = request.body(form.query().unwrap_or_default().to_owned()).send().await?;
        let (status, body) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{service} {action}: {status} {body}");
        Ok(body)
    }

    /// The peer takes an account's number for that account's root key, and
    /// does not look at its signature.
    fn request(&self, service: &str) -> reqwest::RequestBuilder {
        let (account, region) = (&self.account, &self.region);
        let scope = format!("{account}/20260101/{region}/{service}/aws4_request");
        let signed = format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=none");
        self.client.post(format!("http://{}/", self.peer)).header("authorization", signed)
    }

    /// A role that these ServiceAccounts (`namespace:name`) may assume, with
    /// the rights to what the policy's statements say; its ARN.
    pub async fn bot_role(&self, name: &str, accounts: &[&str], statements: &Value) -> Result<String> {
        let host = self.issuer.trim_start_matches("https://");
        let subjects: Vec<String> = accounts.iter().map(|account| format!("system:serviceaccount:{account}")).collect();
        let mut equals = serde_json::Map::new();
        equals.insert(format!("{host}:aud"), json!(AUDIENCE));
        equals.insert(format!("{host}:sub"), json!(subjects));
        let trust = json!({
            "Effect": "Allow",
            "Principal": {"Federated": format!("arn:aws:iam::{}:oidc-provider/{host}", self.account)},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {"StringEquals": equals},
        });
        self.role(name, &trust, statements).await
    }

    /// A role with this trust policy's statement and these statements of its
    /// own policy; its ARN.
    pub async fn role(&self, name: &str, trust: &Value, statements: &Value) -> Result<String> {
        let document = json!({"Version": "2012-10-17", "Statement": [trust]}).to_string();
        self.query("iam", "CreateRole", &[("RoleName", name), ("AssumeRolePolicyDocument", &document)]).await?;
        self.allow(name, statements).await?;
        Ok(format!("arn:aws:iam::{}:role/{name}", self.account))
    }

    /// Replaces what a role may do.
    pub async fn allow(&self, role: &str, statements: &Value) -> Result<()> {
        let statements = self.rights.allow(role, statements);
        let document = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        let fields = [("RoleName", role), ("PolicyName", "own"), ("PolicyDocument", document.as_str())];
        self.query("iam", "PutRolePolicy", &fields).await?;
        Ok(())
    }

    /// A user with a static key: its id and secret.
    pub async fn user_key(&self, name: &str, statements: &Value) -> Result<(String, String)> {
        let statements = self.rights.allow(name, statements);
        let document = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        self.query("iam", "CreateUser", &[("UserName", name)]).await?;
        let fields = [("UserName", name), ("PolicyName", "own"), ("PolicyDocument", document.as_str())];
        self.query("iam", "PutUserPolicy", &fields).await?;
        let answer = self.query("iam", "CreateAccessKey", &[("UserName", name)]).await?;
        let id = element(&answer, "AccessKeyId")?;
        self.rights.key_of(&id, name);
        Ok((id, element(&answer, "SecretAccessKey")?))
    }

    /// Makes a secret, or gives it a new version: the version's id.
    pub async fn put_secret(&self, name: &str, value: &str) -> Result<String> {
        self.write(name, "SecretString", value).await
    }

    /// The same with bytes, as base64.
    pub async fn put_binary(&self, name: &str, base64: &str) -> Result<String> {
        self.write(name, "SecretBinary", base64).await
    }

    async fn write(&self, name: &str, member: &str, value: &str) -> Result<String> {
        let there = self.json("secretsmanager", "DescribeSecret", &json!({"SecretId": name})).await.is_ok();
        let (action, id) = if there { ("PutSecretValue", "SecretId") } else { ("CreateSecret", "Name") };
        let answer = self.json("secretsmanager", action, &json!({id: name, member: value})).await?;
        Ok(answer["VersionId"].as_str().context("a version")?.to_owned())
    }

    /// The ARN of a secret.
    pub async fn secret_arn(&self, name: &str) -> Result<String> {
        let answer = self.json("secretsmanager", "DescribeSecret", &json!({"SecretId": name})).await?;
        Ok(answer["ARN"].as_str().context("an ARN")?.to_owned())
    }

    /// Lets a role of another account read this secret, as the secret's own
    /// policy: the peer knows of no reads between accounts, so the front does
    /// them. The role's own policy must allow it as well.
    pub fn share(&self, secret_arn: &str, role: &str) {
        self.rights.share(secret_arn, role);
    }

    /// Makes a parameter (`String`, `SecureString` or `StringList`), or gives
    /// it a new version.
    pub async fn put_parameter(&self, name: &str, kind: &str, value: &str) -> Result<u64> {
        let input = json!({"Name": name, "Type": kind, "Value": value, "Overwrite": true});
        let answer = self.json("ssm", "PutParameter", &input).await?;
        answer["Version"].as_u64().context("a version")
    }
}

fn element(xml: &str, name: &str) -> Result<String> {
    let Some((_, rest)) = xml.split_once(&format!("<{name}>")) else { bail!("no {name}") };
    Ok(rest.split('<').next().unwrap_or_default().to_owned())
}
