//! Waiting for a condition with a deadline, instead of sleeping.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Polls `condition` until it yields a value; the error names what was waited for.
///
/// An error of the condition counts as "not yet" and is told at the deadline,
/// so that an API server that is away for a moment fails nothing.
pub async fn wait_for<T, F, Fut>(what: &str, deadline: Duration, mut condition: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let began = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        let left = deadline.saturating_sub(began.elapsed());
        let last = match tokio::time::timeout(left.max(pause), condition()).await {
            Ok(Ok(Some(value))) => return Ok(value),
            Ok(Ok(None)) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => Some(anyhow::anyhow!("the last look at it did not end")),
        };
        if began.elapsed() >= deadline {
            match last {
                Some(error) => bail!("waited {deadline:?} in vain for {what}: {error:#}"),
                None => bail!("waited {deadline:?} in vain for {what}"),
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_millis(100));
    }
}
