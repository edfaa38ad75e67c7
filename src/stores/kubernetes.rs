//! A Kubernetes API server as the manager: Secrets of another namespace of
//! this cluster or of another cluster, read with the ServiceAccount's own
//! token and so with its own RBAC. The login is the token itself.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use reqwest::{
    Method, Request, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, HeaderValue},
};
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    Audience, Backend, Capabilities, Decoded, ErrorClass, HttpClients, Identity, Login, Opening, Pace, Payload,
    QuotaDomain, RemoteKey, RemoteSecret, ServiceAccount, Session, StoreError,
    address::has_credentials,
    error::{invalid, unavailable},
    http::{Answer, Pool, bearer},
    names::{is_dns_label, is_dns_subdomain},
    read_each, version_id,
};
use crate::{api::KubernetesStore, secret::SecretText};

/// What one API server is asked at once; its priority-and-fairness queues take
/// care of the rest.
const REQUESTS_IN_FLIGHT: u32 = 64;

pub(super) struct Kubernetes {
    namespace: String,
    server: Server,
}

enum Server {
    This(HttpClients),
    Other { url: Url, pool: Arc<Pool>, audience: String },
}

impl Kubernetes {
    pub(super) fn new(spec: &KubernetesStore, opening: &Opening<'_>) -> Result<Self, StoreError> {
        if !is_dns_label(&spec.remote_namespace) {
            return Err(invalid("remoteNamespace is not a namespace's name"));
        }
        let server = match (&spec.server, &spec.audience) {
            (None, None) => Server::This(opening.clients.clone()),
            (Some(server), Some(audience)) => {
                let url = Url::parse(&server.url).map_err(|_| invalid("server.url is not a URL"))?;
                if url.scheme() != "https" || has_credentials(&url) || url.query().is_some() || url.fragment().is_some()
                {
                    return Err(invalid("server.url must be an https URL without credentials or query"));
                }
                let pool = opening.pool(&url, server.ca_bundle.as_deref())?;
                Server::Other { url, pool, audience: audience.clone() }
            }
            // One without the other would send this cluster's own token abroad.
            _ => return Err(invalid("another cluster needs both server and audience; this cluster needs neither")),
        };
        Ok(Self { namespace: spec.remote_namespace.clone(), server })
    }
}

#[async_trait]
impl Backend for Kubernetes {
    fn capabilities(&self) -> Capabilities {
        Capabilities { batch: 1, leases: false, write_back: false, change_events: false, dates_apart: false }
    }

    fn identity(&self, _account: &ServiceAccount) -> Result<Identity, StoreError> {
        let (audience, server) = match &self.server {
            Server::This(_) => (Audience::ApiServer, "this cluster"),
            Server::Other { url, audience, .. } => (Audience::Of(audience.clone()), url.as_str()),
        };
        let quota = QuotaDomain {
            name: format!("kubernetes/{server}"),
            requests_per_second: None,
            in_flight: REQUESTS_IN_FLIGHT,
        };
        Ok(Identity { audience: Some(audience), role: String::new(), quota })
    }

    async fn login(&self, login: Login<'_>) -> Result<Arc<dyn Session>, StoreError> {
        let token = login.service_account_token()?;
        let (url, pool) = match &self.server {
            Server::This(clients) => clients.cluster()?,
            Server::Other { url, pool, .. } => (url.clone(), Arc::clone(pool)),
        };
        Ok(Arc::new(Reader {
            pool,
            url,
            namespace: self.namespace.clone(),
            another_cluster: matches!(self.server, Server::Other { .. }),
            token: SecretText::new(token.expose().to_owned()),
            pace: login.pace,
        }))
    }
}

struct Reader {
    pool: Arc<Pool>,
    url: Url,
    namespace: String,
    another_cluster: bool,
    token: SecretText,
    pace: Pace,
}

#[async_trait]
impl Session for Reader {
    fn expires(&self) -> Option<Instant> {
        None
    }

