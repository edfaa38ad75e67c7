//! Sends vaultrs's endpoints over the shared HTTP stack.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::{
    Method, Request, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use rustify::endpoint::Endpoint;
use zeroize::Zeroizing;

use super::{invalid, login::client_certificate, unavailable};
use crate::{
    api::VaultStore,
    secret::SecretText,
    stores::{
        Opening, Pace, StoreError, address,
        http::{Answer, Pool},
    },
};

const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");
const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");

/// Where a Vault is and how to get there.
pub(super) struct Wire {
    pool: Arc<Pool>,
    base: String,
    headers: HeaderMap,
}

impl Wire {
    pub(super) fn new(spec: &VaultStore, opening: &Opening<'_>) -> Result<Self, StoreError> {
        let url = address::bare(&spec.address, "address", "https://vault.example:8200")?;
        let ca_bundle = spec.ca_bundle.as_deref();
        let pool = match &spec.auth.cert {
            None => opening.pool(&url, ca_bundle)?,
            Some(_) if url.scheme() == "http" => {
                return Err(invalid("auth.cert shows a certificate, which needs TLS: write an https address"));
            }
            Some(auth) => opening.pool_as(client_certificate(auth, &opening.credentials)?, ca_bundle)?,
        };
        // Vault's protection against requests that a web page was made to send.
        let mut headers = HeaderMap::from_iter([(REQUEST, HeaderValue::from_static("true"))]);
        if let Some(namespace) = &spec.namespace {
            let namespace = HeaderValue::from_str(namespace)
                .map_err(|_| invalid("namespace has characters that cannot be sent in a header"))?;
            headers.insert(NAMESPACE, namespace);
        }
        Ok(Self { pool, base: url.to_string(), headers })
    }

    /// Sends a request, with a login's token where there is one.
    pub(super) async fn send(
        &self,
        endpoint: &impl Endpoint,
        token: Option<&SecretText>,
        pace: &Pace,
    ) -> Result<Answer, StoreError> {
        self.pool.send(self.request(endpoint, token)?, pace).await
    }

    /// Its address.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    fn request(&self, endpoint: &impl Endpoint, token: Option<&SecretText>) -> Result<Request, StoreError> {
        let built = endpoint.request(&self.base).map_err(|_| invalid("the path cannot be written as a URL"))?;
        let method = Method::from_bytes(built.method().as_str().as_bytes())
            .map_err(|_| unavailable("this request has no HTTP method"))?;
        let mut url =
            Url::parse(&built.uri().to_string()).map_err(|_| invalid("the path cannot be written as a URL"))?;
        url.set_path(&format!("/v1{}", url.path()));
        let mut request = Request::new(method, url);
        *request.headers_mut() = self.headers.clone();
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(token.expose())
                .map_err(|_| unavailable("Vault issued a token that cannot be sent back in a header"))?;
            value.set_sensitive(true);
            request.headers_mut().insert(TOKEN, value);
        }
        let body = built.into_body();
        if !body.is_empty() {
            // Zeroed once it is sent: a login's holds a token.
            *request.body_mut() = Some(Bytes::from_owner(Zeroizing::new(body)).into());
        }
        Ok(request)
    }
}
