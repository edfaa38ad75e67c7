//! Secret Manager's REST API.

use std::collections::BTreeMap;

use axum::http::Method;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::Asked;
use super::answers::{Outcome, Refusal, good};
use super::state::{Secret, State, VersionState};

/// What a version may weigh.
const LARGEST: usize = 65_536;

/// What answers one method.
type Serve = fn(&mut State, &Asked, &Path) -> Outcome;

/// A path, taken apart.
struct Path {
    /// `projects/P` or `projects/P/locations/L`, canonical.
    parent: String,
    location: Option<String>,
    secret: Option<String>,
    /// `Some("")`: all versions.
    version: Option<String>,
    verb: Option<String>,
}

impl Path {
    fn of(state: &State, path: &str) -> Option<Self> {
        let path = path.strip_prefix("/v1/")?;
        let (path, verb) = path.rsplit_once(':').map_or((path, None), |(path, verb)| (path, Some(verb.to_owned())));
        let parts: Vec<&str> = path.split('/').collect();
        let (parent, rest) = match parts[..] {
            ["projects", _, "locations", _, ..] => parts.split_at(4),
            ["projects", _, ..] => parts.split_at(2),
            _ => return None,
        };
        let (secret, version) = match *rest {
            ["secrets"] => (None, None),
            ["secrets", secret] => (Some(secret), None),
            ["secrets", secret, "versions"] => (Some(secret), Some("")),
            ["secrets", secret, "versions", version] => (Some(secret), Some(version)),
            _ => return None,
        };
        Some(Self {
            parent: state.canonical(&parent.join("/")),
            location: parent.get(3).map(|location| (*location).to_owned()),
            secret: secret.map(str::to_owned),
            version: version.map(str::to_owned),
            verb,
        })
    }

    fn resource(&self) -> String {
        match &self.secret {
            Some(secret) => format!("{}/secrets/{secret}", self.parent),
            None => self.parent.clone(),
        }
    }
}

pub(super) fn serve(state: &mut State, asked: &Asked) -> Outcome {
    let path = Path::of(state, &asked.path).ok_or_else(Refusal::not_here)?;
    at_its_endpoint(asked, &path)?;
    let method = if asked.method == Method::GET { "get" } else { asked.method.as_str() };
    let verb = path.verb.as_deref();
    let (permission, answer): (&str, Serve) = match (method, path.secret.as_ref(), path.version.as_deref(), verb) {
        ("get", None, None, None) => ("secrets.list", list),
        ("POST", None, None, None) => ("secrets.create", create),
        ("get", Some(_), None, None) => ("secrets.get", get),
        ("PATCH", Some(_), None, None) => ("secrets.update", patch),
        ("DELETE", Some(_), None, None) => ("secrets.delete", delete),
        ("POST", Some(_), None, Some("addVersion")) => ("versions.add", add),
        ("get", Some(_), Some(""), None) => ("versions.list", list_versions),
        ("get", Some(_), Some(_), None) => ("versions.get", get_version),
        ("get", Some(_), Some(_), Some("access")) => ("versions.access", access),
        ("POST", Some(_), Some(_), Some("enable")) => ("versions.enable", change_state),
        ("POST", Some(_), Some(_), Some("disable")) => ("versions.disable", change_state),
        ("POST", Some(_), Some(_), Some("destroy")) => ("versions.destroy", change_state),
        _ => return Err(Refusal::not_here()),
    };
    let permission = format!("secretmanager.{permission}");
    let principal = state.iam.principal(&asked.headers)?;
    if !state.iam.scope_suffices(&asked.headers) {
        return Err(Refusal::Rpc {
            status: 403,
            code: "PERMISSION_DENIED",
            message: "Request had insufficient authentication scopes.".into(),
            reason: Some(("ACCESS_TOKEN_SCOPE_INSUFFICIENT", "googleapis.com")),
        });
    }
    if !state.iam.may(&principal, &permission, &path.resource()) {
        return Err(Refusal::denied(&permission, asked.path.trim_start_matches("/v1/")));
    }
    answer(state, asked, &path)
}

/// Secrets of a location are asked for at its own endpoint, and no others
/// there.
fn at_its_endpoint(asked: &Asked, path: &Path) -> Result<(), Refusal> {
    let region = asked.host.strip_prefix("secretmanager.").and_then(|rest| rest.strip_suffix(".rep.googleapis.com"));
    let global = asked.host == "secretmanager.googleapis.com";
    let wrong = match (&path.location, region) {
        (Some(location), Some(region)) => location != region,
        (Some(_), None) => global,
        (None, Some(_)) => true,
        (None, None) => false,
    };
    if wrong { Err(Refusal::invalid("The location in the request does not match the endpoint's.")) } else { Ok(()) }
}

fn secret<'a>(state: &'a State, path: &Path) -> Result<&'a Secret, Refusal> {
    let name = path.resource();
    state.secrets.get(&name).ok_or_else(|| no_secret(state, &name))
}

