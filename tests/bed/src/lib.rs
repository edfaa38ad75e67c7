//! A real Kubernetes control plane, nodes that run real processes, and a real
//! OpenBao, on loopback, for tests and the demo.
//!
//! See `README.md` beside this crate for how it is used. Nothing started here
//! outlives the process that started it, even when that is killed.

mod black_hole;
pub mod clouds;
mod cluster;
mod fault_proxy;
mod federated_issuer;
mod kubelet;
mod oidc_provider;
mod openbao;
pub mod peers;
mod pki;
mod ports;
mod postgres;
mod process;
mod runtime;
mod temp;
pub mod tokens;
mod wait;

pub use black_hole::BlackHole;
pub use cluster::{AuditLog, AuditMark, AuditRecord, Cluster, ClusterOptions, kwok_placement};
pub use fault_proxy::{ALWAYS, Certificate, FaultKind, FaultProxy, ProxiedRequest, ProxyMark};
pub use federated_issuer::{FederatedClient, FederatedIssuer};
pub use kubelet::{Kubelet, RunningContainer, bot_binary};
pub use oidc_provider::{OidcProvider, TokenRequest};
pub use openbao::{BaoClient, BaoMark, BaoRequest, OpenBao, OpenBaoOptions, Role};
pub use ports::free as free_port;
pub use postgres::{Postgres, database_role};
pub use process::Process;
pub use wait::wait_for;
