//! From spans to the collector.

use std::{sync::Arc, time::Duration};

use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    resource::{EnvResourceDetector, TelemetryResourceDetector},
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, OTEL_BSP_MAX_QUEUE_SIZE, OTEL_BSP_MAX_QUEUE_SIZE_DEFAULT, Sampler,
        SdkTracer, SdkTracerProvider,
    },
};
use tokio::runtime::Handle;
use tracing::{Level, Metadata};
use tracing_subscriber::{
    Layer, Registry,
    filter::{LevelFilter, filter_fn},
};
use url::Url;

use super::{
    Ratio,
    losses::{Bounded, Tally, Watched},
    sender::Sender,
};
use crate::stores;

/// How long a batch may take. What ends meanwhile waits in the queue, as long as there is
/// room.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the end of the process waits for what is not sent yet.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// What is sent where.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The collector's URL for traces.
    pub endpoint: Url,
    /// Which share is sent; `None`: what `OTEL_TRACES_SAMPLER` says, or all.
    pub ratio: Option<Ratio>,
    /// What is known of where this process runs.
    pub place: Vec<(&'static str, String)>,
}

/// Traces that are on.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    tally: Arc<Tally>,
}

impl Traces {
    /// Spans that end from now on wait in a bounded queue (`OTEL_BSP_MAX_QUEUE_SIZE`),
    /// from which a thread of its own takes them; one that finds no room is lost. Nothing
    /// waits for the collector, which is asked from this runtime.
    ///
    /// # Errors
    /// Where no such client can be made.
    pub fn start(settings: &Settings, runtime: Handle) -> Result<Self, String> {
        Self::with_room(settings, runtime, room(|name| std::env::var(name).ok()))
    }

    /// The same with room for so many spans that wait.
    pub(super) fn with_room(settings: &Settings, runtime: Handle, most: usize) -> Result<Self, String> {
        let client = stores::client_for(&settings.endpoint).map_err(|_| {
            "traces cannot be sent by TLS: this machine has no root certificates; name a file of them in SSL_CERT_FILE"
        })?;
        let tally = Tally::start();
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Sender { client, runtime, patience: PATIENCE, tally: Arc::clone(&tally) })
            .with_endpoint(settings.endpoint.as_str())
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(PATIENCE)
            .build()
            .map_err(|error| format!("traces cannot be sent: {error}"))?;
        let watched = Watched::new(exporter, Arc::clone(&tally));
        let batches = BatchConfigBuilder::default().with_max_queue_size(most).build();
        let next = BatchSpanProcessor::builder(watched).with_batch_config(batches).build();
        let provider = SdkTracerProvider::builder()
            .with_resource(resource(&settings.place))
            .with_span_processor(Bounded { next, most, tally: Arc::clone(&tally) });
        let provider = match settings.ratio {
            Some(ratio) => provider.with_sampler(sampler(ratio)),
            None => provider,
        };
        Ok(Self { provider: provider.build(), tally })
    }

    /// Spans that were lost so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.tally.lost()
    }

    /// What takes the spans.
    pub(crate) fn layer(&self) -> Box<dyn Layer<Registry> + Send + Sync> {
        layer(self.provider.tracer("botsecret"))
    }

    /// Sends what is left, but does not wait for long.
    pub fn finish(&self) {
        if self.provider.shutdown_with_timeout(LAST_PATIENCE).is_err() {
            tracing::warn!("the last traces are lost: the collector does not take them");
        }
    }
}

/// How many spans may wait, as the library reads it: what is no number says nothing.
pub(super) fn room(variable: impl Fn(&str) -> Option<String>) -> usize {
    let said = variable(OTEL_BSP_MAX_QUEUE_SIZE).and_then(|text| text.parse().ok());
    said.unwrap_or(OTEL_BSP_MAX_QUEUE_SIZE_DEFAULT)
}

/// A whole trace is sent, or none of it.
pub(super) fn sampler(ratio: Ratio) -> Sampler {
    Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio.get())))
}

pub(super) fn layer(tracer: SdkTracer) -> Box<dyn Layer<Registry> + Send + Sync> {
    tracing_opentelemetry::layer::<Registry>()
        .with_tracer(tracer)
        // Nobody else looks for the span that is entered.
        .with_context_activation(false)
        .with_location(false)
        .with_target(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(filter_fn(is_exported).with_max_level_hint(LevelFilter::INFO))
        .boxed()
}

/// Our own spans alone. Those of clients may hold what they send and get; an event would
/// repeat a log line.
fn is_exported(metadata: &Metadata<'_>) -> bool {
    let package = metadata.target().split("::").next();
    metadata.is_span() && *metadata.level() <= Level::INFO && package == Some("botsecret")
}

/// Who sends. What `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say comes first.
pub(super) fn resource(place: &[(&'static str, String)]) -> Resource {
    let known = place.iter().map(|(name, value)| KeyValue::new(*name, value.clone()));
    let known = Resource::builder_empty()
        .with_service_name("botsecret")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attributes(known)
        .with_detectors(&[Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())]);
    match std::env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty()) {
        Some(name) => known.with_service_name(name).build(),
        None => known.build(),
    }
}
