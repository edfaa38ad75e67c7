//! As whom AWS is asked: roles, tokens, hops and keys.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use botsecret::{
    fetch::{CredentialSecret, CredentialSource, Fetcher, ServiceAccount, Token, TokenSource},
    secret::SecretText,
    stores::{Audience, ClusterEndpoint, ErrorClass, HttpClients, Scope, StoreError},
};
use botsecret_testbed::{
    FaultProxy,
    tokens::{ClusterKeys, claims, foreign_token},
};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};
use serde_json::json;
use tokio::time::Instant;

use crate::aws_world::{Desk, bytes, class, may_read};
use crate::world::{Outcome, from, key, refusal};

const MANAGER: &str = "SecretsManager";
const ANNOTATION: &str = "eks.amazonaws.com/role-arn";
const STS: &str = "sts.amazonaws.com";

#[tokio::test]
async fn p5_a_service_account_reads_what_its_role_may_and_is_denied_what_another_namespaces_may() -> Outcome {
    let (one, other) = (Desk::new("one").await?, Desk::new("other").await?);
    for desk in [&one, &other] {
        for name in ["a", "b"] {
            desk.admin.put_secret(&desk.named(name), &desk.named(name)).await?;
            desk.admin.put_parameter(&desk.parameter(name), "SecureString", &desk.named(name)).await?;
        }
    }
    for (desk, foreign) in [(&one, &other), (&other, &one)] {
        let keys = [key(&desk.named("a")), key(&foreign.named("a")), key(&desk.named("b")), key(&foreign.named("b"))];
        let read = desk.bot.read_all(&desk.secrets_manager(), &keys).await;
        assert_eq!((bytes(&read[0]), bytes(&read[2])), (desk.named("a").as_bytes(), desk.named("b").as_bytes()));
        assert_eq!([1, 3].map(|place| class(&read[place])), [Some(ErrorClass::Denied); 2]);
        let alone = desk.bot.read(&desk.secrets_manager(), &foreign.named("a")).await;
        let message = refusal(alone, ErrorClass::Denied);
        assert!(message.contains("secretsmanager:GetSecretValue"), "{message}");

        let keys = [&desk.parameter("a"), &foreign.parameter("a")].map(|name| key(name));
        let read = desk.bot.read_all(&desk.parameter_store(), &keys).await;
        assert_eq!((bytes(&read[0]), class(&read[1])), (desk.named("a").as_bytes(), Some(ErrorClass::Denied)));
    }
    // And the role of the other one is not to be had.
    let stolen = one.store(MANAGER, &json!({"auth": {"jwt": {"role": other.role}}}));
    let message = refusal(one.bot.read(&stolen, &other.named("a")).await, ErrorClass::LoginDenied);
    let subject = format!("system:serviceaccount:{}:bot", one.bot.namespace);
    assert!(message.contains(&other.role) && message.contains(&subject), "{message}");
    Ok(())
}

/// Gives what a test says, whatever is asked for.
pub struct Fixed(pub String);

#[async_trait]
impl TokenSource for Fixed {
    async fn token(&self, _: &ServiceAccount, _: &Audience) -> Result<Token, StoreError> {
        Ok(Token { text: SecretText::new(self.0.clone()), expires: Instant::now() + Duration::from_secs(600) })
    }
}

pub struct NoSecrets;

#[async_trait]
impl CredentialSource for NoSecrets {
    async fn secret(&self, _: &str, _: &str) -> Result<Option<CredentialSecret>, StoreError> {
        Ok(None)
    }
}

#[tokio::test]
async fn p5_expired_forged_and_foreign_tokens_are_refused() -> Outcome {
    let desk = Desk::new("tokens").await?;
    let (name, namespace, cluster) = (desk.named("bot"), &desk.bot.namespace, desk.bot.cluster);
    desk.admin.put_secret(&name, "value").await?;
    let keys = ClusterKeys::fetch(cluster).await?;
    let good = claims(keys.issuer(), namespace, "bot", STS, 600);
    let read = async |token: String| {
        let clients = HttpClients::new(ClusterEndpoint::default());
        let fetcher = Fetcher::new(Arc::new(Fixed(token)), Arc::new(NoSecrets), clients);
        fetcher.read(&desk.secrets_manager(), &desk.bot.account, &[key(&name)], Instant::now()).await.remove(0)
    };
    assert_eq!(bytes(&read(cluster.sign_token(&good).await?).await), b"value", "what is good is taken");
    for (what, token, part) in [
        ("expired", cluster.sign_token(&claims(keys.issuer(), namespace, "bot", STS, -60)).await?, "expired"),
        ("audience", cluster.sign_token(&claims(keys.issuer(), namespace, "bot", "vault", 600)).await?, "audience"),
        ("issuer", cluster.sign_token(&claims("https://evil.example", namespace, "bot", STS, 600)).await?, "issuer"),
        ("forged", foreign_token(cluster, &good).await?, "issuer"),
        ("no token", "x.y.z".to_owned(), "issuer"),
        ("another's", cluster.sign_token(&claims(keys.issuer(), "default", "bot", STS, 600)).await?, "trust"),
        ("other name", cluster.sign_token(&claims(keys.issuer(), namespace, "bots", STS, 600)).await?, "trust"),
    ] {
        let message = refusal(read(token.clone()).await, ErrorClass::LoginDenied);
        assert!(message.contains(part) && !message.contains(&token), "{what}: {message}");
    }
    Ok(())
}

