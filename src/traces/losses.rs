//! Says that traces are lost, but not with every batch.

use std::{
    fmt::Debug,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};

/// In this time at most one line says so.
const SAID_EVERY: Duration = Duration::from_secs(300);

/// An exporter, and what it could not send.
#[derive(Debug)]
pub(super) struct Watched<E> {
    exporter: E,
    losses: Mutex<Losses>,
}

impl<E> Watched<E> {
    pub(super) fn new(exporter: E) -> Self {
        Self { exporter, losses: Mutex::default() }
    }
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.exporter.export(batch).await;
        if let Err(error) = &result {
            let mut losses = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
            let to_tell = losses.add(spans, Instant::now());
            drop(losses);
            if let Some(lost) = to_tell {
                // A status code, or that there was none: no address, no bytes of an answer.
                tracing::warn!(lost, "traces are lost: the collector does not take them ({error})");
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[derive(Debug, Default)]
struct Losses {
    /// When it was last said.
    said: Option<Instant>,
    /// Spans that were lost since.
    unsaid: usize,
}

impl Losses {
    /// So many more are lost; how many to tell of, if it is time to.
    fn add(&mut self, spans: usize, now: Instant) -> Option<usize> {
        self.unsaid = self.unsaid.saturating_add(spans);
        if self.said.is_some_and(|at| now.saturating_duration_since(at) < SAID_EVERY) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Losses, SAID_EVERY};

    #[test]
    fn losses_are_told_at_once_then_seldom_and_none_is_left_out() {
        let (mut losses, start) = (Losses::default(), Instant::now());
        assert_eq!(losses.add(3, start), Some(3));
        for second in 1..60 {
            assert_eq!(losses.add(2, start + Duration::from_secs(second * 5)), None, "after {second} batches");
        }
        assert_eq!(losses.add(2, start + SAID_EVERY), Some(120));
        assert_eq!(losses.add(1, start + SAID_EVERY), None);
    }
}
