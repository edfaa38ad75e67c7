//! When values that end, such as access tokens, are to be had anew. Pure.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::api;

/// Anybody with the right can write any time there.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// When the first of a Secret's values is to be had anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// From then on.
    pub due: Instant,
    /// By then the old one has ended.
    pub ends: Instant,
}

impl Renewal {
    /// For a value that is new now and is due at two thirds of its life.
    #[must_use]
    pub fn of_new(due: Instant, now: Instant) -> Self {
        Self { due, ends: due + due.saturating_duration_since(now) / 2 }
    }

    /// As it is put on record, by the clock.
    #[must_use]
    pub fn to_times(self, now: Instant, clock: Timestamp) -> Option<api::Renewal> {
        let time = |at: Instant| {
            let later = SignedDuration::try_from(at.saturating_duration_since(now)).ok()?;
            Timestamp::from_second(clock.checked_add(later).ok()?.as_second()).ok()
        };
        Some(api::Renewal { due: time(self.due)?, ends: time(self.ends)? })
    }

    /// As it was put on record: for an operator that was restarted.
    #[must_use]
    pub fn from_times(times: api::Renewal, now: Instant, clock: Timestamp) -> Self {
        let left = |time: Timestamp| Duration::try_from(time.duration_since(clock)).unwrap_or_default();
        let at = |time: Timestamp| now + left(time).min(LONGEST);
        Self { due: at(times.due), ends: at(times.ends) }
    }
}

#[cfg(test)]
mod tests {
    use super::Renewal;
    use k8s_openapi::jiff::{SignedDuration, Timestamp};
    use std::time::Duration;
    use tokio::time::Instant;

    #[test]
    fn a_renewal_survives_its_record_and_one_that_is_overdue_is_due_now() {
        let (now, clock) = (Instant::now(), Timestamp::from_second(1_800_000_000).expect("a time"));
        let renewal = Renewal::of_new(now + Duration::from_secs(600), now);
        assert_eq!(renewal.ends, now + Duration::from_secs(900));
        let times = renewal.to_times(now, clock).expect("in range");
        assert_eq!(Renewal::from_times(times, now, clock), renewal);
        let later = clock + SignedDuration::from_secs(3600);
        assert_eq!(Renewal::from_times(times, now, later), Renewal { due: now, ends: now });
    }
}
