//! Reads of the key/value engine.

use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use vaultrs::api::{kv1::requests::GetSecretRequest, kv2::requests::ReadSecretRequest};

use super::{
    Reader,
    answers::{self, Doing},
    invalid,
    mounts::{Engine, no_engine},
    paths::{clean, static_role_below},
    unavailable,
};
use crate::{
    secret::SecretText,
    stores::{ErrorClass, Payload, RemoteKey, RemoteSecret, StoreError, http::Answer},
};

/// Where a remote key leads.
pub(super) struct Place {
    pub(super) mount: String,
    pub(super) path: String,
    pub(super) engine: Engine,
    pub(super) looked_up: bool,
}

impl Place {
    /// The path that a policy must name.
    fn in_policy(&self) -> String {
        match self.engine {
            Engine::One | Engine::Database => format!("{}/{}", self.mount, self.path),
            Engine::Two => format!("{}/data/{}", self.mount, self.path),
        }
    }
}

impl Reader {
    pub(super) async fn read_one(&self, key: &RemoteKey) -> Result<RemoteSecret, StoreError> {
        if key.metadata {
            return self.read_metadata(key).await;
        }
        let place = self.locate(&key.key).await?;
        let version = key.version.as_deref().map(version_number).transpose()?;
        let (mount, path) = (place.mount.clone(), place.path.clone());
        let answer = match (place.engine, version) {
            (Engine::One | Engine::Database, Some(_)) => {
                let message = "only version 2 of the key/value engine keeps versions: leave remoteRef.version out";
                return Err(invalid(message));
            }
            (Engine::One | Engine::Database, None) => {
                self.wire.send(&GetSecretRequest { mount, path }, Some(&self.token), &self.pace).await?
            }
            (Engine::Two, version) => {
                self.wire.send(&ReadSecretRequest { mount, path, version }, Some(&self.token), &self.pace).await?
            }
        };
        let read = match answer.status.as_u16() {
            200 if place.engine == Engine::Two => second_engine(&answer.body),
            200 => first_engine(&answer.body, static_role_below(&place.path).is_some()),
            404 => Err(missing(&answer, &place, version)),
            _ => {
                let policy_path = place.in_policy();
                Err(answers::refusal(&answer, &Doing::Read { policy_path: &policy_path, role: &self.role }))
            }
        };
        if place.looked_up && matches!(&read, Err(error) if !error.class.is_outage()) {
            self.engines.found.doubt(&place.mount);
        }
        read
    }

    pub(super) async fn locate(&self, key: &str) -> Result<Place, StoreError> {
        let key = clean(key, "remoteRef.key")?;
        // A secret lies below its mount.
        let folder = key.rsplit_once('/').map_or(key.as_str(), |(folder, _)| folder);
        let (mount, engine, looked_up) = self.mount_for(&key, folder).await?;
        let path = match &self.engines.mount {
            Some(_) => key,
            None => match key.strip_prefix(&mount).and_then(|rest| rest.strip_prefix('/')) {
                Some(rest) => rest.to_owned(),
                None => return Err(invalid("remoteRef.key names a mount only: add the secret's path below it")),
            },
        };
        // Anything else there is issued by the read.
        if engine == Engine::Database && static_role_below(&path).is_none() {
            return Err(no_engine(&mount));
        }
        Ok(Place { mount, path, engine, looked_up })
    }

    /// The mount that a path lies below, its version, and whether either was
    /// looked up. The path begins with the mount where the store names none;
    /// `deepest` is as much of it as can be the mount.
    pub(super) async fn mount_for(&self, path: &str, deepest: &str) -> Result<(String, Engine, bool), StoreError> {
        let engines = &self.engines;
        match (&engines.mount, engines.engine) {
            (Some(mount), Some(engine)) => Ok((mount.clone(), engine, false)),
            (Some(mount), None) => {
                let (found, engine) = self.mount_of(mount, mount).await?;
                if found != *mount {
                    return Err(invalid(format!(
                        "path is inside the mount {found}: write path: {found} and begin remote keys with the rest"
                    )));
                }
                Ok((found, engine, true))
            }
            (None, version) => {
                let (found, engine) = self.mount_of(path, deepest).await?;
                Ok((found, version.unwrap_or(engine), true))
            }
        }
    }
}

