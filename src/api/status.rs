//! What the operator reports on a BotSecret. Written only when something of
//! meaning changes: there is no moving timestamp in it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator last found and did.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BotSecretStatus {
    /// The generation of the spec that this status speaks of; -1 before there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling and Stalled as kstatus reads them, with Synced and
    /// RolledOut for the two halves of the work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The last value of the annotation botsecret.dev/refresh that was acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_refresh: Option<String>,
    /// The Secret as the operator last wrote or verified it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetStatus>,
    /// Where the rollout of the current revision stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutState>,
    /// Where the last rotation stands, from the new value at the source to the
    /// end of the old one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationStatus>,
    /// The last rotation that somebody wanted at once (botsecret rotate --now).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emergency: Option<super::EmergencyStatus>,
    /// The credentials that were issued for this BotSecret, as long as there is
    /// something to renew or to revoke. Records that the operator did not write
    /// here itself are ignored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 400))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["accessor"]))]
    pub leases: Vec<LeaseStatus>,
}

/// The Secret as the operator last wrote or verified it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    /// Name of the Secret.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its resourceVersion: another one means that somebody else wrote it.
    pub resource_version: String,
    /// Revision of its data. It changes when, and only when, a value changes.
    pub revision: String,
    /// Keyed digest of the data whose change rolls workloads: by it a Secret
    /// that is lost is known to be made again the same.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rolling: String,
    /// Keys whose new values roll nobody: they count in it by name alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quiet: Vec<String>,
}

/// Where the rollout of one revision stands.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutState {
    /// The revision that the workloads below are to hold.
    pub revision: String,
    /// Whether every workload holds it: no pod that may hold an older value is
    /// left.
    pub complete: bool,
    /// The workloads that this revision concerns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["kind", "name"]))]
    pub workloads: Vec<WorkloadStatus>,
}

/// One workload in a rollout.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadStatus {
    /// Deployment, StatefulSet, DaemonSet or Rollout.
    pub kind: String,
    /// Its name, in the BotSecret's namespace.
    pub name: String,
    /// Its UID; empty where it does not exist.
    pub uid: String,
    /// The newest revision of a key that it uses.
    pub revision: String,
    /// Waiting, Rolling, RolledOut, Failed, Paused, OnDelete, Partitioned or Reverted; Missing
    /// where rollout.list names what does not exist.
    pub state: String,
    /// How often the operator patched it for this revision: once, or twice
    /// when somebody undid the first.
    pub patches: i32,
    /// Since when it is in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// When it was last made to roll, for whatever revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_at: Option<Time>,
    /// Whether it stayed healthy on this revision for as long as it must.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub verified: bool,
    /// Whether it was not healthy before it got this revision: then it rolls
    /// last, and says nothing about the value.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unhealthy_before: bool,
    /// Whether it failed on the revision before: then it rolls first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failed_before: bool,
    /// Why it waits, or how it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl WorkloadStatus {
    /// The state of one whose turn has not come.
    pub const WAITING: &str = "Waiting";
    /// The state of one that was patched and holds older pods.
    pub const ROLLING: &str = "Rolling";
    /// The state of one that was not healthy on the new value.
    pub const FAILED: &str = "Failed";

    /// Whether it must roll, and its turn has not come.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.state == Self::WAITING
    }

    /// Whether it is being rolled.
    #[must_use]
    pub fn is_rolling(&self) -> bool {
        self.state == Self::ROLLING
    }

    /// Whether it was not healthy on the new value.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.state == Self::FAILED
    }
}

/// One rotation: what is done with one new value, or with several that came
/// while the first was on its way.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RotationStatus {
    /// The newest revision that it brings. Of a value that is not written yet, or
    /// was rejected, its keyed digest.
    pub revision: String,
    /// Where it stands.
    pub phase: RotationPhase,
    /// When it began.
    pub started: Time,
    /// When it came into which phase, the latest last.
    // Written also when empty: a merge patch would keep what was there.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub times: Vec<PhaseTime>,
    /// Why it waits, or why it ended as it did.
    #[serde(default)]
    pub message: String,
    /// The Secret in which the value before is kept, where it is, to be written
    /// back if a workload fails (rollout.onFailure).
    #[serde(default)]
    pub previous: String,
    /// The revision that this one took back, since a workload failed on it.
    #[serde(default)]
    pub taken_back: String,
}

/// When a rotation came into a phase.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PhaseTime {
    /// The phase.
    pub phase: RotationPhase,
    /// The time.
    pub at: Time,
}

