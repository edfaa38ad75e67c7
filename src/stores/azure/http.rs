//! Sends the SDK's requests over the shared HTTP stack.
//!
//! Whatever is no success is turned into our own typed error here, before the
//! SDK sees it: its errors would carry the answer.

use std::{error::Error as _, fmt, sync::Arc};

use async_trait::async_trait;
use azure_core::{
    Bytes,
    error::ErrorKind,
    http::{
        AsyncRawResponse, Body, ClientOptions, HttpClient, Method as SdkMethod, Request as SdkRequest, RetryOptions,
        Transport, headers::Headers,
    },
};
use reqwest::{
    Method, Request, StatusCode, Url,
    header::{AUTHORIZATION, HeaderName, HeaderValue, WWW_AUTHENTICATE},
};

use super::{
    errors::{self, Party},
    invalid, unavailable,
};
use crate::stores::{Pace, StoreError, http::Pool};

/// A way to one party.
pub(super) struct Wire {
    pool: Arc<Pool>,
    /// The only address that is asked. A link to the next page must not take a
    /// token anywhere else. `None`: the machine's own token service, whose
    /// address the SDK knows.
    origin: Option<String>,
    pace: Pace,
    party: Party,
}

impl fmt::Debug for Wire {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Wire").finish_non_exhaustive()
    }
}

impl Wire {
    pub(super) fn new(pool: Arc<Pool>, only: Option<&Url>, pace: Pace, party: Party) -> Self {
        Self { pool, origin: only.map(origin), pace, party }
    }

    /// The SDK's options with this transport, and one attempt only.
    pub(super) fn options(self) -> ClientOptions {
        ClientOptions {
            retry: RetryOptions::none(),
            transport: Some(Transport::new(Arc::new(self))),
            ..ClientOptions::default()
        }
    }

    async fn exchange(&self, request: &SdkRequest) -> Result<AsyncRawResponse, StoreError> {
        let request = self.converted(request)?;
        let authorized = request.headers().contains_key(AUTHORIZATION);
        let (url, writes) = (request.url().clone(), request.method() == Method::PUT);
        let answer = self.pool.send(request, &self.pace).await?;
        let status = answer.status.as_u16().into();
        if answer.status.is_success() {
            // The SDK hands the body on uncopied, and it is zeroed in the end.
            return Ok(AsyncRawResponse::from_bytes(status, Headers::new(), Bytes::from_owner(answer.body)));
        }
        let challenge = answer.headers.get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
        match (challenge, &self.party) {
            // The first request of a session only asks whom to log in to.
            (Some(challenge), Party::Vault { resource, .. })
                if !authorized && answer.status == StatusCode::UNAUTHORIZED =>
            {
                // Before the SDK, which would remember what it asks for.
                if !names(challenge, resource) {
                    return Err(errors::other_resource(resource));
                }
                let mut headers = Headers::new();
                headers.insert("www-authenticate", challenge.to_owned());
                Ok(AsyncRawResponse::from_bytes(status, headers, Bytes::new()))
            }
            _ => Err(errors::refusal(&answer, &self.party, &url, writes)),
        }
    }

    fn converted(&self, request: &SdkRequest) -> Result<Request, StoreError> {
        let url = request.url().clone();
        if self.origin.as_ref().is_some_and(|only| *only != origin(&url)) {
            return Err(unavailable("the answer points to another address, which is not followed"));
        }
        let method = match request.method() {
            SdkMethod::Get => Method::GET,
            SdkMethod::Post => Method::POST,
            SdkMethod::Put => Method::PUT,
            _ => return Err(invalid("only reads, logins and new values are sent")),
        };
        let mut built = Request::new(method, url);
        for (name, value) in request.headers().iter() {
            let unsendable = || unavailable("the request holds what cannot be sent in a header");
            let name = HeaderName::from_bytes(name.as_str().as_bytes()).map_err(|_| unsendable())?;
            let mut value = HeaderValue::from_str(value.as_str()).map_err(|_| unsendable())?;
            value.set_sensitive(name == AUTHORIZATION || name == "x-identity-header");
            built.headers_mut().insert(name, value);
        }
        match request.body() {
            Body::Bytes(bytes) if bytes.is_empty() => {}
            Body::Bytes(bytes) => *built.body_mut() = Some(bytes.clone().into()),
            Body::SeekableStream(_) => return Err(invalid("streams are not sent")),
        }
        Ok(built)
    }
}

#[async_trait]
impl HttpClient for Wire {
    async fn execute_request(&self, request: &SdkRequest) -> azure_core::Result<AsyncRawResponse> {
        self.exchange(request).await.map_err(carried)
    }
}

/// Whether a challenge asks for a login to this resource.
pub(super) fn names(challenge: &str, resource: &str) -> bool {
    let parts = challenge.split([',', ' ']).filter_map(|part| part.trim().split_once('='));
    let mut wanted = parts.filter(|(name, _)| matches!(*name, "resource" | "scope")).peekable();
    let fits = |(name, value): (&str, &str)| {
        let value = value.trim_matches('"');
        let value = if name == "scope" { value.strip_suffix("/.default") } else { Some(value) };
        value.is_some_and(|value| value.trim_end_matches('/') == resource)
    };
    wanted.peek().is_some() && wanted.all(fits)
}

fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// Our error, on its way through the SDK. Of this kind none is tried again.
pub(super) fn carried(error: StoreError) -> azure_core::Error {
    azure_core::Error::new(ErrorKind::Other, error)
}

/// Our error out of the SDK's; where it is the SDK's own, which may quote an
/// answer, the one given.
pub(super) fn recovered(error: &azure_core::Error, otherwise: impl FnOnce() -> StoreError) -> StoreError {
    let mut next = error.source();
    while let Some(inner) = next {
        if let Some(ours) = inner.downcast_ref::<StoreError>() {
            return ours.clone();
        }
        next = inner.source();
    }
    otherwise()
}
