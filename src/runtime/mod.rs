//! Runs the operator: watches feed the index, the queue says who is next, a
//! pass takes one BotSecret through the stages.

mod connections;
mod digest_key;
mod done;
mod emergency;
mod engine;
mod leader;
mod leasing;
mod noting;
mod overlapping;
pub(crate) mod own_audiences;
mod pass;
mod referred;
mod rolling;
mod rotating;
mod server;
mod successes;
mod syncing;
mod taking_back;
mod telling;
#[cfg(test)]
mod test_context;
mod trying;
mod turns;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use kube::client::{Body, ClientBuilder};
use tokio::{net::TcpListener, sync::watch};
use tower::{BoxError, Layer, Service, limit::GlobalConcurrencyLimitLayer};

pub use self::leader::Election;
use self::{
    leader::{Fence, Leadership},
    successes::Successes,
};
use crate::{
    audit::AuditLog,
    fetch::{Fetcher, KubeCredentials, KubeTokens},
    plan::Clock,
    report::{Emitter, Metrics},
    stores::{ClusterEndpoint, HttpClients, Place, Reach},
};

/// Requests to the Kubernetes API under way at once. Watches count only until
/// they are open. More would only queue in the API server.
const API_IN_FLIGHT: usize = 64;

/// What the operator needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cluster.
    pub config: kube::Config,
    /// The namespaces to serve; none: all of them.
    pub namespaces: Vec<String>,
    /// Where the operator's own Secret (the digest key) lies.
    pub operator_namespace: String,
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub listen: SocketAddr,
    /// The only places that the stores of a namespace may ask; none: any.
    pub store_addresses: Vec<Place>,
    /// Which Lease decides who writes; `None` for a process that is the only one.
    pub election: Option<Election>,
    /// How many workloads may roll at once in one namespace; `None`: any number.
    pub rollouts_per_namespace: Option<usize>,
    /// How many workloads may roll at once in all; `None`: any number.
    pub rollouts: Option<usize>,
    /// How many BotSecrets have a series of their own in the metrics.
    pub object_metrics: usize,
    /// Where each call of a manager is written to; `None`: nowhere.
    pub audit_log: Option<AuditLog>,
}

/// Why the operator could not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The cluster's address or credentials cannot be used.
    #[error("the Kubernetes client could not be made: check the kubeconfig or the in-cluster configuration ({0})")]
    Client(String),
    /// The digest key could neither be read nor made.
    #[error("{0}")]
    DigestKey(String),
    /// The address for metrics and probes is not to be had.
    #[error("cannot listen on {0}: {1}; choose another --listen address")]
    Listen(SocketAddr, std::io::Error),
    /// The watches ended.
    #[error("the watches on the Kubernetes API ended")]
    WatchesEnded,
    /// Another replica leads now, or may.
    #[error("this replica no longer holds the Lease, so another may write: it ends, to begin again as a standby")]
    Deposed,
}

/// What every pass shares.
pub(crate) struct Context {
    client: kube::Client,
    fetcher: Fetcher,
    /// Where the Secrets lie that the cluster's stores refer to.
    operator_namespace: String,
    digest_key: crate::build::DigestKey,
    emitter: Emitter,
    metrics: Metrics,
    /// Periodic reads, by store: they stand back behind those that somebody
    /// waits for.
    lanes: turns::Lanes,
    writes: turns::Writes,
    /// How many workloads roll at once, for whichever BotSecrets.
    places: rolling::Places,
    clock: Clock,
    /// Tells the time of day.
    wall: fn() -> Timestamp,
    stop: watch::Sender<bool>,
}

impl Context {
    /// The time of day.
    fn now(&self) -> Timestamp {
        (self.wall)()
    }

