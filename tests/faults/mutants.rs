//! Known defects, planted between the operator and the API: a campaign that
//! does not find them proves nothing.

use serde_json::{Value, json};

use super::{
    campaign::{Faultless, name, violations},
    clock,
    faults::{Fault, Mutate, Planned, Point, Reach},
    run::Case,
    store::{Request, Verb},
};

/// A defect.
pub struct Mutant {
    pub name: &'static str,
    pub mutate: Mutate,
}

fn edit(request: &mut Request, plural: &str, subresource: &str, change: impl FnOnce(&mut Value)) {
    if request.kind.plural == plural && request.subresource == subresource && request.verb.writes() {
        let Ok(mut body) = serde_json::from_slice::<Value>(&request.body) else { return };
        change(&mut body);
        request.body = body.to_string().into_bytes();
    }
}

fn remove(object: &mut Value, field: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.remove(field);
    }
}

fn without_preconditions(body: &mut Value) {
    remove(&mut body["metadata"], "resourceVersion");
    remove(&mut body["metadata"], "uid");
}

fn edit_state(request: &mut Request, change: impl FnOnce(&mut Value)) {
    edit(request, "secrets", "", |body| {
        let annotation = &mut body["metadata"]["annotations"]["botsecret.dev/state"];
        if let Ok(mut state) = serde_json::from_str::<Value>(annotation.as_str().unwrap_or_default()) {
            change(&mut state);
            *annotation = json!(state.to_string());
        }
    });
}

const MARKER: &str = "rollout.botsecret.dev/price-bot";

fn marker(body: &mut Value) -> &mut Value {
    &mut body["spec"]["template"]["metadata"]["annotations"][MARKER]
}

