//! What a pass came to, in one value.

use super::{CandidateReport, Reason};
use crate::{
    api::{RotationStatus, StoreKind, StoreRef, TargetStatus, WorkloadStatus},
    apply::{ApplyError, ApplyProblem},
    build::{BuildError, BuildErrorKind},
    fetch::ResolvedStore,
    plan::Retry,
    rollout::WorkloadState,
    stores::{ErrorClass, RemoteKey, StoreError},
    watch::StoreProblem,
};

/// Something that keeps the Secret from being true.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Its reason.
    pub reason: Reason,
    /// What happened, to which store and remote secret, and what to do. Never
    /// anything that changes from one attempt to the next.
    pub message: String,
    /// When to try again.
    pub retry: Retry,
    /// UID of the store that is out, if one is.
    pub store_out: Option<String>,
}

/// The half of a pass that makes the Secret true.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum SyncReport {
    /// The Secret holds the current values.
    Synced(TargetStatus),
    /// No read was due: what was reported stands.
    #[default]
    NotDue,
    /// It could not be done; whether the values are older by now than they may
    /// be.
    Failed {
        /// Why.
        problem: Problem,
        /// Whether Ready must be False, because the data is older than three
        /// intervals or was never there.
        stale: bool,
    },
    /// The Secret holds the value before, since a workload failed on the one that
    /// the source gives.
    TakenBack {
        /// The Secret.
        target: TargetStatus,
        /// What is said of it.
        problem: Problem,
    },
    /// A new value is being tried before it is written.
    Trying {
        /// By what.
        message: String,
    },
    /// `suspend: true`.
    Suspended {
        /// Whether a leased credential, which nobody may replace now, is known
        /// to have ended.
        ended: bool,
    },
    /// The Secret was deleted, because every remote secret is gone.
    Deleted(Problem),
}

/// One workload of a rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadReport {
    /// For the status.
    pub status: WorkloadStatus,
    /// Where it stands.
    pub state: WorkloadState,
    /// Whether this pass patched it.
    pub patched: bool,
}

/// The half of a pass that rolls workloads.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum RolloutReport {
    /// Nothing was looked at: what was reported stands.
    #[default]
    NotLooked,
    /// Switched off.
    Off,
    /// Where it stands.
    Standing {
        /// The revision of the Secret.
        revision: String,
        /// The workloads that were patched for it.
        workloads: Vec<WorkloadReport>,
        /// Where the rotation stands.
        rotation: Option<Box<RotationStatus>>,
        /// Workloads that could not be looked at or patched.
        problem: Option<Problem>,
    },
}

/// What a pass came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The Secret.
    pub sync: SyncReport,
    /// A new value that is tried first.
    pub candidate: CandidateReport,
    /// The workloads.
    pub rollout: RolloutReport,
    /// The refresh that was asked for and is now done, well or not.
    pub handled_refresh: Option<String>,
    /// The request for a rotation at once of which the Secret now holds what could
    /// be had.
    pub handled_rotation: Option<String>,
    /// Whether a value changed in this pass.
    pub rotated: bool,
    /// Whether somebody else's change to the Secret was undone.
    pub repaired: bool,
    /// Why a value on which a workload failed was not taken back, or not yet.
    pub not_rolled_back: Option<String>,
    /// Whether the value before is kept no more.
    pub forgot_previous: bool,
}

/// How a message names a store.
pub(crate) fn named_store(reference: &StoreRef) -> String {
    match reference.kind.unwrap_or_default() {
        StoreKind::BotSecretStore => format!("store {}", reference.name),
        StoreKind::ClusterBotSecretStore => format!("cluster store {}", reference.name),
    }
}