/// Where a rotation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema)]
pub enum RotationPhase {
    /// It was read, and could not be tried or written yet.
    Detected,
    /// It is being tried, by verify.
    Candidate,
    /// The Secret holds it; no workload was rolled yet.
    Written,
    /// Workloads are being rolled.
    Rolling,
    /// Every workload holds it, and stayed healthy.
    Verified,
    /// The credential that it replaced is no more.
    OldRetired,
    /// The candidate did not work; the Secret was not written.
    Rejected,
    /// A workload failed on it; no further one is touched.
    Halted,
    /// A workload failed on it, and the value before was written back.
    RolledBack,
    /// Of a later version. Never written: it stays on record until it is found
    /// anew where the rotation stands.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

impl RotationPhase {
    /// As it stands in the status.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Detected => "Detected",
            Self::Candidate => "Candidate",
            Self::Written => "Written",
            Self::Rolling => "Rolling",
            Self::Verified => "Verified",
            Self::OldRetired => "OldRetired",
            Self::Rejected => "Rejected",
            Self::Halted => "Halted",
            Self::RolledBack => "RolledBack",
            Self::Unknown => "Unknown",
        }
    }
}

/// One credential that was issued. None of its values is in here.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseStatus {
    /// Names the login at the manager that the credential hangs on.
    #[schemars(length(max = 512))]
    pub accessor: String,
    /// Its place under dataFrom when it was issued, counted from 0.
    pub index: i32,
    /// Keyed digest of what was asked: another request is another credential.
    pub entry: String,
    /// The store that it is from.
    pub store: super::StoreRef,
    /// That store's UID.
    pub store_uid: String,
    /// Its lease id; empty where it has none.
    #[schemars(length(max = 2048))]
    pub lease: String,
    /// When it was issued.
    pub issued: String,
    /// How many seconds its login was good for at first.
    pub login_seconds: i64,
    /// How many seconds it was good for at first. Renewals are not noted here.
    pub seconds: i64,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// Issuing, Live, or Retiring (another took its place, and it is revoked
    /// once no pod may hold it).
    pub state: String,
    /// Number of the revision of the Secret that took its place; 0 before.
    pub replaced_by: i64,
    /// When another took its place, by the API server's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<String>,
    /// The Secrets that hold it or held it. Where there are none, an earlier
    /// version made this record, and nothing says which pods hold it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub secrets: Vec<LeasedSecret>,
    /// Whether the spec named workloads meanwhile, whose pods may hold it
    /// though they show no use of the Secret.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unseen: bool,
    /// When the ServiceAccount's token ends with which its login was made, where
    /// the manager may renew that no longer than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_ends: Option<String>,
    /// Id of the last request for a rotation at once that was known when it was
    /// issued.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub request: String,
    /// Proves that the operator wrote this record, for this BotSecret.
    #[schemars(length(max = 128))]
    pub mac: String,
}

/// A Secret that holds or held a credential.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeasedSecret {
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// When a write took the credential out of it: pods that began later do not
    /// hold it. Absent while it may lie there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<String>,
    /// Number of the last revision of the Secret that held it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{BotSecretStatus, RotationPhase};

    #[test]
    fn p3_what_a_later_version_says_is_read_as_far_as_it_is_known() {
        let at = "2026-01-01T00:00:00Z";
        let times = json!([{ "phase": "Written", "at": at }, { "phase": "SomethingNew", "at": at }]);
        let workload = json!({
            "kind": "Deployment", "name": "bot", "uid": "u", "revision": "2.k.f", "state": "SomethingNew", "patches": 1,
            "later": true,
        });
        let later = json!({
            "later": {},
            "rotation": {
                "revision": "2.k.f", "phase": "SomethingNew", "started": at, "times": times, "message": "", "later": 1,
            },
            "rollout": { "revision": "2.k.f", "complete": false, "workloads": [workload], "later": [] },
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "SomethingNew", "message": "", "lastTransitionTime": at,
            }],
        });
        let status: BotSecretStatus = serde_json::from_value(later).expect("a status");
        let rotation = status.rotation.expect("a rotation");
        let phases: Vec<_> = rotation.times.iter().map(|time| time.phase).collect();
        assert_eq!(
            (rotation.phase, phases),
            (RotationPhase::Unknown, vec![RotationPhase::Written, RotationPhase::Unknown])
        );
        assert_eq!(status.rollout.expect("a rollout").workloads[0].patches, 1);
    }

    #[test]
    fn the_schema_knows_no_phase_that_is_never_written() {
        let schema = serde_json::to_string(&schemars::schema_for!(RotationPhase)).expect("a schema");
        assert!(schema.contains("OldRetired") && !schema.contains("Unknown"), "{schema}");
    }
}
