//! P10: each right of `deploy/rbac.yaml`, and of what can be granted beside it, withheld
//! alone, breaks something that a user sees, and granting it mends that; and nothing more
//! is granted. The rights stand in [`p10`], a line and a test each.
//!
//! In each test the operator runs as a ServiceAccount that has every right but one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking, and says what it shows by its name"
)]

mod apart;
mod beyond;
mod blind;
mod lease;
mod p10;
mod right;
mod scene;
mod secrets;
#[path = "../support/mod.rs"]
mod support;
mod told;
mod unready;
mod workloads;
