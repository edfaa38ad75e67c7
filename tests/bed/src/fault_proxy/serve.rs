//! Connections: plain ones, `CONNECT` with TLS inside, and fronts.

use std::collections::HashMap;
use std::io;
use std::net::TcpStream as Socket;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, stream, stream::BoxStream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::Shared;
use super::faults::{Certificate, FaultKind};
use super::record::{ProxiedRequest, Question};
use super::upstream::{Peer, host_of};
use crate::cluster::lock;
use crate::pki::Authority;

type Body = StreamBody<BoxStream<'static, io::Result<Frame<Bytes>>>>;

/// What a listener is.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    /// An HTTP proxy.
    Proxy,
    /// An https address of its own before this peer.
    Front(Peer),
}

/// Certificates for the names that clients ask for.
pub(super) struct Certificates {
    authority: Authority,
    untrusted: Authority,
    shown: Mutex<Certificate>,
    made: Mutex<HashMap<(String, Certificate), Arc<ServerConfig>>>,
}

impl Certificates {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            authority: Authority::new("testbed fault proxy")?,
            untrusted: Authority::new("nobody's authority")?,
            shown: Mutex::default(),
            made: Mutex::default(),
        })
    }

    pub(super) fn ca_pem(&self) -> &str {
        self.authority.pem()
    }

    /// What connections see from now on.
    pub(super) fn show(&self, certificate: Certificate) {
        *lock(&self.shown) = certificate;
    }

    fn server(&self, name: &str) -> Result<TlsAcceptor> {
        let shown = *lock(&self.shown);
        let mut made = lock(&self.made);
        if let Some(config) = made.get(&(name.to_owned(), shown)) {
            return Ok(Arc::clone(config).into());
        }
        let pair = match shown {
            Certificate::Right => self.authority.server(&[name])?,
            Certificate::UnknownAuthority => self.untrusted.server(&[name])?,
            Certificate::OtherName => self.authority.server(&["elsewhere.test"])?,
            Certificate::Expired => self.authority.expired_server(&[name])?,
        };
        let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes())?;
        let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let config = Arc::new(config);
        made.insert((name.to_owned(), shown), Arc::clone(&config));
        Ok(config.into())
    }
}

/// Serves connections until aborted, and takes them along then.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>, entry: Entry) {
    let mut connections = JoinSet::new();
    let port = listener.local_addr().map(|address| address.port()).unwrap_or_default();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        shared.record.connected();
        let (shared, entry) = (Arc::clone(&shared), entry.clone());
        // Whatever ends a connection, its client is told by its end.
        connections.spawn(async move {
            let _ = connection(stream, shared, entry, port).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>, entry: Entry, port: u16) -> Result<()> {
    ensure!(!shared.closed.load(Ordering::Relaxed), "closed on purpose");
    stream.set_nodelay(true)?;
    // A second handle on the socket, to reset it from inside TLS.
    let stream = stream.into_std()?;
    let socket = stream.try_clone()?;
    let stream = TcpStream::from_std(stream)?;
    let inside = |name: String, peer| Inside { shared: Arc::clone(&shared), name, peer, socket };
    match entry {
        Entry::Front(peer) => {
            let stream = shared.certificates.server("127.0.0.1")?.accept(stream).await?;
            inside(format!("127.0.0.1:{port}"), Some(peer)).serve(stream).await
        }
        Entry::Proxy => {
            let mut first = [0; 8];
            let count = peek(&stream, &mut first).await?;
            if !first[..count].starts_with(b"CONNECT ") {
                return inside(String::new(), None).serve(stream).await;
            }
            let (stream, authority) = tunnel(stream, &shared).await?;
            let peer = shared.routes.find(&authority);
            let stream = shared.certificates.server(host_of(&authority))?.accept(stream).await?;
            inside(authority, peer).serve(stream).await
        }
    }
}

/// The first bytes, without taking them.
async fn peek(stream: &TcpStream, into: &mut [u8]) -> Result<usize> {
    loop {
        let count = stream.peek(into).await?;
        if count == 0 || count == into.len() {
            return Ok(count);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Answers a `CONNECT`; says for where it was. By hand: nothing but one head
/// is said before the tunnel.
async fn tunnel(mut stream: TcpStream, shared: &Shared) -> Result<(TcpStream, String)> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < 8192, "the head of a CONNECT has no end");
        // Byte by byte, so that nothing of what follows is taken.
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head)?;
    let authority = head.split(' ').nth(1).context("a CONNECT names where to")?.to_ascii_lowercase();
    if shared.routes.find(&authority).is_none() {
        stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").await?;
        stream.shutdown().await?;
        anyhow::bail!("no peer is routed for {authority}");
    }
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    Ok((stream, authority))
}

/// A connection whose requests can be read.
struct Inside {
    shared: Arc<Shared>,
    /// `host:port` of the tunnel; empty where each request names its own.
    name: String,
    peer: Option<Peer>,
    socket: Socket,
}

impl Inside {
    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<()> {
        let this = &self;
        let service = service_fn(move |request| this.answer(request));
        hyper::server::conn::http1::Builder::new()
            .preserve_header_case(true)
            .serve_connection(TokioIo::new(stream), service)
            .await?;
        Ok(())
    }

    /// An error ends the connection without an answer.
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>> {
        let (mut head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let authority = if self.name.is_empty() {
            head.uri.authority().map(ToString::to_string).unwrap_or_default().to_ascii_lowercase()
        } else {
            self.name.clone()
        };
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let target = head.headers.get("x-amz-target").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let host = authority.strip_suffix(":443").or_else(|| authority.strip_suffix(":80")).unwrap_or(&authority);
        let line = format!("{} {path} {}", head.method, target.as_deref().unwrap_or_default());
        let place = self.shared.record.asked(ProxiedRequest {
            at: std::time::SystemTime::now(),
            host: host.to_owned(),
            method: head.method.to_string(),
            path: path.clone(),
            target,
            sent: body.len(),
            status: None,
            answered: 0,
        });
        let fault = self.shared.faults.take(&[host, host_of(host), &authority], &line);
        let question = (host.to_owned(), line, body.clone());
        let forward = async {
            let peer = self.peer.clone().or_else(|| self.shared.routes.find(&authority));
            let Some(peer) = peer else { return Ok(plain(StatusCode::BAD_GATEWAY, Bytes::new())) };
            if !head.headers.contains_key(HOST) {
                head.headers.insert(HOST, HeaderValue::from_str(&authority)?);
            }
            head.headers.remove("proxy-connection");
            head.uri = path.parse::<Uri>()?;
            peer.send(Request::from_parts(head, Full::new(body))).await
        };
        let answer = match fault {
            None => self.remembered(question, forward.await?),
            Some(FaultKind::Stale) => match self.shared.record.first_answer(&question) {
                Some(answer) => whole(answer),
                None => self.remembered(question, forward.await?),
            },
            Some(FaultKind::Slow(delay)) => {
                let answer = forward.await?;
                tokio::time::sleep(delay).await;
                whole(answer)
            }
            Some(FaultKind::NoAnswer) => std::future::pending().await,
            Some(FaultKind::Reset) => {
                rustix::net::sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO))?;
                anyhow::bail!("reset on purpose");
            }
            Some(FaultKind::Truncate(most)) => truncated(forward.await?, most),
            Some(FaultKind::Endless) => endless(Duration::from_millis(50), 1),
            Some(FaultKind::Flood) => endless(Duration::ZERO, 64 << 10),
            Some(FaultKind::Status { code, headers, body }) => status(code, headers, body)?,
            Some(FaultKind::Garbage) => {
                let mut page = plain(StatusCode::OK, Bytes::from_static(PAGE));
                page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
                whole(page)
            }
        };
        let length = answer.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        self.shared.record.answered(place, answer.status().as_u16(), length.unwrap_or(0));
        Ok(answer)
    }

    fn remembered(&self, question: Question, answer: Response<Bytes>) -> Response<Body> {
        self.shared.record.keep(question, &answer);
        whole(answer)
    }
}

