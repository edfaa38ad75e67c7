//! What the API is told of a pod.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    Pod, PodSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{Node, address};
use crate::cluster::lock;

/// The state of one pod; each change is written soon after.
pub(super) struct PodStatus {
    view: Mutex<View>,
    changed: Notify,
}

struct View {
    started: Time,
    init: Vec<ContainerStatus>,
    main: Vec<ContainerStatus>,
    /// The names of init containers that run beside the others.
    sidecars: Vec<String>,
    gates: Vec<String>,
    end: Option<&'static str>,
    /// When each condition last changed.
    transitions: HashMap<&'static str, (bool, Timestamp)>,
}

pub(super) fn now() -> Time {
    Time(Timestamp::now())
}

pub(super) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

impl PodStatus {
    pub(super) fn new(spec: &PodSpec) -> Arc<Self> {
        let init = spec.init_containers.as_deref().unwrap_or_default();
        let first = |container: &Container, reason: &str| ContainerStatus {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            started: Some(false),
            state: Some(waiting(reason, "")),
            ..ContainerStatus::default()
        };
        let reason = if init.is_empty() { "ContainerCreating" } else { "PodInitializing" };
        let gates = spec.readiness_gates.iter().flatten();
        Arc::new(Self {
            view: Mutex::new(View {
                started: now(),
                init: init.iter().map(|c| first(c, "PodInitializing")).collect(),
                main: spec.containers.iter().map(|c| first(c, reason)).collect(),
                sidecars: init.iter().filter(|c| is_sidecar(c)).map(|c| c.name.clone()).collect(),
                gates: gates.map(|gate| gate.condition_type.clone()).collect(),
                end: None,
                transitions: HashMap::new(),
            }),
            changed: Notify::new(),
        })
    }

    fn change(&self, name: &str, edit: impl FnOnce(&mut ContainerStatus)) {
        let mut view = lock(&self.view);
        let View { init, main, .. } = &mut *view;
        if let Some(status) = init.iter_mut().chain(main).find(|status| status.name == name) {
            edit(status);
        }
        drop(view);
        self.changed.notify_one();
    }

    pub(super) fn waits(&self, name: &str, reason: &str, message: &str) {
        self.change(name, |status| {
            let before = status.state.take();
            if before.as_ref().is_some_and(|state| state.terminated.is_some()) {
                status.last_state = before;
            }
            status.state = Some(waiting(reason, message));
            status.ready = false;
        });
    }

    /// All containers that have not started say why.
    pub(super) fn all_wait(&self, message: &str) {
        let names: Vec<String> = {
            let view = lock(&self.view);
            view.init.iter().chain(&view.main).map(|status| status.name.clone()).collect()
        };
        for name in names {
            self.waits(&name, "ContainerCreating", message);
        }
    }

    pub(super) fn runs(&self, name: &str, id: &str, restarts: u32) {
        self.change(name, |status| {
            let before = status.state.replace(ContainerState {
                running: Some(ContainerStateRunning { started_at: Some(now()) }),
                ..ContainerState::default()
            });
            if before.as_ref().is_some_and(|state| state.terminated.is_some()) {
                status.last_state = before;
            }
            status.container_id = Some(id.to_owned());
            status.restart_count = i32::try_from(restarts).unwrap_or(i32::MAX);
        });
    }

    pub(super) fn is_started(&self, name: &str, started: bool) {
        self.change(name, |status| status.started = Some(started));
    }

