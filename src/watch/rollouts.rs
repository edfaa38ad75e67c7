//! Argo Rollouts' kind `Rollout`, which is there only where somebody installed it.
//!
//! A watch of the metadata of its one definition tells whether it is. While there
//! is none nothing else is asked for, and where it comes later that is known at
//! once. To ask for Rollouts until they are found would need no further right, but
//! an idle operator would ask for ever; a watch of all definitions or of discovery
//! would show more than is needed.

use std::{borrow::Cow, time::Duration};

use futures::{Stream, StreamExt, stream};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, Resource,
    api::ObjectMeta,
    core::{NamespaceResourceScope, PartialObjectMeta},
    runtime::{WatchStreamExt, utils::Backoff, watcher, watcher::Event},
};
use serde::Deserialize;
use tokio::{sync::watch, time::Instant};

use super::{
    Change, WorkloadView,
    lenient::Lenient,
    streams::{ScopedChange, change, config, describe, whole, workload},
    workload::{SpecView, StatusView},
};
use crate::api::WorkloadKind;

const DEFINITION: &str = "rollouts.argoproj.io";

/// The decoded part of a Rollout of Argo Rollouts.
#[derive(Clone, Debug, Deserialize)]
pub struct RolloutView {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: SpecView,
    #[serde(default)]
    status: StatusView,
}

impl Resource for RolloutView {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Rollout".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "argoproj.io".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1alpha1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "rollouts".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl WorkloadView for RolloutView {
    const KIND: WorkloadKind = WorkloadKind::Rollout;

    fn parts(&self) -> (&ObjectMeta, &SpecView, &StatusView) {
        (&self.metadata, &self.spec, &self.status)
    }
}

/// Whether the API server has Rollouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    Yes,
    No,
    /// The definition may not be read, as where rights are granted by namespace:
    /// the kind itself is tried, less and less often.
    Untold,
}

/// Watches the definition, tells what it sees, and has nothing to say itself.
pub(super) fn definition(
    client: &Client,
    tell: watch::Sender<Option<Served>>,
) -> impl Stream<Item = ScopedChange> + Send + use<> {
    let api: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(client.clone());
    // By name: RBAC can then grant this one alone.
    let only = config().fields(&format!("metadata.name={DEFINITION}"));
    let mut listed = false;
    watcher(api, only).backoff(Patience::default()).filter_map(move |event| {
        let served = match event {
            Ok(Event::Init) => {
                listed = false;
                None
            }
            Ok(Event::InitApply(_)) => {
                listed = true;
                None
            }
            Ok(Event::InitDone) => Some(if listed { Served::Yes } else { Served::No }),
            Ok(Event::Apply(_)) => Some(Served::Yes),
            Ok(Event::Delete(_)) => Some(Served::No),
            Err(error) => match code(&error) {
                Some(403) => Some(Served::Untold),
                Some(404) => Some(Served::No),
                _ => {
                    tracing::warn!(error = %describe(&error), "the watch for the definition of Rollouts failed, trying again");
                    None
                }
            },
        };
        if let Some(served) = served {
            tell.send_if_modified(|told| told.replace(served) != Some(served));
        }
        std::future::ready(None)
    })
}

/// The Rollouts of one scope, or that there are none to be had.
pub(super) fn rollouts(
    api: Api<Lenient<RolloutView>>,
    told: watch::Receiver<Option<Served>>,
) -> impl Stream<Item = Change> + Send {
    stream::unfold((told, None), move |(mut told, last)| {
        let api = api.clone();
        async move {
            let now = match told.wait_for(|now| now.is_some() && *now != last).await {
                Ok(now) => *now,
                Err(_) => return None,
            };
            let mut next = told.clone();
            let over = async move {
                // The one who tells lives as long as these streams.
                let _ = next.wait_for(|next| *next != now).await;
            };
            let absent = stream::iter([Change::Absent(WorkloadKind::Rollout)]);
            let objects = match now? {
                Served::No => absent.boxed(),
                Served::Yes => objects(watcher(api, config()).default_backoff()).boxed(),
                Served::Untold => absent.chain(objects(watcher(api, config()).backoff(Patience::default()))).boxed(),
            };
            Some((objects.take_until(Box::pin(over)), (told, now)))
        }
    })
    .flatten()
}

fn objects(
    events: impl Stream<Item = watcher::Result<Event<Lenient<RolloutView>>>> + Send,
) -> impl Stream<Item = Change> + Send {
    events.filter_map(async |event| match event {
        // A definition is there a moment before, and after, its kind is served.
        Err(error) if code(&error) == Some(404) => Some(Change::Absent(WorkloadKind::Rollout)),
        event => Some(workload(whole(change(event)?)?)),
    })
}

fn code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::WatchError(status)
        | watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    }
}

/// Soon again at first, for an API server that starts, then ever more seldom, for
/// what is not there or not allowed.
#[derive(Debug, Default)]
struct Patience {
    /// How long it waited last, and since when.
    last: Option<(Duration, Instant)>,
}

const SOONEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(600);

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        // What went well for long after the wait begins anew.
        let again = self.last.filter(|(wait, since)| now.duration_since(*since) < *wait + LONGEST);
        let wait = again.map_or(SOONEST, |(wait, _)| (wait * 2).min(LONGEST));
        self.last = Some((wait, now));
        Some(wait)
    }
}

impl Backoff for Patience {
    /// Nothing: each list begins with an event that no server has answered for.
    fn reset(&mut self) {}
}

#[cfg(test)]
#[path = "rollouts_tests.rs"]
mod tests;
