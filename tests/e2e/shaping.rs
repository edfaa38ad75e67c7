//! Remote values on their way to keys, with real stores.

use std::collections::BTreeMap;

use botsecret_testbed::wait_for;
use serde_json::{Value, json};

use crate::support::{Bench, DEADLINE, Result, Vault, shared_bao};

async fn texts(bench: &Bench, name: &str) -> Result<BTreeMap<String, String>> {
    let data = bench.secrets().get(name).await?.data.unwrap_or_default();
    Ok(data.into_iter().map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned())).collect())
}

fn bot_secret(name: &str, spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret", "metadata": { "name": name },
        "spec": { "serviceAccountName": "bot", "refreshInterval": "1s" },
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        object["spec"][field] = value.clone();
    }
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_extracted_renamed_decoded_and_put_into_templates() -> Result {
    let bench = Bench::new("shaping").await?;
    let vault = Vault::new(&bench, shared_bao().await?, &["bot"]).await?;
    vault
        .put("bot", &json!({ "db-user": "price bot", "db-password": "p@ss/w:rd of this test", "exchange/key": "a key of this test" }))
        .await?;
    vault.put("encoded", &json!({ "token": "YSB0b2tlbiBvZiB0aGlzIHRlc3Q=" })).await?;
    bench
        .apply(bot_secret(
            "shaped",
            json!({
                "storeRef": { "name": "source" },
                "data": [{ "secretKey": "TOKEN", "remoteRef": { "key": "encoded", "property": "token", "decodingStrategy": "Base64" } }],
                "dataFrom": [{
                    "extract": { "key": "bot" },
                    "rewrite": [
                        { "regexp": { "source": "[^A-Za-z0-9]", "target": "_" } },
                        { "transform": { "template": "{{ value | upper }}" } },
                    ],
                }],
                "target": { "template": {
                    "mergePolicy": "Merge",
                    "data": {
                        "DATABASE_URL": "{{ postgres_url(user=DB_USER, password=DB_PASSWORD, host='db', database='prices') }}",
                        ".env": "{{ secrets | dotenv }}",
                    },
                } },
            }),
        ))
        .await?;
    bench.until_condition("shaped", "Ready", "True").await?;
    let made = texts(&bench, "shaped").await?;
    let wanted = [
        (
            ".env",
            "DB_PASSWORD='p@ss/w:rd of this test'\nDB_USER='price bot'\nEXCHANGE_KEY='a key of this test'\nTOKEN='a token of this test'\n",
        ),
        ("DATABASE_URL", "postgresql://price%20bot:p%40ss%2Fw%3Ard%20of%20this%20test@db/prices"),
        ("DB_PASSWORD", "p@ss/w:rd of this test"),
        ("DB_USER", "price bot"),
        ("EXCHANGE_KEY", "a key of this test"),
        ("TOKEN", "a token of this test"),
    ];
    assert_eq!(made, wanted.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect());
    // Rendering again gives the same bytes: nothing is written.
    let version = bench.secrets().get("shaped").await?.metadata.resource_version;
    bench.until_more_reads(6).await?;
    assert_eq!(bench.secrets().get("shaped").await?.metadata.resource_version, version);
    // A rotated value goes through the template, and one that spoils it leaves
    // all as it was.
    vault.put("encoded", &json!({ "token": "YSBuZXdlciB0b2tlbg==" })).await?;
    bench.until_value("shaped", "TOKEN", "a newer token").await?;
    let before = texts(&bench, "shaped").await?;
    assert!(before[".env"].contains("TOKEN='a newer token'\n"));
    vault.put("encoded", &json!({ "token": "no Base64 at all!" })).await?;
    let message = bench.until_failing("shaped", "InvalidData").await?;
    assert!(message.contains("key TOKEN") && message.contains("not Base64"), "{message}");
    assert!(!message.contains("at all!"), "p4: {message}");
    assert_eq!(texts(&bench, "shaped").await?, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_a_template_that_fails_says_where_and_shows_no_value() -> Result {
    let bench = Bench::new("shaping-errors").await?;
    bench.kubernetes_store("source").await?;
    bench.put_source("bot", &[("PASSWORD", "the password of a failing template")]).await?;
    for (name, template, word) in [
        ("undefined", "\n{{ PASWORD }}", "line 2: it uses a value that is not there"),
        ("no-base64", "{{ PASSWORD | b64decode }}", "not Base64"),
        ("bomb", "{% for i in range(1000000000) %}{{ PASSWORD }}{% endfor %}", "template for key OUT"),
        ("syntax", "{{ PASSWORD", "no valid template"),
    ] {
        let spec = json!({
            "storeRef": { "name": "source" },
            "dataFrom": [{ "extract": { "key": "bot" } }],
            "target": { "template": { "data": { "OUT": template } } },
        });
        bench.apply(bot_secret(name, spec)).await?;
        let message = bench.until_failing(name, "InvalidData").await?;
        assert!(message.contains(word) && !message.contains("the password"), "{message}");
        assert!(bench.secrets().get_opt(name).await?.is_none(), "{name} was written");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_one_botsecret_fed_by_two_managers_with_one_failing_is_never_half_written() -> Result {
    let bench = Bench::new("shaping-several").await?;
    let vault = Vault::new(&bench, shared_bao().await?, &["bot"]).await?;
    bench.kubernetes_store("near").await?;
    let put = async |revision: &str| -> Result {
        vault.put("far", &json!({ "FAR": format!("far at revision {revision}") })).await?;
        bench.put_source("near", &[("NEAR", &format!("near at revision {revision}"))]).await
    };
    let fed = |name: &str| {
        bot_secret(
            name,
            json!({
                "data": [{ "secretKey": "NEAR", "remoteRef": { "key": "near", "property": "NEAR" }, "storeRef": { "name": "near" } }],
                "dataFrom": [{ "extract": { "key": "far" }, "storeRef": { "name": "source" } }],
                "target": { "template": { "mergePolicy": "Merge", "data": { "BOTH": "{{ NEAR }} and {{ FAR }}" } } },
            }),
        )
    };
    let closed = format!(r#"path "{}/data/*" {{ capabilities = ["deny"] }}"#, bench.namespace);
    let open = format!(r#"path "{}/data/*" {{ capabilities = ["read"] }}"#, bench.namespace);
    put("1").await?;
    vault.policy(&closed).await?;
    bench.apply(fed("fresh")).await?;
    bench.until_failing("fresh", "AccessDenied").await?;
    assert!(bench.secrets().get_opt("fresh").await?.is_none(), "written in part");
    vault.policy(&open).await?;
    bench.until_value("fresh", "BOTH", "near at revision 1 and far at revision 1").await?;
    let before = bench.secrets().get("fresh").await?;

    vault.policy(&closed).await?;
    put("2").await?;
    bench.until_failing("fresh", "AccessDenied").await?;
    bench.until_more_reads(4).await?;
    let during = bench.secrets().get("fresh").await?;
    assert_eq!(during.metadata.resource_version, before.metadata.resource_version, "nothing is written");
    assert_eq!(during.data, before.data);

    vault.policy(&open).await?;
    wait_for("both at revision 2, and never one alone", DEADLINE, async || {
        let now = texts(&bench, "fresh").await?;
        let revisions = ["NEAR", "FAR"].map(|key| now[key].chars().last());
        assert_eq!(revisions[0], revisions[1], "half written: {:?}", now.keys());
        Ok((now["BOTH"] == "near at revision 2 and far at revision 2").then_some(()))
    })
    .await
}