fn version_number(text: &str) -> Result<u64, StoreError> {
    match text.parse() {
        // Vault takes 0 for "the newest", which is no pinned version.
        Ok(number) if number > 0 => Ok(number),
        _ => Err(invalid("remoteRef.version must be a whole number from 1, as Vault counts versions")),
    }
}

/// Parse errors are dropped everywhere here: they may quote what was read.
const NOT_VAULTS: &str = "the answer is not one of Vault's key/value engine: check address, path and version";

#[derive(Deserialize)]
struct One<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    lease_id: String,
}

/// When the password of a static role was last changed.
#[derive(Deserialize)]
struct StaticRole {
    last_vault_rotation: Timestamp,
}

pub(super) fn first_engine(body: &[u8], is_static_role: bool) -> Result<RemoteSecret, StoreError> {
    let answer: One<'_> = serde_json::from_slice(body).map_err(|_| unavailable(NOT_VAULTS).about_one())?;
    if !answer.lease_id.is_empty() {
        let message = "this path issues leased credentials, a new one at every read: read it by dataFrom.dynamic";
        return Err(invalid(message));
    }
    let data = answer.data.ok_or_else(|| unavailable(NOT_VAULTS).about_one())?;
    let role: Option<StaticRole> = is_static_role.then(|| serde_json::from_str(data.get()).ok()).flatten();
    Ok(RemoteSecret {
        changed: role.map(|role| role.last_vault_rotation),
        ..RemoteSecret::of(Payload::Json(SecretText::new(data.get().to_owned())))
    })
}

#[derive(Deserialize)]
struct Two<'a> {
    #[serde(borrow)]
    data: TwoData<'a>,
}

#[derive(Deserialize)]
struct TwoData<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    version: u64,
    #[serde(default)]
    created_time: Option<String>,
    #[serde(default)]
    destroyed: bool,
}

pub(super) fn second_engine(body: &[u8]) -> Result<RemoteSecret, StoreError> {
    let Two { data } = serde_json::from_slice(body).map_err(|_| unavailable(NOT_VAULTS).about_one())?;
    match data.data {
        Some(text) => Ok(RemoteSecret {
            version: Some(data.metadata.version),
            changed: data.metadata.created_time.and_then(|time| time.parse().ok()),
            ..RemoteSecret::of(Payload::Json(SecretText::new(text.get().to_owned())))
        }),
        None => Err(gone(&data.metadata)),
    }
}

fn gone(metadata: &Metadata) -> StoreError {
    let (version, how) = (metadata.version, if metadata.destroyed { "destroyed" } else { "deleted" });
    let undelete = if metadata.destroyed { "" } else { "undelete it or " };
    StoreError::new(ErrorClass::Missing, format!("version {version} is {how}: {undelete}write a new version"))
}

/// What a 404 says besides its status.
#[derive(Default, Deserialize)]
struct NotFound {
    #[serde(default)]
    data: Option<NotFoundData>,
    #[serde(default)]
    warnings: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct NotFoundData {
    metadata: Metadata,
}

pub(super) fn missing(answer: &Answer, place: &Place, version: Option<u64>) -> StoreError {
    let said: NotFound = serde_json::from_slice(&answer.body).unwrap_or_default();
    if let Some(data) = said.data {
        return gone(&data.metadata);
    }
    if place.engine == Engine::One && said.warnings.is_some_and(|warnings| !warnings.is_empty()) {
        let mount = &place.mount;
        return invalid(format!("the key/value engine at {mount} is version 2: write version: v2 in the store"));
    }
    let message = match version {
        Some(number) => format!("version {number} is not there: pin one that exists"),
        None => format!("there is nothing at this path of mount {}: write it or correct remoteRef.key", place.mount),
    };
    StoreError::new(ErrorClass::Missing, message)
}
