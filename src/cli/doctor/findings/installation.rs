//! The operator, and what it may do.

use super::{
    super::facts::{Facts, Leader, Operator},
    Finding, counted, found, well, wrong,
};

/// Policies that hold the operator's account to what it is for.
const POLICIES: [&str; 5] = ["tokens", "secret-types", "workloads", "rollouts", "finalizers"];

pub(super) fn operator(facts: &Facts) -> Finding {
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

pub(super) fn leader(facts: &Facts) -> Finding {
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

pub(super) fn policies(facts: &Facts) -> Finding {
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

pub(super) fn audiences(facts: &Facts) -> Finding {
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

pub(super) fn rights(facts: &Facts) -> Finding {
    found("rights", &facts.rights, |rights| {
        let missing: Vec<_> = rights.iter().filter(|right| !right.allowed).map(|right| right.what.clone()).collect();
        if missing.is_empty() {
            return well("rights", "the operator may do what it has to");
        }
        let fix = "apply deploy/rbac.yaml, or set rbac.create in the chart";
        wrong("rights", format!("the operator may not {}", counted(&missing)), fix)
    })
}
