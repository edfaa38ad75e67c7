//! P5: that the policies look at every field by which a store or a BotSecret can have
//! something read that its author may not read. A field that is added to the
//! definitions and not to the policies is found here.

use std::collections::BTreeSet;

use serde_yaml::Value;

use crate::helm::{of_kind, render};

/// What a BotSecret's author may change who may not use the identity: when it is read,
/// and who rolls how.
const HARMLESS: [&str; 3] = ["refreshInterval", "rollout", "suspend"];

/// The schema of the spec in a definition.
fn spec(definition: &str) -> Value {
    let documents = botsecret::cli::crds::documents().expect("YAML");
    let document = documents.iter().find(|one| one.file_name.ends_with(&format!("_{definition}.yaml")));
    let object: Value = serde_yaml::from_str(&document.expect("a definition").yaml).expect("YAML");
    object["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// Every field with its schema: `data[].storeRef` and the like.
fn fields(schema: &Value, above: &str, found: &mut Vec<(String, Value)>) {
    for (name, field) in schema["properties"].as_mapping().into_iter().flatten() {
        let path = format!("{above}{}", name.as_str().expect("a name"));
        fields(field, &format!("{path}."), found);
        fields(&field["items"], &format!("{path}[]."), found);
        found.push((path, field.clone()));
    }
}

fn fields_of(definition: &str) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    fields(&spec(definition), "", &mut found);
    assert!(found.len() > 50, "{definition}: {found:?}");
    found
}

/// A variable of a policy, without what YAML folds.
fn variable(policy: &str, name: &str) -> String {
    let objects = render(&["--set", "admission.authors=true,crds.install=false"]);
    let policy = of_kind(&objects, "ValidatingAdmissionPolicy").find(|one| one["metadata"]["name"] == policy);
    let variables = policy.expect("the policy")["spec"]["variables"].as_sequence().expect("variables").clone();
    let one = variables.iter().find(|one| one["name"] == name).expect("the variable");
    one["expression"].as_str().expect("an expression").split_whitespace().collect()
}

/// Whether a field names an object: its schema has a name, or it is called like one.
fn names_an_object(path: &str, schema: &Value) -> bool {
    let called = path.rsplit('.').next().unwrap_or_default().to_lowercase();
    let is_called_so = ["secret", "configmap"].iter().any(|word| called.contains(word));
    !schema["properties"]["name"].is_null() || (is_called_so && schema["type"] == "string")
}

#[test]
fn p5_the_policy_on_stores_asks_for_every_secret_that_a_store_can_name() {
    let asked = variable("botsecret-store-secrets", "secrets");
    let asked: BTreeSet<_> = asked.trim_matches(['[', ']']).split(',').map(str::to_owned).collect();
    for definition in ["botsecretstores", "clusterbotsecretstores"] {
        let named: BTreeSet<_> = fields_of(definition)
            .into_iter()
            .filter(|(path, schema)| names_an_object(path, schema))
            .map(|(path, _)| {
                assert!(!path.contains("[]"), "{path}: the policy knows no lists");
                format!("?object.spec.?{}.?name", path.replace('.', ".?"))
            })
            .collect();
        assert!(named.len() > 10, "{named:?}");
        assert_eq!(asked, named, "{definition}");
    }
}

/// The whole spec decides where they are sent, so no part of it is left out.
#[test]
fn p5_the_policy_on_stores_looks_at_every_change_of_the_spec() {
    let objects = render(&["--set", "crds.install=false"]);
    let policy = of_kind(&objects, "ValidatingAdmissionPolicy")
        .find(|one| one["metadata"]["name"] == "botsecret-store-secrets")
        .expect("the policy");
    let conditions = policy["spec"]["matchConditions"].as_sequence().expect("conditions");
    assert_eq!(conditions.len(), 1, "{conditions:?}");
    assert_eq!(conditions[0]["expression"], "request.operation == 'CREATE' || object.spec != oldObject.spec");
    let ambient: BTreeSet<_> = fields_of("clusterbotsecretstores")
        .into_iter()
        .filter(|(path, _)| path.ends_with(".ambient"))
        .map(|(path, _)| format!("object.spec.?{}.hasValue()", path.replace('.', ".?")))
        .collect();
    let asked: BTreeSet<_> = variable("botsecret-store-secrets", "isAmbient").split("||").map(str::to_owned).collect();
    assert_eq!(asked, ambient);
}

/// The fields of this name, wherever they stand.
fn called<'a>(fields: &'a [(String, Value)], name: &str) -> BTreeSet<&'a str> {
    let paths = fields.iter().map(|(path, _)| path.as_str());
    paths.filter(|path| path.rsplit('.').next() == Some(name)).collect()
}

#[test]
fn p5_the_policy_on_authors_asks_for_every_identity_and_store_that_a_botsecret_can_name() {
    let fields = fields_of("botsecrets");
    let accounts = called(&fields, "serviceAccountName");
    assert_eq!(accounts, BTreeSet::from(["rotation.serviceAccountName", "serviceAccountName"]));
    assert!(variable("botsecret-authors", "reader").contains("object.spec.serviceAccountName"));
    assert!(variable("botsecret-authors", "rotator").contains("object.spec.?rotation.?serviceAccountName"));
    let stores = variable("botsecret-authors", "stores0");
    let references = called(&fields, "storeRef");
    assert_eq!(references.len(), 4, "{references:?}");
    for path in references {
        let asked = match path.split_once("[].") {
            Some((list, field)) => format!("object.spec.?{list}.orValue([]).map(one,one.?{field})"),
            None => format!("?object.spec.?{}", path.replace('.', ".?")),
        };
        assert!(stores.contains(&asked), "{path} is not asked for in {stores}");
    }
}

#[test]
fn p5_the_policy_on_authors_lets_nothing_change_unasked_but_when_it_is_read_and_who_rolls() {
    let same = variable("botsecret-authors", "isTheSame");
    let (begin, parts) = same.split_once("&&").expect("several");
    assert_eq!(begin, "request.operation=='UPDATE'");
    let compared: BTreeSet<_> = parts.split("&&").collect();
    let schema = spec("botsecrets");
    let wanted: BTreeSet<_> = schema["properties"]
        .as_mapping()
        .expect("fields")
        .keys()
        .map(|name| name.as_str().expect("a name"))
        .filter(|name| !HARMLESS.contains(name))
        .map(|name| {
            let field = if name == "serviceAccountName" { name.to_owned() } else { format!("?{name}") };
            format!("object.spec.{field}==oldObject.spec.{field}")
        })
        .collect();
    let wanted: BTreeSet<&str> = wanted.iter().map(String::as_str).collect();
    assert_eq!(compared, wanted);
}
