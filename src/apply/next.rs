//! A new value on its way to its source, kept in a Secret of its own first: once
//! made it is not made again, whatever becomes of the process and of replies.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Client, ResourceExt as _};
use serde::{Deserialize, Serialize};

use super::{ApplyError, Aside, AsideError, Desired};
use crate::{
    api::{ANNOTATION_NEXT, LABEL_NEXT, next_secret},
    build::DigestKey,
    secret::{SecretBytes, SecretData},
};

/// Where a value goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextNote {
    /// Store and remote secret.
    pub place: String,
    /// Which properties of it; the whole where `None`.
    pub properties: Vec<Option<String>>,
    /// The version that it is to follow, where the manager counts.
    pub version: Option<u64>,
    /// When that was made.
    pub changed: Option<Timestamp>,
    /// Names the attempt.
    pub attempt: String,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    note: NextNote,
    seal: String,
}

/// What the Secret holds.
#[derive(Debug)]
pub enum NextFound {
    /// None is kept.
    Nothing(Room),
    /// One of that name is somebody else's.
    Foreign,
    /// Somebody else changed it, or the digest key is another by now.
    Unproven,
    /// Values for these properties, in their order.
    Values(NextNote, Vec<SecretBytes>),
}

/// The place as it was when nothing was kept there: a value is kept in that very
/// version of it.
#[derive(Debug, Default)]
pub struct Room(Option<Box<Secret>>);

impl Room {
    /// Whether there is a Secret, empty.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.0.is_some()
    }
}

/// Keeps such a value beside a target.
#[derive(Debug)]
pub struct Next<'a> {
    aside: Aside<'a>,
    beside: &'a Desired,
    key: &'a DigestKey,
}

impl<'a> Next<'a> {
    /// That of this target.
    #[must_use]
    pub fn of(client: &Client, beside: &'a Desired, key: &'a DigestKey) -> Self {
        Self::named(client, beside, key, next_secret(&beside.name))
    }

    /// The one of this name, as where the target had another.
    #[must_use]
    pub fn named(client: &Client, beside: &'a Desired, key: &'a DigestKey, name: String) -> Self {
        Self { aside: Aside::new(client, beside, name, LABEL_NEXT), beside, key }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.aside.name()
    }

    /// What is kept.
    ///
    /// # Errors
    /// As [`super::apply`].
    pub async fn get(&self) -> Result<NextFound, ApplyError> {
        let Some(kept) = self.aside.get().await? else { return Ok(NextFound::Nothing(Room(None))) };
        if !self.aside.is_ours(&kept.metadata) {
            return Ok(NextFound::Foreign);
        }
        if self.aside.is_blank(&kept) {
            return Ok(NextFound::Nothing(Room(Some(Box::new(kept)))));
        }
        let text = kept.annotations().get(ANNOTATION_NEXT).cloned().unwrap_or_default();
        let data = kept.data.into_iter().flatten().map(|(key, value)| (key, SecretBytes::new(value.0)));
        let mut data: SecretData = data.collect();
        let sealed = serde_json::from_str::<Sealed>(&text).ok();
        let Some(Sealed { note, .. }) = sealed.filter(|sealed| self.seal(&sealed.note, &data) == sealed.seal) else {
            return Ok(NextFound::Unproven);
        };
        let values = (0..note.properties.len()).map_while(|index| data.remove(&index.to_string())).collect();
        Ok(NextFound::Values(note, values))
    }

    /// Keeps these values, where none are kept.
    ///
    /// # Errors
    /// As [`AsideError`]; a conflict where some are by now.
    pub async fn keep(&self, room: &Room, note: &NextNote, values: &[SecretBytes]) -> Result<(), AsideError> {
        let data: SecretData =
            values.iter().enumerate().map(|(index, value)| (index.to_string(), value.duplicate())).collect();
        let sealed = Sealed { note: note.clone(), seal: self.seal(note, &data) };
        // Maps with text keys and plain fields always serialise.
        let text = serde_json::to_string(&sealed).unwrap_or_default();
        self.aside.put(room.0.as_deref(), &data, BTreeMap::from([(ANNOTATION_NEXT.to_owned(), text)])).await
    }

    /// Keeps nothing any more, until the next one.
    ///
    /// # Errors
    /// As [`super::apply`].
    pub async fn forget(&self) -> Result<(), ApplyError> {
        self.aside.empty().await
    }

    /// Keeps nothing ever again.
    ///
    /// # Errors
    /// As [`super::apply`].
    pub async fn clear_away(&self) -> Result<(), ApplyError> {
        self.aside.delete().await
    }

    /// Proof that the operator made these values for this place: who may write
    /// Secrets here may not say what it writes elsewhere.
    fn seal(&self, note: &NextNote, data: &SecretData) -> String {
        let mut digests = self.key.digests(&self.beside.namespace, self.name(), data);
        digests.insert(ANNOTATION_NEXT.to_owned(), serde_json::to_string(note).unwrap_or_default());
        digests.insert("uid".to_owned(), self.beside.owner.uid.clone());
        self.key.fingerprint(&digests)
    }
}
