//! P9 and P8: honest status, and ends that do not hang.

use std::time::{Duration, Instant};

use botsecret_testbed::wait_for;
use k8s_openapi::ByteString;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    kubectl::Kubectl,
    support::{Bench, DEADLINE, Result},
};

pub async fn bench(name: &str) -> Result<Bench> {
    let bench = Bench::new(name).await?;
    bench.kubernetes_store("source").await?;
    bench.put_source("exchange", &[("A", "1"), ("B", "2")]).await?;
    Ok(bench)
}

async fn version(bench: &Bench, name: &str) -> Result<Option<String>> {
    Ok(bench.bot_secrets().get(name).await?.resource_version())
}

/// Changes a Secret's key as a careless person would.
async fn edit(bench: &Bench, secret: &str, key: &str, value: &str) -> Result {
    let patch = json!({ "data": { key: ByteString(value.as_bytes().to_vec()) } });
    bench.secrets().patch(secret, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    Ok(())
}

pub fn hourly(bench: &Bench, name: &str) -> Value {
    let mut object = bench.bot_secret(name, "exchange");
    object["spec"]["refreshInterval"] = json!("1h");
    object
}

pub fn count(events: &[(String, String)], reason: &str) -> usize {
    events.iter().filter(|event| event.0 == reason).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_kubectl_wait_needs_no_configuration_and_a_plain_first_sync_no_event() -> Result {
    let bench = bench("p9-wait").await?;
    let mut object = hourly(&bench, "price-bot");
    object["metadata"]["labels"] = json!({ "argocd.example/instance": "team", "app": "price" });
    object["metadata"]["annotations"] = json!({ "argocd.example/tracking-id": "team:price" });
    object["spec"]["target"] = json!({ "labels": { "for": "the-secret" }, "annotations": { "also": "for it" } });
    bench.apply(object.clone()).await?;
    let kubectl = Kubectl::of(bench.cluster);
    let namespace = ["--namespace", bench.namespace.as_str()];
    let wait = ["wait", "--for=condition=Ready", "botsecret/price-bot", "--timeout=60s"];
    kubectl.run(&[&namespace[..], &wait].concat(), "").await;
    let table = kubectl.run(&[&namespace[..], &["get", "bsec"]].concat(), "").await;
    for column in ["STORE", "REFRESH", "READY", "REASON", "ROLLED-OUT", "AGE"] {
        assert!(table.contains(column), "{table}");
    }
    let row = table.lines().nth(1).unwrap_or_default();
    assert!(row.contains("source") && row.contains("True") && row.contains("Synced"), "{table}");

    let secret = bench.secrets().get("price-bot").await?;
    assert!(!secret.labels().contains_key("argocd.example/instance") && !secret.labels().contains_key("app"));
    assert!(!secret.annotations().contains_key("argocd.example/tracking-id"));
    assert_eq!(secret.labels().get("for").map(String::as_str), Some("the-secret"));
    assert_eq!(secret.annotations().get("also").map(String::as_str), Some("for it"));

    // An edit counts as done only when the new generation was looked at.
    object["spec"]["target"]["labels"] = json!({ "for": "the-secret-again" });
    bench.apply(object).await?;
    bench.until_condition("price-bot", "Ready", "True").await?;
    let object = bench.bot_secrets().get("price-bot").await?;
    let status = object.status.clone().unwrap_or_default();
    assert_eq!(status.observed_generation, object.metadata.generation);
    assert_eq!(
        bench.secrets().get("price-bot").await?.labels().get("for").map(String::as_str),
        Some("the-secret-again")
    );
    let types: Vec<_> = status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
    assert!(!types.contains(&"Stalled") && !types.contains(&"Reconciling"), "{types:?}");
    assert!(bench.events("price-bot").await?.is_empty(), "{:?}", bench.events("price-bot").await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_status_is_written_only_when_something_changes_also_while_it_fails() -> Result {
    let bench = bench("p9-quiet").await?;
    bench.apply(bench.bot_secret("fine", "exchange")).await?;
    bench.apply(bench.bot_secret("failing", "nothing-there")).await?;
    bench.until_condition("fine", "Ready", "True").await?;
    let message = bench.until_failing("failing", "RemoteSecretMissing").await?;
    assert!(message.contains("remote secret nothing-there"), "{message}");
    let before = (version(&bench, "fine").await?, version(&bench, "failing").await?);
    bench.until_more_reads(10).await?;
    assert_eq!((version(&bench, "fine").await?, version(&bench, "failing").await?), before);
    let events = bench.events("failing").await?;
    assert_eq!((events.len(), count(&events, "RemoteSecretMissing")), (1, 1), "{events:?}");

    bench.put_source("nothing-there", &[("A", "1")]).await?;
    bench.until_condition("failing", "Ready", "True").await?;
    wait_for("the recovery to be told", DEADLINE, async || {
        Ok((count(&bench.events("failing").await?, "Recovered") == 1).then_some(()))
    })
    .await?;
    bench.put_source("exchange", &[("A", "3"), ("B", "2")]).await?;
    bench.until_value("fine", "A", "3").await?;
    wait_for("the rotation to be told", DEADLINE, async || {
        Ok((count(&bench.events("fine").await?, "Rotated") == 1).then_some(()))
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_drift_is_repaired_at_once_and_told_once_and_a_fight_is_contested() -> Result {
    let bench = bench("p9-drift").await?;
    bench.apply(hourly(&bench, "price-bot")).await?;
    bench.until_condition("price-bot", "Ready", "True").await?;
    let began = Instant::now();
    edit(&bench, "price-bot", "A", "wrong").await?;
    bench.until_value("price-bot", "A", "1").await?;
    println!("drift repaired after {:?} at an interval of 1 h", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(30));
    wait_for("the repair to be told", DEADLINE, async || {
        Ok((count(&bench.events("price-bot").await?, "Repaired") == 1).then_some(()))
    })
    .await?;
    edit(&bench, "price-bot", "EXTRA", "of no use").await?;
    wait_for("the extra key to go", DEADLINE, async || {
        Ok(bench.value("price-bot", "EXTRA").await?.is_none().then_some(()))
    })
    .await?;
    let uid = bench.secrets().get("price-bot").await?.uid();
    bench.secrets().delete("price-bot", &DeleteParams::default()).await?;
    bench.until_value("price-bot", "A", "1").await?;
    assert_ne!(bench.secrets().get("price-bot").await?.uid(), uid);
    bench.until_condition("price-bot", "Ready", "True").await?;

    // Two more make five: somebody else keeps doing this.
    for round in 0..2 {
        edit(&bench, "price-bot", "A", &format!("wrong {round}")).await?;
        bench.until_value("price-bot", "A", "1").await?;
    }
    edit(&bench, "price-bot", "A", "the other one's").await?;
    let message = bench.until_failing("price-bot", "Contested").await?;
    assert!(message.contains("find the other writer"), "{message}");
    // Deleting it is no way around the truce, and touching it none either.
    let before = bench.operator.log().matches("Secret written").count();
    bench.apply(hourly(&bench, "beside")).await?;
    bench.until_condition("beside", "Ready", "True").await?;
    assert_eq!(
        bench.value("price-bot", "A").await?.as_deref(),
        Some("the other one's"),
        "it is left alone for a while"
    );
    bench.secrets().delete("price-bot", &DeleteParams::default()).await?;
    edit(&bench, "beside", "A", "wrong").await?;
    bench.until_value("beside", "A", "1").await?;
    assert!(bench.secrets().get_opt("price-bot").await?.is_none());
    assert!(bench.operator.log().matches("Secret written").count() <= before + 2);
    // A person decides.
    annotate(&bench, "price-bot", "after-the-fight").await?;
    bench.until_value("price-bot", "A", "1").await?;
    bench.until_condition("price-bot", "Ready", "True").await?;
    Ok(())
}

pub async fn annotate(bench: &Bench, name: &str, value: &str) -> Result {
    let patch = json!({ "metadata": { "annotations": { "botsecret.dev/refresh": value } } });
    bench.bot_secrets().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_suspend_forced_refresh_and_an_interval_of_zero_do_what_they_say() -> Result {
    let mut bench = bench("p9-control").await?;
    let mut once = bench.bot_secret("once", "exchange");
    once["spec"]["refreshInterval"] = json!("0");
    bench.apply(once.clone()).await?;
    let mut held = bench.bot_secret("held", "exchange");
    bench.apply(held.clone()).await?;
    for name in ["once", "held"] {
        bench.until_condition(name, "Ready", "True").await?;
    }
    held["spec"]["suspend"] = json!(true);
    bench.apply(held.clone()).await?;
    let message = bench.until_failing("held", "Suspended").await?;
    assert!(message.contains("spec.suspend"), "{message}");
    bench.apply(bench.bot_secret("clock", "exchange")).await?;
    bench.put_source("exchange", &[("A", "9"), ("B", "2")]).await?;
    edit(&bench, "held", "B", "by hand").await?;
    bench.until_value("clock", "A", "9").await?;
    bench.until_more_reads(3).await?;
    assert_eq!(
        (bench.value("held", "A").await?.as_deref(), bench.value("held", "B").await?.as_deref()),
        (Some("1"), Some("by hand"))
    );
    assert_eq!(bench.value("once", "A").await?.as_deref(), Some("1"));

    held["spec"]["suspend"] = json!(false);
    bench.apply(held).await?;
    bench.until_value("held", "A", "9").await?;
    bench.until_value("held", "B", "2").await?;

    // Not on a restart either.
    let written = version(&bench, "once").await?;
    assert_eq!(bench.operator.terminate().await?, Some(0));
    bench.operator.start_again().await?;
    bench.put_source("exchange", &[("A", "10"), ("B", "2")]).await?;
    bench.until_value("clock", "A", "10").await?;
    bench.until_more_reads(3).await?;
    assert_eq!(bench.value("once", "A").await?.as_deref(), Some("1"));
    assert_eq!(version(&bench, "once").await?, written);
    annotate(&bench, "once", "please").await?;
    bench.until_value("once", "A", "10").await?;
    wait_for("the refresh to be on record", DEADLINE, async || {
        let handled = bench.bot_secrets().get("once").await?.status.and_then(|status| status.last_handled_refresh);
        Ok((handled.as_deref() == Some("please")).then_some(()))
    })
    .await?;
    edit(&bench, "once", "A", "drift").await?;
    bench.until_value("once", "A", "10").await?;
    // An edit of the spec is a reason to read.
    once["spec"]["dataFrom"] = json!([{ "extract": { "key": "other" } }]);
    bench.put_source("other", &[("C", "11")]).await?;
    bench.apply(once).await?;
    bench.until_value("once", "C", "11").await?;
    assert_eq!(bench.value("once", "A").await?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_creation_policies_say_what_is_made_and_what_stays() -> Result {
    let bench = bench("p9-policies").await?;
    bench.put_source("one-key", &[("MERGED", "1")]).await?;
    let with_policy = |name: &str, source: &str, policy: &str| {
        let mut object = bench.bot_secret(name, source);
        object["spec"]["target"] = json!({ "name": format!("{name}-secret"), "creationPolicy": policy });
        object
    };
    bench.apply(with_policy("owner", "exchange", "Owner")).await?;
    bench.apply(with_policy("orphan", "exchange", "Orphan")).await?;
    bench.apply(with_policy("merge", "one-key", "Merge")).await?;
    let message = bench.until_failing("merge", "TargetMissing").await?;
    assert!(message.contains("merge-secret") && message.contains("create it"), "{message}");
    let theirs = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "merge-secret", "labels": { "whose": "theirs" } },
        "stringData": { "THEIRS": "kept" },
    });
    bench.apply(theirs).await?;
    for name in ["owner", "orphan", "merge"] {
        bench.until_condition(name, "Ready", "True").await?;
    }
    bench.until_value("merge-secret", "MERGED", "1").await?;
    bench.put_source("one-key", &[("MERGED", "2")]).await?;
    bench.until_value("merge-secret", "MERGED", "2").await?;
    edit(&bench, "merge-secret", "MERGED", "wrong").await?;
    bench.until_value("merge-secret", "MERGED", "2").await?;
    edit(&bench, "merge-secret", "THEIRS", "their own change").await?;
    bench.until_more_reads(3).await?;
    assert_eq!(bench.value("merge-secret", "THEIRS").await?.as_deref(), Some("their own change"));
    let merged = bench.secrets().get("merge-secret").await?;
    assert!(merged.owner_references().is_empty());
    assert_eq!(merged.labels().get("whose").map(String::as_str), Some("theirs"));
    assert_eq!(bench.secrets().get("owner-secret").await?.owner_references().len(), 1);
    assert!(bench.secrets().get("orphan-secret").await?.owner_references().is_empty());

    for name in ["owner", "orphan", "merge"] {
        bench.bot_secrets().delete(name, &DeleteParams::default()).await?;
    }
    wait_for("the owned Secret to be collected", DEADLINE, async || {
        Ok(bench.secrets().get_opt("owner-secret").await?.is_none().then_some(()))
    })
    .await?;
    assert_eq!(bench.value("orphan-secret", "A").await?.as_deref(), Some("1"));
    assert_eq!(bench.value("merge-secret", "THEIRS").await?.as_deref(), Some("their own change"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_what_the_api_server_refuses_and_what_is_too_large_is_reported() -> Result {
    let bench = bench("p9-refused").await?;
    let large = "x".repeat(700_000);
    bench.put_source("large-1", &[("ONE", &large)]).await?;
    bench.put_source("large-2", &[("TWO", &large)]).await?;
    let mut object = bench.bot_secret("large", "large-1");
    object["spec"]["dataFrom"] = json!([{ "extract": { "key": "large-1" } }, { "extract": { "key": "large-2" } }]);
    bench.apply(object).await?;
    let message = bench.until_failing("large", "TooLarge").await?;
    assert!(message.contains("split it into two"), "{message}");

    let secrets = bench.secrets().list(&kube::api::ListParams::default()).await?.items.len();
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "few" },
        "spec": { "hard": { "count/secrets": secrets.to_string() } },
    });
    bench.apply(quota).await?;
    let quotas = Api::<k8s_openapi::api::core::v1::ResourceQuota>::namespaced(bench.client.clone(), &bench.namespace);
    wait_for("the quota to be counted", DEADLINE, async || {
        Ok(quotas
            .get("few")
            .await?
            .status
            .and_then(|status| status.used)
            .is_some_and(|used| !used.is_empty())
            .then_some(()))
    })
    .await?;
    bench.apply(bench.bot_secret("one-too-many", "exchange")).await?;
    let message = bench.until_failing("one-too-many", "TargetRefused").await?;
    assert!(message.contains("exceeded quota: few") && message.contains("raise the ResourceQuota"), "{message}");
    let before = version(&bench, "one-too-many").await?;
    bench.until_more_reads(5).await?;
    assert_eq!(version(&bench, "one-too-many").await?, before, "said once");
    quotas.delete("few", &DeleteParams::default()).await?;
    bench.until_condition("one-too-many", "Ready", "True").await?;
    Ok(())
}
