//! What a cluster must have, and what an installation brings to all of it.

use jiff::SignedDuration;

use super::{
    super::{facts::Facts, schema::Age},
    Finding, counted, found, well, wrong,
};
use crate::api;

/// The first version of Kubernetes that the operator is made for.
const OLDEST: (u32, u32) = (1, 33);
/// How far two clocks may be apart: tokens and leases tell by them.
const SKEW: SignedDuration = SignedDuration::from_secs(30);

pub(super) fn version(facts: &Facts) -> Finding {
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

pub(super) fn clock(facts: &Facts) -> Finding {
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

pub(super) fn admission(facts: &Facts) -> Finding {
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

pub(super) fn older_binary() -> Finding {
    wrong(
        "definitions",
        format!("the definitions are newer than this botsecret ({})", env!("CARGO_PKG_VERSION")),
        "use the botsecret of the version that installed them, or a later one",
    )
}

pub(super) fn definitions(facts: &Facts) -> Finding {
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

pub(super) fn installer(facts: &Facts) -> Finding {
    found("installer", &facts.installer, |rights| {
        let missing: Vec<_> = rights.iter().filter(|right| !right.allowed).map(|right| right.what.clone()).collect();
        if missing.is_empty() {
            return well("installer", "you may make everything that an installation has");
        }
        wrong("installer", format!("you may not: {}", missing.join(", ")), "install as an administrator of the cluster")
    })
}

pub(super) fn pod_security(facts: &Facts) -> Finding {
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
