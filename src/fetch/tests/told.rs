//! What the metrics and the audit log are told of calls.

use tokio::time::Instant;

use super::world::{World, account, class, key, store};
use crate::{
    api::{Provider, StoreRef},
    fetch::{Fetcher, ResolvedStore},
    report::Metrics,
    stores::{ErrorClass, StoreError},
};

/// The series of calls, without their buckets and times.
fn calls(fetcher: &Fetcher) -> Vec<String> {
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
