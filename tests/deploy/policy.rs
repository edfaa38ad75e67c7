//! P10: what the operator's own account may not do, whatever RBAC grants it.
//! Asked as that account, of a real API server.

use std::time::Duration;

use botsecret::api::BotSecret;
use botsecret_testbed::{Cluster, ClusterOptions, wait_for};
use k8s_openapi::api::{
    apps::v1::Deployment,
    authentication::v1::TokenRequest,
    core::v1::{Namespace, Secret, ServiceAccount},
};
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
    config::AuthInfo,
};
use serde_json::{Value, json};

use crate::{kubectl::Kubectl, read};

struct Asker {
    operator: Client,
    namespace: String,
}

impl Asker {
    /// Asks for a token of the namespace's default ServiceAccount.
    async fn token(&self, audiences: &[&str]) -> Result<(), (u16, String)> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.operator.clone(), &self.namespace);
        let request: TokenRequest =
            serde_json::from_value(json!({"spec": {"audiences": audiences}})).expect("a request");
        outcome(accounts.create_token_request("default", &PostParams::default(), &request).await)
    }

    async fn secret(&self, name: &str, fields: Value) -> Result<(), (u16, String)> {
        let mut secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
        secret.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        let secret: Secret = serde_json::from_value(secret).expect("a Secret");
        let secrets: Api<Secret> = Api::namespaced(self.operator.clone(), &self.namespace);
        outcome(secrets.create(&PostParams::default(), &secret).await)
    }

    async fn patch_rollout(&self, spec: Value) -> Result<(), (u16, String)> {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Rollout"));
        let rollouts: Api<DynamicObject> = Api::namespaced_with(self.operator.clone(), &self.namespace, &kind);
        let patch = Patch::Merge(json!({"spec": spec}));
        outcome(rollouts.patch("bot", &PatchParams::default(), &patch).await)
    }

    async fn patch_deployment(&self, template: Value) -> Result<(), (u16, String)> {
        let deployments: Api<Deployment> = Api::namespaced(self.operator.clone(), &self.namespace);
        let patch = json!({"spec": {"template": template}});
        outcome(deployments.patch("bot", &PatchParams::default(), &Patch::Strategic(patch)).await)
    }
}

pub fn outcome<T>(result: kube::Result<T>) -> Result<(), (u16, String)> {
    match result {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => Err((status.code, status.message.clone())),
        Err(error) => panic!("no answer: {error}"),
    }
}

pub fn refused(result: Result<(), (u16, String)>, words: &str) {
    let (code, message) = result.expect_err("allowed");
    assert_eq!(code, 403, "{message}");
    assert!(message.contains(words), "{message}");
}

async fn label(client: &Client, namespace: &str, value: Option<&str>) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let patch = json!({"metadata": {"labels": {"botsecret.dev/kubernetes-store": value}}});
    namespaces.patch(namespace, &PatchParams::default(), &Patch::Merge(patch)).await.expect("labelled");
}

/// The API server learns of policies, parameters and labels by watches.
pub async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let holds = &holds;
    wait_for(what, Duration::from_secs(30), || async move { Ok(holds().await.then_some(())) }).await.expect(what);
}