    async fn read(&self, keys: &[RemoteKey]) -> Vec<Result<RemoteSecret, StoreError>> {
        read_each(keys, |key| self.read_one(key)).await
    }
}

impl Reader {
    async fn read_one(&self, key: &RemoteKey) -> Result<RemoteSecret, StoreError> {
        if key.metadata {
            return Err(invalid("a kubernetes store reads no metadata: leave remoteRef.metadataPolicy out"));
        }
        if key.version.is_some() {
            return Err(invalid("Kubernetes keeps no versions of a Secret: leave remoteRef.version out"));
        }
        if !is_dns_subdomain(&key.key) {
            return Err(invalid("remoteRef.key is not a Secret's name: write lower-case letters, digits, '-' and '.'"));
        }
        let answer = self.pool.send(self.request(&key.key)?, &self.pace).await?;
        if answer.status == StatusCode::OK {
            return parse(&answer.body);
        }
        Err(self.refusal(&answer, &key.key))
    }

    fn request(&self, name: &str) -> Result<Request, StoreError> {
        let mut url = self.url.clone();
        url.path_segments_mut()
            .map_err(|()| invalid("server.url is not a URL that has a path"))?
            .pop_if_empty()
            .extend(["api", "v1", "namespaces", &self.namespace, "secrets", name]);
        let bearer = bearer(&self.token)
            .ok_or_else(|| StoreError::new(ErrorClass::Identity, "the ServiceAccount's token cannot be sent"))?;
        let mut request = Request::new(Method::GET, url);
        request.headers_mut().insert(AUTHORIZATION, bearer);
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        Ok(request)
    }

    fn refusal(&self, answer: &Answer, name: &str) -> StoreError {
        let namespace = &self.namespace;
        match answer.status.as_u16() {
            401 => {
                let hint = if self.another_cluster {
                    "; it must trust this cluster's token issuer, and audience must be one of its API audiences"
                } else {
                    ""
                };
                let message = format!("the API server does not accept the ServiceAccount's token{hint}");
                StoreError::new(ErrorClass::LoginDenied, message).ending_session()
            }
            403 => StoreError::new(
                ErrorClass::Denied,
                format!(
                    "the ServiceAccount may not read it: in namespace {namespace}, bind it to a Role with \
                     apiGroups [\"\"], resources [\"secrets\"], resourceNames [\"{name}\"], verbs [\"get\"]"
                ),
            ),
            404 => StoreError::new(
                ErrorClass::Missing,
                format!("namespace {namespace} has no such Secret: create it or correct remoteRef.key"),
            ),
            429 => StoreError::new(ErrorClass::Throttled, "the API server asks for patience (429)")
                .after(answer.retry_after),
            status @ 300..=399 => {
                unavailable(format!("the API server redirects elsewhere ({status}): correct server.url"))
            }
            status => unavailable(format!("the API server answered {status}")).after(answer.retry_after),
        }
    }
}

/// The part of a Secret that is read.
#[derive(Deserialize)]
struct Wanted<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    metadata: WantedMetadata<'a>,
    #[serde(default)]
    data: Option<BTreeMap<String, Decoded>>,
}

#[derive(Default, Deserialize)]
struct WantedMetadata<'a> {
    #[serde(borrow, default, rename = "resourceVersion")]
    resource_version: Cow<'a, str>,
}

pub(super) fn parse(body: &[u8]) -> Result<RemoteSecret, StoreError> {
    // The parser's own message may quote what it read.
    let wanted: Wanted<'_> =
        serde_json::from_slice(body).map_err(|_| unavailable("the API server's answer is not a Secret").about_one())?;
    if wanted.kind != "Secret" {
        return Err(unavailable("the API server's answer is not a Secret").about_one());
    }
    let fields = wanted.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect();
    Ok(RemoteSecret {
        version_id: version_id(&wanted.metadata.resource_version),
        ..RemoteSecret::of(Payload::Fields(fields))
    })
}

#[cfg(test)]
#[path = "kubernetes_tests.rs"]
mod tests;
