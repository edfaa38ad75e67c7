//! P3: one rollout per rotation per workload, whatever happens in between.
//! Judged by the running processes, not by a record.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod argo;
mod back;
mod common;
mod downtime;
mod emergency;
mod faults;
mod kills;
mod leaders;
mod missing;
mod nothing_rolls;
mod races;
mod restored;
mod reverts;
mod strategy;
#[path = "../support/mod.rs"]
mod support;
mod versions;
mod workloads;
