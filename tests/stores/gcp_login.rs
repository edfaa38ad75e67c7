//! Google Cloud: as whom a bot reads.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use botsecret::{
    fetch::{ServiceAccount, Token, TokenSource},
    secret::SecretText,
    stores::{Audience, ErrorClass, Scope, StoreError},
};
use botsecret_testbed::{
    clouds::gcp::Role,
    tokens::{ClusterKeys, claims, foreign_token},
    wait_for,
};
use k8s_openapi::api::core::v1 as core;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    gcp_world::{PROJECT, World, bytes, principal, provider, secret},
    world::{Outcome, from, key, refusal},
};

const EMAIL: &str = "price-bot@trading-prod.iam.gserviceaccount.com";
const ADMIN: &str = "admin@trading-prod.iam.gserviceaccount.com";

fn account_of(email: &str) -> String {
    format!("serviceAccount:{email}")
}

/// A token as it is, whoever asks.
struct Fixed(String);

#[async_trait]
impl TokenSource for Fixed {
    async fn token(&self, _account: &ServiceAccount, _audience: &Audience) -> Result<Token, StoreError> {
        let expires = Instant::now() + Duration::from_secs(600);
        Ok(Token { text: SecretText::new(self.0.clone()), expires })
    }
}

#[tokio::test]
async fn p5_gcp_each_namespace_reads_its_own_secret_and_is_denied_the_others() -> Outcome {
    let world = World::with("gcp-a", &["of-a"]).await?;
    let (store, a, b) = (world.federated(&json!({})), &world.bot.account, world.another("gcp-b").await?);
    world.gcp.put(&secret("of-b"), b"of-b");
    world.gcp.grant(&principal(&b), Role::Accessor, &secret("of-b"));
    for (account, own, others) in [(a, "of-a", "of-b"), (&b, "of-b", "of-a")] {
        let keys = [key(own), key(others)];
        let mut read = world.bot.fetcher.read(&store, account, &keys, Instant::now()).await.into_iter();
        let own_value = read.next().expect("an answer")?;
        assert_eq!(bytes(&own_value), own.as_bytes());
        let message = refusal(read.next().expect("an answer"), ErrorClass::Denied);
        assert!(message.contains(&account.namespace), "{message}");
    }
    assert_eq!(world.asked("sts"), 2, "a login each");
    Ok(())
}

#[tokio::test]
async fn p5_gcp_expired_foreign_and_forged_tokens_are_refused() -> Outcome {
    let world = World::with("gcp-tokens", &["price"]).await?;
    let (bot, store) = (&world.bot, world.federated(&json!({})));
    let issuer = ClusterKeys::fetch(bot.cluster).await?.issuer().to_owned();
    let audience = format!("https:{}", provider());
    let of = |issuer: &str, audience: &str, ends_in| claims(issuer, &bot.namespace, "bot", audience, ends_in);
    let good = of(&issuer, &audience, 600);
    let several = {
        let mut claims = good.clone();
        claims["aud"] = json!([audience, "https://kubernetes.default.svc"]);
        claims
    };
    let signed = async |claims: &Value| bot.cluster.sign_token(claims).await;
    for (token, part) in [
        (signed(&of(&issuer, &audience, -5)).await?, "has ended"),
        (signed(&of(&issuer, "vault", 600)).await?, "audience"),
        (signed(&several).await?, "audience"),
        (signed(&of("https://elsewhere.example", &audience, 600)).await?, "issuer"),
        (foreign_token(bot.cluster, &good).await?, "signature"),
        ("canary".to_owned(), "invalid_request"),
    ] {
        let fetcher = world.fetcher(Arc::new(Fixed(token)))?;
        let read = fetcher.read(&store, &bot.account, &[key("price")], Instant::now()).await.remove(0);
        let message = refusal(read, ErrorClass::LoginDenied);
        assert!(message.contains(part) && !message.contains("canary"), "{part}: {message}");
    }
    assert_eq!(world.asked("secretmanager"), 0);
    // The same way in lets a good one through.
    let fetcher = world.fetcher(Arc::new(Fixed(signed(&good).await?)))?;
    let read = fetcher.read(&store, &bot.account, &[key("price")], Instant::now()).await.remove(0)?;
    assert_eq!(bytes(&read), b"price");
    Ok(())
}

