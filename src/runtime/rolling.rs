//! The half of a pass that rolls workloads.

use std::time::Duration;

use k8s_openapi::{
    api::apps::v1::{DaemonSet, Deployment, StatefulSet},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ListParams, PartialObjectMeta},
    core::{NamespaceResourceScope, Selector},
};
use tokio::time::Instant;

use super::Context;
use crate::{
    api::{BotSecret, RolloutState, State, WorkloadChoice, WorkloadKind, WorkloadStatus, marker_annotation},
    deadline::within,
    plan::{Memory, Retry},
    report::{Problem, Reason, RolloutReport, WorkloadReport},
    rollout::{Requirement, RollOutError, Task, WorkloadState, required, roll_out},
    watch::{Observed, WorkloadFacts, WorkloadId},
};

/// How long to wait between looks at pods that are on their way out.
const LOOK_FIRST: Duration = Duration::from_secs(1);
const LOOK_LONGEST: Duration = Duration::from_secs(15);
/// How often to look where nothing but a person's act changes anything. What
/// matters arrives by watch before.
const LOOK_IDLE: Duration = Duration::from_secs(300);

/// One workload and what it must hold.
struct Concerned<'a> {
    id: WorkloadId,
    facts: Option<&'a WorkloadFacts>,
    /// Whether the spec names it, so that it must be there.
    named: bool,
    requirement: Requirement,
    /// Keyed digest of the data that it uses.
    held: String,
}

/// Takes every workload that the Secret's state concerns one step on.
pub(super) async fn roll(
    context: &Context,
    observed: &Observed,
    state: &State,
    written_at: Option<Timestamp>,
    memory: &mut Memory,
) -> RolloutReport {
    let object = &observed.bot_secret;
    let mut state = state.clone();
    state.settle(written_at);
    let state = &state;
    let by_use = object.spec.workload_choice() == WorkloadChoice::Auto;
    if !by_use && is_over(object, state) {
        // Workloads that were named are not watched: finding them costs
        // requests, which an idle BotSecret must not make.
        return standing(state, kept(object), None);
    }
    let waiting = kept(object);
    if object.spec.workload_choice() == WorkloadChoice::Selector && !waiting.is_empty() && !look_is_due(memory) {
        return standing(state, waiting, None);
    }
    let concerned = match concerned(context, observed, state).await {
        Ok(Some(concerned)) => concerned,
        Ok(None) => {
            memory.next_look = None;
            return RolloutReport::Off;
        }
        Err(problem) => {
            memory.next_look = Some(Instant::now() + LOOK_LONGEST);
            return standing(state, kept(object), Some(problem));
        }
    };
    let (mut workloads, mut problem) = (Vec::new(), None);
    forget_the_gone(observed, memory);
    for one in concerned {
        let recorded = recorded(object, &one);
        match step(context, object, &one, recorded, state, memory).await {
            Ok(Some(report)) => workloads.push(report),
            Ok(None) => {}
            Err(error) => {
                if let Some(recorded) = recorded {
                    workloads.push(kept_report(recorded));
                }
                problem = Some(problem_of(&error));
            }
        }
    }
    if search_is_due(memory) && workloads.iter().any(|workload| workload.state == WorkloadState::Missing) {
        memory.next_search = Some(Instant::now() + LOOK_IDLE);
    }
    schedule(&workloads, problem.as_ref(), memory);
    standing(state, workloads, problem)
}

/// Whether the status says that this revision is rolled out, for this spec, and
/// that nothing it names is missing.
fn is_over(object: &BotSecret, state: &State) -> bool {
    let status = object.status.as_ref();
    let rollout = status.and_then(|status| status.rollout.as_ref());
    let is_missing = |workload: &WorkloadStatus| workload.state == WorkloadState::Missing.name();
    let of_revision = |rollout: &&RolloutState| rollout.revision == state.revision.to_string();
    rollout.filter(of_revision).is_some_and(|rollout| rollout.complete && !rollout.workloads.iter().any(is_missing))
        && status.and_then(|status| status.observed_generation) == object.metadata.generation
}

