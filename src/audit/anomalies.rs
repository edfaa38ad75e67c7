//! What is out of the ordinary. Pure: the time is given.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{Event, Kind, Request};
use crate::stores::ErrorClass;

/// So many denials of one identity …
const BURST: usize = 10;
/// … within this time are a burst, which lasts until none comes for as long.
const WINDOW: Duration = Duration::from_secs(600);
/// So many pairs of identity and store are remembered …
const USES: usize = 20_000;
/// … and so many identities before those are forgotten that nothing is denied to.
const DENIED: usize = 10_000;

/// Something out of the ordinary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anomaly {
    /// This identity asks this store for the first time.
    FirstUse,
    /// The denial that makes a burst of those before it.
    DenialBurst,
    /// The operator has no reason to read.
    UnexplainedRead,
}

impl Anomaly {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::FirstUse => "first_use",
            Self::DenialBurst => "denial_burst",
            Self::UnexplainedRead => "unexplained_read",
        }
    }
}

/// How often each was found since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Identities that asked a store for the first time.
    pub first_uses: u64,
    /// Bursts of denials.
    pub denial_bursts: u64,
    /// Reads without a reason.
    pub unexplained_reads: u64,
}

/// What it takes to tell.
#[derive(Debug, Default)]
pub(super) struct Anomalies {
    uses: Uses,
    denials: Denials,
    totals: Totals,
}

impl Anomalies {
    /// What is out of the ordinary about this event.
    pub(super) fn note(&mut self, event: &Event<'_>, now: Instant) -> Vec<Anomaly> {
        let mut found = Vec::new();
        // Each request counts once, however many its answer is for.
        if !matches!(event.request, Request::Own(_)) {
            return found;
        }
        // An account that is gone has none.
        if let Some(account) = event.account.filter(|account| !account.uid.is_empty()) {
            if self.uses.is_first(&account.uid, &event.store.uid) {
                found.push(Anomaly::FirstUse);
                self.totals.first_uses += 1;
            }
            if is_denial(event) && self.denials.makes_burst(&account.uid, now) {
                found.push(Anomaly::DenialBurst);
                self.totals.denial_bursts += 1;
            }
        }
        if event.is_read() && event.asker.why.is_none() {
            found.push(Anomaly::UnexplainedRead);
            self.totals.unexplained_reads += 1;
        }
        found
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals
    }
}

/// What is tried again with a new login was refused to the old one, and renewals and
/// revocations are how it is found out that a login is gone.
fn is_denial(event: &Event<'_>) -> bool {
    matches!(event.failure, Some(ErrorClass::Denied | ErrorClass::LoginDenied))
        && !event.retried
        && !matches!(event.kind, Kind::Renew | Kind::Revoke)
}

/// Which identities have asked which stores.
#[derive(Debug)]
struct Uses {
    known: HashMap<Arc<str>, HashSet<Arc<str>>>,
    order: VecDeque<(Arc<str>, Arc<str>)>,
    most: usize,
}

impl Default for Uses {
    fn default() -> Self {
        Self { known: HashMap::new(), order: VecDeque::new(), most: USES }
    }
}

impl Uses {
    fn is_first(&mut self, account: &str, store: &str) -> bool {
        if self.known.get(account).is_some_and(|stores| stores.contains(store)) {
            return false;
        }
        let (account, store): (Arc<str>, Arc<str>) = (account.into(), store.into());
        self.known.entry(Arc::clone(&account)).or_default().insert(Arc::clone(&store));
        self.order.push_back((account, store));
        if self.order.len() > self.most {
            self.forget_oldest();
        }
        true
    }

    fn forget_oldest(&mut self) {
        let Some((account, store)) = self.order.pop_front() else { return };
        let Some(stores) = self.known.get_mut(&account) else { return };
        stores.remove(&store);
        if stores.is_empty() {
            self.known.remove(&account);
        }
    }
}

/// What was denied to whom of late.
#[derive(Debug, Default)]
struct Denials(HashMap<Arc<str>, Recent>);

#[derive(Debug, Default)]
struct Recent {
    /// The last ones, as many as make a burst.
    times: VecDeque<Instant>,
    /// Whether they belong to a burst that was counted.
    counted: bool,
}

impl Recent {
    fn forget_old(&mut self, now: Instant) {
        while self.times.front().is_some_and(|at| now.saturating_duration_since(*at) >= WINDOW) {
            self.times.pop_front();
        }
        self.counted &= !self.times.is_empty();
    }
}

impl Denials {
    fn makes_burst(&mut self, account: &str, now: Instant) -> bool {
        if self.0.len() >= DENIED {
            self.0.retain(|_, recent| {
                recent.forget_old(now);
                !recent.times.is_empty()
            });
        }
        let recent = self.0.entry(account.into()).or_default();
        recent.forget_old(now);
        recent.times.push_back(now);
        if recent.times.len() > BURST {
            recent.times.pop_front();
        }
        let burst = recent.times.len() == BURST && !recent.counted;
        recent.counted |= burst;
        burst
    }
}

#[cfg(test)]
#[path = "anomalies_tests.rs"]
mod tests;
