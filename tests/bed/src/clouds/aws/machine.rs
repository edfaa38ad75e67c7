//! Where a machine or pod of AWS gets its own credentials from, as AWS
//! documents it: the instance metadata service in its second version, and the
//! agent of EKS Pod Identity.

use anyhow::Result;
use serde_json::json;

use crate::clouds::scripted::{Question, Reply, Scripted};

const SESSION: &str = "a-metadata-session";

/// Keys as the services of a machine hand them out. Ends in 2099.
fn credentials(id: &str, secret: &str) -> String {
    json!({
        "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z",
        "AccessKeyId": id, "SecretAccessKey": secret, "Token": "", "Expiration": "2099-01-01T00:00:00Z",
    })
    .to_string()
}

/// Instance metadata of a machine with this role, or with none. Answers only
/// who has asked for a session by PUT before.
pub async fn instance_metadata(role: Option<&str>, id: &str, secret: &str) -> Result<Scripted> {
    let (role, keys) = (role.map(str::to_owned), credentials(id, secret));
    let answer = move |_, question: &Question| {
        let header = |name: &str| question.headers.get(name).map(String::as_str);
        if question.line == "PUT /latest/api/token" {
            return match header("x-aws-ec2-metadata-token-ttl-seconds") {
                Some(life) => Reply {
                    headers: vec![("x-aws-ec2-metadata-token-ttl-seconds", life.to_owned())],
                    ..(200, SESSION.to_owned()).into()
                },
                None => (400, String::new()).into(),
            };
        }
        if header("x-aws-ec2-metadata-token") != Some(SESSION) {
            return (401, String::new()).into();
        }
        let below = question.line.strip_prefix("GET /latest/meta-data/iam/security-credentials/");
        match (below, &role) {
            (Some(""), Some(role)) => (200, role.clone()).into(),
            (Some(asked), Some(role)) if asked == role => (200, keys.clone()).into(),
            _ => (404, String::new()).into(),
        }
    };
    Scripted::start(answer).await
}

/// The agent of EKS Pod Identity on a node: keys for the pod that shows this
/// token.
pub async fn pod_identity(token: &str, id: &str, secret: &str) -> Result<Scripted> {
    let (token, keys) = (token.to_owned(), credentials(id, secret));
    let answer = move |_, question: &Question| match question.headers.get("authorization") {
        Some(shown) if *shown == token && question.line == "GET /v1/credentials" => (200, keys.clone()),
        _ => (401, String::new()),
    };
    Scripted::start(answer).await
}
