//! The programs of a cluster, and their command lines.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::access;
use crate::pki::{self, Authority};
use crate::process::{Process, server_environment};
use crate::{peers, ports};

/// Not the issuer's URL: what takes one for the other must not go unseen.
pub(super) const AUDIENCE: &str = "https://kubernetes.default.svc";
pub(super) const KWOK_USER: &str = "testbed-kwok";
pub(super) const ARGO_USER: &str = "testbed-argo-rollouts";

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Component {
    Etcd,
    ApiServer,
    ControllerManager,
    Scheduler,
    Kwok,
    ArgoRollouts,
}

impl Component {
    pub(super) const ALL: [Self; 6] =
        [Self::Etcd, Self::ApiServer, Self::ControllerManager, Self::Scheduler, Self::Kwok, Self::ArgoRollouts];

    fn program(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kwok => "kwok",
            Self::ArgoRollouts => "argo-rollouts",
        }
    }
}

/// Ports, files and command lines, all settled before anything starts.
pub(super) struct Plan {
    folder: PathBuf,
    etcd: u16,
    etcd_peer: u16,
    api_server: u16,
    controller_manager: PathBuf,
    scheduler: PathBuf,
}

impl Plan {
    pub(super) fn new(folder: &Path, authority: &Authority) -> Result<Self> {
        let mut plan = Self {
            folder: folder.to_owned(),
            etcd: ports::free()?,
            etcd_peer: ports::free()?,
            api_server: ports::free()?,
            controller_manager: PathBuf::new(),
            scheduler: PathBuf::new(),
        };
        let serving = authority.server(&[
            "127.0.0.1",
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
        ])?;
        for (name, content) in [
            ("ca.crt", authority.pem()),
            ("ca.key", authority.key()),
            ("api.crt", &serving.certificate),
            ("api.key", &serving.key),
            ("tokens.key", &pki::token_signing_key()?),
            ("audit.yaml", AUDIT_POLICY),
        ] {
            std::fs::write(plan.file(name), content)?;
        }
        let user = |name| access::kubeconfig(&plan, authority, name, &[]);
        let controller_manager = user("system:kube-controller-manager")?;
        let scheduler = user("system:kube-scheduler")?;
        plan.controller_manager = controller_manager;
        plan.scheduler = scheduler;
        Ok(plan)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(super) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.api_server)
    }

    pub(super) fn api_port(&self) -> u16 {
        self.api_server
    }

    pub(super) fn audit_log(&self) -> PathBuf {
        self.file("audit.log")
    }

    pub(super) fn log(&self, component: Component) -> PathBuf {
        self.file(&format!("{}.log", component.program()))
    }

    pub(super) fn start(&self, component: Component) -> Result<Process> {
        let arguments = match component {
            Component::Etcd => self.etcd(),
            Component::ApiServer => self.api_server(),
            Component::ControllerManager => self.controller_manager(),
            Component::Scheduler => self.scheduler(),
            Component::Kwok => self.kwok()?,
            Component::ArgoRollouts => self.argo_rollouts()?,
        };
        Process::start(
            &peers::program(component.program())?,
            &arguments,
            &server_environment(&self.folder),
            &self.log(component),
        )
    }

    fn etcd(&self) -> Vec<String> {
        let client = format!("http://127.0.0.1:{}", self.etcd);
        let peer = format!("http://127.0.0.1:{}", self.etcd_peer);
        vec![
            "--name=testbed".into(),
            format!("--data-dir={}", self.file("etcd").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=testbed={peer}"),
            "--unsafe-no-fsync".into(),
            "--log-level=warn".into(),
        ]
    }

    fn api_server(&self) -> Vec<String> {
        let file = |name: &str| self.file(name).display().to_string();
        vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd),
            "--bind-address=127.0.0.1".into(),
            "--advertise-address=127.0.0.1".into(),
            format!("--secure-port={}", self.api_server),
            format!("--tls-cert-file={}", file("api.crt")),
            format!("--tls-private-key-file={}", file("api.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            "--authorization-mode=RBAC".into(),
            "--endpoint-reconciler-type=none".into(),
            "--service-cluster-ip-range=10.96.0.0/16".into(),
            format!("--service-account-issuer={}", self.url()),
            format!("--service-account-jwks-uri={}/openid/v1/jwks", self.url()),
            format!("--service-account-key-file={}", file("tokens.key")),
            format!("--service-account-signing-key-file={}", file("tokens.key")),
            format!("--api-audiences={AUDIENCE}"),
            format!("--audit-policy-file={}", file("audit.yaml")),
            format!("--audit-log-path={}", self.audit_log().display()),
            // Batches may be dropped when a buffer is full: then counts lie.
            "--audit-log-mode=blocking".into(),
            // Without it watches hold up the end of the server for a minute.
            "--shutdown-watch-termination-grace-period=2s".into(),
            // In MB; a log that is rotated away cannot be counted.
            "--audit-log-maxsize=100000".into(),
        ]
    }

    fn controller_manager(&self) -> Vec<String> {
        let file = |name: &str| self.file(name).display().to_string();
        vec![
            format!("--kubeconfig={}", self.controller_manager.display()),
            "--use-service-account-credentials=true".into(),
            "--leader-elect=false".into(),
            "--secure-port=0".into(),
            format!("--root-ca-file={}", file("ca.crt")),
            format!("--service-account-private-key-file={}", file("tokens.key")),
            format!("--cluster-signing-cert-file={}", file("ca.crt")),
            format!("--cluster-signing-key-file={}", file("ca.key")),
            // Nodes here are healthy by decree, also while the API server is
            // down for a test: nobody taints or empties them.
            "--controllers=*,-node-lifecycle-controller".into(),
            // The defaults (20 and 30) are for clusters of other people.
            "--kube-api-qps=300".into(),
            "--kube-api-burst=600".into(),
        ]
    }

    fn scheduler(&self) -> Vec<String> {
        vec![
            format!("--kubeconfig={}", self.scheduler.display()),
            "--leader-elect=false".into(),
            "--secure-port=0".into(),
            "--kube-api-qps=300".into(),
            "--kube-api-burst=600".into(),
        ]
    }

    fn kwok(&self) -> Result<Vec<String>> {
        let stages = peers::share("kwok")?;
        let mut arguments = vec![
            format!("--kubeconfig={}", self.kubeconfig_of(KWOK_USER).display()),
            "--manage-all-nodes=false".into(),
            format!("--manage-nodes-with-label-selector={}=kwok", super::nodes::RUNTIME),
            "--node-lease-duration-seconds=40".into(),
        ];
        let mut files: Vec<_> = stages
            .read_dir()
            .with_context(|| format!("no kwok stages in {}: run `make peers`", stages.display()))?
            .collect::<Result<_, _>>()?;
        files.sort_by_key(std::fs::DirEntry::file_name);
        for file in files {
            arguments.push(format!("--config={}", file.path().display()));
        }
        Ok(arguments)
    }

    fn argo_rollouts(&self) -> Result<Vec<String>> {
        Ok(vec![
            format!("--kubeconfig={}", self.kubeconfig_of(ARGO_USER).display()),
            "--leader-elect=false".into(),
            format!("--metricsPort={}", ports::free()?),
            format!("--healthzPort={}", ports::free()?),
            "--qps=300".into(),
            "--burst=600".into(),
        ])
    }

    /// As `access::credentials` names it.
    fn kubeconfig_of(&self, user: &str) -> PathBuf {
        self.file(&format!("users/{user}+system_masters/kubeconfig"))
    }
}

const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
";
