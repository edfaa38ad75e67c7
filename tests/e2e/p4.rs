//! P4: values stay secret. Canaries go through success, rotation and every
//! failure that could quote them, and are then looked for everywhere.

use std::{collections::BTreeMap, process::Command};

use botsecret::cli::logging;
use botsecret_testbed::wait_for;
use k8s_openapi::ByteString;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::support::{Bench, DEADLINE, Result, Vault, canary, canary::Canary, shared_bao};

/// Every kind that the operator may touch, and a ConfigMap for the control.
const KINDS: &[(&str, &str, &str)] = &[
    ("", "v1", "Secret"),
    ("", "v1", "Event"),
    ("", "v1", "ConfigMap"),
    ("", "v1", "Pod"),
    ("", "v1", "ServiceAccount"),
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "ReplicaSet"),
    ("events.k8s.io", "v1", "Event"),
    ("botsecret.dev", "v1alpha1", "BotSecret"),
    ("botsecret.dev", "v1alpha1", "BotSecretStore"),
];

/// Everything that others can see, by where it is.
async fn everything_visible(bench: &Bench) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut visible = BTreeMap::new();
    for (group, version, kind) in KINDS {
        let kind = kube::core::GroupVersionKind::gvk(group, version, kind);
        let api: Api<DynamicObject> =
            Api::namespaced_with(bench.client.clone(), &bench.namespace, &ApiResource::from_gvk(&kind));
        for mut object in api.list(&ListParams::default()).await? {
            if kind.kind == "Secret" {
                // The one place where values belong.
                object.data.as_object_mut().map(|fields| fields.remove("data"));
            }
            let place = format!("{}/{} {}", kind.group, kind.kind, object.metadata.name.clone().unwrap_or_default());
            visible.insert(place, serde_json::to_vec(&object)?);
        }
    }
    visible.insert("log".into(), bench.operator.log().into_bytes());
    visible.insert("metrics".into(), bench.operator.metrics().await?.into_bytes());
    let requests = bench.cluster.audit().requests_by(bench.operator.user()).await?;
    let requests: Vec<_> = requests.into_iter().map(|request| request.uri).collect();
    visible.insert("addresses asked of the API server".into(), requests.join("\n").into_bytes());
    Ok(visible)
}

fn sightings(visible: &BTreeMap<String, Vec<u8>>, canary: &Canary) -> Vec<String> {
    let found = visible.iter().map(|(place, bytes)| (place, canary.found_in(bytes)));
    found.filter(|(_, forms)| !forms.is_empty()).map(|(place, forms)| format!("{place}: {forms:?}")).collect()
}

/// Denies Secrets of the namespace that have this label, quoting their data.
async fn talkative_policy(bench: &Bench) -> Result {
    let name = format!("quotes-values-{}", bench.namespace);
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": { "name": name },
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": { "resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["secrets"],
            }] },
            "validations": [{
                "expression": "!has(object.metadata.labels) || !('denied' in object.metadata.labels)",
                "messageExpression": "'not with ' + string(object.data['A'])",
            }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": { "name": name },
        "spec": {
            "policyName": name, "validationActions": ["Deny"],
            "matchResources": { "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": bench.namespace } } },
        },
    });
    for object in [policy, binding] {
        let object: DynamicObject = serde_json::from_value(object)?;
        let types = object.types.clone().unwrap_or_default();
        let resource = match types.kind.as_str() {
            "ValidatingAdmissionPolicy" => "validatingadmissionpolicies",
            _ => "validatingadmissionpolicybindings",
        };
        let kind = kube::core::GroupVersionKind::try_from(&types)?;
        let api: Api<DynamicObject> =
            Api::all_with(bench.client.clone(), &ApiResource::from_gvk_with_plural(&kind, resource));
        api.patch(&name, &PatchParams::apply("person").force(), &Patch::Apply(&object)).await?;
    }
    Ok(())
}

