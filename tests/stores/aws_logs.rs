//! The SDK logs requests and answers whole: none of it is ever heard.

use serde_json::json;

use crate::aws_world::Desk;
use crate::log::Log;
use crate::world::{Outcome, key};

#[tokio::test]
async fn p4_the_sdks_own_logs_show_nothing_even_at_trace() -> Outcome {
    let desk = Desk::new("logs").await?;
    for name in ["a", "b"] {
        desk.admin.put_secret(&desk.named(name), "canary-77f2").await?;
        desk.admin.put_parameter(&desk.parameter(name), "SecureString", "canary-77f2").await?;
    }
    let trust = json!({
        "Effect": "Allow", "Principal": {"AWS": desk.role}, "Action": ["sts:AssumeRole", "sts:TagSession"],
    });
    let namespace = &desk.bot.namespace;
    let mut statements = crate::aws_world::may_read(namespace);
    statements.as_array_mut().expect("a list").push(json!({
        "Effect": "Allow", "Action": ["sts:AssumeRole", "sts:TagSession"], "Resource": "*",
    }));
    desk.admin.allow(namespace, &statements).await?;
    let second = desk.admin.role(&format!("second-{namespace}"), &trust, &statements).await?;
    let more = json!({"role": second, "externalID": "external-canary", "sessionTags": []});
    let (log, guard) = Log::of_this_thread();
    for store in [desk.store("SecretsManager", &more), desk.parameter_store()] {
        let names = if store.uid.starts_with("Secrets") {
            ["a", "b", "none"].map(|name| desk.named(name))
        } else {
            ["a", "b", "none"].map(|name| desk.parameter(name))
        };
        let read = desk.bot.read_all(&store, &names.each_ref().map(|name| key(name))).await;
        assert_eq!(read.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false], "{read:?}");
        assert!(!format!("{read:?}").contains("canary"));
    }
    drop(guard);
    let logged = log.take();
    assert!(logged.contains("serviceaccounts/bot/token"), "other libraries are heard:\n{logged}");
    for secret in ["canary", "eyJ", "SecretAccessKey", "AWS4-HMAC", "x-amz-security-token"] {
        assert!(!logged.contains(secret), "{secret}");
    }
    assert_eq!((desk.count("AssumeRole"), desk.count("BatchGetSecretValue"), desk.count("GetParameters")), (1, 1, 1));
    Ok(())
}