#[tokio::test]
async fn gcp_a_provider_with_another_audience_or_a_condition_says_what_is_wrong() -> Outcome {
    let world = World::with("gcp-provider", &["price"]).await?;
    let bot = &world.bot;
    let other = provider().replace("/one", "/two");
    world.gcp.provider(&other, &["gcp-bots"]);
    let store = world.federated(&json!({"audience": other}));
    let message = refusal(bot.read(&store, "price").await, ErrorClass::LoginDenied);
    assert!(message.contains("allowed audiences"), "{message}");
    let store = world.federated(&json!({"audience": other, "tokenAudience": "gcp-bots"}));
    assert_eq!(bytes(&*bot.read(&store, "price").await?), b"price");
    let message = refusal(
        bot.read(&world.federated(&json!({"audience": provider().replace("/one", "/none")})), "price").await,
        ErrorClass::LoginDenied,
    );
    assert!(message.contains("pool or provider"), "{message}");
    world.gcp.condition(&provider(), "another-namespace");
    let message = refusal(bot.read(&world.federated(&json!({})), "price").await, ErrorClass::LoginDenied);
    assert!(message.contains("attribute condition"), "{message}");
    Ok(())
}

#[tokio::test]
async fn gcp_a_google_service_account_is_impersonated_where_iam_lets_the_bot() -> Outcome {
    let world = World::new("gcp-impersonate").await?;
    let bot = &world.bot;
    world.gcp.service_account(EMAIL);
    world.gcp.put(&secret("price"), b"price");
    world.gcp.grant(&account_of(EMAIL), Role::Accessor, &secret("price"));
    let store = world.federated(&json!({"gcpServiceAccountEmail": EMAIL}));
    let message = refusal(bot.read(&store, "price").await, ErrorClass::LoginDenied);
    for part in ["roles/iam.workloadIdentityUser", EMAIL, &principal(&bot.account)] {
        assert!(message.contains(part), "{message}");
    }
    world.gcp.allow_impersonation(&principal(&bot.account), EMAIL);
    let mut store = world.federated(&json!({"gcpServiceAccountEmail": EMAIL}));
    store.uid = "after the grant".into();
    assert_eq!(bytes(&*bot.read(&store, "price").await?), b"price");
    let requests = world.gcp.requests();
    let access = requests.iter().rfind(|request| request.service == "secretmanager").expect("a read");
    assert_eq!(access.principal, Some(account_of(EMAIL)));
    Ok(())
}

#[tokio::test]
async fn p5_gcp_an_annotation_cannot_widen_what_the_store_allows() -> Outcome {
    let world = World::with("gcp-annotation", &["price"]).await?;
    for email in [EMAIL, ADMIN] {
        world.gcp.service_account(email);
        // IAM is careless; the store is not.
        world.gcp.allow_impersonation(&principal(&world.bot.account), email);
    }
    world.gcp.put(&secret("crown"), b"jewels");
    world.gcp.grant(&account_of(ADMIN), Role::Accessor, &format!("projects/{PROJECT}"));
    world.gcp.put(&secret("by-email"), b"by-email");
    world.gcp.grant(&account_of(EMAIL), Role::Accessor, &secret("by-email"));
    let asking = |email: &str| ServiceAccount {
        annotations: [("iam.gke.io/gcp-service-account".to_owned(), email.to_owned())].into(),
        ..world.bot.account.clone()
    };
    let read = async |more: Value, email: &str, name: &str| {
        let (store, account) = (world.federated(&more), asking(email));
        world.bot.fetcher.read(&store, &account, &[key(name)], Instant::now()).await.remove(0)
    };
    let listed = json!({"serviceAccountEmails": ["price-*@trading-prod.iam.gserviceaccount.com"]});
    assert_eq!(bytes(&*read(listed.clone(), EMAIL, "by-email").await?), b"by-email");
    let before = world.gcp.requests().len();
    let message = refusal(read(listed, ADMIN, "crown").await, ErrorClass::LoginDenied);
    assert!(message.contains("serviceAccountEmails"), "{message}");
    assert_eq!(world.gcp.requests().len(), before, "nobody was asked");
    refusal(read(json!({}), ADMIN, "crown").await, ErrorClass::Denied);
    let fixed =
        json!({"gcpServiceAccountEmail": EMAIL, "serviceAccountEmails": ["*@trading-prod.iam.gserviceaccount.com"]});
    refusal(read(fixed, ADMIN, "crown").await, ErrorClass::Denied);
    Ok(())
}

