//! Who may write what, beyond RBAC: asked as real users, of a real API server.

use std::time::Duration;

use botsecret_testbed::{Cluster, wait_for};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{
    helm::render,
    kubectl::Kubectl,
    server::{ensure_namespaces, text},
};

const NAMESPACE: &str = "authors";

/// Who may write every object of ours, `alice` reads the Secret `hers` and uses what
/// is called `allowed`; `bob` does neither.
const PEOPLE: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: authors}
rules:
  - {apiGroups: [botsecret.dev], resources: ["*"], verbs: [get, create, update, patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: authors}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: authors}
subjects:
  - {kind: User, name: alice}
  - {kind: User, name: bob}
  - {kind: User, name: "system:serviceaccount:botsecret-system:authors"}
  - {kind: User, name: "system:serviceaccount:authors:authors"}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: alice}
rules:
  - {apiGroups: [""], resources: [secrets], resourceNames: [hers], verbs: [get]}
  - {apiGroups: [""], resources: [serviceaccounts], resourceNames: [allowed], verbs: [use]}
  - {apiGroups: [botsecret.dev], resources: [clusterbotsecretstores], resourceNames: [allowed, b, c, d, e, f, g, h], verbs: [use]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: alice}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: alice}
subjects:
  - {kind: User, name: alice}
"#;

/// Stores for the whole cluster that `alice` may use.
const MANY: [&str; 8] = ["allowed", "b", "c", "d", "e", "f", "g", "h"];

