//! Which pods are bound to this node, and a task for each.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::watch::{self, Sender};
use tokio::task::JoinSet;

use super::{Node, pod};

/// The newest state of a pod; `None` when it is gone from the API.
pub(super) type Newest = Option<Arc<Pod>>;

/// Follows the API for as long as the task lives; dropping it drops all pods.
pub(super) async fn run(node: Arc<Node>) {
    let pods: Api<Pod> = Api::all(node.client());
    let config = watcher::Config::default().fields(&format!("spec.nodeName={}", node.name));
    let mut events = Box::pin(watcher(pods, config));
    let mut workers = Workers { node, senders: HashMap::new(), tasks: JoinSet::new() };
    let mut listed = HashSet::new();
    loop {
        match events.try_next().await {
            Ok(Some(Event::Init)) => listed.clear(),
            Ok(Some(Event::InitApply(pod))) => {
                listed.extend(pod.metadata.uid.clone());
                workers.newest(pod);
            }
            Ok(Some(Event::InitDone)) => workers.keep(&listed),
            Ok(Some(Event::Apply(pod))) => workers.newest(pod),
            Ok(Some(Event::Delete(pod))) => workers.gone(&pod),
            Ok(None) => return,
            // The API server is away; the watcher lists again when it is back.
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
        while workers.tasks.try_join_next().is_some() {}
    }
}

struct Workers {
    node: Arc<Node>,
    senders: HashMap<String, Sender<Newest>>,
    tasks: JoinSet<()>,
}

impl Workers {
    fn newest(&mut self, pod: Pod) {
        let Some(uid) = pod.metadata.uid.clone() else {
            return;
        };
        let pod = Arc::new(pod);
        if let Some(sender) = self.senders.get(&uid) {
            sender.send_replace(Some(pod));
            return;
        }
        let (sender, newest) = watch::channel(Some(Arc::clone(&pod)));
        self.senders.insert(uid, sender);
        self.tasks.spawn(pod::run(Arc::clone(&self.node), pod, newest));
    }

    fn gone(&mut self, pod: &Pod) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        if let Some(sender) = self.senders.remove(uid) {
            sender.send_replace(None);
        }
    }

    /// A list tells nothing of what was deleted before it.
    fn keep(&mut self, listed: &HashSet<String>) {
        self.senders.retain(|uid, sender| {
            let stays = listed.contains(uid);
            if !stays {
                sender.send_replace(None);
            }
            stays
        });
    }
}
