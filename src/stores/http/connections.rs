//! How connections are made: whom they trust, and which way they go.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{Certificate, Identity, Proxy, Url, redirect::Policy};

use super::reach::Resolver;
use crate::stores::{StoreError, error::invalid};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A dead HTTP/2 connection would otherwise take every request of its pool
/// down with it until TCP gives up.
const HTTP2_PING: Duration = Duration::from_secs(10);

const BAD_BUNDLE: &str = "caBundle holds no usable certificate: write PEM, or base64 of PEM";
const BAD_IDENTITY: &str =
    "the client certificate, its private key or caBundle cannot be used: check that the key is the certificate's";

/// Which certificates a pool of connections trusts.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Trust {
    /// Plain HTTP: none are needed, and a machine may have none.
    Nothing,
    /// What the machine trusts.
    Public,
    /// Only these, PEM.
    Only(String),
}

impl Trust {
    /// At this address, with what a store says (PEM, or base64 of PEM).
    pub(super) fn at(address: &Url, ca_bundle: Option<&str>) -> Result<Self, StoreError> {
        if address.scheme() == "http" {
            return Ok(Self::Nothing);
        }
        Self::of(ca_bundle)
    }

    /// Wherever TLS is spoken.
    pub(super) fn of(ca_bundle: Option<&str>) -> Result<Self, StoreError> {
        ca_bundle.map_or(Ok(Self::Public), |bundle| pem_text(bundle).map(Self::Only))
    }
}

/// A client that shows the identity, where there is one; confined, it asks nothing of
/// the machine itself.
pub(super) fn client(
    trust: &Trust,
    proxy: Option<&str>,
    identity: Option<Identity>,
    confined: bool,
) -> Result<reqwest::Client, StoreError> {
    let builder = reqwest::Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(HTTP2_PING)
        .http2_keep_alive_timeout(HTTP2_PING)
        .user_agent(concat!("botsecret/", env!("CARGO_PKG_VERSION")));
    let builder = if confined { builder.dns_resolver(Resolver) } else { builder };
    let builder = match proxy.map(Proxy::all) {
        None => builder,
        Some(Ok(proxy)) => builder.proxy(proxy),
        Some(Err(_)) => return Err(invalid("proxy is not a URL: write http://host:port")),
    };
    let (builder, problem) = match trust {
        // https://github.com/seanmonstar/reqwest/issues/2988: without this the
        // build fails on a machine that has no certificates.
        Trust::Nothing => (builder.tls_certs_only(Vec::new()), "the HTTP client cannot be built"),
        Trust::Public => (builder, "the public root certificates cannot be loaded: set caBundle"),
        Trust::Only(pem) => (builder.tls_certs_only(certificates(pem)?), BAD_BUNDLE),
    };
    let (builder, problem) = match identity {
        None => (builder, problem),
        Some(identity) => (builder.identity(identity), BAD_IDENTITY),
    };
    builder.build().map_err(|_| invalid(problem))
}

fn pem_text(bundle: &str) -> Result<String, StoreError> {
    if bundle.contains("-----BEGIN") {
        return Ok(bundle.to_owned());
    }
    let packed: String = bundle.split_whitespace().collect();
    STANDARD.decode(packed).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| invalid(BAD_BUNDLE))
}

fn certificates(pem: &str) -> Result<Vec<Certificate>, StoreError> {
    match Certificate::from_pem_bundle(pem.as_bytes()) {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(invalid(BAD_BUNDLE)),
    }
}
