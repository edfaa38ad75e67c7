//! What the facts mean. Pure.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde::Serialize;

use super::{
    facts::{Facts, Known, Leader, Operator, Unknown},
    schema::Age,
};
use crate::{
    api::{self, BotSecret},
    report::Reason,
};

/// The first version of Kubernetes that the operator is made for.
const OLDEST: (u32, u32) = (1, 33);
/// How far two clocks may be apart: tokens and leases tell by them.
const SKEW: SignedDuration = SignedDuration::from_secs(30);
/// How long a BotSecret may be without a word of the operator.
const SILENCE: SignedDuration = SignedDuration::from_mins(2);
/// How many are named; the rest is counted.
const NAMED: usize = 3;
/// Policies that hold the operator's account to what it is for.
const POLICIES: [&str; 5] = ["tokens", "secret-types", "workloads", "rollouts", "finalizers"];

/// Every check, by its name in docs/doctor.md.
pub(super) const CHECKS: [&str; 17] = [
    "kubernetes",
    "clock",
    "admission",
    "definitions",
    "installer",
    "pod-security",
    "operator",
    "leader",
    "policies",
    "audiences",
    "rights",
    "botsecrets",
    "stores",
    "identities",
    "rollouts",
    "leases",
    "secrets",
];

/// Before there is an installation, or with one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Before,
    Live,
}

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum State {
    Well,
    Wrong,
    /// It could not be looked at.
    Unknown,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// The same in all versions: where docs/doctor.md explains it.
    pub(super) check: &'static str,
    pub(super) state: State,
    /// What was found.
    pub(super) message: String,
    /// One thing to do; empty where there is nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) fix: String,
}

fn well(check: &'static str, message: impl Into<String>) -> Finding {
    Finding { check, state: State::Well, message: message.into(), fix: String::new() }
}

fn wrong(check: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { check, state: State::Wrong, message: message.into(), fix: fix.into() }
}

fn unknown(check: &'static str, why: &Unknown) -> Finding {
    match why {
        Unknown::Forbidden(what) => Finding {
            check,
            state: State::Unknown,
            message: format!("not looked at: you may not do this ({what})"),
            fix: String::new(),
        },
        Unknown::Failed(what) => wrong(check, what.clone(), "see whether the API server answers: kubectl version"),
    }
}

fn found<T>(check: &'static str, known: &Known<T>, judge: impl FnOnce(&T) -> Finding) -> Finding {
    known.as_ref().map_or_else(|why| unknown(check, why), judge)
}

/// Everything, in the order in which it would be mended.
pub(super) fn examine(facts: &Facts, stage: Stage) -> Vec<Finding> {
    let mut all = vec![version(facts), clock(facts), admission(facts)];
    match stage {
        Stage::Before => {
            all.push(found("definitions", &facts.definitions, |known| {
                let newer = known.iter().any(|(_, age)| *age == Age::Newer);
                if newer { older_binary() } else { well("definitions", "nothing stands in the way of the definitions") }
            }));
            all.push(installer(facts));
            all.push(pod_security(facts));
        }
        Stage::Live => {
            all.push(definitions(facts));
            all.push(operator(facts));
            all.push(leader(facts));
            all.push(policies(facts));
            all.push(audiences(facts));
            all.push(rights(facts));
            all.extend(bot_secrets(facts));
        }
    }
    all
}

fn version(facts: &Facts) -> Finding {
    found("kubernetes", &facts.server, |(_, version)| {
        let number = |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u32>().ok();
        let read = version.split_once('.').and_then(|(major, minor)| Some((number(major)?, number(minor)?)));
        if read.is_some_and(|read| read >= OLDEST) {
            well("kubernetes", format!("Kubernetes {version}"))
        } else {
            let (major, minor) = OLDEST;
            wrong(
                "kubernetes",
                format!("Kubernetes {version} is older than {major}.{minor}"),
                format!("upgrade the cluster to {major}.{minor} or later"),
            )
        }
    })
}

