//! Who may log in to Entra ID as whom.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use botsecret::{
    fetch::{ServiceAccount, Token, TokenSource},
    secret::SecretText,
    stores::{Audience, ErrorClass, Scope, StoreError},
};
use botsecret_testbed::{
    clouds::azure::{AUDIENCE, Federated, LOGIN, Secret},
    tokens,
};
use k8s_openapi::api::core::v1 as core;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    azure_world::{Azure, TENANT, VAULT, VAULT_HOST, bytes, with_tokens},
    world::{Bot, Outcome, from, key, refusal},
};

/// Gives out one token, whatever is asked for.
struct Fixed(String);

#[async_trait]
impl TokenSource for Fixed {
    async fn token(&self, _: &ServiceAccount, audience: &Audience) -> Result<Token, StoreError> {
        assert_eq!(audience, &Audience::Of(AUDIENCE.to_owned()), "the manager's audience and no other");
        Ok(Token { text: SecretText::new(self.0.clone()), expires: Instant::now() + Duration::from_secs(600) })
    }
}

fn with_token(bot: &Bot, token: String) -> Result<Bot, Box<dyn std::error::Error>> {
    with_tokens(bot, Arc::new(Fixed(token)))
}

#[tokio::test]
async fn p5_azure_a_bot_reads_what_its_own_client_may_and_nothing_of_anothers() -> Outcome {
    let (a, b) = (Bot::new("azure-a").await?, Bot::new("azure-b").await?);
    let azure = Azure::start(&a).await?;
    azure.may_read(&a, "client-a", &["of-a"]);
    azure.may_read(&b, "client-b", &["of-b"]);
    for name in ["of-a", "of-b"] {
        azure.cloud.put(VAULT, name, Secret::of(name));
    }
    for (bot, client, own, foreign) in [(&a, "client-a", "of-a", "of-b"), (&b, "client-b", "of-b", "of-a")] {
        let store = azure.store_of(bot, client);
        assert_eq!(bytes(&*bot.read(&store, own).await?), own.as_bytes());
        refusal(bot.read(&store, foreign).await, ErrorClass::Denied);
    }
    // b's ServiceAccount cannot log in as a's client.
    let message = refusal(b.read(&azure.store_of(&b, "client-a"), "of-a").await, ErrorClass::LoginDenied);
    let subject = format!("system:serviceaccount:{}:bot", b.namespace);
    assert!(message.contains(&subject) && message.contains("AADSTS700213"), "{message}");
    Ok(())
}

#[tokio::test]
async fn p5_azure_tokens_that_are_expired_forged_or_for_others_are_refused() -> Outcome {
    let bot = Bot::new("azure-token").await?;
    let azure = Azure::start(&bot).await?;
    azure.may_read(&bot, "client-a", &["a"]);
    azure.cloud.put(VAULT, "a", Secret::of("value"));
    let claims =
        |issuer: &str, audience: &str, ends_in| tokens::claims(issuer, &bot.namespace, "bot", audience, ends_in);
    let (issuer, cluster) = (bot.cluster.url(), bot.cluster);
    let good = cluster.sign_token(&claims(issuer, AUDIENCE, 600)).await?;
    let store = azure.store_of(&bot, "client-a");
    assert_eq!(bytes(&*with_token(&bot, good)?.read(&store, "a").await?), b"value", "the claims are right");
    for (token, part) in [
        (cluster.sign_token(&claims(issuer, AUDIENCE, -60)).await?, "AADSTS700024"),
        (cluster.sign_token(&claims(issuer, "elsewhere", 600)).await?, "AADSTS700212"),
        (cluster.sign_token(&claims("https://elsewhere.test", AUDIENCE, 600)).await?, "AADSTS700211"),
        (tokens::foreign_token(cluster, &claims(issuer, AUDIENCE, 600)).await?, "AADSTS700027"),
        ("no token at all".to_owned(), "AADSTS50027"),
    ] {
        let message = refusal(with_token(&bot, token.clone())?.read(&store, "a").await, ErrorClass::LoginDenied);
        assert!(message.contains(part) && !message.contains(&token), "{part}: {message}");
    }
    Ok(())
}

