//! Reads answers, up to their bound.

use std::time::Duration;

use reqwest::{
    Response, StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};
use zeroize::Zeroizing;

use super::failure::unreachable;
use crate::stores::{ErrorClass, StoreError};

/// The longest wait that a manager may ask for.
pub(in crate::stores) const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(600);

/// One whole answer. No `Debug`: the body may be a secret.
pub(in crate::stores) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub retry_after: Option<Duration>,
    pub body: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// What an address answers, of at most so many bytes.
    pub(super) async fn read(mut response: Response, most: usize, origin: &str) -> Result<Self, StoreError> {
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?));
        let body = bounded(&mut response, most, origin).await?;
        let headers = std::mem::take(response.headers_mut());
        Ok(Self { status, headers, retry_after, body })
    }
}

/// The header's value as a wait. Only seconds are understood; managers send no
/// dates.
pub(in crate::stores) fn retry_after(text: &str) -> Option<Duration> {
    let seconds = text.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER))
}

async fn bounded(response: &mut Response, most: usize, origin: &str) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let too_large = || {
        StoreError::new(
            ErrorClass::TooLarge,
            format!("the answer is larger than the {most} bytes that are read: see limits.maxResponseBytes"),
        )
    };
    let announced = response.content_length().unwrap_or(8 << 10);
    let announced = usize::try_from(announced).unwrap_or(usize::MAX);
    if announced > most {
        return Err(too_large());
    }
    let mut body = Zeroizing::new(Vec::with_capacity(announced));
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(origin, &error))? {
        let needed = body.len() + chunk.len();
        if needed > most {
            return Err(too_large());
        }
        if needed > body.capacity() {
            // By hand: a Vec that grows leaves its old bytes behind.
            let mut larger = Zeroizing::new(Vec::with_capacity((needed * 2).min(most)));
            larger.extend_from_slice(&body);
            body = larger;
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
