//! `botsecret operator`.

use std::{fs, io, net::SocketAddr, path::PathBuf, str::FromStr};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    Error,
    cluster::cluster,
    logging::{self, LogFormat},
    sealed,
    traces::TracesArguments,
};
use crate::{
    audit::{AuditLog, Destination},
    runtime::{self, Election},
    stores::Place,
    traces::Traces,
};

/// What `botsecret operator` takes.
#[derive(Debug, Args)]
pub struct OperatorArguments {
    /// Serve these namespaces only, separated by commas; the whole cluster when empty
    #[arg(long, env = "BOTSECRET_NAMESPACES", value_name = "A,B", default_value = "", hide_default_value = true)]
    namespaces: Namespaces,

    /// The operator's own namespace, which holds its digest key [default: the one it runs in, else botsecret-system]
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME")]
    operator_namespace: Option<Namespace>,

    /// Where metrics and probes are served
    #[arg(long, env = "BOTSECRET_LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,

    /// Write only while holding a Lease, so that several replicas can run: one leads, the others stand by
    #[arg(long, env = "BOTSECRET_LEADER_ELECT")]
    leader_elect: bool,

    /// The Lease that replicas share, in the operator's own namespace
    #[arg(long, value_name = "NAME", default_value = "botsecret")]
    lease_name: String,

    /// The UID of the pod that this runs in: started again in it, a container takes up its own Lease at once
    #[arg(long, env = "POD_UID", value_name = "UID", hide_env_values = true)]
    pod_uid: Option<String>,

    /// The only places that BotSecretStores may ask: hosts, *.domains, addresses, networks; ClusterBotSecretStores may ask any [default: any, but link-local ones and the like]
    #[arg(long, env = "BOTSECRET_STORE_ADDRESSES", value_name = "PLACE,...", value_delimiter = ',')]
    store_addresses: Vec<Place>,

    /// How many workloads may roll at once over the whole cluster [default: any number]
    #[arg(long, env = "BOTSECRET_MAX_ROLLOUTS", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    max_rollouts: Option<u32>,

    /// How many workloads may roll at once in one namespace [default: any number]
    #[arg(long, env = "BOTSECRET_MAX_ROLLOUTS_PER_NAMESPACE", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    max_rollouts_per_namespace: Option<u32>,

    /// How many BotSecrets have a series of their own in the metrics, with their names: the first ones by namespace and name; 0: none
    #[arg(long, env = "BOTSECRET_OBJECT_METRICS", value_name = "COUNT", default_value_t = 1000)]
    object_metrics: u32,

    /// Write a line for each login, read and write at a secret manager, never with a value: to a file, or to standard output (-) [default: nowhere]
    #[arg(long, env = "BOTSECRET_AUDIT_LOG", value_name = "FILE")]
    audit_log: Option<Destination>,

    #[command(flatten)]
    traces: TracesArguments,

    /// Leave core dumps and debuggers to the system. Memory holds credentials: for debugging alone
    #[arg(long, env = "BOTSECRET_ALLOW_CORE_DUMPS")]
    allow_core_dumps: bool,

    /// How log lines are written
    #[arg(long, env = "BOTSECRET_LOG_FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,

    /// What is logged: a level, or directives such as info,botsecret::rollout=debug. Other crates' lines stay capped
    #[arg(long, env = "BOTSECRET_LOG_LEVEL", value_name = "LEVEL", default_value = "info", value_parser = logging::parse_level)]
    log_level: String,

