//! Reads of secrets and of what Google keeps about them.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use super::{
    Reader,
    errors::{self, Asked},
    invalid,
    names::{self, SecretName},
    unavailable,
};
use crate::{
    secret::{SecretBytes, SecretText},
    stores::{ErrorClass, HttpClients, Payload, RemoteKey, RemoteSecret, StoreError, http::Answer},
};

/// JSON for protocol buffers allows both paddings.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Reader {
    pub(super) async fn read_one(&self, key: &RemoteKey) -> Result<RemoteSecret, StoreError> {
        let (secret, elsewhere) = self.named(&key.key)?;
        let within = if elsewhere { patience_elsewhere() } else { None };
        let read =
            if key.metadata { self.describe(&secret, within).await } else { self.access(&secret, key, within).await };
        if elsewhere { read.map_err(of_another_location) } else { read }
    }

    /// The secret that a key names, and whether it is in another location than
    /// the store.
    pub(super) fn named(&self, key: &str) -> Result<(SecretName, bool), StoreError> {
        let secret = self.manager.parent.secret(key)?;
        if !self.manager.other_projects && secret.parent.project != self.manager.parent.project {
            return Err(invalid(
                "this store reads with an identity that many bots share, and so from its own project only: \
                 write the key without another project, or use a store with auth.workloadIdentityFederation",
            ));
        }
        let elsewhere = self.manager.is_elsewhere(&secret.parent);
        Ok((secret, elsewhere))
    }

    async fn access(
        &self,
        secret: &SecretName,
        key: &RemoteKey,
        within: Option<Duration>,
    ) -> Result<RemoteSecret, StoreError> {
        let version = names::version(key.version.as_deref())?;
        let answer = self.asked_for(secret, version, within).await?;
        let mut read = self.accessed(&answer, secret, version)?;
        if let Some(number) = read.version.filter(|_| key.dated) {
            read.changed = self.made_at(secret, number, within).await;
        }
        Ok(read)
    }

    /// What Google answers to a version's name.
    pub(super) async fn asked_for(
        &self,
        secret: &SecretName,
        version: &str,
        within: Option<Duration>,
    ) -> Result<Answer, StoreError> {
        let location = secret.parent.location.as_deref();
        let url = self.manager.url(location, &format!("{secret}/versions/{version}:access"))?;
        self.get(url, within).await
    }

    /// What that says.
    pub(super) fn accessed(
        &self,
        answer: &Answer,
        secret: &SecretName,
        version: &str,
    ) -> Result<RemoteSecret, StoreError> {
        if !answer.status.is_success() {
            let permission = "secretmanager.versions.access";
            let asked = Asked { permission, principal: &self.principal, version: Some(version) };
            return Err(errors::refused_read(answer, &asked));
        }
        accessed(&answer.body, &secret.id, version)
    }

    async fn describe(&self, secret: &SecretName, within: Option<Duration>) -> Result<RemoteSecret, StoreError> {
        let url = self.manager.url(secret.parent.location.as_deref(), &secret.to_string())?;
        let answer = self.get(url, within).await?;
        if !answer.status.is_success() {
            let permission = "secretmanager.secrets.get";
            let asked = Asked { permission, principal: &self.principal, version: None };
            return Err(errors::refused_read(&answer, &asked));
        }
        let about: About = serde_json::from_slice(&answer.body).map_err(|_| unavailable(NOT_GOOGLES).about_one())?;
        let text = serde_json::to_string(&about).map_err(|_| unavailable(NOT_GOOGLES).about_one())?;
        Ok(RemoteSecret::of(Payload::Json(SecretText::new(text))))
    }
}

/// How long another location than the store's is waited for: less than the
/// fetcher does, which would take its silence for the store's own.
pub(super) fn patience_elsewhere() -> Option<Duration> {
    HttpClients::send_limit().map(|limit| limit * 9 / 10)
}

/// Another location's outage says nothing about the store's own location.
pub(super) fn of_another_location(error: StoreError) -> StoreError {
    match error.class {
        ErrorClass::Unavailable | ErrorClass::Timeout => error.about_one(),
        _ => error,
    }
}

/// Parse errors are dropped everywhere here: they may quote what was read.
pub(super) const NOT_GOOGLES: &str = "the answer is not one of Secret Manager's: check endpoint and the proxy";

#[derive(Deserialize, Serialize)]
struct About {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Accessed<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    payload: Content<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content<'a> {
    /// Left out where it is empty.
    #[serde(borrow, default)]
    data: Cow<'a, str>,
    #[serde(borrow)]
    data_crc32c: Option<Cow<'a, str>>,
}

