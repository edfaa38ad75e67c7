//! P10: what the operator's own account may change of a workload, whatever RBAC grants
//! it: the annotation that rolls its pods, and what says nothing about them. Asked as that account, of a real API server.

use botsecret_testbed::{Cluster, ClusterOptions};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    kubectl::Kubectl,
    policy::{operator, outcome, refused, until},
    read,
};

const KINDS: [(&str, &str, &str); 4] = [
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "StatefulSet"),
    ("apps", "v1", "DaemonSet"),
    ("argoproj.io", "v1alpha1", "Rollout"),
];

fn workload(version: &str, kind: &str) -> Value {
    let mut spec = json!({
        "selector": { "matchLabels": { "app": "bot" } },
        "template": {
            "metadata": { "labels": { "app": "bot" }, "annotations": { "inject": "yes" } },
            "spec": { "containers": [{ "name": "bot", "image": "sleep" }] },
        },
    });
    match kind {
        "StatefulSet" => spec["serviceName"] = json!("bot"),
        "Rollout" => spec["strategy"] = json!({ "canary": {} }),
        _ => {}
    }
    let metadata = json!({ "name": "bot", "labels": { "team": "trading" }, "annotations": { "note": "ours" } });
    json!({ "apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec })
}

/// What rolls it, and what a webhook may add on the way.
fn marks(revision: &str) -> Value {
    json!({
        "metadata": {
            "labels": { "cost-centre": revision },
            "annotations": { "delivery.botsecret.dev/price-bot": revision, "changed-by": "somebody" },
        },
        "spec": { "template": { "metadata": { "annotations": { "rollout.botsecret.dev/price-bot": revision } } } },
    })
}

/// What is refused, with the words of the refusal.
fn others() -> Vec<(&'static str, Value)> {
    let template = |value: Value| json!({ "spec": { "template": value } });
    let owner = json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "11111111-1111-1111-1111-111111111111" }]);
    let [pods, spec, names, head, notes] = [
        "what its pods run",
        "nothing else of its spec",
        "not its owners",
        "annotations of a workload's pods",
        "its own annotation of",
    ];
    vec![
        (pods, template(json!({ "spec": { "serviceAccountName": "admin" } }))),
        (pods, template(json!({ "spec": { "containers": [{ "name": "bot", "image": "other" }] } }))),
        (spec, json!({ "spec": { "minReadySeconds": 7 } })),
        (names, json!({ "metadata": { "ownerReferences": owner } })),
        (names, json!({ "metadata": { "finalizers": ["example.com/held"] } })),
        (head, template(json!({ "metadata": { "labels": { "more": "yes" } } }))),
        // Kubernetes hands them on to every pod, which then never goes.
        (head, template(json!({ "metadata": { "finalizers": ["example.com/held"] } }))),
        (notes, template(json!({ "metadata": { "annotations": { "inject": "no" } } }))),
        (notes, template(json!({ "metadata": { "annotations": { "inject": null } } }))),
        (notes, template(json!({ "metadata": { "annotations": { "rollout.botsecret.dev.example/s": "1" } } }))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_the_operator_changes_nothing_of_what_a_workload_runs_but_the_annotation_that_rolls_it() {
    let cluster = Cluster::start(ClusterOptions { process_nodes: 0, ..Default::default() }).await.expect("a cluster");
    let kubectl = Kubectl::of(&cluster);
    for part in ["namespace", "rbac", "admission"] {
        kubectl.run(&["apply", "-f", "-"], &read(&format!("deploy/{part}.yaml"))).await;
    }
    cluster.install_argo_definitions().await.expect("the definitions");
    let namespace = cluster.namespace("workloads").await.expect("a namespace");
    let (admin, operator) = (cluster.client().expect("a client"), operator(&cluster).await);
    let params = PatchParams::default();
    for (group, version, kind) in KINDS {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let [admin, operator] = [&admin, &operator]
            .map(|client| -> Api<DynamicObject> { Api::namespaced_with(client.clone(), &namespace, &resource) });
        let object = workload(&format!("{group}/{version}"), kind);
        kubectl.run(&["apply", "-n", &namespace, "-f", "-"], &object.to_string()).await;
        let changes = async |api: &Api<DynamicObject>, patch: Value| {
            outcome(api.patch("bot", &params, &Patch::Merge(patch)).await)
        };
        until("the policy to be in force", async || {
            // Whatever is let through before is put right.
            let denied = changes(&operator, json!({ "spec": { "minReadySeconds": 9 } })).await.is_err();
            changes(&admin, json!({ "spec": { "minReadySeconds": null } })).await.expect("not the operator");
            denied
        })
        .await;
        for revision in ["1", "2"] {
            changes(&operator, marks(revision)).await.unwrap_or_else(|said| panic!("{kind}: {said:?}"));
        }
        let before = admin.get("bot").await.expect("the workload");
        for (words, patch) in others() {
            if kind == "Rollout" && !patch["spec"]["template"]["metadata"]["finalizers"].is_null() {
                // Its definition has no such field: the API server drops it.
                changes(&operator, patch).await.expect("no change at all");
                continue;
            }
            refused(changes(&operator, patch.clone()).await, words);
            // Nor together with what it may.
            let mut with_marks = patch;
            with_marks["metadata"]["annotations"]["delivery.botsecret.dev/price-bot"] = json!("3");
            refused(changes(&operator, with_marks).await, words);
        }
        let after = admin.get("bot").await.expect("the workload");
        assert_eq!(after.data["spec"], before.data["spec"], "{kind}");
        // Everybody else is left alone.
        for (_, patch) in others().into_iter().filter(|(_, patch)| patch["metadata"]["ownerReferences"].is_null()) {
            changes(&admin, patch).await.expect("not the operator");
        }
        changes(&admin, json!({ "metadata": { "finalizers": null } })).await.expect("not the operator");
    }
    // The API server finds nothing odd in the expressions.
    for policy in ["botsecret-workloads", "botsecret-rollouts"] {
        let get = ["get", "validatingadmissionpolicy", policy, "-o", "jsonpath={.status.typeChecking}"];
        let said = kubectl.run(&get, "").await;
        assert!(!said.contains("Warning") && !said.contains("warning"), "{policy}: {said}");
    }
}
