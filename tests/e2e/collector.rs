//! A collector of traces, as far as a sender sees one: it takes what is posted, and
//! decodes it by the protocol's own definitions.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message as _;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::support::Result;

/// One request, as it came.
#[derive(Clone)]
pub struct Posted {
    pub path: String,
    pub content_type: String,
    pub body: Vec<u8>,
}

/// Listens on a free port; gone when dropped.
pub struct Collector {
    address: String,
    posted: Arc<Mutex<Vec<Posted>>>,
    task: JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Collector {
    /// One that takes everything.
    pub async fn start() -> Result<Self> {
        Self::rejecting(0).await
    }

    /// One that says of each request that it rejects so many of its spans.
    pub async fn rejecting(spans: i64) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let posted = Arc::<Mutex<Vec<Posted>>>::default();
        let taken = Arc::clone(&posted);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let taken = Arc::clone(&taken);
                let service = service_fn(move |request| take(request, Arc::clone(&taken), spans));
                tokio::spawn(async move {
                    let connection = hyper::server::conn::http1::Builder::new();
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(Self { address, posted, task })
    }

    /// Where it takes everything.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that it was sent so far.
    pub fn posted(&self) -> Vec<Posted> {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The spans in that.
    pub fn spans(&self) -> Result<Vec<Seen>> {
        let mut seen = Vec::new();
        for posted in self.posted() {
            for of_resource in ExportTraceServiceRequest::decode(&posted.body[..])?.resource_spans {
                let sender = of_resource.resource.map(|resource| texts(&resource.attributes)).unwrap_or_default();
                let spans = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
                seen.extend(spans.map(|span| Seen::of(&span, &sender)));
            }
        }
        Ok(seen)
    }
}

async fn take(
    request: Request<Incoming>,
    posted: Arc<Mutex<Vec<Posted>>>,
    rejected_spans: i64,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let content_type = head.headers.get("content-type").and_then(|value| value.to_str().ok());
    // One that broke off is no request.
    if let Ok(body) = body.collect().await {
        posted.lock().unwrap_or_else(PoisonError::into_inner).push(Posted {
            path: head.uri.path().to_owned(),
            content_type: content_type.unwrap_or_default().to_owned(),
            body: body.to_bytes().to_vec(),
        });
    }
    // One that says nothing is empty: all was taken.
    let partial = ExportTracePartialSuccess { rejected_spans, error_message: "canary-words".to_owned() };
    let answer = ExportTraceServiceResponse { partial_success: (rejected_spans > 0).then_some(partial) };
    Ok(Response::new(Full::from(answer.encode_to_vec())))
}

/// A span, with who sent it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub name: String,
    pub id: Vec<u8>,
    pub parent: Vec<u8>,
    pub trace: Vec<u8>,
    pub is_call: bool,
    pub has_failed: bool,
    pub events: usize,
    pub attributes: BTreeMap<String, String>,
    pub sender: BTreeMap<String, String>,
}

impl Seen {
    fn of(span: &Span, sender: &BTreeMap<String, String>) -> Self {
        Self {
            name: span.name.clone(),
            id: span.span_id.clone(),
            parent: span.parent_span_id.clone(),
            trace: span.trace_id.clone(),
            is_call: span.kind == SpanKind::Client as i32,
            has_failed: span.status.as_ref().is_some_and(|status| status.code == StatusCode::Error as i32),
            events: span.events.len(),
            attributes: texts(&span.attributes),
            sender: sender.clone(),
        }
    }

    /// Whether it is of this name and says all of this.
    pub fn says(&self, name: &str, wanted: &[(&str, &str)]) -> bool {
        let has = |(key, value): &(&str, &str)| self.attributes.get(*key).is_some_and(|found| found == value);
        self.name == name && wanted.iter().all(has)
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| match attribute.value.clone().and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::BoolValue(flag)) => flag.to_string(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(|attribute| (attribute.key.clone(), text(attribute))).collect()
}
