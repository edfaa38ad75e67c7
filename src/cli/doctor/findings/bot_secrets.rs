//! What the BotSecrets say of themselves.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta};

use super::{super::facts::Facts, Finding, counted, unknown, well, wrong};
use crate::{api::BotSecret, report::Reason};

/// How long a BotSecret may be without a word of the operator.
const SILENCE: SignedDuration = SignedDuration::from_mins(2);

/// Reasons that belong together, what is said of them, and what to do.
pub(in crate::cli::doctor) const TROUBLES: [(&str, &[Reason], &str, &str); 5] = [
    (
        "stores",
        &[
            Reason::StoreUnavailable,
            Reason::StoreTimeout,
            Reason::StoreThrottled,
            Reason::StaleRead,
            Reason::InvalidStore,
            Reason::StoreNotFound,
            Reason::StoreNotAllowed,
        ],
        "every store can be used",
        "read the message of one: kubectl get bsec -n NAMESPACE NAME -o wide",
    ),
    (
        "identities",
        &[Reason::LoginDenied, Reason::IdentityUnavailable, Reason::AccessDenied],
        "every identity can log in and read",
        "compare the role at the manager with the ServiceAccount: docs/ has a page for each manager",
    ),
    (
        "rollouts",
        &[
            Reason::RolloutHalted,
            Reason::RolledBack,
            Reason::RolloutRefused,
            Reason::Reverted,
            Reason::CandidateRejected,
            Reason::VerifyInvalid,
        ],
        "no rotation is halted",
        "see status.rotation of one: the workload and how it failed are named there",
    ),
    (
        "leases",
        &[Reason::LeaseNotRenewable, Reason::RotationOverdue, Reason::RotationRefused],
        "no credential is overdue, and each lease can be renewed",
        "read the message of one: kubectl describe bsec -n NAMESPACE NAME",
    ),
    (
        "secrets",
        &[
            Reason::TargetForeign,
            Reason::TargetConflict,
            Reason::TargetMissing,
            Reason::TargetRefused,
            Reason::TargetInvalid,
            Reason::OperatorForbidden,
            Reason::KubernetesUnavailable,
            Reason::Contested,
            Reason::RemoteSecretMissing,
            Reason::PropertyMissing,
            Reason::InvalidData,
            Reason::TooLarge,
            Reason::InternalError,
        ],
        "every Secret could be written",
        "read the message of one: kubectl describe bsec -n NAMESPACE NAME",
    ),
];

pub(super) fn bot_secrets(facts: &Facts) -> Vec<Finding> {
    let all = match &facts.bot_secrets {
        Ok(all) => all,
        Err(why) => return vec![unknown("botsecrets", why)],
    };
    let mut found = vec![stale(facts, all)];
    for (check, reasons, fine, fix) in TROUBLES {
        let mut by_reason: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for object in all {
            let conditions = object.status.iter().flat_map(|status| &status.conditions);
            let bad = conditions.into_iter().filter(|one| one.status == "False" && one.type_ != "Synced");
            let reason = bad.filter_map(|one| Reason::from_name(&one.reason)).find(|reason| reasons.contains(reason));
            if let Some(reason) = reason {
                by_reason.entry(reason.name()).or_default().push(name(object));
            }
        }
        if by_reason.is_empty() {
            found.push(well(check, fine));
        }
        for (reason, names) in by_reason {
            found.push(wrong(check, format!("{reason}: {}", counted(&names)), fix));
        }
    }
    found
}

/// Those of which the operator has not said anything since they were edited.
fn stale(facts: &Facts, all: &[BotSecret]) -> Finding {
    let is_stale = |object: &&BotSecret| {
        let told = object.status.as_ref().and_then(|status| status.observed_generation);
        let old = changed(&object.metadata).is_some_and(|changed| facts.now.duration_since(changed) > SILENCE);
        object.spec.suspend != Some(true) && old && told != object.metadata.generation
    };
    let stale: Vec<_> = all.iter().filter(is_stale).map(name).collect();
    if stale.is_empty() {
        return well("botsecrets", format!("the operator has looked at each of {} BotSecrets", all.len()));
    }
    wrong(
        "botsecrets",
        format!("the operator has not looked at {} since the last edit", counted(&stale)),
        "see whether it serves that namespace (operator.namespaces), and what it logs",
    )
}

/// When somebody last changed the spec, as far as it can be known: each of its managers has
/// a time, "updated if a field is added, the manager changes any of the owned fields value
/// or removes a field" (API reference, ManagedFieldsEntry). Else when it was made.
fn changed(meta: &ObjectMeta) -> Option<Timestamp> {
    let is_of_spec = |entry: &&ManagedFieldsEntry| {
        let owns = |fields: &FieldsV1| fields.0.get("f:spec").is_some();
        entry.subresource.as_deref().unwrap_or_default().is_empty() && entry.fields_v1.as_ref().is_some_and(owns)
    };
    let entries = meta.managed_fields.iter().flatten().filter(is_of_spec);
    entries.filter_map(|entry| entry.time.as_ref()).chain(&meta.creation_timestamp).map(|time| time.0).max()
}

fn name(object: &BotSecret) -> String {
    let meta = &object.metadata;
    format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}