fn secret_mut<'a>(state: &'a mut State, path: &Path) -> Result<&'a mut Secret, Refusal> {
    let name = path.resource();
    let missing = no_secret(state, &name);
    state.secrets.get_mut(&name).ok_or(missing)
}

fn no_secret(state: &State, name: &str) -> Refusal {
    let name = state.numbered(name);
    Refusal::rpc(404, "NOT_FOUND", format!("Secret [{name}] not found or has no versions."))
}

fn number(state: &State, path: &Path) -> Result<u64, Refusal> {
    let version = path.version.as_deref().unwrap_or_default();
    let found = secret(state, path)?;
    if found.versions.is_empty() {
        return Err(no_secret(state, &path.resource()));
    }
    let name = state.numbered(&path.resource());
    found
        .number(version)
        .ok_or_else(|| Refusal::rpc(404, "NOT_FOUND", format!("Secret Version [{name}/versions/{version}] not found.")))
}

fn access(state: &mut State, _asked: &Asked, path: &Path) -> Outcome {
    let mut number = number(state, path)?;
    if path.version.as_deref() == Some("latest") {
        number = number.saturating_sub(state.lag).max(1);
    }
    let name = format!("{}/versions/{number}", state.numbered(&path.resource()));
    let version = secret(state, path)?.version(number).ok_or_else(Refusal::not_here)?;
    if version.state != VersionState::Enabled {
        let text = format!("Secret Version [{name}] is in {} state.", version.state.name());
        return Err(Refusal::rpc(400, "FAILED_PRECONDITION", text));
    }
    let sum = crc32c::crc32c(&version.data);
    let mut data = version.data.clone();
    if state.damage > 0 {
        state.damage -= 1;
        match data.first_mut() {
            Some(byte) => *byte ^= 1,
            None => data.push(0),
        }
    }
    let mut payload = json!({"dataCrc32c": sum.to_string()});
    if !data.is_empty() {
        payload["data"] = json!(STANDARD.encode(&data));
    }
    good(json!({"name": name, "payload": payload}))
}

fn get(state: &mut State, _asked: &Asked, path: &Path) -> Outcome {
    let name = state.numbered(&path.resource());
    good(secret(state, path)?.shown(&name))
}

fn get_version(state: &mut State, _asked: &Asked, path: &Path) -> Outcome {
    let number = number(state, path)?;
    let name = state.numbered(&path.resource());
    good(secret(state, path)?.shown_version(&name, number))
}

fn list_versions(state: &mut State, _asked: &Asked, path: &Path) -> Outcome {
    let name = state.numbered(&path.resource());
    let secret = secret(state, path)?;
    let all = 1..=secret.versions.len() as u64;
    let versions: Vec<Value> = all.rev().map(|number| secret.shown_version(&name, number)).collect();
    good(json!({"totalSize": versions.len(), "versions": versions}))
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(value.clone()).unwrap_or_default()
}

fn create(state: &mut State, asked: &Asked, path: &Path) -> Outcome {
    let id = asked.parameter("secretId").unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if id.is_empty() || id.len() > 255 || !id.bytes().all(plain) {
        return Err(Refusal::invalid("The provided Secret ID does not match the expected format."));
    }
    let body = asked.json();
    if path.location.is_none() && !body["replication"].is_object() {
        return Err(Refusal::invalid("The replication field is required."));
    }
    let name = format!("{}/secrets/{id}", path.parent);
    if state.secrets.contains_key(&name) {
        return Err(Refusal::rpc(409, "ALREADY_EXISTS", format!("Secret [{name}] already exists.")));
    }
    let mut new = state.new_secret();
    (new.labels, new.annotations) = (texts(&body["labels"]), texts(&body["annotations"]));
    let shown = new.shown(&state.numbered(&name));
    state.secrets.insert(name, new);
    good(shown)
}

fn patch(state: &mut State, asked: &Asked, path: &Path) -> Outcome {
    let name = state.numbered(&path.resource());
    let body = asked.json();
    let mask = asked.parameter("updateMask").unwrap_or_default().to_owned();
    let secret = secret_mut(state, path)?;
    for field in mask.split(',') {
        match field {
            "labels" => secret.labels = texts(&body["labels"]),
            "annotations" => secret.annotations = texts(&body["annotations"]),
            "versionAliases" | "version_aliases" => {
                let aliases = texts(&body["versionAliases"]).into_iter();
                secret.aliases = aliases.filter_map(|(alias, number)| Some((alias, number.parse().ok()?))).collect();
            }
            _ => return Err(Refusal::invalid("The update mask names a field that cannot be changed.")),
        }
    }
    good(secret.shown(&name))
}

fn delete(state: &mut State, _asked: &Asked, path: &Path) -> Outcome {
    secret(state, path)?;
    state.secrets.remove(&path.resource());
    good(json!({}))
}

