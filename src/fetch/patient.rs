//! Deadlines that stand still while a request waits for its turn: a queue is
//! the operator's own doing, not the manager's.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::{interrupted, locked};
use crate::stores::{HttpClients, StoreError};

tokio::task_local! {
    static ATTEMPT: Arc<Attempt>;
}

/// The least time between two looks at the clock.
const TICK: Duration = Duration::from_millis(10);

/// What a login or a read that is under way has been through.
struct Attempt {
    clock: Mutex<Clock>,
    refused: Mutex<Option<oneshot::Sender<StoreError>>>,
    /// Whether it is the one that finds out if the manager works again.
    probe: bool,
}

#[derive(Default)]
struct Clock {
    /// Requests of this attempt that wait now, and since when any does.
    waiting: usize,
    since: Option<Instant>,
    waited: Duration,
}

impl Clock {
    fn waited(&self, now: Instant) -> Duration {
        self.waited + self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

/// While it lives, the deadline stands still.
pub(super) struct Waiting(Option<Arc<Attempt>>);

impl Waiting {
    pub(super) fn begin() -> Self {
        let attempt = ATTEMPT.try_with(Arc::clone).ok();
        if let Some(attempt) = &attempt {
            let mut clock = locked(&attempt.clock);
            clock.waiting += 1;
            clock.since.get_or_insert_with(Instant::now);
        }
        Self(attempt)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(attempt) = &self.0 else { return };
        let mut clock = locked(&attempt.clock);
        clock.waiting -= 1;
        if clock.waiting == 0 {
            clock.waited = clock.waited(Instant::now());
            clock.since = None;
        }
    }
}

/// Ends the attempt that this is a part of with this refusal. Answers whether
/// there is one to end: the probe goes on.
pub(super) fn refuse(error: StoreError) -> bool {
    let Ok(attempt) = ATTEMPT.try_with(Arc::clone) else { return false };
    if attempt.probe {
        return false;
    }
    if let Some(sender) = locked(&attempt.refused).take() {
        // It may be over already.
        let _ = sender.send(error);
    }
    true
}

/// The answer; or an error once `limit` has passed without the time that was
/// spent in waiting for turns, or once a turn was refused. A request that was
/// sent has no longer than `limit` either, even if others of the attempt wait.
pub(super) async fn within<T>(limit: Duration, probe: bool, request: impl Future<Output = T>) -> Result<T, StoreError> {
    let (refuse, mut refused) = oneshot::channel();
    let attempt = Arc::new(Attempt { clock: Mutex::default(), refused: Mutex::new(Some(refuse)), probe });
    let begun = Instant::now();
    let request = HttpClients::each_within(limit, request);
    let mut request = pin!(ATTEMPT.scope(Arc::clone(&attempt), async {
        tokio::select! {
            biased;
            answer = request => Ok(answer),
            refusal = &mut refused => Err(refusal.unwrap_or_else(|_| interrupted())),
        }
    }));
    loop {
        let now = Instant::now();
        let active = now.saturating_duration_since(begun).saturating_sub(locked(&attempt.clock).waited(now));
        let Some(left) = limit.checked_sub(active).filter(|left| !left.is_zero()) else {
            return Err(StoreError::late(limit));
        };
        let pause = if locked(&attempt.clock).waiting > 0 { left.max(TICK) } else { left };
        if let Ok(answer) = timeout(pause, &mut request).await {
            return answer;
        }
    }
}
