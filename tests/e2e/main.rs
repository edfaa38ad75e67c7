//! The operator's own binary against a real control plane, a real OpenBao and
//! real processes. Each test has a namespace and an operator of its own.
#![allow(clippy::needless_pass_by_value, reason = "json!(…) reads better without a borrow")]
#![allow(clippy::format_push_string, reason = "a test may allocate")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod aside;
mod audit;
mod collector;
mod credentials;
mod generated;
#[path = "../support/kubectl.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod kubectl;
mod last_success;
mod main_job;
mod memory;
mod overdue;
mod overlap;
mod p1;
mod p2;
mod p4;
mod p5;
mod p5_identity;
mod p6;
mod p9;
mod p9_server;
mod platform;
mod shaping;
#[path = "../support/mod.rs"]
mod support;
mod tokens;
mod traces;
mod verify;
