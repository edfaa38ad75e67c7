//! What is odd but may happen: names, values and refusals at their edges.

use botsecret::stores::ErrorClass;
use botsecret_testbed::{FaultKind, FaultProxy, clouds::azure::Secret, clouds::gcp::Role};
use serde_json::json;

use crate::aws_world::{Desk, bytes, class};
use crate::azure_world::{self, Azure, VAULT, VAULT_HOST, again};
use crate::gcp_world::{self, NUMBER, PROJECT, World, principal, secret};
use crate::world::{Bot, Outcome, key, refusal};

#[tokio::test]
async fn aws_names_of_every_kind_are_read_and_what_is_no_name_spoils_no_other() -> Outcome {
    let desk = Desk::new("odd-names").await?;
    let longest = format!("{}{}", desk.named(""), "x".repeat(512 - desk.named("").len()));
    let good = [desk.named("a/b//c"), desk.named("rds!db-1_2+3=4.5@6-"), longest];
    for name in &good {
        desk.admin.put_secret(name, name).await?;
    }
    let store = desk.secrets_manager();
    let bad = ["ünïcode", "with space", "tab\there", "", &"y".repeat(2049)].map(str::to_owned);
    let keys: Vec<_> = good.iter().chain(&bad).map(|name| key(name)).collect();
    let read = desk.bot.read_all(&store, &keys).await;
    for (read, name) in read.iter().zip(&good) {
        assert_eq!(bytes(read), name.as_bytes());
    }
    for (read, name) in read[good.len()..].iter().zip(&bad) {
        assert_eq!(class(read), Some(ErrorClass::Invalid), "{name}");
    }
    assert_eq!((desk.count("BatchGetSecretValue"), desk.count("GetSecretValue")), (1, 0));

    let parameters = desk.parameter_store();
    let wrong = [format!("{}:a:b", desk.parameter("x")), desk.parameter("é"), format!("{}:", desk.parameter("x"))];
    for read in desk.bot.read_all(&parameters, &wrong.each_ref().map(|name| key(name))).await {
        refusal(read, ErrorClass::Invalid);
    }
    Ok(())
}

#[tokio::test]
async fn aws_values_of_every_size_arrive_whole() -> Outcome {
    let desk = Desk::new("odd-values").await?;
    let (largest, lines) = ("ü".repeat(32_768), "\r\n\0\u{1}".to_owned());
    desk.admin.put_secret(&desk.named("largest"), &largest).await?;
    desk.admin.put_secret(&desk.named("lines"), &lines).await?;
    desk.admin.put_binary(&desk.named("json"), "e30=").await?;
    let keys = ["largest", "lines", "json"].map(|name| key(&desk.named(name)));
    let read = desk.bot.read_all(&desk.secrets_manager(), &keys).await;
    assert_eq!([0, 1, 2].map(|place| bytes(&read[place])), [largest.as_bytes(), lines.as_bytes(), b"{}"]);
    Ok(())
}

#[tokio::test]
async fn aws_in_another_region_than_the_secret_the_secret_is_missing_and_the_region_is_said_to_count() -> Outcome {
    let desk = Desk::new("odd-region").await?;
    desk.admin.in_region("us-east-1").put_secret(&desk.named("bot"), "value").await?;
    desk.admin.in_region("us-east-1").put_parameter(&desk.parameter("bot"), "String", "value").await?;
    for (store, name) in [(desk.secrets_manager(), desk.named("bot")), (desk.parameter_store(), desk.parameter("bot"))]
    {
        let message = refusal(desk.bot.read(&store, &name).await, ErrorClass::Missing);
        assert!(message.contains("region"), "{message}");
    }
    Ok(())
}

