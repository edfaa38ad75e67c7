//! Whether a manager is worth asking: after several failures in a row, all but
//! a probe now and then are refused for a while, so that a dead manager holds
//! no queue. And whether it wants to be left alone. Pure: the time is given.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::stores::{ErrorClass, StoreError};

/// So many in a row, with no answer of any kind between them.
const TRIPS_AFTER: usize = 5;
/// So many who were not answered can have no reason of their own in common.
const SEVERAL: usize = 3;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// What a request has shown about the manager.
pub(super) enum Evidence {
    /// It answered, be it with a refusal.
    Alive,
    /// It did not answer, or only that it cannot work.
    Outage(StoreError),
    /// It answered, and asks for patience.
    Throttled(StoreError),
    /// Nothing: no request was made, or it was given up.
    None,
}

impl Evidence {
    pub(super) fn of(error: &StoreError) -> Self {
        match error.class {
            // One secret that always fails must not shut out all the others.
            ErrorClass::Unavailable | ErrorClass::Timeout if error.about_one => Self::None,
            ErrorClass::Unavailable | ErrorClass::Timeout => Self::Outage(error.clone()),
            ErrorClass::Throttled => Self::Throttled(error.clone()),
            _ => Self::Alive,
        }
    }
}

/// Who asks: one identity at one store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Party {
    /// Whose it is: the ServiceAccount's namespace, or the store where its own
    /// credentials serve everyone.
    pub(super) tenant: String,
    /// The store's UID.
    pub(super) store: String,
    /// The ServiceAccount's UID, if it is one's.
    pub(super) account: Option<String>,
    /// The role that it logs in to.
    pub(super) role: String,
}

/// Failures since the last answer.
#[derive(Default)]
struct Run {
    failures: usize,
    /// Those of them where no connection could be made.
    unconnected: usize,
    parties: HashSet<Arc<Party>>,
}

/// Whether failures in a row show that all who ask would fail. No connection is
/// the same for everyone. An answer that does not come, or that comes from
/// whatever stands before the manager, may be one identity's, one namespace's
/// or one path's alone, unless several have met with it.
fn is_everyones(failures: usize, unconnected: usize, parties: usize, several: usize) -> bool {
    unconnected >= TRIPS_AFTER || (failures >= TRIPS_AFTER && parties >= several)
}

/// A door: one party's own, or that of all who go one way.
pub(super) struct Breaker {
    /// How many parties must fail.
    several: usize,
    run: Run,
    closed: Option<Closed>,
}

/// The door is closed: this answer is given to those who are not let through.
struct Closed {
    until: Instant,
    pause: Duration,
    /// The tenants that have a probe under way; `None`: the one of all.
    probing: HashSet<Option<String>>,
    because: StoreError,
}

impl Closed {
    /// Tenants probe side by side, so that one whose probes hang holds up no
    /// other. Where there is no connection, one probe speaks for everyone.
    fn probe_of(&self, party: &Party) -> Option<String> {
        (!self.because.unconnected).then(|| party.tenant.clone())
    }
}

impl Breaker {
    /// Of one party alone.
    pub(super) fn of_one() -> Self {
        Self::tripped_by(1)
    }

    /// Of all who go one way.
    pub(super) fn of_all() -> Self {
        Self::tripped_by(SEVERAL)
    }

    fn tripped_by(several: usize) -> Self {
        Self { several, run: Run::default(), closed: None }
    }

    /// Lets a request through, or says why not. `true`: it is a probe, and
    /// must be recorded as such.
    pub(super) fn admit(&mut self, now: Instant, party: &Party) -> Result<bool, StoreError> {
        if let Some(refusal) = self.refusal(now, party) {
            return Err(refusal);
        }
        match &mut self.closed {
            Some(closed) => {
                closed.probing.insert(closed.probe_of(party));
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Why nothing of this party's would be let through now. The words are
    /// those of the last failure, so that a status shows one text throughout an
    /// outage.
    pub(super) fn refusal(&self, now: Instant, party: &Party) -> Option<StoreError> {
        let closed = self.closed.as_ref()?;
        // Who has not failed itself need not wait: what holds for those who
        // have may not hold for it, and if it is answered, all are let in.
        let may_try = now >= closed.until || (!closed.because.unconnected && !self.run.parties.contains(party));
        if !may_try {
            Some(closed.because.clone().after(Some(closed.until - now)))
        } else if closed.probing.contains(&closed.probe_of(party)) {
            Some(closed.because.clone().after(Some(FIRST_PAUSE)))
        } else {
            None
        }
    }

    /// Whether something would be forgotten with it.
    pub(super) fn is_closed(&self, now: Instant) -> bool {
        self.closed.as_ref().is_some_and(|closed| now < closed.until)
    }

    /// Others were answered: a probe may follow at once.
    pub(super) fn hurry(&mut self, now: Instant) {
        if let Some(closed) = &mut self.closed {
            closed.until = closed.until.min(now);
        }
    }

    /// Takes note. `true`: the manager has recovered.
    pub(super) fn record(&mut self, now: Instant, probe: bool, party: &Arc<Party>, evidence: &Evidence) -> bool {
        if probe && let Some(closed) = &mut self.closed {
            let probe = closed.probe_of(party);
            closed.probing.remove(&probe);
        }
        match evidence {
            Evidence::None => false,
            Evidence::Outage(error) => {
                self.failed(now, probe, party, error);
                false
            }
            Evidence::Throttled(_) | Evidence::Alive => self.answered(),
        }
    }

    fn answered(&mut self) -> bool {
        self.run = Run::default();
        self.closed.take().is_some()
    }

    fn failed(&mut self, now: Instant, probe: bool, party: &Arc<Party>, because: &StoreError) {
        self.run.failures = self.run.failures.saturating_add(1);
        self.run.unconnected = self.run.unconnected.saturating_add(usize::from(because.unconnected));
        self.run.parties.insert(Arc::clone(party));
        let Run { failures, unconnected, parties } = &self.run;
        match &mut self.closed {
            // The first of those that probed side by side.
            Some(closed) if probe && now >= closed.until => {
                closed.pause = (closed.pause * 2).min(LONGEST_PAUSE);
                closed.until = now + closed.pause;
                // What kind of probe is under way stays as it is.
                if closed.because.unconnected == because.unconnected || closed.probing.is_empty() {
                    closed.because = because.clone();
                }
            }
            None if is_everyones(*failures, *unconnected, parties.len(), self.several) => {
                let until = now + FIRST_PAUSE;
                self.closed =
                    Some(Closed { until, pause: FIRST_PAUSE, probing: HashSet::new(), because: because.clone() });
            }
            // Too few yet, or begun before the door was closed: nothing new.
            _ => {}
        }
    }
}

/// Until when the manager wants no requests.
#[derive(Default)]
pub(super) struct Patience(Option<(Instant, StoreError)>);

impl Patience {
    /// Why nothing would be sent now, in the manager's own words.
    pub(super) fn refusal(&self, now: Instant) -> Option<StoreError> {
        let (until, because) = self.0.as_ref().filter(|(until, _)| now < *until)?;
        Some(because.clone().after(Some(*until - now)))
    }

    /// Takes note of what it asks for. One request's shorter wait does not
    /// end another's longer one.
    pub(super) fn record(&mut self, now: Instant, evidence: &Evidence) {
        let Evidence::Throttled(error) = evidence else { return };
        let Some(until) = error.retry_after.map(|wait| now + wait) else { return };
        if self.0.as_ref().is_none_or(|(known, _)| *known < until) {
            self.0 = Some((until, error.clone()));
        }
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
