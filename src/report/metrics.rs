//! Metrics in Prometheus' text format: base units, bounded labels.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

use super::{Reason, gauges::Gauges};
use crate::{
    fetch::{CallTimes, FetchCounters},
    traces,
};

/// Failures by reason: the list of reasons is closed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

/// Reads that failed, by class of failure.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByClass {
    class: &'static str,
}

/// BotSecrets by what a condition of theirs says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCondition {
    condition: &'static str,
    reason: &'static str,
}

/// How many BotSecrets there are of which a condition gives which reason.
pub type Reasons = BTreeMap<(&'static str, Reason), usize>;

/// BotSecrets by whether they are ready.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReady {
    ready: &'static str,
}

/// One BotSecret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByObject {
    namespace: String,
    name: String,
}

/// Every metric of the operator.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    passes: Counter,
    failures: Family<ByReason, Counter>,
    /// Passes that ended in a panic.
    pub panics: Counter,
    /// Values that changed at the source and were written.
    pub rotations: Counter,
    /// Rotations that somebody wanted at once.
    pub emergency_rotations: Counter,
    /// New values that were written to their source, or asked of their manager.
    pub rotations_triggered: Counter,
    /// BotSecrets with a value that is older than it may be.
    rotation_overdue: Gauge,
    /// Patches that rolled a workload.
    pub rollouts: Counter,
    /// Values that were taken back.
    pub rollbacks: Counter,
    /// Changes by others that were undone.
    pub repairs: Counter,
    /// Leased credentials on record, those included that wait to be revoked.
    pub leases: Gauge,
    /// Leased credentials that were issued.
    pub leases_issued: Counter,
    /// Those of them that took another's place.
    pub lease_replacements: Counter,
    /// Those of these that had ended by then.
    pub leases_lost: Counter,
    /// Renewals of logins and leases.
    pub lease_renewals: Counter,
    /// Credentials that were revoked.
    pub lease_revocations: Counter,
    /// Credentials that could not be revoked and end by themselves.
    pub leases_left_to_end: Counter,
    /// Records in a status that the operator did not write.
    pub lease_records_ignored: Counter,
    /// Leased credentials in use of whose life less than a sixth is left.
    pub leases_near_end: Gauge,
    /// Whether this process is the one that writes.
    leader: Gauge,
    seconds: Histogram,
    rollout_seconds: Histogram,
    conditions: Gauges<ByCondition, i64>,
    objects: Gauges<ByReady, i64>,
    /// The last read that went well, of any BotSecret.
    pub last_success: Gauge<f64, AtomicU64>,
    /// The same of single ones …
    successes: Gauges<ByObject, f64>,
    /// … and how many of them there is no room for.
    objects_beyond_limit: Gauge,
    reads: Counter,
    shared_reads: Counter,
    searches: Counter,
    logins: Counter,
    token_requests: Counter,
    read_errors: Family<ByClass, Counter>,
    store_panics: Counter,
    first_uses: Counter,
    denial_bursts: Counter,
    unexplained_reads: Counter,
    audit_events_lost: Counter,
    trace_spans_lost: Counter,
}

