//! Vault with stored credentials, against a real OpenBao: AppRole, a client
//! certificate, a token.

use std::time::Duration;

use botsecret::{api::Provider, fetch::ResolvedStore, stores::ErrorClass};
use botsecret_testbed::{BaoClient, OpenBao, wait_for};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use crate::world::{Bot, Outcome, from, refusal, shared_bao, text};

const PATIENCE: Duration = Duration::from_secs(60);

/// A mount with a secret, and a policy of the bot's namespace to read it.
async fn with_secret(bot: &Bot, bao: &OpenBao) -> Result<BaoClient, Box<dyn std::error::Error>> {
    let (root, mount) = (bao.root()?, &bot.namespace);
    root.enable_kv(mount, 2).await?;
    root.put_kv2(mount, "bot", &json!({"key": "value"})).await?;
    root.policy(mount, &format!(r#"path "{mount}/data/*" {{ capabilities = ["read"] }}"#)).await?;
    Ok(root)
}

async fn credentials(bot: &Bot, name: &str, data: Value) -> Outcome {
    let secrets: Api<Secret> = Api::namespaced(bot.cluster.client()?, &bot.namespace);
    let secret = json!({ "metadata": {"name": name}, "stringData": data });
    secrets.create(&PostParams::default(), &from(secret)).await?;
    Ok(())
}

fn store(bot: &Bot, bao: &OpenBao, auth: &Value) -> ResolvedStore {
    let spec = json!({
        "address": bao.url(), "caBundle": bao.ca_pem(), "path": bot.namespace, "version": "v2", "auth": auth,
    });
    let near = bot.kubernetes(&json!({ "remoteNamespace": "none" }));
    ResolvedStore { uid: format!("{}-{auth}", near.uid), provider: Provider::Vault(from(spec)), ..near }
}

#[tokio::test]
async fn an_approle_logs_in_once_with_the_id_in_the_store_or_in_a_secret() -> Outcome {
    let (bao, bot) = (shared_bao().await?, Bot::new("approle").await?);
    let (root, name) = (with_secret(&bot, bao).await?, bot.namespace.clone());
    let mount = format!("{name}/approle");
    root.write(&format!("sys/auth/{mount}"), &json!({"type": "approle"})).await?;
    root.write(&format!("auth/{mount}/role/{name}"), &json!({"token_policies": [name], "token_ttl": "20m"})).await?;
    let role_id = root.read(&format!("auth/{mount}/role/{name}/role-id")).await?["data"]["role_id"].clone();
    let made = root.write(&format!("auth/{mount}/role/{name}/secret-id"), &json!({})).await?;
    let secret_id = made["data"]["secret_id"].as_str().expect("a secret id").to_owned();
    credentials(
        &bot,
        "approle",
        json!({"role": role_id, "secret": format!("{secret_id}\n"), "bad": "00000000-0000-0000-0000-000000000000"}),
    )
    .await?;
    let reference = |key: &str| json!({"name": "approle", "key": key});
    let auth = |role: Value, secret: &str, path: &str| {
        let mut auth = json!({ "path": path, "secretRef": reference(secret) });
        let field = if role.is_string() { "roleId" } else { "roleRef" };
        auth[field] = role;
        json!({ "appRole": auth })
    };
    for role in [role_id.clone(), reference("role")] {
        let (store, mark) = (store(&bot, bao, &auth(role, "secret", &mount)), bao.mark()?);
        for _ in 0..3 {
            assert_eq!(text(&*bot.read(&store, "bot").await?), r#"{"key":"value"}"#);
        }
        let requests = bao.requests_since(&mark)?;
        let logins = requests.iter().filter(|request| request.path == format!("auth/{mount}/login")).count();
        assert_eq!(logins, 1);
        let denied = refusal(bot.read(&store, "../other").await, ErrorClass::Invalid);
        assert!(!denied.contains(role_id.as_str().expect("text")), "{denied}");
    }
    // No TokenRequest: the credential is the store's.
    assert_eq!(bot.fetcher.counters().token_requests(), 0);
    let wrong = store(&bot, bao, &auth(role_id.clone(), "bad", &mount));
    let message = refusal(bot.read(&wrong, "bot").await, ErrorClass::LoginDenied);
    assert!(message.contains("secret id") && !message.contains("00000000"), "{message}");
    let unknown = store(&bot, bao, &auth(json!("no-such-role"), "secret", &mount));
    let message = refusal(bot.read(&unknown, "bot").await, ErrorClass::LoginDenied);
    assert!(!message.contains(&secret_id) && !message.contains("no-such-role"), "{message}");
    let elsewhere = store(&bot, bao, &auth(role_id, "secret", "nowhere"));
    let message = refusal(bot.read(&elsewhere, "bot").await, ErrorClass::LoginDenied);
    assert!(message.contains("auth/nowhere"), "{message}");
    let missing = store(&bot, bao, &auth(json!("x"), "absent", &mount));
    let message = refusal(bot.read(&missing, "bot").await, ErrorClass::Invalid);
    assert!(message.contains("Secret approle") && message.contains("key absent"), "{message}");
    Ok(())
}

/// An authority, and a certificate of it with its key.
fn client_certificate(name: &str) -> Result<(String, String, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "clients");
    let authority = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&own, &issuer)?.pem();
    Ok((authority, certificate, own.serialize_pem()))
}

#[tokio::test]
async fn p5_a_client_certificate_logs_in_and_its_connections_are_nobody_elses() -> Outcome {
    let (bao, bot) = (shared_bao().await?, Bot::new("cert").await?);
    let (root, name) = (with_secret(&bot, bao).await?, bot.namespace.clone());
    let mount = format!("{name}/cert");
    root.write(&format!("sys/auth/{mount}"), &json!({"type": "cert"})).await?;
    let (authority, certificate, private_key) = client_certificate("bot")?;
    let (_, stranger, strangers_key) = client_certificate("bot")?;
    let role = json!({ "certificate": authority, "allowed_common_names": "bot", "token_policies": [name] });
    root.write(&format!("auth/{mount}/certs/bots"), &role).await?;
    let data = json!({
        "tls.crt": certificate, "tls.key": private_key, "other.crt": stranger, "other.key": strangers_key,
        "none": "hunter2",
    });
    credentials(&bot, "tls", data).await?;
    let auth = |certificate: &str, key: &str, role: Option<&str>| {
        let reference = |key: &str| json!({"name": "tls", "key": key});
        let mut auth = json!({ "path": mount, "clientCert": reference(certificate), "secretRef": reference(key) });
        if let Some(role) = role {
            auth["role"] = json!(role);
        }
        json!({ "cert": auth })
    };
    for role in [Some("bots"), None] {
        let store = store(&bot, bao, &auth("tls.crt", "tls.key", role));
        assert_eq!(text(&*bot.read(&store, "bot").await?), r#"{"key":"value"}"#);
    }
    // Over the other's connection it would be taken for the other.
    let strange = store(&bot, bao, &auth("other.crt", "other.key", Some("bots")));
    let message = refusal(bot.read(&strange, "bot").await, ErrorClass::LoginDenied);
    assert!(message.contains("certificate role bots"), "{message}");
    // Neither a key of another certificate nor what is no PEM is tried.
    for (certificate, key) in [("tls.crt", "other.key"), ("none", "tls.key"), ("tls.crt", "none")] {
        let wrong = store(&bot, bao, &auth(certificate, key, None));
        let message = refusal(bot.read(&wrong, "bot").await, ErrorClass::Invalid);
        assert!(message.contains("certificate") && !message.contains("hunter2"), "{message}");
    }
    let http = json!({ "address": "http://127.0.0.1:1", "auth": auth("tls.crt", "tls.key", None) });
    let mut plain = store(&bot, bao, &json!({}));
    plain.provider = Provider::Vault(from(http));
    assert!(refusal(bot.read(&plain, "bot").await, ErrorClass::Invalid).contains("https"));
    Ok(())
}

#[tokio::test]
async fn a_stored_token_is_used_as_it_is_and_renewed_while_it_may_be() -> Outcome {
    let (bao, bot) = (shared_bao().await?, Bot::new("token").await?);
    let (root, name) = (with_secret(&bot, bao).await?, bot.namespace.clone());
    let made = async |more: Value| {
        let mut asked = json!({ "policies": [name, "default"], "ttl": "9s" });
        for (key, value) in more.as_object().expect("an object") {
            asked[key] = value.clone();
        }
        let made = root.write("auth/token/create", &asked).await?;
        Ok::<_, anyhow::Error>(made["auth"]["client_token"].as_str().expect("a token").to_owned())
    };
    let (renewed, fixed) = (made(json!({})).await?, made(json!({ "renewable": false })).await?);
    let blind = made(json!({ "policies": [name], "no_default_policy": true, "ttl": "1h" })).await?;
    credentials(&bot, "token", json!({ "renewed": renewed, "fixed": fixed, "blind": blind, "bad": "hunter2" })).await?;
    let store = |key: &str| self::store(&bot, bao, &json!({ "tokenSecretRef": {"name": "token", "key": key} }));
    for key in ["renewed", "fixed"] {
        assert_eq!(text(&*bot.read(&store(key), "bot").await?), r#"{"key":"value"}"#, "{key}");
    }
    // The one that cannot be renewed ends; the other has outlived it by then.
    let message = wait_for("the token to end", PATIENCE, async || {
        bot.read(&store("renewed"), "bot").await?;
        Ok(bot.read(&store("fixed"), "bot").await.err().map(|error| {
            assert_eq!(error.class, ErrorClass::LoginDenied, "{error}");
            error.message
        }))
    })
    .await?;
    assert!(message.contains("put a good one into its Secret"), "{message}");
    let lookup = root.write("auth/token/lookup", &json!({ "token": renewed })).await?;
    assert!(lookup["data"]["last_renewal_time"].as_i64().is_some(), "{lookup}");
    assert_eq!(text(&*bot.read(&store("renewed"), "bot").await?), r#"{"key":"value"}"#);
    for key in ["bad", "blind"] {
        let message = refusal(bot.read(&store(key), "bot").await, ErrorClass::LoginDenied);
        assert!(message.contains("lookup-self") && !message.contains("hunter2"), "{message}");
    }
    assert_eq!(bot.fetcher.counters().token_requests(), 0);
    Ok(())
}
