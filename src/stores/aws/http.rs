//! The SDK's requests over the one HTTP stack of all stores.
//!
//! The SDK brings no transport, no deadline, no retries and no cache of its
//! own here: `fetch` has them for every manager.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use aws_smithy_runtime_api::client::{
    http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use reqwest::{
    Method, Request, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use tokio::time::timeout;
use tracing::{instrument::WithSubscriber as _, subscriber::NoSubscriber};
use zeroize::Zeroizing;

use super::unavailable;
use crate::stores::{
    ErrorClass, Pace, StoreError,
    http::{Answer, Pool},
};

/// Connections to one AWS service, and leave to use them.
#[derive(Clone)]
pub(super) struct Wire {
    pool: Arc<Pool>,
    /// For what is asked without the store's proxy: addresses of the machine
    /// itself, where credentials of the operator's own come from.
    direct: Option<Arc<Pool>>,
    pace: Pace,
    /// How long an exchange may take once it has its turn, where that is not
    /// for `fetch` alone to say.
    limit: Option<Duration>,
}

impl Wire {
    pub(super) fn new(pool: Arc<Pool>, pace: Pace) -> Self {
        Self { pool, direct: None, pace, limit: None }
    }

    /// With other connections for addresses that are the machine's own.
    pub(super) fn with_direct(self, direct: Arc<Pool>) -> Self {
        Self { direct: Some(direct), ..self }
    }

    /// With a limit of its own.
    pub(super) fn within(self, limit: Duration) -> Self {
        Self { limit: Some(limit), ..self }
    }

    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, StoreError> {
        let request = outgoing(&request)?;
        let pool = match &self.direct {
            Some(direct) if is_local(request.url()) => direct,
            _ => &self.pool,
        };
        let Some(limit) = self.limit else { return incoming(pool.send(request, &self.pace).await?) };
        let _turn = self.pace.turn().await;
        let late = |_| StoreError::new(ErrorClass::Timeout, "the key's region did not answer in time");
        incoming(timeout(limit, pool.send(request, &Pace::default())).await.map_err(late)??)
    }
}

/// The SDK prints what it sends with.
impl fmt::Debug for Wire {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Wire").finish_non_exhaustive()
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let wire = self.clone();
        HttpConnectorFuture::new(async move {
            wire.exchange(request).await.map_err(|error| ConnectorError::other(Box::new(error), None))
        })
    }
}

impl HttpClient for Wire {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// Runs a call of the SDK. It logs requests with their tokens and answers with
/// their values at trace level: here nobody listens, whatever the level.
pub(super) async fn unheard<T>(call: impl Future<Output = T>) -> T {
    call.with_subscriber(NoSubscriber::default()).await
}

/// Gives a request this body in place of the SDK's, of which nobody zeroes the
/// copies. For `mutate_request`, which comes before the signature.
pub(super) fn with_body(body: Bytes) -> impl Fn(&mut HttpRequest) + Send + Sync + 'static {
    move |request| {
        request.headers_mut().insert("content-length", body.len().to_string());
        *request.body_mut() = SdkBody::from(body.clone());
    }
}

const UNWRITABLE: &str = "the SDK's request cannot be sent as it is";

fn outgoing(request: &HttpRequest) -> Result<Request, StoreError> {
    let unwritable = || unavailable(UNWRITABLE);
    let method = Method::from_bytes(request.method().as_bytes()).map_err(|_| unwritable())?;
    let url = Url::parse(request.uri()).map_err(|_| unwritable())?;
    let mut sent = Request::new(method, url);
    let headers: &mut HeaderMap = sent.headers_mut();
    for (name, value) in request.headers() {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unwritable())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| unwritable())?;
        value.set_sensitive(matches!(name.as_str(), "authorization" | "x-amz-security-token"));
        headers.append(name, value);
    }
    let body = request.body().bytes().ok_or_else(unwritable)?;
    if !body.is_empty() {
        // Zeroed once it is sent: an STS request carries a token.
        *sent.body_mut() = Some(Bytes::from_owner(Zeroizing::new(body.to_vec())).into());
    }
    Ok(sent)
}

pub(super) fn incoming(answer: Answer) -> Result<HttpResponse, StoreError> {
    let unreadable = || unavailable("the answer's head is none of AWS's");
    let status = answer.status.as_u16().try_into().map_err(|_| unreadable())?;
    // What holds the bytes zeroes them when the SDK lets go of them.
    let mut response = HttpResponse::new(status, SdkBody::from(Bytes::from_owner(answer.body)));
    for (name, value) in &answer.headers {
        // A value that is no text is none that the SDK looks at.
        if let Ok(value) = value.to_str() {
            response.headers_mut().try_append(name.as_str().to_owned(), value.to_owned()).map_err(|_| unreadable())?;
        }
    }
    Ok(response)
}

/// Link-local and loopback addresses: where metadata services are.
fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    match host.trim_matches(['[', ']']).parse() {
        Ok(IpAddr::V4(address)) => address.is_link_local() || address.is_loopback(),
        Ok(IpAddr::V6(address)) => address.is_loopback() || address.is_unique_local(),
        Err(_) => host == "localhost",
    }
}