#[tokio::test]
async fn gcp_a_gke_clusters_workload_identity_needs_no_pool_of_ones_own() -> Outcome {
    let world = World::new("gcp-gke").await?;
    let bot = &world.bot;
    world.gcp.gke_cluster("clusters-prod", "europe-west1", "bots");
    world.gcp.put(&secret("price"), b"price");
    let member = format!("serviceAccount:clusters-prod.svc.id.goog[{}/bot]", bot.namespace);
    world.gcp.grant(&member, Role::Accessor, &secret("price"));
    let store = |cluster: &str, more: Value| {
        let mut spec =
            json!({"clusterProjectID": "clusters-prod", "clusterLocation": "europe-west1", "clusterName": cluster});
        spec.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        world.store(&json!({"auth": {"workloadIdentity": spec}}))
    };
    assert_eq!(bytes(&*bot.read(&store("bots", json!({})), "price").await?), b"price");
    let message = refusal(bot.read(&store("others", json!({})), "price").await, ErrorClass::LoginDenied);
    assert!(message.contains("identitynamespace:clusters-prod.svc.id.goog"), "{message}");
    world.gcp.service_account(EMAIL);
    world.gcp.allow_impersonation(&member, EMAIL);
    world.gcp.grant(&account_of(EMAIL), Role::Accessor, &format!("projects/{PROJECT}"));
    world.gcp.put(&secret("more"), b"more");
    let store = store("bots", json!({"gcpServiceAccountEmail": EMAIL}));
    assert_eq!(bytes(&*bot.read(&store, "more").await?), b"more");
    Ok(())
}

#[tokio::test]
async fn gcp_a_key_logs_in_at_google_and_nowhere_that_its_file_names() -> Outcome {
    let world = World::new("gcp-key").await?;
    let bot = &world.bot;
    world.gcp.service_account(EMAIL);
    world.gcp.put(&secret("price"), b"price");
    world.gcp.grant(&account_of(EMAIL), Role::Accessor, &secret("price"));
    let mut file = world.gcp.key(EMAIL)?;
    file["token_uri"] = json!("https://evil.example/token");
    let secrets: Api<core::Secret> = Api::namespaced(bot.cluster.client()?, &bot.namespace);
    let object = json!({"metadata": {"name": "gcp-key"}, "stringData": {"key.json": file.to_string()}});
    secrets.create(&PostParams::default(), &from(object)).await?;
    let auth = json!({"auth": {"secretRef": {"secretAccessKeySecretRef": {"name": "gcp-key", "key": "key.json"}}}});
    let store = world.store(&auth);
    let other = world.another("gcp-key-b").await?;
    for account in [&bot.account, &other] {
        let read = bot.fetcher.read(&store, account, &[key("price")], Instant::now()).await.remove(0)?;
        assert_eq!(bytes(&read), b"price");
    }
    assert_eq!((world.asked("oauth2"), world.asked("sts")), (1, 0), "one login serves every account");
    assert!(world.proxy.requests().iter().all(|request| !request.host.contains("evil")));
    let message = refusal(bot.read(&store, "projects/other-team/secrets/a").await, ErrorClass::Invalid);
    assert!(message.contains("its own project only"), "{message}");

    world.gcp.delete_keys(EMAIL);
    let mut another = world.store(&auth);
    another.uid = "after the key's deletion".into();
    let message = refusal(bot.read(&another, "price").await, ErrorClass::LoginDenied);
    assert!(message.contains("deleted or disabled"), "{message}");
    Ok(())
}

