//! P10: that the grant in `deploy/rbac.yaml` is what the operator uses. What breaks
//! without each right: `tests/rbac`.

use std::{collections::BTreeSet, time::Duration};

use botsecret_testbed::{AuditRecord, Cluster, OpenBao, OpenBaoOptions, Role, wait_for};
use serde_json::json;
use serde_yaml::Value;

use crate::{documents, kubectl::Kubectl, read};

const ACCOUNT: &str = "system:serviceaccount:botsecret-system:botsecret";

/// "verb group/resource".
type Right = String;

fn granted() -> BTreeSet<Right> {
    let documents = documents(&read("deploy/rbac.yaml"));
    // What the Role of the Lease grants, two replicas need: tests/rbac has them.
    let role = documents.iter().find(|document| document["kind"] == "ClusterRole").expect("a ClusterRole");
    let texts = |value: &Value| -> Vec<String> {
        value.as_sequence().expect("a list").iter().map(|text| text.as_str().expect("text").to_owned()).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in role["rules"].as_sequence().expect("rules") {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                rights.extend(texts(&rule["verbs"]).into_iter().map(|verb| format!("{verb} {group}/{resource}")));
            }
        }
    }
    rights
}

fn right(record: &AuditRecord) -> Right {
    let slash = if record.subresource.is_empty() { "" } else { "/" };
    format!("{} {}/{}{slash}{}", record.verb, record.api_group, record.resource, record.subresource)
}

/// Nothing was refused, and nothing is granted that was not used.
pub async fn are_what_was_used(cluster: &Cluster) {
    // Events come after everything else.
    wait_for("every right to be used", Duration::from_secs(30), async || {
        let records = cluster.audit().requests_by(ACCOUNT).await?;
        let refused: Vec<&AuditRecord> = records.iter().filter(|record| matches!(record.code, 401 | 403)).collect();
        assert!(refused.is_empty(), "refused: {refused:#?}");
        let used: BTreeSet<Right> = records.iter().map(right).collect();
        let unused: Vec<Right> = granted().difference(&used).cloned().collect();
        anyhow::ensure!(unused.is_empty(), "granted, but of no use: {unused:?}");
        Ok(Some(()))
    })
    .await
    .expect("each right of use");
}

/// Other kinds of workload that use the quickstart's Secret.
pub const WORKLOADS: &str = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: ledger, namespace: trading}
spec:
  serviceName: ledger
  selector: {matchLabels: {app: ledger}}
  template:
    metadata: {labels: {app: ledger}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: main, image: sleep, args: ["100000"], envFrom: [{secretRef: {name: price-bot}}]}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, namespace: trading}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: main, image: sleep, args: ["100000"], envFrom: [{secretRef: {name: price-bot}}]}]
---
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: gateway, namespace: trading}
spec:
  replicas: 1
  selector: {matchLabels: {app: gateway}}
  strategy: {canary: {}}
  template:
    metadata: {labels: {app: gateway}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: main, image: sleep, args: ["100000"], envFrom: [{secretRef: {name: price-bot}}]}]
"#;

/// A Secret that goes with its source.
const FLEETING: &str = "
apiVersion: v1
kind: Secret
metadata: {name: fleeting, namespace: vault-of-secrets}
stringData: {key: x}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: fleeting, namespace: vault-of-secrets}
rules: [{apiGroups: [''], resources: [secrets], resourceNames: [fleeting], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: fleeting, namespace: vault-of-secrets}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: fleeting}
subjects: [{kind: ServiceAccount, name: price-bot, namespace: trading}]
---
apiVersion: botsecret.dev/v1alpha1
kind: BotSecret
metadata: {name: fleeting, namespace: trading}
spec:
  serviceAccountName: price-bot
  storeRef: {name: near}
  refreshInterval: 5s
  dataFrom: [{extract: {key: fleeting}}]
  target: {deletionPolicy: Delete}
";

