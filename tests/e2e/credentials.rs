//! Stores with credentials of their own, which lie in Secrets.

use botsecret::api::{BotSecret, ClusterBotSecretStore};
use botsecret_testbed::{AuditRecord, BaoClient, wait_for};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    platform::Platform,
    support::{Bench, DEADLINE, Result, Vault, canary, shared_bao},
};

/// A token of this policy.
async fn token(root: &BaoClient, policy: &str) -> Result<String> {
    let made = root.write("auth/token/create", &json!({ "policies": [policy], "ttl": "20m" })).await?;
    let token = made["auth"]["client_token"].as_str().unwrap_or_default().to_owned();
    canary::watch(token.as_bytes());
    Ok(token)
}

async fn put_credential(bench: &Bench, namespace: &str, name: &str, token: &str) -> Result {
    bench
        .apply(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name, "namespace": namespace },
            "stringData": { "token": format!("{token}\n") },
        }))
        .await?;
    Ok(())
}

/// A store that logs in with the token in this Secret.
fn store_with(vault: &Vault<'_>, kind: &str, name: &str, secret: &str) -> Value {
    let mut spec = vault.spec();
    spec["auth"] = json!({ "tokenSecretRef": { "name": secret, "key": "token" } });
    json!({ "apiVersion": "botsecret.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": { "vault": spec } })
}

