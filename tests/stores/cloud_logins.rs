//! Logins to clouds that ask for patience, or whose certificate has ended.

use std::time::Duration;

use botsecret::stores::{ErrorClass, StoreError};
use botsecret_testbed::{Certificate, FaultKind, clouds::azure::LOGIN};
use serde_json::json;

use crate::aws_world::Desk;
use crate::azure_world::{Azure, VAULT, again};
use crate::gcp_world::{World, principal, secret};
use crate::world::{Outcome, refusal};

/// That the login has asked for so much patience, and is named as what did.
fn asked_for_patience(error: &StoreError, seconds: Option<u64>, place: &str, key: &str) {
    assert_eq!(error.class, ErrorClass::Throttled, "{error}");
    assert_eq!(error.retry_after, seconds.map(Duration::from_secs), "{error}");
    assert!(error.message.contains("login") && error.message.contains(place), "{error}");
    assert!(!error.message.contains(key) && !error.message.contains("canary"), "{error}");
}

#[tokio::test]
async fn p6_aws_an_sts_that_asks_for_patience_gets_it_and_is_named() -> Outcome {
    let desk = Desk::new("sts-slow").await?;
    desk.admin.put_secret(&desk.named("wanted"), "value").await?;
    let proxy = botsecret_testbed::FaultProxy::start().await?;
    let sts = desk.aws.address().to_string();
    proxy.route(&sts, desk.aws.address());
    let throttling = "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
                      <Code>Throttling</Code><Message>canary</Message></Error></ErrorResponse>";
    for (fault, seconds) in [
        (FaultKind::answer(429, &[("retry-after", "7")], ""), Some(7)),
        (FaultKind::answer(400, &[("retry-after", "9"), ("content-type", "text/xml")], throttling), Some(9)),
        (FaultKind::answer(400, &[("content-type", "text/xml")], throttling), None),
    ] {
        let bot = again(&desk.bot)?;
        let mut store = desk.secrets_manager();
        store.proxy = Some(proxy.url());
        proxy.fault(&sts, fault, 1);
        let mark = proxy.mark();
        let error = bot.read(&store, &desk.named("wanted")).await.expect_err("a login that fails");
        asked_for_patience(&error, seconds, &format!("STS ({})", desk.aws.url()), "wanted");
        assert_eq!(proxy.since(mark).len(), 1, "asked once");
    }
    Ok(())
}

#[tokio::test]
async fn p6_azure_an_entra_id_that_asks_for_patience_gets_it_and_is_named() -> Outcome {
    let bot = crate::world::Bot::new("entra-slow").await?;
    let loops = r#"{"error":"invalid_grant","error_description":"AADSTS50196: canary","error_codes":[50196]}"#;
    for (fault, seconds) in [
        (FaultKind::answer(429, &[("retry-after", "7")], "canary"), Some(7)),
        (FaultKind::answer(429, &[], "{}"), None),
        (FaultKind::answer(400, &[("retry-after", "60")], loops), Some(60)),
    ] {
        let (azure, bot) = (Azure::start(&bot).await?, again(&bot)?);
        azure.may_read(&bot, "client-a", &["wanted"]);
        azure.cloud.put(VAULT, "wanted", botsecret_testbed::clouds::azure::Secret::of("value"));
        azure.proxy.fault(LOGIN, fault, 1);
        let error = bot.read(&azure.store_of(&bot, "client-a"), "wanted").await.expect_err("a login that fails");
        asked_for_patience(&error, seconds, LOGIN, "wanted");
        assert_eq!(azure.asked(LOGIN), 1, "asked once");
    }
    Ok(())
}

#[tokio::test]
async fn p6_gcp_token_endpoints_that_ask_for_patience_get_it_and_are_named() -> Outcome {
    let (sts, iam) = ("sts.googleapis.com", "iamcredentials.googleapis.com");
    let exhausted = r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"canary",
        "details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"4.5s"}]}}"#;
    let email = "price-bot@trading-prod.iam.gserviceaccount.com";
    for (host, fault, seconds) in [
        (sts, FaultKind::answer(429, &[("retry-after", "7")], "canary"), Some(7)),
        (sts, FaultKind::answer(429, &[], "canary"), None),
        (iam, FaultKind::answer(429, &[("retry-after", "8")], "{}"), Some(8)),
        (iam, FaultKind::answer(429, &[], exhausted), Some(5)),
    ] {
        let world = World::with("gcp-slow", &["wanted"]).await?;
        world.gcp.service_account(email);
        world.gcp.allow_impersonation(&principal(&world.bot.account), email);
        world.gcp.grant(
            &format!("serviceAccount:{email}"),
            botsecret_testbed::clouds::gcp::Role::Accessor,
            &secret("wanted"),
        );
        let store = world.federated(&json!({"gcpServiceAccountEmail": email}));
        world.proxy.fault(host, fault, 1);
        let error = world.bot.read(&store, "wanted").await.expect_err("a login that fails");
        asked_for_patience(&error, seconds, &format!("https://{host}"), "wanted");
        assert_eq!(world.asked("secretmanager"), 0);
    }
    Ok(())
}

#[tokio::test]
async fn a_cloud_whose_certificate_has_ended_says_so_and_where() -> Outcome {
    let world = World::with("gcp-ended", &["a"]).await?;
    world.proxy.show(Certificate::Expired);
    let message = refusal(world.bot.read(&world.federated(&json!({})), "a").await, ErrorClass::Unavailable);
    assert!(message.contains("https://sts.googleapis.com") && message.contains("has expired"), "{message}");

    let azure = Azure::start(&world.bot).await?;
    azure.may_read(&world.bot, "client-a", &["a"]);
    azure.proxy.show(Certificate::Expired);
    let message = refusal(world.bot.read(&azure.store_of(&world.bot, "client-a"), "a").await, ErrorClass::Unavailable);
    assert!(message.contains(LOGIN) && message.contains("has expired"), "{message}");

    let desk = Desk::new("ended").await?;
    let proxy = botsecret_testbed::FaultProxy::start().await?;
    proxy.show(Certificate::Expired);
    let host = "secretsmanager.eu-west-1.amazonaws.com";
    proxy.route(host, desk.aws.address());
    proxy.route(&desk.aws.address().to_string(), desk.aws.address());
    let mut store = desk.store("SecretsManager", &json!({"endpoint": null, "caBundle": proxy.ca_pem()}));
    store.proxy = Some(proxy.url());
    let message = refusal(desk.bot.read(&store, &desk.named("a")).await, ErrorClass::Unavailable);
    assert!(message.contains(host) && message.contains("has expired"), "{message}");
    Ok(())
}