fn store(kind: &str, name: &str, spec: &Value) -> Value {
    let mut object =
        json!({ "apiVersion": "botsecret.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec });
    if kind == "ClusterBotSecretStore" {
        object["spec"]["namespaces"] = json!([NAMESPACE]);
    } else {
        object["metadata"]["namespace"] = json!(NAMESPACE);
    }
    object
}

fn with_secret(secret: &str) -> Value {
    json!({ "vault": { "address": "https://vault.example", "auth": { "tokenSecretRef": { "name": secret, "key": "token" } } } })
}

/// A login by a certificate of one Secret and the key of another.
fn with_certificate(certificate: &str, key: &str) -> Value {
    let auth = json!({ "cert": {
        "clientCert": { "name": certificate, "key": "tls.crt" }, "secretRef": { "name": key, "key": "tls.key" },
    } });
    json!({ "vault": { "address": "https://vault.example", "auth": auth } })
}

/// The most Secrets that a store can name.
fn with_keys(id: &str, key: &str, token: &str) -> Value {
    let reference = |name: &str, key: &str| json!({ "name": name, "key": key });
    let auth = json!({ "secretRef": {
        "accessKeyIDSecretRef": reference(id, "id"), "secretAccessKeySecretRef": reference(key, "key"),
        "sessionTokenSecretRef": reference(token, "token"),
    } });
    json!({ "aws": { "service": "SecretsManager", "region": "eu-central-1", "auth": auth } })
}

fn bot_secret(account: &str, change: &Value) -> Value {
    let mut spec = json!({
        "serviceAccountName": account, "storeRef": { "name": "source" }, "dataFrom": [{ "extract": { "key": "x" } }],
    });
    spec.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
    json!({ "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret", "metadata": { "name": "bot", "namespace": NAMESPACE }, "spec": spec })
}

/// What becomes of it, were it written by this user.
async fn asked(kubectl: &Kubectl, user: &str, object: &Value) -> Result<(), String> {
    let user = format!("--as={user}");
    let (well, said) = kubectl.attempt(&["apply", "--dry-run=server", &user, "-f", "-"], &object.to_string()).await;
    if well { Ok(()) } else { Err(said) }
}

/// A user's write, and the words that refuse it if it is to be refused.
type Case = (&'static str, Value, Option<&'static str>);

async fn go(kubectl: &Kubectl, cases: &[Case]) {
    for (user, object, words) in cases {
        let found = asked(kubectl, user, object).await;
        match words {
            None => assert!(found.is_ok(), "{user} {object}: {found:?}"),
            Some(words) => assert!(
                found.as_ref().is_err_and(|said| said.contains(words) && said.to_lowercase().contains("forbidden")),
                "{user} {object}: {found:?}"
            ),
        }
    }
}

/// A cluster with the policies of a release `authors` in force, and the people.
async fn site() -> Kubectl {
    static READY: OnceCell<()> = OnceCell::const_new();
    let kubectl = Kubectl::of(Cluster::shared().await.expect("a cluster"));
    READY.get_or_init(|| prepare(&kubectl)).await;
    kubectl
}

async fn prepare(kubectl: &Kubectl) {
    ensure_namespaces(kubectl, &["botsecret-system", NAMESPACE]).await;
    for document in botsecret::cli::crds::documents().expect("YAML") {
        kubectl.run(&["apply", "--server-side", "-f", "-"], &document.yaml).await;
    }
    let only = [
        "--set",
        "fullnameOverride=authors",
        "--set",
        "admission.authors=true",
        "-s",
        "templates/admission-authors.yaml",
    ];
    let objects = render(&only);
    kubectl.run(&["apply", "--server-side", "-f", "-"], &text(&objects.iter().collect::<Vec<_>>())).await;
    kubectl.run(&["apply", "-f", "-"], PEOPLE).await;
    // Policies are learned of by a watch.
    let refused = [store("BotSecretStore", "source", &with_secret("theirs")), bot_secret("other", &json!({}))];
    for refused in &refused {
        wait_for("the policies to be in force", Duration::from_mins(1), async || {
            let answer = asked(kubectl, "bob", refused).await;
            Ok(answer.is_err_and(|said| said.contains("you need")).then_some(()))
        })
        .await
        .expect("in force");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_who_writes_a_store_or_a_botsecret_must_be_allowed_what_it_brings() {
    const OPERATOR: &str = "system:serviceaccount:botsecret-system:authors";
    /// Of the same name, elsewhere.
    const NAMESAKE: &str = "system:serviceaccount:authors:authors";
    let kubectl = site().await;
    let [ours, cluster_wide] = ["BotSecretStore", "ClusterBotSecretStore"];
    let ambient =
        json!({ "aws": { "service": "SecretsManager", "region": "eu-central-1", "auth": { "ambient": true } } });
    let shared = |name: &str| json!({ "storeRef": { "name": name, "kind": "ClusterBotSecretStore" } });
    let entry = |name: &str| json!({ "dataFrom": [{ "extract": { "key": "x" }, "storeRef": { "name": name, "kind": "ClusterBotSecretStore" } }] });
    let entries = |names: &[&str]| {
        let each = |name: &&str| json!({ "extract": { "key": "x" }, "storeRef": { "name": name, "kind": "ClusterBotSecretStore" } });
        json!({ "dataFrom": names.iter().map(each).collect::<Vec<_>>() })
    };
    let rotator = |name: &str| json!({ "rotation": { "every": "720h", "serviceAccountName": name } });
    let none = json!({});
    let cases: Vec<Case> = vec![
        (
            "bob",
            store(
                ours,
                "a",
                &json!({ "vault": { "address": "https://vault.example", "auth": { "kubernetes": { "role": "bot" } } } }),
            ),
            None,
        ),
        ("alice", store(ours, "a", &with_secret("hers")), None),
        ("alice", store(ours, "a", &with_secret("theirs")), Some("\"get\" on Secrets theirs in namespace authors")),
        ("bob", store(ours, "a", &with_secret("hers")), Some("\"get\" on Secrets hers in namespace authors")),
        ("alice", store(ours, "a", &with_certificate("hers", "hers")), None),
        ("alice", store(ours, "a", &with_certificate("theirs", "hers")), Some("\"get\" on Secrets theirs, hers")),
        ("alice", store(ours, "a", &with_certificate("hers", "theirs")), Some("\"get\" on Secrets hers, theirs")),
        ("alice", store(ours, "a", &with_keys("hers", "hers", "hers")), None),
        ("alice", store(ours, "a", &with_keys("theirs", "hers", "hers")), Some("\"get\" on Secrets theirs, hers")),
        ("alice", store(ours, "a", &with_keys("hers", "theirs", "hers")), Some("\"get\" on Secrets hers, theirs")),
        (
            "alice",
            store(ours, "a", &with_keys("hers", "hers", "theirs")),
            Some("\"get\" on Secrets hers, hers, theirs"),
        ),
        ("alice", store(cluster_wide, "a", &with_keys("hers", "hers", "hers")), None),
        ("alice", store(cluster_wide, "a", &with_secret("hers")), None),
        ("bob", store(cluster_wide, "a", &with_secret("hers")), Some("in namespace botsecret-system")),
        ("alice", store(cluster_wide, "a", &ambient), Some("lends out the operator's own identity")),
        ("alice", bot_secret("allowed", &none), None),
        ("alice", bot_secret("other", &none), Some("read as ServiceAccount other")),
        ("bob", bot_secret("allowed", &none), Some("read as ServiceAccount allowed")),
        ("alice", bot_secret("allowed", &shared("allowed")), None),
        ("alice", bot_secret("allowed", &shared("other")), Some("\"use\" on other")),
        ("alice", bot_secret("allowed", &entry("allowed")), None),
        ("alice", bot_secret("allowed", &entry("other")), Some("\"use\" on other")),
        // The API server bounds what an expression may ask: of many, and of one many times.
        ("alice", bot_secret("allowed", &entries(&["allowed"; 20])), None),
        ("alice", bot_secret("allowed", &entries(&MANY)), None),
        (
            "alice",
            bot_secret("allowed", &entries(&[&["allowed"; 5][..], &["other"]].concat())),
            Some("\"use\" on other"),
        ),
        ("alice", bot_secret("allowed", &entries(&[&MANY[..7], &["other"]].concat())), Some("\"use\" on other")),
        ("alice", bot_secret("allowed", &entries(&[&MANY[..], &["other"]].concat())), Some("more than 8")),
        ("alice", bot_secret("allowed", &rotator("allowed")), None),
        ("alice", bot_secret("allowed", &rotator("other")), Some("write as ServiceAccount other")),
        (OPERATOR, bot_secret("other", &shared("other")), None),
        (NAMESAKE, bot_secret("other", &none), Some("read as ServiceAccount other")),
    ];
    go(&kubectl, &cases).await;
    // A name that the API server makes is no way round.
    let mut nameless = bot_secret("other", &none);
    nameless["metadata"] = json!({ "generateName": "bot-", "namespace": NAMESPACE });
    let create = ["create", "--dry-run=server", "--as=bob", "-f", "-"];
    let (well, said) = kubectl.attempt(&create, &nameless.to_string()).await;
    assert!(!well && said.contains("read as ServiceAccount other"), "{said}");

    // What is there already needs no right where it stays as it is; an address does.
    kubectl.run(&["apply", "-f", "-"], &bot_secret("other", &shared("other")).to_string()).await;
    kubectl.run(&["apply", "-f", "-"], &store(ours, "source", &with_secret("theirs")).to_string()).await;
    let edited = bot_secret(
        "other",
        &json!({ "storeRef": { "name": "other", "kind": "ClusterBotSecretStore" }, "refreshInterval": "2h" }),
    );
    assert_eq!(asked(&kubectl, "bob", &edited).await, Ok(()));
    let moved = bot_secret("allowed", &shared("other"));
    assert!(asked(&kubectl, "bob", &moved).await.is_err_and(|said| said.contains("read as ServiceAccount allowed")));
    let mut labelled = store(ours, "source", &with_secret("theirs"));
    labelled["metadata"]["labels"] = json!({ "team": "trading" });
    assert_eq!(asked(&kubectl, "bob", &labelled).await, Ok(()));
    labelled["spec"]["vault"]["address"] = json!("https://elsewhere.example");
    assert!(asked(&kubectl, "bob", &labelled).await.is_err_and(|said| said.contains("theirs")), "sent elsewhere");
    // The API server finds nothing odd in the expressions.
    for policy in ["authors-store-secrets", "authors-authors"] {
        let get = ["get", "validatingadmissionpolicy", policy, "-o", "jsonpath={.status.typeChecking}"];
        let said = kubectl.run(&get, "").await;
        assert!(!said.contains("Warning") && !said.contains("warning"), "{policy}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_who_edits_what_another_wrote_must_be_allowed_what_it_reads_and_where_that_goes() {
    let kubectl = site().await;
    let named = |mut object: Value| {
        object["metadata"]["name"] = json!("kept");
        object
    };
    let kept = named(bot_secret("other", &json!({ "rotation": { "every": "720h", "serviceAccountName": "allowed" } })));
    let with = |field: &str, value: Value| {
        let mut object = kept.clone();
        object["spec"][field] = value;
        object
    };
    let [near, far] =
        ["BotSecretStore", "ClusterBotSecretStore"].map(|kind| named(store(kind, "", &with_secret("theirs"))));
    for object in [&kept, &near, &far] {
        kubectl.run(&["apply", "-f", "-"], &object.to_string()).await;
    }
    let store_with = |object: &Value, field: &str, value: Value| {
        let mut object = object.clone();
        object["spec"][field] = value;
        object
    };
    let labelled = |object: &Value| {
        let mut object = object.clone();
        object["metadata"]["labels"] = json!({ "team": "trading" });
        object["metadata"]["annotations"] = json!({ "botsecret.dev/refresh": "now" });
        object
    };
    let taken_over = |reader: &str, rotator: &str| {
        let mut object = with("serviceAccountName", json!(reader));
        object["spec"]["rotation"]["serviceAccountName"] = json!(rotator);
        object
    };
    let mut moved = near.clone();
    moved["spec"]["vault"]["address"] = json!("https://elsewhere.example");
    let (other, theirs) = (Some("read as ServiceAccount other"), Some("\"get\" on Secrets theirs"));
    let cases: Vec<Case> = vec![
        // Neither what is read nor where it goes.
        ("bob", with("refreshInterval", json!("2h")), None),
        ("bob", with("suspend", json!(true)), None),
        ("bob", with("rollout", json!({ "workloads": "None" })), None),
        ("bob", labelled(&kept), None),
        // Somebody else's identity, before a store or for a secret of one's own choice.
        ("bob", with("storeRef", json!({ "name": "his" })), other),
        ("bob", with("dataFrom", json!([{ "extract": { "key": "y" } }])), other),
        ("bob", with("data", json!([{ "secretKey": "K", "remoteRef": { "key": "y" } }])), other),
        ("bob", with("target", json!({ "name": "his" })), other),
        ("bob", with("verify", json!({ "cronJob": "his" })), other),
        ("bob", with("rotation", json!({ "every": "24h", "serviceAccountName": "allowed" })), other),
        // One for the other, and back.
        ("alice", taken_over("allowed", "other"), Some("write as ServiceAccount other")),
        ("alice", taken_over("other", "other"), other),
        ("alice", taken_over("allowed", "allowed"), None),
        // A store sends the same Secret elsewhere, or lets others have it sent.
        ("bob", labelled(&near), None),
        ("bob", labelled(&far), None),
        ("bob", moved, theirs),
        ("bob", store_with(&near, "proxy", json!("http://his.example:3128")), theirs),
        ("bob", store_with(&near, "limits", json!({ "maxInFlight": 2 })), theirs),
        ("bob", store_with(&far, "namespaces", json!([NAMESPACE, "his"])), theirs),
        ("alice", store_with(&near, "vault", with_secret("hers")["vault"].clone()), None),
    ];
    go(&kubectl, &cases).await;
}