/// Every failure that could quote a value, each with one at hand.
async fn provoke_failures(
    bench: &Bench,
    vault: &Vault<'_>,
    canary: &Canary,
    texts: &[String],
    bytes: &[Vec<u8>],
) -> Result {
    let of = |name: &str, store: &str, more: Value| {
        let mut object = bench.bot_secret(name, name);
        object["spec"]["storeRef"]["name"] = json!(store);
        for (field, value) in more.as_object().into_iter().flatten() {
            object["spec"][field] = value.clone();
        }
        object
    };
    let one_key =
        |key: &str, remote: Value| json!({ "dataFrom": [], "data": [{ "secretKey": key, "remoteRef": remote }] });
    let broken_json = format!("{{\"auths\": {}", texts[2]);
    let large_number = format!("{{\"auths\": {{}}, {}: 1e999}}", Value::from(texts[2].as_str()));
    vault
        .put(
            "failures",
            &json!({ "A": texts[2], "BROKEN": broken_json, "NUMBER": large_number, "NESTED": { "A": texts[3] } }),
        )
        .await?;
    bench.put_source_bytes("binary", &[("A", &bytes[2])]).await?;
    let failures = [
        (
            "no-json",
            "source",
            json!({ "dataFrom": [{ "extract": { "key": "failures", "property": "A" } }] }),
            "InvalidData",
        ),
        ("into-text", "source", one_key("A", json!({ "key": "failures", "property": "A.deeper" })), "PropertyMissing"),
        (
            "into-nested",
            "source",
            one_key("A", json!({ "key": "failures", "property": "NESTED.A.deeper" })),
            "PropertyMissing",
        ),
        ("no-utf8", "kubernetes", one_key("A", json!({ "key": "binary" })), "InvalidData"),
        ("into-bytes", "kubernetes", one_key("A", json!({ "key": "binary", "property": "A.deeper" })), "InvalidData"),
    ];
    let typed = |type_: &str, key: &str, property: &str| {
        let mut more = one_key(key, json!({ "key": "failures", "property": property }));
        more["target"] = json!({ "type": type_ });
        more
    };
    let by_type = [
        ("tls", "source", typed("kubernetes.io/tls", "tls.crt", "A"), "InvalidData"),
        ("docker", "source", typed("kubernetes.io/dockerconfigjson", ".dockerconfigjson", "BROKEN"), "InvalidData"),
        // What our own look at it lets pass, and the API server does not.
        (
            "docker-number",
            "source",
            typed("kubernetes.io/dockerconfigjson", ".dockerconfigjson", "NUMBER"),
            "TargetInvalid",
        ),
    ];
    let mut denied = one_key("A", json!({ "key": "failures", "property": "A" }));
    denied["target"] = json!({ "labels": { "denied": "yes" } });
    let denied = [("denied", "source", denied, "TargetRefused")];
    for (name, store, more, reason) in failures.into_iter().chain(by_type).chain(denied) {
        bench.apply(of(name, store, more)).await?;
        let message = bench.until_failing(name, reason).await?;
        canary.assert_absent(&format!("the message of {name}"), message.as_bytes());
        assert!(!message.contains("1e999"), "{message}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_no_value_is_seen_anywhere_in_any_form_through_success_rotation_and_failure() -> Result {
    let bench = Bench::new("p4").await?;
    let vault = Vault::new(&bench, shared_bao().await?, &["bot"]).await?;
    bench.kubernetes_store("kubernetes").await?;
    talkative_policy(&bench).await?;
    let (texts, bytes): (Vec<_>, Vec<_>) = (0..4).map(|_| (Canary::random_text(), Canary::random_bytes())).unzip();
    let values = texts.iter().map(String::as_bytes).chain(bytes.iter().map(Vec::as_slice));
    let canary = Canary::of(values);
    // Success, a bot that uses it, and rotations, by both stores.
    vault.put("text", &json!({ "A": texts[0], "REVISION": "1" })).await?;
    bench.put_source_bytes("bytes", &[("A", &bytes[0]), ("T", texts[0].as_bytes())]).await?;
    bench.apply(bench.bot_secret("text", "text")).await?;
    let mut object = bench.bot_secret("bytes", "bytes");
    object["spec"]["storeRef"]["name"] = json!("kubernetes");
    bench.apply(object).await?;
    bench.apply(bench.bot("price-bot", "text", 1)).await?;
    for name in ["text", "bytes"] {
        bench.until_condition(name, "Ready", "True").await?;
    }
    bench.until_all_hold("price-bot", 1, "1").await?;
    vault.put("text", &json!({ "A": texts[1], "REVISION": "2" })).await?;
    bench.put_source_bytes("bytes", &[("A", &bytes[1]), ("T", texts[1].as_bytes())]).await?;
    bench.until_value("text", "A", &texts[1]).await?;
    bench.until_value("bytes", "T", &texts[1]).await?;
    bench.until_all_hold("price-bot", 1, "2").await?;
    // Drift with the value of another key.
    let drift = json!({ "data": { "A": ByteString(texts[2].clone().into_bytes()) } });
    bench.secrets().patch("text", &PatchParams::default(), &Patch::Merge(&drift)).await?;
    bench.until_value("text", "A", &texts[1]).await?;

    provoke_failures(&bench, &vault, &canary, &texts, &bytes).await?;
    // Events arrive after the status.
    wait_for("the failures to be told", DEADLINE, async || {
        Ok((!bench.events("denied").await?.is_empty()).then_some(()))
    })
    .await?;

    let visible = everything_visible(&bench).await?;
    let size: usize = visible.values().map(Vec::len).sum();
    let found = sightings(&visible, &canary);
    println!(
        "{} places, {size} bytes searched for {} canaries: {} hits",
        visible.len(),
        texts.len() + bytes.len(),
        found.len()
    );
    assert!(found.is_empty(), "{found:#?}");
    assert!(visible["log"].len() > 1000, "at trace there is a log to search");

    // The control: a leak is found, in whatever form.
    for (number, planted) in [
        base64_of(&bytes[3]),
        texts[3].clone(),
        format!("prefix {}", hex_of_sha256(&texts[3])),
        texts[3].chars().take(20).collect(),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("planted-{number}");
        let control = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "annotations": { "a": planted } } });
        bench.apply(control).await?;
        let found = sightings(&everything_visible(&bench).await?, &canary);
        assert!(found.iter().any(|place| place.contains(&name)), "planted leak {number} was overlooked: {found:?}");
    }
    Ok(())
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(bytes)
}

