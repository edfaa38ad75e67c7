//! The Secret as it is to be.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::OwnerReference, jiff::Timestamp,
};
use kube::{Resource, api::ObjectMeta};

use super::{KeepPrevious, Overlap};
use crate::{
    api::{
        ANNOTATION_STATE, BotSecret, CreationPolicy, LABEL_OWNER, Renewal, Revision, SecretType, State, owner_label,
        state_annotation,
    },
    secret::SecretData,
    watch::SecretFacts,
};

/// Where the data comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// What the source gives now.
    #[default]
    Source,
    /// The same, while a value that was taken back may come again: a credential
    /// that was issued is given for as long as it is good.
    Pinned,
    /// The value before: a workload failed on the one that came after.
    Previous {
        /// The revision that is taken back.
        failed: Revision,
        /// Pods that began before this hold the value already.
        same_before: Option<Timestamp>,
    },
}

/// The Secret as a BotSecret wants it.
#[derive(Debug)]
pub struct Desired {
    /// Namespace of BotSecret and Secret.
    pub namespace: String,
    /// Name of the Secret.
    pub name: String,
    /// The BotSecret's name.
    pub bot_secret: String,
    /// Its type.
    pub type_: SecretType,
    /// Labels that the spec asks for, and ours.
    pub labels: BTreeMap<String, String>,
    /// Annotations that the spec asks for.
    pub annotations: BTreeMap<String, String>,
    /// Whose it is.
    pub policy: CreationPolicy,
    /// The BotSecret as its controller.
    pub owner: OwnerReference,
    /// Younger BotSecrets with the same target: what is theirs is ours.
    pub takes_over: Vec<String>,
    /// The values.
    pub data: SecretData,
    /// Their keyed digests.
    pub digests: BTreeMap<String, String>,
    /// The versions of the remote secrets that they came from.
    pub versions: BTreeMap<String, u64>,
    /// Keys whose new values roll nobody.
    pub quiet: BTreeSet<String>,
    /// When one of the values ends.
    pub renewal: Option<Renewal>,
    /// Where they come from.
    pub origin: Origin,
    /// Whether the values before stay beside them.
    pub keep_previous: Option<KeepPrevious>,
}

impl Desired {
    /// What `bot_secret` wants, with this data. `None` for an object that the
    /// API server never gave a name or UID.
    #[must_use]
    pub fn new(
        bot_secret: &BotSecret,
        data: SecretData,
        digests: BTreeMap<String, String>,
        versions: BTreeMap<String, u64>,
    ) -> Option<Self> {
        let target = bot_secret.spec.target();
        let name = bot_secret.metadata.name.clone()?;
        let policy = target.creation_policy.unwrap_or_default();
        let mut labels = target.labels.clone();
        if policy == CreationPolicy::Merge {
            labels.insert(crate::api::LABEL_MERGED.to_owned(), "true".to_owned());
        } else {
            labels.insert(LABEL_OWNER.to_owned(), owner_label(&name));
        }
        Some(Self {
            namespace: bot_secret.metadata.namespace.clone()?,
            name: bot_secret.target_name().to_owned(),
            type_: target.type_.as_deref().and_then(SecretType::from_name).unwrap_or_default(),
            labels,
            annotations: target.annotations.clone(),
            policy,
            owner: bot_secret.controller_owner_ref(&())?,
            bot_secret: name,
            takes_over: Vec::new(),
            data,
            digests,
            versions,
            quiet: BTreeSet::new(),
            renewal: None,
            origin: Origin::Source,
            keep_previous: None,
        })
    }

    /// The annotation in which this BotSecret's state lies.
    #[must_use]
    pub fn state_annotation(&self) -> String {
        match self.policy {
            CreationPolicy::Merge => state_annotation(&self.bot_secret),
            _ => ANNOTATION_STATE.to_owned(),
        }
    }

    /// The digests that tell apart what rolls workloads.
    #[must_use]
    pub fn rolling_digests(&self) -> BTreeMap<String, String> {
        crate::api::rolling_digests(&self.digests, &self.quiet)
    }

    /// Whether the labels, annotations and owners of a Secret are as wanted.
    /// Others' labels and annotations beside ours are left alone.
    #[must_use]
    pub fn metadata_matches(&self, facts: &SecretFacts) -> bool {
        let contains = |have: &BTreeMap<String, String>, want: &BTreeMap<String, String>| {
            want.iter().all(|(name, value)| have.get(name) == Some(value))
        };
        let owners = match self.policy {
            CreationPolicy::Owner => facts.owners.contains(&self.owner),
            CreationPolicy::Orphan => !facts.owners.iter().any(|owner| self.is_botsecret_of_our_name(owner)),
            CreationPolicy::Merge => true,
        };
        owners && contains(&facts.labels, &self.labels) && contains(&facts.annotations, &self.annotations)
    }

    /// An owner reference to a BotSecret of this name, of this or an earlier
    /// life: a Secret that outlived its BotSecret still points to the old UID.
    /// Or to a younger one, from which the Secret is taken over.
    #[must_use]
    pub fn is_botsecret_of_our_name(&self, owner: &OwnerReference) -> bool {
        owner.kind == self.owner.kind
            && (owner.name == self.bot_secret || self.takes_over.contains(&owner.name))
            && owner.api_version.split('/').next() == self.owner.api_version.split('/').next()
    }

    /// The whole object for a create, or for a replace of `live`.
    #[must_use]
    pub fn to_secret(&self, state: &State, beside: &Overlap, live: Option<&Secret>) -> Secret {
        let mut meta = live.map_or_else(
            || ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                ..ObjectMeta::default()
            },
            |live| live.metadata.clone(),
        );
        meta.managed_fields = None;
        meta.labels.get_or_insert_default().extend(self.labels.clone());
        let annotations = meta.annotations.get_or_insert_default();
        annotations.extend(self.annotations.clone());
        annotations.insert(self.state_annotation(), state.to_annotation());
        let owners = meta.owner_references.get_or_insert_default();
        owners.retain(|owner| !self.is_botsecret_of_our_name(owner));
        if self.policy == CreationPolicy::Owner {
            owners.push(self.owner.clone());
        }
        Secret {
            metadata: meta,
            data: Some(self.encoded(beside)),
            type_: Some(live.and_then(|live| live.type_.clone()).unwrap_or_else(|| self.type_.name().to_owned())),
            immutable: live.and_then(|live| live.immutable),
            string_data: None,
        }
    }

    /// The fields that are this BotSecret's in a Secret that it shares.
    #[must_use]
    pub fn to_merge(&self, state: &State, beside: &Overlap, live: &Secret) -> serde_json::Value {
        let mut annotations = self.annotations.clone();
        annotations.insert(self.state_annotation(), state.to_annotation());
        serde_json::json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "uid": live.metadata.uid,
                "resourceVersion": live.metadata.resource_version,
                "labels": self.labels,
                "annotations": annotations,
            },
            "data": self.encoded(beside),
        })
    }

    fn encoded(&self, beside: &Overlap) -> BTreeMap<String, ByteString> {
        self.data
            .iter()
            .chain(&beside.data)
            .map(|(key, value)| (key.clone(), ByteString(value.expose().to_vec())))
            .collect()
    }
}
