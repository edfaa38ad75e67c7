use serde_json::{Value, json};

use super::foresee;
use crate::{
    api::BotSecretSpec,
    build::{BuildErrorKind, Inputs, sources},
    secret::SecretText,
    stores::{Payload, RemoteSecret},
};

fn spec(change: &Value) -> BotSecretSpec {
    let mut spec = json!({
        "serviceAccountName": "bot", "storeRef": { "name": "vault" },
        "data": [{ "secretKey": "KEY", "remoteRef": { "key": "plain", "property": "key" } }],
        "dataFrom": [{ "dynamic": { "path": "database/creds/bot" } }],
    });
    for (name, value) in change.as_object().into_iter().flatten() {
        spec[name] = value.clone();
    }
    serde_json::from_value(spec).expect("a spec")
}

/// What comes of it where every remote secret holds `{"key":"value"}`.
fn outcome(change: &Value) -> Option<BuildErrorKind> {
    let spec = spec(change);
    let read = || RemoteSecret::of(Payload::Json(SecretText::new(r#"{"key":"value"}"#.to_owned())));
    let mut inputs = Inputs::default();
    for source in sources(&spec, &inputs.found) {
        inputs.reads.insert(source, read().into());
    }
    foresee(&spec, &inputs).err().map(|error| error.kind)
}

#[test]
fn p7_what_shows_without_the_values_is_found_before_anything_is_issued() {
    let issued = json!({ "dynamic": { "path": "database/creds/bot" } });
    let rewritten = |step: Value| json!([{ "dynamic": { "path": "database/creds/bot" }, "rewrite": [step] }]);
    let template = |text: &str| json!({ "target": { "template": { "data": { "URL": text } } } });
    let table = [
        (json!({}), None),
        (template("{{ username }}:{{ password }}"), None),
        (template("{{ username"), Some(BuildErrorKind::Template)),
        (template("{% if username %}"), Some(BuildErrorKind::Template)),
        (
            json!({ "data": [{ "secretKey": "KEY", "remoteRef": { "key": "plain", "property": "nosuch" } }] }),
            Some(BuildErrorKind::PropertyMissing),
        ),
        (
            json!({ "dataFrom": rewritten(json!({ "regexp": { "source": "(", "target": "x" } })) }),
            Some(BuildErrorKind::Rewrite),
        ),
        (
            json!({ "dataFrom": rewritten(json!({ "transform": { "template": "{{ value" } })) }),
            Some(BuildErrorKind::Rewrite),
        ),
        (json!({ "dataFrom": rewritten(json!({ "transform": { "template": "{{ value | upper }}" } })) }), None),
        // Two of one kind.
        (json!({ "dataFrom": [issued, issued] }), Some(BuildErrorKind::Collision)),
        (
            json!({ "dataFrom": [issued, { "dynamic": { "path": "database/creds/bot", "method": "GET" }, "storeRef": { "name": "vault" } }] }),
            Some(BuildErrorKind::Collision),
        ),
        (
            json!({ "dataFrom": [issued, { "dynamic": { "path": "database/creds/bot" }, "onCollision": "Replace" }] }),
            None,
        ),
        (
            json!({ "dataFrom": [issued, { "dynamic": { "path": "database/creds/bot" }, "rewrite": [{ "prefix": "b_" }] }] }),
            None,
        ),
        (json!({ "dataFrom": [issued, { "dynamic": { "path": "database/creds/other" } }] }), None),
        (
            json!({ "dataFrom": [issued, { "dynamic": { "path": "database/creds/bot" }, "storeRef": { "name": "other" } }] }),
            None,
        ),
    ];
    for (change, wanted) in table {
        assert_eq!(outcome(&change), wanted, "{change}");
    }
}
