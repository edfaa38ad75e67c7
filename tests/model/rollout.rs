//! What the pass under test takes for `botsecret::rollout`: all of it is, but for
//! its requests, which are answered by the world of the model. And, where a
//! defect is planted, what it replaces.

use std::cell::RefCell;

pub use botsecret::rollout::*;
use jiff::Timestamp;
use kube::Client;

use super::{
    Mutant,
    world::{NAMES, Rev, SECRET, Workload, Write},
};
use crate::{
    api::{Rollout, delivery_annotation},
    watch::WorkloadFacts,
};

/// What a request was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    Saw(usize, Workload),
    Wrote(Answer),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    Done,
    Conflict,
    /// It may have been done.
    None,
}

/// Answers the requests of one pass: those from before as they were answered
/// then, reads from then on as the world is now. The first write that has no
/// answer yet ends the run: it is the pass's next step.
#[derive(Default)]
pub struct Desk {
    pub log: Vec<Reply>,
    pub told: usize,
    pub live: Option<[Workload; 2]>,
    pub wanted: Option<Write>,
    pub mutant: Option<Mutant>,
}

impl Desk {
    fn next(&mut self) -> Option<Reply> {
        self.told += 1;
        self.log.get(self.told - 1).cloned()
    }
}

thread_local! {
    pub static DESK: RefCell<Desk> = RefCell::default();
}

fn planted(mutant: Mutant) -> bool {
    DESK.with_borrow(|desk| desk.mutant == Some(mutant))
}

fn index_of(task: &Task<'_>) -> usize {
    NAMES.iter().position(|name| *name == task.id.name).expect("one of the two")
}

/// As the library's, with the decision on what the model's API answers.
#[allow(clippy::unused_async, reason = "as the one that it replaces")]
pub async fn look(_: &Client, task: &Task<'_>) -> Result<Option<Looked>, RollOutError> {
    let index = index_of(task);
    let seen = DESK.with_borrow_mut(|desk| match desk.next() {
        Some(Reply::Saw(_, seen)) => seen,
        Some(Reply::Wrote(_)) => panic!("a pass is to be repeated as it was"),
        None => {
            let seen = desk.live.as_ref().expect("a world")[index].clone();
            desk.log.push(Reply::Saw(index, seen.clone()));
            seen
        }
    });
    let workload = seen.shown().facts(index);
    let pods = seen.pod_facts(index);
    let record = workload.records.get(&delivery_annotation(SECRET)).and_then(|text| Delivery::parse(text));
    let record = record.filter(|record| record.revision == task.requirement.revision).map(|record| record.patches);
    let patches = task.patches_on_record.max(record.unwrap_or(0));
    let mut step = decide(&workload, &pods, task.secret, task.requirement, task.state, task.by_use, patches);
    if planted(Mutant::RecordFirst) && record.is_some() && matches!(step, Step::Patch(_)) {
        step = Step::Report(WorkloadState::Rolling);
    }
    let began_before = |pod: &PodFacts| {
        holds_older(&PodFacts { scheduled: true, ..pod.clone() }, task.secret, task.state, task.by_use)
    };
    let waiting = pods.iter().any(|pod| !pod.scheduled && began_before(pod));
    Ok(Some(Looked { workload, pods, step, patches, to_record: record.is_some() || waiting }))
}

/// As the library's; without an answer it never comes back.
pub async fn roll_out(_: &Client, task: &Task<'_>, looked: &Looked, number: i32) -> Result<(), RollOutError> {
    let index = index_of(task);
    let reply = DESK.with_borrow_mut(|desk| {
        let reply = desk.next();
        if reply.is_none() {
            desk.wanted = Some(Write::Patch {
                index,
                version: looked.workload.resource_version.parse().expect("a version"),
                rev: Rev::of(&task.requirement.revision),
                number: u8::try_from(number).expect("few"),
            });
        }
        reply
    });
    let (kind, name) = (task.id.kind.name(), task.id.name.clone());
    match reply {
        Some(Reply::Wrote(Answer::Done)) => Ok(()),
        Some(Reply::Wrote(Answer::Conflict)) => Err(RollOutError::Conflict { kind, name }),
        Some(Reply::Wrote(Answer::None)) => Err(RollOutError::Unavailable { kind, name }),
        Some(Reply::Saw(..)) => panic!("a pass is to be repeated as it was"),
        None => std::future::pending().await,
    }
}

/// As the library's.
pub fn turns(
    rollout: &Rollout,
    standings: &[Standing<'_>],
    bounds: Bounds,
    now: Timestamp,
) -> Result<Turns, WindowError> {
    let mut turns = botsecret::rollout::turns(rollout, standings, bounds, now)?;
    if planted(Mutant::NoCanary) && standings.iter().all(|one| one.place != Place::Failed) {
        let waiting = |index: &usize| matches!(standings[*index].place, Place::Waiting { busy: None, .. });
        turns.go = (0..standings.len()).filter(waiting).collect();
        turns.waits.clear();
    }
    Ok(turns)
}

/// As the library's.
pub fn health<'a>(
    workload: &WorkloadFacts,
    new: impl IntoIterator<Item = &'a PodFacts>,
    patience: Patience,
    now: Timestamp,
) -> Health {
    match botsecret::rollout::health(workload, new, patience, now) {
        Health::Failed(_) if planted(Mutant::NoFailure) => Health::Starting,
        health => health,
    }
}