impl Problem {
    /// A problem without a store.
    #[must_use]
    pub fn new(reason: Reason, retry: Retry, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), retry, store_out: None }
    }

    /// An object that the API server never gave a name or UID.
    #[must_use]
    pub fn nameless() -> Self {
        Self::new(Reason::InternalError, Retry::Slow, "the BotSecret has no name or UID")
    }

    /// A store that cannot be used.
    #[must_use]
    pub fn of_store(reference: &StoreRef, namespace: &str, problem: &StoreProblem) -> Self {
        let name = &reference.name;
        let kind = match reference.kind.unwrap_or_default() {
            StoreKind::BotSecretStore => "BotSecretStore",
            StoreKind::ClusterBotSecretStore => "ClusterBotSecretStore",
        };
        let (reason, message) = match problem {
            StoreProblem::NotFound if kind == "BotSecretStore" => (
                Reason::StoreNotFound,
                format!("{kind} {name} does not exist in namespace {namespace}: create it, or correct storeRef"),
            ),
            StoreProblem::NotFound => {
                (Reason::StoreNotFound, format!("{kind} {name} does not exist: create it, or correct storeRef"))
            }
            StoreProblem::NotAllowed => (
                Reason::StoreNotAllowed,
                format!(
                    "{kind} {name} is not offered to namespace {namespace}: ask its administrator to list the namespace in spec.namespaces"
                ),
            ),
            StoreProblem::NoProvider => (
                Reason::InvalidStore,
                format!(
                    "{kind} {name} must name exactly one manager: write one of aws, azure, gcp, kubernetes, oauth2 and vault"
                ),
            ),
        };
        Self::new(reason, Retry::Slow, message)
    }

    /// A read that failed.
    #[must_use]
    pub fn of_read(store: &ResolvedStore, key: &RemoteKey, secret_keys: &[String], error: &StoreError) -> Self {
        let reason = match error.class {
            ErrorClass::LoginDenied => Reason::LoginDenied,
            ErrorClass::Denied => Reason::AccessDenied,
            ErrorClass::Missing => Reason::RemoteSecretMissing,
            ErrorClass::Invalid => Reason::InvalidStore,
            ErrorClass::Identity => Reason::IdentityUnavailable,
            ErrorClass::Unavailable => Reason::StoreUnavailable,
            ErrorClass::Timeout => Reason::StoreTimeout,
            ErrorClass::Throttled => Reason::StoreThrottled,
            ErrorClass::TooLarge => Reason::TooLarge,
            ErrorClass::Conflict => Reason::StaleRead,
        };
        let fills = match secret_keys {
            [] => String::new(),
            [one] => format!(" (for key {one})"),
            [first, rest @ ..] => format!(" (for key {first} and {} more)", rest.len()),
        };
        Self {
            reason,
            message: format!("{}, remote secret {key}{fills}: {}", named_store(&store.reference), error.message),
            retry: Retry::of(error.class, error.retry_after),
            store_out: error.class.is_outage().then(|| store.uid.clone()),
        }
    }

    /// A search that failed.
    #[must_use]
    pub fn of_find(store: &ResolvedStore, error: &StoreError) -> Self {
        let everything = RemoteKey { key: String::new(), version: None, metadata: false, dated: false };
        let problem = Self::of_read(store, &everything, &[], error);
        let message = format!("{}, find: {}", named_store(&store.reference), error.message);
        // A search that finds nothing is no error; a path that is not there is
        // mended in the reference, not by writing one secret.
        Self { message, ..problem }
    }

    /// Values that make no Secret.
    #[must_use]
    pub fn of_build(error: &BuildError) -> Self {
        let reason = match error.kind {
            BuildErrorKind::PropertyMissing | BuildErrorKind::NullValue => Reason::PropertyMissing,
            BuildErrorKind::TooLarge => Reason::TooLarge,
            _ => Reason::InvalidData,
        };
        Self::new(reason, Retry::Slow, error.to_string())
    }

    /// A Secret that could not be written.
    #[must_use]
    pub fn of_apply(error: &ApplyError) -> Self {
        let (reason, retry) = match error.problem {
            ApplyProblem::Foreign => (Reason::TargetForeign, Retry::Slow),
            ApplyProblem::OwnedByOther => (Reason::TargetConflict, Retry::Slow),
            ApplyProblem::NothingToMergeInto => (Reason::TargetMissing, Retry::Slow),
            ApplyProblem::Terminating => (Reason::TargetTerminating, Retry::Backoff),
            ApplyProblem::Refused => (Reason::TargetRefused, Retry::Slow),
            ApplyProblem::Invalid => (Reason::TargetInvalid, Retry::Slow),
            ApplyProblem::Forbidden => (Reason::OperatorForbidden, Retry::Slow),
            ApplyProblem::Conflict => (Reason::KubernetesUnavailable, Retry::Soon),
            ApplyProblem::Unavailable => (Reason::KubernetesUnavailable, Retry::Backoff),
        };
        Self::new(reason, retry, error.to_string())
    }
}