#[tokio::test]
async fn aws_a_refusal_is_told_by_what_refuses_the_key_the_clock_or_the_policy() -> Outcome {
    let desk = Desk::new("odd-refusals").await?;
    let (proxy, peer) = (FaultProxy::start().await?, desk.aws.address());
    proxy.route(&peer.to_string(), peer);
    let user = "User: arn:aws:sts::123456789012:assumed-role/bot/x is not authorized to perform: ";
    let cmk = "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or \
               you are not allowed to access.";
    let decrypt = format!("{user}kms:Decrypt on resource: arn:aws:kms:eu-west-1:123456789012:key/1");
    let secret = format!("{user}secretsmanager:GetSecretValue on resource: team/kms-keys because none allows it");
    let parameter = format!("{user}ssm:GetParameters on resource: parameter/kms because none allows it");
    let early = "Signature not yet current: 20261122T231500Z is still later than 20261122T230500Z";
    let late = "Signature expired: 20261122T220000Z is now earlier than 20261122T221000Z (20261122T221500Z - 5 min.)";
    for (service, code, text, class, part) in [
        ("SecretsManager", "AccessDeniedException", "Access to KMS is not allowed", ErrorClass::Denied, "kms:Decrypt"),
        ("SecretsManager", "AccessDeniedException", &decrypt, ErrorClass::Denied, "kms:Decrypt"),
        ("ParameterStore", "AccessDeniedException", cmk, ErrorClass::Denied, "kms:Decrypt"),
        ("SecretsManager", "AccessDeniedException", &secret, ErrorClass::Denied, "secretsmanager:GetSecretValue"),
        ("ParameterStore", "AccessDeniedException", &parameter, ErrorClass::Denied, "ssm:GetParameters"),
        ("SecretsManager", "InvalidSignatureException", early, ErrorClass::LoginDenied, "clock of the operator's"),
        ("ParameterStore", "InvalidSignatureException", late, ErrorClass::LoginDenied, "clock of the operator's"),
        ("SecretsManager", "DecryptionFailure", "", ErrorClass::Denied, "kms:Decrypt"),
        ("ParameterStore", "InvalidKeyId", "", ErrorClass::Denied, "kms:Decrypt"),
    ] {
        let bot = again(&desk.bot)?;
        let mut store = desk.store(service, &json!({}));
        store.proxy = Some(proxy.url());
        let body = json!({"__type": code, "message": text}).to_string();
        proxy.clear("*");
        let action = if service == "SecretsManager" { "GetSecretValue" } else { "GetParameters" };
        // Twice: a login that may be dead is made again, once.
        proxy.fault_on(&peer.to_string(), action, FaultKind::answer(400, &[], &body), 2);
        let name = if service == "SecretsManager" { desk.named("bot") } else { desk.parameter("bot") };
        let error = bot.read(&store, &name).await.expect_err(text);
        assert_eq!(error.class, class, "{text}: {error}");
        assert!(error.message.contains(part), "{text}: {error}");
        assert!(!error.message.contains("123456789012"), "no word of AWS's own: {error}");
    }
    Ok(())
}

#[tokio::test]
async fn gcp_names_and_values_at_their_edges_are_read_and_what_leads_elsewhere_is_refused() -> Outcome {
    let longest = "x".repeat(255);
    let world = World::with("gcp-odd", &[&longest, "a-_9", "empty", "large"]).await?;
    let (bot, store) = (&world.bot, world.federated(&json!({})));
    let large: Vec<u8> = (0..65_536_u32).map(|number| number.to_le_bytes()[0]).collect();
    world.gcp.put(&secret("empty"), b"");
    world.gcp.put(&secret("large"), &large);
    assert_eq!(gcp_world::bytes(&*bot.read(&store, &longest).await?), longest.as_bytes());
    assert_eq!(gcp_world::bytes(&*bot.read(&store, "a-_9").await?), b"a-_9");
    assert_eq!(gcp_world::bytes(&*bot.read(&store, "empty").await?), b"");
    assert_eq!(gcp_world::bytes(&*bot.read(&store, "large").await?), large);
    // The same by its project's number.
    let numbered = format!("projects/{NUMBER}/secrets/a-_9");
    assert_eq!(gcp_world::bytes(&*bot.read(&store, &numbered).await?), b"a-_9");
    for name in ["ü", "with space", "a/b", &"x".repeat(256), "", "projects/Wrong/secrets/a"] {
        refusal(bot.read(&store, name).await, ErrorClass::Invalid);
    }
    for project in ["another-project", "987654321"] {
        let message = refusal(bot.read(&store, &format!("projects/{project}/secrets/a-_9")).await, ErrorClass::Denied);
        assert!(message.contains("grant") && message.contains("where the secret is not there"), "{message}");
    }
    Ok(())
}