fn add(state: &mut State, asked: &Asked, path: &Path) -> Outcome {
    let name = state.numbered(&path.resource());
    let payload = asked.json()["payload"].clone();
    let data = STANDARD.decode(payload["data"].as_str().unwrap_or_default());
    let data = data.map_err(|_| Refusal::invalid("Invalid value at 'payload.data' (TYPE_BYTES)."))?;
    if data.is_empty() {
        return Err(Refusal::invalid("Secret Payload cannot be empty."));
    }
    if data.len() > LARGEST {
        return Err(Refusal::invalid(format!("The maximum secret size is {LARGEST} bytes.")));
    }
    let sum = payload["dataCrc32c"].as_str().map(str::to_owned);
    let sum = sum.or_else(|| payload["dataCrc32c"].as_u64().map(|sum| sum.to_string()));
    if sum.as_ref().is_some_and(|sum| *sum != crc32c::crc32c(&data).to_string()) {
        return Err(Refusal::invalid("Data corruption detected: the checksum does not match."));
    }
    let secret = secret_mut(state, path)?;
    let number = secret.add(&data);
    let mut shown = secret.shown_version(&name, number);
    shown["clientSpecifiedPayloadChecksum"] = json!(sum.is_some());
    good(shown)
}

fn change_state(state: &mut State, _asked: &Asked, path: &Path) -> Outcome {
    let number = number(state, path)?;
    let name = state.numbered(&path.resource());
    let wanted = match path.verb.as_deref() {
        Some("enable") => VersionState::Enabled,
        Some("disable") => VersionState::Disabled,
        _ => VersionState::Destroyed,
    };
    let secret = secret_mut(state, path)?;
    if secret.version(number).is_some_and(|version| version.state == VersionState::Destroyed) {
        let text = format!("Secret Version [{name}/versions/{number}] is in DESTROYED state.");
        return Err(Refusal::rpc(400, "FAILED_PRECONDITION", text));
    }
    secret.set_state(number, wanted);
    good(secret.shown_version(&name, number))
}

/// Filters of labels, joined by AND; pages by the place in the list; `fields`
/// as `secrets(a,b),nextPageToken`.
fn list(state: &mut State, asked: &Asked, path: &Path) -> Outcome {
    let filter = asked.parameter("filter").unwrap_or_default();
    let terms = filter.split(" AND ").filter(|term| !term.is_empty()).map(Term::of).collect::<Option<Vec<_>>>();
    let terms = terms.ok_or_else(|| Refusal::invalid("Invalid filter."))?;
    let below = format!("{}/secrets/", path.parent);
    let mut found: Vec<(&String, &Secret)> = state
        .secrets
        .iter()
        .filter(|(name, secret)| name.starts_with(&below) && terms.iter().all(|term| term.fits(secret)))
        .collect();
    found.sort_by_key(|(_, secret)| std::cmp::Reverse(secret.order));
    let size = asked.parameter("pageSize").and_then(|size| size.parse().ok()).filter(|size| *size > 0);
    let size: usize = size.unwrap_or(25_000).min(25_000);
    let start: usize = match asked.parameter("pageToken") {
        None | Some("") => 0,
        Some(token) => token.parse().map_err(|_| Refusal::invalid("Invalid page token."))?,
    };
    let fields = asked.parameter("fields").and_then(|fields| fields.strip_prefix("secrets("));
    let fields = fields.and_then(|fields| fields.split_once(')')).map(|(fields, _)| fields.split(',').collect());
    let page = found.iter().skip(start).take(size);
    let secrets: Vec<Value> =
        page.map(|(name, secret)| reduced(secret.shown(&state.numbered(name)), fields.as_ref())).collect();
    let mut answer = json!({"totalSize": if filter.is_empty() { found.len() } else { 0 }});
    if fields.is_some() {
        answer = json!({});
    }
    let next = start + secrets.len();
    if !secrets.is_empty() {
        answer["secrets"] = json!(secrets);
    }
    if next < found.len() {
        answer["nextPageToken"] = json!(next.to_string());
    }
    good(answer)
}

fn reduced(secret: Value, fields: Option<&Vec<&str>>) -> Value {
    match (secret, fields) {
        (Value::Object(all), Some(fields)) => {
            Value::Object(all.into_iter().filter(|(key, _)| fields.contains(&key.as_str())).collect::<Map<_, _>>())
        }
        (secret, _) => secret,
    }
}

/// `labels.KEY=VALUE`, or `labels.KEY:*`.
struct Term {
    key: String,
    value: Option<String>,
}

impl Term {
    fn of(text: &str) -> Option<Self> {
        let rest = text.trim().strip_prefix("labels.")?;
        if let Some(key) = rest.strip_suffix(":*") {
            return Some(Self { key: key.to_owned(), value: None });
        }
        let (key, value) = rest.split_once('=')?;
        Some(Self { key: key.to_owned(), value: Some(value.trim_matches('"').to_owned()) })
    }

    fn fits(&self, secret: &Secret) -> bool {
        let found = secret.labels.get(&self.key);
        found.is_some_and(|found| self.value.as_ref().is_none_or(|value| value == found))
    }
}
