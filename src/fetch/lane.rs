//! How a manager may be asked: so many requests at once, first come first
//! served; so many a second; each with a deadline; none while it is dead or
//! wants patience.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

use super::{
    breaker::{Breaker, Evidence, Party, Patience},
    domains::{Door, Traffic},
    interrupted, locked,
    patient::{self, Waiting},
};
use crate::{
    api::Limits,
    stores::{StoreError, Turn, Turns},
};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// The schema's bounds, again: an object may be older than the schema.
const TIMEOUTS: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(120);

/// Requests at a rate, evenly spaced.
pub(super) struct Rate {
    spacing: Duration,
    /// When the next may begin; those who wait have it in their order.
    next: tokio::sync::Mutex<Instant>,
}

/// Where the operator itself was held up, it catches up on so much time and no
/// more: the burst that a manager may see.
const CAUGHT_UP: Duration = Duration::from_millis(100);

impl Rate {
    pub(super) fn of(requests_per_second: Option<u32>) -> Option<Self> {
        let rate = requests_per_second.filter(|rate| *rate > 0)?;
        Some(Self { spacing: Duration::from_secs(1) / rate, next: tokio::sync::Mutex::new(Instant::now()) })
    }

    async fn turn(&self) {
        let mut next = self.next.lock().await;
        sleep_until(*next).await;
        let now = Instant::now();
        let late = now.saturating_duration_since(*next);
        *next = if late > CAUGHT_UP { now } else { *next } + self.spacing;
    }
}

/// What one store says about how hard it may be asked.
pub(super) struct StoreLimits {
    pub(super) deadline: Duration,
    places: Arc<Semaphore>,
    rate: Option<Rate>,
}

impl StoreLimits {
    pub(super) fn new(limits: &Limits) -> Self {
        let asked = limits.timeout.map_or(DEFAULT_TIMEOUT, Into::into);
        Self {
            places: Arc::new(Semaphore::new(limits.in_flight())),
            deadline: asked.clamp(*TIMEOUTS.start(), *TIMEOUTS.end()),
            rate: Rate::of(limits.requests_per_second),
        }
    }
}

/// One party's lane to one quota domain.
pub(super) struct Lane {
    pub(super) limits: Arc<StoreLimits>,
    /// Rate and places, for all who go the same way to it.
    pub(super) traffic: Arc<Traffic>,
    /// Whether it wants to be left alone, for those whom it counts together.
    pub(super) patience: Arc<Mutex<Patience>>,
    /// Whether it is dead, for those who also wait as long for an answer …
    pub(super) door: Arc<Door>,
    /// … and whether it is for this party.
    pub(super) own: Arc<Mutex<Breaker>>,
    pub(super) party: Arc<Party>,
}

/// Leave to log in or to read once. Dropped without [`Pass::done`], it has
/// shown nothing.
pub(super) struct Pass {
    lane: Arc<Lane>,
    probe: Probe,
    evidence: Evidence,
    /// Whether a request of it has had its turn.
    sent: Arc<AtomicBool>,
    _place: OwnedSemaphorePermit,
}

/// Whether a pass finds out if the manager works again, for all or for its
/// party.
#[derive(Clone, Copy)]
struct Probe {
    of_all: bool,
    of_one: bool,
}

/// The login or read that is under way: its lane, and whether it has sent anything.
#[derive(Clone)]
struct Taken {
    lane: Arc<Lane>,
    sent: Arc<AtomicBool>,
}

tokio::task_local! {
    static TAKEN: Taken;
}

impl Lane {
    /// Waits for a place. Refused at once while the manager is taken for dead.
    pub(super) async fn enter(self: &Arc<Self>) -> Result<Pass, StoreError> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        let place = Arc::clone(&self.limits.places).acquire_owned().await.map_err(|_| interrupted())?;
        if let Some(refusal) = locked(&self.patience).refusal(Instant::now()) {
            return Err(refusal);
        }
        let probe = self.admit(Instant::now())?;
        Ok(Pass { lane: Arc::clone(self), probe, evidence: Evidence::None, sent: Arc::default(), _place: place })
    }

    fn admit(&self, now: Instant) -> Result<Probe, StoreError> {
        let (mut door, mut own) = (locked(&self.door.breaker), locked(&self.own));
        // No door may take a probe for under way that another held back.
        if let Some(refusal) = own.refusal(now, &self.party) {
            return Err(refusal);
        }
        let of_all = door.admit(now, &self.party)?;
        let of_one = own.admit(now, &self.party)?;
        Ok(Probe { of_all, of_one })
    }

    fn refusal(&self) -> Option<StoreError> {
        let now = Instant::now();
        let patience = locked(&self.patience).refusal(now);
        let dead = || locked(&self.door.breaker).refusal(now, &self.party);
        patience.or_else(dead).or_else(|| locked(&self.own).refusal(now, &self.party))
    }

    /// Waits until the rates of store and domain allow the next request, and
    /// until the domain has a place for it. Should the manager turn out to be
    /// dead by then, the whole attempt is refused instead of sent after those
    /// that failed.
    async fn turn(&self) -> Turn {
        let waiting = Waiting::begin();
        if let Some(rate) = &self.limits.rate {
            rate.turn().await;
        }
        let place = Arc::clone(&self.traffic.places).acquire_owned().await.ok();
        if let Some(rate) = &self.traffic.rate {
            rate.turn().await;
        }
        if let Some(refusal) = self.refusal()
            && patient::refuse(refusal)
        {
            drop(place);
            return std::future::pending().await;
        }
        drop(waiting);
        place.map(Turn::in_place).unwrap_or_default()
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.door.leave(&self.party.store);
    }
}

/// Turns of whatever is under way: a login's requests are the login's, though
/// the session that it makes is handed the same turns for its reads.
#[async_trait]
impl Turns for Lane {
    async fn next(&self) -> Turn {
        match TAKEN.try_with(Taken::clone) {
            Ok(taken) => {
                let turn = taken.lane.turn().await;
                taken.sent.store(true, Ordering::Relaxed);
                turn
            }
            Err(_) => self.turn().await,
        }
    }
}

impl Pass {
    /// The answer, or an error once the store's deadline has passed.
    pub(super) async fn within<T>(&self, request: impl Future<Output = T>) -> Result<T, StoreError> {
        let Probe { of_all, of_one } = self.probe;
        let taken = Taken { lane: Arc::clone(&self.lane), sent: Arc::clone(&self.sent) };
        let request = TAKEN.scope(taken, request);
        patient::within(self.lane.limits.deadline, of_all || of_one, request).await
    }

    /// Whether the manager was asked at all. Each request takes a turn; what was refused
    /// in the queue, or needs none (a token that is kept, a login that is the token
    /// itself), takes none.
    pub(super) fn was_sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }

    /// The request is over and has shown this.
    pub(super) fn done(mut self, evidence: Evidence) {
        self.evidence = evidence;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let (now, lane) = (Instant::now(), &self.lane);
        locked(&lane.patience).record(now, &self.evidence);
        let of_all = locked(&lane.door.breaker).record(now, self.probe.of_all, &lane.party, &self.evidence);
        let of_one = locked(&lane.own).record(now, self.probe.of_one, &lane.party, &self.evidence);
        if of_all {
            lane.door.tell_recovered(now);
        } else if of_one {
            lane.door.tell_one_recovered(&lane.party.store);
        }
    }
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
