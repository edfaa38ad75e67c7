//! Argo Rollouts' kind `Rollout`, which is there only where somebody installed it.
//!
//! A watch of the metadata of its one definition tells whether it is. While there
//! is none nothing else is asked for, and where it comes later that is known at
//! once. To ask for Rollouts until they are found would need no further right, but
//! an idle operator would ask for ever; a watch of all definitions or of discovery
//! would show more than is needed.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

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
    patient(watcher(api, only)).filter_map(move |event| {
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
            // Whoever has been answered once may be refused for a moment, as by an API
            // server that starts: that is no news.
            Err(error) if refused_list(&error) == Some(403) && tell.borrow().is_none() => Some(Served::Untold),
            Err(error) if refused_list(&error) == Some(404) && tell.borrow().is_none() => Some(Served::No),
            Err(error) => {
                if *tell.borrow() != Some(Served::Untold) {
                    tracing::warn!(error = %describe(&error), "the watch for the definition of Rollouts failed, trying again");
                }
                None
            }
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
            let objects = match now? {
                Served::No => stream::iter([Change::Absent(WorkloadKind::Rollout)]).boxed(),
                Served::Yes | Served::Untold => objects(patient(watcher(api, config()))).boxed(),
            };
            Some((objects.take_until(Box::pin(over)), (told, now)))
        }
    })
    .flatten()
}

fn objects(
    events: impl Stream<Item = watcher::Result<Event<Lenient<RolloutView>>>> + Send,
) -> impl Stream<Item = Change> + Send {
    let mut listed = false;
    events.filter_map(move |event| {
        listed |= matches!(event, Ok(Event::InitDone));
        let refused = event.as_ref().err().and_then(refused_list);
        std::future::ready(match event {
            // A definition is there a moment before, and after, its kind is served; and
            // what may not be listed is none that could be rolled. Of a list alone: a
            // watch that goes on brings no list after it. Whoever was answered once may
            // be refused for a moment.
            Err(error) if refused == Some(404) || refused == Some(403) && !listed => {
                tracing::debug!(error = %describe(&error), "there are no Rollouts to be had");
                Some(Change::Absent(WorkloadKind::Rollout))
            }
            event => change(event).and_then(whole).map(workload),
        })
    })
}

/// The code with which a first list was refused.
fn refused_list(error: &watcher::Error) -> Option<u16> {
    matches!(error, watcher::Error::InitialListFailed(_)).then(|| code(error))?
}

fn code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::WatchError(status)
        | watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    }
}

/// Events, with a wait after each error.
fn patient<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send {
    let seen = Arc::new(Seen::default());
    let patience = Patience { last: None, seen: Arc::clone(&seen) };
    let noted = events.inspect(move |event| match event {
        // Each list begins with an event that no server has answered for.
        Ok(Event::Init) => {}
        Ok(_) => seen.answered.store(true, Ordering::Relaxed),
        Err(error) => seen.refused.store(matches!(code(error), Some(403 | 404)), Ordering::Relaxed),
    });
    noted.backoff(patience)
}

/// What is known of the API server since the last wait.
#[derive(Debug, Default)]
struct Seen {
    answered: AtomicBool,
    /// Whether what is asked for is not there or not allowed.
    refused: AtomicBool,
}

/// Soon again at first, then ever more seldom: most of all for what is not there
/// or not allowed.
#[derive(Debug)]
struct Patience {
    /// How long it waited last, and from when.
    last: Option<(Duration, Instant)>,
    seen: Arc<Seen>,
}

const SOONEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
const LONGEST_REFUSED: Duration = Duration::from_secs(600);
/// What went well for so long after a wait begins anew: a watch that goes on is
/// silent as long as nothing happens.
const FORGOTTEN: Duration = Duration::from_secs(120);

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let longest = if self.seen.refused.load(Ordering::Relaxed) { LONGEST_REFUSED } else { LONGEST };
        let now = Instant::now();
        let is_in_a_row = |(wait, since): &(Duration, Instant)| now.duration_since(*since) < *wait + FORGOTTEN;
        let again = self.last.filter(|_| !self.seen.answered.swap(false, Ordering::Relaxed)).filter(is_in_a_row);
        let wait = again.map_or(SOONEST, |(wait, _)| wait * 2).min(longest);
        self.last = Some((wait, now));
        Some(wait)
    }
}

impl Backoff for Patience {
    /// Nothing: kube calls it at the beginning of each list, before any answer.
    fn reset(&mut self) {}
}

#[cfg(test)]
#[path = "rollouts_tests.rs"]
mod tests;
