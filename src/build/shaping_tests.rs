//! Encodings, searches, rewriting, collisions and what becomes of them in
//! templates.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::needless_pass_by_value, reason = "json!(…) reads better without a borrow")]

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{BuildError, BuildErrorKind, Built, Inputs, Source, data, searches, sources};
use crate::{
    api::BotSecretSpec,
    secret::{SecretBytes, SecretText},
    stores::{Payload, RemoteSecret},
};

const CANARY: &str = "hunter2";

fn spec(fields: Value) -> BotSecretSpec {
    let mut whole = json!({"serviceAccountName": "bot", "storeRef": {"name": "vault"}});
    whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(whole).unwrap()
}

fn secret(payload: Payload) -> Arc<RemoteSecret> {
    Arc::new(RemoteSecret::of(payload))
}

fn json_of(value: &Value) -> Payload {
    Payload::Json(SecretText::new(value.to_string()))
}

/// Everything that a spec asks for, out of these remote secrets of any store;
/// each search finds them all.
fn inputs(spec: &BotSecretSpec, remote: &[(&str, Value)]) -> Inputs {
    let keys: Vec<String> = remote.iter().map(|(key, _)| (*key).to_owned()).collect();
    let mut inputs = Inputs::default();
    for search in searches(spec) {
        inputs.found.insert(search, keys.clone());
    }
    for source in sources(spec, &inputs.found) {
        if let Some((_, value)) = remote.iter().find(|(key, _)| **key == source.key.key) {
            let payload = match value {
                Value::String(text) => Payload::Bytes(SecretBytes::new(text.clone().into_bytes())),
                other => json_of(other),
            };
            inputs.reads.insert(source, secret(payload));
        }
    }
    inputs
}

fn build(fields: Value, remote: &[(&str, Value)]) -> Result<Built, BuildError> {
    let spec = spec(fields);
    data(&spec, &inputs(&spec, remote))
}

fn texts(fields: Value, remote: &[(&str, Value)]) -> Result<BTreeMap<String, String>, BuildError> {
    let built = build(fields, remote)?;
    let text = |value: &SecretBytes| String::from_utf8_lossy(value.expose()).into_owned();
    Ok(built.data.iter().map(|(key, value)| (key.clone(), text(value))).collect())
}