/// One that is read rarely: what happens sooner was woken.
fn rare(bench: &Bench, name: &str, store: &str, key: &str) -> Value {
    let mut object = bench.bot_secret(name, key);
    object["spec"]["storeRef"] = json!({ "name": store });
    object["spec"]["refreshInterval"] = json!("1h");
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_credential_that_appears_changes_or_goes_wakes_exactly_its_dependants() -> Result {
    let bench = Bench::new("credentials").await?;
    let vault = Vault::new(&bench, shared_bao().await?, &["bot"]).await?;
    vault.put("bot", &json!({ "A": "the first value of the bot" })).await?;
    bench.apply(store_with(&vault, "BotSecretStore", "stored", "login")).await?;
    bench.apply(rare(&bench, "dependant", "stored", "bot")).await?;
    bench.apply(rare(&bench, "bystander", "source", "bot")).await?;
    bench.until_value("bystander", "A", "the first value of the bot").await?;
    let message = bench.until_failing("dependant", "InvalidStore").await?;
    let what_to_do = format!("namespace {} has no Secret login: create it with the key token", bench.namespace);
    assert!(message.contains(&what_to_do), "{message}");

    let first = token(&vault.root, &bench.namespace).await?;
    put_credential(&bench, &bench.namespace, "login", &first).await?;
    bench.until_value("dependant", "A", "the first value of the bot").await?;

    // A rotated token: the old one is dead, and the next read of it would say
    // so only in an hour.
    vault.put("bot", &json!({ "A": "the second value of the bot" })).await?;
    let second = token(&vault.root, &bench.namespace).await?;
    put_credential(&bench, &bench.namespace, "login", &second).await?;
    bench.until_value("dependant", "A", "the second value of the bot").await?;
    assert_eq!(bench.value("bystander", "A").await?.as_deref(), Some("the first value of the bot"), "nobody woke it");

    bench.secrets().delete("login", &DeleteParams::default()).await?;
    bench.until_failing("dependant", "InvalidStore").await?;
    assert_eq!(bench.value("dependant", "A").await?.as_deref(), Some("the second value of the bot"), "P1");
    Ok(())
}

/// The operator's requests about Secrets of this name that are no reads of a
/// watch's kind: verb by verb.
async fn verbs_about(bench: &Bench, secret: &str) -> Result<Vec<String>> {
    let records = bench.cluster.audit().requests_by(bench.operator.user()).await?;
    let about = |record: &&AuditRecord| {
        record.resource == "secrets"
            && record.namespace == bench.namespace
            && (record.name == secret || record.uri.contains(&format!("metadata.name%3D{secret}")))
    };
    Ok(records.iter().filter(about).map(|record| record.verb.clone()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_of_secrets_that_are_not_its_own_only_those_referred_to_are_watched_and_each_is_read_once() -> Result {
    let bench = Bench::new("referred").await?;
    let vault = Vault::new(&bench, shared_bao().await?, &["bot"]).await?;
    vault.put("bot", &json!({ "A": "the value of the referring bot" })).await?;
    let token = token(&vault.root, &bench.namespace).await?;
    for name in ["login", "unrelated"] {
        put_credential(&bench, &bench.namespace, name, &token).await?;
    }
    bench.apply(store_with(&vault, "BotSecretStore", "stored", "login")).await?;
    for name in ["one", "two", "three"] {
        let mut object = rare(&bench, name, "stored", "bot");
        object["spec"]["refreshInterval"] = json!("1s");
        bench.apply(object).await?;
        bench.until_value(name, "A", "the value of the referring bot").await?;
        bench.until_condition(name, "Ready", "True").await?;
    }
    // Until the last one's pass is over, status and all.
    bench.until_more_reads(6).await?;
    let mark = bench.cluster.audit().mark().await?;
    bench.until_more_reads(5).await?;
    let idle = bench.cluster.audit().requests_by_since(bench.operator.user(), &mark).await?;
    assert!(idle.iter().all(|record| record.resource == "leases"), "P2: {idle:?}");

    let verbs = verbs_about(&bench, "login").await?;
    let count = |verb: &str| verbs.iter().filter(|known| *known == verb).count();
    assert_eq!((count("get"), count("list"), count("watch")), (1, 1, 1), "{verbs:?}");
    assert_eq!(verbs.len(), 3, "{verbs:?}");
    assert!(verbs_about(&bench, "unrelated").await?.is_empty());
    Ok(())
}

/// On a cluster of its own: such an operator serves every namespace.
#[tokio::test(flavor = "multi_thread")]
async fn p5_a_clusters_store_has_its_credentials_in_the_operators_own_namespace() -> Result {
    let platform = Platform::start().await?;
    let (own, client) = (platform.own.clone(), platform.client.clone());
    let namespace = platform.cluster.namespace("trading").await?;
    let token = token(&platform.root, "bots").await?;

    let apply = PatchParams::apply("person").force();
    let stores: Api<ClusterBotSecretStore> = Api::all(client.clone());
    let auth = json!({ "tokenSecretRef": { "name": "login", "key": "token" } });
    let store = platform.store(&json!([namespace]), &auth);
    stores.patch("platform", &apply, &Patch::Apply(store)).await?;
    let credential = |token: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "login" }, "stringData": { "token": token },
        })
    };
    // One of the bot's own namespace is not meant.
    let secrets = |namespace: &str| Api::<Secret>::namespaced(client.clone(), namespace);
    secrets(&namespace).patch("login", &apply, &Patch::Apply(credential(&token))).await?;
    let object = Platform::bot_secret();
    let objects: Api<BotSecret> = Api::namespaced(client.clone(), &namespace);
    objects.patch("bot", &apply, &Patch::Apply(object)).await?;
    let until = async |wanted: &str| {
        wait_for(&format!("the BotSecret to say {wanted}"), DEADLINE, async || {
            let status = objects.get("bot").await?.status.unwrap_or_default();
            let said = |condition: &Condition| condition.type_ == "Ready" && condition.message.contains(wanted);
            Ok(status.conditions.iter().any(said).then_some(()))
        })
        .await
    };
    until(&format!("namespace {own} has no Secret login")).await?;
    secrets(&own).patch("login", &apply, &Patch::Apply(credential(&token))).await?;
    wait_for("the Secret to be written", DEADLINE, async || Ok(secrets(&namespace).get_opt("bot").await?)).await?;
    Ok(())
}
