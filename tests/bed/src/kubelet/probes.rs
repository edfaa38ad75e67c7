//! Startup, readiness and liveness probes of one run of a container.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Pod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;

use super::address;
use super::environment::Environment;
use super::sandbox::Sandbox;
use super::status::PodStatus;

/// Reports what the probes find; returns when the container is to be killed.
pub(super) async fn watch(
    pod: &Pod,
    container: &Container,
    sandbox: &Sandbox,
    environment: &Environment,
    status: &PodStatus,
) {
    let subject = Subject { address: address::of(pod).to_string(), container, sandbox, environment };
    if let Some(probe) = &container.startup_probe
        && !subject.until(probe, true).await
    {
        return;
    }
    status.is_started(&container.name, true);
    let readiness = async {
        let Some(probe) = &container.readiness_probe else {
            status.is_ready(&container.name, true);
            return;
        };
        loop {
            subject.until(probe, true).await;
            status.is_ready(&container.name, true);
            subject.until(probe, false).await;
            status.is_ready(&container.name, false);
        }
    };
    let liveness = async {
        match &container.liveness_probe {
            Some(probe) => {
                subject.until(probe, false).await;
            }
            None => std::future::pending().await,
        }
    };
    tokio::pin!(readiness, liveness);
    tokio::select! {
        () = &mut liveness => {}
        () = &mut readiness => liveness.await,
    }
}

struct Subject<'a> {
    /// Where its ports are, unless a probe says otherwise.
    address: String,
    container: &'a Container,
    sandbox: &'a Sandbox,
    environment: &'a Environment,
}

fn seconds(given: Option<i32>, default: u64) -> Duration {
    let given = given.and_then(|seconds| u64::try_from(seconds).ok());
    Duration::from_secs(given.unwrap_or(default))
}

impl Subject<'_> {
    /// Probes until the threshold of successes (true) or failures (false) is
    /// reached. A startup probe that fails too often ends with false as well.
    async fn until(&self, probe: &Probe, wanted: bool) -> bool {
        let period = seconds(probe.period_seconds, 10).max(Duration::from_secs(1));
        let startup = self.container.startup_probe.as_ref() == Some(probe);
        let threshold = |good: bool| {
            let given = if good { probe.success_threshold } else { probe.failure_threshold };
            given.unwrap_or(if good { 1 } else { 3 }).max(1)
        };
        if let Ok(age) = self.sandbox.started_at.elapsed() {
            // Counted from the container's start.
            let delay = seconds(probe.initial_delay_seconds, 0);
            tokio::time::sleep(delay.saturating_sub(age)).await;
        }
        let (mut last, mut count) = (wanted, 0);
        loop {
            let good = self.once(probe).await;
            count = if good == last { count + 1 } else { 1 };
            last = good;
            if count >= threshold(good) && (good == wanted || startup) {
                return good;
            }
            tokio::time::sleep(period).await;
        }
    }

    async fn once(&self, probe: &Probe) -> bool {
        let patience = seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1));
        if let Some(exec) = &probe.exec {
            let command = exec.command.as_deref().unwrap_or_default();
            return self.sandbox.execute(command, self.environment, patience).await.unwrap_or(false);
        }
        let attempt = async {
            if let Some(http) = &probe.http_get {
                return self.http(http).await.unwrap_or(false);
            }
            if let Some(tcp) = &probe.tcp_socket {
                let host = tcp.host.as_deref().unwrap_or(&self.address);
                return TcpStream::connect((host, self.port(&tcp.port))).await.is_ok();
            }
            // gRPC probes are not supported: nobody is told that all is well.
            false
        };
        tokio::time::timeout(patience, attempt).await.unwrap_or(false)
    }

    async fn http(&self, probe: &HTTPGetAction) -> anyhow::Result<bool> {
        let host = probe.host.as_deref().unwrap_or(&self.address);
        let scheme = probe.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
        let path = probe.path.as_deref().unwrap_or("/");
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            // As the kubelet, which cannot know who signed it.
            .tls_danger_accept_invalid_certs(true)
            .build()?;
        let mut request = client.get(format!("{scheme}://{host}:{}{path}", self.port(&probe.port)));
        for header in probe.http_headers.iter().flatten() {
            request = request.header(&header.name, &header.value);
        }
        let status = request.send().await?.status();
        Ok(status.is_success() || status.is_redirection())
    }

    fn port(&self, port: &IntOrString) -> u16 {
        let number = match port {
            IntOrString::Int(number) => Some(*number),
            IntOrString::String(name) => {
                let mut ports = self.container.ports.iter().flatten();
                let named = ports.find(|port| port.name.as_ref() == Some(name));
                named.map(|port| port.container_port).or_else(|| name.parse().ok())
            }
        };
        number.and_then(|number| u16::try_from(number).ok()).unwrap_or(0)
    }
}
