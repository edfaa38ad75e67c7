//! Requests checked against AWS's own service model.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use tokio::process::Command;

use crate::peers;

/// What AWS demands of requests, by service and operation.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Model(HashMap<String, HashMap<String, Shape>>);

#[derive(Debug, Deserialize)]
struct Shape {
    #[serde(rename = "type")]
    kind: String,
    min: Option<u64>,
    max: Option<u64>,
    #[serde(default)]
    required: Vec<String>,
    #[serde(default)]
    members: HashMap<String, Shape>,
    member: Option<Box<Shape>>,
    #[serde(rename = "enum", default)]
    words: Vec<String>,
}

impl Model {
    /// As botocore carries it.
    pub(super) async fn load() -> Result<Self> {
        let answer = Command::new(peers::program("aws-python")?)
            .args(["-c", include_str!("model.py")])
            .kill_on_drop(true)
            .output()
            .await
            .context("aws-python")?;
        ensure!(answer.status.success(), "aws-python: {}", String::from_utf8_lossy(&answer.stderr));
        serde_json::from_slice(&answer.stdout).context("the service model")
    }

    /// Why AWS would refuse this request as it is.
    pub(super) fn refusal(&self, service: &str, action: &str, input: &Value) -> Option<String> {
        match self.0.get(service)?.get(action) {
            Some(shape) => shape.refusal(action, input),
            None => Some(format!("{service} has no operation {action}")),
        }
    }
}

impl Shape {
    fn refusal(&self, path: &str, value: &Value) -> Option<String> {
        let wrong = |what: &str| Some(format!("{path} {what}"));
        match (self.kind.as_str(), value) {
            ("structure", Value::Object(members)) => {
                if let Some(name) = self.required.iter().find(|name| !members.contains_key(*name)) {
                    return wrong(&format!("lacks {name}"));
                }
                members.iter().find_map(|(name, value)| match self.members.get(name) {
                    Some(shape) => shape.refusal(&format!("{path}.{name}"), value),
                    None => wrong(&format!("has no member {name}")),
                })
            }
            ("list", Value::Array(items)) => self.size(path, items.len()).or_else(|| {
                let member = self.member.as_ref()?;
                items.iter().find_map(|item| member.refusal(&format!("{path}[]"), item))
            }),
            ("string", Value::String(text)) if !self.words.is_empty() && !self.words.contains(text) => {
                wrong("is none of its words")
            }
            ("string" | "blob", Value::String(text)) => self.size(path, text.chars().count()),
            ("integer" | "long", Value::Number(number)) => {
                self.size(path, number.as_u64().and_then(|number| usize::try_from(number).ok())?)
            }
            ("boolean", Value::Bool(_)) | ("map" | "timestamp" | "double" | "float", _) => None,
            (kind, _) => wrong(&format!("is no {kind}")),
        }
    }

    fn size(&self, path: &str, size: usize) -> Option<String> {
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        let fits = self.min.is_none_or(|min| size >= min) && self.max.is_none_or(|max| size <= max);
        (!fits).then(|| format!("{path} has {size}, not from {:?} to {:?}", self.min, self.max))
    }
}