/// In a scenario of rotations.
pub const MUTANTS: [Mutant; 21] = [
    Mutant {
        name: "the Secret is written without its resourceVersion",
        mutate: |request, _| edit(request, "secrets", "", without_preconditions),
    },
    Mutant {
        name: "workloads are patched without uid and resourceVersion",
        mutate: |request, _| edit(request, "deployments", "", without_preconditions),
    },
    Mutant {
        name: "the status is written without uid and resourceVersion",
        mutate: |request, _| edit(request, "botsecrets", "status", without_preconditions),
    },
    Mutant {
        name: "the state on the Secret is swallowed",
        mutate: |request, _| {
            edit(request, "secrets", "", |body| {
                remove(&mut body["metadata"]["annotations"], "botsecret.dev/state");
            });
        },
    },
    Mutant {
        name: "the marker carries the time",
        mutate: |request, _| {
            edit(request, "deployments", "", |body| {
                let text = format!("{}{}", marker(body).as_str().unwrap_or_default(), clock::elapsed().as_millis());
                *marker(body) = json!(text);
            });
        },
    },
    Mutant {
        name: "beside the marker lies a restartedAt",
        mutate: |request, _| {
            edit(request, "deployments", "", |body| {
                body["spec"]["template"]["metadata"]["annotations"]["restartedAt"] = json!(clock::wall_second());
            });
        },
    },
    Mutant {
        name: "delivery is recorded, the template is not patched",
        mutate: |request, _| edit(request, "deployments", "", |body| remove(body, "spec")),
    },
    Mutant {
        name: "the marker is the same for every revision",
        mutate: |request, _| edit(request, "deployments", "", |body| *marker(body) = json!("1.rolled.out")),
    },
    Mutant {
        name: "one key is left out of the Secret",
        mutate: |request, _| edit(request, "secrets", "", |body| remove(&mut body["data"], "TOKEN")),
    },
    Mutant {
        name: "the Secret is deleted before it is written",
        mutate: |request, Reach { store, .. }| {
            if request.kind.plural == "secrets" && request.verb == Verb::Update {
                store.ask(Verb::Delete, "secrets", (&request.namespace, &request.name, ""), &json!({}));
            }
        },
    },
    Mutant {
        name: "the Secret is deleted, since the list of BotSecrets that its owner is missing from is stale",
        mutate: |request, Reach { store, .. }| {
            if request.kind.plural == "botsecrets" && request.verb == Verb::List {
                let target = ("trading", "price-bot", "");
                store.ask(Verb::Delete, "secrets", target, &json!({}));
            }
        },
    },
    Mutant {
        name: "the label that says whose the Secret is is left out",
        mutate: |request, _| {
            edit(request, "secrets", "", |body| remove(&mut body["metadata"]["labels"], "botsecret.dev/owner"));
        },
    },
    Mutant {
        name: "the status holds a time that moves",
        mutate: |request, _| {
            edit(request, "botsecrets", "status", |body| {
                body["status"]["conditions"][0]["message"] = json!(clock::wall_second());
            });
        },
    },
    Mutant {
        name: "the rollout's record in the status is swallowed",
        mutate: |request, _| edit(request, "botsecrets", "status", |body| body["status"]["rollout"] = Value::Null),
    },
    Mutant {
        name: "the status goes to the object, where it is ignored",
        mutate: |request, _| {
            if request.kind.plural == "botsecrets" {
                request.subresource.clear();
            }
        },
    },
    Mutant {
        name: "the digests on the Secret are of nothing",
        mutate: |request, _| {
            edit_state(request, |state| {
                for digest in state["digests"].as_object_mut().into_iter().flat_map(serde_json::Map::values_mut) {
                    *digest = json!("none");
                }
            });
        },
    },
    Mutant {
        name: "each write of the Secret begins a new sequence of revisions",
        mutate: |request, _| {
            edit_state(request, |state| {
                let text = state["revision"].as_str().unwrap_or_default();
                let rest = text.split_once('.').map_or("", |(_, rest)| rest);
                state["revision"] = json!(format!("{}.{rest}", clock::wall().as_second()));
            });
        },
    },
    Mutant {
        name: "an old value is written",
        mutate: |request, _| edit(request, "secrets", "", |body| body["data"]["KEY"] = json!("S0VZLTE=")),
    },
    Mutant {
        name: "a Secret that was never there rolls workloads",
        mutate: |request, Reach { store, .. }| {
            if request.kind.plural == "secrets" && request.verb == Verb::Create {
                let mark =
                    json!({ "spec": { "template": { "metadata": { "annotations": { MARKER: "0.first.sync" } } } } });
                store.ask(Verb::MergePatch, "deployments", (&request.namespace, "web", ""), &mark);
            }
        },
    },
    Mutant {
        name: "pods are deleted, the template is left as it is",
        mutate: |request, Reach { store, .. }| {
            let mut patched = false;
            edit(request, "deployments", "", |body| {
                patched = true;
                remove(body, "spec");
            });
            for pod in store.all("pods").into_iter().filter(|_| patched) {
                let name = pod["metadata"]["name"].as_str().unwrap_or_default();
                store.ask(
                    Verb::MergePatch,
                    "pods",
                    ("trading", name, ""),
                    &json!({ "metadata": { "finalizers": null } }),
                );
                store.ask(Verb::Delete, "pods", ("trading", name, ""), &json!({}));
            }
        },
    },
    Mutant {
        name: "the second workload is forgotten",
        mutate: |request, _| {
            if request.name == "worker" {
                edit(request, "deployments", "", |body| remove(body, "spec"));
            }
        },
    },
];

/// In one of leased credentials.
pub const MUTANTS_OF_LEASES: [Mutant; 1] = [Mutant {
    name: "the credential before is revoked when the next is written, before anybody is verified on that",
    mutate: |request, Reach { leases, .. }| {
        if request.kind.plural == "secrets" && request.verb.writes() {
            leases.revoke_older();
        }
    },
}];

/// The first case that finds it.
pub fn caught_by(mutant: &Mutant, faultless: &Faultless) -> Option<String> {
    let kinds = [Fault::Late, Fault::CrashAfter, Fault::CrashStale, Fault::ReplyLost];
    let singles = kinds.into_iter().flat_map(|fault| {
        let points = 1..=faultless.labels.len();
        points.map(move |number| vec![Planned { point: Point::Write(number), fault }])
    });
    std::iter::once(Vec::new()).chain(singles).find_map(|planned| {
        let case = Case { scenario: faultless.scenario, planned, mutate: Some(mutant.mutate) };
        let (_, wrong) = violations(&case, &faultless.settled);
        let first = wrong.into_iter().next()?;
        let case =
            if case.planned.is_empty() { "no fault at all".to_owned() } else { name(case.scenario, &case.planned) };
        Some(format!("{case}: {first}"))
    })
}
