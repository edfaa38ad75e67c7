//! Feeds the [`World`](super::World) from the API server.

use futures::{Stream, StreamExt, stream::BoxStream};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{NamespaceResourceScope, PartialObjectMeta},
    runtime::{WatchStreamExt, watcher, watcher::Event},
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::{
    AccountFacts, Change, DaemonSetView, DeploymentView, ObjectKey, Scoped, SecretFacts, StatefulSetView, WorkloadView,
    lenient::Lenient,
    rollouts::{self, Served},
};
use crate::{
    api::{BotSecret, BotSecretStore, ClusterBotSecretStore, LABEL_MERGED, LABEL_OWNER},
    fetch::SecretVersion,
};

/// Seconds after which a watch is renewed. Some clouds drop idle flows after
/// four minutes without telling either side.
const WATCH_SECONDS: u32 = 210;

/// A change and the scope (a namespace, or "" for the cluster) of its watch.
pub type ScopedChange = (String, Change);

/// How many first lists there are for this choice of namespaces: each ends with
/// one [`Scoped::End`], or with [`Change::Absent`].
#[must_use]
pub fn count(namespaces: &[String]) -> usize {
    if namespaces.is_empty() { PER_SCOPE + 1 } else { namespaces.len() * PER_SCOPE }
}

/// BotSecrets, stores, ServiceAccounts, two of Secrets, four of workloads.
const PER_SCOPE: usize = 9;

/// Every watch, merged. Without namespaces the whole cluster is watched;
/// with them there are no ClusterBotSecretStores, which are not of a namespace.
pub fn all(client: &Client, namespaces: &[String]) -> impl Stream<Item = ScopedChange> + Send + use<> {
    let (tell, served) = watch::channel(None);
    let mut streams = vec![rollouts::definition(client, tell).boxed()];
    if namespaces.is_empty() {
        streams.extend(of_scope(client, "", &served));
        streams.push(scoped("", objects::<ClusterBotSecretStore>(Api::all(client.clone())).map(Change::ClusterStore)));
    }
    for namespace in namespaces {
        streams.extend(of_scope(client, namespace, &served));
    }
    futures::stream::select_all(streams)
}

fn of_scope(
    client: &Client,
    scope: &str,
    served: &watch::Receiver<Option<Served>>,
) -> Vec<BoxStream<'static, ScopedChange>> {
    vec![
        scoped(scope, objects::<BotSecret>(api(client, scope)).map(Change::BotSecret)),
        scoped(scope, objects::<BotSecretStore>(api(client, scope)).map(Change::Store)),
        scoped(scope, accounts(api(client, scope)).map(Change::ServiceAccount)),
        scoped(scope, secrets(api(client, scope), LABEL_OWNER).map(Change::Secret)),
        scoped(scope, secrets(api(client, scope), LABEL_MERGED).map(Change::MergedSecret)),
        scoped(scope, workloads::<DeploymentView>(api(client, scope))),
        scoped(scope, workloads::<StatefulSetView>(api(client, scope))),
        scoped(scope, workloads::<DaemonSetView>(api(client, scope))),
        scoped(scope, rollouts::rollouts(api(client, scope), served.clone())),
    ]
}

fn api<K>(client: &Client, scope: &str) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    if scope.is_empty() { Api::all(client.clone()) } else { Api::namespaced(client.clone(), scope) }
}

fn scoped(scope: &str, stream: impl Stream<Item = Change> + Send + 'static) -> BoxStream<'static, ScopedChange> {
    let scope = scope.to_owned();
    stream.map(move |change| (scope.clone(), change)).boxed()
}

pub(super) fn config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS).page_size(250)
}

/// Custom resources. One that cannot be decoded (of a newer version of the
/// CRD) is left out with a warning; without the guard it would wedge the list.
fn objects<K>(api: Api<Lenient<K>>) -> impl Stream<Item = Scoped<Box<K>>> + Send
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
{
    events(watcher(api, config())).filter_map(async |change| Some(map(whole(change)?, Box::new)))
}

/// The same without those that cannot be decoded.
pub(super) fn whole<K: Resource<DynamicType = ()>>(change: Scoped<Lenient<K>>) -> Option<Scoped<K>> {
    Some(match change {
        Scoped::Begin => Scoped::Begin,
        Scoped::End => Scoped::End,
        Scoped::Gone(key) => Scoped::Gone(key),
        Scoped::Put(Lenient::Whole(object)) => Scoped::Put(object),
        Scoped::Put(Lenient::Undecodable(metadata)) => {
            tracing::warn!(
                kind = %K::kind(&()),
                namespace = metadata.namespace.as_deref().unwrap_or_default(),
                name = metadata.name.as_deref().unwrap_or_default(),
                "left out: it cannot be decoded by this version of the operator"
            );
            return None;
        }
    })
}

