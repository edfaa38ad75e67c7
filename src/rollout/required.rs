//! Which revision a workload must hold.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::pods::NODE_CLOCKS_APART;
use crate::{
    api::{KeyChange, Revision, State},
    watch::{KeySet, SecretUse},
};

/// The newest change that concerns a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The revision that its pods must hold.
    pub revision: Revision,
    /// The Secret's revision, at or beyond the one above.
    pub newest: Revision,
    /// Pods that began after this moment read the new value.
    pub written_at: Timestamp,
    /// Pods that began before this one hold it as well: an earlier value came
    /// back.
    pub same_before: Option<Timestamp>,
}

impl Requirement {
    /// Until when a kubelet may still tell that it started a container with the
    /// value that was taken back.
    #[must_use]
    pub fn settles(&self) -> Option<Timestamp> {
        self.same_before?;
        self.written_at.checked_add(SignedDuration::from_secs(NODE_CLOCKS_APART)).ok()
    }

    /// Whether what meets `other` meets this too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.revision == other.revision && self.written_at >= other.written_at
    }

    /// Whether a marker says that its bearer was handed this revision, or a
    /// later one of the same Secret. One beyond the newest is of another
    /// Secret: copied, or from before every record was lost.
    #[must_use]
    pub fn met_by(&self, marker: &str) -> bool {
        let Ok(marker) = marker.parse::<Revision>() else { return false };
        let between = self.revision.number < marker.number && marker.number < self.newest.number;
        between || marker == self.revision || marker == self.newest
    }
}

/// The newest change among the keys that a workload, or one of its pods, uses;
/// `None` where none of them ever changed. With `usage` `None` every key counts:
/// for workloads whose use cannot be seen. The state's times are to be final.
#[must_use]
pub fn required(state: &State, usage: Option<&SecretUse>) -> Option<Requirement> {
    let concerns = |key: &str, change: &KeyChange| match usage {
        // A pod cannot have begun without a key that it names and needs.
        Some(usage) if change.initial => usage.optional.contains(key) && !usage.required.contains(key),
        Some(usage) if change.added => match &usage.required {
            KeySet::Some(keys) => !keys.contains(key) && usage.optional.contains(key),
            KeySet::Nothing => usage.optional.contains(key),
            KeySet::All => true,
        },
        // A key that went is no reason to restart a pod that could then not
        // start without it.
        Some(usage) if !state.digests.contains_key(key) => {
            usage.uses(key) && (usage.required == KeySet::All || !usage.required.contains(key))
        }
        Some(usage) => usage.uses(key),
        None => !change.initial,
    };
    let changes = state.changed.iter().filter(|(key, change)| concerns(key, change)).map(|(_, change)| Requirement {
        revision: change.revision.clone(),
        newest: state.revision.clone(),
        written_at: change.at,
        same_before: change.same_before,
    });
    // Keys that came with the Secret itself have no entry of their own. Whoever
    // needs any of it cannot have begun before it was there.
    let runs_without = usage.filter(|usage| usage.required == KeySet::Nothing);
    let made = state.since.filter(|_| {
        let keys = state.digests.keys().filter(|key| !state.changed.contains_key(*key));
        runs_without.is_some_and(|usage| keys.into_iter().any(|key| usage.optional.contains(key)))
    });
    let made = made.map(|since| Requirement {
        revision: Revision { number: 1, key: "0".to_owned(), fingerprint: "0".to_owned() },
        newest: state.revision.clone(),
        written_at: since,
        same_before: None,
    });
    changes.chain(made).max_by_key(|requirement| requirement.revision.number)
}

#[cfg(test)]
#[path = "required_tests.rs"]
mod tests;
