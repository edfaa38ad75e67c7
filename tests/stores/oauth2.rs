//! Access tokens: of a real oidc-provider by client secret and by exchange, and
//! of an issuer that takes the cluster's tokens as federated assertions.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use botsecret::{
    api::Provider,
    fetch::{Fetcher, KubeCredentials, ResolvedStore, ServiceAccount, Token, TokenSource},
    secret::SecretText,
    stores::{Audience, ClusterEndpoint, ErrorClass, HttpClients, Payload, RemoteSecret, StoreError},
};
use botsecret_testbed::{
    FederatedClient, FederatedIssuer, OidcProvider,
    tokens::{ClusterKeys, TokenProblem, claims, foreign_token},
    wait_for,
};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::world::{Bot, OPERATOR, Outcome, from, key, refusal};

const PATIENCE: Duration = Duration::from_secs(60);

fn store(bot: &Bot, spec: Value) -> ResolvedStore {
    let near = bot.kubernetes(&json!({ "remoteNamespace": "none" }));
    ResolvedStore { uid: format!("{}-{spec}", near.uid), provider: Provider::OAuth2(from(spec)), ..near }
}

fn field(secret: &RemoteSecret, name: &str) -> Option<String> {
    let Payload::Fields(fields) = &secret.payload else { panic!("no fields") };
    fields.get(name).map(|bytes| String::from_utf8_lossy(bytes.expose()).into_owned())
}

fn token(secret: &RemoteSecret) -> String {
    field(secret, "access_token").expect("a token")
}

fn subject(bot: &Bot) -> String {
    format!("system:serviceaccount:{}:bot", bot.namespace)
}

/// What no API server would issue.
struct Fixed(String);

#[async_trait]
impl TokenSource for Fixed {
    async fn token(&self, _account: &ServiceAccount, _audience: &Audience) -> Result<Token, StoreError> {
        let expires = Instant::now() + Duration::from_secs(600);
        Ok(Token { text: SecretText::new(self.0.clone()), expires })
    }
}

/// Reads with this token in place of one that the cluster would issue.
async fn read_with(bot: &Bot, store: &ResolvedStore, jwt: &str) -> Result<Arc<RemoteSecret>, StoreError> {
    let config = bot.cluster.config(OPERATOR, &["system:masters"]).expect("known");
    let clients = HttpClients::new(ClusterEndpoint::from_config(&config));
    let credentials = KubeCredentials::new(kube::Client::try_from(config).expect("a client"));
    let fetcher = Fetcher::new(Arc::new(Fixed(jwt.to_owned())), Arc::new(credentials), clients);
    fetcher.read(store, &bot.account, &[key("read")], Instant::now()).await.remove(0)
}

/// Tokens that an issuer with this audience must refuse, and why.
async fn bad_tokens(bot: &Bot, audience: &str) -> Result<Vec<(String, TokenProblem)>, Box<dyn std::error::Error>> {
    let keys = ClusterKeys::fetch(bot.cluster).await?;
    let of = |issuer: &str, audience: &str, ends_in| claims(issuer, &bot.namespace, "bot", audience, ends_in);
    let sign = |claims: Value| async move { bot.cluster.sign_token(&claims).await };
    Ok(vec![
        (sign(of(keys.issuer(), audience, -1)).await?, TokenProblem::Expired),
        (sign(of(keys.issuer(), "elsewhere", 600)).await?, TokenProblem::Audience),
        (sign(of("https://elsewhere.test", audience, 600)).await?, TokenProblem::Issuer),
        (foreign_token(bot.cluster, &of(keys.issuer(), audience, 600)).await?, TokenProblem::Signature),
    ])
}

#[tokio::test]
async fn a_client_secret_gives_a_token_that_the_issuer_knows() -> Outcome {
    let bot = Bot::new("oauth2-secret").await?;
    let issuer = OidcProvider::start(bot.cluster, 900).await?;
    let secrets: Api<Secret> = Api::namespaced(bot.cluster.client()?, &bot.namespace);
    let secret = json!({
        "metadata": {"name": "client"},
        "stringData": {"good": format!("{}\n", OidcProvider::CLIENT_SECRET), "bad": "guessed"},
    });
    secrets.create(&PostParams::default(), &from(secret)).await?;
    let spec = |client: &str, key: &str, in_body: bool| {
        let auth = json!({ "clientID": client, "secretRef": {"name": "client", "key": key}, "inBody": in_body });
        json!({ "tokenURL": issuer.token_url(), "scopes": ["read", "write"], "auth": { "clientSecret": auth } })
    };
    for (client, in_body) in [("bot", false), ("bot-post", true)] {
        let secret = bot.read(&store(&bot, spec(client, "good", in_body)), "default").await?;
        let said = issuer.introspect(&token(&secret)).await?;
        assert_eq!(
            (&said["active"], &said["client_id"], &said["scope"]),
            (&json!(true), &json!(client), &json!("read write"))
        );
        assert_eq!(field(&secret, "token_type").as_deref(), Some("Bearer"));
        // The end that it says is the issuer's own.
        let ends: jiff::Timestamp = field(&secret, "expires_at").expect("an end").parse()?;
        assert!((ends.as_second() - said["exp"].as_i64().expect("an end")).abs() <= 1);
    }
    let narrow = bot.read(&store(&bot, spec("bot", "good", false)), "read").await?;
    assert_eq!(issuer.introspect(&token(&narrow)).await?["scope"], "read");
    let denied = bot.read(&store(&bot, spec("bot", "bad", false)), "default").await;
    let message = refusal(denied, ErrorClass::LoginDenied);
    assert!(message.starts_with("invalid_client:") && message.contains("client bot"), "{message}");
    Ok(())
}

