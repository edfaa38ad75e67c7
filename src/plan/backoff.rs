//! When to try again.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use tokio::time::Instant;

use crate::{api::Interval, stores::ErrorClass};

/// Never-synced objects, and those that are read only once, wait no longer
/// than this between attempts.
const LONGEST: Duration = Duration::from_secs(300);
/// The longest back-off in an outage. Of all who wait for one store only one
/// request at a time goes out, so this is how soon its return is noticed.
const LONGEST_OUTAGE: Duration = Duration::from_secs(15);

/// What kind of failure is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Somebody has to change something first: tied to the refresh interval.
    Slow,
    /// As slow, but no later than this: something is to be looked at again.
    Within(Duration),
    /// An outage: exponential.
    Backoff,
    /// The manager asked for this much patience.
    After(Duration),
    /// Lost a race against another writer: almost at once.
    Soon,
}

impl Retry {
    /// How a manager's failure is waited for.
    #[must_use]
    pub fn of(class: ErrorClass, retry_after: Option<Duration>) -> Self {
        match (class.is_outage(), retry_after) {
            (true, Some(wait)) => Self::After(wait),
            (true, None) => Self::Backoff,
            (false, _) => Self::Slow,
        }
    }
}

/// How long to wait after the `failures`-th failure in a row. The jitter is
/// a function of the object and the count, so that a fleet spreads out and a
/// test can tell the answer.
#[must_use]
pub fn retry_delay(retry: Retry, failures: u32, interval: Interval, synced: bool, uid: &str) -> Duration {
    let cap = interval.period().map_or(LONGEST, |period| period.min(LONGEST));
    let longest = cap.min(LONGEST_OUTAGE);
    let exponential =
        |base: Duration| base.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(longest.max(base));
    // With data that is good, a secret that is denied or missing is asked for
    // as often as any other, and no more.
    let slow = if synced { interval.period().unwrap_or(LONGEST) } else { cap };
    let wait = match retry {
        Retry::Slow => return slow,
        Retry::Within(wait) => return slow.min(wait),
        Retry::Backoff => exponential(Duration::from_secs(1)),
        Retry::After(wait) => wait.max(exponential(Duration::from_secs(1))).min(Duration::from_secs(600)),
        Retry::Soon => exponential(Duration::from_millis(50)),
    };
    // Up to a fifth less, never more: the caps are promises.
    let share = f64::from(u32::try_from(hash(&(uid, failures)) % 1000).unwrap_or(0)) / 5000.0;
    match retry {
        Retry::After(_) => wait.mul_f64(1.0 + share),
        _ => wait.mul_f64(1.0 - share),
    }
}

/// The next refresh after `now`, both as time since the epoch.
///
/// Refreshes lie on a grid whose offset is a function of the identity that
/// reads. So BotSecrets that share an identity and an interval fall due
/// together and share their reads, and different identities spread out; a
/// restart changes nothing.
#[must_use]
pub fn next_tick(now: Duration, period: Duration, identity: &str) -> Duration {
    let period_nanos = period.as_nanos().max(1);
    let offset = u128::from(hash(&identity)) % period_nanos;
    let since_offset = (now.as_nanos() + period_nanos - offset) % period_nanos;
    let wait = period_nanos - since_offset;
    now + Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))
}

/// Where the grid lies on the process's own clock. Taken once: the instants of
/// one tick are then the same for everyone, to the nanosecond, so that a read
/// which begins at the tick is new enough for all who are due with it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    since_epoch: Duration,
}

impl Clock {
    /// With the time since the epoch at `start`.
    #[must_use]
    pub fn new(start: Instant, since_epoch: Duration) -> Self {
        Self { start, since_epoch }
    }

    /// The first tick after `now`.
    #[must_use]
    pub fn next_tick(&self, now: Instant, period: Duration, identity: &str) -> Instant {
        let elapsed = now.saturating_duration_since(self.start);
        let tick = next_tick(self.since_epoch + elapsed, period, identity);
        self.start + tick.saturating_sub(self.since_epoch)
    }
}

