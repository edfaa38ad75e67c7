#![allow(
    dead_code,
    unused_imports,
    clippy::unused_self,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each binary uses its part, and a test ends where its bed fails; methods read better than free functions"
)]
//! What the tests share: a namespace with an operator, stores, bots.

pub mod canary;
mod cluster;
pub mod history;
pub mod later;
mod operator;
mod proxy;
pub mod rotate;
pub mod upstream;
mod vault;
mod world;

pub use cluster::{cluster, install};
pub use operator::{Operator, OperatorOptions, grant, role};
pub use proxy::{Fault, Proxy};
pub use vault::{Vault, shared_bao};
pub use world::{Bench, DEADLINE, next_second};

pub type Result<T = ()> = anyhow::Result<T>;