#[tokio::test]
async fn gcp_the_machines_own_identity_is_for_an_administrators_store_and_its_project_alone() -> Outcome {
    let world = World::new("gcp-ambient").await?;
    let bot = &world.bot;
    world.gcp.service_account(EMAIL);
    world.gcp.put(&secret("price"), b"price");
    world.gcp.grant(&account_of(EMAIL), Role::Accessor, &secret("price"));
    world.gcp.grant(&account_of(EMAIL), Role::Accessor, "projects/other-team");
    world.gcp.put("projects/other-team/secrets/a", b"theirs");
    let store = world.store(&json!({"auth": {"ambient": true}}));
    let message = refusal(bot.read(&store, "price").await, ErrorClass::LoginDenied);
    assert!(message.contains("metadata server"), "{message}");
    world.gcp.machine(EMAIL);
    let mut store = world.store(&json!({"auth": {"ambient": true}}));
    store.uid = "with a machine".into();
    assert_eq!(bytes(&*bot.read(&store, "price").await?), b"price");
    refusal(bot.read(&store, "projects/other-team/secrets/a").await, ErrorClass::Invalid);
    assert_eq!(bot.fetcher.counters().token_requests(), 0);
    assert!(world.proxy.requests().iter().all(|request| !request.path.contains("computeMetadata")), "not by the proxy");
    Ok(())
}

#[tokio::test]
async fn p5_gcp_a_namespaces_store_sends_no_token_anywhere_but_to_google() -> Outcome {
    let world = World::with("gcp-namespaced", &["price"]).await?;
    let bot = &world.bot;
    let auth = json!({"workloadIdentityFederation": {"audience": provider()}});
    let endpoint = json!({"url": "https://sts.googleapis.com", "caBundle": world.proxy.ca_pem()});
    for spec in [
        json!({"projectID": PROJECT, "auth": auth, "tokenEndpoints": {"sts": endpoint}}),
        json!({"projectID": PROJECT, "auth": {"ambient": true}}),
        json!({"projectID": PROJECT, "auth": auth, "caBundle": world.proxy.ca_pem()}),
        json!({"projectID": PROJECT, "auth": auth, "endpoint": "https://secretmanager.example"}),
    ] {
        let message = refusal(bot.read(&world.resolved(spec, Scope::Namespace), "price").await, ErrorClass::Invalid);
        assert!(message.contains("ClusterBotSecretStore"), "{message}");
    }
    // Certificates for data do not count for STS, and a proxy is allowed but
    // not believed: whoever stands in between is sent nothing.
    for (spec, scope) in [
        (json!({"projectID": PROJECT, "auth": auth}), Scope::Namespace),
        (json!({"projectID": PROJECT, "auth": auth, "caBundle": world.proxy.ca_pem()}), Scope::Cluster),
    ] {
        let message = refusal(bot.read(&world.resolved(spec, scope), "price").await, ErrorClass::Unavailable);
        assert!(message.contains("https://sts.googleapis.com") && message.contains("tokenEndpoints"), "{message}");
    }
    assert!(world.gcp.requests().is_empty() && world.proxy.requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn gcp_a_login_that_ended_is_made_again_once_and_nobody_notices() -> Outcome {
    let ids: Vec<String> = (0..20).map(|number| format!("price-{number}")).collect();
    let world = World::with("gcp-ended", &ids.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let (bot, store) = (&world.bot, world.federated(&json!({})));
    bot.read(&store, "price-0").await?;
    world.gcp.end_tokens();
    let keys: Vec<_> = ids.iter().map(|id| key(id)).collect();
    for (id, read) in ids.iter().zip(bot.read_all(&store, &keys).await) {
        assert_eq!(bytes(&*read?), id.as_bytes());
    }
    assert_eq!(world.asked("sts"), 2);
    Ok(())
}

#[tokio::test]
async fn gcp_a_short_login_is_renewed_ahead_of_its_end() -> Outcome {
    let world = World::with("gcp-renewed", &["price"]).await?;
    let (bot, store) = (&world.bot, world.federated(&json!({})));
    world.gcp.token_life(Duration::from_secs(3));
    wait_for("a third login", Duration::from_secs(20), async || {
        bot.read(&store, "price").await?;
        Ok((world.asked("sts") >= 3).then_some(()))
    })
    .await?;
    let refused = world.gcp.requests().into_iter().filter(|request| request.status == 401).count();
    assert_eq!(refused, 0, "no read was made with a token that had ended");
    Ok(())
}
