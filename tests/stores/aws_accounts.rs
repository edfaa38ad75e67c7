//! Secrets of another AWS account, by their ARNs.

use botsecret::stores::{ErrorClass, Payload, RemoteKey};
use botsecret_testbed::{FaultProxy, clouds::aws::ACCOUNT};
use serde_json::json;

use crate::aws_world::{Desk, bytes, class};
use crate::world::{Outcome, key, refusal};

const OTHER: &str = "999999999999";

#[tokio::test]
async fn a_secret_of_another_account_is_read_by_its_arn_where_its_own_policy_lets_the_role_in() -> Outcome {
    let desk = Desk::new("abroad").await?;
    let other = desk.admin.in_account(OTHER);
    for name in ["a", "b", "closed"] {
        other.put_secret(&desk.named(name), &format!("{name} of the other account")).await?;
    }
    desk.admin.put_secret(&desk.named("a"), "own").await?;
    let arn = async |name: &str| other.secret_arn(&desk.named(name)).await;
    let arns = [arn("a").await?, arn("b").await?, arn("closed").await?];
    assert!(arns[0].contains(OTHER) && !arns[0].contains(ACCOUNT), "{}", arns[0]);
    let store = desk.secrets_manager();
    let message = refusal(desk.bot.read(&store, &arns[0]).await, ErrorClass::Denied);
    assert!(message.contains("in its own policy, in another account"), "{message}");

    for arn in &arns[..2] {
        desk.admin.share(arn, &desk.role);
    }
    assert_eq!(bytes(&desk.bot.read(&store, &arns[0]).await), b"a of the other account");
    // Several at once: batches, of which AWS promises nothing here.
    let own = desk.admin.secret_arn(&desk.named("a")).await?;
    let keys = [&arns[0], &desk.named("a"), &arns[1], &arns[2], &own].map(|name| key(name));
    let read = desk.bot.read_all(&store, &keys).await;
    assert_eq!(bytes(&read[0]), b"a of the other account");
    assert_eq!((bytes(&read[1]), bytes(&read[4])), (&b"own"[..], &b"own"[..]));
    assert_eq!((bytes(&read[2]), class(&read[3])), (&b"b of the other account"[..], Some(ErrorClass::Denied)));
    // What is kept about it, too.
    let about = RemoteKey { metadata: true, ..key(&arns[0]) };
    let about = desk.bot.read_all(&store, &[about]).await.remove(0)?;
    assert!(matches!(&about.payload, Payload::Json(text) if text.expose() == "{}"));
    Ok(())
}

#[tokio::test]
async fn p5_another_accounts_secret_never_answers_for_a_plain_name() -> Outcome {
    let desk = Desk::new("namesake").await?;
    let other = desk.admin.in_account(OTHER);
    let names = ["a", "b"].map(|name| desk.named(name));
    let mut arns = Vec::new();
    for name in &names {
        other.put_secret(name, "of the other account").await?;
        let arn = other.secret_arn(name).await?;
        desk.admin.share(&arn, &desk.role);
        arns.push(arn);
    }
    let store = desk.secrets_manager();
    let keys = [key(&names[0]), key(&arns[0]), key(&names[1]), key(&arns[1])];
    for _ in 0..2 {
        let read = desk.bot.read_all(&store, &keys).await;
        assert_eq!([0, 2].map(|place| class(&read[place])), [Some(ErrorClass::Missing); 2]);
        assert_eq!([1, 3].map(|place| bytes(&read[place])), [b"of the other account"; 2]);
    }
    refusal(desk.bot.read(&store, &names[0]).await, ErrorClass::Missing);
    Ok(())
}

#[tokio::test]
async fn an_arn_names_both_the_other_account_and_its_region() -> Outcome {
    let desk = Desk::new("abroad-region").await?;
    let name = desk.named("bot");
    let other = desk.admin.in_account(OTHER).in_region("us-east-1");
    other.put_secret(&name, "of the other account, in us-east-1").await?;
    desk.admin.in_region("us-east-1").put_secret(&name, "own, in us-east-1").await?;
    let arn = other.secret_arn(&name).await?;
    desk.admin.share(&arn, &desk.role);
    let proxy = FaultProxy::start().await?;
    for region in ["eu-west-1", "us-east-1"] {
        proxy.route(&format!("secretsmanager.{region}.amazonaws.com"), desk.aws.address());
    }
    proxy.route(&desk.aws.address().to_string(), desk.aws.address());
    let mut store = desk.store("SecretsManager", &json!({"endpoint": null, "caBundle": proxy.ca_pem()}));
    store.proxy = Some(proxy.url());
    assert_eq!(bytes(&desk.bot.read(&store, &arn).await), b"of the other account, in us-east-1");
    let gone = arn.replace(OTHER, "888888888888");
    refusal(desk.bot.read(&store, &gone).await, ErrorClass::Denied);
    Ok(())
}
