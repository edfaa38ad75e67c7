//! When a candidate may take the Lease.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use tokio::time::Instant;

/// What one look at the Lease showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Who holds it; empty where nobody does.
    pub holder: String,
    /// How long its holder is believed without a sign of life.
    pub lasts: Duration,
    /// Changes with each sign of life.
    pub version: String,
}

impl Sighting {
    /// What matters of a Lease. One that names no time is believed for
    /// `otherwise`.
    pub fn of(lease: &Lease, otherwise: Duration) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        Self {
            holder: spec.holder_identity.unwrap_or_default(),
            lasts: seconds.map_or(otherwise, Duration::from_secs),
            version: lease.metadata.resource_version.clone().unwrap_or_default(),
        }
    }
}

/// What a candidate does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write its name into the Lease, if it still is as it was seen.
    Take,
    /// Look again then, or when it changes.
    WaitUntil(Instant),
}

/// What a candidate remembers between two looks.
#[derive(Clone, Debug, Default)]
pub struct Watcher {
    last: Option<(Sighting, Instant)>,
}

impl Watcher {
    /// Decides. Whether the holder lives is told by changes that were seen here,
    /// by this machine's steady clock: the times in the Lease are of another's,
    /// which may be wrong (as client-go does it).
    pub fn decide(&mut self, sighting: &Sighting, us: &str, now: Instant) -> Step {
        let since = match &self.last {
            Some((last, since)) if last == sighting => *since,
            _ => now,
        };
        self.last = Some((sighting.clone(), since));
        let expires = since + sighting.lasts;
        // Our own name is of the container that ran in this pod before: the
        // kubelet starts none while another runs.
        if sighting.holder.is_empty() || sighting.holder == us || now >= expires {
            Step::Take
        } else {
            Step::WaitUntil(expires)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::{Sighting, Step, Watcher};

    const LASTS: Duration = Duration::from_secs(15);

    fn held_by(holder: &str, version: u32) -> Sighting {
        Sighting { holder: holder.into(), lasts: LASTS, version: version.to_string() }
    }

    #[test]
    fn a_lease_without_a_holder_or_with_our_own_name_is_taken_at_once() {
        let now = Instant::now();
        for holder in ["", "us"] {
            assert_eq!(Watcher::default().decide(&held_by(holder, 1), "us", now), Step::Take);
        }
        assert_eq!(Watcher::default().decide(&held_by("them", 1), "us", now), Step::WaitUntil(now + LASTS));
    }

    #[test]
    fn a_holder_that_gives_no_sign_is_believed_for_its_time_from_when_it_was_seen() {
        let (mut watcher, start) = (Watcher::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(watcher.decide(&held_by("them", 1), "us", start), Step::WaitUntil(after(15)));
        assert_eq!(watcher.decide(&held_by("them", 1), "us", after(14)), Step::WaitUntil(after(15)));
        assert_eq!(watcher.decide(&held_by("them", 2), "us", after(14)), Step::WaitUntil(after(29)));
        assert_eq!(watcher.decide(&held_by("them", 2), "us", after(29)), Step::Take);
        assert_eq!(watcher.decide(&held_by("others", 3), "us", after(29)), Step::WaitUntil(after(44)));
    }

    proptest! {
        /// Whoever renews at least every `LASTS`, as seen from here, is never
        /// displaced, however the looks fall.
        #[test]
        fn a_holder_that_renews_in_time_keeps_the_lease(looks in proptest::collection::vec(1_u64..14_000, 1..60)) {
            let (mut watcher, start, mut passed) = (Watcher::default(), Instant::now(), 0);
            for look in looks {
                passed += look;
                let renewals = u32::try_from(passed / 14_000).unwrap_or(u32::MAX);
                let step = watcher.decide(&held_by("them", renewals), "us", start + Duration::from_millis(passed));
                prop_assert!(step != Step::Take);
            }
        }
    }
}
