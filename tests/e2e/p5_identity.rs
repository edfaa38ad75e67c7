//! P5: whose identity reads, and which stores are offered to whom.

use botsecret_testbed::{Role, wait_for};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    platform::Platform,
    support::{Bench, DEADLINE, Operator, OperatorOptions, Result, Vault, shared_bao},
};

#[tokio::test(flavor = "multi_thread")]
async fn p5_no_store_gets_a_token_that_the_kubernetes_api_accepts() -> Result {
    let bench = Bench::new("p5-audience").await?;
    let vault = Vault::new(&bench, shared_bao().await?, &["bot"]).await?;
    vault.put("own", &json!({ "A": "a value that is read with another audience" })).await?;
    // An operator whose own token, as in a cluster, says what the API's
    // audiences are.
    let mut bench = bench;
    bench.operator.terminate().await?;
    let api_audience = bench.cluster.audience().to_owned();
    bench.apply(json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "operator" } })).await?;
    let token = bench.cluster.service_account_token(&bench.namespace, "operator", &[&api_audience], 3600).await?;
    let token_file = bench.folder().join("token");
    std::fs::write(&token_file, token)?;
    let kubeconfig = bench.folder().join("with-a-token.yaml");
    let authority = bench.folder().join("ca.crt");
    std::fs::write(&authority, bench.cluster.ca_pem())?;
    std::fs::write(&kubeconfig, json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{ "name": "it", "cluster": { "server": bench.cluster.url(), "certificate-authority": authority } }],
        "users": [{ "name": "it", "user": { "tokenFile": token_file } }],
        "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "it" } }],
    }).to_string())?;
    let options = OperatorOptions {
        user: format!("system:serviceaccount:{}:operator", bench.namespace),
        namespaces: vec![bench.namespace.clone()],
        own_namespace: bench.namespace.clone(),
        kubeconfig: Some(kubeconfig),
        folder: bench.folder().to_owned(),
    };
    bench.operator = Operator::start(bench.cluster, &options).await?;
    bench.apply(bench.bot_secret("fine", "own")).await?;
    bench.until_condition("fine", "Ready", "True").await?;
    let asked = bench.cluster.audit().mark().await?;
    for (number, audience) in
        [api_audience.as_str(), "https://kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
            .iter()
            .enumerate()
    {
        let name = format!("api-{number}");
        let mut store = vault.store(&name);
        store["spec"]["vault"]["auth"]["kubernetes"]["audience"] = json!(audience);
        bench.apply(store).await?;
        bench
            .apply({
                let mut object = bench.bot_secret(&name, "own");
                object["spec"]["storeRef"] = json!({ "name": name });
                object
            })
            .await?;
        let message = bench.until_failing(&name, "InvalidStore").await?;
        assert!(message.contains("no manager may receive"), "{message}");
    }
    let requests = bench.cluster.audit().requests_by_since(bench.operator.user(), &asked).await?;
    assert!(requests.iter().all(|request| request.subresource != "token"), "no token was asked for");
    Ok(())
}

/// On a cluster of its own: such an operator serves every namespace.
#[tokio::test(flavor = "multi_thread")]
async fn p5_a_cluster_store_serves_the_namespaces_that_it_is_offered_to_and_no_other() -> Result {
    let platform = Platform::start().await?;
    let cluster = &platform.cluster;
    let (offered, denied, source) =
        (cluster.namespace("offered").await?, cluster.namespace("denied").await?, cluster.namespace("source").await?);
    let client = platform.client.clone();
    let role = Role {
        name: "bots",
        namespaces: &["*"],
        service_accounts: &["default"],
        policies: &["bots"],
        audience: "vault",
        ttl: "20m",
    };
    platform.root.kubernetes_role(&role).await?;
    let stores: Api<botsecret::api::ClusterBotSecretStore> = Api::all(client.clone());
    let store = |namespaces: Value| platform.store(&namespaces, &json!({ "kubernetes": { "role": "bots" } }));
    let apply = PatchParams::apply("person").force();
    stores.patch("platform", &apply, &Patch::Apply(store(json!([offered])))).await?;
    let object = Platform::bot_secret();
    let ready = async |namespace: &str| -> Result<Option<(String, String)>> {
        let api: Api<botsecret::api::BotSecret> = Api::namespaced(client.clone(), namespace);
        let status = api.get("bot").await?.status.unwrap_or_default();
        let ready = status.conditions.into_iter().find(|condition| condition.type_ == "Ready");
        Ok(ready.map(|ready| (format!("{}={}", ready.status, ready.reason), ready.message)))
    };
    let until = async |namespace: &str, wanted: &str| -> Result<String> {
        wait_for(&format!("{namespace} to be {wanted}"), DEADLINE, async || {
            Ok(ready(namespace).await?.filter(|(found, _)| found == wanted).map(|(_, message)| message))
        })
        .await
    };
    for namespace in [&offered, &denied] {
        let api: Api<botsecret::api::BotSecret> = Api::namespaced(client.clone(), namespace);
        api.patch("bot", &apply, &Patch::Apply(&object)).await?;
    }
    until(&offered, "True=Synced").await?;
    let message = until(&denied, "False=StoreNotAllowed").await?;
    assert!(
        message.contains("platform") && message.contains(&denied) && message.contains("spec.namespaces"),
        "{message}"
    );
    // A label, an annotation or a store of the same name changes nothing.
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &denied);
    assert!(secrets.get_opt("bot").await?.is_none());
    // What is offered later is there at once, what is withdrawn ends at once.
    stores.patch("platform", &apply, &Patch::Apply(store(json!([denied])))).await?;
    until(&denied, "True=Synced").await?;
    until(&offered, "False=StoreNotAllowed").await?;
    let kept: Api<Secret> = Api::namespaced(client.clone(), &offered);
    assert!(kept.get_opt("bot").await?.is_some(), "P1: what was good stays");

    // The kubernetes manager in a cluster store: still the bot's own rights.
    let sources: Api<Secret> = Api::namespaced(client.clone(), &source);
    let mut treasure = Secret { data: Some([("A".to_owned(), ByteString(b"x".to_vec()))].into()), ..Secret::default() };
    treasure.metadata.name = Some("bot".into());
    sources.create(&PostParams::default(), &treasure).await?;
    let spec = json!({
        "apiVersion": "botsecret.dev/v1alpha1", "kind": "ClusterBotSecretStore", "metadata": { "name": "platform" },
        "spec": { "namespaces": ["*"], "kubernetes": { "remoteNamespace": source } },
    });
    stores.patch("platform", &apply, &Patch::Apply(spec)).await?;
    until(&denied, "False=AccessDenied").await?;
    Ok(())
}