fn clock(facts: &Facts) -> Finding {
    found("clock", &facts.server, |(server, _)| match server {
        None => well("clock", "the API server tells no time"),
        Some(server) => {
            let apart = facts.now.duration_since(*server).abs();
            if apart <= SKEW {
                return well("clock", "this clock and the API server's agree");
            }
            wrong(
                "clock",
                format!("this clock and the API server's are {} s apart", apart.as_secs()),
                "let both follow a time server (NTP): tokens and leases are told by the time",
            )
        }
    })
}

fn admission(facts: &Facts) -> Finding {
    found("admission", &facts.policies_served, |served| {
        if *served {
            return well("admission", "ValidatingAdmissionPolicy is served");
        }
        wrong(
            "admission",
            "admissionregistration.k8s.io/v1 has no ValidatingAdmissionPolicy",
            "enable that API: without it nothing but RBAC holds the operator's account to what it is for",
        )
    })
}

fn older_binary() -> Finding {
    wrong(
        "definitions",
        format!("the definitions are newer than this botsecret ({})", env!("CARGO_PKG_VERSION")),
        "use the botsecret of the version that installed them, or a later one",
    )
}

fn definitions(facts: &Facts) -> Finding {
    found("definitions", &facts.definitions, |known| {
        let all: Vec<_> = api::definitions().into_iter().filter_map(|one| one.metadata.name).collect();
        let there = |name: &&String| known.iter().any(|(other, _)| other == *name);
        let missing: Vec<_> = all.iter().filter(|name| !there(name)).cloned().collect();
        let fix = "install those of this version: botsecret crds | kubectl apply --server-side -f -";
        if !missing.is_empty() {
            return wrong("definitions", format!("{} not installed", counted(&missing)), fix);
        }
        let older: Vec<_> = known.iter().filter(|(_, age)| *age == Age::Older).map(|(name, _)| name.clone()).collect();
        if !older.is_empty() {
            let what =
                format!("{} older than this botsecret: what they do not know is dropped on the way", counted(&older));
            return wrong("definitions", what, fix);
        }
        if known.iter().any(|(_, age)| *age == Age::Newer) {
            older_binary()
        } else {
            well("definitions", "the definitions are of this version")
        }
    })
}

fn installer(facts: &Facts) -> Finding {
    found("installer", &facts.installer, |rights| {
        let missing: Vec<_> = rights.iter().filter(|right| !right.allowed).map(|right| right.what.clone()).collect();
        if missing.is_empty() {
            return well("installer", "you may make everything that an installation has");
        }
        wrong("installer", format!("you may not: {}", missing.join(", ")), "install as an administrator of the cluster")
    })
}

fn pod_security(facts: &Facts) -> Finding {
    let (namespace, _) = &facts.place;
    found("pod-security", &facts.namespace, |enforced| match enforced.as_deref() {
        None => well("pod-security", format!("namespace {namespace} is still to be made")),
        // The operator's pod keeps to the strictest level.
        Some("") => {
            well("pod-security", format!("namespace {namespace} enforces no Pod Security level; restricted fits"))
        }
        Some(level) => well("pod-security", format!("the operator fits level {level} of namespace {namespace}")),
    })
}

fn operator(facts: &Facts) -> Finding {
    let (namespace, name) = &facts.place;
    found("operator", &facts.operator, |found| {
        let Some(Operator { replicas, ready, image, .. }) = found else {
            return wrong(
                "operator",
                format!("there is no Deployment {namespace}/{name}"),
                "install it, or say where it is: --namespace, --name",
            );
        };
        if *ready >= 1 && ready >= replicas {
            return well("operator", format!("{ready} of {replicas} replicas of {image} are ready"));
        }
        wrong(
            "operator",
            format!("{ready} of {replicas} replicas of {image} are ready"),
            format!("see why: kubectl -n {namespace} describe pods -l app.kubernetes.io/name=botsecret"),
        )
    })
}

