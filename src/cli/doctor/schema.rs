//! Whether a definition in the cluster is the one that this build was made with.

use std::collections::BTreeSet;

use serde_json::Value;

/// How the cluster's definition differs from this build's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    Same,
    /// It lacks what this build knows: the API server drops that on the way.
    Older,
    /// It has what this build does not know.
    Newer,
}

/// Compares by the fields and the values that each allows, not by descriptions.
pub(super) fn age(cluster: &Value, ours: &Value) -> Age {
    let (theirs, ours) = (allowed(cluster), allowed(ours));
    if !ours.is_subset(&theirs) {
        Age::Older
    } else if theirs == ours {
        Age::Same
    } else {
        Age::Newer
    }
}

fn allowed(definition: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for version in definition["spec"]["versions"].as_array().into_iter().flatten() {
        let name = version["name"].as_str().unwrap_or_default();
        collect(&version["schema"]["openAPIV3Schema"], name, &mut found);
    }
    found
}

fn collect(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        collect(below, &path, found);
        found.insert(path);
    }
    for value in schema["enum"].as_array().into_iter().flatten() {
        found.insert(format!("{path}={value}"));
    }
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        found.insert(format!("{path}?{}", rule["rule"]));
    }
    collect_if(&schema["items"], &format!("{path}[]"), found);
    collect_if(&schema["additionalProperties"], &format!("{path}{{}}"), found);
}

fn collect_if(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    if schema.is_object() {
        collect(schema, path, found);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Age, age};

    fn definition(fields: &Value) -> Value {
        json!({ "spec": { "versions": [{ "name": "v1", "schema": { "openAPIV3Schema": { "properties": fields } } }] } })
    }

    #[test]
    fn a_definition_that_lacks_a_field_or_a_value_is_older_whatever_its_words() {
        let ours = definition(&json!({ "phase": { "enum": ["A", "B"], "description": "new words" } }));
        for (cluster, wanted) in [
            (json!({ "phase": { "enum": ["B", "A"], "description": "words" } }), Age::Same),
            (json!({ "phase": { "enum": ["A"] } }), Age::Older),
            (json!({}), Age::Older),
            (json!({ "phase": { "enum": ["A", "B", "C"] } }), Age::Newer),
            (
                json!({ "phase": { "enum": ["A", "B"] }, "list": { "items": { "properties": { "x": {} } } } }),
                Age::Newer,
            ),
            (json!({ "phase": { "enum": ["A", "C"] } }), Age::Older),
        ] {
            assert_eq!(age(&definition(&cluster), &ours), wanted, "{cluster}");
        }
    }
}
