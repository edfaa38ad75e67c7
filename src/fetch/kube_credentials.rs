//! Stores' credentials from the API server, with a bound on the answer and
//! without the client's own parsing: that logs an answer which it cannot
//! parse, values and all.

use std::collections::BTreeMap;

use async_trait::async_trait;
use http_body_util::{BodyExt, Limited};
use kube::{
    api::{GetParams, Request},
    client::Body,
};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{CredentialSecret, CredentialSource, SecretVersion};
use crate::stores::{
    Decoded, ErrorClass, StoreError,
    names::{is_dns_label, is_dns_subdomain},
};

/// A Secret holds 1 MiB; base64 and metadata fit in four times that.
const LARGEST_ANSWER: usize = 4 << 20;

/// Stores' credentials, each by one GET.
pub struct KubeCredentials {
    client: kube::Client,
}

impl KubeCredentials {
    /// With the operator's own client.
    #[must_use]
    pub fn new(client: kube::Client) -> Self {
        Self { client }
    }
}

#[async_trait]
impl CredentialSource for KubeCredentials {
    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<CredentialSecret>, StoreError> {
        // The path is built from both.
        if !is_dns_label(namespace) || !is_dns_subdomain(name) {
            return Err(StoreError::new(ErrorClass::Invalid, "that is not a Secret's name: correct the store"));
        }
        let request = Request::new(format!("/api/v1/namespaces/{namespace}/secrets"))
            .get(name, &GetParams::default())
            .map_err(|_| StoreError::new(ErrorClass::Invalid, "that is not a Secret's name: correct the store"))?;
        let answer = self.client.send(request.map(Body::from)).await.map_err(|_| unreachable())?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), LARGEST_ANSWER).collect().await.map_err(|_| unreachable())?;
        let body = Zeroizing::new(body.to_bytes().to_vec());
        match status {
            200..=299 => parse(&body).map(Some),
            404 => Ok(None),
            403 => Err(StoreError::new(
                ErrorClass::Invalid,
                "the operator may not read it: grant it the right to get secrets there",
            )),
            429 => Err(StoreError::new(ErrorClass::Throttled, "the API server asks for patience (429)")),
            _ => Err(StoreError::new(ErrorClass::Unavailable, format!("the API server answered {status}"))),
        }
    }
}

fn unreachable() -> StoreError {
    StoreError::new(ErrorClass::Unavailable, "the API server did not answer")
}

#[derive(Deserialize)]
struct Wanted {
    metadata: Metadata,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    data: Option<BTreeMap<String, Decoded>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    uid: String,
    resource_version: String,
}

pub(crate) fn parse(body: &[u8]) -> Result<CredentialSecret, StoreError> {
    // The parser's own message may quote what it read.
    let Wanted { metadata, kind, data } = serde_json::from_slice(body)
        .map_err(|_| StoreError::new(ErrorClass::Unavailable, "the API server's answer is not a Secret"))?;
    Ok(CredentialSecret {
        version: SecretVersion { uid: metadata.uid, resource_version: metadata.resource_version },
        kind,
        data: data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::{CredentialSource, ErrorClass, KubeCredentials};
    use http_body_util::Full;
    use hyper::{Request, Response, body::Bytes};
    use kube::client::Body;
    use std::convert::Infallible;

    fn answering(status: u16, body: &'static str) -> KubeCredentials {
        let service = tower::service_fn(move |_: Request<Body>| async move {
            let answer = Response::builder().status(status).body(Full::new(Bytes::from(body)));
            Ok::<_, Infallible>(answer.expect("an answer"))
        });
        KubeCredentials::new(kube::Client::new(service, "default"))
    }

    #[tokio::test]
    async fn what_a_secret_holds_is_read_with_its_version_and_one_that_is_absent_is_no_error() {
        let body = r#"{"metadata":{"uid":"u","resourceVersion":"7"},"type":"Opaque","data":{"token":"czNjcjN0"}}"#;
        let read = answering(200, body).secret("ns", "login").await.expect("read").expect("there");
        assert_eq!((read.version.uid.as_str(), read.version.resource_version.as_str()), ("u", "7"));
        assert_eq!(read.data["token"].expose(), b"s3cr3t");
        assert!(answering(404, "{}").secret("ns", "login").await.expect("read").is_none());
    }

    #[tokio::test]
    async fn p4_no_failure_to_read_credentials_repeats_the_answer() {
        for (status, body) in
            [(200, r#"{"data":{"token":"s3cr3t"}}"#), (403, "s3cr3t"), (500, "s3cr3t"), (200, "s3cr3t")]
        {
            let error = answering(status, body).secret("ns", "login").await.expect_err("refused");
            assert!(!format!("{error:?}").contains("s3cr3t"), "{error:?}");
        }
        let odd = answering(200, "{}").secret("ns", "../pods").await.expect_err("refused");
        assert_eq!(odd.class, ErrorClass::Invalid);
    }
}