fn map(members: &[(&str, &str)]) -> BTreeMap<String, String> {
    members.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn values_are_decoded_wherever_they_come_from() {
    let remote = [("r", json!({"a": "aGk=", "b": "-_8"})), ("w", json!("aGk=\n"))];
    let data = json!({"data": [
        {"secretKey": "A", "remoteRef": {"key": "r", "property": "a", "decodingStrategy": "Base64"}},
        {"secretKey": "B", "remoteRef": {"key": "w", "decodingStrategy": "Auto"}},
        {"secretKey": "C", "remoteRef": {"key": "w", "decodingStrategy": "None"}},
    ]});
    assert_eq!(texts(data, &remote).unwrap(), map(&[("A", "hi"), ("B", "hi"), ("C", "aGk=\n")]));
    let extract = json!({"dataFrom": [{"extract": {"key": "r", "decodingStrategy": "Base64URL"}}]});
    let built = build(extract, &[("r", json!({"b": "-_8"}))]).unwrap();
    assert_eq!(built.data["b"].expose(), b"\xfb\xff");
    let find = json!({"dataFrom": [{"find": {"path": "w", "decodingStrategy": "Base64"}}]});
    assert_eq!(texts(find, &[("w/x", json!("aGk="))]).unwrap(), map(&[("x", "hi")]));
    for fields in [
        json!({"data": [{"secretKey": "K", "remoteRef": {"key": "w", "decodingStrategy": "Base64"}}]}),
        json!({"dataFrom": [{"extract": {"key": "r", "decodingStrategy": "Base64"}}]}),
        json!({"dataFrom": [{"find": {"path": "w", "decodingStrategy": "Base64URL"}}]}),
    ] {
        let remote = [("w", json!(format!("{CANARY}!"))), ("r", json!({"K": format!("{CANARY}!")}))];
        let error = build(fields, &remote).map(drop).unwrap_err();
        assert_eq!(error.kind, BuildErrorKind::NotEncoded);
        let key = error.secret_key.clone().unwrap();
        assert!(error.message.contains(&format!("key {key}")) && error.message.contains("decodingStrategy"), "{error}");
        assert!(!format!("{error:?}").contains(CANARY), "{error}");
    }
}

#[test]
fn metadata_is_read_beside_the_value_of_the_same_secret() {
    let spec = spec(json!({
        "data": [
            {"secretKey": "V", "remoteRef": {"key": "r", "property": "x"}},
            {"secretKey": "OWNER", "remoteRef": {"key": "r", "property": "owner", "metadataPolicy": "Fetch"}},
        ],
        "dataFrom": [{"extract": {"key": "q", "metadataPolicy": "Fetch"}}],
    }));
    let asked = sources(&spec, &BTreeMap::new());
    let shown: Vec<_> = asked.iter().map(|source| source.key.to_string()).collect();
    assert_eq!(shown, ["r", "r (metadata)", "q (metadata)"]);
    let values = [json!({"x": "1"}), json!({"owner": "me"}), json!({"team": "t"})];
    let reads = asked.into_iter().zip(values.iter().map(|value| secret(json_of(value)))).collect();
    let built = data(&spec, &Inputs { reads, ..Inputs::default() }).unwrap();
    assert_eq!(built.data.keys().collect::<Vec<_>>(), ["OWNER", "V", "team"]);
    assert_eq!(built.data["OWNER"].expose(), b"me");
}

#[test]
fn each_found_secret_is_one_key_and_two_that_become_one_are_refused() {
    let find = json!({"dataFrom": [{"find": {"path": "prod/bots", "name": {"regexp": "."}, "tags": {"a": "b"}}}]});
    let asked = searches(&spec(find.clone()));
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].query.path.as_deref(), asked[0].query.name.as_deref()), (Some("prod/bots"), Some(".")));
    let remote = [("prod/bots/price", json!("p")), ("prod/bots/a/b c", json!({"whole": 1.0}))];
    assert_eq!(texts(find.clone(), &remote).unwrap(), map(&[("price", "p"), ("a_b_c", r#"{"whole":1.0}"#)]));
    let clash = [("prod/bots/a/b", json!(CANARY)), ("prod/bots/a_b", json!(CANARY))];
    let error = build(find.clone(), &clash).map(drop).unwrap_err();
    assert_eq!(error.kind, BuildErrorKind::Collision);
    for word in ["key a_b", "prod/bots/a/b", "prod/bots/a_b", "one entry", "rewrite"] {
        assert!(error.message.contains(word), "{word} is not in: {error}");
    }
    assert_eq!(build(find.clone(), &[]).map(drop).unwrap_err().kind, BuildErrorKind::NoData);
    // What was not searched, or not read, is an error and no empty list.
    let spec = spec(find);
    assert_eq!(data(&spec, &Inputs::default()).map(drop).unwrap_err().kind, BuildErrorKind::NoData);
    let mut unread = inputs(&spec, &remote);
    unread.reads.clear();
    assert_eq!(data(&spec, &unread).map(drop).unwrap_err().kind, BuildErrorKind::NoData);
}

#[test]
fn names_are_rewritten_step_by_step_and_checked_at_the_end() {
    let rewritten = |steps: Value, remote: Value| {
        texts(json!({"dataFrom": [{"extract": {"key": "r"}, "rewrite": steps}]}), &[("r", remote)])
    };
    let one = json!({"api-key": "1"});
    for (steps, name) in [
        (json!([]), "api-key"),
        (json!([{"regexp": {"source": "-", "target": "_"}}]), "api_key"),
        (json!([{"regexp": {"source": "^(?P<first>[a-z]+)-(.*)$", "target": "${2}.${first}"}}]), "key.api"),
        (json!([{"regexp": {"source": "^([a-z]+)-(.*)$", "target": "$2-$1"}}]), "key-api"),
        (json!([{"regexp": {"source": "x*", "target": "."}}]), ".a.p.i.-.k.e.y."),
        (json!([{"transform": {"template": "{{ value | upper | replace('-', '_') }}"}}]), "API_KEY"),
        (json!([{"transform": {"template": "{% if value == 'api-key' %}KEY{% else %}{{ value }}{% endif %}"}}]), "KEY"),
        (json!([{"prefix": "bot."}]), "bot.api-key"),
        (
            json!([{"regexp": {"source": "-", "target": "_"}}, {"prefix": "p_"}, {"transform": {"template": "{{ value | upper }}"}}]),
            "P_API_KEY",
        ),
    ] {
        assert_eq!(rewritten(steps.clone(), one.clone()).unwrap(), map(&[(name, "1")]), "{steps}");
    }
    // A name that no key can have may be mended.
    let mend = json!([{"regexp": {"source": "[^A-Za-z0-9]", "target": "_"}}]);
    assert_eq!(rewritten(mend, json!({"a/b c": "1"})).unwrap(), map(&[("a_b_c", "1")]));
    let spoilt = rewritten(json!([{"prefix": "a/"}]), json!({"b": CANARY})).unwrap_err();
    assert_eq!(spoilt.kind, BuildErrorKind::InvalidKey);
    assert!(spoilt.message.contains("\"a/b\" (made of \"b\")") && !spoilt.message.contains(CANARY), "{spoilt}");
    let clash = rewritten(json!([{"regexp": {"source": "[0-9]", "target": ""}}]), json!({"a1": "1", "a2": "2"}));
    let clash = clash.unwrap_err();
    assert_eq!(clash.kind, BuildErrorKind::Collision);
    assert!(clash.message.contains("property \"a1\" of ") && clash.message.contains("property \"a2\" of "), "{clash}");
    for (steps, words) in [
        (
            json!([{"prefix": "a"}, {"regexp": {"source": "(", "target": ""}}]),
            ["entry 1, rewrite step 2", "regular expression"],
        ),
        (json!([{"regexp": {"source": "(a{1000}){1000}", "target": ""}}]), ["rewrite step 1", "too large"]),
        (json!([{"regexp": {"source": "a(?=b)", "target": ""}}]), ["rewrite step 1", "look-around"]),
        (json!([{"transform": {"template": "{{ values }}"}}]), ["rewrite step 1", "nothing fills values"]),
        (
            json!([{"transform": {"template": "{{ value | nothing }}"}}]),
            ["rewrite step 1", "filter that does not exist"],
        ),
        (
            json!([{"transform": {"template": "{% for x in range(9000) %}{{ value }}{% endfor %}"}}]),
            ["step 1", "more than"],
        ),
        (
            json!([{"regexp": {"source": ".*", "target": "$0".repeat(300)}}, {"regexp": {"source": ".*", "target": "$0".repeat(300)}}]),
            ["rewrite step 2", "more than 1024 bytes"],
        ),
        (json!([{}]), ["rewrite step 1", "exactly one"]),
    ] {
        let error = rewritten(steps.clone(), json!({"abc": CANARY})).unwrap_err();
        assert_eq!(error.kind, BuildErrorKind::Rewrite, "{steps}");
        for word in words {
            assert!(error.message.contains(word), "{word:?} is not in: {error}");
        }
        assert!(!format!("{error:?}").contains(CANARY));
    }
}

#[test]
fn p6_no_name_and_no_expression_makes_a_rewrite_work_for_long() {
    let rewritten = |steps: &Value, remote: &Value| {
        texts(json!({"dataFrom": [{"extract": {"key": "r"}, "rewrite": steps}]}), &[("r", remote.clone())])
    };
    let began = std::time::Instant::now();
    // Each match of these looks at all that is left of the name.
    let slow = [r"[^\n]*Q|.", "[a-z0-9]{1,200}Q|.", r"(?:\w.*)?Q|."].map(
        |source| json!([{"regexp": {"source": source, "target": "$0"}}, {"regexp": {"source": "a+", "target": ""}}]),
    );
    let many: serde_json::Map<_, _> =
        (0..1000).map(|name| (format!("{name:04}{}", "a".repeat(1000)), json!("1"))).collect();
    let endless = json!({ "a".repeat(1_000_000): "1" });
    for steps in slow.iter().chain([&json!([{"prefix": "p"}])]) {
        let error = rewritten(steps, &endless).unwrap_err();
        assert_eq!(error.kind, BuildErrorKind::Rewrite);
        assert!(error.message.contains("step 1: it is given a name of more than 1024 bytes"), "{error}");
    }
    for steps in slow {
        let error = rewritten(&steps, &Value::Object(many.clone())).unwrap_err();
        assert!(error.message.contains("too much to search"), "{error}");
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(60), "{:?}", began.elapsed());
    // What people write has room: a search that finds thousands of secrets.
    let found: serde_json::Map<_, _> =
        (0..5000).map(|name| (format!("trading/bots/price-bot-{name}/api-key"), json!("1"))).collect();
    for source in ["[^A-Za-z0-9]", r"(\w+)/(\w+)/([\w-]+)", "(?i)BOTS|KEY", r"[\W_]+"] {
        let made = rewritten(
            &json!([{"regexp": {"source": source, "target": "_"}}, {"regexp": {"source": "/", "target": "."}}]),
            &Value::Object(found.clone()),
        );
        if let Err(error) = made {
            assert_eq!(error.kind, BuildErrorKind::Collision, "{source}: {error}");
        }
    }
}

#[test]
fn data_wins_over_a_rewritten_name_and_a_later_entry_only_where_told() {
    let remote = [("one", json!({"A": "1", "B": "1"})), ("two", json!({"a": "2", "c": null}))];
    let upper = json!([{"transform": {"template": "{{ value | upper }}"}}]);
    let wins = json!({
        "data": [{"secretKey": "C", "remoteRef": {"key": "one", "property": "A"}}],
        "dataFrom": [{"extract": {"key": "one"}}, {"extract": {"key": "two"}, "rewrite": upper, "onCollision": "Replace"}],
    });
    assert_eq!(texts(wins.clone(), &remote).unwrap(), map(&[("A", "2"), ("B", "1"), ("C", "1")]));
    let mut refused = wins;
    refused["dataFrom"][1]["onCollision"] = json!("Refuse");
    let error = texts(refused, &remote).unwrap_err();
    assert_eq!(error.kind, BuildErrorKind::Collision);
    assert!(error.message.contains("onCollision") && error.message.contains("key A"), "{error}");
    // What was replaced counts no more.
    let large = "x".repeat(super::MAX_SIZE / 2 + 1000);
    let remote = [("one", json!({"A": large})), ("two", json!({"A": large}))];
    let replaced =
        json!({"dataFrom": [{"extract": {"key": "one"}}, {"extract": {"key": "two"}, "onCollision": "Replace"}]});
    assert_eq!(texts(replaced, &remote).unwrap().len(), 1);
}

#[test]
fn an_issued_credential_fills_keys_as_an_extract_does() {
    let spec = spec(json!({"dataFrom": [
        {"extract": {"key": "r"}},
        {"dynamic": {"path": "database/creds/bots"}, "rewrite": [{"prefix": "DB_"}]},
    ]}));
    assert_eq!(sources(&spec, &BTreeMap::new()).len(), 1, "it is issued, not read");
    let mut all = inputs(&spec, &[("r", json!({"A": "1"}))]);
    let error = data(&spec, &all).map(drop).unwrap_err();
    assert!(error.message.contains("database/creds/bots"), "{error}");
    all.issued.insert(1, secret(json_of(&json!({"username": "u", "password": "p"}))));
    let built = data(&spec, &all).unwrap();
    assert_eq!(built.data.keys().collect::<Vec<_>>(), ["A", "DB_password", "DB_username"]);
    all.issued.insert(1, secret(json_of(&json!({"username": null}))));
    let error = data(&spec, &all).map(drop).unwrap_err();
    assert!(error.message.contains("issued by database/creds/bots"), "{error}");
}

#[test]
fn templates_replace_what_was_read_or_join_it() {
    let fields = |policy: Option<&str>| {
        json!({
            "dataFrom": [{"extract": {"key": "r"}, "rewrite": [{"transform": {"template": "{{ value | upper }}"}}]}],
            "target": {"template": {"data": {"URL": "{{ postgres_url(user=USER, password=PASSWORD, host='db') }}", "USER": "u:{{ USER }}"}, "mergePolicy": policy}},
        })
    };
    let remote = [("r", json!({"user": "bot", "password": "a/b"}))];
    let made = [("URL", "postgresql://bot:a%2Fb@db"), ("USER", "u:bot")];
    assert_eq!(texts(fields(None), &remote).unwrap(), map(&made));
    assert_eq!(texts(fields(Some("Replace")), &remote).unwrap(), map(&made));
    let merged = [made[0], made[1], ("PASSWORD", "a/b")];
    assert_eq!(texts(fields(Some("Merge")), &remote).unwrap(), map(&merged));
    // The type's keys may come from templates, and are checked after them.
    let typed = |template: &str| {
        json!({
            "dataFrom": [{"extract": {"key": "r"}}],
            "target": {"type": "kubernetes.io/dockerconfigjson", "template": {"data": {".dockerconfigjson": template}}},
        })
    };
    let good = "{{ {'auths': {'r.example': {'username': user, 'password': password}}} | tojson }}";
    assert!(texts(typed(good), &remote).is_ok());
    assert_eq!(texts(typed("{{ user }}"), &remote).unwrap_err().kind, BuildErrorKind::TypeMismatch);
    let nothing = json!({"dataFrom": [{"extract": {"key": "r"}}], "target": {"template": {"data": {}}}});
    assert_eq!(texts(nothing, &remote).unwrap_err().kind, BuildErrorKind::NoData);
}

#[test]
fn keys_roll_nobody_where_told_where_they_end_by_themselves_and_where_made_of_such() {
    let spec = spec(json!({
        "data": [
            {"secretKey": "QUIET", "remoteRef": {"key": "r", "property": "a"}, "rolls": false},
            {"secretKey": "LOUD", "remoteRef": {"key": "r", "property": "a"}},
            {"secretKey": "TOKEN", "remoteRef": {"key": "token", "property": "a"}},
            {"secretKey": "LOUD_TOKEN", "remoteRef": {"key": "token", "property": "a"}, "rolls": true},
        ],
        "dataFrom": [{"extract": {"key": "q"}, "rolls": false}],
        "target": {"template": {"mergePolicy": "Merge", "data": {
            "HEADER": "Bearer {{ TOKEN }}", "BOTH": "{{ TOKEN }}{{ LOUD }}", "ALL": "{{ secrets | length }}", "FIXED": "x",
            "QUIET": "{{ LOUD }}",
        }}},
    }));
    let mut all = inputs(&spec, &[("r", json!({"a": "1"})), ("q", json!({"b": "1"}))]);
    let store = spec.store_ref.clone().unwrap();
    let token = RemoteSecret { renew: Some(Instant::now()), ..RemoteSecret::of(json_of(&json!({"a": "t"}))) };
    all.reads.insert(Source::new(&store, "token", None), Arc::new(token));
    let built = data(&spec, &all).unwrap();
    assert_eq!(built.quiet.iter().map(String::as_str).collect::<Vec<_>>(), ["HEADER", "TOKEN", "b"]);
}

fn step() -> impl Strategy<Value = Value> {
    prop_oneof![
        ("\\PC{0,12}", "[$0-9{}a-z_]{0,8}")
            .prop_map(|(source, target)| json!({"regexp": {"source": source, "target": target}})),
        ("[a-z.*+?()\\[\\]|]{0,10}", "[$0-9{}a-z]{0,8}")
            .prop_map(|(source, target)| json!({"regexp": {"source": source, "target": target}})),
        "\\PC{0,16}".prop_map(|template| json!({"transform": {"template": template}})),
        "[a-z/]{1,3}".prop_map(|prefix| json!({"prefix": prefix})),
    ]
}

proptest! {
    #[test]
    fn no_step_and_no_name_makes_it_panic_leak_or_differ(
        steps in prop::collection::vec(step(), 0..5),
        names in prop::collection::btree_set("\\PC{0,12}", 1..4),
        decoding in prop::sample::select(vec!["None", "Base64", "Base64URL", "Auto"]),
    ) {
        let canary = "canary-7d1e!";
        let object: BTreeMap<&String, &str> = names.iter().map(|name| (name, canary)).collect();
        for entry in [
            json!({"extract": {"key": "r", "decodingStrategy": decoding}, "rewrite": steps, "onCollision": "Replace"}),
            json!({"find": {"path": "r", "decodingStrategy": decoding}, "rewrite": steps}),
        ] {
            let remote = [("r", json!(object)), ("r/2", json!(canary))];
            let (one, other) = (build(json!({"dataFrom": [entry]}), &remote), build(json!({"dataFrom": [entry]}), &remote));
            match (one, other) {
                (Ok(one), Ok(other)) => {
                    prop_assert_eq!(&one.data, &other.data);
                    prop_assert!(one.data.keys().all(|key| super::is_secret_key(key)));
                }
                (Err(one), Err(other)) => {
                    let shown = format!("{one} {one:?}");
                    prop_assert!(!shown.contains(canary), "{}", shown);
                    prop_assert_eq!(one, other);
                }
                _ => prop_assert!(false, "once so, once otherwise"),
            }
        }
    }
}
