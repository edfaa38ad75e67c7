//! Rolls the workloads that use a value which changed: once a rotation, and
//! judged by pods, not by a record.
//!
//! [`required`], [`decide`], [`turns`], [`health`] and [`next_rotation`] are
//! pure. [`look`] reads afresh and decides; [`roll_out`] patches with uid and
//! resourceVersion as preconditions.

mod decide;
mod pods;
mod requests;
mod required;
mod rotation;
mod strategy;
#[cfg(test)]
mod tests;

pub use decide::{Step, WorkloadState, decide, handed};
pub use pods::{CLOCKS_APART, NODE_CLOCKS_APART, PodFacts, PodHealth, PodView, holds_older};
pub use requests::{Looked, RollOutError, Task, look, roll_out};
pub use required::{Requirement, required};
pub use rotation::{Course, enter, is_open, next_rotation};
pub use strategy::{Bounds, Health, Named, Patience, Place, Standing, Turns, WindowError, health, turns, was_ill};
#[cfg(any(test, fuzzing))]
pub(crate) use strategy::{Opening, opening};

use crate::api::Revision;

/// The delivery record on a workload: which revision it was handed, in how many
/// patches, and what its pods hold since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The revision.
    pub revision: Revision,
    /// How many patches: two when somebody undid the first.
    pub patches: i32,
    /// The digest key of `held`.
    pub key: String,
    /// Keyed digest of the data that it uses.
    pub held: String,
}

impl Delivery {
    /// Reads an annotation; anything else than a record is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let mut next = || parts.next();
        let (revision, patches, key, held) = (next()?, next()?, next()?, next()?);
        Some(Self {
            revision: revision.parse().ok()?,
            patches: patches.parse().ok()?,
            key: key.to_owned(),
            held: held.to_owned(),
        })
    }

    /// The annotation's text.
    #[must_use]
    pub fn to_annotation(&self) -> String {
        format!("{}/{}/{}/{}", self.revision, self.patches, self.key, self.held)
    }
}
