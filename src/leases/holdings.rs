//! What the operator holds of one BotSecret's credentials between passes.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use super::{Demand, Part, Record, Refusals, Stage, Token};
use crate::{
    fetch::ResolvedStore,
    stores::{IssuingLogin, RemoteSecret},
};

/// One credential.
pub struct Held {
    /// As it is, or is to be, in the status.
    pub record: Record,
    /// The login that it hangs on, where this process made it.
    pub login: Option<Arc<dyn IssuingLogin>>,
    /// What was issued, where it is known.
    pub values: Option<Arc<RemoteSecret>>,
    /// The same as it lies, or is to lie, on the Secret.
    pub sealed: Option<String>,
    /// Its clocks, where they are known: that of its login, then its own.
    pub parts: Option<Vec<Part>>,
    /// The token that its login was made with, where that bounds renewals.
    pub token: Option<Token>,
    /// Not before then is renewed or revoked again what failed.
    pub retry: Option<Instant>,
    /// Failures in a row.
    pub failures: u32,
    /// Another was issued in its place.
    pub superseded: bool,
    /// Why the manager does not renew it.
    pub refusal: Option<String>,
    /// Number of the last revision with which this process saw it lie on the
    /// Secret.
    pub seen: Option<u64>,
}

impl Held {
    /// What is on record, and no more.
    #[must_use]
    pub fn recorded(record: Record) -> Self {
        Self {
            record,
            login: None,
            values: None,
            sealed: None,
            parts: None,
            token: None,
            retry: None,
            failures: 0,
            superseded: false,
            refusal: None,
            seen: None,
        }
    }

    /// Whether one of its clocks has run out. What cannot be renewed is replaced by
    /// the earliest end that it can have, and lives on.
    #[must_use]
    pub fn has_ended(&self, now: Instant) -> bool {
        let known = |part: &&Part| part.sure || self.refusal.is_none();
        self.parts.iter().flatten().filter(known).any(|part| part.ends <= now)
    }

    /// Whether less than a sixth of its life is left while it is in use: half of what
    /// is left of one that is replaced in time.
    #[must_use]
    pub fn is_near_end(&self, now: Instant) -> bool {
        let is_near = |part: &Part| part.ends.saturating_duration_since(now) < part.life / 6;
        self.record.stage == Stage::Live && !self.superseded && self.parts.iter().flatten().any(is_near)
    }

    /// What failed is tried again, ever more slowly but often enough for a
    /// short life.
    pub fn failed(&mut self, now: Instant) {
        let life = Duration::from_secs(self.record.login_seconds.max(1));
        let most = (life / 6).clamp(Duration::from_secs(1), Duration::from_secs(30));
        self.retry = Some(now + Duration::from_millis(500).saturating_mul(1 << self.failures.min(8)).min(most));
        self.failures = self.failures.saturating_add(1);
    }

    /// What was tried went well.
    pub fn succeeded(&mut self) {
        (self.retry, self.failures) = (None, 0);
    }
}

/// A login that looks after what others hold.
pub struct Steward {
    /// The login.
    pub login: Arc<dyn IssuingLogin>,
    /// Where it is one, as the store was then.
    pub store: Arc<ResolvedStore>,
}

/// How many of them are in a gauge, for as long as this lives.
#[derive(Default)]
pub struct Counted(Option<Gauge>, i64);

impl Counted {
    /// So many there are now.
    pub fn set(&mut self, gauge: &Gauge, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        gauge.inc_by(count - self.1);
        (self.0, self.1) = (Some(gauge.clone()), count);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(gauge) = &self.0 {
            gauge.dec_by(self.1);
        }
    }
}

/// All of one BotSecret's.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Default)]
pub struct Holdings {
    /// Each, in the order in which they were issued.
    pub held: Vec<Held>,
    /// Whether what is on record was taken in.
    pub loaded: bool,
    /// Whether a credential is to be issued.
    pub due: bool,
    /// Whether those on the Secret came back, since a workload failed on what
    /// had taken their place.
    pub came_back: bool,
    /// Issues that were refused for good.
    pub refusals: Refusals,
    /// When to look again.
    pub next: Option<Instant>,
    /// How long the last rollout of a replacement took.
    pub rollout: Duration,
    /// Since when one is under way.
    pub rolling_since: Option<Instant>,
    /// When pods are looked at again, and how often that was so.
    pub look: Option<Instant>,
    /// Looks in a row.
    pub looks: u32,
    /// Logins that look after what earlier processes' logins hold, by store.
    pub stewards: BTreeMap<String, Steward>,
    /// As they are in the metric.
    pub counted: Counted,
    /// How often in a row the finalizer could not be taken off.
    pub unreleased: u32,
    /// Whether the namespace was seen to be going.
    pub namespace_ends: bool,
    /// A rotation that somebody wants now.
    pub demand: Option<Box<Demand>>,
    /// The BotSecret as it was last written in the midst of a pass.
    pub written: Option<Box<crate::api::BotSecret>>,
}

impl fmt::Debug for Holdings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records: Vec<_> = self.held.iter().map(|held| &held.record).collect();
        formatter.debug_struct("Holdings").field("records", &records).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::gauge::Gauge;

    use super::Counted;

    #[test]
    fn what_is_forgotten_is_no_longer_in_the_gauge() {
        let gauge = Gauge::default();
        let (mut one, mut other) = (Counted::default(), Counted::default());
        one.set(&gauge, 3);
        other.set(&gauge, 2);
        one.set(&gauge, 1);
        assert_eq!(gauge.get(), 3);
        drop(one);
        assert_eq!(gauge.get(), 2);
    }
}
