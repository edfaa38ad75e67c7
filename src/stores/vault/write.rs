//! New values: a version of a secret of engine 2, and the password of a static
//! role, which the database engine makes itself.

use std::collections::BTreeMap;

use rustify::{
    endpoint::Endpoint,
    enums::{RequestMethod, RequestType, ResponseType},
    errors::ClientError,
};
use serde_json::{json, value::RawValue};

use super::{
    Reader,
    answers::{self, Doing},
    invalid,
    lease::Ask,
    mounts::Engine,
    paths::static_role_below,
    unavailable,
};
use crate::{
    secret::SecretBytes,
    stores::{ErrorClass, Payload, RemoteKey, StoreError, WriteBack},
};

/// One version as it is sent.
struct NewVersion {
    path: String,
    body: SecretBytes,
}

impl Endpoint for NewVersion {
    type Response = ();
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.clone()
    }

    fn method(&self) -> RequestMethod {
        RequestMethod::POST
    }

    fn body(&self) -> Result<Option<Vec<u8>>, ClientError> {
        // Zeroed by whoever sends it.
        Ok(Some(self.body.expose().to_vec()))
    }
}

impl Reader {
    /// Makes the version that follows the one that is there, with the other
    /// properties as they are.
    pub(super) async fn write_version(&self, write: &WriteBack<'_>) -> Result<(), StoreError> {
        let place = self.locate(&write.key.key).await?;
        if place.engine != Engine::Two {
            return Err(invalid(
                "nothing is written where the engine keeps no versions, since what somebody else writes meanwhile would be lost: use version 2 of the key/value engine",
            ));
        }
        let present = self.read_one(write.key).await?;
        let version = present.version.unwrap_or_default();
        if write.base.is_some_and(|base| base != version) {
            return Err(StoreError::new(
                ErrorClass::Conflict,
                format!("somebody else has written version {version} since it was read"),
            ));
        }
        let Payload::Json(text) = &present.payload else { return Err(unavailable(NOT_VAULTS).about_one()) };
        let policy_path = format!("{}/data/{}", place.mount, place.path);
        let body = body(text.expose(), write.properties, version)?;
        let answer =
            self.wire.send(&NewVersion { path: policy_path.clone(), body }, Some(&self.token), &self.pace).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        Err(answers::refusal(&answer, &Doing::Write { policy_path: &policy_path, role: &self.role }))
    }

    /// Has the database engine change the password of a static role.
    pub(super) async fn rotate_role(&self, key: &RemoteKey) -> Result<(), StoreError> {
        let place = self.locate(&key.key).await?;
        let Some(role) = static_role_below(&place.path).filter(|_| place.engine != Engine::Two) else {
            return Err(invalid(
                "Vault makes new values for static roles of a database engine (database/static-creds/…) only: let the operator make this one (rotation.generate), or take every and schedule out",
            ));
        };
        let policy_path = format!("{}/rotate-role/{role}", place.mount);
        let answer = self.wire.send(&Ask::post(policy_path.clone(), json!({})), Some(&self.token), &self.pace).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        Err(answers::refusal(&answer, &Doing::Write { policy_path: &policy_path, role: &self.role }))
    }
}

/// Parse errors are dropped: they may quote what was read.
const NOT_VAULTS: &str = "the answer is not one of Vault's key/value engine: check address, path and version";

/// What follows this version: its data with these properties in it.
pub(super) fn body(
    text: &str,
    properties: &[(Option<String>, SecretBytes)],
    version: u64,
) -> Result<SecretBytes, StoreError> {
    let present: BTreeMap<String, &RawValue> =
        serde_json::from_str(text).map_err(|_| unavailable(NOT_VAULTS).about_one())?;
    let mut new = BTreeMap::new();
    for (property, value) in properties {
        let Some(property) = property else {
            return Err(invalid(
                "a secret of Vault consists of properties: say which one is made, by remoteRef.property",
            ));
        };
        let parent = property.split('.').next().unwrap_or_default();
        if !present.contains_key(property) && parent != property && present.contains_key(parent) {
            return Err(invalid(format!(
                "property {property} lies inside of {parent}: only what lies at the top of a secret can be written"
            )));
        }
        let value =
            std::str::from_utf8(value.expose()).map_err(|_| invalid("Vault takes no value that is not text"))?;
        new.insert(property.as_str(), value);
    }
    // As large as it gets, so that growing leaves no copies behind.
    let room = text.len() + new.iter().map(|(name, value)| 6 * (name.len() + value.len() + 2)).sum::<usize>();
    let mut body = Vec::with_capacity(room + 64);
    let kept = present.iter().filter(|(name, _)| !new.contains_key(name.as_str()));
    let kept = kept.map(|(name, value)| (name.as_str(), Part::Kept(value)));
    let all: BTreeMap<_, _> = kept.chain(new.iter().map(|(name, value)| (*name, Part::New(value)))).collect();
    body.extend_from_slice(format!(r#"{{"options":{{"cas":{version}}},"data":"#).as_bytes());
    let written = serde_json::to_writer(&mut body, &all);
    body.push(b'}');
    let body = SecretBytes::new(body);
    written.map(|()| body).map_err(|_| unavailable(NOT_VAULTS))
}

#[derive(serde::Serialize)]
#[serde(untagged)]
enum Part<'a> {
    Kept(&'a RawValue),
    New(&'a str),
}

#[cfg(test)]
mod tests {
    use super::body;
    use crate::{secret::SecretBytes, stores::ErrorClass};

    fn property(name: &str, value: &str) -> (Option<String>, SecretBytes) {
        (Some(name.to_owned()), SecretBytes::new(value.as_bytes().to_vec()))
    }

    #[test]
    fn a_new_version_has_the_new_values_and_everything_else_as_it_was_spelled() {
        let present = r#"{"port":1.50,"password":"old","exchange.key":"a","nested":{"a":[1, 2]}}"#;
        let new = [property("password", "n\"w"), property("public", "k"), property("exchange.key", "b")];
        let made = body(present, &new, 7).expect("a body");
        let wanted = r#"{"options":{"cas":7},"data":{"exchange.key":"b","nested":{"a":[1, 2]},"password":"n\"w","port":1.50,"public":"k"}}"#;
        assert_eq!(std::str::from_utf8(made.expose()), Ok(wanted));
    }

    #[test]
    fn what_vault_cannot_hold_so_is_refused_with_what_to_write_instead() {
        for (new, words) in [
            ((None, SecretBytes::new(b"x".to_vec())), "by remoteRef.property"),
            (property("nested.a", "x"), "lies inside of nested"),
            ((Some("password".to_owned()), SecretBytes::new(vec![0xff])), "not text"),
        ] {
            let error = body(r#"{"nested":{"a":1}}"#, &[new], 1).expect_err(words);
            assert_eq!(error.class, ErrorClass::Invalid);
            assert!(error.message.contains(words), "{error}");
        }
    }

    #[test]
    fn p4_an_answer_that_is_no_object_is_quoted_nowhere() {
        let error = body(r#"["hunter2"]"#, &[property("a", "b")], 1).expect_err("no object");
        assert!(!error.message.contains("hunter2"), "{error}");
    }
}
