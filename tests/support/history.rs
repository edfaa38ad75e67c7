//! Every revision of an object that the API server had, as its watch told.

use std::sync::{Arc, Mutex};

use anyhow::{Context, bail, ensure};
use botsecret_testbed::wait_for;
use futures::{StreamExt as _, pin_mut};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, WatchEvent, WatchParams},
};
use serde_json::Value;

use super::{DEADLINE, Result};

/// One revision.
#[derive(Clone, Debug)]
pub struct Seen {
    pub name: String,
    pub version: String,
    pub deleted: bool,
    pub object: Value,
}

/// What a watch has told so far; it ends when dropped.
pub struct History {
    api: Api<DynamicObject>,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<Result>,
}

impl Drop for History {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl History {
    /// Follows all objects of a kind in a namespace, from now on.
    pub async fn follow(client: &Client, namespace: &str, kind: &GroupVersionKind) -> Result<Self> {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(kind));
        let from = api.list(&ListParams::default()).await?.metadata.resource_version.context("a list of no version")?;
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let (watched, told) = (api.clone(), seen.clone());
        let task = tokio::spawn(async move {
            let mut from = from;
            // A watch ends after minutes; the next goes on from there.
            loop {
                let events = watched.watch(&WatchParams::default().timeout(290), &from).await?;
                pin_mut!(events);
                while let Some(event) = events.next().await {
                    let (object, deleted) = match event? {
                        WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
                        WatchEvent::Deleted(object) => (object, true),
                        WatchEvent::Bookmark(_) => continue,
                        WatchEvent::Error(status) => bail!("the watch failed: {status:?}"),
                    };
                    let (name, version) = (object.name_any(), object.resource_version().unwrap_or_default());
                    let object = serde_json::to_value(object)?;
                    from.clone_from(&version);
                    told.lock().expect("nobody panics with it").push(Seen { name, version, deleted, object });
                }
            }
        });
        Ok(Self { api, seen, task })
    }

    /// All revisions up to now.
    pub async fn complete(&self) -> Result<Vec<Seen>> {
        for live in self.api.list(&ListParams::default()).await? {
            let (name, version) = (live.name_any(), live.resource_version());
            wait_for(&format!("the watch to show {name}"), DEADLINE, async || {
                // It may have told of a later one by now.
                let is_it = |seen: &Seen| seen.name == name && Some(&seen.version) == version.as_ref();
                Ok(self.seen().iter().any(is_it).then_some(()))
            })
            .await?;
        }
        ensure!(!self.task.is_finished(), "a watch ended before the run");
        Ok(self.seen())
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("nobody panics with it").clone()
    }
}