fn leader(facts: &Facts) -> Finding {
    let (namespace, name) = &facts.place;
    let fix = format!("see what the replicas say: kubectl -n {namespace} logs deployment/{name} --all-pods");
    found("leader", &facts.leader, |found| {
        let Some(Leader { holder, renewed, lasts }) = found else {
            return wrong("leader", format!("nobody ever took Lease {namespace}/{name}"), fix);
        };
        // By the clock that the Lease was written with, as far as it is known.
        let now = facts.server.as_ref().ok().and_then(|(time, _)| *time).unwrap_or(facts.now);
        let silent = renewed.map(|renewed| now.duration_since(renewed));
        match silent {
            Some(silent) if !holder.is_empty() && silent.unsigned_abs() <= *lasts * 2 => {
                well("leader", format!("{} leads", holder.split('_').next().unwrap_or_default()))
            }
            Some(silent) if !holder.is_empty() => {
                wrong("leader", format!("the leader has not renewed its Lease for {} s", silent.as_secs()), fix)
            }
            _ => wrong("leader", "nobody leads", fix),
        }
    })
}

fn policies(facts: &Facts) -> Finding {
    let (_, name) = &facts.place;
    found("policies", &facts.policies, |bound| {
        let wanted = POLICIES.map(|policy| format!("{name}-{policy}"));
        let missing: Vec<_> = wanted.into_iter().filter(|policy| !bound.contains(policy)).collect();
        if missing.is_empty() {
            return well("policies", "the operator's account is held to what it is for");
        }
        wrong(
            "policies",
            format!("{} not in force", counted(&missing)),
            "apply deploy/admission.yaml, or set admission.enabled in the chart",
        )
    })
}

fn audiences(facts: &Facts) -> Finding {
    let (namespace, name) = &facts.place;
    found("audiences", &facts.audiences, |(listed, own)| {
        let map = format!("ConfigMap {namespace}/{name}-api-audiences");
        let fix = "put what your API server calls itself there: kubectl create token default shows it under \"aud\"";
        let Some(listed) = listed.as_ref().filter(|listed| !listed.is_empty()) else {
            return wrong("audiences", format!("{map} names no audience, so no token is issued at all"), fix);
        };
        let missing: Vec<_> = own.iter().filter(|audience| !listed.contains(audience)).cloned().collect();
        if !missing.is_empty() {
            return wrong(
                "audiences",
                format!("{map} lacks {}, which this API server accepts", missing.join(", ")),
                "add it there: until then the operator's account could get a token for the API",
            );
        }
        if own.is_empty() {
            return well(
                "audiences",
                format!("{map} lists {}; whether that is all is known in a pod only", counted(listed)),
            );
        }
        well("audiences", format!("{map} lists every audience of this API server"))
    })
}

fn rights(facts: &Facts) -> Finding {
    found("rights", &facts.rights, |rights| {
        let missing: Vec<_> = rights.iter().filter(|right| !right.allowed).map(|right| right.what.clone()).collect();
        if missing.is_empty() {
            return well("rights", "the operator may do what it has to");
        }
        let fix = "apply deploy/rbac.yaml, or set rbac.create in the chart";
        wrong("rights", format!("the operator may not {}", counted(&missing)), fix)
    })
}

/// Reasons that belong together, what is said of them, and what to do.
pub(super) const TROUBLES: [(&str, &[Reason], &str, &str); 5] = [
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

fn bot_secrets(facts: &Facts) -> Vec<Finding> {
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
        let made = object.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let old = made.is_some_and(|made| facts.now.duration_since(made) > SILENCE);
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

fn name(object: &BotSecret) -> String {
    let meta = &object.metadata;
    format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

/// The first of them, and how many more.
fn counted(names: &[String]) -> String {
    let first = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}
