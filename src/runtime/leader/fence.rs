//! Keeps a process that no longer leads from writing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kube::client::Body;
use tokio::time::Instant;
use tower::{BoxError, filter::FilterLayer};

/// Until when this process may write to the Kubernetes API.
///
/// The API server judges late writes by their preconditions. This is the first
/// line: a process that was stopped and continued finds its time over.
#[derive(Clone, Debug)]
pub struct Fence {
    base: Instant,
    /// Milliseconds from `base`.
    until: Arc<AtomicU64>,
}

/// A write was held back.
#[derive(Debug, thiserror::Error)]
#[error("this replica does not lead: nothing is written")]
struct Deposed;

impl Fence {
    /// For a process that is the only one.
    pub fn open() -> Self {
        Self { base: Instant::now(), until: Arc::new(AtomicU64::new(u64::MAX)) }
    }

    /// For one that has yet to become the leader.
    pub fn closed() -> Self {
        Self { base: Instant::now(), until: Arc::default() }
    }

    /// Writes may go out until then.
    pub fn open_until(&self, until: Instant) {
        let until = until.saturating_duration_since(self.base).as_millis();
        self.until.store(u64::try_from(until).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// No more writes.
    pub fn close(&self) {
        self.until.store(0, Ordering::SeqCst);
    }

    /// How long writes may go out yet.
    pub fn left(&self, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.base);
        Duration::from_millis(self.until.load(Ordering::SeqCst)).saturating_sub(passed)
    }

    /// Lets reads pass, and writes while it is open.
    pub fn layer(
        &self,
    ) -> FilterLayer<impl Fn(http::Request<Body>) -> Result<http::Request<Body>, BoxError> + Clone + Send + 'static>
    {
        let fence = self.clone();
        FilterLayer::new(move |request: http::Request<Body>| {
            if request.method().is_safe() || !fence.left(Instant::now()).is_zero() {
                Ok(request)
            } else {
                Err(Deposed.into())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{Method, Request, Response};
    use kube::client::Body;
    use tokio::time::{Instant, advance};
    use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};

    use super::Fence;

    async fn passes(fence: &Fence, method: Method) -> bool {
        let server = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(())));
        let service = ServiceBuilder::new().layer(fence.layer()).service(server);
        let request = Request::builder().method(method).body(Body::empty()).expect("a request");
        service.oneshot(request).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_does_not_lead_reads_and_writes_nothing() {
        let fence = Fence::closed();
        assert!(passes(&fence, Method::GET).await && !passes(&fence, Method::PATCH).await);
        fence.open_until(Instant::now() + Duration::from_secs(10));
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert!(passes(&fence, method).await);
        }
        advance(Duration::from_secs(10)).await;
        assert!(passes(&fence, Method::GET).await && !passes(&fence, Method::DELETE).await);
        fence.open_until(Instant::now() + Duration::from_secs(10));
        fence.close();
        assert!(!passes(&fence, Method::POST).await);
        assert!(passes(&Fence::open(), Method::POST).await);
    }
}
