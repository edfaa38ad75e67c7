//! P1: all or nothing. What cannot be read is not written, what was good stays.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use botsecret_testbed::{BlackHole, OpenBao, OpenBaoOptions, wait_for};
use k8s_openapi::{ByteString, jiff::Timestamp};
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::support::{Bench, DEADLINE, Result, Vault, shared_bao};

/// Two keys: GOOD, which is always there, and BAD from `remote`.
fn with_a_bad_key(bench: &Bench, name: &str, remote: &Value) -> Value {
    let mut object = bench.bot_secret(name, "unused");
    object["spec"]["dataFrom"] = json!([]);
    object["spec"]["data"] = json!([
        { "secretKey": "GOOD", "remoteRef": { "key": "good", "property": "A" } },
        { "secretKey": "BAD", "remoteRef": remote },
    ]);
    object
}

fn assert_says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
}

type Data = BTreeMap<String, ByteString>;

async fn data(bench: &Bench, name: &str) -> Result<(Data, String)> {
    let secret = bench.secrets().get(name).await?;
    let version = secret.resource_version().unwrap_or_default();
    Ok((secret.data.unwrap_or_default(), version))
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_a_first_sync_that_cannot_read_everything_writes_nothing_and_says_what_to_do() -> Result {
    let bench = Bench::new("p1-first").await?;
    let (hole, bao) = (BlackHole::start().await?, shared_bao().await?);
    let vault = Vault::new(&bench, bao, &["bot"]).await?;
    let mount = &bench.namespace;
    vault
        .policy(&format!(
            r#"path "{mount}/data/good" {{ capabilities = ["read"] }}
        path "{mount}/data/missing" {{ capabilities = ["read"] }}"#
        ))
        .await?;
    vault.put("good", &json!({ "A": "the good value of this test", "NULL": null, "TEXT": "no JSON" })).await?;
    vault.put("closed", &json!({ "A": "a value that nobody may read" })).await?;
    let elsewhere = |name: &str, address: &str| {
        let mut store = vault.store(name);
        store["spec"]["vault"]["address"] = json!(address);
        store["spec"]["limits"] = json!({ "timeout": "1s" });
        store
    };
    bench.apply(elsewhere("dead", "http://127.0.0.1:9")).await?;
    bench.apply(elsewhere("mute", &format!("http://{}", hole.address()))).await?;

    let cases: [(&str, Value, &str, &[&str]); 6] = [
        (
            "property",
            json!({ "key": "good", "property": "B" }),
            "PropertyMissing",
            &["key BAD", "property B", "good", "source", "add it there"],
        ),
        (
            "null",
            json!({ "key": "good", "property": "NULL" }),
            "PropertyMissing",
            &["property NULL", "good", "source", "is null"],
        ),
        ("nested", json!({ "key": "good", "property": "TEXT.x" }), "PropertyMissing", &["TEXT.x", "good", "source"]),
        (
            "version",
            json!({ "key": "good", "property": "A", "version": "99" }),
            "RemoteSecretMissing",
            &["good (version 99)", "store source", "pin one"],
        ),
        (
            "path",
            json!({ "key": "missing" }),
            "RemoteSecretMissing",
            &["remote secret missing", "store source", "write it"],
        ),
        (
            "denied",
            json!({ "key": "closed" }),
            "AccessDenied",
            &["remote secret closed", "store source", "grant \"read\" on", "/data/closed"],
        ),
    ];
    let outages: [(&str, &str, &[&str]); 2] = [
        ("dead", "StoreUnavailable", &["store dead", "remote secret good", "127.0.0.1:9"]),
        ("mute", "StoreTimeout", &["store mute", "remote secret good", "1s"]),
    ];
    for (name, remote, ..) in &cases {
        bench.apply(with_a_bad_key(&bench, name, remote)).await?;
    }
    for (name, ..) in &outages {
        let mut object = with_a_bad_key(&bench, name, &json!({ "key": "good", "property": "A" }));
        object["spec"]["data"][0]["storeRef"] = json!({ "name": name });
        object["spec"]["data"][1]["storeRef"] = json!({ "name": name });
        bench.apply(object).await?;
    }
    // One bad object delays no other.
    let began = Instant::now();
    bench.apply(bench.bot_secret("fine", "good")).await?;
    let mut fine = bench.bot_secret("fine", "good");
    fine["spec"]["dataFrom"] = json!([]);
    fine["spec"]["data"] = json!([{ "secretKey": "A", "remoteRef": { "key": "good", "property": "A" } }]);
    bench.apply(fine).await?;
    bench.until_condition("fine", "Ready", "True").await?;
    println!("a good one beside eight bad ones is Ready after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(30));

    for (name, _, reason, words) in &cases {
        assert_says(&bench.until_failing(name, reason).await?, words);
    }
    for (name, reason, words) in &outages {
        assert_says(&bench.until_failing(name, reason).await?, words);
    }
    bench.until_more_reads(10).await?;
    for name in cases.iter().map(|case| case.0).chain(outages.iter().map(|case| case.0)) {
        assert!(bench.secrets().get_opt(name).await?.is_none(), "{name} was written in part");
    }
    // What somebody mends is noticed.
    vault.put("missing", &json!({ "now": "it is there, at last" })).await?;
    bench.until_condition("path", "Ready", "True").await?;
    assert_eq!(bench.value("path", "GOOD").await?.as_deref(), Some("the good value of this test"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_a_refresh_that_cannot_read_everything_leaves_the_last_good_data_whole() -> Result {
    let bench = Bench::new("p1-later").await?;
    let vault = Vault::new(&bench, shared_bao().await?, &["bot"]).await?;
    let mount = &bench.namespace;
    let good = json!({ "A": "a value that was good", "B": "another one that was good" });
    vault.put("good", &good).await?;
    let names = ["property", "null", "path", "version", "denied"];
    for name in names {
        vault.put(name, &good).await?;
        let remote = if name == "version" {
            json!({ "key": name, "property": "B", "version": "1" })
        } else {
            json!({ "key": name, "property": "B" })
        };
        bench.apply(with_a_bad_key(&bench, name, &remote)).await?;
    }
    let mut before = BTreeMap::new();
    for name in names {
        bench.until_condition(name, "Ready", "True").await?;
        before.insert(name, data(&bench, name).await?);
    }
    vault.put("property", &json!({ "A": "only this is left" })).await?;
    vault.put("null", &json!({ "A": "a", "B": null })).await?;
    vault.remove("path").await?;
    vault.root.write(&format!("{mount}/destroy/version"), &json!({ "versions": [1] })).await?;
    vault
        .policy(&format!(
            r#"path "{mount}/data/*" {{ capabilities = ["read"] }}
        path "{mount}/data/denied" {{ capabilities = ["deny"] }}"#
        ))
        .await?;
    let cases: [(&str, &str, &[&str]); 5] = [
        ("property", "PropertyMissing", &["property B", "source"]),
        ("null", "PropertyMissing", &["is null", "source"]),
        ("path", "RemoteSecretMissing", &["remote secret path", "store source"]),
        ("version", "RemoteSecretMissing", &["remote secret version (version 1)", "destroyed"]),
        ("denied", "AccessDenied", &["remote secret denied", "grant \"read\""]),
    ];
    for (name, reason, words) in cases {
        assert_says(&bench.until_failing(name, reason).await?, words);
    }
    // Even the keys that could still be read stay as they were, together.
    vault.put("good", &json!({ "A": "a newer value, held back" })).await?;
    bench.until_more_reads(20).await?;
    for name in names {
        assert_eq!(data(&bench, name).await?, before[name], "{name}");
        let (_, stalled, _) = bench.condition(name, "Stalled").await?.unwrap_or_default();
        assert!(!stalled.is_empty(), "{name} needs somebody to act");
    }
    vault.policy(&format!(r#"path "{mount}/data/*" {{ capabilities = ["read"] }}"#)).await?;
    for name in ["property", "null", "path"] {
        vault.put(name, &good).await?;
    }
    for name in ["property", "null", "path", "denied"] {
        bench.until_value(name, "GOOD", "a newer value, held back").await?;
        bench.until_condition(name, "Ready", "True").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_an_outage_takes_nothing_away_and_its_end_is_noticed_at_once() -> Result {
    let bench = Bench::new("p1-outage").await?;
    let bao = OpenBao::start(bench.cluster, OpenBaoOptions { tls: false }).await?;
    let vault = Vault::new(&bench, &bao, &["bot"]).await?;
    vault.put("good", &json!({ "A": "a value from before the outage" })).await?;
    bench.kubernetes_store("beside").await?;
    bench.put_source("beside", &[("A", "1")]).await?;
    let mut beside = bench.bot_secret("beside", "beside");
    beside["spec"]["storeRef"] = json!({ "name": "beside" });
    bench.apply(beside).await?;
    for (name, interval) in [("often", "2s"), ("seldom", "1h")] {
        let mut object = bench.bot_secret(name, "good");
        object["spec"]["refreshInterval"] = json!(interval);
        bench.apply(object).await?;
        bench.until_condition(name, "Ready", "True").await?;
    }
    let before = data(&bench, "often").await?;

    bao.seal().await?;
    let mut fresh = bench.bot_secret("fresh", "good");
    fresh["spec"]["refreshInterval"] = json!("1h");
    bench.apply(fresh).await?;
    let message = bench.until_failing("fresh", "StoreUnavailable").await?;
    assert_says(&message, &["store source", "remote secret good", "Vault is sealed: unseal it"]);
    bench.until_condition("often", "Ready", "False").await?;
    // Three intervals make it old, counted from its last good read.
    let good = bao.requests()?.into_iter().filter(|request| request.path == vault.read_path("good"));
    let last = good.filter(|request| request.error.is_none()).map(|request| request.time).max();
    let flipped = Duration::try_from(Timestamp::now().duration_since(last.expect("a good read")))?;
    println!("sealed: Ready turned False {flipped:?} after the last good read");
    assert!(flipped > Duration::from_millis(5900), "one failed read must flip nothing");
    assert!(flipped < Duration::from_secs(30));
    assert_says(&bench.until_failing("often", "StoreUnavailable").await?, &["Vault is sealed"]);
    let status = bench.bot_secrets().get("often").await?.resource_version();
    bench.put_source("beside", &[("A", "2")]).await?;
    bench.until_value("beside", "A", "2").await?;
    bench.until_more_reads(5).await?;
    assert_eq!(bench.bot_secrets().get("often").await?.resource_version(), status, "nothing new, nothing written");
    assert_eq!(bench.condition("seldom", "Ready").await?.unwrap_or_default().0, "True", "its data is young");
    bao.unseal().await?;
    let unsealed = Instant::now();
    for name in ["often", "fresh"] {
        bench.until_condition(name, "Ready", "True").await?;
        println!("unsealed: {name} Ready again after {:?}", unsealed.elapsed());
    }
    assert_eq!(data(&bench, "often").await?, before);

    bao.kill().await?;
    assert_says(&bench.until_failing("often", "StoreUnavailable").await?, &["store source", "remote secret good"]);
    assert_eq!(data(&bench, "often").await?, before);
    bao.start_again().await?;
    let back = Instant::now();
    vault.put("good", &json!({ "A": "a value from after the outage" })).await?;
    bench.until_value("often", "A", "a value from after the outage").await?;
    println!("started again: the new value is there after {:?}", back.elapsed());
    bench.until_condition("often", "Ready", "True").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_secrets_of_a_kubernetes_store_are_held_to_the_same_rule() -> Result {
    let bench = Bench::new("p1-kubernetes").await?;
    bench.kubernetes_store("source").await?;
    let reader = |names: Value| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": { "name": "reader", "namespace": bench.source },
            "rules": [{ "apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": names }],
        })
    };
    for name in ["field", "whole", "denied"] {
        bench.put_source(name, &[("A", "1"), ("B", "2")]).await?;
        let mut object = bench.bot_secret(name, "unused");
        object["spec"]["dataFrom"] = json!([]);
        object["spec"]["data"] = json!([
            { "secretKey": "A", "remoteRef": { "key": name, "property": "A" } },
            { "secretKey": "B", "remoteRef": { "key": name, "property": "B" } },
        ]);
        bench.apply(object).await?;
        bench.until_condition(name, "Ready", "True").await?;
    }
    bench.put_source("field", &[("A", "3")]).await?;
    kube::Api::<k8s_openapi::api::core::v1::Secret>::namespaced(bench.client.clone(), &bench.source)
        .delete("whole", &kube::api::DeleteParams::default())
        .await?;
    bench.apply(reader(json!(["field", "whole"]))).await?;
    let source = bench.source.clone();
    assert_says(&bench.until_failing("field", "PropertyMissing").await?, &["property B", "field", "source"]);
    assert_says(
        &bench.until_failing("whole", "RemoteSecretMissing").await?,
        &["store source", "remote secret whole", &source],
    );
    assert_says(
        &bench.until_failing("denied", "AccessDenied").await?,
        &["store source", "resourceNames [\"denied\"]", &source],
    );
    for name in ["field", "whole", "denied"] {
        assert_eq!(
            (bench.value(name, "A").await?.as_deref(), bench.value(name, "B").await?.as_deref()),
            (Some("1"), Some("2"))
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_a_secret_is_deleted_only_where_that_was_asked_for_and_everything_stays_gone() -> Result {
    let bench = Bench::new("p1-delete").await?;
    bench.kubernetes_store("source").await?;
    let sources = kube::Api::<k8s_openapi::api::core::v1::Secret>::namespaced(bench.client.clone(), &bench.source);
    for (name, policy) in [("goes", "Delete"), ("stays", "Retain"), ("blinks", "Delete"), ("half", "Delete")] {
        bench.put_source(name, &[("A", "1")]).await?;
        let mut object = bench.bot_secret(name, name);
        object["spec"]["target"] = json!({ "deletionPolicy": policy });
        if name == "half" {
            bench.put_source("other-half", &[("B", "2")]).await?;
            object["spec"]["dataFrom"] =
                json!([{ "extract": { "key": name } }, { "extract": { "key": "other-half" } }]);
        }
        bench.apply(object).await?;
        bench.until_condition(name, "Ready", "True").await?;
    }
    let gone = Instant::now();
    for name in ["goes", "stays", "blinks", "half"] {
        sources.delete(name, &kube::api::DeleteParams::default()).await?;
        bench.until_failing(name, "RemoteSecretMissing").await?;
    }
    bench.put_source("blinks", &[("A", "2")]).await?;
    bench.until_value("blinks", "A", "2").await?;
    assert!(gone.elapsed() < Duration::from_secs(55), "a return is seen with the next refresh");
    wait_for("the Secret to be deleted", DEADLINE * 2, async || {
        Ok(bench.secrets().get_opt("goes").await?.is_none().then_some(()))
    })
    .await?;
    println!("everything gone at the source: deleted after {:?}", gone.elapsed());
    assert!(gone.elapsed() >= Duration::from_secs(60), "eventually consistent managers get a second look");
    for name in ["stays", "half"] {
        assert_eq!(bench.value(name, "A").await?.as_deref(), Some("1"));
    }
    assert!(bench.condition("goes", "Ready").await?.is_some_and(|(status, reason, _)| (
        status.as_str(),
        reason.as_str()
    ) == (
        "False",
        "RemoteSecretMissing"
    )));
    bench.put_source("goes", &[("A", "3")]).await?;
    bench.until_value("goes", "A", "3").await?;
    Ok(())
}
