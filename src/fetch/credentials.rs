//! A store's own credentials: the Secrets that it refers to.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use async_trait::async_trait;
use futures::future::join_all;
use tokio::time::timeout;

use super::ResolvedStore;
use crate::{
    api::SecretKeyRef,
    secret::SecretBytes,
    stores::{Credentials, ErrorClass, StoreError},
};

const DEADLINE: Duration = Duration::from_secs(10);

/// The Secrets that a store refers to for its own credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReferredSecrets {
    /// Where they lie: in the store's namespace, or, for a store of the
    /// cluster, in the operator's own.
    pub namespace: String,
    /// By name, each as it was last seen; `None` where it is not there. One
    /// that was not looked for yet is left out.
    pub seen: BTreeMap<String, Option<SecretVersion>>,
}

/// One state of one Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretVersion {
    /// The Secret's UID.
    pub uid: String,
    /// Its resourceVersion.
    pub resource_version: String,
}

/// A Secret that was read for a store's credentials.
#[derive(Debug)]
pub struct CredentialSecret {
    /// Which state of it.
    pub version: SecretVersion,
    /// Its type.
    pub kind: String,
    /// What it holds.
    pub data: BTreeMap<String, SecretBytes>,
}

/// Where stores' credentials come from.
#[async_trait]
pub trait CredentialSource: Send + Sync {
    /// One Secret as it is now; `None` where it is not there.
    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<CredentialSecret>, StoreError>;
}

/// Types that are for Kubernetes itself or for the operator: sent to a
/// manager they would open more than the manager.
const NEVER_SENT: [&str; 3] =
    ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "botsecret.dev/digest-key"];

/// Reads what the store refers to, all of it or nothing, and says which state
/// of each Secret that was.
pub(super) async fn gather(
    source: &dyn CredentialSource,
    store: &ResolvedStore,
) -> Result<(Credentials, BTreeMap<String, SecretVersion>), StoreError> {
    let references = store.provider.secret_refs();
    let namespace = store.credentials.namespace.as_str();
    let names: BTreeSet<&str> = references.iter().map(|reference| reference.name.as_str()).collect();
    let reading = names.into_iter().map(|name| async move { (name, secret(source, namespace, name).await) });
    let (mut secrets, mut versions) = (BTreeMap::new(), BTreeMap::new());
    for (name, read) in join_all(reading).await {
        let read = read?;
        if let Some(secret) = &read {
            versions.insert(name.to_owned(), secret.version.clone());
        }
        secrets.insert(name, read);
    }
    let mut values = BTreeMap::new();
    for reference in references {
        let secret = secrets.get(reference.name.as_str()).and_then(Option::as_ref);
        values.insert(reference.clone(), value(secret, reference, namespace)?);
    }
    Ok((Credentials::new(values), versions))
}

async fn secret(
    source: &dyn CredentialSource,
    namespace: &str,
    name: &str,
) -> Result<Option<CredentialSecret>, StoreError> {
    let late = |_| StoreError::new(ErrorClass::Timeout, "the API server did not answer in time");
    let read = timeout(DEADLINE, source.secret(namespace, name)).await.map_err(late).flatten();
    read.map_err(|error| {
        let message = format!("the store's credentials in Secret {name} of namespace {namespace}: {}", error.message);
        StoreError { message, ..error }
    })
}

fn value(
    secret: Option<&CredentialSecret>,
    reference: &SecretKeyRef,
    namespace: &str,
) -> Result<SecretBytes, StoreError> {
    let SecretKeyRef { name, key } = reference;
    let invalid = |what: String| {
        Err(StoreError::new(ErrorClass::Invalid, format!("the store's credentials cannot be used: {what}")))
    };
    let Some(secret) = secret else {
        return invalid(format!(
            "namespace {namespace} has no Secret {name}: create it with the key {key}, or correct the store's reference"
        ));
    };
    if NEVER_SENT.contains(&secret.kind.as_str()) {
        return invalid(format!(
            "Secret {name} in namespace {namespace} has the type {}, which no manager may receive: refer to another",
            secret.kind
        ));
    }
    match secret.data.get(key) {
        Some(value) => Ok(value.duplicate()),
        None => invalid(format!(
            "Secret {name} in namespace {namespace} has no key {key}: add it, or correct the store's reference"
        )),
    }
}
