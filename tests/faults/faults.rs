//! What goes wrong, and where: a layer between the operator and the API.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    str::FromStr,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use http_body_util::{Either, Full};
use kube::client::Body;
use tower::{BoxError, Service};

use super::{
    clock,
    store::{Actor, Front, Refusal, Request, Store},
    world::Leases,
};

/// For how long caches stay behind, where they do.
const BEHIND: Duration = Duration::from_secs(20);
/// How much later a late request takes effect: beyond the next rotation.
pub const LATE: Duration = Duration::from_secs(210);

/// The same, where it has just been followed by another leader.
const SOON: Duration = Duration::from_secs(3);

/// What happens at a write or a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The operator is killed before the request arrives.
    CrashBefore,
    /// It is killed after the request took effect.
    CrashAfter,
    /// The same, and the caches of its next life are behind: they show the
    /// world as it was before this write.
    CrashStale,
    /// It took effect; the answer never came, the connection broke.
    ReplyLost,
    /// It took effect; the answer is a 504.
    LateTimeout,
    /// It did not take effect; the connection broke.
    Reset,
    /// It did not take effect, and is never answered.
    Hang,
    /// It took effect, and is never answered.
    HangAfter,
    /// It is never answered, and arrives minutes later, as from a process that
    /// was stopped and continued.
    Late,
    /// The leader is stopped in the middle of it, and another takes its place. What
    /// it asked for arrives minutes later.
    Deposed,
    /// The same, while the next leader is at work: who comes first is heard.
    DeposedSoon,
    /// It did not take effect; this is the answer.
    Status(u16),
    /// It takes effect, and every watch is told 410.
    WatchesGone,
    /// It takes effect, but watches show nothing of it, nor of what follows,
    /// for a while.
    WatchesLag,
    /// The same, and then they must list anew: what was in between is never seen.
    WatchesMiss,
}

impl Fault {
    pub const ALL: [Self; 18] = [
        Self::CrashBefore,
        Self::CrashAfter,
        Self::CrashStale,
        Self::ReplyLost,
        Self::LateTimeout,
        Self::Reset,
        Self::Hang,
        Self::HangAfter,
        Self::Late,
        Self::Deposed,
        Self::DeposedSoon,
        Self::Status(409),
        Self::Status(429),
        Self::Status(500),
        Self::Status(503),
        Self::WatchesGone,
        Self::WatchesLag,
        Self::WatchesMiss,
    ];
    /// What can go wrong with a read of the manager.
    pub const OF_READS: [Self; 4] = [Self::CrashBefore, Self::Status(429), Self::Status(503), Self::Hang];
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::CrashBefore => "crash-before",
            Self::CrashAfter => "crash-after",
            Self::CrashStale => "crash-stale",
            Self::ReplyLost => "reply-lost",
            Self::LateTimeout => "late-timeout",
            Self::Reset => "reset",
            Self::Hang => "hang",
            Self::HangAfter => "hang-after",
            Self::Late => "late",
            Self::Deposed => "deposed",
            Self::DeposedSoon => "deposed-soon",
            Self::Status(code) => return write!(formatter, "{code}"),
            Self::WatchesGone => "410",
            Self::WatchesLag => "watches-lag",
            Self::WatchesMiss => "watches-miss",
        };
        formatter.write_str(name)
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|fault| fault.to_string() == text)
            .ok_or_else(|| format!("no fault is called {text}"))
    }
}

/// A place in a run: the n-th write or read of the manager, counted from 1
/// over all lives of the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    Write(usize),
    Read(usize),
}

/// A fault at a point, such as `7:crash-after` or `r3:hang`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Planned {
    pub point: Point,
    pub fault: Fault,
}

impl fmt::Display for Planned {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.point {
            Point::Write(number) => write!(formatter, "{number}:{}", self.fault),
            Point::Read(number) => write!(formatter, "r{number}:{}", self.fault),
        }
    }
}