fn standing(state: &State, mut workloads: Vec<WorkloadReport>, problem: Option<Problem>) -> RolloutReport {
    workloads.sort_by(|one, other| (&one.status.kind, &one.status.name).cmp(&(&other.status.kind, &other.status.name)));
    RolloutReport::Standing { revision: state.revision.to_string(), workloads, problem }
}

/// One workload, one step. `None` where it needs no mention: it is gone and no
/// one named it, or it never held an older value.
async fn step(
    context: &Context,
    object: &BotSecret,
    one: &Concerned<'_>,
    recorded: Option<&WorkloadStatus>,
    state: &State,
    memory: &mut Memory,
) -> Result<Option<WorkloadReport>, RollOutError> {
    let secret = object.target_name();
    let done = WorkloadState::RolledOut.name();
    if let Some(recorded) = recorded.filter(|recorded| recorded.state == done) {
        return Ok(Some(kept_report(recorded)));
    }
    if let Some(facts) = one.facts {
        // Its own age proves nothing: it may have adopted older pods.
        if recorded.is_none()
            && memory.found_current.get(&facts.uid).is_some_and(|found| found.covers(&one.requirement))
        {
            return Ok(None);
        }
        if let Some(recorded) = recorded.filter(|recorded| nothing_new(facts, secret, one, recorded, memory)) {
            return Ok(Some(kept_report(recorded)));
        }
    } else if let Some(recorded) = recorded.filter(|recorded| is_kept(object, recorded, memory)) {
        return Ok(Some(kept_report(recorded)));
    }
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let patches = recorded.map_or(0, |recorded| recorded.patches);
    let task = Task {
        bot_secret: name,
        secret,
        id: &one.id,
        requirement: &one.requirement,
        state,
        held: (&state.digest_key, &one.held),
        by_use: one.facts.is_some(),
        patches_on_record: patches,
    };
    let Some(fresh) = roll_out(&context.client, task).await? else {
        return Ok(one.named.then(|| missing(one, patches)));
    };
    memory.looked_at.insert(fresh.uid.clone(), fresh.resource_version);
    if fresh.patched {
        context.metrics.rollouts.inc();
        tracing::info!(
            bot_secret = name, namespace = %one.id.namespace, kind = one.id.kind.name(), workload = %one.id.name,
            revision = %one.requirement.revision, patch = fresh.patches, "rolling a workload"
        );
    }
    if fresh.state == WorkloadState::RolledOut && recorded.is_none() && !fresh.to_record {
        memory.found_current.insert(fresh.uid, one.requirement.clone());
        return Ok(None);
    }
    Ok(Some(WorkloadReport {
        status: WorkloadStatus {
            kind: one.id.kind.name().to_owned(),
            name: one.id.name.clone(),
            uid: fresh.uid,
            revision: one.requirement.revision.to_string(),
            state: fresh.state.name().to_owned(),
            patches: fresh.patches,
        },
        state: fresh.state,
        patched: fresh.patched,
    }))
}

/// Whether the watch alone shows that a patched workload is where it was: its
/// controller is still at work, or waits for a person.
fn nothing_new(
    facts: &WorkloadFacts,
    secret: &str,
    one: &Concerned<'_>,
    recorded: &WorkloadStatus,
    memory: &Memory,
) -> bool {
    if facts.deleting || look_is_due(memory) {
        return false;
    }
    let marker = facts.markers.get(&marker_annotation(secret));
    let handed = marker.is_some_and(|marker| one.requirement.met_by(marker));
    let resumed = recorded.state == WorkloadState::Paused.name() && !facts.paused;
    let unchanged = memory.looked_at.get(&facts.uid) == Some(&facts.resource_version);
    unchanged || handed && !resumed && !facts.progress.settled
}

