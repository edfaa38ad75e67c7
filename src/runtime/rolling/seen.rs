//! One workload as a pass sees it: from the status, the watch, or a fresh read
//! where those do not say enough.

use std::{collections::HashMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::time::Instant;

use super::{super::Context, concerned::Concerned, stuck::replace_stuck};
use crate::{
    api::{BotSecret, Rollout, State, WorkloadStatus, marker_annotation},
    plan::Memory,
    report::WorkloadReport,
    rollout::{Looked, Place, RollOutError, Step, Task, WorkloadState, handed, look},
    watch::{Elsewhere, WorkloadFacts},
};

/// For how long a workload of several BotSecrets waits whether another of them
/// changes as well: then one rollout serves both.
const TOGETHER: SignedDuration = SignedDuration::from_secs(2);

/// A workload, what is reported of it, and what that means for its turn.
pub(super) struct Seen<'a> {
    pub(super) one: &'a Concerned<'a>,
    pub(super) report: WorkloadReport,
    /// As it was read in this pass, if it was.
    pub(super) looked: Option<Looked>,
    /// Why the API server refused to let it roll.
    pub(super) refused: Option<String>,
}

impl Seen<'_> {
    pub(super) fn name(&self) -> (&'static str, &str) {
        (self.one.id.kind.name(), &self.one.id.name)
    }
}

/// What all workloads of one pass are seen with.
#[derive(Clone, Copy)]
pub(super) struct Eye<'a> {
    pub(super) context: &'a Context,
    pub(super) object: &'a BotSecret,
    pub(super) rollout: &'a Rollout,
    pub(super) state: &'a State,
    /// UIDs of workloads that use Secrets of several BotSecrets, and how they fare
    /// with the others.
    pub(super) shared: &'a HashMap<String, Elsewhere>,
    pub(super) now: Timestamp,
}

