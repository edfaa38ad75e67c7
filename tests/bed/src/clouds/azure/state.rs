//! What the cloud knows.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};

use super::answers::now;

/// A federated credential of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Federated {
    /// Whose tokens.
    pub issuer: String,
    /// Of whom.
    pub subject: String,
    /// For whom.
    pub audience: String,
}

/// A secret to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secret {
    /// Its value.
    pub value: String,
    /// Its content type.
    pub content_type: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// It belongs to a certificate.
    pub managed: bool,
}

impl Secret {
    /// A value alone.
    #[must_use]
    pub fn of(value: &str) -> Self {
        Self { value: value.to_owned(), ..Self::default() }
    }
}

#[derive(Default)]
pub(super) struct Client {
    pub(super) federated: Vec<Federated>,
    pub(super) secrets: Vec<String>,
}

/// A login that was given out.
pub(super) struct GivenOut {
    pub(super) tenant: String,
    pub(super) client: String,
    pub(super) resource: String,
    pub(super) ends: u64,
}

pub(super) struct State {
    pub(super) tenants: BTreeMap<String, BTreeMap<String, Client>>,
    pub(super) logins: BTreeMap<String, GivenOut>,
    pub(super) vaults: BTreeMap<String, Vault>,
    pub(super) machine: Option<(String, String, String)>,
    pub(super) login_life: u64,
    counter: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            tenants: BTreeMap::new(),
            logins: BTreeMap::new(),
            vaults: BTreeMap::new(),
            machine: None,
            login_life: 3599,
            counter: 0,
        }
    }
}

impl State {
    pub(super) fn with_client(&mut self, tenant: &str, client: &str, change: impl FnOnce(&mut Client)) {
        if let Some(known) = self.tenants.get_mut(tenant).and_then(|clients| clients.get_mut(client)) {
            change(known);
        }
    }

    /// A new login's token.
    pub(super) fn log_in(&mut self, tenant: &str, client: &str, resource: &str) -> String {
        self.counter += 1;
        let token = format!("entra-login-{:016x}", self.counter.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let login = GivenOut {
            tenant: tenant.to_owned(),
            client: client.to_owned(),
            resource: resource.to_owned(),
            ends: now() + self.login_life,
        };
        self.logins.insert(token.clone(), login);
        token
    }
}

pub(super) struct Grant {
    pub(super) client: String,
    pub(super) permission: String,
    pub(super) object: Option<String>,
}

pub(super) struct Version {
    pub(super) id: String,
    pub(super) secret: Secret,
    pub(super) enabled: bool,
    pub(super) created: u64,
}

#[derive(Default)]
pub(super) struct Object {
    pub(super) versions: Vec<Version>,
    pub(super) deleted: bool,
}

pub(super) struct Vault {
    pub(super) tenant: String,
    pub(super) resource: String,
    pub(super) grants: Vec<Grant>,
    pub(super) secrets: BTreeMap<String, Object>,
    pub(super) keys: BTreeMap<String, Value>,
    pub(super) certificates: BTreeMap<String, Vec<u8>>,
    counter: u64,
}

impl Vault {
    pub(super) fn new(tenant: &str, resource: &str) -> Self {
        Self {
            tenant: tenant.to_owned(),
            resource: resource.to_owned(),
            grants: Vec::new(),
            secrets: BTreeMap::new(),
            keys: BTreeMap::new(),
            certificates: BTreeMap::new(),
            counter: 0,
        }
    }

    pub(super) fn put(&mut self, name: &str, secret: Secret) -> String {
        self.counter += 1;
        let mixed = self.counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let id = format!("{mixed:016x}{:016x}", mixed.rotate_left(17));
        let version = Version { id: id.clone(), secret, enabled: true, created: now() };
        self.secrets.entry(name.to_owned()).or_default().versions.push(version);
        id
    }

    pub(super) fn disable(&mut self, name: &str) {
        if let Some(version) = self.secrets.get_mut(name).and_then(|object| object.versions.last_mut()) {
            version.enabled = false;
        }
    }

    pub(super) fn delete(&mut self, name: &str, deleted: bool) {
        if let Some(object) = self.secrets.get_mut(name) {
            object.deleted = deleted;
        }
    }

    pub(super) fn allows(&self, client: &str, permission: &str, object: &str) -> bool {
        self.grants.iter().any(|grant| {
            let named = grant.object.as_deref().is_none_or(|named| named.eq_ignore_ascii_case(object));
            grant.client == client && grant.permission == permission && named
        })
    }
}

/// A new key's public part.
pub(super) fn public_key(vault: &str, key: &str) -> Result<Value> {
    // 4, then both coordinates.
    let raw = rcgen::KeyPair::generate()?.public_key_raw().to_vec();
    let (x, y) = raw.get(1..).unwrap_or_default().split_at(32);
    Ok(json!({
        "kid": format!("https://{vault}.vault.test/keys/{key}/00000000000000000000000000000001"),
        "kty": "EC", "crv": "P-256", "key_ops": ["sign", "verify"], "x": base64_url(x), "y": base64_url(y),
    }))
}

/// Base64url without padding.
pub(super) fn base64_url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let three = [chunk.first(), chunk.get(1), chunk.get(2)].map(|byte| u32::from(byte.copied().unwrap_or(0)));
        let word = (three[0] << 16) | (three[1] << 8) | three[2];
        for place in 0..=chunk.len() {
            let index = (word >> (18 - 6 * place)) & 63;
            text.push(char::from(LETTERS[index as usize]));
        }
    }
    text
}
