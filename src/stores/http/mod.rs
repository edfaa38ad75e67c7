//! One TLS and HTTP stack for every manager: rustls with aws-lc-rs, no
//! redirects (a token must not follow one), no proxy from the environment,
//! and a bound on every answer.

mod answer;
mod cluster;
mod connections;
mod failure;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
mod reach;

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
use super::{
    Pace, StoreError,
    error::{invalid, unavailable},
    locked,
};
use crate::{
    secret::SecretText,
    short_lived::{LIFE, ShortLived},
};

pub(super) use self::answer::{Answer, LONGEST_RETRY_AFTER, retry_after};
pub use self::{
    cluster::ClusterEndpoint,
    reach::{Place, Reach},
};

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
    /// Whether names must not stand for addresses of the machine itself.
    confined: bool,
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
    reach: Reach,
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
        provide_cryptography();
        let cluster = Arc::new(Cluster { endpoint: cluster, read: Mutex::default() });
        Self { cluster, reach: Reach::default(), pools: Arc::default() }
    }

    /// The same, where the stores of a namespace may ask no other places.
    #[must_use]
    pub fn within(self, reach: Reach) -> Self {
        Self { reach, ..self }
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
        self.shared(PoolKey { trust, proxy: proxy.map(str::to_owned), largest_answer, confined: false })
    }

    /// The same for an address and a proxy that a store of a namespace names. Where
    /// each request goes is looked at when it is sent: an address may only begin that of
    /// the service that is asked.
    pub(super) fn pool_within_reach(
        &self,
        address: &Url,
        ca_bundle: Option<&str>,
        proxy: Option<&str>,
        largest_answer: usize,
    ) -> Result<Arc<Pool>, StoreError> {
        self.check_proxy(proxy)?;
        let trust = Trust::at(address, ca_bundle)?;
        self.shared(PoolKey { trust, proxy: proxy.map(str::to_owned), largest_answer, confined: true })
    }

    /// Whether a store of a namespace may go by this proxy.
    fn check_proxy(&self, proxy: Option<&str>) -> Result<(), StoreError> {
        let Some(proxy) = proxy else { return Ok(()) };
        // Read more strictly than reqwest does, which puts a scheme before what has none.
        let url = Url::parse(proxy).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        self.reach.check(&url.ok_or_else(|| invalid("proxy is not a URL: write http://host:port"))?)
    }

    fn reach_of(&self, confined: bool) -> Option<Reach> {
        confined.then(|| self.reach.clone())
    }

    /// Connections that show a client certificate. Nobody else's: they would
    /// be taken for its holder.
    pub(super) fn pool_as(
        &self,
        identity: Identity,
        ca_bundle: Option<&str>,
        proxy: Option<&str>,
        largest_answer: usize,
        confined: bool,
    ) -> Result<Arc<Pool>, StoreError> {
        if confined {
            self.check_proxy(proxy)?;
        }
        let (trust, proxy) = (Trust::of(ca_bundle)?, proxy.map(str::to_owned));
        let make = move || client(&trust, proxy.as_deref(), Some(identity.clone()), confined);
        Ok(Arc::new(Pool::new(make, largest_answer, self.reach_of(confined))?))
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
        let (largest_answer, reach, of) = (key.largest_answer, self.reach_of(key.confined), key.clone());
        let make = move || client(&of.trust, of.proxy.as_deref(), None, of.confined);
        let pool = Arc::new(Pool::new(make, largest_answer, reach)?);
        pools.insert(key, Arc::downgrade(&pool));
        Ok(pool)
    }
}

/// Connections to what is no manager: of the same stack, by the same rules. The deadline
/// and the bound on answers are the caller's.
pub(crate) fn client_for(address: &Url) -> Result<reqwest::Client, StoreError> {
    provide_cryptography();
    client(&Trust::at(address, None)?, None, None, false)
}

/// For the process, once: reqwest and rustls bring none of their own.
fn provide_cryptography() {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // An error says that the process has one already, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
}

/// The header that shows a token; `None` where no header can hold it.
pub(super) fn bearer(token: &SecretText) -> Option<HeaderValue> {
    let text = Zeroizing::new(format!("Bearer {}", token.expose()));
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Connections that trust the same certificates. They carry values, so none is open for
/// long.
pub(super) struct Pool {
    clients: ShortLived<reqwest::Client, StoreError>,
    largest_answer: usize,
    /// Where requests may go, where not anywhere.
    reach: Option<Reach>,
}

impl Pool {
    fn new(
        make: impl Fn() -> Result<reqwest::Client, StoreError> + Send + Sync + 'static,
        largest_answer: usize,
        reach: Option<Reach>,
    ) -> Result<Self, StoreError> {
        Ok(Self { clients: ShortLived::new(LIFE, make)?, largest_answer, reach })
    }

    /// Sends one request in its turn and reads the answer up to the bound. The
    /// deadline is the caller's, and [`HttpClients::each_within`]'s.
    pub(super) async fn send(&self, request: Request, pace: &Pace) -> Result<Answer, StoreError> {
        if let Some(reach) = &self.reach {
            reach.check(request.url())?;
        }
        let _turn = pace.turn().await;
        let Some(limit) = HttpClients::send_limit() else { return self.answered(request).await };
        timeout(limit, self.answered(request)).await.unwrap_or_else(|_| Err(StoreError::late(limit)))
    }

    async fn answered(&self, request: Request) -> Result<Answer, StoreError> {
        let origin = request.url().origin().ascii_serialization();
        // There was one before: what is wanting now, such as a file that may be opened, comes
        // back by itself, and is no fault of what the store says.
        let client = self.clients.get().map_err(|error| unavailable(error.message))?;
        let response = client.execute(request).await.map_err(|error| failure::unreachable(&origin, &error))?;
        Answer::read(response, self.largest_answer, &origin).await
    }
}

#[cfg(test)]
mod tests;