    /// A kubeconfig file [default: $KUBECONFIG, ~/.kube/config, or the pod's own account]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// The context to use from the kubeconfig file
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

pub(super) fn run(arguments: OperatorArguments) -> Result<(), Error> {
    if !arguments.allow_core_dumps {
        sealed::seal()?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let settings = arguments.traces.settings(arguments.place());
    let traces = settings.map(|settings| Traces::start(&settings, runtime.handle().clone())).transpose()?;
    logging::start(arguments.log_format, &arguments.log_level, traces.as_ref())?;
    // As a task, on the threads that run everything else: what is blocked on
    // runs on a thread of its own, to which every event must be handed over.
    let result = runtime.block_on(async { tokio::spawn(serve(arguments)).await.map_err(io::Error::other)? });
    // While the runtime is there still, by which they are sent.
    if let Some(traces) = traces {
        traces.finish();
    }
    result
}

impl OperatorArguments {
    /// Where this process runs, as far as that is known: in the names that OpenTelemetry's
    /// conventions for resources give to it.
    fn place(&self) -> Vec<(&'static str, String)> {
        let namespace = self.operator_namespace.as_ref().map(|namespace| namespace.0.clone());
        let pod = std::env::var("POD_NAME").ok();
        let known = [("k8s.namespace.name", namespace), ("k8s.pod.name", pod), ("k8s.pod.uid", self.pod_uid.clone())];
        let known = known.into_iter().filter_map(|(name, value)| Some((name, value?)));
        known.filter(|(_, value)| !value.is_empty()).collect()
    }
}

async fn serve(arguments: OperatorArguments) -> Result<(), Error> {
    // For the process: what brings no provider of its own uses this one. Fails
    // only where one is set already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let audit_log = arguments.audit_log.map(|destination| {
        AuditLog::open(&destination).map_err(|error| format!("--audit-log cannot be written to: {error}"))
    });
    let config = cluster(arguments.kubeconfig, arguments.context).await?;
    if config.proxy_url.is_some() {
        // What passes there may be a Secret.
        return Err("the operator speaks to the API server itself, by no proxy: take proxy-url out of the \
                    kubeconfig, or name the API server in NO_PROXY"
            .into());
    }
    let options = runtime::Options {
        config,
        namespaces: arguments.namespaces.0,
        operator_namespace: arguments.operator_namespace.map_or_else(own_namespace, |namespace| namespace.0),
        listen: arguments.listen,
        store_addresses: arguments.store_addresses,
        election: if arguments.leader_elect {
            Some(Election { lease: arguments.lease_name, identity: identity(arguments.pod_uid)? })
        } else {
            None
        },
        rollouts_per_namespace: arguments.max_rollouts_per_namespace.map(|most| most as usize),
        rollouts: arguments.max_rollouts.map(|most| most as usize),
        object_metrics: arguments.object_metrics as usize,
        audit_log: audit_log.transpose()?,
    };
    Ok(runtime::run(options, shutdown).await?)
}

/// What this process calls itself in the Lease: by its pod, or else as no other.
fn identity(pod: Option<String>) -> Result<String, Error> {
    let unique = if let Some(uid) = pod.filter(|uid| !uid.is_empty()) {
        uid
    } else {
        let mut bytes = [0; 8];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "the system gave no randomness")?;
        format!("{:016x}", u64::from_be_bytes(bytes))
    };
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Ok(format!("{}_{unique}", host.trim()))
}

/// The namespace of the pod that this runs in.
fn own_namespace() -> String {
    fs::read_to_string("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
        .map(|text| text.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "botsecret-system".to_owned())
}

#[derive(Clone, Debug, PartialEq)]
struct Namespace(String);

impl FromStr for Namespace {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let bytes = name.as_bytes();
        let valid = (1..=63).contains(&bytes.len())
            && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
            && !name.starts_with('-')
            && !name.ends_with('-');
        if valid { Ok(Self(name.to_owned())) } else { Err(format!("{name:?} is not the name of a namespace")) }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Namespaces(pub(super) Vec<String>);

impl FromStr for Namespaces {
    type Err = String;

    fn from_str(list: &str) -> Result<Self, Self::Err> {
        let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
        let names: Vec<_> = names.map(|name| name.parse::<Namespace>().map(|name| name.0)).collect::<Result<_, _>>()?;
        // A list whose names went missing must not open the whole cluster.
        if names.is_empty() && !list.is_empty() {
            return Err("it names no namespace: name one, or give nothing at all for the whole cluster".to_owned());
        }
        Ok(Self(names))
    }
}

#[cfg(test)]
mod tests {
    use super::Namespaces;

    #[test]
    fn namespaces_are_a_list_where_empty_means_all() {
        let parsed = |text: &str| text.parse::<Namespaces>().map(|list| list.0);
        assert_eq!(parsed(""), Ok(vec![]));
        assert_eq!(parsed("a, b-2,"), Ok(vec!["a".to_owned(), "b-2".to_owned()]));
        for wrong in ["A", "a/b", "-a", "a,b_c", "*", ",", " ", " , ,"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
