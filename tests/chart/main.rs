//! The Helm charts: what is generated in them is current, every way of setting
//! them up renders what it should, and the API server takes all of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod authors;
mod bots;
mod generated;
mod ha;
mod helm;
mod install;
#[path = "../support/kubectl.rs"]
mod kubectl;
mod manifests;
mod monitoring;
mod odd;
mod operators;
mod readme;
mod references;
mod render;
mod server;
mod upgrade;