impl FromStr for Planned {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (point, fault) = text.split_once(':').ok_or("a fault is written as 7:crash-after")?;
        let number = |text: &str| text.parse().map_err(|_| format!("{text} is not a number"));
        let point = match point.strip_prefix('r') {
            Some(read) => Point::Read(number(read)?),
            None => Point::Write(number(point)?),
        };
        Ok(Self { point, fault: fault.parse()? })
    }
}

/// A write or a read, as it was met.
#[derive(Clone, Debug)]
pub struct Met {
    pub label: String,
    pub at: Duration,
}

#[derive(Debug, Default)]
struct State {
    planned: Vec<Planned>,
    /// What was met at its point.
    fired: usize,
    writes: Vec<Met>,
    reads: Vec<Met>,
    /// The revision that the caches of the next life show at first.
    stale: Option<u64>,
    /// When watches are to be told that their place is gone.
    gone_at: Option<Duration>,
    /// Requests that are still to arrive, and as whose.
    late: Vec<(Duration, Request, Actor)>,
}

/// The faults of one run, and what was met on the way.
#[derive(Clone, Debug)]
pub struct Faults {
    state: Arc<Mutex<State>>,
    crashed: tokio::sync::watch::Sender<bool>,
}

impl Faults {
    pub fn new(planned: &[Planned]) -> Self {
        let state = State { planned: planned.to_vec(), ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), crashed: tokio::sync::watch::Sender::new(false) }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().expect("nobody panics with it"))
    }

    /// Kills the operator: nothing of it goes on from here.
    pub async fn crash<T>(&self) -> T {
        self.crashed.send_replace(true);
        std::future::pending().await
    }

    /// Tells of the operator's death.
    pub fn deaths(&self) -> tokio::sync::watch::Receiver<bool> {
        self.crashed.send_replace(false);
        self.crashed.subscribe()
    }

    /// A new life begins: what its caches show at first.
    pub fn begin_life(&self, store: &Store) {
        if let Some(revision) = self.with(|state| state.stale.take()) {
            store.hold_back(revision, BEHIND);
        }
    }

    /// What is due by the clock; answers when the next is.
    pub fn step(&self, store: &Store) -> Option<Duration> {
        let now = clock::elapsed();
        let (gone, late) = self.with(|state| {
            let gone = state.gone_at.take_if(|due| *due <= now).is_some();
            (gone, state.late.extract_if(.., |(due, ..)| *due <= now).collect::<Vec<_>>())
        });
        if gone {
            store.expire_watches();
        }
        for (_, request, by) in late {
            store.respond(&request, by);
        }
        self.with(|state| state.late.iter().map(|(due, ..)| *due).chain(state.gone_at).min())
    }

    pub fn at_read(&self) -> Option<Fault> {
        self.with(|state| {
            state.reads.push(Met { label: "read".to_owned(), at: clock::elapsed() });
            state.fire(Point::Read(state.reads.len()))
        })
    }

    pub fn at_write(&self, label: String) -> Option<Fault> {
        self.with(|state| {
            state.writes.push(Met { label, at: clock::elapsed() });
            state.fire(Point::Write(state.writes.len()))
        })
    }

    fn arrives_in(&self, time: Duration, request: Request, by: Actor) {
        self.with(|state| state.late.push((clock::elapsed() + time, request, by)));
    }

    pub fn writes(&self) -> Vec<Met> {
        self.with(|state| state.writes.clone())
    }

    pub fn reads(&self) -> Vec<Met> {
        self.with(|state| state.reads.clone())
    }

    pub fn fired(&self) -> usize {
        self.with(|state| state.fired)
    }
}

impl State {
    fn fire(&mut self, point: Point) -> Option<Fault> {
        let planned = self.planned.iter().find(|planned| planned.point == point)?;
        self.fired += 1;
        Some(planned.fault)
    }
}

/// Changes what the operator asks for, as a defect of its own would.
pub type Mutate = fn(&mut Request, &Reach);

/// What such a defect can reach beside its own request.
#[derive(Clone)]
pub struct Reach {
    pub store: Store,
    pub leases: Leases,
}

