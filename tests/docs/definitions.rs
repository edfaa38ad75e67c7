//! The custom resource definitions, as they are written to `crds/`.

use std::collections::BTreeMap;

use botsecret::cli::crds;
use serde_json::Value;

/// Each definition by its kind.
pub fn definitions() -> BTreeMap<String, Value> {
    let definition = |document: &crds::Document| {
        let definition: Value = serde_yaml::from_str(&document.yaml).expect("YAML");
        (text(&definition["spec"]["names"]["kind"]).to_owned(), definition)
    };
    crds::documents().expect("YAML").iter().map(definition).collect()
}

/// The schema of its only version.
pub fn schema(definition: &Value) -> &Value {
    &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

/// The fields of an object, each with its schema.
pub fn fields(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
