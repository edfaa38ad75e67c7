//! What was asked of managers, for metrics.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, histogram::Histogram},
};
use tokio::time::Instant;

use super::lane::Pass;
use crate::{
    audit::{Auditor, Kind, Request, Totals},
    stores::{ErrorClass, StoreError},
};

/// Calls by what was asked, and of which manager.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByCall {
    call: &'static str,
    provider: &'static str,
}

/// How long calls of managers take, their waits for a rate limit included. A series is
/// there from the first call on: there are as many as calls times managers, of which an
/// installation uses few.
pub type CallTimes = Family<ByCall, Histogram, fn() -> Histogram>;

/// From a manager beside the operator to the longest deadline that a store may have.
const SECONDS: [f64; 10] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0];

/// Counts since the start of the process.
#[derive(Debug)]
pub struct FetchCounters {
    pub(super) token_requests: Count,
    pub(super) logins: Count,
    pub(super) reads: Count,
    pub(super) shared_reads: Count,
    pub(super) finds: Count,
    pub(super) shared_finds: Count,
    pub(super) panics: Count,
    errors: [Count; ErrorClass::ALL.len()],
    calls: CallTimes,
    pub(super) audit: Auditor,
}

impl Default for FetchCounters {
    fn default() -> Self {
        Self {
            token_requests: Count::default(),
            logins: Count::default(),
            reads: Count::default(),
            shared_reads: Count::default(),
            finds: Count::default(),
            shared_finds: Count::default(),
            panics: Count::default(),
            errors: Default::default(),
            calls: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            audit: Auditor::default(),
        }
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl FetchCounters {
    /// TokenRequests sent.
    #[must_use]
    pub fn token_requests(&self) -> u64 {
        self.token_requests.get()
    }

    /// Logins that managers were asked for.
    #[must_use]
    pub fn logins(&self) -> u64 {
        self.logins.get()
    }

    /// Remote secrets asked of a manager.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.reads.get()
    }

    /// Remote secrets that a caller got from a read which another began.
    #[must_use]
    pub fn shared_reads(&self) -> u64 {
        self.shared_reads.get()
    }

    /// Searches asked of a manager.
    #[must_use]
    pub fn finds(&self) -> u64 {
        self.finds.get()
    }

    /// Searches whose answer a caller got from one that another began.
    #[must_use]
    pub fn shared_finds(&self) -> u64 {
        self.shared_finds.get()
    }

    /// Backends that panicked.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.panics.get()
    }

    /// What could not be had of a manager, by class of failure.
    pub fn errors(&self) -> impl Iterator<Item = (ErrorClass, u64)> + '_ {
        ErrorClass::ALL.into_iter().zip(&self.errors).map(|(class, count)| (class, count.get()))
    }

    /// How long managers took to answer; of what was cut off, how long it was waited for.
    #[must_use]
    pub fn call_times(&self) -> CallTimes {
        self.calls.clone()
    }

    /// What was out of the ordinary.
    #[must_use]
    pub fn anomalies(&self) -> Totals {
        self.audit.totals()
    }

    /// Lines of the audit log that could not be written.
    #[must_use]
    pub fn audit_events_lost(&self) -> u64 {
        self.audit.lost()
    }

    /// A call of this manager took so long; it is named as a store's spec names it
    /// ([`crate::api::Provider::name`]).
    pub fn called(&self, kind: Kind, provider: &'static str, took: Duration) {
        self.calls.get_or_create(&ByCall { call: kind.name(), provider }).observe(took.as_secs_f64());
    }

    /// Waits for this answer. Where the manager was asked for it, notes how long that took.
    pub(super) async fn timed<T>(
        &self,
        kind: Kind,
        provider: &'static str,
        pass: &Pass,
        answer: impl Future<Output = T>,
    ) -> (Result<T, StoreError>, Request) {
        let asked = Instant::now();
        let answer = pass.within(answer).await;
        if !pass.was_sent() {
            return (answer, Request::None);
        }
        let took = asked.elapsed();
        self.called(kind, provider, took);
        (answer, Request::Own(took))
    }

    pub(super) fn failed(&self, class: ErrorClass) {
        for (known, count) in ErrorClass::ALL.into_iter().zip(&self.errors) {
            if known == class {
                count.add(1);
            }
        }
    }
}