#[tokio::test]
async fn a_token_is_for_sts_alone_and_the_store_may_name_another_audience() -> Outcome {
    let desk = Desk::new("audience").await?;
    desk.admin.put_secret(&desk.named("bot"), "value").await?;
    // The front refuses a token for more than one audience.
    assert_eq!(bytes(&desk.bot.read(&desk.secrets_manager(), &desk.named("bot")).await), b"value");
    let other = desk.store(MANAGER, &json!({"auth": {"jwt": {"role": desk.role, "audience": "elsewhere"}}}));
    let message = refusal(desk.bot.read(&other, &desk.named("bot")).await, ErrorClass::LoginDenied);
    assert!(message.contains("audience elsewhere"), "{message}");
    Ok(())
}

#[tokio::test]
async fn p5_an_annotation_chooses_among_the_roles_that_the_store_allows_and_widens_nothing() -> Outcome {
    let desk = Desk::new("annotation").await?;
    let namespace = desk.bot.namespace.clone();
    desk.admin.put_secret(&desk.named("bot"), "value").await?;
    // It would let the bot in, and may read everything.
    let admin =
        desk.admin.bot_role(&format!("admin-{namespace}"), &[&format!("{namespace}:bot")], &may_read("*")).await?;
    let pattern = format!("arn:aws:iam::123456789012:role/{}*", &namespace[..namespace.len() - 2]);
    let store = desk.store(MANAGER, &json!({"auth": {"jwt": {"serviceAccountRoles": [pattern]}}}));
    let read = async |annotations: &[(&str, &str)]| {
        let annotations = annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let account = ServiceAccount { annotations: annotations.collect(), ..desk.bot.account.clone() };
        desk.bot.fetcher.read(&store, &account, &[key(&desk.named("bot"))], Instant::now()).await.remove(0)
    };
    assert_eq!(bytes(&read(&[(ANNOTATION, &desk.role)]).await), b"value");
    let logins = desk.count("AssumeRoleWithWebIdentity");
    for role in [admin.as_str(), "arn:aws:iam::999999999999:role/x", "*", ""] {
        let message = refusal(read(&[(ANNOTATION, role)]).await, ErrorClass::LoginDenied);
        assert!(message.contains("serviceAccountRoles"), "{message}");
    }
    let message = refusal(read(&[]).await, ErrorClass::Identity);
    assert!(message.contains(ANNOTATION), "{message}");
    // Where the store names the role, the annotation counts for nothing.
    let fixed = desk.store(MANAGER, &json!({}));
    let account = ServiceAccount {
        annotations: BTreeMap::from([(ANNOTATION.to_owned(), admin.clone())]),
        ..desk.bot.account.clone()
    };
    let answer = desk.bot.fetcher.read(&fixed, &account, &[key(&desk.named("bot"))], Instant::now()).await.remove(0);
    assert_eq!(bytes(&answer), b"value");
    let asked: Vec<String> = desk.requests().iter().map(|request| request.input.to_string()).collect();
    assert!(asked.iter().all(|input| !input.contains(&admin)), "no token was sent for a role that is not allowed");
    assert_eq!(desk.count("AssumeRoleWithWebIdentity"), logins + 1);
    Ok(())
}

