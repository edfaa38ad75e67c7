//! A proxy before the API server that makes one request go wrong on purpose.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context;
use botsecret_testbed::Cluster;
use http_body_util::BodyExt;
use hyper::{Method, Request, Response, body::Incoming};
use serde_json::Value;
use tokio::sync::watch;

use super::{
    Result,
    upstream::{Body, Listener, Upstream, refusal},
};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is held, and never reaches the API server.
    HoldRequest,
    /// It is held until [`Trap::let_go`].
    Delay,
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
    freed: watch::Receiver<bool>,
    answered: watch::Sender<Option<u16>>,
}

#[derive(Default)]
struct Shared {
    rules: Mutex<Vec<Rule>>,
    token_lives: Mutex<Vec<(String, i64)>>,
}

/// A trap for the next request of one kind.
pub struct Trap {
    caught: watch::Receiver<bool>,
    free: watch::Sender<bool>,
    answered: watch::Receiver<Option<u16>>,
}

impl Trap {
    /// Waits until the request was caught (and, where the fault lets it, has
    /// taken effect).
    pub async fn caught(&self) -> Result {
        let mut caught = self.caught.clone();
        tokio::time::timeout(Duration::from_secs(60), caught.wait_for(|caught| *caught))
            .await
            .context("no such request came")??;
        Ok(())
    }

    /// Sends what was delayed on its way. What the API server answers to it.
    pub async fn let_go(mut self) -> Result<u16> {
        self.free.send_replace(true);
        let answered = tokio::time::timeout(Duration::from_secs(60), self.answered.wait_for(Option::is_some));
        answered.await.context("no answer came")??.context("no answer")
    }
}

/// A running proxy.
pub struct Proxy {
    shared: Arc<Shared>,
    listener: Listener,
}

impl Proxy {
    /// Starts one for this user; its kubeconfig lies in `folder`.
    pub async fn start(cluster: &Cluster, user: &str, folder: &std::path::Path) -> Result<Self> {
        let shared = Arc::<Shared>::default();
        let gate = Arc::new(Gate { upstream: Upstream::new(cluster, user)?, shared: shared.clone() });
        let listener = Listener::start(folder, move |request| gate.clone().serve(request)).await?;
        Ok(Self { shared, listener })
    }

    /// The operator's way to it.
    pub fn kubeconfig(&self) -> PathBuf {
        self.listener.kubeconfig()
    }

    /// The audience and the seconds of each TokenRequest so far.
    pub fn token_lives(&self) -> Vec<(String, i64)> {
        self.shared.token_lives.lock().unwrap().clone()
    }

    /// Makes the next request of this method whose path ends so go wrong, once.
    pub fn next(&self, method: &str, path_end: &str, fault: Fault) -> Trap {
        let (caught, trapped) = watch::channel(false);
        let (free, freed) = watch::channel(false);
        let (answered, answer) = watch::channel(None);
        let method = method.parse().unwrap();
        let rule = Rule { method, path_end: path_end.to_owned(), fault, caught, freed, answered };
        self.shared.rules.lock().unwrap().push(rule);
        Trap { caught: trapped, free, answered: answer }
    }
}

struct Gate {
    upstream: Upstream,
    shared: Arc<Shared>,
}

impl Gate {
    async fn serve(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>> {
        let rule = {
            let mut rules = self.shared.rules.lock().unwrap();
            let matches =
                |rule: &Rule| rule.method == request.method() && request.uri().path().ends_with(&rule.path_end);
            rules.iter().position(matches).map(|index| rules.remove(index))
        };
        let Some(mut rule) = rule else { return self.forward(request).await };
        match rule.fault {
            Fault::HoldRequest => {
                rule.caught.send_replace(true);
                std::future::pending().await
            }
            Fault::Delay => {
                // All of it is here before its sender is stopped.
                let (head, body) = request.into_parts();
                let body = BodyExt::collect(body).await?.to_bytes();
                rule.caught.send_replace(true);
                rule.freed.wait_for(|freed| *freed).await?;
                let reply = self.upstream.send(&head, body).await?;
                rule.answered.send_replace(Some(reply.status().as_u16()));
                Ok(reply)
            }
            Fault::Refuse(code) => {
                rule.caught.send_replace(true);
                Ok(refusal(code))
            }
            Fault::HoldReply | Fault::LoseReply | Fault::RefuseAfterwards(_) => {
                let reply = self.forward(request).await?;
                if !reply.status().is_success() {
                    // It took no effect, as a patch of what has changed meanwhile. Its
                    // sender tries again, and the trap is there for that.
                    self.shared.rules.lock().unwrap().push(rule);
                    return Ok(reply);
                }
                BodyExt::collect(reply.into_body()).await?;
                rule.caught.send_replace(true);
                match rule.fault {
                    Fault::HoldReply => std::future::pending().await,
                    Fault::RefuseAfterwards(code) => Ok(refusal(code)),
                    _ => anyhow::bail!("the reply is lost"),
                }
            }
        }
    }

    async fn forward(&self, request: Request<Incoming>) -> Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let body = BodyExt::collect(body).await?.to_bytes();
        if head.uri.path().ends_with("/token") {
            let spec = serde_json::from_slice::<Value>(&body)?["spec"].take();
            let audience = spec["audiences"][0].as_str().unwrap_or_default().to_owned();
            let seconds = spec["expirationSeconds"].as_i64().unwrap_or_default();
            self.shared.token_lives.lock().unwrap().push((audience, seconds));
        }
        self.upstream.send(&head, body).await
    }
}
