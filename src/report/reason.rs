//! The closed list of reasons that conditions and events give.

use std::fmt;

/// Why a condition is as it is. Each has a page in the documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The Secret holds the current values.
    Synced,
    /// `suspend: true`.
    Suspended,
    /// No workload needs to roll.
    UpToDate,
    /// Every workload holds the current revision.
    RolledOut,
    /// Workloads are being rolled.
    RollingOut,
    /// A workload is paused, replaces its pods only by hand, or does not exist.
    WaitingForWorkload,
    /// Somebody undid a rollout twice.
    Reverted,
    /// A workload failed on a new value; no further one is touched.
    RolloutHalted,
    /// A workload failed on a new value, and the value before was written back.
    RolledBack,
    /// A workload could not be patched.
    RolloutRefused,
    /// A store does not exist.
    StoreNotFound,
    /// A store is not offered to this namespace.
    StoreNotAllowed,
    /// A store, or a reference into it, cannot be right as written.
    InvalidStore,
    /// The ServiceAccount does not exist, or no token may be had for it.
    IdentityUnavailable,
    /// The manager does not let this identity log in.
    LoginDenied,
    /// The manager does not let this identity read the secret.
    AccessDenied,
    /// The remote secret does not exist.
    RemoteSecretMissing,
    /// The property, or its value, does not exist.
    PropertyMissing,
    /// The values do not make a valid Secret.
    InvalidData,
    /// The Secret would be, or the answer was, too large.
    TooLarge,
    /// The manager is down, sealed or unreachable.
    StoreUnavailable,
    /// The manager does not answer in time.
    StoreTimeout,
    /// The manager asks for patience.
    StoreThrottled,
    /// The manager answers with an older version than the applied one.
    StaleRead,
    /// A Secret of the target's name belongs to somebody else.
    TargetForeign,
    /// Another BotSecret writes the target.
    TargetConflict,
    /// There is no Secret to merge into.
    TargetMissing,
    /// The Secret or its namespace is being deleted.
    TargetTerminating,
    /// A quota or an admission policy refused the Secret.
    TargetRefused,
    /// The API server calls the Secret invalid.
    TargetInvalid,
    /// The operator lacks a right.
    OperatorForbidden,
    /// A new value is being tried before it is written.
    CandidatePending,
    /// A new value was tried and does not work.
    CandidateRejected,
    /// A new value cannot be tried as the spec says.
    VerifyInvalid,
    /// A value is older than it may be.
    RotationOverdue,
    /// The manager, the store or the spec does not let a value be rotated.
    RotationRefused,
    /// A leased credential cannot be renewed.
    LeaseNotRenewable,
    /// A leased credential ended before it was replaced.
    LeaseLost,
    /// Somebody else keeps changing the Secret.
    Contested,
    /// The Kubernetes API failed.
    KubernetesUnavailable,
    /// A fault of the operator's own.
    InternalError,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 41] = [
        Self::Synced,
        Self::Suspended,
        Self::UpToDate,
        Self::RolledOut,
        Self::RollingOut,
        Self::WaitingForWorkload,
        Self::Reverted,
        Self::RolloutHalted,
        Self::RolledBack,
        Self::RolloutRefused,
        Self::StoreNotFound,
        Self::StoreNotAllowed,
        Self::InvalidStore,
        Self::IdentityUnavailable,
        Self::LoginDenied,
        Self::AccessDenied,
        Self::RemoteSecretMissing,
        Self::PropertyMissing,
        Self::InvalidData,
        Self::TooLarge,
        Self::StoreUnavailable,
        Self::StoreTimeout,
        Self::StoreThrottled,
        Self::StaleRead,
        Self::TargetForeign,
        Self::TargetConflict,
        Self::TargetMissing,
        Self::TargetTerminating,
        Self::TargetRefused,
        Self::TargetInvalid,
        Self::OperatorForbidden,
        Self::CandidatePending,
        Self::CandidateRejected,
        Self::VerifyInvalid,
        Self::RotationOverdue,
        Self::RotationRefused,
        Self::LeaseNotRenewable,
        Self::LeaseLost,
        Self::Contested,
        Self::KubernetesUnavailable,
        Self::InternalError,
    ];

    /// As it stands in a condition.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Synced => "Synced",
            Self::Suspended => "Suspended",
            Self::UpToDate => "UpToDate",
            Self::RolledOut => "RolledOut",
            Self::RollingOut => "RollingOut",
            Self::WaitingForWorkload => "WaitingForWorkload",
            Self::Reverted => "Reverted",
            Self::RolloutHalted => "RolloutHalted",
            Self::RolledBack => "RolledBack",
            Self::RolloutRefused => "RolloutRefused",
            Self::StoreNotFound => "StoreNotFound",
            Self::StoreNotAllowed => "StoreNotAllowed",
            Self::InvalidStore => "InvalidStore",
            Self::IdentityUnavailable => "IdentityUnavailable",
            Self::LoginDenied => "LoginDenied",
            Self::AccessDenied => "AccessDenied",
            Self::RemoteSecretMissing => "RemoteSecretMissing",
            Self::PropertyMissing => "PropertyMissing",
            Self::InvalidData => "InvalidData",
            Self::TooLarge => "TooLarge",
            Self::StoreUnavailable => "StoreUnavailable",
            Self::StoreTimeout => "StoreTimeout",
            Self::StoreThrottled => "StoreThrottled",
            Self::StaleRead => "StaleRead",
            Self::TargetForeign => "TargetForeign",
            Self::TargetConflict => "TargetConflict",
            Self::TargetMissing => "TargetMissing",
            Self::TargetTerminating => "TargetTerminating",
            Self::TargetRefused => "TargetRefused",
            Self::TargetInvalid => "TargetInvalid",
            Self::OperatorForbidden => "OperatorForbidden",
            Self::CandidatePending => "CandidatePending",
            Self::CandidateRejected => "CandidateRejected",
            Self::VerifyInvalid => "VerifyInvalid",
            Self::RotationOverdue => "RotationOverdue",
            Self::RotationRefused => "RotationRefused",
            Self::LeaseNotRenewable => "LeaseNotRenewable",
            Self::LeaseLost => "LeaseLost",
            Self::Contested => "Contested",
            Self::KubernetesUnavailable => "KubernetesUnavailable",
            Self::InternalError => "InternalError",
        }
    }

    /// The reason of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }

    /// Whether a pass may fail for it: whether the Secret may be other than it is to
    /// be for it.
    #[must_use]
    pub fn is_of_failed_pass(self) -> bool {
        !matches!(
            self,
            Self::Synced
                | Self::Suspended
                | Self::UpToDate
                | Self::RolledOut
                | Self::WaitingForWorkload
                | Self::Reverted
                | Self::RolloutHalted
                | Self::RolledBack
                | Self::RolloutRefused
                | Self::CandidatePending
                | Self::RotationOverdue
                | Self::RotationRefused
                | Self::LeaseNotRenewable
                | Self::LeaseLost
        )
    }

    /// Whether waiting alone may cure it.
    #[must_use]
    pub fn is_outage(self) -> bool {
        matches!(
            self,
            Self::StoreUnavailable
                | Self::StoreTimeout
                | Self::StoreThrottled
                | Self::StaleRead
                | Self::TargetTerminating
                | Self::CandidatePending
                | Self::KubernetesUnavailable
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;
    use std::{collections::BTreeSet, fs, path::Path};

    #[test]
    fn p9_every_reason_has_a_name_of_its_own_and_a_page_and_no_page_lacks_a_reason() {
        let names: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.name().to_owned()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reasons");
        let read = |page: &str| fs::read_to_string(folder.join(format!("{page}.md"))).expect("a page");
        let files = fs::read_dir(&folder).expect("a folder").map(|file| file.expect("a file").file_name());
        let mut pages: BTreeSet<_> =
            files.map(|file| file.to_string_lossy().trim_end_matches(".md").to_owned()).collect();
        assert!(pages.remove("README"), "there is an index");
        assert_eq!(pages, names);
        let index = read("README");
        for name in &names {
            assert_eq!(read(name).lines().next(), Some(format!("# {name}").as_str()));
            assert!(index.contains(&format!("| [{name}]({name}.md) |")), "the index lacks {name}");
        }
    }
}
