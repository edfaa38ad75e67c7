//! Sends what the exporter encodes, over the HTTP and TLS stack of everything else.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response, ResponseBodyTooLarge};
use tokio::{runtime::Handle, time::timeout};

use super::losses::Tally;

/// What an answer may weigh: it says at most which spans were refused.
const LARGEST_ANSWER: usize = 64 << 10;

/// The exporter's HTTP client.
///
/// The processor exports on a thread of its own, which is in no runtime, and an async
/// client needs one: the request is a task of the operator's, for whose end that thread
/// waits. (The processor that runs in a runtime itself is marked as experimental; a
/// blocking client would bring a runtime and a pool of its own.)
pub(super) struct Sender {
    pub(super) client: reqwest::Client,
    pub(super) runtime: Handle,
    /// How long a request may take with its answer.
    pub(super) patience: Duration,
    /// Is told what is answered.
    pub(super) tally: Arc<Tally>,
}

impl fmt::Debug for Sender {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sender").finish_non_exhaustive()
    }
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = reqwest::Request::try_from(request)?;
        let (client, patience) = (self.client.clone(), self.patience);
        // Its timer is made in there as well: that, too, takes a runtime.
        let answer = self.runtime.spawn(async move { timeout(patience, answered(client, request)).await }).await???;
        if answer.status().is_success() {
            self.tally.answered(answer.body());
        }
        Ok(answer)
    }
}

async fn answered(client: reqwest::Client, request: reqwest::Request) -> Result<Response<Bytes>, HttpError> {
    let mut response = client.execute(request).await?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > LARGEST_ANSWER {
            return Err(Box::new(ResponseBodyTooLarge::new()));
        }
        body.extend_from_slice(&chunk);
    }
    let mut answer = Response::new(Bytes::from(body));
    *answer.status_mut() = response.status();
    *answer.headers_mut() = std::mem::take(response.headers_mut());
    Ok(answer)
}
