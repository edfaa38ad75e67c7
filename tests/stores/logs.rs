//! No value, token or login in any log, at any level, of any library.

use serde_json::json;

use crate::log::Log;
use crate::world::{Bot, Outcome, key, shared_bao};

#[tokio::test]
async fn p4_nothing_secret_is_logged_even_at_trace() -> Outcome {
    let (bao, bot) = (shared_bao().await?, Bot::new("logs").await?);
    let mount = &bot.namespace;
    let root = bot.with_role(bao, &format!(r#"path "{mount}/*" {{ capabilities = ["read"] }}"#)).await?;
    root.enable_kv(mount, 2).await?;
    root.put_kv2(mount, "bot", &json!({"key": "canary-8d1f"})).await?;
    let (store, mark) = (bot.vault(bao, &json!({})), bao.mark()?);
    let kubernetes = bot.kubernetes(&json!({"remoteNamespace": bot.namespace}));

    let (log, guard) = Log::of_this_thread();
    let keys = [key(&format!("{mount}/bot")), key(&format!("{mount}/none")), key("elsewhere/x")];
    assert!(bot.read_all(&store, &keys).await[0].is_ok());
    assert!(bot.read(&kubernetes, "feed").await.is_err());
    drop(guard);

    let (logged, requests) = (log.take(), bao.requests_since(&mark)?);
    assert!(logged.contains(&format!("{mount}/data/bot")), "the libraries' logs are caught:\n{logged}");
    assert!(requests.iter().any(|request| request.path.ends_with("data/bot")));
    for secret in ["canary-8d1f", "Y2FuYXJ5LThkMW", "eyJ", "client_token\":", "X-Vault-Token: s.", "Bearer ey"] {
        assert!(!logged.contains(secret), "{secret}");
    }
    let token = logged.split(|character: char| !(character.is_ascii_alphanumeric() || character == '.'));
    let tokens: Vec<&str> = token.filter(|word| word.starts_with("s.") && word.len() >= 20).collect();
    assert!(tokens.is_empty(), "{} logins' tokens", tokens.len());
    Ok(())
}
