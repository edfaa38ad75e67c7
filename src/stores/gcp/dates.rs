//! When versions were made, which no access tells.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;

use super::{
    Reader,
    errors::{self, Asked},
    names::SecretName,
    read::NOT_GOOGLES,
    unavailable,
};
use crate::stores::{ErrorClass, StoreError};

/// The right that it takes to know.
const GET: &str = "secretmanager.versions.get";

/// Of each secret the version that was asked about last. A version's date never
/// changes.
#[derive(Default)]
pub(super) struct Dates(Mutex<HashMap<String, (u64, Timestamp)>>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    create_time: Timestamp,
}

impl Dates {
    fn known(&self, secret: &str, number: u64) -> Option<Timestamp> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(secret).filter(|(version, _)| *version == number).map(|(_, made)| *made)
    }

    fn learn(&self, secret: String, number: u64, made: Timestamp) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(secret, (number, made));
    }
}

impl Reader {
    /// When a version was made: asked once a version and login. `None` where the
    /// identity may not know, which is no reason to do without the value.
    pub(super) async fn made_at(
        &self,
        secret: &SecretName,
        number: u64,
        within: Option<Duration>,
    ) -> Result<Option<Timestamp>, StoreError> {
        let name = secret.to_string();
        if let Some(made) = self.dates.known(&name, number) {
            return Ok(Some(made));
        }
        let url = self.manager.url(secret.parent.location.as_deref(), &format!("{name}/versions/{number}"))?;
        let answer = self.get(url, within).await?;
        if !answer.status.is_success() {
            let version = number.to_string();
            let asked = Asked { permission: GET, principal: &self.principal, version: Some(&version) };
            let error = errors::refused_read(&answer, &asked);
            return if error.class == ErrorClass::Denied && !error.session_dead { Ok(None) } else { Err(error) };
        }
        let Version { create_time } =
            serde_json::from_slice(&answer.body).map_err(|_| unavailable(NOT_GOOGLES).about_one())?;
        self.dates.learn(name, number, create_time);
        Ok(Some(create_time))
    }
}