#[tokio::test]
async fn a_second_hop_brings_its_external_id_and_the_tags_that_say_who_reads() -> Outcome {
    let desk = Desk::new("hop").await?;
    let namespace = &desk.bot.namespace;
    let first = json!([{"Effect": "Allow", "Action": ["sts:AssumeRole", "sts:TagSession"], "Resource": "*"}]);
    desk.admin.allow(namespace, &first).await?;
    let trust = json!({
        "Effect": "Allow",
        "Principal": {"AWS": desk.role},
        "Action": ["sts:AssumeRole", "sts:TagSession"],
        "Condition": {"StringEquals": {
            "sts:ExternalId": "desk-7",
            "aws:RequestTag/botsecret:namespace": namespace,
            "aws:RequestTag/botsecret:serviceAccount": "bot",
            "aws:RequestTag/team": "rates",
        }},
    });
    let second = desk.admin.role(&format!("second-{namespace}"), &trust, &may_read(namespace)).await?;
    desk.admin.put_secret(&desk.named("bot"), "value").await?;
    let hop = |id: &str, tags: serde_json::Value| {
        desk.store(MANAGER, &json!({"role": second, "externalID": id, "sessionTags": tags}))
    };
    let team = json!([{"key": "team", "value": "rates"}]);
    let read = desk.bot.read(&hop("desk-7", team.clone()), &desk.named("bot")).await;
    assert_eq!(bytes(&read), b"value");
    let asked = desk.requests().into_iter().find(|request| request.action == "AssumeRole").expect("a second hop");
    assert_eq!(asked.input["DurationSeconds"], 3600);
    assert_eq!(asked.input["RoleSessionName"], format!("{namespace}.bot"));
    for (id, tags) in [("desk-8", team), ("desk-7", json!([])), ("desk-7", json!([{"key": "team", "value": "fx"}]))] {
        let message = refusal(desk.bot.read(&hop(id, tags), &desk.named("bot")).await, ErrorClass::LoginDenied);
        assert!(message.contains(&second) && message.contains("external id"), "{message}");
    }
    Ok(())
}

#[tokio::test]
async fn static_keys_come_from_a_secret_and_wrong_ones_are_refused() -> Outcome {
    let desk = Desk::new("static").await?;
    let namespace = &desk.bot.namespace;
    desk.admin.put_secret(&desk.named("bot"), "value").await?;
    let (id, secret) = desk.admin.user_key(namespace, &may_read(namespace)).await?;
    let secrets: Api<Secret> = Api::namespaced(desk.bot.cluster.client()?, namespace);
    for (name, secret) in [("good", secret.as_str()), ("bad", "0000000000000000000000000000000000000000")] {
        let data = json!({"metadata": {"name": name}, "stringData": {"id": id, "secret": format!("{secret}\n")}});
        secrets.create(&PostParams::default(), &from(data)).await?;
    }
    let store = |name: &str| {
        let key = |key: &str| json!({"name": name, "key": key});
        let auth = json!({"secretRef": {"accessKeyIDSecretRef": key("id"), "secretAccessKeySecretRef": key("secret")}});
        desk.store(MANAGER, &json!({"auth": auth}))
    };
    assert_eq!(bytes(&desk.bot.read(&store("good"), &desk.named("bot")).await), b"value");
    let message = refusal(desk.bot.read(&store("bad"), &desk.named("bot")).await, ErrorClass::LoginDenied);
    assert!(message.contains("signature"), "{message}");
    assert_eq!(desk.count("AssumeRoleWithWebIdentity"), 0);
    Ok(())
}

#[tokio::test]
async fn p5_what_a_namespaced_store_trusts_is_never_trusted_to_be_sts() -> Outcome {
    let desk = Desk::new("trust").await?;
    desk.admin.put_secret(&desk.named("bot"), "value").await?;
    let proxy = FaultProxy::start().await?;
    for host in ["sts", "secretsmanager"] {
        proxy.route(&format!("{host}.eu-west-1.amazonaws.com"), desk.aws.address());
    }
    let own = json!({"endpoint": null, "stsEndpoint": null, "caBundle": proxy.ca_pem()});
    let mut store = desk.store(MANAGER, &own);
    (store.proxy, store.scope) = (Some(proxy.url()), Scope::Namespace);
    let read = desk.bot.read(&store, &desk.named("bot")).await;
    refusal(read, ErrorClass::Unavailable);
    assert!(proxy.requests().is_empty(), "no token was sent");
    // An administrator may say that this is STS.
    let sts = json!({"url": "https://sts.eu-west-1.amazonaws.com", "caBundle": proxy.ca_pem()});
    let mut store = desk.store(MANAGER, &json!({"endpoint": null, "stsEndpoint": sts, "caBundle": proxy.ca_pem()}));
    store.proxy = Some(proxy.url());
    assert_eq!(bytes(&desk.bot.read(&store, &desk.named("bot")).await), b"value");
    store.scope = Scope::Namespace;
    store.uid.push('n');
    let message = refusal(desk.bot.read(&store, &desk.named("bot")).await, ErrorClass::Invalid);
    assert!(message.contains("ClusterBotSecretStore"), "{message}");
    Ok(())
}
