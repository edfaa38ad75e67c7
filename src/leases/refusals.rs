//! Issues that were refused for good. Each try makes a login, perhaps a
//! credential too, so none is made blindly: only once something changed that
//! bears on it, somebody asks, or an ever longer wait is over. Pure.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::Fingerprint;
use crate::{
    fetch::{ReferredSecrets, ResolvedStore, ServiceAccount},
    plan::Retry,
    report::{Problem, Reason},
};

/// No second try follows sooner.
const SHORTEST: Duration = Duration::from_secs(5);
/// The longest wait where there is no credential yet.
const LONGEST: Duration = Duration::from_secs(300);
/// The same where one is in use, which ends.
const LONGEST_IN_USE: Duration = Duration::from_secs(30);

/// What a try goes by beside the entry: another of these may make it succeed.
#[derive(Clone, Debug, PartialEq)]
pub struct Circumstances {
    store: (String, i64),
    credentials: ReferredSecrets,
    account: ServiceAccount,
}

impl Circumstances {
    /// Of this account at this store.
    #[must_use]
    pub fn of(store: &ResolvedStore, account: &ServiceAccount) -> Self {
        Self {
            store: (store.uid.clone(), store.generation),
            credentials: store.credentials.clone(),
            account: account.clone(),
        }
    }
}

#[derive(Debug)]
struct Refusal {
    circumstances: Circumstances,
    problem: Problem,
    tries: u32,
    until: Instant,
}

/// What was refused, by entry. In memory only: an operator that is started again
/// tries once.
#[derive(Debug, Default)]
pub struct Refusals(BTreeMap<String, Refusal>);

impl Refusals {
    /// What is said of this entry again, instead of trying.
    #[must_use]
    pub fn standing(&self, entry: &Fingerprint, circumstances: &Circumstances, now: Instant) -> Option<&Problem> {
        let refusal = self.0.get(&entry.0).filter(|refusal| refusal.circumstances == *circumstances)?;
        (refusal.until > now).then_some(&refusal.problem)
    }

    /// Notes what came of a try. What passes by itself has a back-off already.
    pub fn note(
        &mut self,
        entry: &Fingerprint,
        circumstances: Circumstances,
        problem: &Problem,
        wait: impl FnOnce(u32) -> Duration,
        now: Instant,
    ) {
        if !is_lasting(problem) {
            return;
        }
        let before = self.0.get(&entry.0).filter(|refusal| refusal.circumstances == circumstances);
        let tries = before.map_or(0, |refusal| refusal.tries.saturating_add(1));
        let refusal = Refusal { circumstances, problem: problem.clone(), tries, until: now + wait(tries) };
        self.0.insert(entry.0.clone(), refusal);
    }

    /// Forgets all but these.
    pub fn keep(&mut self, wanted: impl Fn(&str) -> bool) {
        self.0.retain(|entry, _| wanted(entry));
    }
}

/// Whether somebody must mend something first. A login that was refused is not
/// among it: it makes nothing, and is asked for as often as that of a read.
fn is_lasting(problem: &Problem) -> bool {
    let mended_elsewhere = matches!(
        problem.reason,
        Reason::AccessDenied
            | Reason::InvalidStore
            | Reason::RemoteSecretMissing
            | Reason::TooLarge
            | Reason::OperatorForbidden
    );
    mended_elsewhere && problem.retry == Retry::Slow
}

/// How long to wait after so many tries before this one: from the refresh
/// interval on, twice as long each time.
#[must_use]
pub fn wait(tries: u32, interval: Option<Duration>, in_use: bool) -> Duration {
    let longest = if in_use { LONGEST_IN_USE } else { LONGEST };
    let first = interval.unwrap_or(longest).clamp(SHORTEST, longest);
    first.saturating_mul(1 << tries.min(8)).min(longest)
}

#[cfg(test)]
#[path = "refusals_tests.rs"]
mod tests;
