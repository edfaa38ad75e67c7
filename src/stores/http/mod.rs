//! One TLS and HTTP stack for every manager: rustls with aws-lc-rs, no
//! redirects (a token must not follow one), no proxy from the environment,
//! and a bound on every answer.

mod answer;
mod cluster;
mod connections;
mod failure;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, Once, Weak},
    time::Duration,
};

use reqwest::{Identity, Request, Url, header::HeaderValue};
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use self::connections::{Trust, client};
use super::{Pace, StoreError, error::invalid, locked};
use crate::secret::SecretText;

pub(super) use self::answer::{Answer, LONGEST_RETRY_AFTER, retry_after};
pub use self::cluster::ClusterEndpoint;

/// What one answer may weigh. A Secret holds 1 MiB; base64 and JSON escapes
/// fit in four times that.
pub const LARGEST_ANSWER: usize = 4 << 20;
/// How long the cluster's CA file is taken as read.
const CA_FILE_KEPT: Duration = Duration::from_secs(60);

/// Which connections may be shared.
#[derive(Clone, PartialEq, Eq, Hash)]
struct PoolKey {
    trust: Trust,
    proxy: Option<String>,
    largest_answer: usize,
}

tokio::task_local! {
    /// How long one request may take from its turn on.
    static SEND_LIMIT: Duration;
}

/// The connection pools, shared by all stores: one a set of trusted
/// certificates and a proxy, and in it one an address.
#[derive(Clone)]
pub struct HttpClients {
    cluster: Arc<Cluster>,
    pools: Arc<Mutex<HashMap<PoolKey, Weak<Pool>>>>,
}

struct Cluster {
    endpoint: ClusterEndpoint,
    read: Mutex<Option<(Instant, Arc<Pool>)>>,
}

impl fmt::Debug for HttpClients {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HttpClients").finish_non_exhaustive()
    }
}

impl HttpClients {
    /// With the API server that the `kubernetes` store of the same cluster
    /// asks.
    #[must_use]
    pub fn new(cluster: ClusterEndpoint) -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            // An error says that the process has one already, which is as good.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        });
        Self { cluster: Arc::new(Cluster { endpoint: cluster, read: Mutex::default() }), pools: Arc::default() }
    }

    /// Gives each request that this sends so long from its own turn on,
    /// however long others of it still wait for theirs.
    pub(crate) fn each_within<T>(limit: Duration, requests: impl Future<Output = T>) -> impl Future<Output = T> {
        SEND_LIMIT.scope(limit, requests)
    }

    /// What [`HttpClients::each_within`] gives here.
    pub(crate) fn send_limit() -> Option<Duration> {
        SEND_LIMIT.try_with(|limit| *limit).ok()
    }

    /// The pool for an address, a CA bundle (PEM, or base64 of PEM), a proxy and
    /// a bound on answers.
    pub(super) fn pool(
        &self,
        address: &Url,
        ca_bundle: Option<&str>,
        proxy: Option<&str>,
        largest_answer: usize,
    ) -> Result<Arc<Pool>, StoreError> {
        let trust = Trust::at(address, ca_bundle)?;
        self.shared(PoolKey { trust, proxy: proxy.map(str::to_owned), largest_answer })
    }

    /// Connections that show a client certificate. Nobody else's: they would
    /// be taken for its holder.
    #[allow(clippy::unused_self, reason = "reads as the shared ones do")]
    pub(super) fn pool_as(
        &self,
        identity: Identity,
        ca_bundle: Option<&str>,
        proxy: Option<&str>,
        largest_answer: usize,
    ) -> Result<Arc<Pool>, StoreError> {
        let client = client(&Trust::of(ca_bundle)?, proxy, Some(identity))?;
        Ok(Arc::new(Pool { client, largest_answer }))
    }

    /// Where this cluster's API server is, and the pool for it.
    pub(super) fn cluster(&self) -> Result<(Url, Arc<Pool>), StoreError> {
        let endpoint = &self.cluster.endpoint;
        let url = Url::parse(&endpoint.url).map_err(|_| invalid("the operator's own API server URL cannot be used"))?;
        let mut read = locked(&self.cluster.read);
        if let Some((when, pool)) = &*read
            && when.elapsed() < CA_FILE_KEPT
        {
            return Ok((url, Arc::clone(pool)));
        }
        let from_file = endpoint.ca_file.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        let pool = self.pool(&url, from_file.as_deref().or(endpoint.ca_pem.as_deref()), None, LARGEST_ANSWER)?;
        *read = Some((Instant::now(), Arc::clone(&pool)));
        Ok((url, pool))
    }

    fn shared(&self, key: PoolKey) -> Result<Arc<Pool>, StoreError> {
        let mut pools = locked(&self.pools);
        if let Some(pool) = pools.get(&key).and_then(Weak::upgrade) {
            return Ok(pool);
        }
        pools.retain(|_, pool| pool.strong_count() > 0);
        let pool = Arc::new(Pool {
            client: client(&key.trust, key.proxy.as_deref(), None)?,
            largest_answer: key.largest_answer,
        });
        pools.insert(key, Arc::downgrade(&pool));
        Ok(pool)
    }
}

/// The header that shows a token; `None` where no header can hold it.
pub(super) fn bearer(token: &SecretText) -> Option<HeaderValue> {
    let text = Zeroizing::new(format!("Bearer {}", token.expose()));
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Connections that trust the same certificates.
pub(super) struct Pool {
    client: reqwest::Client,
    largest_answer: usize,
}

impl Pool {
    /// Sends one request in its turn and reads the answer up to the bound. The
    /// deadline is the caller's, and [`HttpClients::each_within`]'s.
    pub(super) async fn send(&self, request: Request, pace: &Pace) -> Result<Answer, StoreError> {
        let _turn = pace.turn().await;
        let Some(limit) = HttpClients::send_limit() else { return self.answered(request).await };
        timeout(limit, self.answered(request)).await.unwrap_or_else(|_| Err(StoreError::late(limit)))
    }

    async fn answered(&self, request: Request) -> Result<Answer, StoreError> {
        let origin = request.url().origin().ascii_serialization();
        let response = self.client.execute(request).await.map_err(|error| failure::unreachable(&origin, &error))?;
        Answer::read(response, self.largest_answer, &origin).await
    }
}

#[cfg(test)]
mod tests;
