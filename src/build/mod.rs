//! Builds a Secret's data from what was read: all of it or nothing (P1).
//!
//! Pure: remote secrets in, data or one error out. Values are copied byte by
//! byte; only JSON is looked into, and its numbers are never re-printed.
//! References and searches name what is read ([`sources`], [`searches`]), the
//! values are picked, decoded and put under their keys, then templates are
//! rendered, and last the whole is checked.

mod checks;
mod decode;
mod digest;
mod error;
mod foresee;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod gather;
mod json;
mod property;
mod rewrite;
#[cfg(test)]
mod shaping_tests;
mod sources;
mod template;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::{
    api::BotSecretSpec,
    secret::{SecretBytes, SecretData},
    stores::RemoteSecret,
};

pub use checks::{MAX_SIZE, is_secret_key};
pub use digest::DigestKey;
pub use error::{BuildError, BuildErrorKind};
pub use foresee::foresee;
pub use sources::{Inputs, Search, Source, generated, keys_filled_by, rotated, searches, sources};

/// What a Secret is to hold.
#[derive(Debug)]
pub struct Built {
    /// Its data.
    pub data: SecretData,
    /// Those of its keys whose change rolls no workload.
    pub quiet: BTreeSet<String>,
}

/// One property of what was read, or the whole, where it is there.
#[must_use]
pub fn value_of(read: &RemoteSecret, property: Option<&str>) -> Option<SecretBytes> {
    property::Content::of(read).value(property).ok()
}

/// The Secret's data, whole, or why it cannot be had.
///
/// # Errors
/// The first thing that is wrong, entries under `data` first.
pub fn data(spec: &BotSecretSpec, inputs: &Inputs) -> Result<Built, BuildError> {
    let gathered = gather::gather(spec, inputs)?;
    if gathered.data.is_empty() {
        return Err(BuildError::new(
            BuildErrorKind::NoData,
            "the remote secrets under dataFrom hold nothing, or nothing was found: put a property into one of them, correct what is looked for, or add an entry under data",
        ));
    }
    let built = template::applied(spec, gathered)?;
    checks::secret_type(spec, &built.data)?;
    Ok(built)
}
