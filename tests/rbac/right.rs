//! One right, as RBAC grants it.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use botsecret_testbed::AuditRecord;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::support::Result;

/// One verb on one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    pub verb: String,
    /// The API group; empty for the core.
    pub group: String,
    /// With its subresource, if any.
    pub resource: String,
    /// The one object that it is limited to; empty where it covers all.
    pub object: String,
}

impl Right {
    pub fn new(verb: &str, group: &str, resource: &str, object: &str) -> Self {
        let [verb, group, resource, object] = [verb, group, resource, object].map(str::to_owned);
        Self { verb, group, resource, object }
    }

    /// The rule that grants this and nothing else.
    pub fn rule(&self) -> Value {
        let mut rule = json!({ "apiGroups": [self.group], "resources": [self.resource], "verbs": [self.verb] });
        if !self.object.is_empty() {
            rule["resourceNames"] = json!([self.object]);
        }
        rule
    }

    /// Whether this request needs it.
    pub fn is_needed_for(&self, request: &AuditRecord) -> bool {
        let (resource, subresource) = self.parts();
        (&*request.verb, &*request.api_group, &*request.resource, &*request.subresource)
            == (&*self.verb, &*self.group, resource, subresource)
    }

    /// The resource, and its subresource or nothing.
    pub fn parts(&self) -> (&str, &str) {
        self.resource.split_once('/').unwrap_or((self.resource.as_str(), ""))
    }

    /// How the API server says that it is missing.
    pub fn refusal(&self) -> String {
        format!(r#"cannot {} resource "{}""#, self.verb, self.resource)
    }
}

/// What the installation grants, and what can be granted beside it.
const MANIFESTS: [&str; 3] = [
    include_str!("../../deploy/rbac.yaml"),
    include_str!("../../deploy/verify.yaml"),
    include_str!("../../deploy/roll-back.yaml"),
];

/// What these grant by their roles of this kind, right by right.
pub fn granted(kind: &str) -> Result<BTreeSet<Right>> {
    let mut rights = BTreeSet::new();
    for document in MANIFESTS.into_iter().flat_map(serde_yaml::Deserializer::from_str) {
        let document = Value::deserialize(document)?;
        if document["kind"] != kind {
            continue;
        }
        for rule in document["rules"].as_array().context("a role without rules")? {
            rights.extend(rights_of(rule)?);
        }
    }
    Ok(rights)
}

fn rights_of(rule: &Value) -> Result<Vec<Right>> {
    const FIELDS: [&str; 4] = ["apiGroups", "resources", "verbs", "resourceNames"];
    let fields = rule.as_object().context("a rule is an object")?;
    ensure!(fields.keys().all(|field| FIELDS.contains(&field.as_str())), "not a rule for resources alone: {rule}");
    let [groups, resources, verbs] = [FIELDS[0], FIELDS[1], FIELDS[2]].map(|field| texts(&rule[field]));
    let objects = match &rule[FIELDS[3]] {
        Value::Null => vec![""],
        names => texts(names)?,
    };
    let (groups, resources, verbs) = (groups?, resources?, verbs?);
    let mut rights = Vec::new();
    for group in groups {
        for resource in &resources {
            for object in &objects {
                rights.extend(verbs.iter().map(|verb| Right::new(verb, group, resource, object)));
            }
        }
    }
    ensure!(!rights.is_empty(), "a rule that grants nothing, or everything: {rule}");
    Ok(rights)
}

fn texts(list: &Value) -> Result<Vec<&str>> {
    let list = list.as_array().context("a list")?;
    list.iter().map(|text| text.as_str().context("text")).collect()
}
