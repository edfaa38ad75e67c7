//! Who asked which manager for what, why, and what came of it. Never a value.
//!
//! Each call of a manager that ends is one typed event. A line of the audit log and
//! the counters of what is out of the ordinary are made of it.

mod anomalies;
mod asker;
mod event;
mod latest;
mod log;

use std::sync::{Mutex, OnceLock, PoisonError};

use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use self::anomalies::Anomalies;

pub(crate) use asker::{Asker, asking, because};
pub(crate) use event::{Event, Remote, Request, StoreName};

pub use anomalies::Totals;
pub use asker::Why;
pub use event::Kind;
pub use log::{AuditLog, Destination};

/// Takes the events in.
#[derive(Debug, Default)]
pub(crate) struct Auditor {
    log: OnceLock<AuditLog>,
    anomalies: Mutex<Anomalies>,
}

impl Auditor {
    /// Lines go there from now on. The first log stays.
    pub(crate) fn write_to(&self, log: AuditLog) {
        let _ = self.log.set(log);
    }

    /// A call of a manager has ended.
    pub(crate) fn note(&self, event: &Event<'_>) {
        // Nothing in there panics; should it, the counts are still whole.
        let mut anomalies = self.anomalies.lock().unwrap_or_else(PoisonError::into_inner);
        let found = anomalies.note(event, Instant::now());
        drop(anomalies);
        if let Some(log) = self.log.get() {
            log.write(event.line(Timestamp::now(), &found));
        }
    }

    /// What was out of the ordinary so far.
    pub(crate) fn totals(&self) -> Totals {
        self.anomalies.lock().unwrap_or_else(PoisonError::into_inner).totals()
    }

    /// Lines that could not be written so far.
    pub(crate) fn lost(&self) -> u64 {
        self.log.get().map_or(0, AuditLog::lost)
    }
}
