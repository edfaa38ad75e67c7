//! Vault's protocol: engines, mounts, versions, logins.

use botsecret::stores::ErrorClass;
use serde_json::json;

use crate::world::{Bot, Outcome, key, refusal, shared_bao, text};

fn may_read(mount: &str) -> String {
    format!(r#"path "{mount}/*" {{ capabilities = ["read"] }}"#)
}

#[tokio::test]
async fn a_secret_of_engine_2_arrives_whole_with_its_version_and_numbers_as_vault_writes_them() -> Outcome {
    let (bao, bot) = (shared_bao().await?, Bot::new("kv2").await?);
    let mount = &bot.namespace;
    let root = bot.with_role(bao, &may_read(mount)).await?;
    root.enable_kv(mount, 2).await?;
    root.put_kv2(mount, "price/bot", &json!({"old": true})).await?;
    let content =
        r#"{"data":{"rate":1.10,"exponent":1e2,"big":12345678901234567890,"nested":{"key":"v\u0061l"},"none":null}}"#;
    root.write(&format!("{mount}/data/price/bot"), &serde_json::from_str(content)?).await?;

    let store = bot.vault(bao, &json!({}));
    let newest = bot.read(&store, &format!("{mount}/price/bot")).await?;
    assert_eq!(newest.version, Some(2));
    let (_, raw) = root.request("GET", &format!("{mount}/data/price/bot"), None).await?;
    assert_eq!(serde_json::from_str::<serde_json::Value>(text(&newest))?, raw["data"]["data"]);
    assert!(text(&newest).contains(r#""rate":1.1"#), "{}", text(&newest));

    let pinned = bot.read_version(&store, &format!("{mount}/price/bot"), "1").await?;
    assert_eq!((text(&pinned), pinned.version), (r#"{"old":true}"#, Some(1)));
    Ok(())
}

#[tokio::test]
async fn a_secret_of_engine_1_arrives_whole_and_has_no_version_to_pin() -> Outcome {
    let (bao, bot) = (shared_bao().await?, Bot::new("kv1").await?);
    let mount = &bot.namespace;
    let root = bot.with_role(bao, &may_read(mount)).await?;
    root.enable_kv(mount, 1).await?;
    root.write(&format!("{mount}/bot"), &json!({"key": "value", "big": 12_345_678_901_234_567_890_u64})).await?;
    for more in [json!({}), json!({"path": mount}), json!({"path": mount, "version": "v1"})] {
        let mut store = bot.vault(bao, &more);
        store.uid = format!("{more}");
        let name = if more.get("path").is_some() { "bot".to_owned() } else { format!("{mount}/bot") };
        let secret = bot.read(&store, &name).await?;
        assert!(text(&secret).contains(r#""key":"value""#), "{more}");
        assert_eq!(secret.version, None);
        refusal(bot.read_version(&store, &name, "1").await, ErrorClass::Invalid);
    }
    Ok(())
}

#[tokio::test]
async fn a_mount_is_looked_up_once_whoever_asks_and_may_have_slashes_in_it() -> Outcome {
    let (bao, bot) = (shared_bao().await?, Bot::new("mounts").await?);
    let mount = format!("{}/team/kv", bot.namespace);
    let root = bot.with_role(bao, &may_read(&mount)).await?;
    root.enable_kv(&mount, 2).await?;
    let mut keys = Vec::new();
    for number in 0..40 {
        root.put_kv2(&mount, &format!("bots/{number}"), &json!({"number": number})).await?;
        keys.push(key(&format!("{mount}/bots/{number}")));
    }
    let (store, mark) = (bot.vault(bao, &json!({})), bao.mark()?);
    for round in 0..2 {
        let secrets = bot.read_all(&store, &keys).await;
        for (number, secret) in secrets.into_iter().enumerate() {
            assert_eq!(text(&*secret?), format!(r#"{{"number":{number}}}"#), "round {round}");
        }
    }
    let requests = bao.requests_since(&mark)?;
    let count = |part: &str| {
        requests.iter().filter(|request| request.path.contains(part) && request.path.contains(&bot.namespace)).count()
    };
    assert_eq!((count("sys/internal/ui/mounts"), count("/data/bots/")), (1, 80));
    assert_eq!((bot.fetcher.counters().token_requests(), bot.fetcher.counters().logins()), (1, 1));
    Ok(())
}

#[tokio::test]
async fn a_mount_may_be_named_by_the_store_but_only_as_it_is_mounted() -> Outcome {
    let (bao, bot) = (shared_bao().await?, Bot::new("path").await?);
    let mount = &bot.namespace;
    let root = bot.with_role(bao, &may_read(mount)).await?;
    root.enable_kv(mount, 2).await?;
    root.put_kv2(mount, "a/b", &json!({"key": "value"})).await?;
    let secret = bot.read(&bot.vault(bao, &json!({"path": format!("{mount}/")})), "a/b").await?;
    assert_eq!(text(&secret), r#"{"key":"value"}"#);
    let mut inside = bot.vault(bao, &json!({"path": format!("{mount}/a")}));
    inside.uid = "inside".into();
    let message = refusal(bot.read(&inside, "b").await, ErrorClass::Invalid);
    assert!(message.contains(&format!("write path: {mount}")), "{message}");
    let mut wrong = bot.vault(bao, &json!({"path": mount, "version": "v1"}));
    wrong.uid = "wrong".into();
    let message = refusal(bot.read(&wrong, "a/b").await, ErrorClass::Invalid);
    assert!(message.contains("version: v2"), "{message}");
    let mut whole = bot.vault(bao, &json!({}));
    whole.uid = "whole".into();
    refusal(bot.read(&whole, mount).await, ErrorClass::Invalid);
    Ok(())
}

#[tokio::test]
async fn what_is_missing_deleted_destroyed_or_pinned_to_nothing_is_told_apart() -> Outcome {
    let (bao, bot) = (shared_bao().await?, Bot::new("missing").await?);
    let mount = &bot.namespace;
    let root = bot.with_role(bao, &may_read(mount)).await?;
    root.enable_kv(mount, 2).await?;
    for name in ["deleted", "destroyed"] {
        root.put_kv2(mount, name, &json!({"key": "1"})).await?;
        root.put_kv2(mount, name, &json!({"key": "2"})).await?;
    }
    root.delete(&format!("{mount}/data/deleted")).await?;
    root.write(&format!("{mount}/destroy/destroyed"), &json!({"versions": [2]})).await?;
    let store = bot.vault(bao, &json!({"path": mount}));
    for (name, version, part) in [
        ("nothing", None, "there is nothing at this path"),
        ("deleted", None, "version 2 is deleted"),
        ("destroyed", None, "version 2 is destroyed"),
        ("deleted", Some("9"), "version 9 is not there"),
    ] {
        let result = match version {
            Some(version) => bot.read_version(&store, name, version).await,
            None => bot.read(&store, name).await,
        };
        let message = refusal(result, ErrorClass::Missing);
        assert!(message.contains(part), "{name}: {message}");
    }
    assert_eq!(text(&*bot.read_version(&store, "deleted", "1").await?), r#"{"key":"1"}"#);
    Ok(())
}

#[tokio::test]
async fn a_jwt_login_reads_as_a_kubernetes_login_does() -> Outcome {
    let (bao, bot) = (shared_bao().await?, Bot::new("jwt").await?);
    let mount = &bot.namespace;
    let root = bot.with_role(bao, &may_read(mount)).await?;
    root.enable_kv(mount, 2).await?;
    root.put_kv2(mount, "bot", &json!({"key": "value"})).await?;
    let store = bot.vault(bao, &json!({"path": mount, "auth": {"jwt": {"role": mount}}}));
    assert_eq!(text(&*bot.read(&store, "bot").await?), r#"{"key":"value"}"#);
    Ok(())
}

#[tokio::test]
async fn a_vault_namespace_is_sent_with_the_login_and_the_reads() -> Outcome {
    let (bao, bot) = (shared_bao().await?, Bot::new("desk").await?);
    let (root, desk) = (bao.root()?, &bot.namespace);
    root.write(&format!("sys/namespaces/{desk}"), &json!({})).await?;
    // A path may begin with the namespace instead of a header naming it.
    let inside = |path: &str| format!("{desk}/{path}");
    root.write(&inside("sys/auth/jwt"), &json!({"type": "jwt"})).await?;
    let config = json!({
        "jwks_url": format!("{}/openid/v1/jwks", bot.cluster.url()),
        "jwks_ca_pem": bot.cluster.ca_pem(),
        "bound_issuer": bot.cluster.url(),
    });
    root.write(&inside("auth/jwt/config"), &config).await?;
    let role = json!({
        "role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault"], "token_policies": ["bots"],
        "bound_subject": format!("system:serviceaccount:{}:bot", bot.namespace),
    });
    root.write(&inside("auth/jwt/role/bots"), &role).await?;
    root.write(&inside("sys/policies/acl/bots"), &json!({"policy": may_read("kv")})).await?;
    root.write(&inside("sys/mounts/kv"), &json!({"type": "kv", "options": {"version": "1"}})).await?;
    root.write(&inside("kv/bot"), &json!({"key": "of the desk"})).await?;

    let store = bot.vault(bao, &json!({"namespace": desk, "auth": {"jwt": {"role": "bots"}}}));
    assert_eq!(text(&*bot.read(&store, "kv/bot").await?), r#"{"key":"of the desk"}"#);
    let mut without = bot.vault(bao, &json!({"auth": {"jwt": {"role": "bots"}}}));
    without.uid = "without".into();
    refusal(bot.read(&without, "kv/bot").await, ErrorClass::LoginDenied);
    Ok(())
}

#[tokio::test]
async fn a_login_that_is_refused_says_which_role_and_audience_to_check() -> Outcome {
    let (bao, bot) = (shared_bao().await?, Bot::new("login").await?);
    bot.with_role(bao, &may_read("kv")).await?;
    let role = &bot.namespace;
    let kubernetes = |role: &str, audience: &str| json!({"auth": {"kubernetes": {"role": role, "audience": audience}}});
    let jwt = |role: &str, audience: &str| json!({"auth": {"jwt": {"role": role, "audience": audience}}});
    for (number, (more, part)) in [
        (kubernetes("nobody", "vault"), "there is no such role"),
        (kubernetes(role, "elsewhere"), "audience elsewhere"),
        (jwt("nobody", "vault"), "there is no such role"),
        (jwt(role, "elsewhere"), "audience elsewhere"),
        (json!({"auth": {"kubernetes": {"role": role, "mountPath": "no/such"}}}), "auth/no/such"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut store = bot.vault(bao, &more);
        store.uid = format!("{role}-{number}");
        let message = refusal(bot.read(&store, "kv/bot").await, ErrorClass::LoginDenied);
        println!("{more}: {message}");
        assert!(message.contains(part), "{more}: {message}");
    }
    // Another ServiceAccount of the same namespace is not bound to the role.
    let mut stranger = Bot::new("login").await?;
    stranger.namespace.clone_from(role);
    let message = refusal(stranger.read(&stranger.vault(bao, &json!({})), "kv/bot").await, ErrorClass::LoginDenied);
    println!("stranger: {message}");
    Ok(())
}
