//! What is out of the ordinary. Pure: the time is given.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{Event, Kind, latest::Latest};
use crate::stores::ErrorClass;

/// So many denials of one identity …
const BURST: usize = 10;
/// … within this time are a burst, which lasts until none comes for as long.
const WINDOW: Duration = Duration::from_secs(600);
/// So many pairs of identity and store are remembered …
const USES: usize = 20_000;
/// … and so many identities that something was denied to.
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
#[derive(Debug)]
pub(super) struct Anomalies {
    /// Which identities have asked which stores.
    uses: Latest<()>,
    denials: Denials,
    totals: Totals,
}

impl Default for Anomalies {
    fn default() -> Self {
        Self { uses: Latest::new(USES), denials: Denials::default(), totals: Totals::default() }
    }
}

impl Anomalies {
    /// What is out of the ordinary about this event.
    pub(super) fn note(&mut self, event: &Event<'_>, now: Instant) -> Vec<Anomaly> {
        let mut found = Vec::new();
        // What was shared counts with the request whose answer it is.
        if !event.request.is_own() {
            return found;
        }
        // An account that is gone has none.
        if let Some(account) = event.account.filter(|account| !account.uid.is_empty()) {
            let ((), is_first) = self.uses.used(&format!("{}/{}", account.uid, event.store.uid));
            if is_first {
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
/// revocations are how it is found out that a login is gone. A request is denied once,
/// however many remote secrets it asked for.
fn is_denial(event: &Event<'_>) -> bool {
    event.failure.is_some_and(ErrorClass::is_denial)
        && !event.retried
        && !event.denied_before
        && !matches!(event.kind, Kind::Renew | Kind::Revoke)
}

/// What was denied to whom of late.
#[derive(Debug)]
struct Denials(Latest<Recent>);

impl Default for Denials {
    fn default() -> Self {
        Self(Latest::new(DENIED))
    }
}

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
        let (recent, _) = self.0.used(account);
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
