//! The way from a test's own front to the API server. The front speaks plain HTTP
//! to the operator; the API server is shown the operator's own certificate.

use std::path::{Path, PathBuf};

use anyhow::Context;
use botsecret_testbed::Cluster;
use futures::{StreamExt, stream::BoxStream};
use http_body_util::StreamBody;
use hyper::{
    Request, Response,
    body::{Bytes, Frame, Incoming},
    http::request::Parts,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use super::Result;

/// An answer's body, passed on as it comes.
pub type Body = StreamBody<BoxStream<'static, std::io::Result<Frame<Bytes>>>>;

/// The API server, as one user reaches it.
pub struct Upstream {
    url: String,
    plain: reqwest::Client,
    certified: reqwest::Client,
}

impl Upstream {
    /// The cluster's, by this user's certificate.
    pub fn new(cluster: &Cluster, user: &str) -> Result<Self> {
        let ca = reqwest::Certificate::from_pem(cluster.ca_pem().as_bytes())?;
        let builder = || reqwest::Client::builder().tls_certs_only([ca.clone()]);
        // A request with a token of its own must not come with a certificate:
        // that would count first.
        let plain = builder().build()?;
        let certified = builder().identity(identity(cluster, user)?).build()?;
        Ok(Self { url: cluster.url().to_owned(), plain, certified })
    }

    /// Passes a request on, and its answer back.
    pub async fn send(&self, head: &Parts, body: Bytes) -> Result<Response<Body>> {
        let client = if head.headers.contains_key("authorization") { &self.plain } else { &self.certified };
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut headers = head.headers.clone();
        for name in ["host", "connection", "transfer-encoding", "content-length"] {
            headers.remove(name);
        }
        let url = format!("{}{path}", self.url);
        let reply = client.request(head.method.clone(), url).headers(headers).body(body).send().await?;
        let mut response = Response::builder().status(reply.status());
        for (name, value) in reply.headers() {
            if !["connection", "transfer-encoding", "content-length"].contains(&name.as_str()) {
                response = response.header(name, value);
            }
        }
        let chunks = futures::stream::try_unfold(reply, async |mut reply| {
            let chunk = reply.chunk().await.map_err(std::io::Error::other)?;
            Ok(chunk.map(|chunk| (Frame::data(chunk), reply)))
        });
        Ok(response.body(StreamBody::new(chunks.boxed()))?)
    }
}

fn identity(cluster: &Cluster, user: &str) -> Result<reqwest::Identity> {
    let kubeconfig: Value = serde_json::from_slice(&std::fs::read(cluster.kubeconfig(user, &[])?)?)?;
    let user = &kubeconfig["users"][0]["user"];
    let read = |field: &str| -> Result<Vec<u8>> { Ok(std::fs::read(user[field].as_str().context("no such file")?)?) };
    let mut pem = read("client-certificate")?;
    pem.push(b'\n');
    pem.extend(read("client-key")?);
    Ok(reqwest::Identity::from_pem(&pem)?)
}

/// Where the operator asks; gone when dropped.
pub struct Listener {
    task: JoinHandle<()>,
    kubeconfig: PathBuf,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listener {
    /// Answers each request by this function; where that fails, the connection is
    /// reset. The kubeconfig for it lies in `folder`.
    pub async fn start<F, A>(folder: &Path, answer: F) -> Result<Self>
    where
        F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
        A: Future<Output = Result<Response<Body>>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let kubeconfig = folder.join("proxy-kubeconfig");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": [{ "name": "proxy", "cluster": { "server": url } }],
            "users": [{ "name": "proxy", "user": {} }],
            "contexts": [{ "name": "proxy", "context": { "cluster": "proxy", "user": "proxy" } }],
        });
        std::fs::write(&kubeconfig, text.to_string())?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // What ends without an answer ends with a reset.
                let _ = stream.set_zero_linger();
                let service = service_fn(answer.clone());
                tokio::spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Ok(Self { task, kubeconfig })
    }

    /// The operator's way to it.
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig.clone()
    }
}

/// An answer that the API server never gave.
pub fn refusal(code: u16) -> Response<Body> {
    let reason = match code {
        409 => "Conflict",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
        "message": "refused by the test",
    });
    let bytes = Bytes::from(status.to_string());
    let body = StreamBody::new(futures::stream::iter([Ok(Frame::data(bytes))]).boxed());
    let mut response = Response::builder().status(code).header("content-type", "application/json");
    if code == 429 {
        response = response.header("retry-after", "1");
    }
    response.body(body).unwrap()
}
