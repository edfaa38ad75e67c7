//! What the operator remembers of a BotSecret between passes. Nothing that
//! correctness needs: a restart forgets it and reads again.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::{Renewal, RotationNotes};
use crate::{
    leases::Holdings,
    report::{Outcome, Problem},
    rollout::Requirement,
};

/// Within this time …
const REPAIR_WINDOW: Duration = Duration::from_secs(300);
/// … so many repairs of one Secret mean that somebody else keeps writing it.
const CONTESTED_AFTER: usize = 5;

/// Notes on one BotSecret.
#[derive(Debug, Default)]
pub struct Memory {
    /// Something changed that makes a read due, since then.
    pub wanted_since: Option<Instant>,
    /// When the next read is due: the next tick, or the end of a back-off.
    pub next_read: Option<Instant>,
    /// When the values were last read, all of them.
    pub last_success: Option<Instant>,
    /// The time of day at which they were, and the Secret held them.
    pub synced_at: Option<k8s_openapi::jiff::Timestamp>,
    /// When the first of them is to be had anew, because it ends.
    pub renewal: Option<Renewal>,
    /// The generation that was last read for.
    pub read_generation: Option<i64>,
    /// Failures in a row.
    pub failures: u32,
    /// When the last of them was, unless the manager asked for patience.
    pub failed_at: Option<Instant>,
    /// The stores of the last failure, if it was an outage: when one of them
    /// works again, this object is tried at once.
    pub waits_for: Option<String>,
    /// Since when the values have been out of reach.
    pub failing_since: Option<Instant>,
    /// Times at which somebody else's change was undone.
    pub repairs: Repairs,
    /// Remote versions older than the applied ones, and when each was first
    /// seen. Eventually consistent managers answer so for a while.
    pub older_seen: HashMap<String, (u64, Instant)>,
    /// Since when all remote secrets have been missing.
    pub missing_since: Option<Instant>,
    /// The UID of the BotSecret that these notes are about: one of the same
    /// name that was made anew is another.
    pub uid: Option<String>,
    /// Workloads, by UID, that were found to need no rollout, and for what.
    pub found_current: HashMap<String, Requirement>,
    /// When these are looked at once more, since a kubelet may tell late of what it
    /// started.
    pub found_again: Option<k8s_openapi::jiff::Timestamp>,
    /// The versions of workloads, by UID, at which they were last looked at.
    pub looked_at: HashMap<String, String>,
    /// When to look at the rollout again.
    pub next_look: Option<Instant>,
    /// When to look again for workloads that the spec names and that are not
    /// there, however often others are looked at.
    pub next_search: Option<Instant>,
    /// Looks at one rollout in a row, for their back-off.
    pub looks: u32,
    /// The last failure of a row of them.
    pub problem: Option<Problem>,
    /// What the status does not say yet because it could not be written, and
    /// the generation that it is about.
    pub unreported: Option<(Option<i64>, Box<Outcome>)>,
    /// How often in a row the status could not be written.
    pub unwritten: u32,
    /// The trial of a new value.
    pub candidate: CandidateNotes,
    /// When the first of the values before, which lie beside the new ones, is over.
    pub overlap_ends: Option<Instant>,
    /// Whether one of them may go.
    pub overlap_over: bool,
    /// Taking back a value on which a workload failed.
    pub back: BackNotes,
    /// The Secret that is left, empty, for the next value before. Not known after a
    /// restart.
    pub room: Option<String>,
    /// Credentials that were issued for it.
    pub leases: Holdings,
    /// How old its values are and which are rotated, where the spec asks.
    pub rotation: Option<Box<RotationNotes>>,
}

/// Notes on a new value that is tried before it is written.
#[derive(Debug, Default)]
pub struct CandidateNotes {
    /// Looks at it in a row, for their back-off.
    pub looks: u32,
    /// Whether nothing is left of the last trial. Not known after a restart.
    pub is_clean: bool,
}

/// Notes on a value that is to be taken back.
#[derive(Debug, Default)]
pub struct BackNotes {
    /// Whether this process has looked at the objects themselves.
    pub looked: bool,
    /// Looks in a row, for their back-off.
    pub looks: u32,
    /// When to look again whether the value before is good.
    pub again: Option<Instant>,
    /// Whether a Job is trying it.
    pub is_tried: bool,
    /// What holds it up.
    pub why: Option<String>,
    /// Why it cannot be done.
    pub refused: Option<Box<Refused>>,
}

/// Why a value cannot be taken back.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// The value's revision.
    pub revision: String,
    /// Under which generation of the spec: an edit is tried anew.
    pub generation: Option<i64>,
    /// Why.
    pub why: String,
}

/// Recent repairs of a Secret.
#[derive(Debug, Default)]
pub struct Repairs(VecDeque<Instant>);

impl Repairs {
    /// Notes a repair.
    pub fn note(&mut self, now: Instant) {
        self.0.push_back(now);
        while self.0.len() > CONTESTED_AFTER {
            self.0.pop_front();
        }
    }

    /// Until when repairs are put off, because they were undone again and
    /// again.
    #[must_use]
    pub fn contested_until(&self, now: Instant) -> Option<Instant> {
        let oldest = self.0.front().filter(|_| self.0.len() >= CONTESTED_AFTER)?;
        let until = *oldest + REPAIR_WINDOW;
        (until > now).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::Repairs;
    use std::time::Duration;
    use tokio::time::Instant;

    #[test]
    fn p6_a_secret_that_is_rewritten_again_and_again_is_contested_for_a_while() {
        let (mut repairs, start) = (Repairs::default(), Instant::now());
        for second in 0..4 {
            repairs.note(start + Duration::from_secs(second));
        }
        assert_eq!(repairs.contested_until(start + Duration::from_secs(4)), None);
        repairs.note(start + Duration::from_secs(5));
        assert_eq!(repairs.contested_until(start + Duration::from_secs(6)), Some(start + Duration::from_secs(300)));
        assert_eq!(repairs.contested_until(start + Duration::from_secs(301)), None);
    }
}
