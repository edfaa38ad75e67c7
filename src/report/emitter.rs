//! Writes notices as events (`events.k8s.io/v1`).
//!
//! Not by kube's Recorder: it counts whatever has the type, reason and action of an
//! event of the last minutes as one more of that, and leaves that one's words. Of two
//! workloads that roll it would name the first alone.

use std::{
    collections::HashMap,
    fs,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::{
    api::events::v1::{Event, EventSeries},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::time::Instant;

use super::Notice;
use crate::{api::BotSecret, deadline::within};

/// What Kubernetes calls this controller.
const CONTROLLER: &str = "botsecret";
/// From when on the same is news again, as with Kubernetes' own controllers
/// (KEP-383).
const SERIES_ENDS: Duration = Duration::from_secs(6 * 60);
/// How many events are remembered, of all BotSecrets: a few megabytes.
const MOST_REMEMBERED: usize = 4096;
/// The API takes 1,024 bytes.
const LONGEST_NOTE: usize = 1000;
/// A name has 253 characters (RFC 1123), of which a dot and the moment take 17.
const LONGEST_START: usize = 236;

/// Publishes notices.
pub struct Emitter {
    client: Client,
    instance: String,
    recent: Mutex<Recent>,
}

impl Emitter {
    /// One for this process.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let instance = if host.trim().is_empty() { CONTROLLER } else { host.trim() };
        Self { client, instance: instance.to_owned(), recent: Mutex::default() }
    }

    /// Publishes them. An event that cannot be written is lost: nothing
    /// depends on it.
    pub async fn publish(&self, object: &BotSecret, notices: &[Notice]) {
        for notice in notices {
            if within(self.tell(object, notice)).await.is_err() {
                tracing::debug!(reason = notice.reason, "an event could not be written");
            }
        }
    }

    async fn tell(&self, object: &BotSecret, notice: &Notice) -> kube::Result<()> {
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let (key, now, time) = (Key::of(object, notice), Instant::now(), MicroTime(Timestamp::now()));
        let again = self.recent().again(&key, now);
        if let Some(again) = again {
            let series = EventSeries { count: again.count, last_observed_time: time.clone() };
            let patch = Patch::Merge(json!({ "series": series }));
            match events.patch(&again.name, &PatchParams::default(), &patch).await {
                // Somebody deleted it.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                result => {
                    result?;
                    self.recent().note(key, again);
                    return Ok(());
                }
            }
        }
        let name = name(object.metadata.name.as_deref().unwrap_or(CONTROLLER), time.0);
        events.create(&PostParams::default(), &self.event(object, &key, name.clone(), time)).await?;
        self.recent().note(key, Told { name, count: 1, at: now });
        Ok(())
    }

    fn event(&self, object: &BotSecret, key: &Key, name: String, time: MicroTime) -> Event {
        let namespace = object.metadata.namespace.clone();
        Event {
            metadata: ObjectMeta { name: Some(name), namespace, ..ObjectMeta::default() },
            event_time: Some(time),
            type_: Some(if key.warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(key.reason.to_owned()),
            action: Some(key.action.to_owned()),
            note: Some(key.note.clone()),
            regarding: Some(object.object_ref(&())),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        }
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is told: only what is the same in all of this is the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// Of the BotSecret.
    uid: String,
    warning: bool,
    reason: &'static str,
    action: &'static str,
    note: String,
}

impl Key {
    fn of(object: &BotSecret, notice: &Notice) -> Self {
        Self {
            uid: object.metadata.uid.clone().unwrap_or_default(),
            warning: notice.warning,
            reason: notice.reason,
            action: notice.action,
            note: bounded(&notice.note, LONGEST_NOTE).to_owned(),
        }
    }
}

/// The event that tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    name: String,
    /// How often it was seen.
    count: i32,
    /// When it was seen last.
    at: Instant,
}

/// Events that may be seen once more.
#[derive(Debug, Default)]
struct Recent(HashMap<Key, Told>);

impl Recent {
    /// What the event says that tells this already, once it is seen again.
    fn again(&mut self, key: &Key, now: Instant) -> Option<Told> {
        self.0.retain(|_, told| now.duration_since(told.at) < SERIES_ENDS);
        self.0.get(key).map(|told| Told { name: told.name.clone(), count: told.count.saturating_add(1), at: now })
    }

    /// It was written. Where there are too many, that goes which was not seen for longest:
    /// it is told anew.
    fn note(&mut self, key: Key, told: Told) {
        self.0.insert(key, told);
        if self.0.len() > MOST_REMEMBERED {
            let oldest = self.0.iter().min_by_key(|(_, told)| told.at).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                self.0.remove(&oldest);
            }
        }
    }
}

/// After whom it is about and the moment, as other controllers name theirs.
fn name(about: &str, moment: Timestamp) -> String {
    let start = bounded(about, LONGEST_START).trim_end_matches(['.', '-']);
    format!("{start}.{:x}", moment.as_nanosecond())
}

fn bounded(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
#[path = "emitter_tests.rs"]
mod tests;
