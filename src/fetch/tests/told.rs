//! What the metrics and the audit log are told of calls.

use std::{path::Path, sync::atomic::Ordering::SeqCst};

use serde_json::Value;
use tokio::time::Instant;

use super::world::{World, account, class, key, read, store};
use crate::{
    api::{Provider, StoreRef},
    audit::{AuditLog, Destination},
    fetch::{Fetcher, ResolvedStore},
    report::Metrics,
    stores::{ErrorClass, StoreError},
};

/// The series of calls, without their buckets and times.
pub(super) fn calls(fetcher: &Fetcher) -> Vec<String> {
    let text = Metrics::new(fetcher.counters().call_times()).text(fetcher.counters());
    let count = text.lines().filter_map(|line| line.strip_prefix("botsecret_store_call_seconds_count"));
    let mut series: Vec<_> = count.map(str::to_owned).collect();
    series.sort();
    series
}

#[tokio::test(start_paused = true)]
async fn calls_of_one_kind_of_manager_are_timed_apart_from_those_of_another() {
    let (_world, fetcher) = World::new().fetcher();
    let spec = serde_json::from_str(r#"{"vaultUrl":"https://v.example","auth":{}}"#).expect("a store");
    let other = ResolvedStore {
        reference: StoreRef { name: "azure".into(), kind: None },
        uid: "store-2".into(),
        provider: Provider::Azure(spec),
        ..store()
    };
    assert_eq!(calls(&fetcher), Vec::<String>::new(), "nobody was asked");
    for (store, name) in [(store(), "a"), (store(), "b"), (other, "a")] {
        let read = fetcher.read(&store, &account("bot"), &[key(name)], Instant::now()).await;
        assert!(read.iter().all(Result::is_ok), "{read:?}");
    }
    let wanted = [
        r#"{call="login",provider="azure"} 1"#,
        r#"{call="login",provider="vault"} 1"#,
        r#"{call="read",provider="azure"} 1"#,
        r#"{call="read",provider="vault"} 2"#,
    ];
    assert_eq!(calls(&fetcher), wanted);
}

/// Of each line in there what was asked, of whom that was a request, how it ended, and
/// whether a time is told.
pub(super) fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).expect("a log");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let told = lines.map(|line| {
        let of = |field: &str| line[field].as_str().unwrap_or("-").to_owned();
        let timed = if line["seconds"].is_null() { "untimed" } else { "timed" };
        format!("{} {} {} {timed}", of("event"), of("request"), of("outcome"))
    });
    told.collect()
}

#[tokio::test]
async fn what_takes_no_request_is_told_as_such_and_counted_and_timed_nowhere() {
    let (world, fetcher) = World::new().fetcher();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.jsonl");
    let log = AuditLog::open(&Destination::File(path.clone())).expect("a log");
    fetcher.audit_to(log.clone());
    world.is_asked.store(false, SeqCst);
    read(&fetcher, "kept").await.expect("read");
    assert_eq!(calls(&fetcher), Vec::<String>::new());
    assert_eq!((fetcher.counters().logins(), fetcher.counters().reads()), (0, 0));
    assert_eq!(fetcher.counters().anomalies().first_uses, 0, "nobody was asked");
    world.is_asked.store(true, SeqCst);
    read(&fetcher, "asked").await.expect("read");
    assert_eq!(calls(&fetcher), [r#"{call="read",provider="vault"} 1"#]);
    assert_eq!((fetcher.counters().logins(), fetcher.counters().reads()), (0, 1));
    assert_eq!(fetcher.counters().anomalies().first_uses, 1);
    log.finish().await;
    assert_eq!(lines(&path), ["login none ok untimed", "read none ok untimed", "read own ok timed"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_denied_is_one_denial_however_many_keys_it_has() {
    let mut world = World::new();
    world.batch = 20;
    let (world, fetcher) = world.fetcher();
    let keys: Vec<_> = (0..12).map(|number| key(&format!("s-{number}"))).collect();
    for key in &keys[1..] {
        world.fail(&key.key, StoreError::new(ErrorClass::Denied, "403"));
    }
    for batch in 1..=10 {
        let answers = fetcher.read(&store(), &account("bot"), &keys, Instant::now()).await;
        assert_eq!(answers.iter().filter(|answer| class(answer) == Some(ErrorClass::Denied)).count(), 11);
        assert_eq!(world.seen().2, batch, "one request each time");
        assert_eq!(fetcher.counters().anomalies().denial_bursts, u64::from(batch == 10), "after {batch} requests");
    }
}