#[tokio::test]
async fn gcp_a_key_that_may_not_be_used_is_told_apart_from_a_secret_that_may_not_be_read() -> Outcome {
    let world = World::with("gcp-kms", &["cloudkms-notes"]).await?;
    let (bot, store) = (&world.bot, world.federated(&json!({})));
    let denied = |message: &str| {
        let body = json!({"error": {"code": 403, "status": "PERMISSION_DENIED", "message": message}});
        FaultKind::answer(403, &[], &body.to_string())
    };
    let host = "secretmanager.googleapis.com";
    let key =
        "Permission 'cloudkms.cryptoKeyVersions.useToDecrypt' denied on resource 'projects/p/k' (or it may not exist).";
    world.proxy.fault(host, denied(key), 1);
    let message = refusal(bot.read(&store, "cloudkms-notes").await, ErrorClass::Denied);
    assert!(message.contains("the key in Cloud KMS"), "{message}");
    world.gcp.revoke(&principal(&bot.account));
    let message = refusal(bot.read(&store, "cloudkms-notes").await, ErrorClass::Denied);
    assert!(message.contains("secretmanager.versions.access"), "{message}");
    world.gcp.grant(&principal(&bot.account), Role::Accessor, &format!("projects/{PROJECT}"));
    bot.read(&store, "cloudkms-notes").await?;
    Ok(())
}

#[tokio::test]
async fn azure_names_values_and_content_types_at_their_edges_are_read_as_they_are() -> Outcome {
    let bot = Bot::new("azure-odd").await?;
    let azure = Azure::start(&bot).await?;
    let longest = "x".repeat(127);
    azure.may_read(&bot, "client-a", &[&longest, "Mixed-Case", "typed", "none"]);
    let unicode = "ü\u{1f511}\u{0}\r\n\"\\";
    azure.cloud.put(VAULT, &longest, Secret::of(unicode));
    azure.cloud.put(VAULT, "Mixed-Case", Secret::of("[1, 2]"));
    let typed = Secret { content_type: Some("application/json; charset=ü".into()), ..Secret::of("{\"a\": 1.0}") };
    azure.cloud.put(VAULT, "typed", typed);
    let store = azure.store_of(&bot, "client-a");
    for (name, value) in [(longest.as_str(), unicode), ("Mixed-Case", "[1, 2]"), ("typed", "{\"a\": 1.0}")] {
        assert_eq!(azure_world::bytes(&*bot.read(&store, name).await?), value.as_bytes(), "{name}");
    }
    let message = refusal(bot.read(&store, "cert/typed").await, ErrorClass::Invalid);
    assert!(message.contains("no certificate's secret"), "{message}");
    for name in [&"x".repeat(128), "a_b", "a.b", "ü", "a b", "", "secret/", "secret/a/b", "../keys/a"] {
        refusal(bot.read(&store, name).await, ErrorClass::Invalid);
    }
    for version in ["latest", "", "0123456789ABCDEF0123456789ABCDEG"] {
        refusal(bot.read_version(&store, "typed", version).await, ErrorClass::Invalid);
    }
    Ok(())
}

#[tokio::test]
async fn azure_a_secret_that_is_being_deleted_or_behind_a_firewall_says_so() -> Outcome {
    let bot = Bot::new("azure-state").await?;
    let azure = Azure::start(&bot).await?;
    azure.may_read(&bot, "client-a", &["a"]);
    azure.cloud.put(VAULT, "a", Secret::of("value"));
    let (store, refused) = (azure.store_of(&bot, "client-a"), |code: &str, inner: &str| {
        json!({"error": {"code": code, "message": "canary", "innererror": {"code": inner}}}).to_string()
    });
    bot.read(&store, "a").await?;
    for (status, body, class, part) in [
        (409, refused("Conflict", "ObjectIsBeingDeleted"), ErrorClass::Missing, "being recovered"),
        (409, refused("Conflict", "ObjectIsDeletedButRecoverable"), ErrorClass::Missing, "recover it"),
        (403, refused("Forbidden", "ForbiddenByFirewall"), ErrorClass::Denied, "firewall"),
    ] {
        azure.proxy.fault_on(VAULT_HOST, "GET /secrets/a", FaultKind::answer(status, &[], &body), 1);
        let message = refusal(bot.read(&store, "a").await, class);
        assert!(message.contains(part) && !message.contains("canary"), "{message}");
    }
    Ok(())
}