/// `DefaultHasher::new` has fixed keys: the same in every process.
fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::{Clock, Retry, next_tick, retry_delay};
    use crate::api::Interval;
    use proptest::prelude::*;
    use std::time::Duration;
    use tokio::time::Instant;

    const HOUR: Interval = Interval(Duration::from_secs(3600));

    #[test]
    fn p6_denied_objects_wait_for_their_interval_and_never_synced_ones_at_most_five_minutes() {
        assert_eq!(retry_delay(Retry::Slow, 1, Interval(Duration::from_secs(5)), false, "a"), Duration::from_secs(5));
        assert_eq!(retry_delay(Retry::Slow, 9, HOUR, false, "a"), Duration::from_secs(300));
        assert_eq!(retry_delay(Retry::Slow, 1, Interval(Duration::ZERO), false, "a"), Duration::from_secs(300));
        assert_eq!(retry_delay(Retry::Slow, 9, HOUR, true, "a"), HOUR.0);
    }

    #[test]
    fn what_is_to_be_seen_twice_is_looked_at_in_time_and_no_less_often_than_before() {
        let minute = Retry::Within(Duration::from_secs(60));
        assert_eq!(retry_delay(minute, 9, HOUR, true, "a"), Duration::from_secs(60));
        assert_eq!(retry_delay(minute, 1, Interval(Duration::from_secs(5)), false, "a"), Duration::from_secs(5));
    }

    #[test]
    fn p6_a_manager_that_asks_for_patience_gets_it_up_to_a_cap() {
        let asked = Duration::from_secs(120);
        let wait = retry_delay(Retry::After(asked), 1, HOUR, true, "a");
        assert!(wait >= asked && wait <= asked.mul_f64(1.2), "{wait:?}");
        assert!(retry_delay(Retry::After(Duration::from_secs(86_400)), 1, HOUR, true, "a") <= Duration::from_secs(720));
    }

    proptest! {
        #[test]
        fn p6_outages_are_retried_with_growing_jittered_delays_within_the_cap(failures in 1u32..40, secs in 1u64..100_000, uid in "[a-z]{1,8}") {
            let interval = Interval(Duration::from_secs(secs));
            let wait = retry_delay(Retry::Backoff, failures, interval, false, &uid);
            let full = Duration::from_secs(1u64 << (failures - 1).min(16)).min(Duration::from_secs(secs.clamp(1, 15)));
            prop_assert!(wait <= full && wait >= full.mul_f64(0.79), "{wait:?} of {full:?}");
        }

        #[test]
        fn p2_all_who_are_due_with_one_tick_have_the_same_instant_for_it(epoch in 0u64..u64::MAX / 2, one in 0u64..5_000_000_000, other in 0u64..5_000_000_000) {
            let (start, period) = (Instant::now(), Duration::from_secs(5));
            let clock = Clock::new(start, Duration::from_nanos(epoch));
            let tick = |after| clock.next_tick(start + Duration::from_nanos(after), period, "store/account");
            let (first, last) = (tick(one.min(other)), tick(one.max(other)));
            prop_assert!(first == last || last - first == period);
            prop_assert!(first > start + Duration::from_nanos(one.min(other)));
        }

        #[test]
        fn p2_refreshes_of_one_identity_share_one_grid(now in 0u64..10_000_000, later in 0u64..1000, period in 1u64..10_000) {
            let period = Duration::from_millis(period * 100);
            let one = next_tick(Duration::from_millis(now), period, "store/account");
            let other = next_tick(Duration::from_millis(now + later), period, "store/account");
            prop_assert!(one > Duration::from_millis(now) && one <= Duration::from_millis(now) + period);
            prop_assert_eq!(other.abs_diff(one).as_nanos() % period.as_nanos(), 0);
            prop_assert_eq!(next_tick(one, period, "store/account"), one + period);
        }
    }
}
