//! No value, token or client secret of Azure's in any log, at any level.

use botsecret_testbed::{FaultKind, clouds::azure::Secret};
use k8s_openapi::api::core::v1 as core;
use kube::api::{Api, PostParams};
use serde_json::json;

use crate::log::Log;
use crate::{
    azure_world::{Azure, TENANT, VAULT, VAULT_HOST},
    world::{Bot, Outcome, from, key},
};

#[tokio::test]
async fn p4_azure_nothing_secret_is_logged_even_at_trace() -> Outcome {
    let bot = Bot::new("azure-logs").await?;
    let azure = Azure::start(&bot).await?;
    azure.may_read(&bot, "client-a", &["a", "pfx"]);
    azure.cloud.grant(VAULT, "client-a", "secrets/list", None);
    azure.cloud.client_secret(TENANT, "client-a", "canary-5e2a");
    azure.cloud.put(VAULT, "a", Secret::of("canary-8d1f"));
    let kind = Some("application/x-pkcs12".into());
    azure.cloud.put(VAULT, "pfx", Secret { content_type: kind, ..Secret::of("Y2FuYXJ5LThkMWY=") });
    let secrets: Api<core::Secret> = Api::namespaced(bot.cluster.client()?, &bot.namespace);
    for (name, secret) in [("right", "canary-5e2a"), ("wrong", "canary-0b9c")] {
        let object = json!({"metadata": {"name": name}, "stringData": {"id": "client-a", "secret": secret}});
        secrets.create(&PostParams::default(), &from(object)).await?;
    }
    let by_secret = |name: &str| {
        let reference = |key: &str| json!({"name": name, "key": key});
        let auth = json!({"secretRef": {"clientId": reference("id"), "clientSecret": reference("secret")}});
        azure.store(&bot, &json!({"auth": auth}))
    };

    let (log, guard) = Log::of_this_thread();
    let store = azure.store_of(&bot, "client-a");
    for read in bot.read_all(&store, &[key("a"), key("cert/pfx")]).await {
        read?;
    }
    let query = botsecret::stores::FindQuery::default();
    bot.fetcher.find(&store, &bot.account, &query, tokio::time::Instant::now()).await?;
    bot.read(&by_secret("right"), "a").await?;
    let mut errors = vec![
        bot.read(&store, "none").await.expect_err("denied"),
        bot.read(&by_secret("wrong"), "a").await.expect_err("refused"),
    ];
    // Broken, and refused with what a manager should never say.
    let broken = r#"{"value":"canary-77d0"#;
    azure.proxy.fault(VAULT_HOST, FaultKind::answer(200, &[], broken), 1);
    errors.push(bot.read(&store, "a").await.expect_err("broken"));
    let loud = r#"{"error":{"code":"canary-77d0","message":"canary-77d0","innererror":{"code":"canary-77d0"}}}"#;
    azure.proxy.fault(VAULT_HOST, FaultKind::answer(403, &[("x-canary", "canary-77d0")], loud), 1);
    errors.push(bot.read(&store, "a").await.expect_err("refused"));
    drop(guard);

    let logged = log.take();
    assert!(logged.contains("https://bots.vault.test/secrets/a"), "the SDK's logs are caught:\n{logged}");
    assert!(logged.contains("azure_identity") || logged.contains("typespec"), "the SDK's logs are caught");
    for secret in ["canary-", "Y2FuYXJ5", "eyJ", "entra-login-", "client_assertion=", "client_secret="] {
        assert!(!logged.contains(secret), "{secret}");
        assert!(!errors.iter().any(|error| format!("{error:?}").contains(secret)), "{secret}: {errors:?}");
    }
    Ok(())
}
