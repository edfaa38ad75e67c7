//! Custom metadata: what people keep about a secret of engine 2, beside its
//! versions.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use vaultrs::api::kv2::requests::ReadSecretMetadataRequest;

use super::{
    Reader,
    answers::{self, Doing},
    invalid,
    mounts::Engine,
    unavailable,
};
use crate::{
    secret::SecretText,
    stores::{ErrorClass, Payload, RemoteKey, RemoteSecret, StoreError, http::Answer},
};

const NONE_IN_FIRST: &str = "version 1 of the key/value engine keeps no metadata";
/// Parse errors are dropped: they may quote what was read.
const NOT_VAULTS: &str = "the answer is not metadata of Vault's key/value engine: check address, path and version";

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    data: MetadataData<'a>,
}

#[derive(Deserialize)]
struct MetadataData<'a> {
    #[serde(borrow, default)]
    custom_metadata: Option<&'a RawValue>,
}

/// The custom metadata as Vault wrote it; an empty object where there is none.
pub(super) fn custom(body: &[u8]) -> Result<SecretText, StoreError> {
    let Metadata { data } = serde_json::from_slice(body).map_err(|_| unavailable(NOT_VAULTS).about_one())?;
    Ok(SecretText::new(data.custom_metadata.map_or("{}", RawValue::get).to_owned()))
}

impl Reader {
    /// The custom metadata of a secret, instead of its value.
    pub(super) async fn read_metadata(&self, key: &RemoteKey) -> Result<RemoteSecret, StoreError> {
        if key.version.is_some() {
            return Err(invalid("metadata has no versions: leave remoteRef.version out with metadataPolicy Fetch"));
        }
        let place = self.locate(&key.key).await?;
        if place.engine != Engine::Two {
            return Err(invalid(format!("{NONE_IN_FIRST}: leave remoteRef.metadataPolicy out")));
        }
        let answer = self.metadata_of(&place.mount, &place.path).await?;
        if answer.status.as_u16() == 404 {
            let message = format!("there is nothing at this path of mount {}: write it first", place.mount);
            return Err(StoreError::new(ErrorClass::Missing, message));
        }
        // No version: metadata changes without making one.
        Ok(RemoteSecret::of(Payload::Json(custom(&answer.body)?)))
    }

    /// Whether a secret's custom metadata has all of these. One that was
    /// removed since it was listed has none.
    pub(super) async fn has_tags(
        &self,
        mount: &str,
        path: &str,
        tags: &BTreeMap<String, String>,
    ) -> Result<bool, StoreError> {
        let answer = self.metadata_of(mount, path).await?;
        if answer.status.as_u16() == 404 {
            return Ok(false);
        }
        let text = custom(&answer.body)?;
        let found: BTreeMap<String, String> =
            serde_json::from_str(text.expose()).map_err(|_| unavailable(NOT_VAULTS).about_one())?;
        Ok(tags.iter().all(|(tag, value)| found.get(tag) == Some(value)))
    }

    /// The answer, which is either good or a 404.
    async fn metadata_of(&self, mount: &str, path: &str) -> Result<Answer, StoreError> {
        let endpoint = ReadSecretMetadataRequest { mount: mount.to_owned(), path: path.to_owned() };
        let answer = self.wire.send(&endpoint, Some(&self.token), &self.pace).await?;
        match answer.status.as_u16() {
            200 | 404 => Ok(answer),
            _ => {
                let policy_path = format!("{mount}/metadata/{path}");
                Err(answers::refusal(&answer, &Doing::Read { policy_path: &policy_path, role: &self.role }))
            }
        }
    }
}

/// For a search by tags, which only engine 2 can do.
pub(super) fn tags_need_second_engine() -> StoreError {
    invalid(format!("{NONE_IN_FIRST}, by which find.tags could look: use find.path or find.name"))
}

#[cfg(test)]
mod tests {
    use super::custom;
    use crate::stores::ErrorClass;

    #[test]
    fn custom_metadata_is_as_vault_wrote_it_and_empty_where_there_is_none() {
        let parsed = |body: &str| custom(body.as_bytes()).map(|text| text.expose().to_owned());
        let body = r#"{"data":{"custom_metadata":{"owner":"a  b"},"current_version":3}}"#;
        assert_eq!(parsed(body), Ok(r#"{"owner":"a  b"}"#.to_owned()));
        assert_eq!(parsed(r#"{"data":{"custom_metadata":null}}"#), Ok("{}".to_owned()));
        assert_eq!(parsed(r#"{"data":{}}"#), Ok("{}".to_owned()));
        let error = parsed(r#"{"data":{"custom_metadata":hunter2"#).expect_err("no JSON");
        assert_eq!((error.class, error.message.contains("hunter2")), (ErrorClass::Unavailable, false));
    }
}
