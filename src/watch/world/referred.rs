//! Secrets that stores refer to for their own credentials.

use std::collections::BTreeSet;

use super::{ObjectKey, Wake, World};
use crate::{
    api::{Provider, StoreKind},
    fetch::{ReferredSecrets, SecretVersion},
    stores::{Scope, names::is_dns_subdomain},
};

impl World {
    /// The Secrets that stores refer to now.
    #[must_use]
    pub fn referred_secrets(&self) -> BTreeSet<ObjectKey> {
        let local =
            self.stores.iter().filter_map(|(key, store)| Some((key.namespace.as_str(), store.spec.store.provider()?)));
        let cluster = self.cluster_stores.iter();
        let cluster =
            cluster.filter_map(|(_, store)| Some((self.operator_namespace.as_str(), store.spec.store.provider()?)));
        let mut secrets = BTreeSet::new();
        for (namespace, provider) in local.chain(cluster) {
            secrets.extend(names_of(&provider).map(|name| ObjectKey::new(namespace, name)));
        }
        secrets
    }

    /// Whether this Secret has been looked for.
    #[must_use]
    pub fn has_looked_for(&self, secret: &ObjectKey) -> bool {
        self.referred.contains_key(secret)
    }

    /// No store refers to this Secret any more.
    pub fn forget_referred(&mut self, secret: &ObjectKey) {
        self.referred.remove(secret);
    }

    pub(super) fn take_referred(
        &mut self,
        secret: ObjectKey,
        version: Option<SecretVersion>,
    ) -> Vec<(ObjectKey, Wake)> {
        if self.referred.get(&secret) == Some(&version) {
            return Vec::new();
        }
        let refers = |provider: Option<Provider>| {
            provider.is_some_and(|provider| names_of(&provider).any(|name| name == secret.name))
        };
        let start = ObjectKey::new(&secret.namespace, "");
        let local = self.stores.range(start..).take_while(|(key, _)| key.namespace == secret.namespace);
        let local = local.filter(|(_, store)| refers(store.spec.store.provider()));
        let mut woken: BTreeSet<_> = local
            .flat_map(|(key, _)| self.users_of_store(&key.namespace, &key.name, StoreKind::BotSecretStore))
            .collect();
        if secret.namespace == self.operator_namespace {
            let cluster = self.cluster_stores.iter().filter(|(_, store)| refers(store.spec.store.provider()));
            woken.extend(
                cluster.flat_map(|(key, _)| self.users_of_store("", &key.name, StoreKind::ClusterBotSecretStore)),
            );
        }
        self.referred.insert(secret, version);
        woken.into_iter().collect()
    }

    pub(super) fn credentials(&self, scope: Scope, namespace: &str, provider: &Provider) -> ReferredSecrets {
        let namespace = match scope {
            Scope::Namespace => namespace,
            Scope::Cluster => &self.operator_namespace,
        };
        let seen = names_of(provider).filter_map(|name| {
            let seen = self.referred.get(&ObjectKey::new(namespace, name))?;
            Some((name.to_owned(), seen.clone()))
        });
        ReferredSecrets { seen: seen.collect(), namespace: namespace.to_owned() }
    }
}

/// The Secrets that it refers to. What is no name (an object may be older than
/// the schema) is no Secret's.
fn names_of(provider: &Provider) -> impl Iterator<Item = &str> {
    provider.secret_refs().into_iter().map(|reference| reference.name.as_str()).filter(|name| is_dns_subdomain(name))
}
