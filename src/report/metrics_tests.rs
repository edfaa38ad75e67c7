//! What a scrape sees.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::{Metrics, Reasons};
use crate::{fetch::FetchCounters, report::Reason};

/// The series of this metric.
fn series(text: &str, name: &str) -> Vec<String> {
    let start = format!("{name}{{");
    text.lines().filter(|line| line.starts_with(&start)).map(str::to_owned).collect()
}

#[test]
fn each_botsecret_has_a_series_of_its_own_until_it_is_counted_no_more() {
    const NAME: &str = "botsecret_object_last_success_timestamp_seconds";
    let counters = FetchCounters::default();
    let metrics = Metrics::new(counters.call_times());
    let scrape = || metrics.text(&counters);
    assert!(!scrape().contains(NAME), "it has nothing to say");
    metrics.count_successes([("trading", "a", 1_700_000_000.25), ("trading", "b", 1_700_000_001.0)], 7);
    let text = scrape();
    let wanted = [("a", "1700000000.25"), ("b", "1700000001.0")];
    let wanted = wanted.map(|(name, at)| format!("{NAME}{{namespace=\"trading\",name=\"{name}\"}} {at}"));
    assert_eq!(series(&text, NAME), wanted);
    for line in ["# TYPE NAME gauge", "# UNIT NAME seconds", "botsecret_objects_beyond_limit 7"] {
        let line = line.replace("NAME", NAME);
        assert!(text.lines().any(|found| found == line), "no {line}: {text}");
    }
    metrics.count_successes([("trading", "b", 1_700_000_001.0)], 0);
    assert_eq!(series(&scrape(), NAME), wanted[1..]);
}

#[test]
fn the_first_failure_for_each_reason_is_an_increase() {
    const NAME: &str = "botsecret_reconcile_failures_total";
    let counters = FetchCounters::default();
    let metrics = Metrics::new(counters.call_times());
    let scrape = || -> BTreeSet<_> { series(&metrics.text(&counters), NAME).into_iter().collect() };
    let reasons = Reason::ALL.into_iter().filter(|reason| reason.is_of_failed_pass());
    let line = |reason: Reason, count: u64| format!("{NAME}{{reason=\"{reason}\"}} {count}");
    let mut wanted: BTreeSet<_> = reasons.map(|reason| line(reason, 0)).collect();
    assert!(wanted.len() > 20, "{wanted:?}");
    assert_eq!(scrape(), wanted, "before any");
    metrics.passed(0.1, Some(Reason::StoreUnavailable));
    metrics.passed(0.1, None);
    wanted.remove(&line(Reason::StoreUnavailable, 0));
    wanted.insert(line(Reason::StoreUnavailable, 1));
    assert_eq!(scrape(), wanted);
}

#[test]
fn a_scrape_amid_a_count_sees_all_of_it_or_all_of_the_one_before() {
    let counters = FetchCounters::default();
    let metrics = Metrics::new(counters.call_times());
    let counts: [Reasons; 2] = [
        [(("Ready", Reason::Synced), 3), (("Synced", Reason::Synced), 3)].into(),
        [(("Ready", Reason::StoreUnavailable), 3), (("RolledOut", Reason::RollingOut), 1)].into(),
    ];
    let scrape = || series(&metrics.text(&counters), "botsecret_conditions");
    let whole = counts.each_ref().map(|count| {
        metrics.count_reasons(count);
        scrape()
    });
    let wanted = [
        ["{condition=\"Ready\",reason=\"Synced\"} 3", "{condition=\"Synced\",reason=\"Synced\"} 3"],
        ["{condition=\"Ready\",reason=\"StoreUnavailable\"} 3", "{condition=\"RolledOut\",reason=\"RollingOut\"} 1"],
    ];
    assert_eq!(whole, wanted.map(|lines| lines.map(|line| format!("botsecret_conditions{line}")).to_vec()));
    let over = AtomicBool::new(false);
    let torn = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for count in &counts {
                    metrics.count_reasons(count);
                }
            }
        });
        let torn = (0..3_000).map(|_| scrape()).find(|seen| !whole.contains(seen));
        over.store(true, Ordering::Relaxed);
        torn
    });
    assert_eq!(torn, None);
}
