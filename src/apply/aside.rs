//! A Secret of the operator's own beside the target: a candidate, the value
//! before, or the next one. It carries a label of its own, so that the watch takes
//! none for the target, and goes with its BotSecret.
//!
//! What is created is blank: a create names no version that it goes on from, so one
//! that arrives late must bring nothing. A value comes by a write that names one.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, PostParams, Preconditions},
};

use super::{ApplyError, Desired};
use crate::{
    api::{SecretType, owner_label},
    deadline::within,
    secret::{SecretBytes, SecretData},
    traces,
    watch::SECRET_FIELD_MANAGER,
};

/// One such Secret.
#[derive(Debug)]
pub struct Aside<'a> {
    secrets: Api<Secret>,
    beside: &'a Desired,
    name: String,
    label: &'static str,
}

/// Why one could not be written or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AsideError {
    /// The API server did not do it.
    Secret(ApplyError),
    /// A Secret of that name is somebody else's.
    Foreign,
    /// It changed in between: try again.
    Changed,
    /// It is being deleted.
    Leaving,
}

impl<'a> Aside<'a> {
    /// The Secret of this name and label beside a target.
    #[must_use]
    pub fn new(client: &Client, beside: &'a Desired, name: String, label: &'static str) -> Self {
        Self { secrets: Api::namespaced(client.clone(), &beside.namespace), beside, name, label }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether an object of that name is this BotSecret's.
    #[must_use]
    pub fn is_ours(&self, meta: &ObjectMeta) -> bool {
        let label = meta.labels.as_ref().and_then(|labels| labels.get(self.label));
        label.is_some_and(|label| *label == owner_label(&self.beside.bot_secret))
    }

    /// As it is now.
    ///
    /// # Errors
    /// As [`super::apply`].
    pub async fn get(&self) -> Result<Option<Secret>, ApplyError> {
        within(self.secrets.get_opt(&self.name))
            .await
            .map_err(|error| ApplyError::from_read(&error, &format!("Secret {}", self.name)))
    }

    /// Makes it hold this data, where it does not yet.
    ///
    /// # Errors
    /// As [`AsideError`].
    pub async fn put(
        &self,
        live: Option<&Secret>,
        data: &SecretData,
        annotations: BTreeMap<String, String>,
    ) -> Result<(), AsideError> {
        let made;
        let live = if let Some(live) = live {
            live
        } else {
            made = self.create().await.map_err(AsideError::Secret)?;
            &made
        };
        let mut wanted = self.wanted(data, annotations);
        let meta = &live.metadata;
        if !self.is_ours(meta) {
            return Err(AsideError::Foreign);
        }
        if meta.deletion_timestamp.is_some() {
            return Err(AsideError::Leaving);
        }
        if live.type_ != wanted.type_ || live.immutable == Some(true) {
            // Neither can be changed. Made anew by the next pass.
            self.delete().await.map_err(AsideError::Secret)?;
            return Err(AsideError::Changed);
        }
        let same_owner = meta.owner_references == wanted.metadata.owner_references;
        let same_notes =
            wanted.metadata.annotations.iter().flatten().all(|(name, text)| {
                meta.annotations.as_ref().and_then(|annotations| annotations.get(name)) == Some(text)
            });
        if same_data(live, &wanted) && same_notes && same_owner {
            return Ok(());
        }
        wanted.metadata.uid.clone_from(&meta.uid);
        wanted.metadata.resource_version.clone_from(&meta.resource_version);
        within(self.secrets.replace(&self.name, &post_params(), &wanted))
            .await
            .map(drop)
            .map_err(|error| AsideError::Secret(self.sorted(&error, data)))
    }

    async fn create(&self) -> Result<Secret, ApplyError> {
        let blank = blank(self.beside.type_);
        let wanted = self.wanted(&blank, BTreeMap::new());
        within(self.secrets.create(&post_params(), &wanted)).await.map_err(|error| self.sorted(&error, &blank))
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_blank(&self, live: &Secret) -> bool {
        same_data(live, &self.wanted(&blank(self.beside.type_), BTreeMap::new()))
    }

    /// Makes it hold nothing, if it is ours and there. For as long as another value
    /// may follow: unlike deleting, this leaves a version behind that a late write
    /// does not name.
    ///
    /// # Errors
    /// As [`super::apply`].
    pub async fn empty(&self) -> Result<(), ApplyError> {
        let Some(live) = self.get().await? else { return Ok(()) };
        match self.put(Some(&live), &blank(self.beside.type_), BTreeMap::new()).await {
            Err(AsideError::Secret(error)) => Err(error),
            // Somebody else's, or gone in a moment.
            Ok(()) | Err(AsideError::Foreign | AsideError::Leaving | AsideError::Changed) => Ok(()),
        }
    }

    fn wanted(&self, data: &SecretData, annotations: BTreeMap<String, String>) -> Secret {
        let data = data.iter().map(|(key, value)| (key.clone(), ByteString(value.expose().to_vec())));
        let label = (self.label.to_owned(), owner_label(&self.beside.bot_secret));
        Secret {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.beside.namespace.clone()),
                labels: Some(BTreeMap::from([label])),
                annotations: Some(annotations),
                owner_references: Some(vec![self.beside.owner.clone()]),
                ..ObjectMeta::default()
            },
            data: Some(data.collect()),
            type_: Some(self.beside.type_.name().to_owned()),
            ..Secret::default()
        }
    }

    /// Deletes it, if it is ours and there.
    ///
    /// # Errors
    /// As [`super::apply`].
    pub async fn delete(&self) -> Result<(), ApplyError> {
        let Some(live) = self.get().await?.filter(|live| self.is_ours(&live.metadata)) else { return Ok(()) };
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: live.metadata.uid.clone(),
                resource_version: live.metadata.resource_version.clone(),
            }),
            ..DeleteParams::default()
        };
        let delete = async {
            match within(self.secrets.delete(&self.name, &params)).await {
                Ok(_) => Ok(()),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                Err(error) => Err(self.sorted(&error, &self.beside.data)),
            }
        };
        traces::deleting(&self.name, delete).await
    }

    fn sorted(&self, error: &kube::Error, data: &SecretData) -> ApplyError {
        ApplyError::from_api(error, &self.name, data)
    }
}

/// The least that the API server takes of each type: of some it checks that keys are
/// there, and their form (<https://kubernetes.io/docs/concepts/configuration/secret/#secret-types>).
fn blank(type_: SecretType) -> SecretData {
    let held: &[(&str, &[u8])] = match type_ {
        SecretType::Opaque => &[],
        SecretType::Tls => &[("tls.crt", b""), ("tls.key", b"")],
        SecretType::DockerConfigJson => &[(".dockerconfigjson", b"{}")],
        SecretType::DockerCfg => &[(".dockercfg", b"{}")],
        SecretType::BasicAuth => &[("username", b"")],
        SecretType::SshAuth => &[("ssh-privatekey", b"-")],
    };
    held.iter().map(|(key, value)| ((*key).to_owned(), SecretBytes::new(value.to_vec()))).collect()
}

/// An empty map comes back as none.
fn same_data(one: &Secret, other: &Secret) -> bool {
    one.data.iter().flatten().eq(other.data.iter().flatten())
}

fn post_params() -> PostParams {
    PostParams { field_manager: Some(SECRET_FIELD_MANAGER.to_owned()), ..PostParams::default() }
}
