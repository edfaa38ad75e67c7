//! Counts the spans that are lost, and says so, but not with every batch.
//!
//! The library's own processor counts what finds no room for itself alone, and its
//! exporter tells of what a collector rejects in lines that are switched off (they may hold
//! what the collector says). So room is kept here, and the answers are looked at here.

use std::{
    fmt::Debug,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use opentelemetry::Context;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanExporter, SpanProcessor},
};
use prost::Message as _;

/// In this time at most one line says so.
const SAID_EVERY: Duration = Duration::from_secs(300);

/// The exporter of this process, if traces are on.
static OURS: OnceLock<Arc<Tally>> = OnceLock::new();

/// Spans that were lost since the start of the process.
pub(crate) fn lost() -> u64 {
    OURS.get().map_or(0, |tally| tally.lost())
}

/// What becomes of spans.
#[derive(Debug, Default)]
pub(super) struct Tally {
    waiting: AtomicUsize,
    /// Those that found no room, and those that the collector rejected, of which no line
    /// has been asked for yet.
    unroomed: AtomicUsize,
    rejected: AtomicUsize,
    lost: AtomicU64,
}

impl Tally {
    /// One for the metrics of this process, as the first is.
    pub(super) fn start() -> Arc<Self> {
        let tally = Arc::<Self>::default();
        let _ = OURS.set(Arc::clone(&tally));
        tally
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Whether one more may wait, of this many.
    fn enter(&self, most: usize) -> bool {
        let room = |waiting: usize| (waiting < most).then(|| waiting + 1);
        let has_room = self.waiting.fetch_update(Relaxed, Relaxed, room).is_ok();
        if !has_room {
            self.unroomed.fetch_add(1, Relaxed);
            self.lost.fetch_add(1, Relaxed);
        }
        has_room
    }

    /// So many no longer wait.
    fn leave(&self, spans: usize) {
        let fewer = |waiting: usize| Some(waiting.saturating_sub(spans));
        let _ = self.waiting.fetch_update(Relaxed, Relaxed, fewer);
    }

    /// The collector has answered a request this.
    pub(super) fn answered(&self, body: &[u8]) {
        self.rejected.fetch_add(rejected_in(body), Relaxed);
    }
}

/// How many spans an answer rejects (OTLP specification, Partial Success).
fn rejected_in(body: &[u8]) -> usize {
    let partial = ExportTraceServiceResponse::decode(body).ok().and_then(|answer| answer.partial_success);
    partial.and_then(|partial| usize::try_from(partial.rejected_spans).ok()).unwrap_or_default()
}

/// A processor that no more spans are handed to than have room: it is known here which have
/// none. It has room for as many itself, so that it drops nothing.
#[derive(Debug)]
pub(super) struct Bounded<P> {
    pub(super) next: P,
    pub(super) most: usize,
    pub(super) tally: Arc<Tally>,
}

impl<P: SpanProcessor> SpanProcessor for Bounded<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.next.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.tally.enter(self.most) {
            self.next.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}

/// An exporter, and what it could not send. What is lost elsewhere is said here as well:
/// a line in the midst of a span's end would be one more span's business.
#[derive(Debug)]
pub(super) struct Watched<E> {
    exporter: E,
    tally: Arc<Tally>,
    said: Mutex<Said>,
}

impl<E> Watched<E> {
    pub(super) fn new(exporter: E, tally: Arc<Tally>) -> Self {
        Self { exporter, tally, said: Mutex::default() }
    }

    /// How many there are to tell of, of each kind, when so many more are lost.
    fn add(&self, unsent: usize, unroomed: usize, rejected: usize) -> [Option<usize>; 3] {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        [said.unsent.add(unsent, now), said.unroomed.add(unroomed, now), said.rejected.add(rejected, now)]
    }
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.tally.leave(spans);
        let result = self.exporter.export(batch).await;
        let unsent = if result.is_err() { spans } else { 0 };
        // A collector cannot reject more than it was sent.
        let rejected = self.tally.rejected.swap(0, Relaxed).min(spans - unsent);
        self.tally.lost.fetch_add((unsent + rejected) as u64, Relaxed);
        let [unsent, unroomed, rejected] = self.add(unsent, self.tally.unroomed.swap(0, Relaxed), rejected);
        if let (Some(lost), Err(error)) = (unsent, &result) {
            // A status code, or that there was none: no address, no bytes of an answer.
            tracing::warn!(lost, "traces are lost: the collector does not take them ({error})");
        }
        if let Some(lost) = unroomed {
            tracing::warn!(lost, "traces are lost: spans end faster than they are taken (OTEL_BSP_MAX_QUEUE_SIZE)");
        }
        if let Some(lost) = rejected {
            tracing::warn!(lost, "traces are lost: the collector rejects spans; why is in its own log");
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

/// What was said of each way to be lost.
#[derive(Debug, Default)]
struct Said {
    unsent: Losses,
    unroomed: Losses,
    rejected: Losses,
}

#[derive(Debug, Default)]
struct Losses {
    /// When it was last said.
    said: Option<Instant>,
    /// Spans that were lost since.
    unsaid: usize,
}

impl Losses {
    /// So many more are lost; how many to tell of, if it is time to and any are.
    fn add(&mut self, spans: usize, now: Instant) -> Option<usize> {
        self.unsaid = self.unsaid.saturating_add(spans);
        if spans == 0 || self.said.is_some_and(|at| now.saturating_duration_since(at) < SAID_EVERY) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
    use prost::Message as _;

    use super::{Losses, SAID_EVERY, Tally, rejected_in};

    #[test]
    fn losses_are_told_at_once_then_seldom_and_none_is_left_out() {
        let (mut losses, start) = (Losses::default(), Instant::now());
        assert_eq!(losses.add(0, start), None, "there are none");
        assert_eq!(losses.add(3, start), Some(3));
        for second in 1..60 {
            assert_eq!(losses.add(2, start + Duration::from_secs(second * 5)), None, "after {second} batches");
        }
        assert_eq!(losses.add(2, start + SAID_EVERY), Some(120));
        assert_eq!(losses.add(1, start + SAID_EVERY), None);
    }

    #[test]
    fn no_more_wait_than_have_room_and_the_others_are_lost() {
        let tally = Tally::default();
        let entered = (0..10).filter(|_| tally.enter(4)).count();
        assert_eq!((entered, tally.lost()), (4, 6));
        tally.leave(3);
        let entered = (0..10).filter(|_| tally.enter(4)).count();
        assert_eq!((entered, tally.lost()), (3, 13));
    }

    #[test]
    fn what_an_answer_rejects_is_a_number_whatever_it_holds() {
        let answer = |rejected_spans| {
            let partial = ExportTracePartialSuccess { rejected_spans, error_message: "too old".to_owned() };
            ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec()
        };
        for (body, wanted) in [(Vec::new(), 0), (answer(0), 0), (answer(7), 7), (answer(-1), 0), (vec![0xff; 9], 0)] {
            assert_eq!(rejected_in(&body), wanted, "{body:?}");
        }
    }
}
