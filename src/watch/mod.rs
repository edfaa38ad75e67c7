//! Reads the cluster: what is kept of it, and who is concerned by a change.
//!
//! [`World`] is a plain index without I/O: events go in, the BotSecrets to
//! look at come out. [`streams`] feeds it from the API server.

mod lenient;
mod rollouts;
mod secret_facts;
mod secret_use;
pub mod streams;
mod tracked;
mod workload;
mod world;

#[cfg(any(test, fuzzing))]
pub(crate) use lenient::Lenient;
pub use rollouts::RolloutView;
pub use secret_facts::{SECRET_FIELD_MANAGER, SecretFacts};
pub(crate) use secret_use::null_is_default;
pub use secret_use::{KeySet, SecretUse, UsesSecrets, uses_of};
pub use workload::{
    DaemonSetView, DeploymentView, Progress, StatefulSetView, TemplateFrom, UpdateStrategy, WorkloadFacts, WorkloadId,
    WorkloadView,
};
pub use world::{AccountFacts, Change, Departed, Elsewhere, ObjectKey, Observed, Scoped, StoreProblem, Wake, World};
