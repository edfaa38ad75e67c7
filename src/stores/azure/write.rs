//! New values written back, each as a version of its own.
//!
//! Key Vault takes no precondition, and its versions have no order: whoever
//! writes in the same moment is written over. What is there already is not
//! written again.

use azure_core::http::RequestContent;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    Reader, invalid,
    names::{self, Object},
    read::not_key_vaults,
};
use crate::stores::{
    DecodedText, StoreError, WriteBack,
    writing::{Change, sealed, sized},
};

/// What Key Vault takes.
const LARGEST: usize = 25_600;

/// What is there, as far as it is kept.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Current<'a> {
    value: DecodedText,
    #[serde(default)]
    content_type: Option<String>,
    #[serde(borrow, default)]
    tags: Option<&'a RawValue>,
    /// It belongs to a certificate.
    #[serde(default)]
    managed: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    value: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<&'a RawValue>,
}

impl Reader {
    pub(super) async fn write_back(&self, write: &WriteBack<'_>) -> Result<(), StoreError> {
        let change = Change::of(write)?;
        let Object::Secret(name) = names::object(&write.key.key)? else { return Err(of_a_certificate()) };
        let body = self.secret(name, None).await?;
        let current: Current<'_> = serde_json::from_slice(body.as_ref()).map_err(|_| not_key_vaults())?;
        if current.managed {
            return Err(of_a_certificate());
        }
        let old = current.value.0.expose().as_bytes();
        let new = change.applied(Some(old))?;
        if old == new.expose() {
            return Ok(());
        }
        sized(&new, LARGEST, "Key Vault")?;
        let value = std::str::from_utf8(new.expose())
            .map_err(|_| invalid("the new value is no text, and Key Vault keeps nothing else"))?;
        let body = Body { value, content_type: current.content_type.as_deref(), tags: current.tags };
        let room = value.len() + current.tags.map_or(0, |tags| tags.get().len());
        // Its own `from` copies.
        let content: RequestContent<_> = sealed(&body, room)?.into();
        self.secrets.set_secret(name, content, None).await.map(drop).map_err(|error| self.not_read(&error))
    }
}

fn of_a_certificate() -> StoreError {
    invalid("a certificate or key is not written as a secret: let Key Vault renew it")
}
