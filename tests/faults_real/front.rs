//! Stands between one run's operator and the API server: counts its writes, and
//! makes those go wrong that are to.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use anyhow::{Context, bail};
use botsecret_testbed::Cluster;
use http_body_util::BodyExt as _;
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
    http::request::Parts,
};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::{
    fault::{Fault, Planned, Point},
    mutants::Mutate,
    operators::{Order, Orders},
    support::{
        Result,
        upstream::{Body, Listener, Upstream, refusal},
    },
};

/// A write of the operator.
#[derive(Clone, Debug)]
pub struct Write {
    pub point: Point,
    /// What the API server answered, where it was asked.
    pub code: Option<u16>,
}

/// A write that is still on its way.
struct Late {
    head: Parts,
    body: Bytes,
    point: Point,
    /// In which step of the script it was sent.
    step: usize,
}

#[derive(Default)]
struct State {
    planned: Vec<Planned>,
    writes: Vec<Write>,
    fired: usize,
    step: usize,
    late: Vec<Late>,
    wrong: Vec<String>,
}

struct Shared {
    upstream: Upstream,
    orders: Orders,
    mutate: Option<Mutate>,
    state: Mutex<State>,
}

/// The front of one run.
pub struct Front {
    shared: Arc<Shared>,
    listener: Listener,
}

impl Front {
    pub async fn start(
        cluster: &Cluster,
        user: &str,
        folder: &Path,
        planned: &[Planned],
        mutate: Option<Mutate>,
        orders: Orders,
    ) -> Result<Self> {
        let state = State { planned: planned.to_vec(), ..State::default() };
        let upstream = Upstream::new(cluster, user)?;
        let shared = Arc::new(Shared { upstream, orders, mutate, state: Mutex::new(state) });
        let known = shared.clone();
        let listener = Listener::start(folder, move |request| known.clone().answer(request)).await?;
        Ok(Self { shared, listener })
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.listener.kubeconfig()
    }

    pub fn writes(&self) -> Vec<Write> {
        self.shared.with(|state| state.writes.clone())
    }

    /// How many of the planned faults were met.
    pub fn fired(&self) -> usize {
        self.shared.with(|state| state.fired)
    }

    pub fn wrong(&self) -> Vec<String> {
        self.shared.with(|state| state.wrong.clone())
    }

    /// The next step of the script begins.
    pub fn step(&self) {
        self.shared.with(|state| state.step += 1);
    }

    /// What was on its way since before this step arrives; at the end, all of it.
    pub async fn let_late_arrive(&self, end: bool) -> Result {
        let late = self.shared.with(|state| {
            let step = state.step;
            state.late.extract_if(.., |late| end || late.step < step).collect::<Vec<_>>()
        });
        for Late { head, body, point, .. } in late {
            let code = self.shared.upstream.send(&head, body).await?.status();
            // A token or an event too many harms nobody. All else was given up
            // and done anew by another process: it is to be refused.
            let harmless = point.is_event() || point.write.ends_with("/token");
            if code.is_success() && !harmless {
                self.shared.with(|state| state.wrong.push(format!("P3: {point} took effect though it came late")));
            }
        }
        Ok(())
    }
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().expect("nobody panics with it"))
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let Some(write) = write_of(&head, &body) else { return self.upstream.send(&head, body).await };
        let body = match self.mutate {
            Some(mutate) => mutated(mutate, &write, &body),
            None => body,
        };
        let (point, index, fault) = self.meet(write);
        match fault {
            None => self.pass(&head, body, index).await,
            Some(Fault::CrashBefore) => self.crash().await,
            Some(Fault::CrashAfter) => {
                self.pass_unheard(&head, body, index).await?;
                self.crash().await
            }
            Some(Fault::Late) => {
                self.with(|state| {
                    let step = state.step;
                    state.late.push(Late { head, body, point, step });
                });
                self.crash().await
            }
            Some(Fault::HandOver) => {
                let (sent, signal) = oneshot::channel();
                self.orders.send(Order::HandOver(sent)).ok().context("nobody takes orders")?;
                signal.await.context("no signal was sent")?;
                self.pass(&head, body, index).await
            }
            Some(Fault::ReplyLost) => {
                self.pass_unheard(&head, body, index).await?;
                bail!("the reply is lost")
            }
            Some(Fault::Reset) => bail!("the connection is reset"),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::HangAfter) => {
                self.pass_unheard(&head, body, index).await?;
                std::future::pending().await
            }
            Some(Fault::Status(code)) => Ok(refusal(code)),
        }
    }

    /// Counts a write; says where it lies, and what is to go wrong with it.
    fn meet(&self, write: String) -> (Point, usize, Option<Fault>) {
        self.with(|state| {
            let number = state.writes.iter().filter(|one| one.point.write == write).count() + 1;
            let point = Point { write, number };
            state.writes.push(Write { point: point.clone(), code: None });
            let fault = state.planned.iter().find(|planned| planned.point == point).map(|planned| planned.fault);
            state.fired += usize::from(fault.is_some());
            (point, state.writes.len() - 1, fault)
        })
    }

    async fn pass(&self, head: &Parts, body: Bytes, index: usize) -> Result<Response<Body>> {
        let reply = self.upstream.send(head, body).await?;
        self.with(|state| state.writes[index].code = Some(reply.status().as_u16()));
        Ok(reply)
    }

    /// Passes it on, and keeps the answer.
    async fn pass_unheard(&self, head: &Parts, body: Bytes, index: usize) -> Result {
        self.pass(head, body, index).await?.into_body().collect().await?;
        Ok(())
    }

    /// Nothing is answered: this ends with the connection, and that with the
    /// process.
    async fn crash<T>(&self) -> Result<T> {
        self.orders.send(Order::Kill).ok().context("nobody takes orders")?;
        std::future::pending().await
    }
}

/// What a request writes, such as `update/secrets/price-bot`. Leases tell only
/// who leads, and are renewed all the time.
fn write_of(head: &Parts, body: &Bytes) -> Option<String> {
    let verb = BTreeMap::from([("POST", "create"), ("PUT", "update"), ("PATCH", "patch"), ("DELETE", "delete")]);
    let verb = verb.get(head.method.as_str())?;
    let path = head.uri.path().split_once("/namespaces/").map_or(head.uri.path(), |(_, rest)| rest);
    // After the namespace: resource, name, subresource.
    let mut parts: Vec<_> = path.split('/').skip(1).map(str::to_owned).collect();
    match parts.first().map(String::as_str) {
        Some("leases") => return None,
        // Named by the moment.
        Some("events") => parts.truncate(1),
        _ if parts.len() == 1 && head.method == Method::POST => {
            let object: Value = serde_json::from_slice(body).unwrap_or_default();
            parts.extend(object["metadata"]["name"].as_str().map(str::to_owned));
        }
        _ => {}
    }
    Some(format!("{verb}/{}", parts.join("/")))
}

fn mutated(mutate: Mutate, write: &str, body: &Bytes) -> Bytes {
    let Ok(mut object) = serde_json::from_slice(body) else { return body.clone() };
    mutate(write, &mut object);
    object.to_string().into()
}
