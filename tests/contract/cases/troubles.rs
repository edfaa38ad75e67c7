//! Managers and networks that fail.

use std::time::Duration;

use anyhow::{Result, ensure};
use botsecret::stores::ErrorClass;
use botsecret_testbed::FaultKind;

use crate::bench::{Bench, Failure, Trouble};

/// The stores' deadline, and what a busy machine takes beside it.
const DEADLINE: std::ops::Range<Duration> = Duration::from_millis(2900)..Duration::from_secs(9);

pub async fn throttled_with_time(bench: &Bench<'_>) -> Result<()> {
    let outcomes = bench.fails(&bench.subject.throttled(Some(7)), ErrorClass::Throttled).await?;
    for (phase, Trouble { error, fetcher, .. }) in outcomes {
        let asked = error.retry_after;
        ensure!(asked == Some(Duration::from_secs(7)), "{phase}: it asked for 7 s, and {asked:?} is kept");
        // It is left alone until then, though the trouble is over.
        let mark = bench.subject.proxy().mark();
        let Err(Failure::Store(again)) = bench.plain(&fetcher, &bench.name("fault")).await else {
            anyhow::bail!("{phase}: it was asked again at once")
        };
        ensure!(again.class == ErrorClass::Throttled, "{phase}: {again}");
        ensure!(again.retry_after.is_some_and(|left| left <= Duration::from_secs(7)), "{phase}: {again:?}");
        ensure!(bench.subject.proxy().since(mark).is_empty(), "{phase}: it was asked again at once");
    }
    // What it may ask for is bounded.
    for (phase, Trouble { error, .. }) in
        bench.fails(&bench.subject.throttled(Some(99_999)), ErrorClass::Throttled).await?
    {
        ensure!(error.retry_after == Some(Duration::from_secs(600)), "{phase}: {:?}", error.retry_after);
    }
    Ok(())
}

pub async fn throttled(bench: &Bench<'_>) -> Result<()> {
    for (phase, Trouble { error, .. }) in bench.fails(&bench.subject.throttled(None), ErrorClass::Throttled).await? {
        ensure!(error.retry_after.is_none(), "{phase}: nobody asked for {:?}", error.retry_after);
    }
    Ok(())
}

pub async fn broken(bench: &Bench<'_>) -> Result<()> {
    for kind in bench.subject.broken() {
        bench.fails(&kind, ErrorClass::Unavailable).await?;
    }
    Ok(())
}

pub async fn slow(bench: &Bench<'_>) -> Result<()> {
    for kind in [FaultKind::NoAnswer, FaultKind::Slow(Duration::from_secs(30))] {
        for (phase, Trouble { took, .. }) in bench.fails(&kind, ErrorClass::Timeout).await? {
            ensure!(DEADLINE.contains(&took), "{phase}: {took:?}, with a deadline of 3 s");
        }
    }
    Ok(())
}

pub async fn reset(bench: &Bench<'_>) -> Result<()> {
    bench.fails(&FaultKind::Reset, ErrorClass::Unavailable).await?;
    Ok(())
}

pub async fn truncated(bench: &Bench<'_>) -> Result<()> {
    for bytes in [0, 1, 40, usize::MAX] {
        bench.fails(&FaultKind::Truncate(bytes), ErrorClass::Unavailable).await?;
    }
    Ok(())
}

pub async fn endless(bench: &Bench<'_>) -> Result<()> {
    for (phase, Trouble { took, .. }) in bench.fails(&FaultKind::Endless, ErrorClass::Timeout).await? {
        ensure!(DEADLINE.contains(&took), "{phase}: {took:?}, with a deadline of 3 s");
    }
    bench.fails(&FaultKind::Flood, ErrorClass::TooLarge).await?;
    Ok(())
}
