//! A Secret of the operator's own beside the target: a candidate, or the value
//! before. It carries a label of its own, so that the watch takes none for the
//! target, and goes with its BotSecret.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, PostParams, Preconditions},
};

use super::{ApplyError, Desired};
use crate::{api::owner_label, deadline::within, secret::SecretData, watch::SECRET_FIELD_MANAGER};

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
        within(self.secrets.get_opt(&self.name)).await.map_err(|error| self.sorted(&error, &self.beside.data))
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
        let failed = |error: &kube::Error| AsideError::Secret(self.sorted(error, data));
        let mut wanted = self.wanted(data, annotations);
        let Some(live) = live else {
            return within(self.secrets.create(&post_params(), &wanted))
                .await
                .map(drop)
                .map_err(|error| failed(&error));
        };
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
        if live.data == wanted.data && same_notes && same_owner {
            return Ok(());
        }
        wanted.metadata.uid.clone_from(&meta.uid);
        wanted.metadata.resource_version.clone_from(&meta.resource_version);
        within(self.secrets.replace(&self.name, &post_params(), &wanted))
            .await
            .map(drop)
            .map_err(|error| failed(&error))
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
        match within(self.secrets.delete(&self.name, &params)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(self.sorted(&error, &self.beside.data)),
        }
    }

    fn sorted(&self, error: &kube::Error, data: &SecretData) -> ApplyError {
        ApplyError::from_api(error, &self.name, data)
    }
}

fn post_params() -> PostParams {
    PostParams { field_manager: Some(SECRET_FIELD_MANAGER.to_owned()), ..PostParams::default() }
}
