//! A proxy before the API server that makes one request go wrong on purpose.
//! It speaks plain HTTP to the operator and shows the API server the operator's
//! own certificate.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context;
use botsecret_testbed::Cluster;
use futures::{StreamExt, stream::BoxStream};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use super::Result;

type Body = StreamBody<BoxStream<'static, std::io::Result<Frame<Bytes>>>>;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is held, and never reaches the API server.
    HoldRequest,
    /// It takes effect; the answer is held for ever.
    HoldReply,
    /// It takes effect; the connection ends instead of an answer.
    LoseReply,
    /// It never reaches the API server; this status is answered.
    Refuse(u16),
    /// It takes effect; this status is answered.
    RefuseAfterwards(u16),
}

struct Rule {
    method: Method,
    path_end: String,
    fault: Fault,
    caught: watch::Sender<bool>,
}

#[derive(Default)]
struct Shared {
    rules: Mutex<Vec<Rule>>,
    token_lives: Mutex<Vec<(String, i64)>>,
}

/// A trap for the next request of one kind.
pub struct Trap(watch::Receiver<bool>);

impl Trap {
    /// Waits until the request was caught (and, where the fault lets it, has
    /// taken effect).
    pub async fn caught(mut self) -> Result {
        tokio::time::timeout(Duration::from_secs(60), self.0.wait_for(|caught| *caught))
            .await
            .context("no such request came")??;
        Ok(())
    }
}

/// A running proxy.
pub struct Proxy {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
    kubeconfig: PathBuf,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Starts one for this user; its kubeconfig lies in `folder`.
    pub async fn start(cluster: &Cluster, user: &str, folder: &std::path::Path) -> Result<Self> {
        let ca = reqwest::Certificate::from_pem(cluster.ca_pem().as_bytes())?;
        let builder = || reqwest::Client::builder().tls_certs_only([ca.clone()]);
        // A request with a token of its own must not come with a certificate:
        // that would count first.
        let plain = builder().build()?;
        let certified = builder().identity(identity(cluster, user)?).build()?;
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
        let shared = Arc::<Shared>::default();
        let upstream = Arc::new(Upstream { url: cluster.url().to_owned(), plain, certified, shared: shared.clone() });
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let upstream = upstream.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| upstream.clone().serve(request));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Ok(Self { shared, task, kubeconfig })
    }

    /// The operator's way to it.
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig.clone()
    }

    /// The audience and the seconds of each TokenRequest so far.
    pub fn token_lives(&self) -> Vec<(String, i64)> {
        self.shared.token_lives.lock().unwrap().clone()
    }

    /// Makes the next request of this method whose path ends so go wrong, once.
    pub fn next(&self, method: &str, path_end: &str, fault: Fault) -> Trap {
        let (caught, trap) = watch::channel(false);
        let method = method.parse().unwrap();
        self.shared.rules.lock().unwrap().push(Rule { method, path_end: path_end.to_owned(), fault, caught });
        Trap(trap)
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

struct Upstream {
    url: String,
    plain: reqwest::Client,
    certified: reqwest::Client,
    shared: Arc<Shared>,
}

impl Upstream {
    async fn serve(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>> {
        let rule = {
            let mut rules = self.shared.rules.lock().unwrap();
            let matches =
                |rule: &Rule| rule.method == request.method() && request.uri().path().ends_with(&rule.path_end);
            rules.iter().position(matches).map(|index| rules.remove(index))
        };
        let Some(Rule { fault, caught, .. }) = rule else { return self.forward(request).await };
        match fault {
            Fault::HoldRequest => {
                caught.send_replace(true);
                std::future::pending().await
            }
            Fault::Refuse(code) => {
                caught.send_replace(true);
                Ok(refusal(code))
            }
            Fault::HoldReply | Fault::LoseReply | Fault::RefuseAfterwards(_) => {
                let reply = self.forward(request).await?;
                let code = reply.status();
                BodyExt::collect(reply.into_body()).await?;
                anyhow::ensure!(code.is_success(), "it took no effect: {code}");
                caught.send_replace(true);
                match fault {
                    Fault::HoldReply => std::future::pending().await,
                    Fault::RefuseAfterwards(code) => Ok(refusal(code)),
                    _ => anyhow::bail!("the reply is lost"),
                }
            }
        }
    }

    async fn forward(&self, request: Request<Incoming>) -> Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let client = if head.headers.contains_key("authorization") { &self.plain } else { &self.certified };
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut headers = head.headers;
        for name in ["host", "connection", "transfer-encoding", "content-length"] {
            headers.remove(name);
        }
        let body = BodyExt::collect(body).await?.to_bytes();
        if head.uri.path().ends_with("/token") {
            let spec = serde_json::from_slice::<Value>(&body)?["spec"].take();
            let audience = spec["audiences"][0].as_str().unwrap_or_default().to_owned();
            let seconds = spec["expirationSeconds"].as_i64().unwrap_or_default();
            self.shared.token_lives.lock().unwrap().push((audience, seconds));
        }
        let reply =
            client.request(head.method, format!("{}{path}", self.url)).headers(headers).body(body).send().await?;
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

fn refusal(code: u16) -> Response<Body> {
    let reason = if code == 409 { "Conflict" } else { "InternalError" };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
        "message": "refused by the test",
    });
    let bytes = Bytes::from(status.to_string());
    let body = StreamBody::new(futures::stream::iter([Ok(Frame::data(bytes))]).boxed());
    Response::builder().status(code).header("content-type", "application/json").body(body).unwrap()
}
