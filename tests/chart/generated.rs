//! What is made from `values.yaml` and `crds/`: `make chart` makes it anew.

use std::{fmt::Write as _, fs, path::Path};

use serde_json::{Map, Value, json};

use crate::helm::chart;

/// Labels and annotations: what looks like a number is written as text.
const TEXTS: &str = r#"{"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "null"]}}"#;

/// What a default does not say of its setting.
const TYPES: &[(&str, &str)] = &[
    ("global.imagePullSecrets", r#"{"type": "array", "items": {"type": "string"}}"#),
    ("nameOverride", r#"{"type": "string", "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$"}"#),
    // That of a Service has to begin with a letter.
    ("fullnameOverride", r#"{"type": "string", "pattern": "^([a-z]([-a-z0-9]*[a-z0-9])?)?$"}"#),
    ("commonLabels", TEXTS),
    ("commonAnnotations", TEXTS),
    ("imagePullSecrets", r#"{"type": "array", "items": {"type": "string"}}"#),
    ("image.digest", r#"{"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"}"#),
    ("image.pullPolicy", r#"{"enum": ["Always", "IfNotPresent", "Never"]}"#),
    ("replicas", r#"{"type": "integer", "minimum": 0}"#),
    (
        "operator.namespaces",
        r#"{"type": "array", "uniqueItems": true, "items": {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"}}"#,
    ),
    ("operator.logFormat", r#"{"enum": ["auto", "human", "json"]}"#),
    ("operator.maxRollouts", r#"{"type": ["integer", "null"], "minimum": 1}"#),
    ("operator.maxRolloutsPerNamespace", r#"{"type": ["integer", "null"], "minimum": 1}"#),
    ("operator.objectMetrics", r#"{"type": ["integer", "null"], "minimum": 0}"#),
    (
        "operator.storeAddresses",
        r#"{"type": "array", "uniqueItems": true, "items": {"type": "string", "minLength": 1}}"#,
    ),
    ("tracing.endpoint", r#"{"type": "string", "pattern": "^(https?://.+)?$"}"#),
    (
        "tracing.sampleRatio",
        // A fraction is text where it comes by `helm --set`.
        r#"{"type": ["number", "string", "null"], "minimum": 0, "maximum": 1, "pattern": "^(0|1|0?\\.[0-9]+)$"}"#,
    ),
    ("operator.port", r#"{"type": "integer", "minimum": 1, "maximum": 65535}"#),
    ("operator.extraArgs", r#"{"type": "array", "items": {"type": "string"}}"#),
    (
        "operator.extraEnv",
        r#"{"type": "array", "items": {"type": "object", "required": ["name"], "additionalProperties": false, "properties": {"name": {"type": "string"}, "value": {"type": ["string", "number", "boolean"]}, "valueFrom": {"type": "object"}}}}"#,
    ),
    (
        "serviceAccount.name",
        r#"{"type": "string", "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?$"}"#,
    ),
    ("serviceAccount.annotations", TEXTS),
    ("admission.apiAudiences", r#"{"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}}"#),
    ("pod.labels", TEXTS),
    ("pod.annotations", TEXTS),
    ("pod.nodeSelector", TEXTS),
    ("pod.terminationGracePeriodSeconds", r#"{"type": "integer", "minimum": 0}"#),
    ("pod.securityContext", r#"{"type": "object"}"#),
    ("pod.containerSecurityContext", r#"{"type": "object"}"#),
    ("resources", r#"{"type": "object"}"#),
    ("podDisruptionBudget.minAvailable", r#"{"type": ["integer", "string"]}"#),
    ("networkPolicy.egress.cidrs", r#"{"type": "array", "items": {"type": "string"}}"#),
    ("networkPolicy.egress.exceptCidrs", r#"{"type": "array", "items": {"type": "string"}}"#),
    ("networkPolicy.egress.exceptCidrs6", r#"{"type": "array", "items": {"type": "string"}}"#),
    (
        "networkPolicy.egress.ports",
        r#"{"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 65535}}"#,
    ),
    ("metrics.service.annotations", TEXTS),
    ("metrics.serviceMonitor.crdMissing", r#"{"enum": ["skip", "fail", "always"]}"#),
    ("metrics.serviceMonitor.labels", TEXTS),
    ("metrics.podMonitor.crdMissing", r#"{"enum": ["skip", "fail", "always"]}"#),
    ("metrics.podMonitor.labels", TEXTS),
    ("metrics.dashboard.labels", TEXTS),
    ("metrics.dashboard.annotations", TEXTS),
    ("metrics.rules.labels", TEXTS),
    ("metrics.rules.crdMissing", r#"{"enum": ["skip", "fail", "always"]}"#),
    ("extraObjects", r#"{"type": "array", "items": {"type": ["object", "string"]}}"#),
];

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A setting of `values.yaml`: where it stands, what is said of it, its default.
struct Setting {
    path: String,
    about: String,
    default: Value,
}

/// Every key of `values.yaml` in its order, with the comment above it.
fn settings(text: &str) -> Vec<Setting> {
    let values: Value = serde_yaml::from_str(text).expect("YAML");
    let mut found = Vec::new();
    let (mut open, mut about): (Vec<(usize, String)>, Vec<&str>) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let depth = line.len() - line.trim_start().len();
        let line = line.trim();
        if let Some(comment) = line.strip_prefix('#') {
            about.push(comment.trim());
            continue;
        }
        let key = line.split_once(':').map(|(key, _)| key).filter(|key| key.chars().all(char::is_alphanumeric));
        let Some(key) = key else {
            about.clear();
            continue;
        };
        open.retain(|(above, _)| *above < depth);
        open.push((depth, key.to_owned()));
        let path: Vec<_> = open.iter().map(|(_, key)| key.as_str()).collect();
        // What is below one that may hold anything is an example.
        let is_part = (1..path.len()).any(|depth| type_of(&path[..depth].join(".")).is_some());
        let default = path.iter().try_fold(&values, |value, key| value.get(key));
        if let Some(default) = default.filter(|_| !is_part) {
            found.push(Setting { path: path.join("."), about: about.join(" "), default: default.clone() });
        }
        about.clear();
    }
    found
}

fn type_of(path: &str) -> Option<Value> {
    let (_, text) = TYPES.iter().find(|(of, _)| *of == path)?;
    Some(serde_json::from_str(text).expect("JSON"))
}

/// Free to hold anything, or one value: no settings of the chart's own below it.
fn is_leaf(setting: &Setting) -> bool {
    type_of(&setting.path).is_some() || setting.default.as_object().is_none_or(Map::is_empty)
}

/// Whether it may be taken away with null, as Helm does: what is empty or a list then.
fn may_be_null(setting: &Setting, schema: &Value) -> bool {
    let is_empty = match &setting.default {
        Value::Null | Value::Array(_) | Value::Object(_) => true,
        default => *default == json!(""),
    };
    is_leaf(setting) && is_empty && schema.get("minItems").is_none()
}

fn schema(settings: &[Setting]) -> Value {
    fn below(parent: &str, settings: &[Setting]) -> Value {
        let child = |setting: &&Setting| match setting.path.rsplit_once('.') {
            Some((above, _)) => above == parent,
            None => parent.is_empty(),
        };
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for setting in settings.iter().filter(child) {
            let mut one = match (&setting.default, type_of(&setting.path)) {
                (_, Some(known)) => known,
                (Value::Object(fields), None) if !fields.is_empty() => below(&setting.path, settings),
                (Value::Object(_), None) => json!({ "type": "object" }),
                (Value::Array(_), None) => json!({ "type": "array" }),
                (Value::Bool(_), None) => json!({ "type": "boolean" }),
                (Value::String(_), None) => json!({ "type": "string" }),
                (Value::Number(_), None) => json!({ "type": "integer" }),
                (Value::Null, None) => panic!("{} needs a type", setting.path),
            };
            if !setting.about.is_empty() {
                one["description"] = json!(setting.about);
            }
            let name = setting.path.rsplit('.').next().unwrap_or_default();
            if !may_be_null(setting, &one) {
                required.push(name);
            }
            properties.insert(name.to_owned(), one);
        }
        // What a parent chart sets for all is not for this one to know.
        let others = parent == "global";
        json!({ "type": "object", "additionalProperties": others, "required": required, "properties": properties })
    }
    let mut schema = below("", settings);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Settings of the chart botsecret");
    schema
}

fn readme(settings: &[Setting]) -> String {
    let mut text = "<!-- Made by `make chart` of values.yaml: edit that. -->\n\n# Helm chart of BotSecret\n\n\
        ```sh\nhelm install botsecret charts/botsecret --namespace botsecret-system --create-namespace\n```\n\n\
        Two replicas: add `-f charts/botsecret/values-ha.yaml`. Some namespaces only: add\n\
        `--set 'operator.namespaces={trading,billing}'`. What is set that the chart does not\n\
        know is refused.\n\n| setting | default | what it is |\n| --- | --- | --- |\n"
        .to_owned();
    for setting in settings.iter().filter(|setting| is_leaf(setting)) {
        let about = setting.about.replace('|', "\\|");
        writeln!(text, "| `{}` | `{}` | {about} |", setting.path, setting.default).expect("text");
    }
    text
}

/// Compares, or writes where it is asked to.
fn current(path: &Path, wanted: &str) {
    if std::env::var_os("UPDATE_CHART").is_some() {
        fs::write(path, wanted).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    assert!(found == wanted, "{} is stale: run `make chart`", path.display());
}

#[test]
fn the_schema_and_the_readme_are_made_from_the_values() {
    let settings = settings(&read(&chart("botsecret").join("values.yaml")));
    for (path, _) in TYPES {
        assert!(settings.iter().any(|setting| setting.path == *path), "{path} is no setting");
    }
    for setting in settings.iter().filter(|setting| is_leaf(setting)) {
        let parent = setting.path.rsplit_once('.').map_or("", |(above, _)| above);
        let told = !setting.about.is_empty() || settings.iter().any(|one| one.path == parent && !one.about.is_empty());
        assert!(told || !setting.path.contains('.'), "nothing is said of {}", setting.path);
    }
    let schema = serde_json::to_string_pretty(&schema(&settings)).expect("JSON") + "\n";
    current(&chart("botsecret").join("values.schema.json"), &schema);
    current(&chart("botsecret").join("README.md"), &readme(&settings));
}

#[test]
fn the_definitions_in_both_charts_are_those_of_the_types() {
    for document in botsecret::cli::crds::documents().expect("YAML") {
        for name in ["botsecret", "botsecret-crds"] {
            current(&chart(name).join("files/crds").join(&document.file_name), &document.yaml);
        }
    }
}
