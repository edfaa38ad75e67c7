//! New values in AWS Secrets Manager: written back, or made by AWS itself.
//!
//! A write is two steps. The new version is made under a label of ours, and
//! then AWSCURRENT is moved to it from the version that was read: AWS refuses
//! that where AWSCURRENT has moved since, so that nobody's write is lost. What
//! is left of a write that went no further is a version that nobody reads.

use aws_sdk_secretsmanager::Client;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    errors::{Doing, code_of, is_under_way, refusal},
    http::{unheard, with_body},
    secrets_manager::{SecretsManager, content},
};
use crate::{
    secret::SecretBytes,
    stores::{
        ErrorClass, RemoteKey, StoreError, WriteBack,
        writing::{Change, conflict, newest_only, sealed, sized},
    },
};

/// What AWS takes.
const LARGEST: usize = 65_536;
const CURRENT: &str = "AWSCURRENT";
/// On the newest version that we made, whether it became the current one or not.
const OURS: &str = "botsecret-written";
const READ: Doing<'_> = Doing::Read { action: "secretsmanager:GetSecretValue" };
const PUT: Doing<'_> = Doing::Write { action: "secretsmanager:PutSecretValue" };
const MOVE: Doing<'_> = Doing::Write { action: "secretsmanager:UpdateSecretVersionStage" };

/// The version that AWSCURRENT is on.
struct Current {
    version: Option<String>,
    bytes: SecretBytes,
    binary: bool,
}

/// PutSecretValue's input.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Put<'a> {
    secret_id: &'a str,
    client_request_token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_string: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_binary: Option<&'a str>,
    version_stages: [&'a str; 1],
}

impl SecretsManager {
    pub(super) async fn write_back(&self, write: &WriteBack<'_>) -> Result<(), StoreError> {
        let change = Change::of(write)?;
        let id = write.key.key.as_str();
        let region = self.region_of(id)?;
        let client = self.regions.of(region);
        let current = match self.current(&client, region, id).await {
            Ok(current) => Some(current),
            // A secret may have no value yet.
            Err(error) if error.class == ErrorClass::Missing && change.is_whole() => None,
            Err(error) => return Err(error),
        };
        let new = change.applied(current.as_ref().map(|current| current.bytes.expose()))?;
        // As after a reply that was lost.
        if current.as_ref().is_some_and(|current| current.bytes == new) {
            return Ok(());
        }
        sized(&new, LARGEST, "AWS Secrets Manager")?;
        let binary = current.as_ref().is_some_and(|current| current.binary);
        let (version, is_current) = self.put(&client, region, write, &new, binary).await?;
        if is_current {
            return Ok(());
        }
        let call = client.update_secret_version_stage().secret_id(id).version_stage(CURRENT);
        let call = call.move_to_version_id(version).set_remove_from_version_id(current.and_then(|now| now.version));
        match unheard(call.send()).await {
            Ok(_) => Ok(()),
            Err(error) if code_of(&error) == "InvalidParameterException" => {
                Err(conflict("somebody else gave the secret a new value since it was read, which stays"))
            }
            Err(error) => Err(self.regions.failed(region, refusal(&error, MOVE))),
        }
    }

    async fn current(&self, client: &Client, region: &str, id: &str) -> Result<Current, StoreError> {
        let call = client.get_secret_value().secret_id(id).version_stage(CURRENT);
        let failed = |error| self.regions.failed(region, refusal(&error, READ));
        let answer = unheard(call.send()).await.map_err(failed)?;
        let binary = answer.secret_string.is_none();
        Ok(Current { version: answer.version_id, bytes: content(answer.secret_string, answer.secret_binary)?, binary })
    }

    /// Makes the new version: its id, and whether it is the current one
    /// already, as the first one is. The same attempt with the same value makes
    /// none twice.
    async fn put(
        &self,
        client: &Client,
        region: &str,
        write: &WriteBack<'_>,
        new: &SecretBytes,
        binary: bool,
    ) -> Result<(String, bool), StoreError> {
        let text = std::str::from_utf8(new.expose()).ok().filter(|_| !binary);
        let encoded = if text.is_none() { Some(Zeroizing::new(STANDARD.encode(new.expose()))) } else { None };
        let (id, attempt) = (write.key.key.as_str(), write.attempt);
        let put = Put {
            secret_id: id,
            client_request_token: attempt,
            secret_string: text,
            secret_binary: encoded.as_ref().map(|encoded| encoded.as_str()),
            version_stages: [OURS],
        };
        let body = sealed(&put, new.len().max(encoded.as_ref().map_or(0, |encoded| encoded.len())))?;
        let call = client.put_secret_value().secret_id(id).client_request_token(attempt);
        let failed = |error| self.regions.failed(region, refusal(&error, PUT));
        let answer = unheard(call.customize().mutate_request(with_body(body)).send()).await.map_err(failed)?;
        let is_current = answer.version_stages.unwrap_or_default().iter().any(|stage| stage == CURRENT);
        Ok((answer.version_id.unwrap_or_else(|| attempt.to_owned()), is_current))
    }

    pub(super) async fn rotate_now(&self, key: &RemoteKey, attempt: &str) -> Result<(), StoreError> {
        newest_only(key.version.is_some(), key.metadata)?;
        let region = self.region_of(&key.key)?;
        let call = self.regions.of(region).rotate_secret().secret_id(&key.key);
        let call = call.client_request_token(attempt).rotate_immediately(true);
        match unheard(call.send()).await {
            Ok(_) => Ok(()),
            // AWS goes on with the one that it has begun, and what is asked for
            // comes of that as well.
            Err(error) if is_under_way(&error) => Ok(()),
            Err(error) => Err(self.regions.failed(region, refusal(&error, Doing::Rotate))),
        }
    }
}
