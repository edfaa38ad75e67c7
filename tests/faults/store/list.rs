//! Lists and their selectors.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Answer, Inner, Key, Refusal, Request};

/// What a list or a watch selects.
#[derive(Clone, Debug)]
pub struct Selection {
    namespace: String,
    labels: Vec<String>,
    fields: Vec<(String, String)>,
}

impl Selection {
    pub fn of(request: &Request) -> Result<Self, Refusal> {
        let mut fields = Vec::new();
        for part in request.asked("fieldSelector").unwrap_or_default().split(',').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(|| Refusal::bad("field selector"))?;
            if !matches!(name, "metadata.name" | "metadata.namespace") {
                return Err(Refusal::bad(format!("field label not supported: {name}")));
            }
            fields.push((name.to_owned(), value.trim_start_matches('=').to_owned()));
        }
        let labels = split_labels(request.asked("labelSelector").unwrap_or_default());
        Ok(Self { namespace: request.namespace.clone(), labels, fields })
    }

    pub fn takes(&self, key: &Key, object: &Value) -> bool {
        let named = |(name, value): &(String, String)| match name.as_str() {
            "metadata.name" => key.name == *value,
            _ => key.namespace == *value,
        };
        let labels = &object["metadata"]["labels"];
        (self.namespace.is_empty() || self.namespace == key.namespace)
            && self.fields.iter().all(named)
            && self.labels.iter().all(|requirement| meets(labels, requirement))
    }
}

/// Requirements are separated by commas, and so are values within parentheses.
fn split_labels(selector: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for character in selector.chars() {
        match character {
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        parts.last_mut().expect("one at least").push(character);
    }
    parts.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

fn meets(labels: &Value, requirement: &str) -> bool {
    let value = |name: &str| labels.get(name.trim()).and_then(Value::as_str);
    let among = |list: &str, value: &str| {
        list.trim().trim_start_matches('(').trim_end_matches(')').split(',').any(|one| one.trim() == value)
    };
    if let Some((name, list)) = requirement.split_once(" notin ") {
        return value(name).is_none_or(|value| !among(list, value));
    }
    if let Some((name, list)) = requirement.split_once(" in ") {
        return value(name).is_some_and(|value| among(list, value));
    }
    if let Some((name, unwanted)) = requirement.split_once("!=") {
        return value(name) != Some(unwanted.trim());
    }
    if let Some((name, wanted)) = requirement.split_once('=') {
        return value(name) == Some(wanted.trim_start_matches('=').trim());
    }
    match requirement.strip_prefix('!') {
        Some(name) => value(name).is_none(),
        None => value(requirement).is_some(),
    }
}

/// The object, or only its metadata.
pub fn shown(object: &Value, metadata_only: bool) -> Value {
    if !metadata_only {
        return object.clone();
    }
    json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"] })
}

impl Inner {
    /// A list. One with a `limit` is a cache's: it sees what caches see.
    pub(super) fn list(&self, request: &Request) -> Result<Answer, Refusal> {
        let selection = Selection::of(request)?;
        let limit = request.asked("limit").and_then(|limit| limit.parse::<usize>().ok()).filter(|limit| *limit > 0);
        let (revision, after) = match request.asked("continue").and_then(|token| token.split_once(':')) {
            Some((revision, after)) => (revision.parse().map_err(|_| Refusal::bad("continue"))?, Some(after)),
            None if limit.is_some() => (self.visible().0, None),
            None => (self.newest(), None),
        };
        let name = |key: &Key| format!("{}/{}", key.namespace, key.name);
        let found: BTreeMap<_, _> = self.at_revision(request.kind.plural, revision);
        let mut found: Vec<_> = found
            .into_iter()
            .filter(|(key, object)| {
                selection.takes(key, object) && after.is_none_or(|after| name(key).as_str() > after)
            })
            .collect();
        let mut metadata = json!({ "resourceVersion": revision.to_string() });
        if let Some(limit) = limit.filter(|limit| found.len() > *limit) {
            metadata["remainingItemCount"] = json!(found.len() - limit);
            found.truncate(limit);
            let last = found.last().map(|(key, _)| name(key)).unwrap_or_default();
            metadata["continue"] = json!(format!("{revision}:{last}"));
        }
        let items: Vec<_> = found.iter().map(|(_, object)| shown(object, request.metadata_only)).collect();
        let (kind, version) = if request.metadata_only {
            ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned())
        } else {
            (format!("{}List", request.kind.kind), request.kind.api_version())
        };
        let list = json!({ "kind": kind, "apiVersion": version, "metadata": metadata, "items": items });
        Ok(Answer::Object(200, list))
    }
}
