//! What both are asked.

use hyper::Method;
use serde_json::{Value, json};

/// The requests, in their order.
pub fn steps() -> Vec<Step> {
    [secrets(), workloads(), custom_resources(), others()].into_iter().flatten().collect()
}

const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
pub const JSON: &str = "application/json";

/// One request. In its body `$uid:`, `$rv:` and `$old:` before a resource's
/// plural and name stand for what the last and the first answer said of it.
pub struct Step {
    pub what: &'static str,
    pub method: Method,
    pub path: String,
    pub content_type: &'static str,
    pub body: Value,
    pub metadata_only: bool,
}

fn step(what: &'static str, method: Method, path: &str, body: Value) -> Step {
    Step { what, method, path: path.to_owned(), content_type: JSON, body, metadata_only: false }
}

fn get(what: &'static str, path: &str) -> Step {
    step(what, Method::GET, path, Value::Null)
}

fn patch(what: &'static str, content_type: &'static str, path: &str, body: Value) -> Step {
    Step { content_type, ..step(what, Method::PATCH, path, body) }
}

fn secret(name: &str, metadata: &Value, data: &Value) -> Value {
    let mut object = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "data": data });
    for (field, value) in metadata.as_object().into_iter().flatten() {
        object["metadata"][field] = value.clone();
    }
    object
}

const SECRETS: &str = "/api/v1/namespaces/NS/secrets";
const S1: &str = "/api/v1/namespaces/NS/secrets/s1";