#[tokio::test]
async fn p2_a_token_is_kept_while_it_lives_and_had_anew_before_it_ends() -> Outcome {
    let bot = Bot::new("oauth2-renew").await?;
    let issuer = OidcProvider::start(bot.cluster, 12).await?;
    issuer.grant(&BTreeMap::from([(subject(&bot), vec!["read"])]))?;
    let exchange = json!({ "clientID": "bots", "audience": OidcProvider::AUDIENCE });
    let store = store(&bot, json!({ "tokenURL": issuer.token_url(), "auth": { "tokenExchange": exchange } }));
    let first = bot.read(&store, "read").await?;
    let renew = first.renew.expect("it ends");
    for _ in 0..20 {
        let again = bot.read(&store, "read").await?;
        assert_eq!((token(&again), again.renew), (token(&first), first.renew));
    }
    assert_eq!(issuer.requests()?.len(), 1);
    let second = wait_for("another token", PATIENCE, async || {
        let read = bot.read(&store, "read").await?;
        Ok((token(&read) != token(&first)).then_some(read))
    })
    .await?;
    assert!(Instant::now() >= renew && second.renew > first.renew);
    // Whoever holds the first is not cut off.
    assert_eq!(issuer.introspect(&token(&first)).await?["active"], true);
    assert_eq!(issuer.requests()?.len(), 2);
    let counters = bot.fetcher.counters();
    assert_eq!((counters.token_requests(), counters.logins(), counters.reads()), (1, 0, 2), "no others are sent");
    Ok(())
}

#[tokio::test]
async fn p5_an_exchange_gives_each_account_its_own_and_no_other_scopes() -> Outcome {
    let (bot, other) = (Bot::new("oauth2-a").await?, Bot::new("oauth2-b").await?);
    let issuer = OidcProvider::start(bot.cluster, 900).await?;
    issuer.grant(&BTreeMap::from([(subject(&bot), vec!["read"])]))?;
    let exchange = json!({ "clientID": "bots", "audience": OidcProvider::AUDIENCE });
    let spec = json!({
        "tokenURL": issuer.token_url(), "scopes": ["read"], "auth": { "tokenExchange": exchange },
        "parameters": { "resource": "https://price.test/api" },
    });
    let store = |bot: &Bot| self::store(bot, spec.clone());
    let secret = bot.read(&store(&bot), "default").await?;
    let said = issuer.introspect(&token(&secret)).await?;
    assert_eq!((&said["active"], &said["scope"]), (&json!(true), &json!("read")));
    assert_eq!(field(&secret, "issued_token_type").as_deref(), Some("urn:ietf:params:oauth:token-type:access_token"));
    let message = refusal(bot.read(&store(&bot), "write").await, ErrorClass::Denied);
    assert!(message.starts_with("invalid_scope:") && message.contains("scope write"), "{message}");
    let message = refusal(other.read(&store(&other), "default").await, ErrorClass::LoginDenied);
    assert!(message.starts_with("invalid_request:") && message.contains(OidcProvider::AUDIENCE), "{message}");
    for (jwt, problem) in bad_tokens(&bot, OidcProvider::AUDIENCE).await? {
        let before = issuer.requests()?.len();
        refusal(read_with(&bot, &store(&bot), &jwt).await, ErrorClass::LoginDenied);
        let requests = issuer.requests()?;
        assert_eq!(requests[before..].len(), 1, "{problem:?}");
        assert_eq!(requests[before].error.as_deref(), Some("invalid_request"), "{problem:?}");
    }
    Ok(())
}

#[tokio::test]
async fn p5_a_federated_assertion_is_the_accounts_own_token_for_this_issuer_alone() -> Outcome {
    let (bot, other) = (Bot::new("oauth2-fa").await?, Bot::new("oauth2-fb").await?);
    let keys = ClusterKeys::fetch(bot.cluster).await?;
    let issuer = FederatedIssuer::start(keys, Duration::from_secs(900)).await?;
    for one in [&bot, &other] {
        let id = one.namespace.clone();
        issuer.grant(FederatedClient { id, subject: subject(one), scopes: vec!["read".into()] });
    }
    let store = |bot: &Bot, client: &str| {
        let assertion = json!({ "clientID": client, "audience": FederatedIssuer::AUDIENCE });
        self::store(bot, json!({ "tokenURL": issuer.token_url(), "auth": { "federatedAssertion": assertion } }))
    };
    for one in [&bot, &other] {
        let secret = one.read(&store(one, &one.namespace), "read").await?;
        assert_eq!(issuer.client_of(&token(&secret)), Some(one.namespace.clone()));
    }
    // The other's client with one's own token.
    let message = refusal(bot.read(&store(&bot, &other.namespace), "read").await, ErrorClass::LoginDenied);
    assert!(message.contains(&other.namespace) && message.contains(FederatedIssuer::AUDIENCE), "{message}");
    refusal(bot.read(&store(&bot, &bot.namespace), "read admin").await, ErrorClass::Denied);
    assert!(issuer.problems().is_empty());
    let bad = bad_tokens(&bot, FederatedIssuer::AUDIENCE).await?;
    for (jwt, _) in &bad {
        refusal(read_with(&bot, &store(&bot, &bot.namespace), jwt).await, ErrorClass::LoginDenied);
    }
    assert_eq!(issuer.problems(), bad.iter().map(|(_, problem)| *problem).collect::<Vec<_>>());
    Ok(())
}
