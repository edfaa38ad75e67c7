//! What is kept of a Secret that the operator writes: metadata, never data.

use std::collections::BTreeMap;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::OwnerReference, jiff::Timestamp};
use kube::api::ObjectMeta;

use crate::api::{ANNOTATION_STATE, CreationPolicy, LABEL_OWNER, STATE_PREFIX, State, field_manager};

/// The manager under which the operator writes whole Secrets.
pub const SECRET_FIELD_MANAGER: &str = "botsecret";

/// Ours are the manager of whole Secrets and those of single BotSecrets, which
/// merge.
fn is_ours(manager: &str) -> bool {
    manager.strip_prefix(SECRET_FIELD_MANAGER).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What is kept of an owned Secret.
#[derive(Clone, Debug, PartialEq)]
pub struct SecretFacts {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its version.
    pub resource_version: String,
    /// When the API server took the last write of each of the operator's field
    /// managers, to the second.
    pub written: BTreeMap<String, Timestamp>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations, without the state.
    pub annotations: BTreeMap<String, String>,
    /// Its owners.
    pub owners: Vec<OwnerReference>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// The facts that the operator left on it, as its owner.
    pub state: Option<State>,
    /// The same, by annotation, of each BotSecret that merges into it.
    pub merged: BTreeMap<String, State>,
}

impl SecretFacts {
    /// Keeps what matters of a Secret's metadata.
    #[must_use]
    pub fn of(meta: ObjectMeta) -> Self {
        let mut written = BTreeMap::new();
        for entry in meta.managed_fields.iter().flatten() {
            let manager = entry.manager.as_ref().filter(|manager| is_ours(manager));
            if let Some((manager, time)) = manager.zip(entry.time.as_ref()) {
                let latest = written.entry(manager.clone()).or_insert(time.0);
                *latest = time.0.max(*latest);
            }
        }
        let mut annotations = meta.annotations.unwrap_or_default();
        let state = annotations.remove(ANNOTATION_STATE).as_deref().and_then(State::parse);
        let merged: BTreeMap<_, _> = annotations
            .extract_if(STATE_PREFIX.to_owned().., |name, _| name.starts_with(STATE_PREFIX))
            .filter_map(|(name, text)| State::parse(&text).map(|state| (name, state)))
            .collect();
        Self {
            merged,
            namespace: meta.namespace.unwrap_or_default(),
            name: meta.name.unwrap_or_default(),
            uid: meta.uid.unwrap_or_default(),
            resource_version: meta.resource_version.unwrap_or_default(),
            written,
            labels: meta.labels.unwrap_or_default(),
            annotations,
            owners: meta.owner_references.unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            state,
        }
    }

    /// The state that lies in this annotation.
    #[must_use]
    pub fn state_in(&self, annotation: &str) -> Option<&State> {
        if annotation == ANNOTATION_STATE { self.state.as_ref() } else { self.merged.get(annotation) }
    }

    /// When the API server took this BotSecret's last write, to the second. A
    /// Secret that several merge into is written by a manager of each one's own.
    #[must_use]
    pub fn written_at(&self, policy: CreationPolicy, bot_secret: &str) -> Option<Timestamp> {
        match policy {
            CreationPolicy::Merge => self.written.get(&field_manager(bot_secret)).copied(),
            CreationPolicy::Owner | CreationPolicy::Orphan => self.written.get(SECRET_FIELD_MANAGER).copied(),
        }
    }

    /// The value of the label that names its BotSecret.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        self.labels.get(LABEL_OWNER).map(String::as_str)
    }
}