impl<'a> Eye<'a> {
    fn task(self, one: &'a Concerned<'a>, patches: i32) -> Task<'a> {
        Task {
            bot_secret: self.object.metadata.name.as_deref().unwrap_or_default(),
            secret: self.object.target_name(),
            id: &one.id,
            requirement: &one.requirement,
            state: self.state,
            held: (&self.state.digest_key, &one.held),
            by_use: one.facts.is_some(),
            patches_on_record: patches,
        }
    }

    /// `None` where it needs no mention: it is gone and no one named it, or it
    /// never held an older value.
    pub(super) async fn see(
        self,
        one: &'a Concerned<'a>,
        memory: &mut Memory,
    ) -> Result<Option<Seen<'a>>, RollOutError> {
        let earlier = self.earlier(one);
        let recorded = earlier.filter(|earlier| earlier.revision == one.requirement.revision.to_string());
        if let Some(recorded) = recorded.filter(|recorded| self.stands(one, recorded, memory)) {
            return Ok(Some(Seen { one, report: kept_report(recorded), looked: None, refused: None }));
        }
        // Its own age proves nothing: it may have adopted older pods.
        if let Some(facts) = one.facts
            && recorded.is_none()
            && memory.found_current.get(&facts.uid).is_some_and(|found| found.covers(&one.requirement))
        {
            return Ok(None);
        }
        self.look(one, memory).await
    }

    /// Reads it afresh.
    pub(super) async fn look(
        self,
        one: &'a Concerned<'a>,
        memory: &mut Memory,
    ) -> Result<Option<Seen<'a>>, RollOutError> {
        let earlier = self.earlier(one);
        let recorded = earlier.filter(|earlier| earlier.revision == one.requirement.revision.to_string());
        let patches = recorded.map_or(0, |recorded| recorded.patches);
        let task = self.task(one, patches);
        let Some(looked) = look(&self.context.client, &task).await? else {
            let missing = || Seen { one, report: missing(one, patches), looked: None, refused: None };
            return Ok(one.named.then(missing));
        };
        replace_stuck(self, &task, &looked).await;
        let uid = &looked.workload.uid;
        memory.looked_at.insert(uid.clone(), looked.workload.resource_version.clone());
        // One of the same name that was made anew is another.
        let of_it = |status: &&WorkloadStatus| status.uid == *uid;
        let report = self.judge(&task, &looked, recorded.filter(of_it), earlier.filter(of_it));
        if report.state == WorkloadState::RolledOut && recorded.is_none() && !looked.to_record {
            memory.found_current.insert(uid.clone(), one.requirement.clone());
            return Ok(None);
        }
        Ok(Some(Seen { one, report, looked: Some(looked), refused: None }))
    }

    /// What the status says of it, for whatever revision.
    pub(super) fn earlier(self, one: &Concerned<'_>) -> Option<&'a WorkloadStatus> {
        let rollout = self.object.status.as_ref()?.rollout.as_ref()?;
        rollout.workloads.iter().find(|workload| {
            workload.kind == one.id.kind.name()
                && workload.name == one.id.name
                && one.facts.is_none_or(|facts| facts.uid == workload.uid)
        })
    }

    /// Whether what is recorded of it is what a fresh read would find, as far
    /// as the watch shows.
    fn stands(self, one: &Concerned<'_>, recorded: &WorkloadStatus, memory: &Memory) -> bool {
        let state = WorkloadState::from_name(&recorded.state).unwrap_or(WorkloadState::Rolling);
        let due = look_is_due(memory);
        let Some(facts) = one.facts else {
            return match state {
                WorkloadState::RolledOut if !is_watched(recorded) => true,
                // One that is missing is looked for by its own clock, and where
                // somebody edited the BotSecret: they may have made it as well.
                WorkloadState::Missing => {
                    let observed = self.object.status.as_ref().and_then(|status| status.observed_generation);
                    observed == self.object.metadata.generation && !search_is_due(memory)
                }
                WorkloadState::Waiting => {
                    memory.looked_at.contains_key(&recorded.uid) && (!self.in_time(recorded.rolled_at.as_ref()) || !due)
                }
                _ => !due,
            };
        };
        let unchanged = memory.looked_at.get(&facts.uid) == Some(&facts.resource_version);
        match state {
            WorkloadState::RolledOut if !is_watched(recorded) => true,
            // Looked at again when its turn comes, and while a rollout before is
            // not over; and once by each process, since the patch of another may
            // not be on record.
            WorkloadState::Waiting => {
                let at_rest = facts.progress.settled || !self.in_time(recorded.rolled_at.as_ref());
                !facts.deleting && memory.looked_at.contains_key(&facts.uid) && (at_rest || !due)
            }
            _ if facts.deleting || due => false,
            WorkloadState::RolledOut | WorkloadState::Failed => unchanged,
            _ => {
                let marker = facts.markers.get(&marker_annotation(self.object.target_name()));
                let handed = marker.is_some_and(|marker| one.requirement.met_by(marker));
                // Argo Rollouts pauses by itself, between two steps.
                let turned = match state {
                    WorkloadState::Paused => !facts.paused,
                    WorkloadState::Rolling => facts.paused,
                    _ => false,
                };
                unchanged || handed && !turned && !facts.progress.settled
            }
        }
    }

    /// What its place means for its turn.
    pub(super) fn place(self, seen: &Seen<'_>) -> Place {
        let status = &seen.report.status;
        let ill = status.unhealthy_before && !status.message.is_empty();
        match seen.report.state {
            WorkloadState::Waiting if self.halted_with(seen).is_some() => Place::Failed,
            WorkloadState::Waiting => self.waiting(seen),
            WorkloadState::Failed => Place::Failed,
            WorkloadState::Rolling if is_underway(status) && !ill => Place::Underway,
            WorkloadState::RolledOut if is_watched(status) => Place::Underway,
            WorkloadState::RolledOut if status.verified && status.since.is_some() => Place::Verified,
            _ => Place::Aside,
        }
    }

    /// The BotSecret in whose rollout it failed that this value went along with: then
    /// this one is halted as well, until the other goes on.
    pub(super) fn halted_with(self, seen: &Seen<'_>) -> Option<&'a str> {
        let (bot_secret, began) = self.shared.get(&seen.report.status.uid)?.failed.as_ref()?;
        // What was rolled before this value came says nothing about it, and what
        // comes after a failure is to mend it.
        let joined = seen.one.requirement.written_at.as_second() <= began.as_second();
        let mends = seen.report.status.failed_before || self.state.taken_back.is_some();
        (joined && !mends && seen.report.state == WorkloadState::Waiting).then_some(bot_secret)
    }

    /// What it rolls for, or is to, so that this value goes along.
    fn rolls_for(self, seen: &Seen<'_>, facts: Option<&WorkloadFacts>) -> Option<String> {
        let status = &seen.report.status;
        let elsewhere = self.shared.get(&status.uid);
        let mends = status.failed_before || self.state.taken_back.is_some();
        let written = seen.one.requirement.written_at;
        // What is to mend it waits for no other, unless that brings it already.
        let rolls = elsewhere.and_then(|elsewhere| elsewhere.rolls.as_ref());
        let rolls = rolls.filter(|(_, since)| !mends || *since > written);
        let rolls = rolls.or_else(|| elsewhere.filter(|_| !mends)?.mends.as_ref());
        if let Some((bot_secret, _)) = rolls.filter(|(_, since)| self.in_time(Some(&Time(*since)))) {
            return Some(format!("it rolls for BotSecret {bot_secret}, and takes what changed here along"));
        }
        if mends {
            return None;
        }
        // A rollout that failed takes nothing along any more.
        let failed = elsewhere.is_some_and(|elsewhere| elsewhere.failed.is_some());
        let moving = facts.filter(|_| !failed && self.in_time(status.since.as_ref()))?;
        let ours = marker_annotation(self.object.target_name());
        let other = moving.markers.keys().find(|name| **name != ours)?.split('/').nth(1)?;
        Some(format!("it rolls for Secret {other}, and takes what changed here along"))
    }

    fn waiting(self, seen: &Seen<'_>) -> Place {
        let status = &seen.report.status;
        let facts = seen.looked.as_ref().map(|looked| &looked.workload).or(seen.one.facts);
        // One that is paused, or whose pods somebody else deletes, may take for ever.
        let by_itself = |facts: &&WorkloadFacts| handed(facts) == WorkloadState::Rolling;
        let moving = facts.filter(by_itself).filter(|facts| !facts.progress.settled && !facts.progress.failed);
        let underway = moving.is_some() && self.in_time(status.rolled_at.as_ref()) && !status.failed_before;
        let other = self.rolls_for(seen, moving);
        let joins = other.is_some() && !underway && seen.refused.is_none();
        let busy = if let Some(refused) = &seen.refused {
            Some(refused.clone())
        } else if underway {
            Some("its last rollout is not over".to_owned())
        } else {
            other
        };
        let shared = facts.is_some_and(|facts| self.shared.contains_key(&facts.uid));
        let not_before = seen.one.requirement.written_at.checked_add(TOGETHER).ok().filter(|_| shared);
        Place::Waiting { not_before, busy, joins, underway, failed_before: status.failed_before }
    }

    /// Whether what began then may still be on its way.
    pub(super) fn in_time(self, began: Option<&Time>) -> bool {
        let deadline = signed(self.rollout.deadline());
        began.is_some_and(|began| began.0.checked_add(deadline).is_ok_and(|end| self.now < end))
    }

    /// Makes it roll, if it is as it was seen.
    pub(super) async fn roll(self, seen: &mut Seen<'_>, memory: &mut Memory) -> Result<(), RollOutError> {
        let Some(looked) = seen.looked.take() else { return Ok(()) };
        let Step::Patch(number) = looked.step else { return Ok(()) };
        let task = self.task(seen.one, seen.report.status.patches);
        crate::rollout::roll_out(&self.context.client, &task, &looked, number).await?;
        self.context.metrics.rollouts.inc();
        tracing::info!(
            bot_secret = task.bot_secret, namespace = %task.id.namespace, kind = task.id.kind.name(), workload = %task.id.name,
            revision = %task.requirement.revision, patch = number, "rolling a workload"
        );
        memory.looked_at.remove(&looked.workload.uid);
        let state = handed(&looked.workload);
        let status = &mut seen.report.status;
        state.name().clone_into(&mut status.state);
        status.patches = number;
        status.since = Some(Time(self.now));
        status.rolled_at = Some(Time(self.now));
        status.failed_before = false;
        status.message.clear();
        seen.report.state = state;
        seen.report.patched = true;
        Ok(())
    }
}

/// Whether a rollout that the operator began is not over as far as is on record.
pub(super) fn is_underway(status: &WorkloadStatus) -> bool {
    status.rolled_at.is_some() && (status.state != WorkloadState::RolledOut.name() || is_watched(status))
}

/// Whether it has the value, and is watched for how it takes it.
pub(super) fn is_watched(status: &WorkloadStatus) -> bool {
    status.state == WorkloadState::RolledOut.name()
        && !status.verified
        && status.since.is_some()
        && status.message.is_empty()
}

pub(super) fn look_is_due(memory: &Memory) -> bool {
    memory.next_look.is_none_or(|at| at <= Instant::now())
}

pub(super) fn search_is_due(memory: &Memory) -> bool {
    memory.next_search.is_none_or(|at| at <= Instant::now())
}

pub(super) fn kept_report(recorded: &WorkloadStatus) -> WorkloadReport {
    WorkloadReport {
        state: WorkloadState::from_name(&recorded.state).unwrap_or(WorkloadState::Rolling),
        status: recorded.clone(),
        patched: false,
    }
}

/// The report of a workload that the spec names and that is not there.
fn missing(one: &Concerned<'_>, patches: i32) -> WorkloadReport {
    WorkloadReport {
        status: WorkloadStatus {
            kind: one.id.kind.name().to_owned(),
            name: one.id.name.clone(),
            revision: one.requirement.revision.to_string(),
            state: WorkloadState::Missing.name().to_owned(),
            patches,
            ..WorkloadStatus::default()
        },
        state: WorkloadState::Missing,
        patched: false,
    }
}

pub(super) fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
