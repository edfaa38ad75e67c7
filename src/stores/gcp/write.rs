//! New values written back, each as a version of its own.
//!
//! Google adds a version whatever is there already, so the newest one is
//! looked at before, and the new one's number says whether anything came
//! between. `latest` may lag behind by minutes, and would hide what a lost
//! reply was about; a version's number never does.

use std::{borrow::Cow, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{
    Method, Request,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    Reader,
    errors::{self, ADD, Asked},
    names::SecretName,
    read::{NOT_GOOGLES, of_another_location, patience_elsewhere, version_of},
    unavailable,
};
use crate::{
    secret::SecretBytes,
    stores::{
        ErrorClass, Payload, RemoteSecret, StoreError, WriteBack,
        writing::{Change, conflict, sealed, sized},
    },
};

/// What a version may weigh.
const LARGEST: usize = 65_536;
/// How many versions `latest` may be behind.
const LAG: u64 = 50;

/// The newest version.
struct Newest {
    number: u64,
    /// None where it is not enabled.
    content: Option<SecretBytes>,
}

#[derive(Serialize)]
struct Body<'a> {
    payload: Data<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    data: &'a str,
    data_crc32c: String,
}

#[derive(Deserialize)]
struct Added<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

impl Reader {
    pub(super) async fn write_back(&self, write: &WriteBack<'_>) -> Result<(), StoreError> {
        let change = Change::of(write)?;
        let (secret, elsewhere) = self.named(&write.key.key)?;
        let within = if elsewhere { patience_elsewhere() } else { None };
        let written = self.follow(&secret, &change, write.base, within).await;
        if elsewhere { written.map_err(of_another_location) } else { written }
    }

    async fn follow(
        &self,
        secret: &SecretName,
        change: &Change<'_>,
        base: Option<u64>,
        within: Option<Duration>,
    ) -> Result<(), StoreError> {
        let newest = self.newest(secret, change.is_whole(), within).await?;
        let number = newest.as_ref().map_or(0, |newest| newest.number);
        let old = newest.and_then(|newest| newest.content);
        let new = change.applied(old.as_ref().map(SecretBytes::expose))?;
        // As after a reply that was lost.
        if old.is_some_and(|old| old == new) {
            return Ok(());
        }
        if base.is_some_and(|base| number > base) {
            return Err(conflict(format!(
                "somebody else has added version {number} since the secret was read, which stays the newest"
            )));
        }
        sized(&new, LARGEST, "Secret Manager")?;
        let added = self.add(secret, &new, within).await?;
        if added == number + 1 {
            return Ok(());
        }
        Err(conflict(format!(
            "somebody else added a version in the same moment: version {added} was made from version {number}, and \
             what came between is no longer the newest"
        )))
    }

    /// The newest version, by its number. `None`: there is none yet, which only
    /// a whole value can follow.
    async fn newest(
        &self,
        secret: &SecretName,
        whole: bool,
        within: Option<Duration>,
    ) -> Result<Option<Newest>, StoreError> {
        let latest = self.asked_for(secret, "latest", within).await?;
        let mut newest = match self.accessed(&latest, secret, "latest") {
            Ok(read) => Newest::of(read)?,
            Err(error) if whole && error.class == ErrorClass::Missing && latest.status == 404 => return Ok(None),
            Err(error) => return Err(error),
        };
        for next in newest.number + 1..=newest.number + LAG {
            let version = next.to_string();
            let answer = self.asked_for(secret, &version, within).await?;
            if answer.status == 404 {
                return Ok(Some(newest));
            }
            newest = match self.accessed(&answer, secret, &version) {
                Ok(read) => Newest::of(read)?,
                Err(error) if whole && error.class == ErrorClass::Missing => Newest { number: next, content: None },
                Err(error) => return Err(error),
            };
        }
        Err(unavailable("Google does not know yet which version is the latest").about_one())
    }

    /// Adds a version: its number.
    async fn add(&self, secret: &SecretName, value: &SecretBytes, within: Option<Duration>) -> Result<u64, StoreError> {
        let data = Zeroizing::new(STANDARD.encode(value.expose()));
        let data_crc32c = crc32c::crc32c(value.expose()).to_string();
        let body = sealed(&Body { payload: Data { data: &data, data_crc32c } }, data.len())?;
        let url = self.manager.url(secret.parent.location.as_deref(), &format!("{secret}:addVersion"))?;
        let mut request = Request::new(Method::POST, url);
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *request.body_mut() = Some(body.into());
        let answer = self.ask(request, within).await?;
        if !answer.status.is_success() {
            let asked = Asked { permission: ADD, principal: &self.principal, version: None };
            return Err(errors::refused_read(&answer, &asked));
        }
        let added: Option<Added<'_>> = serde_json::from_slice(&answer.body).ok();
        let number = added.and_then(|added| version_of(&added.name, &secret.id, "latest"));
        number.ok_or_else(|| unavailable(NOT_GOOGLES).about_one())
    }
}

impl Newest {
    fn of(read: RemoteSecret) -> Result<Self, StoreError> {
        match (read.payload, read.version) {
            (Payload::Bytes(bytes), Some(number)) => Ok(Self { number, content: Some(bytes) }),
            _ => Err(unavailable(NOT_GOOGLES).about_one()),
        }
    }
}