fn hex_of_sha256(text: &str) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    hash.as_ref().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[test]
fn p4_the_search_knows_a_value_in_every_form() {
    let (text, bytes) = (Canary::random_text(), Canary::random_bytes());
    let canary = Canary::of([text.as_bytes(), bytes.as_slice()]);
    let leaks: Vec<(&str, Vec<u8>)> = vec![
        ("plain", text.clone().into_bytes()),
        ("bytes", bytes.clone()),
        ("debug", format!("{text:?}").into_bytes()),
        ("numbers", format!("{bytes:?}").into_bytes()),
        ("json", Value::from(text.as_str()).to_string().into_bytes()),
        ("json in json", Value::from(Value::from(text.as_str()).to_string()).to_string().into_bytes()),
        ("base64 of json", base64_of(format!("{{\"key\":\"{text}\"}}").as_bytes()).into_bytes()),
        ("base64 with one more before", base64_of(&[b"x", text.as_bytes()].concat()).into_bytes()),
        ("sha256, shortened", hex_of_sha256(&text).as_bytes()[..16].to_vec()),
        ("beginning", bytes[..16].to_vec()),
        ("end", text.as_bytes()[16..].to_vec()),
    ];
    for (what, leak) in leaks {
        // A quoted JSON text inside base64 is another text when it has escapes.
        let surrounded = [b"before ".as_slice(), &leak, b" after"].concat();
        assert!(!canary.found_in(&surrounded).is_empty(), "{what}");
    }
    assert!(canary.found_in(Canary::random_text().repeat(100).as_bytes()).is_empty());
    let log = br#"{"level":"INFO","message":"login with eyJhbGciOi.eyJ"}"#;
    assert!(!canary::leaks_in_log(log).is_empty());
    assert!(canary::leaks_in_log(br#"{"level":"INFO","message":"Secret written"}"#).is_empty());
}

const CHILD: &str = "P4_PANICS";

/// Runs in a process of its own: panic hooks are the process's.
#[test]
fn p4_a_panics_own_words_are_withheld() -> Result {
    if let Ok(value) = std::env::var(CHILD) {
        logging::start(logging::LogFormat::Json, "trace", None).map_err(anyhow::Error::from_boxed)?;
        let words = value.clone();
        let caught = std::panic::catch_unwind(move || panic!("cannot use {words}"));
        assert!(caught.is_err());
        let parsed = std::panic::catch_unwind(move || value.parse::<u64>().expect("a number"));
        assert!(parsed.is_err());
        return Ok(());
    }
    let value = Canary::random_text();
    let output = Command::new(std::env::current_exe()?)
        .args(["--exact", "p4::p4_a_panics_own_words_are_withheld", "--nocapture"])
        .env(CHILD, &value)
        .env("RUST_BACKTRACE", "1")
        .output()?;
    let shown = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&shown);
    assert!(output.status.success(), "{text}");
    assert_eq!(text.matches("panicked: please report this").count(), 2, "{text}");
    assert!(text.contains("p4.rs"), "where it was is told: {text}");
    Canary::of([value.as_bytes()]).assert_absent("the output of a panic", &shown);
    Ok(())
}