/// What the quickstart leaves out: a Secret that is merged into, one that gets
/// another name, and the same trouble twice.
pub async fn exercise(kubectl: &Kubectl) {
    let bot_secret = |name: &str, target: &str| {
        format!(
            "---
apiVersion: botsecret.dev/v1alpha1
kind: BotSecret
metadata: {{name: {name}, namespace: trading}}
spec:
  serviceAccountName: price-bot
  storeRef: {{name: near}}
  refreshInterval: 10s
  data: [{{secretKey: REVISION, remoteRef: {{key: price-bot, property: revision}}}}]
  target: {target}
"
        )
    };
    let ready = async |name: &str| {
        let name = format!("bsec/{name}");
        kubectl.run(&["wait", "--for=condition=Ready", &name, "-n", "trading", "--timeout=60s"], "").await;
    };
    kubectl.run(&["create", "secret", "generic", "shared", "-n", "trading", "--from-literal=theirs=kept"], "").await;
    let merged = bot_secret("merged", "{name: shared, creationPolicy: Merge}");
    kubectl.run(&["apply", "-f", "-"], &(merged + &bot_secret("moved", "{name: old}"))).await;
    ready("merged").await;
    ready("moved").await;

    // What is gone at the source for a minute goes here too, where that is asked
    // for.
    kubectl.run(&["apply", "-f", "-"], FLEETING).await;
    ready("fleeting").await;
    kubectl.run(&["delete", "secret", "fleeting", "-n", "vault-of-secrets"], "").await;
    kubectl.run(&["apply", "-f", "-"], &bot_secret("moved", "{name: new}")).await;
    kubectl.run(&["wait", "--for=create", "secret/new", "-n", "trading", "--timeout=60s"], "").await;

    for _ in 0..2 {
        let spoilt = r#"{"data": {"REVISION": "c3BvaWx0"}}"#;
        kubectl.run(&["patch", "secret", "new", "-n", "trading", "-p", spoilt], "").await;
        let right = "--for=jsonpath={.data.REVISION}=Mg==";
        kubectl.run(&["wait", right, "secret/new", "-n", "trading", "--timeout=60s"], "").await;
    }
    kubectl.run(&["wait", "--for=delete", "secret/fleeting", "-n", "trading", "--timeout=120s"], "").await;
}

/// A leased certificate: the finalizer comes with it, and goes when it was
/// revoked.
pub async fn exercise_leases(cluster: &Cluster, kubectl: &Kubectl) {
    let bao = OpenBao::start(cluster, OpenBaoOptions { tls: true }).await.expect("OpenBao");
    let root = bao.root().expect("a client");
    let steps = [
        ("sys/mounts/pki", json!({"type": "pki"})),
        ("pki/root/generate/internal", json!({"common_name": "bots"})),
        ("pki/roles/bot", json!({"allow_any_name": true, "generate_lease": true, "ttl": "1h"})),
    ];
    for (path, body) in steps {
        root.write(path, &body).await.expect(path);
    }
    root.policy("bots", r#"path "pki/issue/bot" { capabilities = ["update"] }"#).await.expect("a policy");
    root.kubernetes_role(&Role {
        name: "bots",
        namespaces: &["trading"],
        service_accounts: &["price-bot"],
        policies: &["bots"],
        audience: "vault",
        ttl: "1h",
    })
    .await
    .expect("a role");
    let leases = async || {
        let (_, answer) = root.request("GET", "sys/leases/lookup/pki/issue/bot?list=true", None).await.expect("leases");
        answer["data"]["keys"].as_array().map_or(0, Vec::len)
    };

    let store = json!({
        "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecretStore",
        "metadata": {"name": "bao", "namespace": "trading"},
        "spec": {"vault": {
            "address": bao.url(), "caBundle": bao.ca_pem(), "auth": {"kubernetes": {"role": "bots"}},
        }},
    });
    let leased = json!({
        "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret",
        "metadata": {"name": "leased", "namespace": "trading"},
        "spec": {
            "serviceAccountName": "price-bot",
            "storeRef": {"name": "bao"},
            "dataFrom": [{"dynamic": {
                "path": "pki/issue/bot", "method": "POST", "parameters": {"common_name": "price-bot"},
            }}],
        },
    });
    for object in [store, leased] {
        kubectl.run(&["apply", "-f", "-"], &object.to_string()).await;
    }
    let waits = ["wait", "bsec/leased", "-n", "trading", "--timeout=60s"];
    let (well, said) = kubectl.attempt(&[&waits[..], &["--for=condition=Ready"]].concat(), "").await;
    let object = kubectl.run(&["get", "bsec/leased", "-n", "trading", "-o", "yaml"], "").await;
    assert!(well, "{said}\n{object}");
    assert!(object.contains("- botsecret.dev/leases"), "no finalizer though there is something to revoke:\n{object}");
    assert_eq!(leases().await, 1);
    kubectl.run(&["delete", "bsec/leased", "-n", "trading", "--timeout=60s"], "").await;
    wait_for("the lease to be gone", Duration::from_secs(30), async || Ok((leases().await == 0).then_some(())))
        .await
        .expect("revoked");
}
