//! Key Vault's REST interface.

use axum::http::{HeaderValue, header};
use axum::response::Response;
use serde_json::{Value, json};

use super::answers::{answer as json_answer, now, refused};
use super::state::{Object, Secret, State, Vault, Version, base64_url};
use super::{Asked, LOGIN};

const LARGEST_VALUE: usize = 25_600;
const PAGE: usize = 25;

pub(super) fn answer(asked: &Asked, state: &mut State) -> Response {
    let State { logins, vaults, .. } = state;
    let Some(vault) = vaults.get_mut(&asked.host) else {
        return refused(404, "VaultNotFound", None, "The vault was not found.");
    };
    if asked.query("api-version").is_none_or(|version| !version.starts_with('7') && !version.starts_with("20")) {
        return refused(400, "BadParameter", None, "The api-version is missing or not known.");
    }
    let token = asked.authorization.as_deref().and_then(|header| header.strip_prefix("Bearer "));
    let client = match token.map(|token| logins.get(token)) {
        None => return unauthorized(vault, "AKV10000: Request is missing a Bearer or PoP token."),
        Some(Some(login)) if login.tenant != vault.tenant => {
            return unauthorized(vault, "AKV10032: Invalid issuer.");
        }
        Some(Some(login)) if login.resource == super::RESOURCE && login.ends > now() => login.client.clone(),
        Some(_) => return unauthorized(vault, "AKV10022: Invalid audience, or the token has expired."),
    };
    let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
    let Some((kind, name)) = path.first().map(|kind| (*kind, path.get(1).copied().unwrap_or_default())) else {
        return not_served();
    };
    let last = path.get(2).copied();
    let permission = match (asked.method.as_str(), name, last) {
        ("GET", "", _) | ("GET", _, Some("versions")) => "list",
        ("GET", ..) => "get",
        ("PUT" | "PATCH", ..) => "set",
        ("DELETE", ..) => "delete",
        ("POST", _, Some("recover")) => "recover",
        _ => return not_served(),
    };
    let area = if kind == "deletedsecrets" { "secrets" } else { kind };
    if !vault.allows(&client, &format!("{area}/{permission}"), name) {
        let words =
            format!("The user, group or application does not have {area} {permission} permission on key vault.");
        return refused(403, "Forbidden", Some("AccessDenied"), &words);
    }
    match (asked.method.as_str(), kind, name, last) {
        ("GET", "secrets", "", None) => list(asked, vault),
        ("GET", "secrets", _, Some("versions")) => versions(asked, vault, name),
        ("GET", "secrets", _, version) => get(asked, vault, name, version),
        ("PUT", "secrets", _, None) => set(asked, vault, name),
        ("PATCH", "secrets", _, version) => update(asked, vault, name, version),
        ("DELETE", "secrets", _, None) => delete(asked, vault, name),
        ("GET", "deletedsecrets", _, None) => deleted(asked, vault, name),
        ("POST", "deletedsecrets", _, Some("recover")) => recover(asked, vault, name),
        ("GET", "keys", _, _) => key(vault, name),
        ("GET", "certificates", _, _) => certificate(asked, vault, name),
        _ => not_served(),
    }
}

fn not_served() -> Response {
    refused(405, "MethodNotAllowed", None, "The method is not served here.")
}

fn not_found(kind: &str, name: &str) -> Response {
    let words = format!(
        "A {} with (name/id) {name} was not found in this key vault. If you recently deleted it you may be able to \
         recover it.",
        kind.to_lowercase()
    );
    refused(404, &format!("{kind}NotFound"), None, &words)
}

fn unauthorized(vault: &Vault, words: &str) -> Response {
    let challenge =
        format!("Bearer authorization=\"https://{LOGIN}/{}\", resource=\"{}\"", vault.tenant, vault.resource);
    let mut response = refused(401, "Unauthorized", None, words);
    if let Ok(challenge) = HeaderValue::from_str(&challenge) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

fn attributes(version: &Version) -> Value {
    json!({
        "enabled": version.enabled, "created": version.created, "updated": version.created,
        "recoveryLevel": "Recoverable+Purgeable", "recoverableDays": 90,
    })
}

/// What is shown of a version without its value.
fn properties(id: &str, version: &Version) -> Value {
    let Secret { content_type, tags, managed, .. } = &version.secret;
    let mut shown = json!({"id": id, "attributes": attributes(version), "tags": tags});
    if let Some(content_type) = content_type {
        shown["contentType"] = json!(content_type);
    }
    if *managed {
        shown["managed"] = json!(true);
    }
    shown
}

fn bundle(asked: &Asked, name: &str, version: &Version) -> Value {
    let id = format!("https://{}/secrets/{name}/{}", asked.host, version.id);
    let mut shown = properties(&id, version);
    shown["value"] = json!(version.secret.value);
    shown
}

fn there<'a>(vault: &'a mut Vault, name: &str) -> Option<&'a mut Object> {
    vault.secrets.get_mut(name).filter(|object| !object.deleted)
}

fn get(asked: &Asked, vault: &mut Vault, name: &str, version: Option<&str>) -> Response {
    let found = there(vault, name).and_then(|object| match version {
        None => object.versions.last(),
        Some(id) => object.versions.iter().find(|version| version.id == id),
    });
    match found {
        None => not_found("Secret", name),
        Some(version) if !version.enabled => {
            refused(403, "Forbidden", Some("SecretDisabled"), "Operation get is not allowed on a disabled secret.")
        }
        Some(version) => json_answer(200, &bundle(asked, name, version)),
    }
}