fn accounts(
    api: Api<PartialObjectMeta<ServiceAccount>>,
) -> impl Stream<Item = Scoped<(ObjectKey, AccountFacts)>> + Send {
    events(watcher(api, config())).map(|change| {
        map(change, |account: PartialObjectMeta<ServiceAccount>| (key(&account), AccountFacts::of(account.metadata)))
    })
}

/// One Secret that a store refers to: of the metadata of this one Secret alone
/// only the version is kept. Answers each state of it once, `None` while it is
/// not there.
pub fn referred(client: &Client, secret: &ObjectKey) -> impl Stream<Item = Option<SecretVersion>> + Send + use<> {
    let api: Api<PartialObjectMeta<Secret>> = Api::namespaced(client.clone(), &secret.namespace);
    let only = config().fields(&format!("metadata.name={}", secret.name));
    let mut listed = None;
    events(watcher(api, only)).filter_map(move |change| {
        let state = match change {
            Scoped::Begin => {
                listed = Some(None);
                None
            }
            Scoped::Put(secret) => {
                let version = Some(SecretVersion {
                    uid: secret.uid().unwrap_or_default(),
                    resource_version: secret.resource_version().unwrap_or_default(),
                });
                match &mut listed {
                    // A list shows what there is when it is complete.
                    Some(listed) => {
                        *listed = version;
                        None
                    }
                    None => Some(version),
                }
            }
            Scoped::Gone(_) => Some(None),
            Scoped::End => listed.take(),
        };
        std::future::ready(state)
    })
}

fn secrets(
    api: Api<PartialObjectMeta<Secret>>,
    label: &str,
) -> impl Stream<Item = Scoped<Box<SecretFacts>>> + Send + use<> {
    events(watcher(api, config().labels(label)))
        .map(|change| map(change, |secret: PartialObjectMeta<Secret>| Box::new(SecretFacts::of(secret.metadata))))
}

fn workloads<V: WorkloadView>(api: Api<V>) -> impl Stream<Item = Change> + Send {
    events(watcher(api, config())).map(workload)
}

pub(super) fn workload<V: WorkloadView>(change: Scoped<V>) -> Change {
    Change::Workload(V::KIND, map(change, |view| Box::new(view.facts())))
}

/// Watch events as changes; failed watches are tried again with a back-off.
fn events<K>(stream: impl Stream<Item = watcher::Result<Event<K>>> + Send) -> impl Stream<Item = Scoped<K>> + Send
where
    K: Resource + Send + 'static,
    K::DynamicType: Default,
{
    stream.default_backoff().filter_map(async |event| change(event))
}

pub(super) fn change<K>(event: watcher::Result<Event<K>>) -> Option<Scoped<K>>
where
    K: Resource,
    K::DynamicType: Default,
{
    match event {
        Ok(Event::Init) => Some(Scoped::Begin),
        Ok(Event::InitApply(object) | Event::Apply(object)) => Some(Scoped::Put(object)),
        Ok(Event::Delete(object)) => Some(Scoped::Gone(key(&object))),
        Ok(Event::InitDone) => Some(Scoped::End),
        Err(error) => {
            tracing::warn!(kind = %K::kind(&K::DynamicType::default()), error = %describe(&error), "watch failed, trying again");
            None
        }
    }
}

/// Watch errors quote the API server's status, never an object.
pub(super) fn describe(error: &watcher::Error) -> String {
    match error {
        watcher::Error::WatchError(status)
        | watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => format!("{} ({})", status.message, status.code),
        watcher::Error::NoResourceVersion => "the list had no resourceVersion".to_owned(),
        _ => "no connection, or an answer that could not be read".to_owned(),
    }
}

fn key<K: Resource>(object: &K) -> ObjectKey {
    let meta = object.meta();
    ObjectKey::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

fn map<T, U>(change: Scoped<T>, with: impl FnOnce(T) -> U) -> Scoped<U> {
    match change {
        Scoped::Begin => Scoped::Begin,
        Scoped::Put(object) => Scoped::Put(with(object)),
        Scoped::Gone(key) => Scoped::Gone(key),
        Scoped::End => Scoped::End,
    }
}
