//! The peers behind the proxy.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::cluster::lock;

/// Where requests go.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

impl Peer {
    pub(super) fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }

    pub(super) fn tls(address: SocketAddr, ca_pem: &str) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
            roots.add(certificate?)?;
        }
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Self { address, tls: Some(Arc::new(config)) })
    }

    /// Sends a request as it is, over a connection of its own, and reads the
    /// whole answer.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>> {
        let stream = TcpStream::connect(self.address).await.context("the peer cannot be reached")?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => exchange(stream, request).await,
            Some(config) => {
                let name = ServerName::IpAddress(self.address.ip().into());
                exchange(TlsConnector::from(Arc::clone(config)).connect(name, stream).await?, request).await
            }
        }
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let answer = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        anyhow::Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
    }
    .await;
    connection.abort();
    answer
}

/// The peers by name.
#[derive(Debug, Default)]
pub(super) struct Routes(Mutex<HashMap<String, Peer>>);

impl Routes {
    pub(super) fn add(&self, name: &str, peer: Peer) {
        lock(&self.0).insert(name.to_ascii_lowercase(), peer);
    }

    /// The peer for `host:port`: that of the name with its port, of the name,
    /// or of the nearest domain above it.
    pub(super) fn find(&self, authority: &str) -> Option<Peer> {
        let authority = authority.to_ascii_lowercase();
        let routes = lock(&self.0);
        let mut name = host_of(&authority);
        if let Some(peer) = routes.get(&authority).or_else(|| routes.get(name)) {
            return Some(peer.clone());
        }
        while let Some((_, above)) = name.split_once('.') {
            if let Some(peer) = routes.get(&format!("*.{above}")) {
                return Some(peer.clone());
            }
            name = above;
        }
        None
    }
}

/// Without its port.
pub(super) fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}
