//! What the status keeps of the data, to know it again when the Secret and the
//! state on it are lost. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::Desired;
use crate::{
    api::{TargetStatus, rolling_digests},
    build::DigestKey,
};

/// Keyed digest of the data whose change rolls workloads.
///
/// A revision's own stays as it was made while an edit of `rolls` changes what
/// counts. This one is of the last write, and says with `quiet` beside it how it
/// was made.
#[must_use]
pub fn rolling_digest(key: &DigestKey, digests: &BTreeMap<String, String>, quiet: &BTreeSet<String>) -> String {
    format!("{}.{}", key.id(), key.fingerprint(&rolling_digests(digests, quiet)))
}

/// Whether the data is what the status records, by the keys that rolled then:
/// what was edited since is no change of theirs.
#[must_use]
pub fn is_as_recorded(desired: &Desired, key: &DigestKey, recorded: &TargetStatus) -> bool {
    let quiet = recorded.quiet.iter().cloned().collect();
    recorded.rolling == rolling_digest(key, &desired.digests, &quiet)
}
