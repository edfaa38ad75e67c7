//! A deadline for every request to the Kubernetes API.

use std::time::Duration;

/// How long one request may take. kube has no read timeout of its own for
/// anything but watches.
pub const API_DEADLINE: Duration = Duration::from_secs(15);

/// The result, or a service error once [`API_DEADLINE`] has passed.
///
/// # Errors
/// The request's own error, or one that says that it took too long.
pub async fn within<T>(request: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    match tokio::time::timeout(API_DEADLINE, request).await {
        Ok(result) => result,
        Err(_) => Err(kube::Error::Service("the Kubernetes API did not answer in time".into())),
    }
}
