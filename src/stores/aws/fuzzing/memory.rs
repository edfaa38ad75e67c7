//! The sessions as they are and the SDK's own clients, over answers from memory.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, LazyLock, Mutex},
};

use aws_credential_types::Credentials;
use aws_sdk_sts::config::SharedHttpClient;
use aws_smithy_runtime_api::client::{
    http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
    orchestrator::HttpRequest,
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use aws_types::SdkConfig;
use reqwest::{
    StatusCode, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use tokio::runtime::{Builder, Runtime};
use zeroize::Zeroizing;

use crate::{
    fuzzing::split,
    secret::SecretBytes,
    stores::{
        ClusterEndpoint, HttpClients, LARGEST_ANSWER, Pace, Payload, RemoteKey, RemoteSecret, WriteBack,
        aws::{
            Settings,
            http::{Wire, incoming},
        },
        http::Answer,
        locked,
    },
};

const REGION: &str = "eu-west-1";
pub(super) const ATTEMPT: &str = "a1b2c3d4-5678-90ab-cdef-000000000000";

static MEMORY: LazyLock<Memory> = LazyLock::new(Memory::default);

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));

/// Asked by nobody: the clients have another way.
static WIRE: LazyLock<Wire> = LazyLock::new(|| {
    let address = Url::parse("http://aws.example").expect("a URL");
    let clients = HttpClients::new(ClusterEndpoint::default());
    Wire::new(clients.pool(&address, None, None, LARGEST_ANSWER).expect("a pool"), Pace::default())
});

/// Answers in their order; what is asked after the last one is answered with `{}`.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<VecDeque<Answer>>>);

impl fmt::Debug for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Memory").finish_non_exhaustive()
    }
}

impl HttpConnector for Memory {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        let answer = locked(&self.0).pop_front().unwrap_or_else(|| succeeded(b"{}"));
        HttpConnectorFuture::ready(incoming(answer).map_err(|error| ConnectorError::other(Box::new(error), None)))
    }
}

impl HttpClient for Memory {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// What a session is made of.
pub(super) fn settings() -> Settings {
    Settings {
        region: REGION.to_owned(),
        endpoint: Some("http://aws.example".to_owned()),
        wire: WIRE.clone(),
        credentials: Some(Credentials::new("AKIAEXAMPLE", "unused", None, None, "memory")),
    }
}

/// The same, for a client that is answered from memory.
pub(super) fn config() -> SdkConfig {
    let memory = SharedHttpClient::new(MEMORY.clone());
    settings().config(REGION).into_builder().http_client(memory).build()
}

/// What comes of these answers. One input at a time.
pub(super) fn answered<T>(answers: Vec<Answer>, asking: impl Future<Output = T>) -> T {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = locked(&TURN);
    *locked(&MEMORY.0) = answers.into();
    RUNTIME.block_on(asking)
}

/// What is asked for and the answer's status in the first line, its headers in those that
/// follow, and after an empty one the body.
pub(super) fn asked(input: &[u8]) -> Option<(&str, Answer)> {
    let (head, mut rest) = split(input)?;
    let (operation, status) = head.split_once(' ')?;
    let status = StatusCode::from_bytes(status.as_bytes()).ok()?;
    let mut headers = HeaderMap::new();
    loop {
        let (line, after) = split(rest)?;
        rest = after;
        if line.is_empty() {
            return Some((operation, Answer { status, headers, ..succeeded(rest) }));
        }
        let (name, value) = line.split_once(": ")?;
        headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?);
    }
}

pub(super) fn succeeded(body: &[u8]) -> Answer {
    Answer { status: StatusCode::OK, headers: HeaderMap::new(), retry_after: None, body: Zeroizing::new(body.to_vec()) }
}

pub(super) fn key(name: &str, metadata: bool) -> RemoteKey {
    RemoteKey { key: name.to_owned(), version: None, metadata, dated: false }
}

/// A write of the whole content.
pub(super) fn writing<T>(name: &str, write: impl FnOnce(&WriteBack<'_>) -> T) -> T {
    let properties = [(None, SecretBytes::new(b"new".to_vec()))];
    write(&WriteBack { key: &key(name, false), properties: &properties, base: None, attempt: ATTEMPT })
}

/// The bytes of a value that is no object of fields.
pub(super) fn bytes(read: &RemoteSecret) -> &[u8] {
    match &read.payload {
        Payload::Bytes(bytes) => bytes.expose(),
        Payload::Json(text) => text.expose().as_bytes(),
        Payload::Fields(_) => &[],
    }
}
