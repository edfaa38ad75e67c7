//! The `kubernetes` store, and where tokens come from.

use botsecret::{
    fetch::{KubeTokens, ServiceAccount, TokenSource},
    stores::{Audience, ErrorClass, Payload},
};
use k8s_openapi::api::{
    core::v1 as core,
    rbac::v1::{Role, RoleBinding},
};
use kube::api::{Api, PostParams};
use serde_json::json;

use crate::world::{Bot, Outcome, from, refusal};

/// A namespace that holds the Secret `feed`.
async fn vault(bot: &Bot) -> Result<String, Box<dyn std::error::Error>> {
    let namespace = bot.cluster.namespace("vault").await?;
    let secrets: Api<core::Secret> = Api::namespaced(bot.cluster.client()?, &namespace);
    let feed = json!({"metadata": {"name": "feed"}, "stringData": {"KEY": "value", "EMPTY": ""}});
    secrets.create(&PostParams::default(), &from(feed)).await?;
    Ok(namespace)
}

/// What the refusal tells people to grant.
async fn grant(bot: &Bot, namespace: &str) -> Outcome {
    let client = bot.cluster.client()?;
    let role = json!({
        "metadata": {"name": "feed"},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["feed"], "verbs": ["get"]}],
    });
    Api::<Role>::namespaced(client.clone(), namespace).create(&PostParams::default(), &from(role)).await?;
    let binding = json!({
        "metadata": {"name": "feed"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "feed"},
        "subjects": [{"kind": "ServiceAccount", "name": "bot", "namespace": bot.namespace}],
    });
    Api::<RoleBinding>::namespaced(client, namespace).create(&PostParams::default(), &from(binding)).await?;
    Ok(())
}

#[tokio::test]
async fn p5_a_secret_is_read_with_the_bots_own_rights_and_denied_without_them() -> Outcome {
    let bot = Bot::new("kube").await?;
    let namespace = vault(&bot).await?;
    let store = bot.kubernetes(&json!({"remoteNamespace": namespace}));
    let message = refusal(bot.read(&store, "feed").await, ErrorClass::Denied);
    assert!(message.contains(&namespace) && message.contains(r#"resourceNames ["feed"]"#), "{message}");
    grant(&bot, &namespace).await?;
    let mut read = bot.read(&store, "feed").await;
    for _ in 0..50 {
        // The authorizer learns of a binding a moment later.
        if read.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        read = bot.read(&store, "feed").await;
    }
    let read = read?;
    let live = Api::<core::Secret>::namespaced(bot.cluster.client()?, &namespace).get("feed").await?;
    assert_eq!(read.version_name().as_deref(), live.metadata.resource_version.as_deref());
    let Payload::Fields(fields) = &read.payload else { panic!("fields") };
    assert_eq!((fields["KEY"].expose(), fields["EMPTY"].expose()), (&b"value"[..], &b""[..]));
    let user = format!("system:serviceaccount:{}:bot", bot.namespace);
    let requests = bot.cluster.audit().requests_by(&user).await?;
    assert!(
        requests.iter().all(|request| request.verb == "get" && request.resource == "secrets" && request.name == "feed")
    );
    assert_eq!(bot.fetcher.counters().token_requests(), 1, "one token for all reads");
    assert_eq!(bot.fetcher.counters().logins(), 0, "the token is the login: the API server is asked for none");
    Ok(())
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_missing() -> Outcome {
    let bot = Bot::new("kube").await?;
    let namespace = vault(&bot).await?;
    grant(&bot, &namespace).await?;
    let secrets: Api<core::Secret> = Api::namespaced(bot.cluster.client()?, &namespace);
    secrets.delete("feed", &kube::api::DeleteParams::default()).await?;
    let store = bot.kubernetes(&json!({"remoteNamespace": namespace}));
    for _ in 0..50 {
        match bot.read(&store, "feed").await {
            Err(error) if error.class == ErrorClass::Denied => {}
            result => {
                assert!(refusal(result, ErrorClass::Missing).contains(&namespace));
                return Ok(());
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the binding was never seen");
}

#[tokio::test]
async fn another_cluster_that_does_not_take_the_token_says_what_it_must_trust() -> Outcome {
    let bot = Bot::new("kube").await?;
    let namespace = vault(&bot).await?;
    let store = bot.kubernetes(&json!({
        "remoteNamespace": namespace,
        "server": {"url": bot.cluster.url(), "caBundle": bot.cluster.ca_pem()},
        "audience": "another-cluster",
    }));
    let message = refusal(bot.read(&store, "feed").await, ErrorClass::LoginDenied);
    assert!(message.contains("audience must be one of its API audiences"), "{message}");
    Ok(())
}

#[tokio::test]
async fn p5_the_api_servers_own_audience_is_never_asked_for_by_name() -> Outcome {
    let bot = Bot::new("kube").await?;
    let namespace = vault(&bot).await?;
    for (number, audience) in
        [bot.cluster.audience(), "https://kubernetes.default.svc.cluster.local"].iter().enumerate()
    {
        let mut store = bot.kubernetes(&json!({
            "remoteNamespace": namespace,
            "server": {"url": bot.cluster.url(), "caBundle": bot.cluster.ca_pem()},
            "audience": audience,
        }));
        store.generation = i64::try_from(number)?;
        refusal(bot.read(&store, "feed").await, ErrorClass::Invalid);
    }
    Ok(())
}

#[tokio::test]
async fn a_service_account_that_is_missing_or_may_get_no_token_says_so() -> Outcome {
    let bot = Bot::new("tokens").await?;
    let audience = Audience::Of("vault".into());
    let account = |name: &str| ServiceAccount { name: name.into(), ..bot.account.clone() };
    let tokens = KubeTokens::new(bot.cluster.client()?);
    tokens.token(&account("bot"), &audience).await?;
    let message = refusal(tokens.token(&account("nobody"), &audience).await, ErrorClass::Identity);
    assert!(message.contains("has no ServiceAccount nobody"), "{message}");
    for name in ["../../../../apis", "a/b", "", "bot?dryRun=All"] {
        refusal(tokens.token(&account(name), &audience).await, ErrorClass::Identity);
    }
    let powerless = KubeTokens::new(bot.cluster.client_as("powerless", &[])?);
    let message = refusal(powerless.token(&account("bot"), &audience).await, ErrorClass::Identity);
    assert!(message.contains("forbidden"), "{message}");
    Ok(())
}