/// The report of a workload that the spec names and that is not there.
fn missing(one: &Concerned<'_>, patches: i32) -> WorkloadReport {
    WorkloadReport {
        status: WorkloadStatus {
            kind: one.id.kind.name().to_owned(),
            name: one.id.name.clone(),
            uid: String::new(),
            revision: one.requirement.revision.to_string(),
            state: WorkloadState::Missing.name().to_owned(),
            patches,
        },
        state: WorkloadState::Missing,
        patched: false,
    }
}

/// Whether what is recorded of a workload that no watch shows stands for now.
/// One that is missing is looked for by its own clock, and where somebody
/// edited the BotSecret: they may have made it as well.
fn is_kept(object: &BotSecret, recorded: &WorkloadStatus, memory: &Memory) -> bool {
    if recorded.state != WorkloadState::Missing.name() {
        return !look_is_due(memory);
    }
    let observed = object.status.as_ref().and_then(|status| status.observed_generation);
    observed == object.metadata.generation && !search_is_due(memory)
}

fn search_is_due(memory: &Memory) -> bool {
    memory.next_search.is_none_or(|at| at <= Instant::now())
}

fn look_is_due(memory: &Memory) -> bool {
    memory.next_look.is_none_or(|at| at <= Instant::now())
}

/// Notes on workloads that no longer use the Secret.
fn forget_the_gone(observed: &Observed, memory: &mut Memory) {
    let known = |uid: &String| observed.workloads.iter().any(|facts| facts.uid == *uid);
    memory.found_current.retain(|uid, _| known(uid));
    memory.looked_at.retain(|uid, _| known(uid));
}

/// What the status says of this workload for this revision.
fn recorded<'a>(object: &'a BotSecret, one: &Concerned<'_>) -> Option<&'a WorkloadStatus> {
    let rollout = object.status.as_ref()?.rollout.as_ref()?;
    rollout.workloads.iter().find(|workload| {
        workload.kind == one.id.kind.name()
            && workload.name == one.id.name
            && workload.revision == one.requirement.revision.to_string()
            && one.facts.is_none_or(|facts| facts.uid == workload.uid)
    })
}

fn kept_report(recorded: &WorkloadStatus) -> WorkloadReport {
    WorkloadReport {
        state: WorkloadState::from_name(&recorded.state).unwrap_or(WorkloadState::Rolling),
        status: recorded.clone(),
        patched: false,
    }
}

fn kept(object: &BotSecret) -> Vec<WorkloadReport> {
    let rollout = object.status.as_ref().and_then(|status| status.rollout.as_ref());
    rollout.into_iter().flat_map(|rollout| &rollout.workloads).map(kept_report).collect()
}

/// When to look again.
fn schedule(workloads: &[WorkloadReport], problem: Option<&Problem>, memory: &mut Memory) {
    let now = Instant::now();
    let any = |state| workloads.iter().any(|workload| workload.state == state);
    let waiting = [
        WorkloadState::Paused,
        WorkloadState::OnDelete,
        WorkloadState::Partitioned,
        WorkloadState::Reverted,
        WorkloadState::Missing,
    ];
    if problem.is_some() || any(WorkloadState::Rolling) {
        if workloads.iter().any(|workload| workload.patched) {
            memory.looks = 0;
        }
        let wait = match problem.map(|problem| problem.retry) {
            Some(Retry::Slow) if !any(WorkloadState::Rolling) => LOOK_IDLE,
            Some(Retry::Soon) => Duration::from_millis(100).saturating_mul(1 << memory.looks.min(6)),
            _ => LOOK_FIRST.saturating_mul(1 << memory.looks.min(6)),
        };
        let wait = if wait == LOOK_IDLE { wait } else { wait.min(LOOK_LONGEST) };
        // What failed is due again by itself, not with the pods of another.
        if problem.is_some() || memory.next_look.is_none_or(|at| at <= now || at > now + wait) {
            memory.looks += 1;
            memory.next_look = Some(now + wait);
        }
    } else if waiting.into_iter().any(any) {
        memory.looks = 0;
        // A pass for another reason puts off no look that is due before.
        if memory.next_look.is_none_or(|at| at <= now || at > now + LOOK_IDLE) {
            memory.next_look = Some(now + LOOK_IDLE);
        }
    } else {
        memory.looks = 0;
        memory.next_look = None;
    }
}

