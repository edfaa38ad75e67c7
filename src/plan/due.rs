//! Whether a read is due.

use std::time::Duration;

use tokio::time::Instant;

use super::{Memory, at_once::is_forced};
use crate::{
    api::{ANNOTATION_REFRESH, BotSecret},
    audit::Why,
    report::Reason,
    watch::Observed,
};

/// A credential that is in use and ends waits no longer than this for the next
/// try, however slow the back-off is.
const LONGEST_TO_RENEW: Duration = Duration::from_secs(30);

/// Whether to read the manager in this pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Read; a value read at or after this moment will do.
    Read {
        /// When the read fell due.
        since: Instant,
        /// Whether somebody waits for it: a new, edited or forced one, or a
        /// repair. Periodic refreshes stand back behind these.
        urgent: bool,
    },
    /// Not before then; `None`: nothing to read any more.
    Later(Option<Instant>),
    /// Somebody else keeps changing the Secret: it is put right again then.
    Contested(Instant),
}

/// Decides whether the manager is to be read now.
#[must_use]
pub fn due(observed: &Observed, memory: &Memory, now: Instant) -> Due {
    let object = &observed.bot_secret;
    if object.spec.suspend == Some(true) || object.metadata.deletion_timestamp.is_some() {
        return Due::Later(None);
    }
    let forced = is_forced(object);
    let edited = memory.read_generation != object.metadata.generation;
    // Before anything else that wants a read: who deletes the Secret again and
    // again wakes us each time.
    if !forced
        && !edited
        && is_drifted(observed)
        && let Some(until) = memory.repairs.contested_until(now)
    {
        return Due::Contested(until);
    }
    if let Some(since) = memory.wanted_since {
        // An event that leaves a BotSecret with nothing to read (a restart, an
        // interval of 0) is no reason to read it again.
        if forced || memory.read_generation.is_some() || !is_read_for_good(observed) {
            return Due::Read { since, urgent: true };
        }
    }
    let waiting = memory.next_read.filter(|at| *at > now);
    if forced && waiting.is_none_or(|_| memory.failures == 0) {
        return Due::Read { since: now, urgent: true };
    }
    if memory.failures > 0 {
        let next_read = memory.next_read.into_iter().chain(end_of_patience(object, memory)).min();
        return match next_read.filter(|at| *at > now) {
            Some(at) => Due::Later(Some(at)),
            None => Due::Read { since: next_read.unwrap_or(now), urgent: memory.last_success.is_none() },
        };
    }
    // A credential that is to be issued waits for no interval.
    // What is over beside the values goes with the next write.
    if memory.leases.due || memory.overlap_over || is_drifted(observed) {
        return Due::Read { since: now, urgent: true };
    }
    // What was read only once, and not by this process, is as old as its source
    // says: it is rotated by that.
    let is_rotated = object.spec.rotator().is_some() && memory.rotation.is_none();
    if is_read_for_good(observed) && !is_rotated {
        // What ends is had anew all the same.
        return match memory.renewal {
            Some(renewal) if renewal.due <= now => Due::Read { since: renewal.due, urgent: false },
            renewal => Due::Later(renewal.map(|renewal| renewal.due)),
        };
    }
    match waiting {
        Some(at) if !edited => Due::Later(Some(at)),
        _ => Due::Read { since: memory.next_read.filter(|_| !edited).unwrap_or(now), urgent: edited },
    }
}

/// Which fact makes a read due that [`due`] says is; `None`: none that is known. On
/// purpose not a part of that decision, but a second opinion on it: a read that
/// nothing explains is counted.
#[must_use]
pub fn why(observed: &Observed, memory: &Memory, now: Instant) -> Option<Why> {
    let object = &observed.bot_secret;
    let is_over = |at: Option<Instant>| at.is_some_and(|at| at <= now);
    let is_known =
        object.status.as_ref().is_some_and(|status| status.observed_generation == object.metadata.generation);
    let again = || memory.next_read.into_iter().chain(end_of_patience(object, memory)).min();
    let facts = [
        (is_forced(object), Why::Forced),
        (memory.read_generation.is_none() && is_known, Why::Start),
        (memory.read_generation != object.metadata.generation, Why::Spec),
        (memory.wanted_since.is_some(), Why::Event),
        (memory.failures > 0 && is_over(again()) || memory.unreported.is_some(), Why::Retry),
        (memory.leases.due, Why::Lease),
        (memory.overlap_over, Why::Overlap),
        (is_drifted(observed), Why::Drift),
        (is_over(memory.renewal.map(|renewal| renewal.due)), Why::Renewal),
        (is_over(memory.next_read) && memory.candidate.looks > 0, Why::Trial),
        (is_over(memory.next_read), Why::Refresh),
    ];
    facts.into_iter().find(|(holds, _)| *holds).map(|(_, why)| why)
}

/// When to try again at the latest after a failure, because what lies on the
/// Secret ends: a back-off of a long interval would outlast it.
fn end_of_patience(object: &BotSecret, memory: &Memory) -> Option<Instant> {
    object.status.as_ref().and_then(|status| status.target.as_ref())?;
    let again = memory.failed_at? + LONGEST_TO_RENEW;
    if memory.leases.due { Some(again) } else { memory.renewal.map(|renewal| renewal.due.max(again)) }
}

/// The value of the refresh annotation, if it has not been acted on.
#[must_use]
pub fn refresh_requested(object: &BotSecret) -> Option<&str> {
    let asked = object.metadata.annotations.as_ref()?.get(ANNOTATION_REFRESH)?;
    let handled = object.status.as_ref().and_then(|status| status.last_handled_refresh.as_ref());
    (Some(asked) != handled).then_some(asked)
}

/// An interval of 0, and the Secret is there as this generation wanted it.
fn is_read_for_good(observed: &Observed) -> bool {
    let object = &observed.bot_secret;
    object.spec.interval().period().is_none() && (is_synced(object) || is_taken_back(object)) && !is_drifted(observed)
}

/// Whether the status says that the Secret is there as the present spec wants
/// it.
#[must_use]
pub fn is_synced(object: &BotSecret) -> bool {
    let conditions = object.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|condition| {
        condition.type_ == "Synced"
            && condition.status == "True"
            && condition.observed_generation == object.metadata.generation
    })
}

/// Whether the status says that what was read for the present spec was taken
/// back.
fn is_taken_back(object: &BotSecret) -> bool {
    let conditions = object.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|one| {
        one.type_ == "Synced"
            && one.reason == Reason::RolledBack.name()
            && one.observed_generation == object.metadata.generation
    })
}

/// Whether the status says that a new value is being tried, and that what the
/// Secret holds meanwhile is good.
#[must_use]
pub fn is_tried(object: &BotSecret) -> bool {
    let has = |type_: &str, holds: &str| {
        let conditions = object.status.iter().flat_map(|status| &status.conditions);
        conditions.into_iter().find(|one| one.type_ == type_ && one.status == holds)
    };
    has("Ready", "True").is_some()
        && has("Synced", "False").is_some_and(|synced| synced.reason == Reason::CandidatePending.name())
}

/// Whether the Secret is not the one that the status records. Before the first
/// write there is nothing to drift from.
fn is_drifted(observed: &Observed) -> bool {
    let object = &observed.bot_secret;
    let Some(recorded) = object.status.as_ref().and_then(|status| status.target.as_ref()) else { return false };
    if recorded.name != object.target_name() {
        return true;
    }
    match &observed.secret {
        Some(facts) => facts.uid != recorded.uid || facts.resource_version != recorded.resource_version,
        None => true,
    }
}

#[cfg(test)]
#[path = "due_tests.rs"]
mod tests;