/// The account that the operator runs as.
pub async fn operator(cluster: &Cluster) -> Client {
    let audiences = [cluster.audience()];
    let token = cluster.service_account_token("botsecret-system", "botsecret", &audiences, 3600).await;
    let mut config = cluster.config("nobody", &[]).expect("a configuration");
    config.auth_info = AuthInfo { token: Some(token.expect("a token").into()), ..AuthInfo::default() };
    Client::try_from(config).expect("a client")
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_the_operator_cannot_get_hold_of_a_token_for_the_api() {
    // One of its own: the parameters are taken away here.
    let cluster = Cluster::start(ClusterOptions { process_nodes: 0, ..Default::default() }).await.expect("a cluster");
    let kubectl = Kubectl::of(&cluster);
    for part in ["namespace", "rbac", "admission"] {
        // RBAC names the custom resources, but does not need them.
        kubectl.run(&["apply", "-f", "-"], &read(&format!("deploy/{part}.yaml"))).await;
    }
    cluster.install_argo_definitions().await.expect("the definitions");
    let own = cluster.audience();
    let parameters = |audiences: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "botsecret-api-audiences", "namespace": "botsecret-system"},
            "data": {"apiAudiences": audiences}})
        .to_string()
    };
    kubectl.run(&["apply", "-f", "-"], &parameters(&format!("\n other , {own}\n"))).await;

    let admin = cluster.client().expect("a client");
    let namespace = cluster.namespace("policy").await.expect("a namespace");
    let asker = Asker { operator: operator(&cluster).await, namespace: namespace.clone() };

    until("the policy to be in force", async || {
        asker.token(&[]).await.is_err() && asker.token(&["vault"]).await.is_ok()
    })
    .await;
    refused(asker.token(&[]).await, "with the label botsecret.dev/kubernetes-store=allowed");
    refused(asker.token(&[own]).await, "set another audience in the store");
    refused(asker.token(&["vault", own]).await, "set another audience in the store");
    refused(asker.token(&["other"]).await, "set another audience in the store");
    asker.token(&["vault"]).await.expect("a manager's audience");

    label(&admin, &namespace, Some("no")).await;
    refused(asker.token(&[]).await, "with the label botsecret.dev/kubernetes-store=allowed");
    label(&admin, &namespace, Some("allowed")).await;
    until("the label to count", async || asker.token(&[]).await.is_ok()).await;
    asker.token(&[own]).await.expect("by its name");
    label(&admin, &namespace, None).await;
    until("the label's absence to count", async || asker.token(&[]).await.is_err()).await;

    // Everybody else is left alone.
    cluster.service_account_token(&namespace, "default", &[own], 600).await.expect("not the operator");

    // A list in another form would name none of the audiences that it means.
    for unfit in [format!("- {own}"), format!(r#"["{own}"]"#), format!("{own} other")] {
        kubectl.run(&["apply", "-f", "-"], &parameters(&unfit)).await;
        until(
            &format!("{unfit} to be refused"),
            async || matches!(asker.token(&["vault"]).await, Err((_, message)) if message.contains("one a line")),
        )
        .await;
    }
    // Some clusters have an audience with quotes about it.
    kubectl.run(&["apply", "-f", "-"], &parameters(&format!("{own}\n\"quoted\"\n"))).await;
    until("the list to count", async || asker.token(&["vault"]).await.is_ok()).await;
    refused(asker.token(&["\"quoted\""]).await, "set another audience in the store");
    kubectl.run(&["apply", "-f", "-"], &parameters(" ,\n")).await;
    until("the empty list to count", async || asker.token(&["vault"]).await.is_err()).await;
    refused(asker.token(&["vault"]).await, "names no audience");
    kubectl.run(&["delete", "configmap", "botsecret-api-audiences", "-n", "botsecret-system"], "").await;
    until(
        "the list's absence to count",
        async || matches!(asker.token(&["vault"]).await, Err((_, message)) if !message.contains("names no audience")),
    )
    .await;
    let (code, message) = asker.token(&["vault"]).await.expect_err("allowed without parameters");
    // The API server's own refusal; its code cannot be chosen.
    assert_eq!(code, 422, "{message}");

    let annotated = json!({"type": "kubernetes.io/service-account-token", "metadata": {
        "name": "t", "annotations": {"kubernetes.io/service-account.name": "default"}}});
    refused(asker.secret("t", annotated).await, "does not write");
    refused(asker.secret("b", json!({"type": "bootstrap.kubernetes.io/token"})).await, "does not write");
    asker.secret("o", json!({"type": "Opaque"})).await.expect("an ordinary Secret");

    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "bot", "namespace": namespace},
        "spec": {"selector": {"matchLabels": {"app": "bot"}}, "template": {
            "metadata": {"labels": {"app": "bot"}}, "spec": {"containers": [{"name": "bot", "image": "sleep"}]}}}});
    kubectl.run(&["apply", "-f", "-"], &deployment.to_string()).await;
    asker
        .patch_deployment(json!({"metadata": {"annotations": {"rollout.botsecret.dev/s": "1"}}}))
        .await
        .expect("the marker");
    refused(asker.patch_deployment(json!({"spec": {"serviceAccountName": "admin"}})).await, "nothing else");
    let image = json!({"spec": {"containers": [{"name": "bot", "image": "other"}]}});
    refused(asker.patch_deployment(image).await, "nothing else");

    let mut rollout = deployment;
    (rollout["apiVersion"], rollout["kind"]) = (json!("argoproj.io/v1alpha1"), json!("Rollout"));
    rollout["spec"]["strategy"] = json!({"canary": {}});
    kubectl.run(&["apply", "-f", "-"], &rollout.to_string()).await;
    let marker = json!({"template": {"metadata": {"annotations": {"rollout.botsecret.dev/s": "1"}}}});
    asker.patch_rollout(marker).await.expect("the marker");
    let experiment = json!({"experiment": {"templates": [{"name": "a", "specRef": "canary"}]}});
    for spec in [
        json!({"template": {"spec": {"serviceAccountName": "admin"}}}),
        json!({"workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "admin"}}),
        json!({"strategy": {"canary": {"steps": [experiment]}}}),
    ] {
        refused(asker.patch_rollout(spec).await, "nothing else");
    }
}

/// Changes BotSecret `bot` as one of the users.
struct Hand(Api<BotSecret>);

impl Hand {
    async fn changes(&self, patch: Value) -> Result<(), (u16, String)> {
        outcome(self.0.patch("bot", &PatchParams::default(), &Patch::Merge(patch)).await)
    }

    async fn sets_finalizers(&self, finalizers: &[&str]) -> Result<(), (u16, String)> {
        self.changes(json!({"metadata": {"finalizers": finalizers}})).await
    }

    async fn applies(&self, mut object: Value) -> Result<(), (u16, String)> {
        object["metadata"]["name"] = json!("bot");
        outcome(self.0.patch("bot", &PatchParams::apply("another").force(), &Patch::Apply(object)).await)
    }
}

fn bot_secret(name: &str, finalizers: &[&str]) -> Value {
    json!({
        "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret",
        "metadata": {
            "name": name, "finalizers": finalizers, "labels": {"team": "trading"}, "annotations": {"note": "ours"},
        },
        "spec": {
            "serviceAccountName": "bot", "storeRef": {"name": "vault"},
            "dataFrom": [{"dynamic": {"path": "database/creds/bot"}}],
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_the_operator_changes_nothing_of_a_botsecret_but_its_own_finalizer_and_the_status() {
    const OURS: &str = "botsecret.dev/leases";
    const THEIRS: &str = "example.com/leases";

    let cluster = Cluster::start(ClusterOptions { process_nodes: 0, ..Default::default() }).await.expect("a cluster");
    let kubectl = Kubectl::of(&cluster);
    for document in botsecret::cli::crds::documents().expect("YAML") {
        kubectl.run(&["apply", "--server-side", "-f", "-"], &document.yaml).await;
    }
    for part in ["namespace", "rbac", "admission"] {
        kubectl.run(&["apply", "-f", "-"], &read(&format!("deploy/{part}.yaml"))).await;
    }
    let namespace = cluster.namespace("finalizers").await.expect("a namespace");
    let client = operator(&cluster).await;
    let admin = Hand(Api::namespaced(cluster.client().expect("a client"), &namespace));
    let operator = Hand(Api::namespaced(client, &namespace));
    let made: BotSecret = serde_json::from_value(bot_secret("bot", &[THEIRS])).expect("a BotSecret");
    until("the kind to be served", async || admin.0.create(&PostParams::default(), &made).await.is_ok()).await;

    let spec = json!({"spec": {"serviceAccountName": "admin"}});
    until("the policy to be in force", async || {
        // Whatever is let through before is put right.
        let denied = operator.changes(spec.clone()).await.is_err();
        admin.changes(json!({"spec": {"serviceAccountName": "bot"}})).await.expect("not the operator");
        denied
    })
    .await;

    let owner =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "11111111-1111-1111-1111-111111111111"}]);
    let others = [
        ("its spec", spec.clone()),
        ("its spec", json!({"spec": {"suspend": true}})),
        ("its spec", json!({"spec": {"serviceAccountName": "admin"}, "metadata": {"finalizers": [THEIRS, OURS]}})),
        ("its labels", json!({"metadata": {"labels": {"more": "yes"}}})),
        ("its labels", json!({"metadata": {"labels": {"team": null}}})),
        ("its labels", json!({"metadata": {"labels": null}})),
        ("annotations", json!({"metadata": {"annotations": {"botsecret.dev/refresh": "now"}}})),
        ("annotations", json!({"metadata": {"annotations": {"note": "theirs"}}})),
        ("annotations", json!({"metadata": {"annotations": null}})),
        ("owners", json!({"metadata": {"ownerReferences": owner}})),
        ("no other", json!({"metadata": {"finalizers": []}})),
        ("no other", json!({"metadata": {"finalizers": [OURS]}})),
        ("no other", json!({"metadata": {"finalizers": [THEIRS, "botsecret.dev/other"]}})),
        ("no other", json!({"metadata": {"finalizers": [THEIRS, OURS, "botsecret.dev/leases-too"]}})),
        ("no other", json!({"metadata": {"finalizers": [THEIRS, "foregroundDeletion"]}})),
    ];
    for (words, patch) in &others {
        refused(operator.changes(patch.clone()).await, words);
    }
    let applied = json!({"apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret",
        "metadata": {"labels": {"team": "research"}}});
    refused(operator.applies(applied.clone()).await, "its labels");

    // What it is there for, and the status beside it.
    for finalizers in [&[THEIRS, OURS][..], &[THEIRS], &[OURS, THEIRS], &[THEIRS, OURS]] {
        operator.sets_finalizers(finalizers).await.expect("its own finalizer");
        let now = admin.0.get("bot").await.expect("the BotSecret").metadata.finalizers;
        assert_eq!(now.unwrap_or_default(), finalizers);
    }
    let status = json!({"status": {"observedGeneration": 7}, "spec": {"suspend": true}, "metadata": {"labels": {"more": "yes"}}});
    let params = PatchParams::default();
    outcome(operator.0.patch_status("bot", &params, &Patch::Merge(status)).await).expect("the status");
    let now = admin.0.get("bot").await.expect("the BotSecret");
    assert_eq!(now.status.and_then(|status| status.observed_generation), Some(7));
    assert!(
        now.spec.suspend.is_none() && !now.metadata.labels.unwrap_or_default().contains_key("more"),
        "by way of the status"
    );

    // Everybody else is left alone.
    for (_, patch) in &others {
        admin.changes(patch.clone()).await.expect("not the operator");
    }
    admin.applies(applied).await.expect("not the operator");
    let right = json!({"metadata": {"ownerReferences": null, "finalizers": [OURS, THEIRS]}});
    admin.changes(right).await.expect("not the operator");

    // Where there is no label, annotation or finalizer at all.
    admin.changes(json!({"metadata": {"labels": null, "annotations": null, "finalizers": null}})).await.expect("bare");
    operator.sets_finalizers(&[OURS]).await.expect("the first finalizer");
    refused(operator.changes(json!({"metadata": {"labels": {"more": "yes"}}})).await, "its labels");
    refused(operator.changes(json!({"metadata": {"annotations": {"more": "yes"}}})).await, "annotations");
    operator.sets_finalizers(&[]).await.expect("the last finalizer");

    // In deletion, which is when it is taken off.
    admin.sets_finalizers(&[OURS, THEIRS]).await.expect("not the operator");
    admin.0.delete("bot", &DeleteParams::default()).await.expect("deleted");
    refused(operator.sets_finalizers(&[]).await, "no other");
    operator.sets_finalizers(&[THEIRS]).await.expect("its own finalizer");
    admin.sets_finalizers(&[]).await.expect("not the operator");
    assert!(admin.0.get_opt("bot").await.expect("an answer").is_none());

    // RBAC that grants too much does not help it.
    let account = "--serviceaccount=botsecret-system:botsecret";
    kubectl.run(&["create", "clusterrolebinding", "too-much", "--clusterrole=cluster-admin", account], "").await;
    let another: BotSecret = serde_json::from_value(bot_secret("another", &[])).expect("a BotSecret");
    until("the grant to count", async || {
        let made = outcome(operator.0.create(&PostParams::default(), &another).await);
        matches!(made, Err((_, message)) if message.contains("botsecret-finalizers"))
    })
    .await;
    admin.0.create(&PostParams::default(), &another).await.expect("not the operator");
    let mut changed = admin.0.get("another").await.expect("the BotSecret");
    changed.spec.service_account_name = "admin".to_owned();
    refused(outcome(operator.0.replace("another", &PostParams::default(), &changed).await), "its spec");
}
