#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::needless_pass_by_value, reason = "json!(…) reads better without a borrow")]

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{BuildError, BuildErrorKind, Inputs, MAX_SIZE, Source};
use crate::{
    api::{BotSecretSpec, StoreKind},
    secret::{SecretBytes, SecretData, SecretText},
    stores::{Payload, RemoteSecret},
};

fn spec(fields: Value) -> BotSecretSpec {
    let mut whole = json!({"serviceAccountName": "bot", "storeRef": {"name": "vault"}});
    whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(whole).unwrap()
}

fn data(spec: &BotSecretSpec, inputs: &Inputs) -> Result<SecretData, BuildError> {
    super::data(spec, inputs).map(|built| built.data)
}

fn sources(spec: &BotSecretSpec) -> Vec<Source> {
    super::sources(spec, &BTreeMap::new())
}

fn json_text(text: &str) -> Payload {
    Payload::Json(SecretText::new(text.to_owned()))
}

fn bytes(value: &[u8]) -> Payload {
    Payload::Bytes(SecretBytes::new(value.to_vec()))
}

fn fields(members: &[(&str, &[u8])]) -> Payload {
    Payload::Fields(
        members.iter().map(|(name, value)| ((*name).to_owned(), SecretBytes::new(value.to_vec()))).collect(),
    )
}

/// Reads by remote key, all of store `vault`.
fn reads(payloads: Vec<(&str, Payload)>) -> Inputs {
    let store = spec(json!({})).store_ref.unwrap();
    let read = payloads
        .into_iter()
        .map(|(key, payload)| (Source::new(&store, key, None), Arc::new(RemoteSecret::of(payload))));
    Inputs { reads: read.collect(), ..Inputs::default() }
}

/// `KEY` filled by `property` of the one remote secret `r`.
fn single(payload: Payload, property: Option<&str>) -> Result<String, BuildError> {
    let mut remote = json!({"key": "r"});
    if let Some(property) = property {
        remote["property"] = property.into();
    }
    let spec = spec(json!({"data": [{"secretKey": "KEY", "remoteRef": remote}]}));
    data(&spec, &reads(vec![("r", payload)]))
        .map(|data| String::from_utf8(data["KEY"].expose().to_vec()).expect("text"))
}

fn extract(payload: Payload, property: Option<&str>) -> Result<BTreeMap<String, String>, BuildError> {
    let mut remote = json!({"key": "r"});
    if let Some(property) = property {
        remote["property"] = property.into();
    }
    data(&spec(json!({"dataFrom": [{"extract": remote}]})), &reads(vec![("r", payload)])).map(|data| texts(&data))
}

fn texts(data: &SecretData) -> BTreeMap<String, String> {
    data.iter().map(|(key, value)| (key.clone(), String::from_utf8_lossy(value.expose()).into_owned())).collect()
}

fn map(members: &[(&str, &str)]) -> BTreeMap<String, String> {
    members.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn each_remote_secret_is_named_once_in_order_of_appearance() {
    let spec = spec(json!({
        "data": [
            {"secretKey": "A", "remoteRef": {"key": "r", "property": "a"}},
            {"secretKey": "B", "remoteRef": {"key": "r", "property": "b"}, "storeRef": {"name": "vault", "kind": "BotSecretStore"}},
            {"secretKey": "C", "remoteRef": {"key": "r", "version": "3"}},
            {"secretKey": "D", "remoteRef": {"key": "r"}, "storeRef": {"name": "vault", "kind": "ClusterBotSecretStore"}},
        ],
        "dataFrom": [{"extract": {"key": "r"}}, {"extract": {"key": "other"}}],
    }));
    let shown: Vec<String> = sources(&spec).iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "remote secret r of BotSecretStore vault",
            "remote secret r (version 3) of BotSecretStore vault",
            "remote secret r of ClusterBotSecretStore vault",
            "remote secret other of BotSecretStore vault",
        ]
    );
    assert!(sources(&spec).iter().all(|source| source.store.kind.is_some()));
    assert_eq!(sources(&spec)[2].store.kind, Some(StoreKind::ClusterBotSecretStore));
}

