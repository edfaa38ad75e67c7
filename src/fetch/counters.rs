//! What was asked of managers, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::stores::ErrorClass;

const CLASSES: [ErrorClass; 9] = [
    ErrorClass::LoginDenied,
    ErrorClass::Denied,
    ErrorClass::Missing,
    ErrorClass::Invalid,
    ErrorClass::Identity,
    ErrorClass::Unavailable,
    ErrorClass::Timeout,
    ErrorClass::Throttled,
    ErrorClass::TooLarge,
];

/// Counts since the start of the process.
#[derive(Debug, Default)]
pub struct FetchCounters {
    pub(super) token_requests: Count,
    pub(super) logins: Count,
    pub(super) reads: Count,
    pub(super) shared_reads: Count,
    pub(super) finds: Count,
    pub(super) shared_finds: Count,
    pub(super) panics: Count,
    errors: [Count; CLASSES.len()],
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

    /// Logins sent.
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

    /// Remote secrets that could not be read, by class of failure.
    pub fn errors(&self) -> impl Iterator<Item = (ErrorClass, u64)> + '_ {
        CLASSES.iter().zip(&self.errors).map(|(class, count)| (*class, count.get()))
    }

    pub(super) fn failed(&self, class: ErrorClass) {
        for (known, count) in CLASSES.iter().zip(&self.errors) {
            if *known == class {
                count.add(1);
            }
        }
    }
}