/// The API as the operator sees it.
#[derive(Clone)]
pub struct Faulty {
    store: Store,
    front: Front,
    faults: Faults,
    mutate: Option<(Mutate, Reach)>,
}

type Reply = <Front as Service<hyper::Request<Body>>>::Response;

impl Faulty {
    pub fn new(store: &Store, faults: &Faults, mutate: Option<(Mutate, Reach)>) -> Self {
        Self { store: store.clone(), front: Front::new(store, Actor::Operator), faults: faults.clone(), mutate }
    }

    async fn respond(self, request: hyper::Request<Body>) -> Result<Reply, BoxError> {
        let mut request = match Front::read(request).await? {
            Ok(request) => request,
            Err(refusal) => return Front::reply(&self.store, refusal.into()),
        };
        if let Some((mutate, reach)) = &self.mutate {
            mutate(&mut request, reach);
        }
        if !request.verb.writes() {
            return self.front.answer(&request);
        }
        // Events are named by the moment.
        let label = if request.kind.plural == "events" { "create events".to_owned() } else { request.label() };
        let before = self.store.revision();
        match self.faults.at_write(label) {
            None => self.front.answer(&request),
            Some(Fault::CrashBefore) => self.faults.crash().await,
            Some(Fault::CrashAfter) => {
                let _ = self.front.answer(&request)?;
                self.faults.crash().await
            }
            Some(Fault::CrashStale) => {
                let _ = self.front.answer(&request)?;
                self.faults.with(|state| state.stale = Some(before));
                self.faults.crash().await
            }
            Some(Fault::ReplyLost) => {
                let _ = self.front.answer(&request)?;
                Err("connection closed before message completed".into())
            }
            Some(Fault::LateTimeout) => {
                let _ = self.front.answer(&request)?;
                status(504)
            }
            Some(Fault::Reset) => Err("connection reset by peer".into()),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Late) => {
                self.faults.arrives_in(LATE, request, Actor::Late);
                std::future::pending().await
            }
            Some(Fault::Deposed) => {
                self.faults.arrives_in(LATE, request, Actor::Late);
                self.faults.crash().await
            }
            Some(Fault::DeposedSoon) => {
                self.faults.arrives_in(SOON, request, Actor::Operator);
                self.faults.crash().await
            }
            Some(Fault::HangAfter) => {
                let _ = self.front.answer(&request)?;
                std::future::pending().await
            }
            Some(Fault::Status(code)) => status(code),
            Some(Fault::WatchesGone) => {
                let answer = self.front.answer(&request);
                self.store.expire_watches();
                answer
            }
            Some(fault @ (Fault::WatchesLag | Fault::WatchesMiss)) => {
                self.store.hold_back(before, BEHIND);
                if fault == Fault::WatchesMiss {
                    self.faults.with(|state| state.gone_at = Some(clock::elapsed() + BEHIND));
                }
                self.front.answer(&request)
            }
        }
    }
}

fn status(code: u16) -> Result<Reply, BoxError> {
    let (reason, message) = match code {
        409 => ("Conflict", "Operation cannot be fulfilled: the object has been modified"),
        429 => ("TooManyRequests", "too many requests, please try again later"),
        503 => ("ServiceUnavailable", "the server is currently unable to handle the request"),
        504 => ("Timeout", "the server was unable to return a response in the time allotted"),
        _ => ("InternalError", "an error on the server has prevented the request from succeeding"),
    };
    let body = Refusal::new(code, reason, message).to_status().to_string();
    let reply = hyper::Response::builder().status(code).header("content-type", "application/json");
    let reply = if code == 429 { reply.header("retry-after", "2") } else { reply };
    Ok(reply.body(Either::Left(Full::new(body.into_bytes().into())))?)
}

impl Service<hyper::Request<Body>> for Faulty {
    type Response = Reply;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: hyper::Request<Body>) -> Self::Future {
        Box::pin(self.clone().respond(request))
    }
}