#[allow(clippy::too_many_lines, reason = "a table")]
fn secrets() -> Vec<Step> {
    let (one, two, old) =
        (json!({ "a": "MQ==" }), json!({ "a": "Mg==" }), json!({ "resourceVersion": "$old:secrets/s1" }));
    let now = json!({ "resourceVersion": "$rv:secrets/s1", "uid": "$uid:secrets/s1" });
    let wrong_uid = json!({ "uid": "00000000-0000-4000-8000-000000000000" });
    let wrong_and_old = json!({ "uid": wrong_uid["uid"], "resourceVersion": "$old:secrets/s1" });
    let managed = |manager: &str, force: bool| format!("{S1}?fieldManager={manager}&force={force}");
    let delete = |what, preconditions| {
        step(
            what,
            Method::DELETE,
            S1,
            json!({ "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions }),
        )
    };
    vec![
        step(
            "create",
            Method::POST,
            &format!("{SECRETS}?fieldManager=botsecret"),
            secret("s1", &json!({ "labels": { "app": "a" } }), &one),
        ),
        step("create what there is", Method::POST, SECRETS, secret("s1", &json!({}), &one)),
        step("create without a name", Method::POST, SECRETS, json!({ "metadata": {} })),
        get("get", S1),
        get("get what is not there", "/api/v1/namespaces/NS/secrets/none"),
        Step { metadata_only: true, ..get("get its metadata", S1) },
        step("update", Method::PUT, &managed("botsecret", false), secret("s1", &now, &two)),
        step("update an older one", Method::PUT, S1, secret("s1", &old, &one)),
        step("update one of another UID", Method::PUT, S1, secret("s1", &wrong_uid, &one)),
        step(
            "update without resourceVersion",
            Method::PUT,
            S1,
            secret("s1", &json!({ "labels": { "app": "a" } }), &one),
        ),
        step("update that changes nothing", Method::PUT, S1, secret("s1", &json!({ "labels": { "app": "a" } }), &one)),
        step(
            "update what is not there",
            Method::PUT,
            "/api/v1/namespaces/NS/secrets/none",
            secret("none", &json!({}), &one),
        ),
        step("update the type", Method::PUT, S1, {
            let mut object = secret("s1", &json!({}), &one);
            object["type"] = json!("example.com/other");
            object
        }),
        patch("merge", MERGE, S1, json!({ "metadata": { "labels": { "extra": "yes" } } })),
        patch(
            "merge into an older one",
            MERGE,
            S1,
            json!({ "metadata": { "resourceVersion": "$old:secrets/s1", "labels": { "extra": "no" } } }),
        ),
        patch("merge that changes nothing", MERGE, S1, json!({ "metadata": { "labels": { "extra": "yes" } } })),
        patch("merge a null", MERGE, S1, json!({ "metadata": { "labels": { "extra": null } } })),
        patch("apply", APPLY, &managed("botsecret/x", true), secret("s1", &now, &json!({ "b": "Yg==" }))),
        patch(
            "apply the same again",
            APPLY,
            &managed("botsecret/x", true),
            secret("s1", &now, &json!({ "b": "Yg==" })),
        ),
        patch(
            "apply another key",
            APPLY,
            &managed("botsecret/x", true),
            secret("s1", &json!({}), &json!({ "c": "Yw==" })),
        ),
        patch(
            "apply by another",
            APPLY,
            &managed("botsecret/y", true),
            secret("s1", &json!({}), &json!({ "d": "ZA==" })),
        ),
        patch(
            "apply against an owner",
            APPLY,
            &managed("third", false),
            secret("s1", &json!({}), &json!({ "a": "OQ==" })),
        ),
        patch("apply by force", APPLY, &managed("third", true), secret("s1", &json!({}), &json!({ "a": "OQ==" }))),
        patch(
            "apply to another UID",
            APPLY,
            &managed("third", true),
            secret("s1", &wrong_uid, &json!({ "a": "OA==" })),
        ),
        patch(
            "apply to another UID's older one",
            APPLY,
            &managed("third", true),
            secret("s1", &wrong_and_old, &json!({ "a": "OA==" })),
        ),
        patch(
            "merge into another UID",
            MERGE,
            S1,
            json!({ "metadata": { "uid": wrong_uid["uid"], "labels": { "extra": "no" } } }),
        ),
        step("update another UID's older one", Method::PUT, S1, secret("s1", &wrong_and_old, &one)),
        patch("apply to an older one", APPLY, &managed("third", true), secret("s1", &old, &json!({ "a": "OA==" }))),
        patch(
            "apply what is not there",
            APPLY,
            &format!("{SECRETS}/s2?fieldManager=third"),
            secret("s2", &json!({}), &one),
        ),
        patch("apply what is gone", APPLY, &format!("{SECRETS}/s9?fieldManager=third"), secret("s9", &wrong_uid, &one)),
        patch("apply as nobody", APPLY, &format!("{SECRETS}/s1"), secret("s1", &json!({}), &one)),
        get("list by label", &format!("{SECRETS}?labelSelector=app%3Da")),
        get("list by a label's presence", &format!("{SECRETS}?labelSelector=app")),
        get("list by a label's absence", &format!("{SECRETS}?labelSelector=%21app")),
        get("list by labels", &format!("{SECRETS}?labelSelector=app+in+%28a%2Cb%29%2Capp%21%3Dc")),
        get("list by name", &format!("{SECRETS}?fieldSelector=metadata.name%3Ds2")),
        get("list a page", &format!("{SECRETS}?limit=1")),
        Step { metadata_only: true, ..get("list metadata", SECRETS) },
        delete("delete one of another UID", wrong_uid.clone()),
        delete("delete an older one", old.clone()),
        delete("delete", json!({ "uid": "$uid:secrets/s1" })),
        delete("delete again", json!({})),
        step(
            "create with a finalizer",
            Method::POST,
            SECRETS,
            secret("s3", &json!({ "finalizers": ["botsecret.dev/leases"] }), &one),
        ),
        step("delete with a finalizer", Method::DELETE, &format!("{SECRETS}/s3"), Value::Null),
        get("get one that is going", &format!("{SECRETS}/s3")),
        patch(
            "take the finalizer away",
            MERGE,
            &format!("{SECRETS}/s3"),
            json!({ "metadata": { "finalizers": null } }),
        ),
        get("get one that went", &format!("{SECRETS}/s3")),
        get(
            "watch from the first on",
            &format!("{SECRETS}?watch=true&timeoutSeconds=2&resourceVersion=$old:secrets/s1"),
        ),
        get(
            "watch by label",
            &format!("{SECRETS}?watch=true&timeoutSeconds=2&labelSelector=extra&resourceVersion=$old:secrets/s1"),
        ),
    ]
}

fn workloads() -> Vec<Step> {
    let all = "/apis/apps/v1/namespaces/NS/deployments";
    let one = format!("{all}/web");
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": {
            "replicas": 0, "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "bot", "image": "bot" }] },
            },
        },
    });
    let marked = |version: &str, marker: &str| {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "web", "uid": "$uid:deployments/web", "resourceVersion": version,
                "annotations": { "delivery.botsecret.dev/s": marker },
            },
            "spec": { "template": { "metadata": { "annotations": { "rollout.botsecret.dev/s": marker } } } },
        })
    };
    let by = |manager: &str, force: bool| format!("{one}?fieldManager={manager}&force={force}");
    vec![
        step("create a Deployment", Method::POST, all, deployment),
        patch("mark it", APPLY, &by("botsecret/x", true), marked("$rv:deployments/web", "1")),
        patch("mark it the same", APPLY, &by("botsecret/x", true), marked("$rv:deployments/web", "1")),
        patch("mark an older one", APPLY, &by("botsecret/x", true), marked("$old:deployments/web", "2")),
        patch("mark it as another", APPLY, &by("botsecret/y", false), marked("$rv:deployments/web", "2")),
        patch("mark it anew", APPLY, &by("botsecret/x", true), marked("$rv:deployments/web", "2")),
        patch(
            "set its status",
            MERGE,
            &format!("{one}/status"),
            json!({ "status": { "observedGeneration": 3, "replicas": 1 } }),
        ),
        patch("set its status where it is not", MERGE, &one, json!({ "status": { "replicas": 5 } })),
    ]
}

