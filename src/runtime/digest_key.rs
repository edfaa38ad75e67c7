//! The installation's digest key: one Secret in the operator's own namespace.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};

use super::RunError;
use crate::{build::DigestKey, deadline::within};

/// Name of the Secret.
const NAME: &str = "botsecret-digest-key";
/// Its one key.
const FIELD: &str = "key";

/// Reads the key, or makes it. Losing it costs one comparison of each Secret
/// with its live data, and rolls nothing.
pub(super) async fn load(client: &Client, namespace: &str) -> Result<DigestKey, RunError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let failed = |what: &str, error: &kube::Error| {
        let said = match error {
            kube::Error::Api(status) => status.message.clone(),
            _ => "the Kubernetes API did not answer".to_owned(),
        };
        RunError::DigestKey(format!("Secret {namespace}/{NAME} (the digest key) could not be {what}: {said}"))
    };
    // Twice: another starting operator may make it in between.
    for _ in 0..2 {
        if let Some(secret) = within(api.get_opt(NAME)).await.map_err(|error| failed("read", &error))? {
            let bytes = secret.data.as_ref().and_then(|data| data.get(FIELD));
            return bytes.and_then(|bytes| DigestKey::from_bytes(&bytes.0)).ok_or_else(|| {
                RunError::DigestKey(format!(
                    "Secret {namespace}/{NAME} holds no digest key: delete it, and a new one is made"
                ))
            });
        }
        let key = DigestKey::generate()
            .map_err(|_| RunError::DigestKey("the system gave no randomness for a digest key".to_owned()))?;
        let secret = Secret {
            metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
            data: Some(BTreeMap::from([(FIELD.to_owned(), ByteString(key.to_bytes().into_exposed()))])),
            type_: Some("botsecret.dev/digest-key".to_owned()),
            ..Secret::default()
        };
        match within(api.create(&PostParams::default(), &secret)).await {
            Ok(_) => return Ok(key),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(failed("made", &error)),
        }
    }
    Err(RunError::DigestKey(format!("Secret {namespace}/{NAME} comes and goes: see who deletes it")))
}
