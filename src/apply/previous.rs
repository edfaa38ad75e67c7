//! The value before the last one, kept in a Secret of its own for as long as a
//! rotation may have to be taken back.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret, jiff::Timestamp};
use kube::{Api, Client};

use super::{ApplyError, Aside, AsideError, Desired};
use crate::{
    api::{ANNOTATION_STATE, CreationPolicy, LABEL_PREVIOUS, State, issued_annotation, previous_secret},
    build::DigestKey,
    deadline::within,
    secret::{SecretBytes, SecretData},
    watch::SecretFacts,
};

/// A value that was kept.
#[derive(Debug)]
pub struct Previous {
    /// The state that lay on the target with it.
    pub state: State,
    /// The value.
    pub data: SecretData,
    /// The credentials that it was made from, sealed.
    pub issued: String,
    /// When it was kept, by the API server's clock: the target held it then.
    pub kept_at: Option<Timestamp>,
}

/// Keeps and gives back what a target held before.
#[derive(Debug)]
pub struct Kept<'a> {
    aside: Aside<'a>,
    secrets: Api<Secret>,
    beside: &'a Desired,
}

impl<'a> Kept<'a> {
    /// That of this target.
    #[must_use]
    pub fn of(client: &Client, beside: &'a Desired) -> Self {
        Self::named(client, beside, previous_secret(&beside.name))
    }

    /// The one of this name, as where the target had another.
    #[must_use]
    pub fn named(client: &Client, beside: &'a Desired, name: String) -> Self {
        let aside = Aside::new(client, beside, name, LABEL_PREVIOUS);
        Self { aside, secrets: Api::namespaced(client.clone(), &beside.namespace), beside }
    }

    /// Keeps what the target holds now, with this state on it.
    ///
    /// # Errors
    /// As [`AsideError`]; the target may be another by now ([`AsideError::Changed`]).
    pub async fn keep(&self, state: &State) -> Result<(), AsideError> {
        // Before the target: who keeps another value of it in between is seen.
        let kept = self.aside.get().await.map_err(AsideError::Secret)?;
        let target = &self.beside.name;
        let live = within(self.secrets.get_opt(target))
            .await
            .map_err(|error| AsideError::Secret(ApplyError::from_read(&error, &format!("Secret {target}"))))?;
        let Some(live) = live else { return Err(AsideError::Changed) };
        let facts = SecretFacts::of(live.metadata.clone());
        if facts.state_in(&self.beside.state_annotation()).is_none_or(|live| live.revision != state.revision) {
            return Err(AsideError::Changed);
        }
        // Of a shared Secret no more than what is this BotSecret's.
        let data = data(live.data, |key| state.digests.contains_key(key));
        let merges = self.beside.policy == CreationPolicy::Merge;
        let mut annotations = BTreeMap::from([(ANNOTATION_STATE.to_owned(), state.to_annotation())]);
        if let Some(sealed) = facts.annotations.get(&issued_annotation(&self.beside.bot_secret, merges)) {
            annotations.insert(issued_annotation(&self.beside.bot_secret, false), sealed.clone());
        }
        self.aside.put(kept.as_ref(), &data, annotations).await
    }

    /// What was kept; `None` where nothing was, or somebody changed it.
    ///
    /// # Errors
    /// As [`super::apply`].
    pub async fn get(&self, key: &DigestKey) -> Result<Option<Previous>, ApplyError> {
        let Some(kept) = self.aside.get().await?.filter(|kept| self.aside.is_ours(&kept.metadata)) else {
            return Ok(None);
        };
        let facts = SecretFacts::of(kept.metadata.clone());
        let issued = facts.annotations.get(&issued_annotation(&self.beside.bot_secret, false)).cloned();
        let kept_at = facts.written_at(CreationPolicy::Owner, &self.beside.bot_secret);
        let Some(state) = facts.state.filter(|state| state.digest_key == key.id()) else { return Ok(None) };
        let data = data(kept.data, |_| true);
        let is_whole = key.digests(&self.beside.namespace, &self.beside.name, &data) == state.digests;
        Ok(is_whole.then(|| Previous { state, data, issued: issued.unwrap_or_default(), kept_at }))
    }

    /// What the target holds, where that is the value that came back; `None` where
    /// it is not.
    ///
    /// # Errors
    /// As [`super::apply`].
    pub async fn live(&self, key: &DigestKey) -> Result<Option<Previous>, ApplyError> {
        let target = &self.beside.name;
        let live = within(self.secrets.get_opt(target))
            .await
            .map_err(|error| ApplyError::from_read(&error, &format!("Secret {target}")))?;
        let Some(live) = live else { return Ok(None) };
        let facts = SecretFacts::of(live.metadata.clone());
        let merges = self.beside.policy == CreationPolicy::Merge;
        let issued = facts.annotations.get(&issued_annotation(&self.beside.bot_secret, merges)).cloned();
        let Some(state) = facts.state_in(&self.beside.state_annotation()) else { return Ok(None) };
        let data = data(live.data, |name| state.digests.contains_key(name));
        let is_it = state.taken_back.is_some() && key.digests(&self.beside.namespace, target, &data) == state.digests;
        let state = state.clone();
        Ok(is_it.then(|| Previous { state, data, issued: issued.unwrap_or_default(), kept_at: None }))
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
}

fn data(data: Option<BTreeMap<String, ByteString>>, wanted: impl Fn(&str) -> bool) -> SecretData {
    let all = data.into_iter().flatten().filter(|(key, _)| wanted(key));
    all.map(|(key, value)| (key, SecretBytes::new(value.0))).collect()
}
