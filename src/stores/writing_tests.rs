//! What is written back keeps the rest, and is found again where it is read.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::{Change, sealed, sized};
use crate::{
    build::{self, Inputs},
    secret::SecretBytes,
    stores::{ErrorClass, Payload, RemoteKey, RemoteSecret, StoreError, WriteBack, testing::key},
};

fn secret(text: &str) -> SecretBytes {
    SecretBytes::new(text.as_bytes().to_vec())
}

fn changed(content: &str, properties: &[(&str, &str)]) -> Result<String, StoreError> {
    let properties: Vec<_> =
        properties.iter().map(|(property, value)| (Some((*property).to_owned()), secret(value))).collect();
    let key = key("a", None);
    let write = WriteBack { key: &key, properties: &properties, base: None, attempt: "one" };
    let new = Change::of(&write)?.applied(Some(content.as_bytes()))?;
    Ok(String::from_utf8(new.into_exposed()).expect("text"))
}

#[test]
fn a_property_is_replaced_in_place_and_every_other_byte_stays() {
    for (content, property, new) in [
        (r#"{"a":"old","b":1.10}"#, "a", r#"{"a":"new","b":1.10}"#),
        ("\n{ \"b\" : 1e400,\n\t\"a\" : \"o\\u006cd\" }\n", "a", "\n{ \"b\" : 1e400,\n\t\"a\" : \"new\" }\n"),
        (r#"{"z":"ż","a":{"b":[{"c":null}, 2.0]}}"#, "a.b.0.c", r#"{"z":"ż","a":{"b":[{"c":"new"}, 2.0]}}"#),
        (r#"{"a.b":"literal","a":{"b":"path"}}"#, "a.b", r#"{"a.b":"new","a":{"b":"path"}}"#),
        (r#"{"a":{"b.c":"literal","b":{"c":1}}}"#, "a.b.c", r#"{"a":{"b.c":"new","b":{"c":1}}}"#),
        (r#"{"a":[1,[2,3]]}"#, "a.1.0", r#"{"a":[1,["new",3]]}"#),
        // Of two members with one name the last one is read.
        (r#"{"a":"one","a":"two"}"#, "a", r#"{"a":"one","a":"new"}"#),
        // What is not there yet is added to the object that it lies in.
        (r"{}", "a", r#"{"a":"new"}"#),
        ("{ }", "a", "{\"a\":\"new\" }"),
        ("{\n  \"b\": \"x\"\n}\n", "a", "{\n  \"b\": \"x\",\"a\":\"new\"\n}\n"),
        (r#"{"b":{"c":1},"d":2}"#, "b.a", r#"{"b":{"c":1,"a":"new"},"d":2}"#),
        (r#"{"a.key":1}"#, "a.pub", r#"{"a.key":1,"a.pub":"new"}"#),
        (r#"{"b":{}}"#, "b.a.pub", r#"{"b":{"a.pub":"new"}}"#),
    ] {
        assert_eq!(changed(content, &[(property, "new")]).as_deref(), Ok(new), "{property}");
    }
    let both = changed(r#"{"a":"1","b":"2","c":3}"#, &[("b", "\"\\\n"), ("a", "ż")]);
    assert_eq!(both.as_deref(), Ok(r#"{"a":"ż","b":"\"\\\n","c":3}"#));
}

#[test]
fn p4_what_cannot_be_written_is_refused_without_a_byte_of_it() {
    for (content, property) in [
        ("canary", "a"),
        ("", "a"),
        (r#"["canary"]"#, "0"),
        (r#""canary""#, "a"),
        (r#"{"a":"canary""#, "a"),
        (r#"{"canary":1}"#, ""),
        (r#"{"a":"canary"}"#, "a.b"),
        (r#"{"a":["canary"]}"#, "a.1"),
        (r#"{"a":["canary"]}"#, "a.x"),
        (r#"{"\ud800canary":1}"#, "a"),
    ] {
        let error = changed(content, &[(property, "canary")]).expect_err(content);
        assert_eq!(error.class, ErrorClass::Invalid, "{content} {property}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
    let (key, bytes) = (key("a", None), SecretBytes::new(vec![0xff, 0xfe]));
    let properties = [(Some("a".to_owned()), bytes)];
    let write = WriteBack { key: &key, properties: &properties, base: None, attempt: "one" };
    let error = Change::of(&write).and_then(|change| change.applied(Some(b"{}"))).expect_err("no text");
    assert_eq!(error.class, ErrorClass::Invalid);
}

#[test]
fn the_whole_is_any_bytes_and_is_not_mixed_with_properties() {
    let (key, whole) = (key("a", None), [(None, SecretBytes::new(vec![0xff, 0]))]);
    let write = |properties| WriteBack { key: &key, properties, base: None, attempt: "one" };
    let change = Change::of(&write(&whole)).expect("valid");
    assert!(change.is_whole());
    for content in [None, Some(&b"anything"[..])] {
        assert_eq!(change.applied(content).expect("valid").expose(), [0xff, 0]);
    }
    let mixed = [(None, secret("a")), (Some("b".to_owned()), secret("b"))];
    for properties in [&mixed[..], &[]] {
        assert_eq!(Change::of(&write(properties)).expect_err("refused").class, ErrorClass::Invalid);
    }
}

#[test]
fn versions_and_metadata_are_not_written() {
    let whole = [(None, secret("a"))];
    for key in [key("a", Some("3")), RemoteKey { metadata: true, ..key("a", None) }] {
        let write = WriteBack { key: &key, properties: &whole, base: None, attempt: "one" };
        assert_eq!(Change::of(&write).expect_err("refused").class, ErrorClass::Invalid, "{key}");
    }
}

#[test]
fn what_is_too_large_or_empty_is_refused_before_it_is_sent() {
    assert!(sized(&secret(&"x".repeat(64)), 64, "AWS").is_ok());
    let error = sized(&secret(&"x".repeat(65)), 64, "AWS").expect_err("too large");
    assert_eq!(error.class, ErrorClass::Invalid);
    assert!(error.message.contains("65 bytes") && error.message.contains("AWS takes 64"), "{error}");
    assert_eq!(sized(&secret(""), 64, "AWS").expect_err("empty").class, ErrorClass::Invalid);
}

#[test]
fn p4_a_body_is_made_without_growing() {
    let worst = "\u{1}".repeat(1000);
    let body = sealed(&json!({"SecretString": worst}), worst.len()).expect("valid");
    assert!(body.len() > 6000 && body.len() <= 6 * worst.len() + 4096, "{}", body.len());
}

/// The value that a reference finds, as the pipeline does.
fn read(content: &str, property: &str) -> Option<String> {
    let spec = serde_json::from_value(json!({
        "serviceAccountName": "bot", "storeRef": {"name": "store"},
        "data": [{"secretKey": "VALUE", "remoteRef": {"key": "a", "property": property}}],
    }))
    .expect("a spec");
    let payload = Payload::Bytes(secret(content));
    let remote = Arc::new(RemoteSecret::of(payload));
    let mut inputs = Inputs::default();
    for source in build::sources(&spec, &inputs.found) {
        inputs.reads.insert(source, Arc::clone(&remote));
    }
    let mut built = build::data(&spec, &inputs).ok()?;
    String::from_utf8(built.data.remove("VALUE")?.into_exposed()).ok()
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let name = || prop::sample::select(vec!["a", "b", "a.b", "0", "b.0"]);
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<u32>().prop_map(|number| json!(number)),
        "\\PC*".prop_map(|text| json!(text))
    ];
    let inner = leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(serde_json::Value::Array),
            prop::collection::btree_map(name().prop_map(str::to_owned), inner, 0..4).prop_map(|members| json!(members)),
        ]
    });
    let names = prop::sample::select(vec!["a", "b", "a.b", "0", "b.0"]);
    prop::collection::btree_map(names.prop_map(str::to_owned), inner, 0..4).prop_map(|members| json!(members))
}

proptest! {
    #[test]
    fn what_was_written_is_what_the_reference_reads_and_nothing_else_changed(
        content in any_json(),
        property in prop::sample::select(vec!["a", "b", "a.b", "a.0", "b.0.a", "a.b.0", "b.a.b", "0.a"]),
        value in "\\PC*",
        pretty in any::<bool>(),
    ) {
        let text = if pretty { serde_json::to_string_pretty(&content) } else { serde_json::to_string(&content) };
        let text = text.expect("JSON");
        let before = read(&text, property);
        match changed(&text, &[(property, &value)]) {
            Ok(new) => {
                prop_assert_eq!(read(&new, property), Some(value));
                for name in content.as_object().expect("an object").keys() {
                    if property != name && !property.starts_with(&format!("{name}.")) {
                        prop_assert_eq!(read(&new, name), read(&text, name), "{}", name);
                    }
                }
            }
            Err(error) => {
                prop_assert_eq!(error.class, ErrorClass::Invalid);
                prop_assert_eq!(before, None);
            }
        }
    }
}