fn custom_resources() -> Vec<Step> {
    let all = "/apis/botsecret.dev/v1alpha1/namespaces/NS/botsecrets";
    let (one, status) = (format!("{all}/bot"), format!("{all}/bot/status?fieldManager=botsecret"));
    let object = json!({
        "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret", "metadata": { "name": "bot" },
        "spec": {
            "serviceAccountName": "bot", "storeRef": { "name": "source" }, "refreshInterval": "10s",
            "dataFrom": [{ "extract": { "key": "remote" } }],
        },
    });
    let with = |version: &str, handled: Value| {
        json!({
            "metadata": { "uid": "$uid:botsecrets/bot", "resourceVersion": version },
            "status": { "lastHandledRefresh": handled },
        })
    };
    vec![
        step("create a BotSecret", Method::POST, all, object.clone()),
        patch("write its status", MERGE, &status, with("$rv:botsecrets/bot", json!("1"))),
        patch("write the same status", MERGE, &status, with("$rv:botsecrets/bot", json!("1"))),
        patch("write an older one's status", MERGE, &status, with("$old:botsecrets/bot", json!("2"))),
        patch(
            "write another's status",
            MERGE,
            &status,
            json!({ "metadata": { "uid": "00000000-0000-4000-8000-000000000000" }, "status": {} }),
        ),
        patch(
            "write an older and another's status",
            MERGE,
            &status,
            json!({ "metadata": { "uid": "00000000-0000-4000-8000-000000000000", "resourceVersion": "$old:botsecrets/bot" }, "status": {} }),
        ),
        patch("take a status field away", MERGE, &status, with("$rv:botsecrets/bot", Value::Null)),
        patch("edit it", MERGE, &one, json!({ "spec": { "suspend": true }, "status": { "lastHandledRefresh": "3" } })),
        step("update it without resourceVersion", Method::PUT, &one, object),
        patch("annotate it", MERGE, &one, json!({ "metadata": { "annotations": { "botsecret.dev/refresh": "1" } } })),
        patch("write the status of none", MERGE, &format!("{all}/none/status"), json!({ "status": {} })),
    ]
}

fn others() -> Vec<Step> {
    let accounts = "/api/v1/namespaces/NS/serviceaccounts";
    let leases = "/apis/coordination.k8s.io/v1/namespaces/NS/leases";
    let question = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": { "audiences": ["vault"], "expirationSeconds": 600 },
    });
    let lease = |holder: &str, metadata: Value| {
        let mut lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata,
            "spec": { "holderIdentity": holder, "leaseDurationSeconds": 15 },
        });
        lease["metadata"]["name"] = json!("leader");
        lease
    };
    vec![
        step(
            "create an account",
            Method::POST,
            accounts,
            json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "bot" } }),
        ),
        step("ask for a token", Method::POST, &format!("{accounts}/bot/token"), question.clone()),
        step("ask for nobody's token", Method::POST, &format!("{accounts}/none/token"), question),
        step("create a Lease", Method::POST, leases, lease("a", json!({}))),
        step(
            "renew the Lease",
            Method::PUT,
            &format!("{leases}/leader"),
            lease("b", json!({ "resourceVersion": "$rv:leases/leader" })),
        ),
        step(
            "renew an older Lease",
            Method::PUT,
            &format!("{leases}/leader"),
            lease("c", json!({ "resourceVersion": "$old:leases/leader" })),
        ),
        step(
            "renew the Lease without resourceVersion",
            Method::PUT,
            &format!("{leases}/leader"),
            lease("c", json!({})),
        ),
    ]
}
