//! HashiCorp Vault and OpenBao: key/value engine 1 and 2, login with the
//! ServiceAccount's token at `auth/kubernetes` or `auth/jwt`, or with a stored
//! credential as the last resort.
//!
//! Requests are vaultrs's endpoints; they are sent over the one HTTP stack of
//! all stores, which bounds answers. vaultrs's own client would put answers
//! into errors, log them, and take settings from the environment.

mod answers;
mod find;
#[cfg(any(test, fuzzing))]
pub(in crate::stores) mod fuzzing;
mod lease;
mod login;
mod login_token;
mod metadata;
mod mounts;
mod paths;
mod read;
mod wire;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use self::{
    login::Login,
    mounts::{Engine, Mounts},
    paths::clean,
    wire::Wire,
};
use super::{
    Audience, Backend, Capabilities, FindQuery, Identity, Opening, Pace, QuotaDomain, RemoteKey, RemoteSecret,
    ServiceAccount, Session, StoreError, WriteBack,
    error::{invalid, unavailable},
    read_each,
};
use crate::{
    api::{VaultKvVersion, VaultStore},
    secret::SecretText,
};

/// What one Vault is asked at once, by all stores that name its address.
const REQUESTS_IN_FLIGHT: u32 = 128;

/// One Vault as a store describes it.
pub(super) struct Vault {
    wire: Arc<Wire>,
    login: Login,
    engines: Arc<Engines>,
}

/// What the store says about where its key/value engine is.
struct Engines {
    /// The mount, without slashes around it; else remote keys begin with it.
    mount: Option<String>,
    engine: Option<Engine>,
    found: Mounts,
}

impl Vault {
    pub(super) fn new(spec: &VaultStore, opening: &Opening<'_>) -> Result<Self, StoreError> {
        let mount = spec.path.as_deref().map(|path| clean(path.trim_matches('/'), "path")).transpose()?;
        let engine = spec.version.map(|version| match version {
            VaultKvVersion::V1 => Engine::One,
            VaultKvVersion::V2 => Engine::Two,
        });
        Ok(Self {
            wire: Arc::new(Wire::new(spec, opening)?),
            login: Login::new(&spec.auth, &opening.credentials)?,
            engines: Arc::new(Engines { mount, engine, found: Mounts::default() }),
        })
    }
}

#[async_trait]
impl Backend for Vault {
    fn capabilities(&self) -> Capabilities {
        Capabilities { batch: 1, leases: true, write_back: true, change_events: false, dates_apart: false }
    }

    fn issuer(&self) -> Option<&dyn super::Issuer> {
        Some(self)
    }

    fn identity(&self, _account: &ServiceAccount) -> Result<Identity, StoreError> {
        let quota = QuotaDomain {
            name: format!("vault/{}", self.wire.base()),
            requests_per_second: None,
            in_flight: REQUESTS_IN_FLIGHT,
        };
        Ok(Identity {
            audience: self.login.audience().map(|audience| Audience::Of(audience.to_owned())),
            role: self.login.role.clone(),
            quota,
        })
    }

    async fn login(&self, login: super::Login<'_>) -> Result<Arc<dyn Session>, StoreError> {
        let pace = login.pace;
        let login = self.login.send(&self.wire, login.token, &pace).await?;
        Ok(Arc::new(Reader {
            wire: Arc::clone(&self.wire),
            engines: Arc::clone(&self.engines),
            role: self.login.role.clone(),
            token: login.token,
            expires: login.expires,
            pace,
        }))
    }
}

/// A login.
struct Reader {
    wire: Arc<Wire>,
    engines: Arc<Engines>,
    role: String,
    token: SecretText,
    expires: Instant,
    pace: Pace,
}

#[async_trait]
impl Session for Reader {
    fn expires(&self) -> Option<Instant> {
        Some(self.expires)
    }

    async fn read(&self, keys: &[RemoteKey]) -> Vec<Result<RemoteSecret, StoreError>> {
        read_each(keys, |key| self.read_one(key)).await
    }

    async fn find(&self, query: &FindQuery) -> Result<Vec<String>, StoreError> {
        self.look_for(query).await
    }

    async fn write(&self, write: &WriteBack<'_>) -> Result<(), StoreError> {
        self.write_version(write).await
    }

    async fn rotate(&self, key: &RemoteKey, _attempt: &str) -> Result<(), StoreError> {
        self.rotate_role(key).await
    }
}

#[cfg(test)]
mod tests;