pub(super) fn accessed(body: &[u8], id: &str, asked: &str) -> Result<RemoteSecret, StoreError> {
    let wrong = || unavailable(NOT_GOOGLES).about_one();
    let Accessed { name, payload } = serde_json::from_slice(body).map_err(|_| wrong())?;
    let version = version_of(&name, id, asked).ok_or_else(wrong)?;
    let decoded = BASE64.decode(payload.data.as_bytes());
    if let Cow::Owned(mut text) = payload.data {
        // It held escapes, and so was copied.
        text.zeroize();
    }
    let bytes = SecretBytes::new(decoded.map_err(|_| wrong())?);
    if let Some(sum) = payload.data_crc32c
        && sum.parse() != Ok(crc32c::crc32c(bytes.expose()))
    {
        return Err(unavailable("the value was damaged on its way (its CRC32C differs): it is read again").about_one());
    }
    // An access says nothing of when the version was made: see [`super::dates`].
    Ok(RemoteSecret { version: Some(version), ..RemoteSecret::of(Payload::Bytes(bytes)) })
}

/// The version's number, if the answer is about what was asked for. (The
/// project is not compared: Google names it by its number.)
pub(super) fn version_of(name: &str, id: &str, asked: &str) -> Option<u64> {
    let (secret, version) = name.rsplit_once("/versions/")?;
    let number = version.parse().ok().filter(|number| *number > 0)?;
    let fits = secret.rsplit_once("/secrets/")?.1 == id;
    let pinned = asked.parse::<u64>().is_ok_and(|asked| asked != number);
    (fits && !pinned).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::accessed;
    use crate::stores::{ErrorClass, Payload};

    fn answer(name: &str, payload: &str) -> Vec<u8> {
        format!(r#"{{"name":"{name}","payload":{payload}}}"#).into_bytes()
    }

    fn bytes(body: &[u8], asked: &str) -> Result<(Vec<u8>, Option<u64>), ErrorClass> {
        match accessed(body, "a", asked) {
            Ok(secret) => match &secret.payload {
                Payload::Bytes(bytes) => Ok((bytes.expose().to_vec(), secret.version)),
                _ => panic!("not bytes"),
            },
            Err(error) => {
                assert!(error.about_one);
                Err(error.class)
            }
        }
    }

    const NAME: &str = "projects/123/secrets/a/versions/7";

    #[test]
    fn a_value_arrives_as_bytes_with_its_versions_number() {
        // CRC32C of "123456789", as every table of check values has it.
        let body = answer(NAME, r#"{"data":"MTIzNDU2Nzg5","dataCrc32c":"3808858755"}"#);
        assert_eq!(bytes(&body, "latest"), Ok((b"123456789".to_vec(), Some(7))));
        let escaped = answer(NAME, r#"{"data":"YQ\u003d\u003d"}"#);
        assert_eq!(bytes(&escaped, "7"), Ok((b"a".to_vec(), Some(7))));
        let unpadded = answer(NAME, r#"{"data":"YQ"}"#);
        assert_eq!(bytes(&unpadded, "7"), Ok((b"a".to_vec(), Some(7))));
        let empty = answer(NAME, r#"{"dataCrc32c":"0"}"#);
        assert_eq!(bytes(&empty, "latest"), Ok((Vec::new(), Some(7))));
        let regional = answer("projects/1/locations/eu/secrets/a/versions/1", r#"{"data":""}"#);
        assert_eq!(bytes(&regional, "latest"), Ok((Vec::new(), Some(1))));
    }

    #[test]
    fn a_damaged_or_foreign_answer_is_an_outage_of_this_one_secret() {
        for body in [
            answer(NAME, r#"{"data":"MTIzNDU2Nzg5","dataCrc32c":"3808858756"}"#),
            answer(NAME, r#"{"data":"MTIzNDU2Nzg5","dataCrc32c":"x"}"#),
            answer(NAME, r#"{"data":"%%"}"#),
            answer("projects/1/secrets/b/versions/7", r#"{"data":"YQ=="}"#),
            answer("projects/1/secrets/a/versions/0", r#"{"data":"YQ=="}"#),
            answer("projects/1/secrets/a", r#"{"data":"YQ=="}"#),
            b"{}".to_vec(),
            b"<html>".to_vec(),
        ] {
            assert_eq!(bytes(&body, "latest"), Err(ErrorClass::Unavailable), "{}", String::from_utf8_lossy(&body));
        }
        let other = answer(NAME, r#"{"data":"YQ=="}"#);
        assert_eq!(bytes(&other, "6"), Err(ErrorClass::Unavailable), "another version than was pinned");
    }

    #[test]
    fn p4_no_error_carries_a_byte_of_the_answer() {
        for body in [
            answer(NAME, r#"{"data":"canary!"}"#),
            answer(NAME, r#"{"data":"canary","dataCrc32c":"1"}"#),
            answer("canary", r#"{"data":canary}"#),
        ] {
            let error = accessed(&body, "a", "latest").expect_err("refused");
            assert!(!error.message.contains("canary"), "{error}");
        }
    }
}
