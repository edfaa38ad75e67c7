//! Where a credential's values lay, and which pods may hold them.
//!
//! Judged by the record alone, never by what the spec or the Secret are by
//! now: an edit must not take a credential from a job that began with it.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Record;
use crate::{
    api::{LeasedSecret, Revision, marker_annotation},
    rollout::{CLOCKS_APART, PodFacts},
};

/// However long pods hold on to it, a replaced credential goes after this.
const GRACE: SignedDuration = SignedDuration::from_hours(24);
/// With more Secrets than these, where it lay counts as not known.
const MOST: usize = 16;

/// A Secret that holds or held a credential's values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The Secret.
    pub secret: String,
    /// The API server's time of the write that took them out. `None` where they
    /// may lie there still.
    pub replaced: Option<Timestamp>,
    /// Number of the last revision with which they lay there, where an operator
    /// saw that: markers and rollouts beyond it are of what came after.
    pub after: Option<u64>,
}

impl Place {
    /// Where they may lie from now on.
    #[must_use]
    pub fn at(secret: &str) -> Self {
        Self { secret: secret.to_owned(), replaced: None, after: None }
    }

    pub(super) fn to_status(&self) -> LeasedSecret {
        LeasedSecret {
            name: self.secret.clone(),
            replaced: self.replaced.map(|at| at.to_string()),
            after: self.after.map(|number| i64::try_from(number).unwrap_or(i64::MAX)),
        }
    }

    pub(super) fn from_status(status: &LeasedSecret) -> Option<Self> {
        let replaced = match &status.replaced {
            Some(text) => Some(text.parse().ok()?),
            None => None,
        };
        let after = match status.after {
            Some(number) => Some(u64::try_from(number).ok()?),
            None => None,
        };
        Some(Self { secret: status.name.clone(), replaced, after })
    }
}

/// Notes that the values lie in this Secret. Where not every place is on
/// record, as in one of an earlier version, none is.
pub(super) fn found(places: &mut Vec<Place>, secret: &str) {
    if places.is_empty() {
        return;
    }
    if let Some(place) = places.iter_mut().find(|place| place.secret == secret) {
        *place = Place::at(secret);
    } else if places.len() < MOST {
        places.push(Place::at(secret));
    } else {
        places.clear();
    }
}

/// Notes that a write took them out of this Secret.
pub(super) fn taken_out(places: &mut [Place], secret: &str, written: Timestamp, after: Option<u64>) {
    if let Some(place) = places.iter_mut().find(|place| place.secret == secret && place.replaced.is_none()) {
        (place.replaced, place.after) = (Some(written), after);
    }
}

/// What is known of rollouts now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rollouts {
    /// Whether the spec names workloads, which may use the Secret unseen.
    pub named: bool,
    /// Number of the revision whose rollout is complete.
    pub complete: Option<u64>,
}

/// What says that a credential that was replaced may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// Nothing but the end of its grace.
    Grace,
    /// First a rollout, which is not complete.
    Rollout,
    /// The pods that there are.
    Pods,
}

impl Judge {
    /// Who judges a record.
    ///
    /// Pods that use the Secret are seen. Those of workloads that were named
    /// because they use it unseen are not: of them a complete rollout tells.
    #[must_use]
    pub fn of(record: &Record, rollouts: Rollouts) -> Self {
        if record.places.is_empty() {
            return Self::Grace;
        }
        if !record.unseen && !rollouts.named {
            return Self::Pods;
        }
        // Not every place was left by a write that a rollout followed, or the
        // workloads that were named are so no more.
        let after = record.places.iter().map(|place| place.after).collect::<Option<Vec<_>>>();
        let Some(after) = after.and_then(|after| after.into_iter().max()).filter(|_| rollouts.named) else {
            return Self::Grace;
        };
        if rollouts.complete.is_some_and(|complete| complete > after) { Self::Pods } else { Self::Rollout }
    }
}

/// Whether this pod may hold the credential: it uses a Secret, by whatever key,
/// in which the values lie, or began before they were taken out of it. Whoever
/// owns it, and also while it terminates.
///
/// `newest` is the target and its revision's number now: a marker beyond it is
/// another Secret's.
#[must_use]
pub fn may_hold(pod: &PodFacts, record: &Record, newest: Option<(&str, u64)>) -> bool {
    let uses = |place: &Place| pod.uses.iter().any(|usage| usage.secret == place.secret);
    !pod.finished && record.places.iter().filter(|place| uses(place)).any(|place| read_from(pod, place, newest))
}

fn read_from(pod: &PodFacts, place: &Place, newest: Option<(&str, u64)>) -> bool {
    // What still lies there is read by whoever comes.
    let Some(replaced) = place.replaced else { return true };
    // One without a node reads later than the list that shows it.
    if !pod.scheduled {
        return false;
    }
    let Some(created) = pod.created else { return true };
    // Both are the API server's, to the second: within the same one the pod may
    // have been first, unless it bears a marker that came after.
    let (created, replaced) = (created.as_second(), replaced.as_second());
    let newest = newest.filter(|(secret, _)| *secret == place.secret).map(|(_, number)| number);
    let marker = pod.annotations.get(&marker_annotation(&place.secret)).and_then(|text| text.parse::<Revision>().ok());
    let marked = place.after.zip(newest).zip(marker);
    let marked = marked.is_some_and(|((after, newest), marker)| after < marker.number && marker.number <= newest);
    if marked { created < replaced - CLOCKS_APART } else { created <= replaced }
}

impl Record {
    /// Whether its grace is over, counted from when it was replaced, or else
    /// made.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        now.duration_since(self.retired.unwrap_or(self.issued)) >= GRACE
    }

    /// When its grace is over, where it is replaced.
    #[must_use]
    pub fn over_at(&self) -> Option<Timestamp> {
        self.retired?.checked_add(GRACE).ok()
    }
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
