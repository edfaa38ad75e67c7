//! When versions were made, which no access tells.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;

use tokio::time::Instant;

use super::{
    Reader,
    errors::{self, Asked},
    names::SecretName,
};
use crate::stores::ErrorClass;

/// The right that it takes to know.
const GET: &str = "secretmanager.versions.get";

/// For how long whoever may not know is not asked again, and after another failure.
const DENIED: Duration = Duration::from_secs(300);
const FAILED: Duration = Duration::from_secs(10);

/// Of each secret what was asked about last. A version's date never changes.
#[derive(Default)]
pub(super) struct Dates(Mutex<HashMap<String, Known>>);

struct Known {
    number: u64,
    date: Date,
}

#[derive(Clone, Copy)]
enum Date {
    Made(Timestamp),
    /// Not to be had before then.
    Unknown(Instant),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    create_time: Timestamp,
}

impl Dates {
    fn known(&self, secret: &str, number: u64) -> Option<Date> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let date = known.get(secret).filter(|known| known.number == number)?.date;
        (!matches!(date, Date::Unknown(until) if until <= Instant::now())).then_some(date)
    }

    fn learn(&self, secret: String, number: u64, date: Date) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(secret, Known { number, date });
    }
}

impl Reader {
    /// When a version was made: asked once a version and login. `None` where that
    /// cannot be had, which is no reason to do without the value.
    pub(super) async fn made_at(
        &self,
        secret: &SecretName,
        number: u64,
        within: Option<Duration>,
    ) -> Option<Timestamp> {
        let name = secret.to_string();
        let date = if let Some(date) = self.dates.known(&name, number) {
            date
        } else {
            let date = match self.ask_date(secret, number, within).await {
                Ok(made) => Date::Made(made),
                Err(ErrorClass::Denied) => Date::Unknown(Instant::now() + DENIED),
                Err(_) => Date::Unknown(Instant::now() + FAILED),
            };
            self.dates.learn(name, number, date);
            date
        };
        match date {
            Date::Made(made) => Some(made),
            Date::Unknown(_) => None,
        }
    }

    async fn ask_date(
        &self,
        secret: &SecretName,
        number: u64,
        within: Option<Duration>,
    ) -> Result<Timestamp, ErrorClass> {
        let url = self.manager.url(secret.parent.location.as_deref(), &format!("{secret}/versions/{number}"));
        let answer = self.get(url.map_err(|error| error.class)?, within).await.map_err(|error| error.class)?;
        if !answer.status.is_success() {
            let version = number.to_string();
            let asked = Asked { permission: GET, principal: &self.principal, version: Some(&version) };
            return Err(errors::refused_read(&answer, &asked).class);
        }
        made(&answer.body).ok_or(ErrorClass::Unavailable)
    }
}

/// When a version was made, by what is said about it.
pub(super) fn made(body: &[u8]) -> Option<Timestamp> {
    let about: Version = serde_json::from_slice(body).ok()?;
    Some(about.create_time)
}