impl Metrics {
    /// A registry with every metric at zero, and these of the managers' answers.
    #[must_use]
    pub fn new(calls: CallTimes) -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("botsecret"),
            passes: Counter::default(),
            failures: Family::default(),
            panics: Counter::default(),
            rotations: Counter::default(),
            emergency_rotations: Counter::default(),
            rotations_triggered: Counter::default(),
            rotation_overdue: Gauge::default(),
            rollouts: Counter::default(),
            rollbacks: Counter::default(),
            repairs: Counter::default(),
            leases: Gauge::default(),
            leases_issued: Counter::default(),
            lease_replacements: Counter::default(),
            leases_lost: Counter::default(),
            lease_renewals: Counter::default(),
            lease_revocations: Counter::default(),
            leases_left_to_end: Counter::default(),
            lease_records_ignored: Counter::default(),
            leases_near_end: Gauge::default(),
            leader: Gauge::default(),
            // From one small Deployment to a night's window.
            rollout_seconds: Histogram::new([5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 21_600.0, 86_400.0]),
            conditions: Gauges::default(),
            seconds: Histogram::new([0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 30.0]),
            objects: Gauges::default(),
            last_success: Gauge::default(),
            successes: Gauges::default(),
            objects_beyond_limit: Gauge::default(),
            reads: Counter::default(),
            shared_reads: Counter::default(),
            searches: Counter::default(),
            logins: Counter::default(),
            token_requests: Counter::default(),
            read_errors: Family::default(),
            store_panics: Counter::default(),
            first_uses: Counter::default(),
            denial_bursts: Counter::default(),
            unexplained_reads: Counter::default(),
            audit_events_lost: Counter::default(),
            trace_spans_lost: Counter::default(),
        };
        // From the first on, so that the first failure for a reason is an increase.
        for reason in Reason::ALL.into_iter().filter(|reason| reason.is_of_failed_pass()) {
            drop(metrics.failures.get_or_create(&ByReason { reason: reason.name() }));
        }
        metrics.registered(calls).with_objects().with_audit()
    }

    fn registered(mut self, calls: CallTimes) -> Self {
        let registry = &mut self.registry;
        registry.register("build", "Version of the operator", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        registry.register("reconciles", "Passes over BotSecrets", self.passes.clone());
        registry.register("reconcile_failures", "Passes that failed, by reason", self.failures.clone());
        registry.register("reconcile_panics", "Passes that ended in a panic", self.panics.clone());
        registry.register_with_unit("reconcile", "How long passes take", Unit::Seconds, self.seconds.clone());
        registry.register_with_unit(
            "rollout",
            "From a new value's first sight until every workload holds it",
            Unit::Seconds,
            self.rollout_seconds.clone(),
        );
        registry.register_with_unit(
            "store_call",
            "From a call of a manager to its answer, with the wait for its rate limit",
            Unit::Seconds,
            calls,
        );
        registry.register("leader", "Whether this process writes", self.leader.clone());
        registry.register(
            "conditions",
            "BotSecrets, by the reasons that their conditions give",
            self.conditions.clone(),
        );
        registry.register(
            "leases_near_end",
            "Leased credentials in use with less than a sixth of their life left",
            self.leases_near_end.clone(),
        );
        registry.register("rotations", "Changes of values that were written", self.rotations.clone());
        registry.register(
            "emergency_rotations",
            "Rotations at once that somebody asked for",
            self.emergency_rotations.clone(),
        );
        registry.register(
            "rotations_triggered",
            "New values that were written to their source or asked of their manager",
            self.rotations_triggered.clone(),
        );
        registry.register(
            "rotation_overdue",
            "BotSecrets with a value that is older than rotation.maxAge",
            self.rotation_overdue.clone(),
        );
        registry.register("rollouts", "Patches that rolled a workload", self.rollouts.clone());
        registry.register("rollbacks", "Values that were taken back after a workload failed", self.rollbacks.clone());
        registry.register("repairs", "Changes by others that were undone", self.repairs.clone());
        registry.register("objects", "BotSecrets, by readiness", self.objects.clone());
        registry.register("leases", "Leased credentials on record, with those to be revoked", self.leases.clone());
        registry.register("leases_issued", "Leased credentials that were issued", self.leases_issued.clone());
        registry.register("lease_replacements", "Issued in the place of another", self.lease_replacements.clone());
        registry.register("leases_lost", "Credentials that ended before they were replaced", self.leases_lost.clone());
        registry.register("lease_renewals", "Renewals of logins and leases", self.lease_renewals.clone());
        registry.register("lease_revocations", "Credentials that were revoked", self.lease_revocations.clone());
        registry.register(
            "leases_left_to_end",
            "Credentials that could not be revoked",
            self.leases_left_to_end.clone(),
        );
        registry.register(
            "lease_records_ignored",
            "Records in status of others' making",
            self.lease_records_ignored.clone(),
        );
        registry.register_with_unit(
            "last_success_timestamp",
            "When values were last read, of any BotSecret",
            Unit::Seconds,
            self.last_success.clone(),
        );
        registry.register("store_reads", "Reads of secret managers", self.reads.clone());
        registry.register("store_shared_reads", "Reads that another BotSecret's answered", self.shared_reads.clone());
        registry.register("store_searches", "Searches of secret managers", self.searches.clone());
        registry.register("store_logins", "Logins at secret managers", self.logins.clone());
        registry.register("token_requests", "ServiceAccount tokens asked for", self.token_requests.clone());
        registry.register("store_errors", "Reads of secret managers that failed, by class", self.read_errors.clone());
        registry.register("store_panics", "Reads that ended in a panic", self.store_panics.clone());
        self
    }

    fn with_objects(mut self) -> Self {
        let registry = &mut self.registry;
        registry.register_with_unit(
            "object_last_success_timestamp",
            "When all values of a BotSecret were last read and in its Secret",
            Unit::Seconds,
            self.successes.clone(),
        );
        registry.register(
            "objects_beyond_limit",
            "BotSecrets without a series of their own, since --object-metrics leaves no room for it",
            self.objects_beyond_limit.clone(),
        );
        self
    }

    fn with_audit(mut self) -> Self {
        let registry = &mut self.registry;
        registry.register(
            "first_uses",
            "Stores that an identity asked for the first time since the process began",
            self.first_uses.clone(),
        );
        registry.register(
            "denial_bursts",
            "Times that ten requests of one identity were denied within ten minutes",
            self.denial_bursts.clone(),
        );
        registry.register(
            "unexplained_reads",
            "Reads of secret managers that the operator has no reason for",
            self.unexplained_reads.clone(),
        );
        registry.register(
            "audit_events_lost",
            "Lines of the audit log that could not be written",
            self.audit_events_lost.clone(),
        );
        registry.register("trace_spans_lost", "Spans that no collector took", self.trace_spans_lost.clone());
        self
    }

    /// A pass is over.
    pub fn passed(&self, seconds: f64, failure: Option<Reason>) {
        self.passes.inc();
        self.seconds.observe(seconds);
        if let Some(reason) = failure {
            self.failures.get_or_create(&ByReason { reason: reason.name() }).inc();
        }
    }

    /// A rotation is over: every workload holds its value, this long after it was seen.
    pub fn rolled_out(&self, after: Duration) {
        self.rollout_seconds.observe(after.as_secs_f64());
    }

    /// Whether this process writes from now on.
    pub fn lead(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// What the conditions of all BotSecrets say now. A reason that nobody gives any
    /// more has no series.
    pub fn count_reasons(&self, reasons: &Reasons) {
        self.conditions.set(reasons.iter().map(|((condition, reason), count)| {
            let labels = ByCondition { condition, reason: reason.name() };
            (labels, gauge(*count))
        }));
        let overdue = reasons.get(&("Rotated", Reason::RotationOverdue)).copied().unwrap_or_default();
        self.rotation_overdue.set(gauge(overdue));
    }

    /// How many BotSecrets are ready, and how many are not.
    pub fn count_objects(&self, ready: usize, not_ready: usize) {
        let counts = [("true", ready), ("false", not_ready)];
        self.objects.set(counts.map(|(ready, count)| (ByReady { ready }, gauge(count))));
    }

    /// When single BotSecrets, by namespace and name, were last read and written whole, in
    /// seconds since 1970; and of how many nothing is said.
    pub fn count_successes<'a>(&self, times: impl IntoIterator<Item = (&'a str, &'a str, f64)>, beyond: usize) {
        self.successes.set(times.into_iter().map(|(namespace, name, seconds)| {
            let labels = ByObject { namespace: namespace.to_owned(), name: name.to_owned() };
            (labels, seconds)
        }));
        self.objects_beyond_limit.set(gauge(beyond));
    }

    /// The text that `/metrics` answers.
    #[must_use]
    pub fn text(&self, fetched: &FetchCounters) -> String {
        let anomalies = fetched.anomalies();
        for (counter, total) in [
            (&self.reads, fetched.reads()),
            (&self.shared_reads, fetched.shared_reads()),
            (&self.searches, fetched.finds()),
            (&self.logins, fetched.logins()),
            (&self.token_requests, fetched.token_requests()),
            (&self.store_panics, fetched.panics()),
            (&self.first_uses, anomalies.first_uses),
            (&self.denial_bursts, anomalies.denial_bursts),
            (&self.unexplained_reads, anomalies.unexplained_reads),
            (&self.audit_events_lost, fetched.audit_events_lost()),
            (&self.trace_spans_lost, traces::spans_lost()),
        ] {
            follow(counter, total);
        }
        // From the first on, so that the first failure of a class is an increase.
        for (class, total) in fetched.errors() {
            let counter = self.read_errors.get_or_create(&ByClass { class: class.name() });
            follow(&counter, total);
        }
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What is counted elsewhere. Two scrapes at once must not add it twice.
fn follow(counter: &Counter, total: u64) {
    counter.inner().fetch_max(total, Ordering::Relaxed);
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
