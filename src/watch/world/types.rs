//! What goes into the index and what comes out of it.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;

use crate::{
    api::{BotSecret, BotSecretStore, ClusterBotSecretStore, State, StoreRef, WorkloadKind},
    fetch::{ResolvedStore, SecretVersion, ServiceAccount},
    stores::IDENTITY_ANNOTATIONS,
    watch::{SecretFacts, WorkloadFacts},
};

/// Namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Its namespace; empty where it has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectKey {
    /// The key of this namespace and name.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// What a watch said about objects of one kind in one scope.
#[derive(Debug)]
pub enum Scoped<T> {
    /// A relist begins.
    Begin,
    /// An object is there.
    Put(T),
    /// An object is gone.
    Gone(ObjectKey),
    /// The relist is complete.
    End,
}

/// A change in the cluster, as the watches report it.
#[derive(Debug)]
pub enum Change {
    /// BotSecrets.
    BotSecret(Scoped<Box<BotSecret>>),
    /// Stores of a namespace.
    Store(Scoped<Box<BotSecretStore>>),
    /// Stores of the cluster.
    ClusterStore(Scoped<Box<ClusterBotSecretStore>>),
    /// ServiceAccounts.
    ServiceAccount(Scoped<(ObjectKey, AccountFacts)>),
    /// A Secret that a store refers to for its own credentials, as it is now.
    Referred(ObjectKey, Option<SecretVersion>),
    /// Secrets that the operator writes.
    Secret(Scoped<Box<SecretFacts>>),
    /// Secrets that a BotSecret merges into.
    MergedSecret(Scoped<Box<SecretFacts>>),
    /// Workloads of one kind.
    Workload(WorkloadKind, Scoped<Box<WorkloadFacts>>),
    /// The API server has no workloads of this kind.
    Absent(WorkloadKind),
}

/// What is kept of a ServiceAccount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountFacts {
    /// Its UID.
    pub uid: String,
    /// Those of its annotations that are [`IDENTITY_ANNOTATIONS`].
    pub annotations: BTreeMap<String, String>,
}

impl AccountFacts {
    /// Keeps what matters of a ServiceAccount's metadata.
    #[must_use]
    pub fn of(meta: ObjectMeta) -> Self {
        let mut annotations = meta.annotations.unwrap_or_default();
        annotations.retain(|name, _| IDENTITY_ANNOTATIONS.contains(&name.as_str()));
        Self { uid: meta.uid.unwrap_or_default(), annotations }
    }
}

/// Why a store cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreProblem {
    /// There is none of this name.
    NotFound,
    /// It is not offered to this namespace.
    NotAllowed,
    /// It names no manager, or several.
    NoProvider,
}

/// How a workload fares with the values of other BotSecrets, each by the name of
/// one and since when it is so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// It failed in the rollout that began then.
    pub failed: Option<(String, Timestamp)>,
    /// It rolls.
    pub rolls: Option<(String, Timestamp)>,
    /// It is to roll for what comes after a value that it failed on.
    pub mends: Option<(String, Timestamp)>,
}

/// Everything that one pass over a BotSecret looks at.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The object.
    pub bot_secret: Arc<BotSecret>,
    /// The stores that it refers to.
    pub stores: BTreeMap<StoreRef, Result<Arc<ResolvedStore>, StoreProblem>>,
    /// Stores that what was issued for it is from, by their names on record.
    pub lenders: BTreeMap<StoreRef, Arc<ResolvedStore>>,
    /// Its ServiceAccount, if it exists.
    pub account: Option<ServiceAccount>,
    /// The ServiceAccount that rotates its values, if it exists.
    pub rotator: Option<ServiceAccount>,
    /// Its Secret, if the watch shows it.
    pub secret: Option<Arc<SecretFacts>>,
    /// The state of a Secret of its that was deleted while the operator ran.
    pub lost: Option<Arc<State>>,
    /// The workloads that use its Secret.
    pub workloads: Vec<Arc<WorkloadFacts>>,
    /// UIDs of those of them that use Secrets of other BotSecrets too, and how they
    /// fare with these.
    pub shared: HashMap<String, Elsewhere>,
    /// Whether the API server has Rollouts.
    pub rollouts_served: bool,
    /// An older BotSecret with the same target.
    pub older_rival: Option<String>,
    /// Younger BotSecrets with the same target.
    pub younger_rivals: Vec<String>,
}

/// What has gone for good, by its UID: another of the same name is another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Departed {
    /// A ServiceAccount.
    Account(String),
    /// A store, of a namespace or of the cluster.
    Store(String),
}

/// How a BotSecret is concerned by a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wake {
    /// Look again; reading the manager is due only if its time has come.
    Look,
    /// Something that a read depends on changed: read now.
    Read,
}