#[test]
fn a_property_of_json_fields_and_bytes() {
    let text = r#"{"exchange": {"key": "k", "rate": 1.0}, "tls.crt": "C\r\n", "tls": {"crt": "no"}}"#;
    let as_fields: Payload = fields(&[("exchange", br#"{"key": "k", "rate": 1.0}"#), ("tls.crt", b"C\r\n")]);
    for payload in [json_text(text), bytes(text.as_bytes()), as_fields] {
        let read = reads(vec![("r", payload)]);
        let spec = spec(json!({"data": [
            {"secretKey": "K", "remoteRef": {"key": "r", "property": "exchange.key"}},
            {"secretKey": "R", "remoteRef": {"key": "r", "property": "exchange.rate"}},
            {"secretKey": "C", "remoteRef": {"key": "r", "property": "tls.crt"}},
        ]}));
        assert_eq!(texts(&data(&spec, &read).unwrap()), map(&[("K", "k"), ("R", "1.0"), ("C", "C\r\n")]));
    }
}

#[test]
fn the_whole_where_no_property_is_named() {
    assert_eq!(single(json_text("{\"a\" : [1.0, 2]}\n"), None).unwrap(), r#"{"a":[1.0,2]}"#);
    assert_eq!(single(bytes(b" a\r\nb\n"), None).unwrap(), " a\r\nb\n");
    assert_eq!(single(fields(&[("b", b"2"), ("a", b"\"")]), None).unwrap(), r#"{"a":"\"","b":"2"}"#);
    let error = single(fields(&[("b", b"\xff")]), None).unwrap_err();
    assert_eq!(error.kind, BuildErrorKind::TypeMismatch);
    // Bytes that are no text are no trouble on their own.
    let spec = spec(json!({"data": [{"secretKey": "KEY", "remoteRef": {"key": "r", "property": "b"}}]}));
    let built = data(&spec, &reads(vec![("r", fields(&[("b", b"\xff\x00")]))])).unwrap();
    assert_eq!(built["KEY"].expose(), b"\xff\x00");
}

#[test]
fn extract_makes_every_member_a_key() {
    let text =
        r#"{"s": "x y", "n": 1e400, "big": 12345678901234567890, "b": true, "o": {"x": [1.50, "a b"]}, "e": ""}"#;
    let expected = map(&[
        ("s", "x y"),
        ("n", "1e400"),
        ("big", "12345678901234567890"),
        ("b", "true"),
        ("o", r#"{"x":[1.50,"a b"]}"#),
        ("e", ""),
    ]);
    assert_eq!(extract(json_text(text), None).unwrap(), expected);
    assert_eq!(extract(bytes(text.as_bytes()), None).unwrap(), expected);
    let nested = format!("{{\"in\": {{\"deep\": {text}}}}}");
    assert_eq!(extract(json_text(&nested), Some("in.deep")).unwrap(), expected);
    assert_eq!(extract(fields(&[("in", text.as_bytes())]), Some("in")).unwrap(), expected);
    let nested = format!("{{\"deep\": {text}}}");
    assert_eq!(extract(fields(&[("in", nested.as_bytes())]), Some("in.deep")).unwrap(), expected);
    assert_eq!(extract(fields(&[("a", b"{}"), ("b", b"1\n")]), None).unwrap(), map(&[("a", "{}"), ("b", "1\n")]));
}

#[test]
fn data_wins_over_data_from_even_where_the_extracted_value_is_null_or_large() {
    let spec = spec(json!({
        "data": [{"secretKey": "A", "remoteRef": {"key": "one", "property": "x"}}],
        "dataFrom": [{"extract": {"key": "two"}}],
    }));
    for overridden in ["null".to_owned(), format!("\"{}\"", "x".repeat(MAX_SIZE))] {
        let two = format!("{{\"A\": {overridden}, \"B\": \"two\"}}");
        let read = reads(vec![("one", json_text(r#"{"x": "one"}"#)), ("two", json_text(&two))]);
        assert_eq!(texts(&data(&spec, &read).unwrap()), map(&[("A", "one"), ("B", "two")]));
    }
}

#[test]
fn each_failure_names_key_store_remote_secret_and_property_and_what_to_do() {
    use BuildErrorKind::{
        Collision, InvalidKey, NoData, NotAnObject, NullValue, PropertyMissing, TooLarge, TypeMismatch,
    };
    let one = |payload, property| single(payload, Some(property)).unwrap_err();
    let all = |payload, property| extract(payload, property).unwrap_err();
    let twice = data(
        &spec(json!({"dataFrom": [{"extract": {"key": "r"}}, {"extract": {"key": "q"}}]})),
        &reads(vec![("r", json_text(r#"{"A": "hunter2"}"#)), ("q", json_text(r#"{"A": "hunter2"}"#))]),
    )
    .unwrap_err();
    let listed_twice = data(
        &spec(json!({"data": [
            {"secretKey": "A", "remoteRef": {"key": "r"}}, {"secretKey": "A", "remoteRef": {"key": "r"}},
        ]})),
        &reads(vec![("r", bytes(b"hunter2"))]),
    )
    .unwrap_err();
    let large = format!("{{\"A\": \"{}\"}}", "hunter2".repeat(MAX_SIZE / 7 + 1));
    let cases: Vec<(BuildError, BuildErrorKind, &[&str])> = vec![
        (
            one(json_text(r#"{"a": "hunter2"}"#), "b.c"),
            PropertyMissing,
            &["key KEY", "property b.c", "secret r", "BotSecretStore vault", "add it there"],
        ),
        (one(json_text(r#"{"a": "hunter2"}"#), "a.b"), PropertyMissing, &["property a.b"]),
        (one(fields(&[("a", b"hunter2")]), "b"), PropertyMissing, &["property b"]),
        (one(fields(&[("a", b"hunter2")]), "a.b"), NotAnObject, &["property a.b"]),
        (one(bytes(b"hunter2"), "a"), NotAnObject, &["property a", "leave out property"]),
        (one(bytes(b"\"hunter2\""), "a"), NotAnObject, &["property a"]),
        (one(json_text(r#"["hunter2"]"#), "a"), NotAnObject, &["property a"]),
        (one(json_text("hunter2"), "a"), NotAnObject, &["property a"]),
        (one(json_text(r#"{"a": null, "b": "hunter2"}"#), "a"), NullValue, &["key KEY", "property a", "is null"]),
        (one(json_text(r#"{"a": "hunter2\ud800"}"#), "a"), TypeMismatch, &["key KEY", "property a"]),
        (all(json_text(r#"{"A": null, "b": "hunter2"}"#), None), NullValue, &["key A", "property A", "secret r"]),
        (all(json_text(r#"{"A": "hunter2"}"#), Some("A")), NotAnObject, &["dataFrom", "property A"]),
        (all(bytes(b"hunter2"), None), NotAnObject, &["dataFrom", "secret r", "entry under data"]),
        (all(json_text(r#"{"a/b": "hunter2"}"#), None), InvalidKey, &["\"a/b\"", "secret r", "rename"]),
        (all(json_text(r#"{"..": "hunter2"}"#), None), InvalidKey, &["\"..\""]),
        (all(json_text(&large), None), TooLarge, &["key A", "secret r", "split"]),
        (all(json_text("{}"), None), NoData, &["hold nothing"]),
        (twice, Collision, &["key A", "secret r", "secret q"]),
        (listed_twice, Collision, &["key A", "remove one"]),
    ];
    for (error, kind, words) in cases {
        assert_eq!(error.kind, kind, "{error}");
        for word in words {
            assert!(error.message.contains(word), "{word:?} is not in: {error}");
        }
        assert!(!format!("{error} {error:?}").contains("hunter2"), "p4: {error}");
    }
}

#[test]
fn an_entry_that_was_not_read_or_has_no_store_is_an_error_and_no_panic() {
    let read = spec(json!({"data": [{"secretKey": "A", "remoteRef": {"key": "r"}}]}));
    assert_eq!(data(&read, &Inputs::default()).unwrap_err().kind, BuildErrorKind::NoData);
    let mut no_store = read;
    no_store.store_ref = None;
    assert!(sources(&no_store).is_empty());
    assert_eq!(data(&no_store, &Inputs::default()).unwrap_err().kind, BuildErrorKind::NoData);
}

#[test]
fn keys_and_values_may_fill_a_mebibyte_to_the_last_byte() {
    let exactly = "x".repeat(MAX_SIZE - 3);
    assert!(single(bytes(exactly.as_bytes()), None).is_ok());
    assert_eq!(single(bytes(format!("{exactly}x").as_bytes()), None).unwrap_err().kind, BuildErrorKind::TooLarge);
    // Many keys of one large value stop at the limit, not at the machine's.
    let entries: Vec<Value> =
        (0..1000).map(|n| json!({"secretKey": format!("K{n}"), "remoteRef": {"key": "r"}})).collect();
    let spec = spec(json!({"data": entries}));
    let error = data(&spec, &reads(vec![("r", bytes(exactly.as_bytes()))])).unwrap_err();
    assert_eq!((error.kind, error.secret_key.as_deref()), (BuildErrorKind::TooLarge, Some("K1")));
}

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";

#[test]
fn typed_secrets_hold_what_their_type_asks_for() {
    let build = |type_name: &str, policy: &str, content: &str| {
        let spec = spec(json!({
            "dataFrom": [{"extract": {"key": "r"}}],
            "target": {"type": type_name, "creationPolicy": policy},
        }));
        data(&spec, &reads(vec![("r", json_text(content))])).map(|_| ())
    };
    let tls = |certificate: &str, key: &str| json!({"tls.crt": certificate, "tls.key": key}).to_string();
    let cases: [(&str, &str, Option<&str>); _] = [
        ("Opaque", r#"{"a": "1"}"#, None),
        ("kubernetes.io/tls", &tls(CERTIFICATE, KEY), None),
        (
            "kubernetes.io/tls",
            &tls(&format!("{CERTIFICATE}{CERTIFICATE}"), &KEY.replace("PRIVATE", "EC PRIVATE")),
            None,
        ),
        ("kubernetes.io/tls", &tls("hunter2", KEY), Some("tls.crt")),
        ("kubernetes.io/tls", &tls(KEY, KEY), Some("tls.crt")),
        ("kubernetes.io/tls", &tls(CERTIFICATE, CERTIFICATE), Some("tls.key")),
        ("kubernetes.io/tls", &tls(CERTIFICATE, ""), Some("tls.key")),
        ("kubernetes.io/tls", &tls(CERTIFICATE, &KEY.replace("MAA=", "hunter2!")), Some("tls.key")),
        ("kubernetes.io/tls", &tls(CERTIFICATE, &KEY.replace("-----END", "END")), Some("tls.key")),
        ("kubernetes.io/tls", &json!({"tls.crt": CERTIFICATE}).to_string(), Some("tls.key")),
        ("kubernetes.io/dockerconfigjson", r#"{".dockerconfigjson": {"auths": {}}}"#, None),
        ("kubernetes.io/dockerconfigjson", r#"{".dockerconfigjson": "hunter2"}"#, Some(".dockerconfigjson")),
        ("kubernetes.io/dockerconfigjson", r#"{"config": {}}"#, Some(".dockerconfigjson")),
        ("kubernetes.io/dockerconfigjson", r#"{".dockerconfigjson": {"registry": {}}}"#, Some(".dockerconfigjson")),
        ("kubernetes.io/dockerconfigjson", r#"{".dockerconfigjson": {"auths": "hunter2"}}"#, Some(".dockerconfigjson")),
        ("kubernetes.io/dockercfg", r#"{".dockercfg": "{}"}"#, None),
        ("kubernetes.io/dockercfg", r#"{".dockercfg": "[]"}"#, Some(".dockercfg")),
        ("kubernetes.io/basic-auth", r#"{"password": "p"}"#, None),
        ("kubernetes.io/basic-auth", r#"{"username": "u"}"#, None),
        ("kubernetes.io/basic-auth", r#"{"user": "u"}"#, Some("username")),
        ("kubernetes.io/ssh-auth", r#"{"ssh-privatekey": "k"}"#, None),
        ("kubernetes.io/ssh-auth", r#"{"ssh-privatekey": ""}"#, Some("ssh-privatekey")),
    ];
    for (type_name, content, missing) in cases {
        let key = match build(type_name, "Owner", content) {
            Ok(()) => None,
            Err(error) => {
                assert_eq!(error.kind, BuildErrorKind::TypeMismatch);
                assert!(error.message.contains(type_name) && !error.message.contains("hunter2"), "{error}");
                error.secret_key
            }
        };
        assert_eq!(key.as_deref(), missing, "{type_name}: {content}");
        assert!(build(type_name, "Merge", content).is_ok(), "the rest of the keys is somebody else's");
    }
    assert!(build("kubernetes.io/service-account-token", "Owner", r#"{"a": "1"}"#).is_err(), "p5");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map("[a-c./ ]{0,4}", inner, 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// The text that a JSON value stands for, told by serde_json's own printer.
fn expected_text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

proptest! {
    #[test]
    fn no_text_and_no_property_makes_it_panic(text in any::<String>(), value in any_json(), property in "[a-c0-9./ ]{0,6}") {
        for text in [text, value.to_string()] {
            for property in [None, Some(property.as_str())] {
                let _ = single(json_text(&text), property);
                let _ = single(bytes(text.as_bytes()), property);
                let _ = single(fields(&[("a", text.as_bytes())]), property);
                let _ = extract(json_text(&text), property);
                let _ = extract(fields(&[("a", text.as_bytes())]), property);
            }
        }
    }

    #[test]
    fn extract_gives_exactly_the_members_or_nothing(members in prop::collection::btree_map("[a-c./]{1,3}", any_json(), 1..6), pretty in any::<bool>()) {
        let object = json!(members);
        let text = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) }.unwrap();
        let expected: Option<BTreeMap<String, String>> = members
            .iter()
            .map(|(key, value)| Some((super::is_secret_key(key).then(|| key.clone())?, expected_text(value)?)))
            .collect();
        prop_assert_eq!(extract(json_text(&text), None).ok(), expected);
    }

    #[test]
    fn p1_one_failing_entry_leaves_no_data(wanted in prop::collection::vec("[a-f]", 1..6), held in prop::collection::btree_set("[a-f]", 1..6)) {
        let object: BTreeMap<&String, &str> = held.iter().map(|name| (name, "v")).collect();
        let entries: Vec<Value> = wanted
            .iter()
            .enumerate()
            .map(|(n, name)| json!({"secretKey": format!("K{n}"), "remoteRef": {"key": "r", "property": name}}))
            .collect();
        let built = data(&spec(json!({"data": entries})), &reads(vec![("r", json_text(&json!(object).to_string()))]));
        match built {
            Ok(built) => prop_assert_eq!(built.len(), wanted.len()),
            Err(error) => {
                prop_assert_eq!(error.kind, BuildErrorKind::PropertyMissing);
                prop_assert!(wanted.iter().any(|name| !held.contains(name)));
            }
        }
    }
}
