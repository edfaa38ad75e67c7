//! Reads secrets, certificates' secrets and public keys.

use std::borrow::Cow;

use azure_security_keyvault_keys::models::KeyClientGetKeyOptions;
use azure_security_keyvault_secrets::models::SecretClientGetSecretOptions;
use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Reader, errors,
    http::recovered,
    invalid,
    names::{self, Object},
    unavailable,
};
use crate::{
    secret::{SecretBytes, SecretText},
    stores::{DecodedText, Payload, RemoteKey, RemoteSecret, StoreError, version_id},
};

const PKCS12: &str = "application/x-pkcs12";
const PEM: &str = "application/x-pem-file";
/// Parse errors are dropped everywhere here: they may quote what was read.
const NOT_KEY_VAULTS: &str = "the answer is not one of Key Vault's: check vaultUrl and proxy";

impl Reader {
    pub(super) async fn read_one(&self, key: &RemoteKey) -> Result<RemoteSecret, StoreError> {
        let object = names::object(&key.key)?;
        let version = key.version.as_deref().map(names::version).transpose()?;
        let (payload, facts) = match object {
            Object::Secret(name) => {
                let body = self.secret(name, version).await?;
                (secret(body.as_ref(), key.metadata)?, facts(body.as_ref()))
            }
            Object::Certificate(name) => {
                let body = self.secret(name, version).await?;
                (certificate(body.as_ref(), key.metadata)?, facts(body.as_ref()))
            }
            Object::Key(name) => {
                let body = self.key(name, version).await?;
                (public_key(body.as_ref(), key.metadata)?, facts(body.as_ref()))
            }
        };
        let Facts { version_id, made: changed } = facts;
        // Versions have no order: a stale read cannot be told from a rollback.
        Ok(RemoteSecret { version_id, changed, ..RemoteSecret::of(payload) })
    }

    pub(super) async fn secret(
        &self,
        name: &str,
        version: Option<String>,
    ) -> Result<impl AsRef<[u8]> + use<>, StoreError> {
        let options =
            SecretClientGetSecretOptions { secret_version: version, ..SecretClientGetSecretOptions::default() };
        let answer = self.secrets.get_secret(name, Some(options)).await;
        answer.map(azure_core::http::Response::into_body).map_err(|error| self.not_read(&error))
    }

    async fn key(&self, name: &str, version: Option<String>) -> Result<impl AsRef<[u8]> + use<>, StoreError> {
        let options = KeyClientGetKeyOptions { key_version: version, ..KeyClientGetKeyOptions::default() };
        let answer = self.keys.get_key(name, Some(options)).await;
        answer.map(azure_core::http::Response::into_body).map_err(|error| self.not_read(&error))
    }

    /// What the SDK itself refuses is the vault's challenge.
    pub(super) fn not_read(&self, error: &azure_core::Error) -> StoreError {
        recovered(error, || errors::other_resource(&self.resource))
    }
}

#[derive(Deserialize)]
struct Bundle<'a> {
    value: DecodedText,
    #[serde(default, rename = "contentType")]
    content_type: Option<String>,
    #[serde(borrow, default)]
    tags: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct KeyBundle<'a> {
    #[serde(borrow)]
    key: &'a RawValue,
    #[serde(borrow, default)]
    tags: Option<&'a RawValue>,
}

/// Of a version, whatever it is one of.
#[derive(Deserialize)]
struct Version<'a> {
    attributes: Attributes,
    /// `https://VAULT/secrets/NAME/VERSION`.
    #[serde(borrow, default)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    key: Option<KeyId<'a>>,
}

/// Keys have it here.
#[derive(Deserialize)]
struct KeyId<'a> {
    #[serde(borrow, default)]
    kid: Cow<'a, str>,
}

/// What else is there (`updated`) goes up with the tags as well.
#[derive(Deserialize)]
struct Attributes {
    created: i64,
}

/// What Key Vault says of the version that it gave.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) version_id: Option<String>,
    pub(super) made: Option<Timestamp>,
}

pub(super) fn facts(body: &[u8]) -> Facts {
    let Ok(version) = serde_json::from_slice::<Version<'_>>(body) else { return Facts::default() };
    let id = version.key.map_or(version.id, |key| key.kid);
    // Without a version it would be the name.
    let last = id.splitn(6, '/').nth(5).and_then(version_id);
    Facts { made: Timestamp::from_second(version.attributes.created).ok(), version_id: last }
}

fn bundle(body: &[u8]) -> Result<(SecretText, Option<String>, Payload), StoreError> {
    let Bundle { value, content_type, tags } = serde_json::from_slice(body).map_err(|_| not_key_vaults())?;
    Ok((value.0, content_type, metadata(tags)))
}

/// The tags, as a JSON object.
fn metadata(tags: Option<&RawValue>) -> Payload {
    let text = tags.map_or("{}", RawValue::get);
    Payload::Json(SecretText::new(text.to_owned()))
}

pub(super) fn secret(body: &[u8], only_metadata: bool) -> Result<Payload, StoreError> {
    let (value, _, tags) = bundle(body)?;
    Ok(if only_metadata { tags } else { bytes(&value) })
}

/// As it is used: the PKCS#12 file, or the PEM text.
pub(super) fn certificate(body: &[u8], only_metadata: bool) -> Result<Payload, StoreError> {
    let (value, content_type, tags) = bundle(body)?;
    let content_type = content_type.unwrap_or_default();
    match content_type.trim().to_ascii_lowercase().as_str() {
        PKCS12 | PEM if only_metadata => Ok(tags),
        PKCS12 => match STANDARD.decode(value.expose().trim()) {
            Ok(file) => Ok(Payload::Bytes(SecretBytes::new(file))),
            Err(_) => {
                Err(unavailable("the certificate's PKCS#12 is not in base64, as Key Vault writes it").about_one())
            }
        },
        PEM => Ok(bytes(&value)),
        _ => Err(invalid(
            "this is no certificate's secret: read it as secret/NAME, or set its content type to \
             application/x-pkcs12 or application/x-pem-file",
        )),
    }
}

/// Key Vault keeps the private part to itself.
pub(super) fn public_key(body: &[u8], only_metadata: bool) -> Result<Payload, StoreError> {
    let KeyBundle { key, tags } = serde_json::from_slice(body).map_err(|_| not_key_vaults())?;
    Ok(if only_metadata { metadata(tags) } else { Payload::Json(SecretText::new(key.get().to_owned())) })
}

fn bytes(value: &SecretText) -> Payload {
    Payload::Bytes(SecretBytes::new(value.expose().as_bytes().to_vec()))
}

pub(super) fn not_key_vaults() -> StoreError {
    unavailable(NOT_KEY_VAULTS).about_one()
}