#[tokio::test]
async fn azure_a_login_that_is_refused_says_what_to_correct() -> Outcome {
    let bot = Bot::new("azure-why").await?;
    let azure = Azure::start(&bot).await?;
    azure.may_read(&bot, "client-a", &["a"]);
    azure.cloud.client(TENANT, "client-b");
    let elsewhere = Federated {
        issuer: "https://other.test".into(),
        subject: format!("system:serviceaccount:{}:bot", bot.namespace),
        audience: AUDIENCE.into(),
    };
    azure.cloud.federate(TENANT, "client-b", elsewhere);
    azure.cloud.trust("tenant-b", "client-a", &bot.namespace, "bot");
    let federated = |client: &str| json!({"workloadIdentity": {"clientId": client}});
    for (more, part) in [
        (json!({"auth": federated("nobody")}), "no application nobody"),
        (json!({"auth": federated("client-b")}), "names this cluster's issuer"),
        (json!({"auth": federated("client-a"), "tenantId": "tenant-c"}), "no tenant tenant-c"),
        (json!({"auth": {"workloadIdentity": {"clientId": "client-a", "audience": "other"}}}), "has audience other"),
        // A tenant of somebody's own: its logins open no vault of this one.
        (json!({"auth": federated("client-a"), "tenantId": "tenant-b"}), "another tenant"),
    ] {
        let message = refusal(bot.read(&azure.store(&bot, &more), "a").await, ErrorClass::LoginDenied);
        assert!(message.contains(part), "{more}: {message}");
    }
    Ok(())
}

#[tokio::test]
async fn p5_azure_annotations_choose_only_among_what_the_store_allows() -> Outcome {
    let bot = Bot::new("azure-note").await?;
    let azure = Azure::start(&bot).await?;
    // Entra ID itself would let this bot log in as either, in either tenant.
    for client in ["client-a", "client-b"] {
        azure.may_read(&bot, client, &["a"]);
        azure.cloud.trust("tenant-b", client, &bot.namespace, "bot");
    }
    azure.cloud.put(VAULT, "a", Secret::of("value"));
    let read = async |auth: Value, tenant: Value, annotations: &[(&str, &str)]| {
        let store = azure.store(&bot, &json!({"auth": {"workloadIdentity": auth}, "tenantId": tenant}));
        let annotations =
            annotations.iter().map(|(name, value)| (format!("azure.workload.identity/{name}"), (*value).to_owned()));
        let account = ServiceAccount { annotations: annotations.collect(), ..bot.account.clone() };
        bot.fetcher.read(&store, &account, &[key("a")], Instant::now()).await.remove(0)
    };
    let allowing = |ids: &[&str]| json!({"serviceAccountClientIds": ids});
    let (tenant, client_a, client_b) = (json!(TENANT), ("client-id", "client-a"), ("client-id", "client-b"));
    assert_eq!(bytes(&*read(allowing(&["client-a"]), tenant.clone(), &[client_a]).await?), b"value");
    assert_eq!(bytes(&*read(allowing(&["*"]), tenant.clone(), &[client_b]).await?), b"value");
    assert_eq!(bytes(&*read(allowing(&["*"]), json!(null), &[client_b, ("tenant-id", TENANT)]).await?), b"value");

    let asked = azure.asked(LOGIN);
    let refused = read(allowing(&["client-a"]), tenant.clone(), &[client_b]).await;
    assert!(refusal(refused, ErrorClass::LoginDenied).contains("does not allow"));
    let refused = read(allowing(&["*"]), tenant.clone(), &[client_a, ("tenant-id", "tenant-b")]).await;
    assert!(refusal(refused, ErrorClass::LoginDenied).contains("another tenant"));
    refusal(read(allowing(&["*"]), tenant.clone(), &[]).await, ErrorClass::Identity);
    refusal(read(allowing(&["*"]), json!(null), &[client_a]).await, ErrorClass::Identity);
    assert_eq!(azure.asked(LOGIN), asked, "Entra ID was not even asked");
    Ok(())
}