    /// Until a sidecar has started, so that the next container may.
    pub(super) async fn started(&self, name: &str) {
        loop {
            let all = lock(&self.view).init.clone();
            if all.iter().any(|status| status.name == name && status.started == Some(true)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(super) fn is_ready(&self, name: &str, ready: bool) {
        let same = {
            let view = lock(&self.view);
            let mut all = view.init.iter().chain(&view.main);
            all.any(|status| status.name == name && status.ready == ready)
        };
        if !same {
            self.change(name, |status| status.ready = ready);
        }
    }

    pub(super) fn ended(&self, name: &str, id: &str, started: &Time, code: i32, message: Option<String>) {
        let completed = lock(&self.view).init.iter().any(|status| status.name == name) && code == 0;
        self.change(name, |status| {
            status.state = Some(ContainerState {
                terminated: Some(ContainerStateTerminated {
                    container_id: Some(id.to_owned()),
                    exit_code: code,
                    signal: (code > 128).then_some(code - 128),
                    reason: Some(if code == 0 { "Completed" } else { "Error" }.to_owned()),
                    started_at: Some(started.clone()),
                    finished_at: Some(now()),
                    message,
                }),
                ..ContainerState::default()
            });
            status.started = Some(false);
            // An init container that has done its work counts as ready.
            status.ready = completed;
        });
    }

    /// The pod's last phase: `Succeeded` or `Failed`.
    pub(super) fn finish(&self, phase: &'static str) {
        lock(&self.view).end = Some(phase);
        self.changed.notify_one();
    }

    /// Writes each change until the task is dropped.
    pub(super) async fn keep_written(&self, node: &Node, pod: &Pod) {
        loop {
            self.changed.notified().await;
            self.write(node, pod).await;
        }
    }

    /// Writes until it is written, or the pod is gone or another one.
    pub(super) async fn write(&self, node: &Node, pod: &Pod) {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let pods: Api<Pod> = Api::namespaced(node.client(), namespace);
        loop {
            let patch = Patch::Strategic(json!({
                "metadata": {"uid": pod.metadata.uid},
                "status": lock(&self.view).render(pod),
            }));
            let params = PatchParams::default();
            let written = pods.patch_status(name, &params, &patch);
            match tokio::time::timeout(Duration::from_secs(10), written).await {
                Ok(Ok(_)) => return,
                // 404: gone; 409: another pod of that name; 422: not to be mended.
                Ok(Err(kube::Error::Api(status))) if [404, 409, 422].contains(&status.code) => {
                    return;
                }
                _ => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()).filter(|message| !message.is_empty()),
        }),
        ..ContainerState::default()
    }
}

impl View {
    fn phase(&self) -> &'static str {
        if let Some(end) = self.end {
            return end;
        }
        let never_ran = |status: &ContainerStatus| {
            let waits = status.state.as_ref().is_some_and(|state| state.waiting.is_some());
            waits && status.last_state.is_none()
        };
        if self.main.iter().any(never_ran) { "Pending" } else { "Running" }
    }

    fn initialized(&self) -> bool {
        self.init.iter().all(|status| {
            if self.sidecars.contains(&status.name) {
                status.started == Some(true)
            } else {
                let ended = status.state.as_ref().and_then(|state| state.terminated.as_ref());
                ended.is_some_and(|end| end.exit_code == 0)
            }
        })
    }

    fn render(&mut self, pod: &Pod) -> Value {
        let done = self.end.is_some();
        let sidecar = |status: &&ContainerStatus| self.sidecars.contains(&status.name);
        let mut beside = self.init.iter().filter(sidecar).chain(&self.main);
        let ready = !done && beside.all(|status| status.ready);
        let given = pod.status.as_ref().and_then(|status| status.conditions.as_deref());
        let gates_open = self.gates.iter().all(|gate| {
            let mut given = given.unwrap_or_default().iter();
            given.any(|condition| condition.type_ == *gate && condition.status == "True")
        });
        let values = [
            ("PodScheduled", true),
            ("Initialized", self.initialized()),
            ("ContainersReady", ready),
            ("Ready", ready && gates_open),
        ];
        let mut conditions = Vec::new();
        for (kind, value) in values {
            let entry = self.transitions.entry(kind).or_insert((value, Timestamp::now()));
            if entry.0 != value {
                *entry = (value, Timestamp::now());
            }
            let reason = match (value, done, kind) {
                (true, ..) => Value::Null,
                (false, true, _) => json!("PodCompleted"),
                (false, false, "Initialized") => json!("ContainersNotInitialized"),
                (false, false, _) => json!("ContainersNotReady"),
            };
            conditions.push(json!({
                "type": kind,
                "status": if value { "True" } else { "False" },
                "reason": reason,
                "lastTransitionTime": Time(entry.1),
            }));
        }
        json!({
            "phase": self.phase(),
            "startTime": self.started,
            "hostIP": address::NODE,
            "hostIPs": [{"ip": address::NODE}],
            "podIP": address::of(pod),
            "podIPs": [{"ip": address::of(pod)}],
            "conditions": conditions,
            "initContainerStatuses": self.init,
            "containerStatuses": self.main,
        })
    }
}
