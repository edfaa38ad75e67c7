//! GitOps: what Argo CD and Flux make of a BotSecret. The Lua files are run by Lua 5.1,
//! on statuses that the operator's own code gives and on objects of a real API server.
#![allow(clippy::needless_pass_by_value, reason = "json!(…) reads better without a borrow")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod argo;
#[path = "../rollouts/common.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the tests of rollouts")]
mod common;
mod files;
mod kstatus;
#[path = "../support/kubectl.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod kubectl;
mod live;
mod statuses;
#[path = "../support/mod.rs"]
mod support;