#[tokio::test]
async fn azure_a_client_secret_logs_in_and_a_wrong_one_says_so() -> Outcome {
    let bot = Bot::new("azure-secret").await?;
    let azure = Azure::start(&bot).await?;
    azure.cloud.client_secret(TENANT, "client-a", "pass&word=+ %");
    azure.cloud.grant(VAULT, "client-a", "secrets/get", None);
    azure.cloud.put(VAULT, "a", Secret::of("value"));
    let secrets: Api<core::Secret> = Api::namespaced(bot.cluster.client()?, &bot.namespace);
    for (name, secret) in [("right", "pass&word=+ %\n"), ("wrong", "canary-77aa")] {
        let object = json!({"metadata": {"name": name}, "stringData": {"id": "client-a", "secret": secret}});
        secrets.create(&PostParams::default(), &from(object)).await?;
    }
    let store = |name: &str| {
        let reference = |key: &str| json!({"name": name, "key": key});
        let auth = json!({"secretRef": {"clientId": reference("id"), "clientSecret": reference("secret")}});
        azure.store(&bot, &json!({"auth": auth}))
    };
    assert_eq!(bytes(&*bot.read(&store("right"), "a").await?), b"value");
    assert_eq!(bot.fetcher.counters().token_requests(), 0, "no ServiceAccount's token is needed");
    let message = refusal(bot.read(&store("wrong"), "a").await, ErrorClass::LoginDenied);
    assert!(message.contains("AADSTS7000215") && !message.contains("canary"), "{message}");
    refusal(bot.read(&store("none"), "a").await, ErrorClass::Invalid);
    Ok(())
}

#[tokio::test]
async fn p5_azure_a_challenge_for_another_resource_gets_no_login() -> Outcome {
    let bot = Bot::new("azure-chall").await?;
    let azure = Azure::start(&bot).await?;
    azure.may_read(&bot, "client-a", &["a"]);
    azure.cloud.put(VAULT, "a", Secret::of("value"));
    let store = azure.store_of(&bot, "client-a");
    // Another domain; the vault's own host; one that the host does end with,
    // but that is not what the store says.
    for resource in ["https://graph.test", "https://bots.vault.test", "https://test", "no URL"] {
        azure.cloud.challenge(VAULT, resource);
        let before = azure.asked(VAULT_HOST);
        let message = refusal(bot.read(&store, "a").await, ErrorClass::Invalid);
        assert!(message.contains("does not name https://vault.test"), "{resource}: {message}");
        assert_eq!(azure.asked(VAULT_HOST) - before, 1, "{resource}: only the question without a login");
    }
    azure.cloud.challenge(VAULT, "https://vault.test");
    assert_eq!(bytes(&*bot.read(&store, "a").await?), b"value");
    Ok(())
}