    /// Resolves when the operator is to stop.
    async fn stopping(&self) {
        // The sender lives as long as this does.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }
}

/// Runs until `shutdown` resolves, then lets what is under way finish.
///
/// # Errors
/// As [`RunError`].
pub async fn run(mut options: Options, shutdown: impl Future<Output = ()> + Send) -> Result<(), RunError> {
    // A retried write can take minutes and hides the conflict that caused it;
    // the queue retries with a fresh read instead.
    options.config.default_retry = false;
    options.config.connect_timeout = Some(Duration::from_secs(5));
    connections::bound_silence(&mut options.config);
    let endpoint = ClusterEndpoint::from_config(&options.config);
    let token_file = options.config.auth_info.token_file.clone();
    let own_token = token_file.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    let own_audiences = own_audiences::of_token(&own_token);
    let unusable = |error: kube::Error| RunError::Client(error.to_string());
    let connect = || connections::short_lived(&options.config).map_err(unusable);
    let fence = if options.election.is_some() { Fence::closed() } else { Fence::open() };
    let limit = GlobalConcurrencyLimitLayer::new(API_IN_FLIGHT);
    let client = connect()?.with_layer(&limit).with_layer(&fence.layer()).build();
    // They show no Secret's data, but annotations, of which one may repeat it
    // (kubectl.kubernetes.io/last-applied-configuration).
    let watching = connect()?.with_layer(&limit).build();
    // For what a standby may write, too: the Lease, which no queue of other
    // requests may hold up, and the digest key, which the first of them makes. Neither is
    // ever retired, so its connections stay.
    let unfenced = ClientBuilder::try_from(options.config.clone()).map_err(unusable)?.build();
    let listener = TcpListener::bind(options.listen).await.map_err(|error| RunError::Listen(options.listen, error))?;
    let address = listener.local_addr().map_err(|error| RunError::Listen(options.listen, error))?;
    let tokens = Arc::new(KubeTokens::new(client.clone()).refusing(own_audiences));
    let clients = HttpClients::new(endpoint).within(Reach::to(options.store_addresses));
    let fetcher = Fetcher::new(tokens, Arc::new(KubeCredentials::new(client.clone())), clients);
    if let Some(log) = &options.audit_log {
        fetcher.audit_to(log.clone());
    }
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), namespaces = ?options.namespaces, "operator started");
    let part = Part {
        namespaces: options.namespaces,
        operator_namespace: options.operator_namespace,
        election: options.election,
        rollouts_per_namespace: options.rollouts_per_namespace,
        rollouts: options.rollouts,
        object_metrics: options.object_metrics,
    };
    let ground = Ground { client, watching, unfenced, fence, fetcher, wall: Timestamp::now };
    let result = ground.operate(part, Some(listener), shutdown).await;
    if let Some(log) = options.audit_log {
        log.finish().await;
    }
    result
}

/// What an operator is to do, wherever it runs.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// As [`Options::namespaces`].
    pub namespaces: Vec<String>,
    /// As [`Options::operator_namespace`].
    pub operator_namespace: String,
    /// As [`Options::election`].
    pub election: Option<Election>,
    /// As [`Options::rollouts_per_namespace`].
    pub rollouts_per_namespace: Option<usize>,
    /// As [`Options::rollouts`].
    pub rollouts: Option<usize>,
    /// As [`Options::object_metrics`].
    pub object_metrics: usize,
}

/// Runs the operator in another world than the machine's: with this for the
/// Kubernetes API, these managers, and this for the time of day. Metrics and probes are
/// served where `listener` listens, if there is one. Otherwise as [`run`].
///
/// # Errors
/// As [`RunError`].
pub async fn run_in<S, B>(
    api: S,
    managers: impl FnOnce(kube::Client) -> Fetcher,
    wall: fn() -> Timestamp,
    part: Part,
    listener: Option<TcpListener>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RunError>
where
    S: Service<hyper::Request<Body>, Response = hyper::Response<B>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
    B: hyper::body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let fence = if part.election.is_some() { Fence::closed() } else { Fence::open() };
    let client = kube::Client::new(fence.layer().layer(api.clone()), part.operator_namespace.clone());
    let unfenced = kube::Client::new(api, part.operator_namespace.clone());
    let fetcher = managers(client.clone());
    Ground { watching: client.clone(), client, unfenced, fence, fetcher, wall }.operate(part, listener, shutdown).await
}

/// What an operator runs on.
struct Ground {
    client: kube::Client,
    /// For watches and their lists.
    watching: kube::Client,
    unfenced: kube::Client,
    fence: Fence,
    fetcher: Fetcher,
    wall: fn() -> Timestamp,
}

impl Ground {
    async fn operate(
        self,
        part: Part,
        listener: Option<TcpListener>,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), RunError> {
        let Self { client, watching, unfenced, fence, fetcher, wall } = self;
        let digest_key = digest_key::load(&unfenced, &part.operator_namespace).await?;
        let metrics = Metrics::new(fetcher.counters().call_times());
        let context = Arc::new(Context {
            fetcher,
            operator_namespace: part.operator_namespace,
            digest_key,
            emitter: Emitter::new(client.clone()),
            metrics,
            lanes: turns::Lanes::default(),
            writes: turns::Writes::default(),
            places: rolling::Places::new(part.rollouts_per_namespace, part.rollouts),
            clock: Clock::new(tokio::time::Instant::now(), pass::since_epoch(wall())),
            wall,
            stop: watch::Sender::new(false),
            client,
        });
        let (ready, is_ready) = watch::channel(false);
        let server = listener.map(|listener| tokio::spawn(server::serve(listener, context.clone(), is_ready)));
        let leadership = Leadership::begin(unfenced, &context.operator_namespace, part.election, fence);
        let successes = Successes::of(part.object_metrics);
        let namespaces = &part.namespaces;
        let result = engine::run(context, &watching, namespaces, successes, &leadership, ready, shutdown).await;
        if let Some(server) = server {
            server.abort();
        }
        leadership.end().await;
        tracing::info!("operator stopped");
        result
    }
}
