//! One watch that says how many BotSecrets are ready: what looks on must not
//! cost what it measures.

use std::{collections::HashMap, pin::pin, time::Duration};

use anyhow::{Context as _, Result};
use botsecret::api::BotSecret;
use futures::TryStreamExt as _;
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::ApiResource,
    core::Object,
    runtime::{WatchStreamExt as _, watcher},
};
use serde::Deserialize;
use tokio::{sync::watch, task::JoinHandle};

use super::progress::say;

/// A BotSecret, of which nothing but the conditions is decoded.
type View = Object<Nothing, Status>;

#[derive(Clone, Debug, Deserialize)]
struct Nothing {}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    observed_generation: Option<i64>,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
    #[serde(default)]
    message: String,
}

/// What the watch has seen.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// Objects that are ready, by the least generation for which all are.
    ready: HashMap<String, i64>,
    /// What one that is not ready says of itself.
    complaint: Option<String>,
}

/// A watch over the BotSecrets of a namespace.
pub struct ReadyWatch {
    seen: watch::Receiver<Seen>,
    task: JoinHandle<()>,
}

impl Drop for ReadyWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ReadyWatch {
    /// Begins to watch, and answers when the first list is complete.
    pub async fn begin(client: &Client, namespace: &str) -> Result<Self> {
        let resource = ApiResource::erase::<BotSecret>(&());
        let api: Api<View> = Api::namespaced_with(client.clone(), namespace, &resource);
        let (sender, seen) = watch::channel(Seen::default());
        let (listed, mut is_listed) = watch::channel(false);
        let task = tokio::spawn(async move {
            let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
            while let Ok(Some(event)) = events.try_next().await {
                match event {
                    watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
                        sender.send_modify(|seen| seen.note(&object));
                    }
                    watcher::Event::InitDone => drop(listed.send(true)),
                    watcher::Event::Init | watcher::Event::Delete(_) => {}
                }
            }
        });
        is_listed.wait_for(|listed| *listed).await.context("the watch ended")?;
        Ok(Self { seen, task })
    }

    /// Waits until so many are ready in this generation.
    pub async fn until(&mut self, count: usize, generation: i64) -> Result<()> {
        let ready = |seen: &Seen| seen.ready.values().filter(|of| **of >= generation).count();
        loop {
            let enough = async { self.seen.wait_for(|seen| ready(seen) >= count).await.map(drop) };
            if let Ok(result) = tokio::time::timeout(Duration::from_secs(5), enough).await {
                return result.context("the watch ended");
            }
            let seen = self.seen.borrow();
            let complaint = seen.complaint.as_deref().map(|text| format!("; one says: {text}")).unwrap_or_default();
            say(&format!("waiting for BotSecrets to be Ready: {} of {count}{complaint}", ready(&seen)));
        }
    }
}

impl Seen {
    fn note(&mut self, object: &View) {
        let Some(status) = &object.status else { return };
        let Some(ready) = status.conditions.iter().find(|condition| condition.type_ == "Ready") else { return };
        let current = status.observed_generation == object.meta().generation;
        if ready.status == "True" && current {
            self.ready.insert(object.name_any(), object.meta().generation.unwrap_or_default());
        } else if ready.status != "True" {
            self.complaint = Some(ready.message.clone());
        }
    }
}
