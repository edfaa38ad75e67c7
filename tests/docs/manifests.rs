//! Manifests in the pages are such as the definitions take.

use std::collections::BTreeMap;

use serde::Deserialize as _;
use serde_json::Value;

use crate::{
    definitions::{definitions, schema, text},
    markdown::{blocks, name, pages, read},
};

/// What a schema does not take. Of a part of a manifest nothing is missing.
fn refused(schema: &Value, value: &Value, path: &str, is_whole: bool, found: &mut Vec<String>) {
    let fits = match schema["type"].as_str() {
        Some("array") => value.is_array(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("object") => value.is_object(),
        Some("string") => value.is_string(),
        _ => true,
    };
    if !fits {
        found.push(format!("{path} is no {}", text(&schema["type"])));
    }
    if schema["enum"].as_array().is_some_and(|allowed| !allowed.contains(value)) {
        found.push(format!("{path} may not be {value}"));
    }
    for (field, inner) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{field}");
        let known = [&schema["properties"][field], &schema["additionalProperties"]];
        match known.into_iter().find(|known| known.is_object()) {
            Some(known) => refused(known, inner, &path, is_whole, found),
            None => found.push(format!("there is no {path}")),
        }
    }
    if is_whole && value.is_object() {
        let required = schema["required"].as_array().into_iter().flatten().map(text);
        let missing = required.filter(|field| value.get(field).is_none());
        found.extend(missing.map(|field| format!("{path}.{field} is missing")));
    }
    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
        refused(&schema["items"], item, &format!("{path}[{number}]"), is_whole, found);
    }
}

/// What the definition does not take of a manifest.
fn errors(definition: &Value, manifest: &Value, is_whole: bool) -> Vec<String> {
    let schema = schema(definition);
    let mut found = Vec::new();
    for (field, inner) in manifest.as_object().into_iter().flatten() {
        match field.as_str() {
            "apiVersion" | "kind" | "metadata" => {}
            "spec" => refused(&schema["properties"]["spec"], inner, "spec", is_whole, &mut found),
            other => found.push(format!("there is no {other} to write")),
        }
    }
    if is_whole {
        let rules = kube_cel::Validator::new().validate(schema, manifest, None);
        let broken = rules.err().map(kube_cel::ValidationErrors::into_vec).into_iter().flatten();
        found.extend(broken.map(|error| error.message));
    }
    found
}

/// What is wrong with one of ours; `None` for anything else. A part, such as `spec`
/// alone, must fit one of the kinds.
fn judge(definitions: &BTreeMap<String, Value>, manifest: &Value) -> Option<(bool, Vec<String>)> {
    let fields = manifest.as_object()?;
    let version = fields.get("apiVersion").map(text);
    let is_whole = version.is_some_and(|version| version.starts_with("botsecret.dev/"));
    let only_ours = fields.keys().all(|field| ["kind", "metadata", "spec"].contains(&field.as_str()));
    if !(is_whole || only_ours && fields.contains_key("spec")) {
        return None;
    }
    let kind = fields.get("kind").map(text);
    let candidates = definitions.iter().filter(|(known, _)| kind.is_none_or(|kind| kind == known.as_str()));
    let verdicts = candidates.map(|(_, definition)| errors(definition, manifest, is_whole));
    let best = verdicts.min_by_key(Vec::len);
    Some((is_whole, best.unwrap_or_else(|| vec![format!("there is no kind {}", kind.unwrap_or_default())])))
}

#[test]
fn every_manifest_in_the_pages_is_one_that_the_definitions_take() {
    let definitions = definitions();
    let (mut whole, mut parts, mut wrong) = (0, 0, Vec::new());
    for page in pages() {
        for (line, block) in blocks(&read(&page), "yaml") {
            if block.contains('…') {
                continue;
            }
            let place = format!("{}:{line}", name(&page));
            for document in serde_yaml::Deserializer::from_str(&block) {
                let manifest = Value::deserialize(document).unwrap_or_else(|error| panic!("{place}: {error}"));
                let Some((is_whole, errors)) = judge(&definitions, &manifest) else { continue };
                *(if is_whole { &mut whole } else { &mut parts }) += 1;
                wrong.extend(errors.iter().map(|error| format!("{place}: {error}")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(whole >= 8 && parts >= 10, "only {whole} manifests and {parts} parts of one were found");
}

#[test]
fn what_is_wrong_with_a_manifest_is_found() {
    let definitions = definitions();
    for (manifest, says) in [
        ("apiVersion: botsecret.dev/v1alpha1\nkind: BotSecret\nspec: {storeReff: {}}", "there is no spec.storeReff"),
        ("apiVersion: botsecret.dev/v1alpha1\nkind: BotSecret\nspec: {}", "spec.serviceAccountName is missing"),
        ("apiVersion: botsecret.dev/v1alpha1\nkind: BotSecret\nspec: {}", "nothing to read"),
        ("apiVersion: botsecret.dev/v1alpha1\nkind: Botsecret\nspec: {}", "there is no kind Botsecret"),
        ("spec: {rollout: {maxConcurrent: two}}", "spec.rollout.maxConcurrent is no integer"),
        ("spec: {rollout: {onFailure: Rollback}}", "spec.rollout.onFailure may not be \"Rollback\""),
        ("spec: {rollout: {order: [{nam: x}]}}", "there is no spec.rollout.order[0].nam"),
        ("kind: BotSecretStore\nspec: {allowRotation: true, refreshInterval: 1m}", "there is no spec.refreshInterval"),
    ] {
        let value: Value = serde_yaml::from_str(manifest).expect("YAML");
        let (_, errors) = judge(&definitions, &value).expect("one of ours");
        assert!(errors.iter().any(|error| error.contains(says)), "{manifest}: {errors:?}");
    }
    for other in ["apiVersion: v1\nkind: Secret\nspec: {}", "metrics: {}", "spec: {}\nstatus: {}", "- spec"] {
        let value: Value = serde_yaml::from_str(other).expect("YAML");
        assert!(judge(&definitions, &value).is_none(), "{other}");
    }
}