fn list(asked: &Asked, vault: &Vault) -> Response {
    let named = vault.secrets.iter().filter(|(_, object)| !object.deleted);
    let all = named.filter_map(|(name, object)| {
        Some(properties(&format!("https://{}/secrets/{name}", asked.host), object.versions.last()?))
    });
    page(asked, all.collect(), "secrets")
}

fn versions(asked: &Asked, vault: &mut Vault, name: &str) -> Response {
    let host = &asked.host;
    let Some(object) = there(vault, name) else { return not_found("Secret", name) };
    let all = object
        .versions
        .iter()
        .map(|version| properties(&format!("https://{host}/secrets/{name}/{}", version.id), version));
    page(asked, all.collect(), &format!("secrets/{name}/versions"))
}

fn page(asked: &Asked, all: Vec<Value>, path: &str) -> Response {
    let number = |name: &str| asked.query(name).and_then(|text| text.parse::<usize>().ok());
    let (skip, size) = (number("$skiptoken").unwrap_or(0), number("maxresults").unwrap_or(PAGE).clamp(1, PAGE));
    let more = (all.len() > skip + size)
        .then(|| format!("https://{}/{path}?api-version=7.5&$skiptoken={}&maxresults={size}", asked.host, skip + size));
    let shown: Vec<Value> = all.into_iter().skip(skip).take(size).collect();
    json_answer(200, &json!({"value": shown, "nextLink": more}))
}

fn set(asked: &Asked, vault: &mut Vault, name: &str) -> Response {
    if vault.secrets.get(name).is_some_and(|object| object.deleted) {
        let words = "The secret is currently in a deleted but recoverable state.";
        return refused(409, "Conflict", Some("ObjectIsDeletedButRecoverable"), words);
    }
    let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
    let Some(value) = body["value"].as_str().filter(|value| value.len() <= LARGEST_VALUE) else {
        return refused(400, "BadParameter", None, "The value is missing or too large.");
    };
    let secret = Secret {
        value: value.to_owned(),
        content_type: body["contentType"].as_str().map(str::to_owned),
        tags: serde_json::from_value(body["tags"].clone()).unwrap_or_default(),
        managed: false,
    };
    vault.put(name, secret);
    get(asked, vault, name, None)
}

fn update(asked: &Asked, vault: &mut Vault, name: &str, version: Option<&str>) -> Response {
    let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
    let found = there(vault, name).and_then(|object| match version {
        None => object.versions.last_mut(),
        Some(id) => object.versions.iter_mut().find(|version| version.id == id),
    });
    let Some(version) = found else { return not_found("Secret", name) };
    if let Some(enabled) = body["attributes"]["enabled"].as_bool() {
        version.enabled = enabled;
    }
    if let Ok(tags) = serde_json::from_value(body["tags"].clone()) {
        version.secret.tags = tags;
    }
    json_answer(200, &properties(&format!("https://{}/secrets/{name}/{}", asked.host, version.id), version))
}

fn delete(asked: &Asked, vault: &mut Vault, name: &str) -> Response {
    if there(vault, name).is_none() {
        return not_found("Secret", name);
    }
    vault.delete(name, true);
    deleted(asked, vault, name)
}

fn deleted(asked: &Asked, vault: &Vault, name: &str) -> Response {
    let object = vault.secrets.get(name).filter(|object| object.deleted);
    let Some(version) = object.and_then(|object| object.versions.last()) else { return not_found("Secret", name) };
    let mut shown = properties(&format!("https://{}/secrets/{name}/{}", asked.host, version.id), version);
    shown["recoveryId"] = json!(format!("https://{}/deletedsecrets/{name}", asked.host));
    shown["deletedDate"] = json!(now());
    shown["scheduledPurgeDate"] = json!(now() + 90 * 24 * 3600);
    json_answer(200, &shown)
}

fn recover(asked: &Asked, vault: &mut Vault, name: &str) -> Response {
    if !vault.secrets.get(name).is_some_and(|object| object.deleted) {
        return not_found("Secret", name);
    }
    vault.delete(name, false);
    let shown = there(vault, name).and_then(|object| object.versions.last());
    match shown {
        Some(version) => {
            json_answer(200, &properties(&format!("https://{}/secrets/{name}/{}", asked.host, version.id), version))
        }
        None => not_found("Secret", name),
    }
}

fn key(vault: &Vault, name: &str) -> Response {
    let Some(key) = vault.keys.get(name) else { return not_found("Key", name) };
    let attributes = json!({"enabled": true, "created": now(), "updated": now(), "recoveryLevel": "Recoverable"});
    json_answer(200, &json!({"key": key, "attributes": attributes, "tags": {}}))
}

fn certificate(asked: &Asked, vault: &Vault, name: &str) -> Response {
    let object = vault.secrets.get(name).filter(|object| !object.deleted);
    let (Some(der), Some(version)) = (vault.certificates.get(name), object.and_then(|object| object.versions.last()))
    else {
        return not_found("Certificate", name);
    };
    let place = |kind: &str| format!("https://{}/{kind}/{name}/{}", asked.host, version.id);
    let cer = base64_standard(der);
    let shown = json!({
        "id": place("certificates"), "kid": place("keys"), "sid": place("secrets"), "cer": cer,
        "x5t": base64_url(&[0; 20]), "contentType": version.secret.content_type, "attributes": attributes(version),
        "policy": {"id": format!("https://{}/certificates/{name}/policy", asked.host), "x509_props": {"subject": "CN=bot"}},
        "tags": {},
    });
    json_answer(200, &shown)
}

fn base64_standard(bytes: &[u8]) -> String {
    let mut text = base64_url(bytes).replace('-', "+").replace('_', "/");
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}