/// The workloads that this state concerns; `None` where rollouts are off.
async fn concerned<'a>(
    context: &Context,
    observed: &'a Observed,
    state: &State,
) -> Result<Option<Vec<Concerned<'a>>>, Problem> {
    let object = &observed.bot_secret;
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let rollout = object.spec.rollout.as_ref();
    let of_any_key = || required(state, None);
    let held_of_all = || context.digest_key.fingerprint(&state.rolling_digests());
    Ok(Some(match object.spec.workload_choice() {
        WorkloadChoice::None => return Ok(None),
        WorkloadChoice::Auto => observed
            .workloads
            .iter()
            .filter_map(|facts| {
                let usage = facts.uses(object.target_name())?;
                let requirement = required(state, Some(usage))?;
                let held = context.digest_key.fingerprint(&usage.used_of(&state.rolling_digests()));
                Some(Concerned { id: facts.id.clone(), facts: Some(facts), named: false, requirement, held })
            })
            .collect(),
        WorkloadChoice::List => {
            // Also before anything changed: then none of its pods is older, and
            // all that a look can find is that it does not exist.
            let requirement = of_any_key().unwrap_or_else(|| Requirement {
                revision: state.revision.clone(),
                newest: state.revision.clone(),
                written_at: state.since.unwrap_or_default(),
            });
            let list = rollout.and_then(|rollout| rollout.list.as_ref()).into_iter().flatten();
            list.map(|named| Concerned {
                id: WorkloadId { namespace: namespace.clone(), kind: named.kind, name: named.name.clone() },
                facts: None,
                named: true,
                requirement: requirement.clone(),
                held: held_of_all(),
            })
            .collect()
        }
        WorkloadChoice::Selector => {
            let Some(requirement) = of_any_key() else { return Ok(Some(Vec::new())) };
            let selector = rollout.and_then(|rollout| rollout.selector.clone()).unwrap_or_default();
            let selector = Selector::try_from(selector).map_err(|_| {
                Problem::new(
                    Reason::RolloutRefused,
                    Retry::Slow,
                    "rollout.selector cannot be read: correct its matchExpressions",
                )
            })?;
            let client = &context.client;
            let mut ids = selected::<Deployment>(client, &namespace, WorkloadKind::Deployment, &selector).await?;
            ids.extend(selected::<StatefulSet>(client, &namespace, WorkloadKind::StatefulSet, &selector).await?);
            ids.extend(selected::<DaemonSet>(client, &namespace, WorkloadKind::DaemonSet, &selector).await?);
            let concerned =
                |id| Concerned { id, facts: None, named: false, requirement: requirement.clone(), held: held_of_all() };
            ids.into_iter().map(concerned).collect()
        }
    }))
}

async fn selected<K>(
    client: &Client,
    namespace: &str,
    kind: WorkloadKind,
    selector: &Selector,
) -> Result<Vec<WorkloadId>, Problem>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let list = within(api.list_metadata(&ListParams::default().labels_from(selector))).await.map_err(|_| {
        Problem::new(
            Reason::KubernetesUnavailable,
            Retry::Backoff,
            format!("the {}s that rollout.selector selects could not be listed; it is tried again", kind.name()),
        )
    })?;
    let id = |meta: PartialObjectMeta<K>| WorkloadId {
        namespace: namespace.to_owned(),
        kind,
        name: meta.metadata.name.unwrap_or_default(),
    };
    Ok(list.items.into_iter().map(id).collect())
}

fn problem_of(error: &RollOutError) -> Problem {
    let (reason, retry) = match error {
        RollOutError::Conflict { .. } => (Reason::RollingOut, Retry::Soon),
        RollOutError::Refused { .. } => (Reason::RolloutRefused, Retry::Slow),
        RollOutError::Unavailable { .. } => (Reason::KubernetesUnavailable, Retry::Backoff),
    };
    Problem::new(reason, retry, error.to_string())
}