const PAGE: &[u8] = b"<!DOCTYPE html><html><head><title>It works!</title></head><body><h1>It works!</h1></body></html>";

fn plain(status: StatusCode, body: Bytes) -> Response<Bytes> {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer
}

fn status(code: u16, headers: Vec<(String, String)>, body: Vec<u8>) -> Result<Response<Body>> {
    let mut answer = plain(StatusCode::from_u16(code)?, body.into());
    for (name, value) in headers {
        answer.headers_mut().insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    Ok(whole(answer))
}

fn with_length(
    mut head: http::response::Parts,
    length: usize,
    body: BoxStream<'static, io::Result<Frame<Bytes>>>,
) -> Response<Body> {
    head.headers.remove(TRANSFER_ENCODING);
    head.headers.insert(CONTENT_LENGTH, length.into());
    Response::from_parts(head, StreamBody::new(body))
}

fn whole(answer: Response<Bytes>) -> Response<Body> {
    let (head, body) = answer.into_parts();
    if head.status == StatusCode::NO_CONTENT || head.status == StatusCode::NOT_MODIFIED {
        return Response::from_parts(head, StreamBody::new(stream::empty().boxed()));
    }
    // The answer to a HEAD announces a body that does not come.
    let announced = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let length = if body.is_empty() { announced.unwrap_or(0) } else { body.len() };
    with_length(head, length, stream::iter([Ok(Frame::data(body))]).boxed())
}

/// Announces the whole body and ends before it is there.
fn truncated(answer: Response<Bytes>, most: usize) -> Response<Body> {
    let (head, body) = answer.into_parts();
    let length = body.len().max(1);
    let part = body.slice(..most.min(length - 1));
    let end = async {
        // What was written before must be on its way.
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err(io::Error::other("truncated on purpose"))
    };
    let parts = stream::iter([Ok(Frame::data(part))]).chain(stream::once(end));
    with_length(head, length, parts.boxed())
}

fn endless(pause: Duration, size: usize) -> Response<Body> {
    let begin = stream::iter([Ok(Frame::data(Bytes::from_static(b"{\"data\":\"")))]);
    let chunk = Bytes::from(vec![b'A'; size]);
    let more = stream::unfold((), move |()| {
        let chunk = chunk.clone();
        async move {
            tokio::time::sleep(pause).await;
            Some((Ok(Frame::data(chunk)), ()))
        }
    });
    let mut answer = Response::new(StreamBody::new(begin.chain(more).boxed()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
