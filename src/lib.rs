//! BotSecret: a Kubernetes operator that keeps native Secrets true to external
//! secret managers, read with each bot's own identity, and rolls workloads
//! when a value rotates.

pub mod api;
pub mod apply;
pub mod audit;
pub mod build;
pub mod candidate;
pub mod cli;
pub mod deadline;
pub mod fetch;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod leases;
pub mod plan;
pub mod redact;
pub mod report;
pub mod rollout;
pub mod runtime;
pub mod secret;
mod short_lived;
pub mod stores;
pub mod traces;
pub mod watch;