#[tokio::test]
async fn p5_azure_a_namespaces_store_reaches_neither_another_entra_id_nor_the_machines_identity() -> Outcome {
    let bot = Bot::new("azure-scope").await?;
    let azure = Azure::start(&bot).await?;
    azure.may_read(&bot, "client-a", &["a"]);
    for more in [
        json!({"auth": {"workloadIdentity": {"clientId": "client-a"}}}),
        json!({"auth": {"ambient": {}}, "authority": null}),
    ] {
        let mut store = azure.store(&bot, &more);
        store.scope = Scope::Namespace;
        let message = refusal(bot.read(&store, "a").await, ErrorClass::Invalid);
        assert!(message.contains("ClusterBotSecretStore"), "{message}");
    }
    azure.proxy.route("login.microsoftonline.com", azure.cloud.address());
    let own = |certificates: Value, scope: Scope| {
        let mut store = azure.store(
            &bot,
            &json!({
                "auth": {"workloadIdentity": {"clientId": "client-a"}}, "authority": null,
                "vaultUrl": "https://bots.vault.azure.net", "caBundle": certificates,
            }),
        );
        store.uid = format!("{}-{scope:?}", store.uid);
        store.scope = scope;
        store
    };
    // Nor does it choose whose certificate counts at the vault.
    let certificates = json!(azure.proxy.ca_pem());
    let store = own(certificates.clone(), Scope::Namespace);
    let message = refusal(bot.read(&store, "a").await, ErrorClass::Invalid);
    assert!(message.contains("ClusterBotSecretStore"), "{message}");
    // Certificates for the vault are no way to Entra ID either, and a proxy is
    // allowed but not believed.
    for store in [own(Value::Null, Scope::Namespace), own(certificates, Scope::Cluster)] {
        let message = refusal(bot.read(&store, "a").await, ErrorClass::Unavailable);
        assert!(message.contains("login.microsoftonline.com"), "{message}");
    }
    assert!(azure.proxy.requests().is_empty(), "no token was sent");
    Ok(())
}

/// The SDK takes the machine's token service from the process's environment,
/// which a test cannot change: so this one runs itself as another process.
#[tokio::test]
async fn azure_the_machines_identity_serves_a_store_of_the_cluster() -> Outcome {
    if let Ok(name) = std::env::var("BOTSECRET_TEST_MACHINE_IDENTITY") {
        let inner: Value = serde_json::from_str(&name)?;
        let bot = Bot::new("azure-machine").await?;
        let mut store = azure_store_of(&bot, &inner);
        assert_eq!(bytes(&*bot.read(&store, "a").await?), b"value");
        store = azure_store_of(&bot, &json!({"proxy": inner["proxy"], "ca": inner["ca"], "client": "stranger"}));
        refusal(bot.read(&store, "a").await, ErrorClass::LoginDenied);
        return Ok(());
    }
    let bot = Bot::new("azure-machine").await?;
    let azure = Azure::start(&bot).await?;
    azure.cloud.machine(TENANT, "machine", "the-header");
    azure.cloud.grant(VAULT, "machine", "secrets/get", Some("a"));
    azure.cloud.put(VAULT, "a", Secret::of("value"));
    let inner = json!({"proxy": azure.proxy.url(), "ca": azure.proxy.ca_pem(), "client": "machine"});
    let output = tokio::process::Command::new(std::env::current_exe()?)
        .args(["--exact", "azure_login::azure_the_machines_identity_serves_a_store_of_the_cluster", "--nocapture"])
        .env("BOTSECRET_TEST_MACHINE_IDENTITY", inner.to_string())
        .env("IDENTITY_ENDPOINT", format!("http://{}/msi/token", azure.cloud.address()))
        .env("IDENTITY_HEADER", "the-header")
        .output()
        .await?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(azure.asked(LOGIN), 0);
    assert_eq!(azure.asked(VAULT_HOST), 2, "the other process did read");
    Ok(())
}

fn azure_store_of(bot: &Bot, inner: &Value) -> botsecret::fetch::ResolvedStore {
    let spec = json!({
        "vaultUrl": format!("https://{VAULT_HOST}"), "caBundle": inner["ca"],
        "auth": {"ambient": {"clientId": inner["client"]}},
        "authority": {"url": format!("https://{LOGIN}"), "vaultResource": "https://vault.test"},
    });
    botsecret::fetch::ResolvedStore {
        reference: botsecret::api::StoreRef { name: "store".into(), kind: None },
        uid: format!("machine-{}", inner["client"]),
        generation: 1,
        scope: Scope::Cluster,
        provider: botsecret::api::Provider::Azure(from(spec)),
        proxy: inner["proxy"].as_str().map(str::to_owned),
        limits: botsecret::api::Limits::default(),
        allows_rotation: false,
        credentials: botsecret::fetch::ReferredSecrets { namespace: bot.namespace.clone(), ..Default::default() },
    }
}
