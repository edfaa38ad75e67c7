//! The store in memory is believed only as long as it answers as a real API
//! server does: the same requests to both, and code, reason and object
//! compared.

#[path = "steps.rs"]
mod steps;

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use http_body_util::BodyExt;
use hyper::{Request, header};
use kube::{Client, client::Body};
use serde_json::{Value, json};

use self::steps::{JSON, Step, steps};
use super::{
    clock,
    store::{Actor, Front, Store},
    support,
};

/// One side of the comparison.
struct Side {
    client: Client,
    namespace: String,
    /// By plural and name: UID, first and last resourceVersion.
    seen: BTreeMap<String, (String, String, String)>,
}

impl Side {
    fn filled(&self, text: &str) -> String {
        let mut text = text.replace("/NS/", &format!("/{}/", self.namespace));
        for (name, (uid, old, last)) in &self.seen {
            for (mark, value) in [("$uid:", uid), ("$old:", old), ("$rv:", last)] {
                text = text.replace(&format!("{mark}{name}"), value);
            }
        }
        text
    }

    /// Code and body, as far as both sides are to agree.
    async fn ask(&mut self, step: &Step) -> Result<(u16, Value)> {
        let kind = if step.path.contains('?') && !step.path.contains("/secrets/") { "List" } else { "" };
        let accept = if step.metadata_only {
            let kind = if kind.is_empty() && !step.path.ends_with("secrets") { "" } else { "List" };
            format!("application/json;as=PartialObjectMetadata{kind};g=meta.k8s.io;v=v1")
        } else {
            JSON.to_owned()
        };
        let body = if step.body.is_null() { Vec::new() } else { self.filled(&step.body.to_string()).into_bytes() };
        let request = Request::builder()
            .method(step.method.clone())
            .uri(self.filled(&step.path))
            .header(header::CONTENT_TYPE, step.content_type)
            .header(header::ACCEPT, accept)
            .header(header::USER_AGENT, "conformance/1")
            .body(Body::from(body))?;
        let answer = self.client.send(request).await?;
        let code = answer.status().as_u16();
        let bytes = answer.into_body().collect().await?.to_bytes();
        if step.path.contains("watch=true") {
            return Ok((code, events(&bytes)));
        }
        let mut body: Value = serde_json::from_slice(&bytes).context(step.what)?;
        let changed = self.note(step, &body);
        if code >= 400 {
            return Ok((code, json!({ "reason": body["reason"] })));
        }
        normalise(&mut body);
        Ok((code, json!({ "body": body, "changed": changed })))
    }

    /// Keeps what later steps name; answers whether the object is another
    /// revision than before.
    fn note(&mut self, step: &Step, body: &Value) -> bool {
        let meta = |field: &str| body["metadata"][field].as_str().unwrap_or_default().to_owned();
        let (name, version) = (meta("name"), meta("resourceVersion"));
        if name.is_empty() || version.is_empty() {
            return false;
        }
        let plural = step.path.split(['/', '?']).skip_while(|part| *part != "NS").nth(1).unwrap_or_default();
        let first = (meta("uid"), version.clone(), String::new());
        let seen = self.seen.entry(format!("{plural}/{name}")).or_insert(first);
        let changed = seen.2 != version;
        seen.2 = version;
        changed
    }
}

/// What a watch told: type and name, and whose.
fn events(bytes: &[u8]) -> Value {
    let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let told = lines.filter(|line| line["type"] != "BOOKMARK");
    told.map(|line| json!([line["type"], line["object"]["metadata"]["name"], line["object"]["data"]])).collect()
}

/// Takes away what no two servers agree on.
fn normalise(object: &mut Value) {
    if let Some(items) = object["items"].as_array_mut() {
        items.iter_mut().for_each(normalise);
        // A built-in list's items do not say what they are.
        for item in items.iter_mut().filter_map(Value::as_object_mut) {
            item.remove("kind");
            item.remove("apiVersion");
        }
    }
    if object["kind"] == "TokenRequest" {
        *object = json!({ "kind": "TokenRequest", "token": object["status"]["token"].is_string() });
        return;
    }
    if let Some(details) = object["details"].as_object_mut() {
        details.remove("uid");
    }
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    let Some(metadata) = object["metadata"].as_object_mut() else { return };
    let managers: std::collections::BTreeSet<String> = metadata
        .get("managedFields")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|entry| format!("{} {} {}", entry["manager"], entry["operation"], entry["subresource"]))
        .collect();
    for name in ["uid", "resourceVersion", "creationTimestamp", "namespace", "managedFields", "selfLink", "continue"] {
        metadata.remove(name);
    }
    if metadata.contains_key("deletionTimestamp") {
        metadata.insert("deletionTimestamp".to_owned(), json!("some time"));
    }
    metadata.insert("managers".to_owned(), json!(managers));
}

/// Where the store says something else than the API server. Defaults that the
/// API server fills in may be missing.
fn differences(at: &str, store: &Value, server: &Value, found: &mut Vec<String>) {
    match (store, server) {
        (Value::Object(one), Value::Object(other)) => {
            for (name, value) in one {
                differences(&format!("{at}.{name}"), value, other.get(name).unwrap_or(&Value::Null), found);
            }
            // What people and the operator write must not be missing.
            let exact = ["data", "annotations", "labels", "finalizers", "status"];
            for name in exact.into_iter().filter(|name| at.ends_with(name)) {
                let extra: Vec<_> = other.keys().filter(|key| !one.contains_key(*key)).collect();
                if !extra.is_empty() {
                    found.push(format!("{at}: the server has {extra:?} besides ({name})"));
                }
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                differences(&format!("{at}[{index}]"), one, other, found);
            }
        }
        (one, other) if one == other => {}
        (one, other) => found.push(format!("{at}: {one}, the server says {other}")),
    }
}

#[tokio::test]
async fn the_store_in_memory_answers_as_the_api_server_does() -> Result<()> {
    let cluster = support::cluster().await?;
    let namespace = cluster.namespace("conformance").await?;
    // Nobody else is to write what is compared.
    cluster.stop_controller_manager().await?;
    clock::reset();
    clock::follow();
    let store = Store::new();
    let side = |client| Side { client, namespace: namespace.clone(), seen: BTreeMap::new() };
    let mut memory = side(Client::new(Front::new(&store, Actor::World), "default"));
    let mut server = side(cluster.client()?);
    let steps = steps();
    let mut found = Vec::new();
    for step in &steps {
        let (one, other) = (memory.ask(step).await?, server.ask(step).await?);
        let before = found.len();
        if one.0 == other.0 {
            differences(step.what, &one.1, &other.1, &mut found);
        } else {
            found.push(format!("{}: code {}, the server says {} {}", step.what, one.0, other.0, other.1));
        }
        println!("{:45} {:4} {}", step.what, other.0, if found.len() == before { "same" } else { "DIFFERENT" });
    }
    println!("{} requests", steps.len());
    assert!(found.is_empty(), "{found:#?}");
    Ok(())
}
