//! One container of a pod: started, watched, restarted, ended.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::Container;
use tokio::sync::watch::Receiver;
use tokio::time::Instant;

use super::environment::{self, Environment};
use super::pod::PodContext;
use super::sandbox::{Recipe, Sandbox};
use super::status::now;
use super::{RunningContainer, probes};
use crate::peers::on_machine;

/// When containers must be gone, once they are to end.
pub(super) type Stop = Option<Instant>;

const RETRY: Duration = Duration::from_secs(1);
/// The kubelet's are 10 s to 5 min: nobody wants to wait for those here.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const LAST_BACK_OFF: Duration = Duration::from_secs(10);

/// When a container that has ended is started again.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Restart {
    Always,
    OnFailure,
    Never,
}

/// Runs it until it has ended for good. `None`: it was stopped before it ran.
pub(super) async fn run(
    pod: Arc<PodContext>,
    container: Container,
    restart: Restart,
    mut stop: Receiver<Stop>,
) -> Option<i32> {
    let mut back_off = FIRST_BACK_OFF;
    let mut last = None;
    for number in 0.. {
        let Some(begun) = begin(&pod, &container, number, &mut stop).await else {
            return last;
        };
        let code = follow(&pod, &container, begun, &mut stop).await;
        last = Some(code);
        let again = restart == Restart::Always || (restart == Restart::OnFailure && code != 0);
        if !again || stop.borrow().is_some() {
            return last;
        }
        let name = &container.name;
        let message = format!("back-off {back_off:?} restarting failed container={name}");
        // The kubelet shows how it ended for a moment, then why it waits.
        pod.status.waits(name, "CrashLoopBackOff", &message);
        tokio::select! {
            () = tokio::time::sleep(back_off) => {}
            _ = stop.wait_for(Option::is_some) => return last,
        }
        back_off = (back_off * 2).min(LAST_BACK_OFF);
    }
    last
}

struct Begun {
    sandbox: Sandbox,
    environment: Environment,
    id: String,
    number: u32,
}

/// Until its values are there, its image is, and its process runs. `None`: it
/// is to stop before that.
async fn begin(pod: &PodContext, container: &Container, number: u32, stop: &mut Receiver<Stop>) -> Option<Begun> {
    let name = &container.name;
    loop {
        let environment = tokio::select! {
            environment = environment::resolve(&pod.node, &pod.pod, container) => environment,
            _ = stop.wait_for(Option::is_some) => return None,
        };
        let image = container.image.as_deref().unwrap_or_default();
        let own_command = container.command.as_ref().is_some_and(|command| !command.is_empty());
        match environment {
            Err(message) => pod.status.waits(name, "CreateContainerConfigError", &message),
            Ok(_) if !own_command && on_machine(image).is_none() => {
                pod.status.waits(name, "ErrImagePull", &format!("this machine has no command \"{image}\""));
            }
            // Not cut short by a stop: a process that may have begun to run is
            // owed its preStop hook and its grace.
            Ok(environment) => match start(pod, container, &environment, number).await {
                Ok(sandbox) => {
                    let id = format!("testbed://{}-{name}-{number}", pod.uid);
                    return Some(Begun { sandbox, environment, id, number });
                }
                Err(error) => pod.status.waits(name, "CreateContainerError", &format!("{error:#}")),
            },
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            _ = stop.wait_for(Option::is_some) => return None,
        }
    }
}

async fn start(pod: &PodContext, container: &Container, environment: &Environment, number: u32) -> Result<Sandbox> {
    let recipe = Recipe {
        folder: &pod.node.pod_folder(&pod.uid),
        container,
        command: environment::command_line(&pod.pod, container, environment),
        environment,
        sources: &pod.sources,
        log: &pod.node.log(&pod.namespace, &pod.name, &container.name),
        run: number,
    };
    let sandbox = Sandbox::start(&recipe).await?;
    let taken_in = RunningContainer {
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        pod_uid: pod.uid.clone(),
        container: container.name.clone(),
        host_pid: sandbox.host_pid(),
        started_at: sandbox.started_at,
        restarts: number,
    };
    pod.node.take_in(taken_in, &sandbox.process);
    Ok(sandbox)
}

/// From its start to its end, whoever brings that about.
async fn follow(pod: &PodContext, container: &Container, begun: Begun, stop: &mut Receiver<Stop>) -> i32 {
    let Begun { sandbox, environment, id, number } = begun;
    let started = now();
    pod.status.runs(&container.name, &id, number);
    let ended = tokio::select! {
        status = sandbox.process.wait() => Some(status),
        // A liveness or startup probe that has failed too often.
        () = probes::watch(&pod.pod, container, &sandbox, &environment, &pod.status) => None,
        _ = stop.wait_for(Option::is_some) => None,
    };
    let status = if let Some(status) = ended {
        status
    } else {
        let until = (*stop.borrow()).unwrap_or_else(|| Instant::now() + pod.grace);
        end(container, &sandbox, &environment, until, stop).await
    };
    let code = exit_code(status);
    let message = last_words(pod, container, code);
    pod.status.ended(&container.name, &id, &started, code, message);
    code
}

/// The end of the log of one that failed, where its pod asks for that. A message
/// written to a file is not taken.
fn last_words(pod: &PodContext, container: &Container, code: i32) -> Option<String> {
    const MOST: usize = 2048;
    if code == 0 || container.termination_message_policy.as_deref() != Some("FallbackToLogsOnError") {
        return None;
    }
    let log = std::fs::read(pod.node.log(&pod.namespace, &pod.name, &container.name)).ok()?;
    let end = log.get(log.len().saturating_sub(MOST)..)?;
    Some(String::from_utf8_lossy(end).into_owned()).filter(|text| !text.is_empty())
}

/// preStop, SIGTERM, and SIGKILL at the end of the grace period, which may be
/// shortened meanwhile.
async fn end(
    container: &Container,
    sandbox: &Sandbox,
    environment: &Environment,
    mut until: Instant,
    stop: &mut Receiver<Stop>,
) -> std::process::ExitStatus {
    let hook = container.lifecycle.as_ref().and_then(|all| all.pre_stop.as_ref());
    if let Some(exec) = hook.and_then(|hook| hook.exec.as_ref()) {
        let command = exec.command.as_deref().unwrap_or_default();
        let patience = until.saturating_duration_since(Instant::now());
        // A hook that fails delays nothing.
        let _ = sandbox.execute(command, environment, patience).await;
    }
    sandbox.terminate();
    let mut told = true;
    loop {
        tokio::select! {
            status = sandbox.process.wait() => return status,
            () = tokio::time::sleep_until(until) => {
                sandbox.process.kill().await;
                return sandbox.process.wait().await;
            }
            changed = stop.changed(), if told => {
                told = changed.is_ok();
                if let Some(sooner) = *stop.borrow() {
                    until = until.min(sooner);
                }
            }
        }
    }
}

fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255)
}
