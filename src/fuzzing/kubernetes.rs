//! Custom resources, pods, and what the API server answers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::time::Instant;

use super::{CANARY, split};
use crate::{
    api::{BotSecret, BotSecretSpec, BotSecretStatus, BotSecretStore, ClusterBotSecretStore, StoreSpec},
    build::{self, Inputs},
    fetch::{self, ServiceAccount},
    secret::SecretText,
    stores::{Payload, RemoteSecret},
    watch::{Lenient, UsesSecrets, uses_of},
};

/// A spec in JSON or YAML, and what is made of it.
pub(super) fn resources(input: &[u8]) {
    let read = || serde_json::from_slice::<Value>(input).ok().or_else(|| serde_yaml::from_slice(input).ok());
    let Some(object) = read() else { return };
    let _ = serde_json::from_value::<Lenient<BotSecret>>(object.clone());
    let _ = serde_json::from_value::<Lenient<BotSecretStore>>(object.clone());
    let _ = serde_json::from_value::<Lenient<ClusterBotSecretStore>>(object.clone());
    if let Ok(pod) = serde_json::from_value::<UsesSecrets>(object.clone()) {
        let _ = uses_of(&pod);
    }
    if let Some(Ok(status)) = object.get("status").cloned().map(serde_json::from_value::<BotSecretStatus>) {
        let _ = status.emergency.as_ref().map(|emergency| (emergency.phase(), emergency.is_open()));
    }
    let Some(spec) = object.get("spec") else { return };
    if let Some(store) = read_again::<StoreSpec>(spec) {
        let _ = store.provider().as_ref().map(|provider| provider.secret_refs().len());
    }
    if let Some(spec) = read_again::<BotSecretSpec>(spec) {
        built(&spec);
    }
}

/// What was written is read as it was.
fn read_again<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &Value) -> Option<T> {
    let read: T = serde_json::from_value(value.clone()).ok()?;
    let written = serde_json::to_value(&read).expect("specs are JSON");
    let again: T = serde_json::from_value(written).expect("what was written is read");
    assert_eq!(again, read);
    Some(read)
}

/// The data that a spec makes of secrets: bounded, and never told in an error.
fn built(spec: &BotSecretSpec) {
    let found: BTreeMap<_, _> =
        build::searches(spec).into_iter().map(|search| (search, vec!["team/bot".to_owned()])).collect();
    let secret = Arc::new(RemoteSecret::of(Payload::Json(SecretText::new(format!(
        r#"{{"password":"{CANARY}","nested":{{"port":5432}}}}"#
    )))));
    let sources = build::sources(spec, &found);
    let reads = sources.into_iter().map(|source| (source, Arc::clone(&secret))).collect();
    let inputs = Inputs { reads, found, issued: BTreeMap::new() };
    let _ = (build::rotated(spec), build::foresee(spec, &inputs));
    match build::data(spec, &inputs) {
        Ok(built) => {
            let size: usize = built.data.iter().map(|(key, value)| key.len() + value.len()).sum();
            assert!(size <= build::MAX_SIZE && built.data.keys().all(|key| build::is_secret_key(key)));
        }
        Err(error) => {
            let quoted = format!("{error} {error:?}").contains(CANARY);
            let written = serde_json::to_string(spec).is_ok_and(|spec| spec.contains(CANARY));
            assert!(!quoted || written, "the error quotes a value: {error}");
        }
    }
}

/// Answers to TokenRequests and to reads of Secrets: a status, and the body.
pub(super) fn answers(input: &[u8]) {
    let Some((status, body)) = split(input) else { return };
    let Ok(status) = status.parse::<u16>() else { return };
    let now = Instant::now();
    if let Ok(token) = fetch::granted_token(body, now) {
        assert!(token.expires <= now + Duration::from_secs(24 * 3600));
    }
    let account = ServiceAccount { namespace: "ns".to_owned(), name: "bot".to_owned(), ..ServiceAccount::default() };
    let refused = fetch::refused_token(status, body, &account);
    // The API server's own words, in bounds.
    assert!(refused.message.chars().count() < 500 && !refused.message.chars().any(char::is_control), "{refused}");
    if let Err(error) = fetch::credential_secret(body) {
        assert!(!error.message.contains(CANARY), "the error quotes what was read: {error}");
    }
    #[cfg(feature = "kubernetes")]
    crate::stores::fuzzing::kubernetes(body);
}
