//! The end of a pass for values that are to be rotated: says which are too old,
//! and has their successors made. What is made comes back by the ordinary read.

mod asking;
mod made;
mod scene;
mod writing;

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use tokio::time::Instant;

use self::scene::{Scene, refused};
use super::{Context, noting::log_failure, syncing};
use crate::{
    api::{BotSecret, BotSecretStatus, Timeout},
    build::{Inputs, Source, sources},
    plan::{Memory, Retry, RotationNotes, demanded_since, emergency_due, is_synced, look, retry_delay},
    report::{Problem, Reason, Rotated, rotated},
    watch::Observed,
};

/// A failure that may pass by itself is said when it has come so often in a row.
const FAILURES_TO_TELL: u32 = 3;
/// How soon to look again whether what goes first is over.
const LOOK_WHILE_HELD: Duration = Duration::from_secs(5);
/// So many values that are too old are named.
const NAMED: usize = 3;

/// What became of an attempt.
enum Progress {
    /// There is nothing more to do.
    Rest,
    /// There is, after this time or with the next pass.
    Again(Duration),
    /// There is, and not before this time.
    Later(Duration),
}

/// Notes the ages of what was read.
pub(super) fn note(object: &BotSecret, inputs: &Inputs, memory: &mut Memory) {
    if object.spec.rotation.is_none() {
        return;
    }
    // What ends by itself is had anew without anybody's rotating it.
    let lasting = inputs.reads.iter().filter(|(source, secret)| !source.key.metadata && secret.renew.is_none());
    let seen = lasting.map(|(source, secret)| (source.clone(), secret.changed)).collect();
    let notes = notes_of(object, memory);
    (notes.seen, notes.is_assumed) = (seen, false);
    // What somebody has to mend is tried as often as it is read.
    if notes.problem.as_ref().is_some_and(|problem| problem.retry == Retry::Slow) {
        notes.retry = None;
    }
}

/// The notes for the present spec.
fn notes_of<'a>(object: &BotSecret, memory: &'a mut Memory) -> &'a mut RotationNotes {
    let notes = memory.rotation.get_or_insert_default();
    let generation = object.metadata.generation;
    if notes.generation != generation {
        let (keeps, room) = (notes.keeps.filter(|keeps| *keeps), notes.room.take());
        let (demanded, renewed) = (notes.demanded.take(), std::mem::take(&mut notes.renewed));
        **notes = RotationNotes { generation, keeps, room, demanded, renewed, ..RotationNotes::default() };
    }
    notes
}

/// What was read once, by an earlier process, is as old as the Secret tells.
fn assume(observed: &Observed, memory: &mut Memory) {
    let object = &observed.bot_secret;
    if object.spec.interval().period().is_none() && is_synced(object) && syncing::state_of(observed).is_some() {
        let all = sources(&object.spec, &BTreeMap::new());
        let notes = notes_of(object, memory);
        (notes.seen, notes.is_assumed) = (all.into_iter().map(|source| (source, None)).collect(), true);
    }
}

/// Finds what is too old, and has made what is due.
pub(super) async fn tend(context: &Context, observed: &Observed, memory: &mut Memory) {
    let object = &observed.bot_secret;
    if object.metadata.deletion_timestamp.is_some() {
        return;
    }
    let Some(rotation) = object.spec.rotation.as_ref() else {
        if let Some(mut notes) = memory.rotation.take() {
            writing::clear_away(context, object, &mut notes).await;
            notes.again = None;
            // What could not be deleted is tried again.
            memory.rotation = notes.room.is_some().then_some(notes);
        }
        return;
    };
    if memory.rotation.is_none() && !rotation.is_triggered() {
        assume(observed, memory);
    }
    let Some(mut notes) = memory.rotation.take() else { return };
    notes.again = None;
    let state = syncing::state_of(observed);
    notes.demand(&object.spec, state, demanded_since(object), emergency_due(object).is_none(), context.now());
    match look(&object.spec, &notes, state, context.now()) {
        Err(error) => failed(object, &mut notes, refused(error.to_string())),
        Ok(found) => {
            notes.overdue = overdue(&found.overdue, rotation.max_age);
            match Scene::of(context, observed) {
                Err(problem) => failed(object, &mut notes, problem),
                Ok(None) => {
                    (notes.failures, notes.problem, notes.retry) = (0, None, None);
                    writing::clear_away(context, object, &mut notes).await;
                }
                Ok(Some(scene)) => {
                    let before = notes.problem.clone();
                    act(&scene, memory, &mut notes, &found.due).await;
                    if let Some(source) = found.ageless.filter(|_| notes.problem.is_none() && notes.is_idle()) {
                        notes.problem = before;
                        tell(object, &mut notes, scene.ageless(&source));
                    }
                }
            }
            let next = found.next.and_then(|at| instant(at, context.now()));
            notes.again = notes.again.into_iter().chain(next).min();
        }
    }
    memory.rotation = Some(notes);
}

/// Whether a value that somebody wants at once is still to come, and what holds it
/// up.
pub(super) fn making<'a>(object: &BotSecret, memory: &'a Memory) -> (bool, Option<&'a Problem>) {
    let Some(at) = demanded_since(object) else { return (false, None) };
    let Some(notes) = &memory.rotation else { return (true, None) };
    let is_to_come = notes.demanded.as_ref().is_none_or(|(since, to_come)| *since != at || !to_come.is_empty());
    (is_to_come || notes.keeps == Some(true) || !notes.asked.is_empty(), notes.problem.as_ref())
}

/// Does what is due, unless something goes first.
async fn act(scene: &Scene<'_>, memory: &mut Memory, notes: &mut RotationNotes, due: &[Source]) {
    let object = &scene.observed.bot_secret;
    if let Some(at) = notes.retry.filter(|at| *at > Instant::now()) {
        notes.again = Some(at);
        return;
    }
    let is_held = scene.is_held(memory);
    let is_waiting = is_held && (!due.is_empty() || notes.keeps != Some(false));
    let due = if is_held { &[] } else { due };
    let done = if object.spec.rotation.as_ref().is_some_and(|rotation| rotation.generate.is_empty()) {
        writing::clear_away(scene.context, object, notes).await;
        if is_held {
            Ok(Progress::Rest)
        } else {
            notes.asked.retain(|source, _| due.contains(source));
            asking::step(scene, memory, notes, due).await
        }
    } else {
        match scene.check_writes().await {
            Ok(()) if is_held => Ok(Progress::Rest),
            Ok(()) => writing::step(scene, memory, notes, due).await,
            Err(problem) => Err(problem),
        }
    };
    match done {
        Ok(progress) => {
            (notes.failures, notes.problem, notes.retry) = (0, None, None);
            match progress {
                // Its end wakes nobody.
                Progress::Rest if is_waiting => notes.again = Some(Instant::now() + LOOK_WHILE_HELD),
                Progress::Rest => {}
                Progress::Again(wait) => notes.again = Some(Instant::now() + wait),
                Progress::Later(wait) => {
                    notes.retry = Some(Instant::now() + wait);
                    notes.again = notes.retry;
                }
            }
        }
        Err(problem) => failed(object, notes, problem),
    }
}

fn failed(object: &BotSecret, notes: &mut RotationNotes, problem: Problem) {
    notes.failures = notes.failures.saturating_add(1);
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let wait = retry_delay(problem.retry, notes.failures, object.spec.interval(), true, uid);
    notes.retry = Some(Instant::now() + wait);
    notes.again = notes.retry;
    tell(object, notes, problem);
}

/// Says a problem, if it is not the one that was said before.
fn tell(object: &BotSecret, notes: &mut RotationNotes, problem: Problem) {
    let news = notes.problem.as_ref().is_none_or(|before| before.message != problem.message);
    log_failure(object, &problem, notes.failures, news && is_told(notes.failures, &problem));
    notes.problem = Some(problem);
}

fn is_told(failures: u32, problem: &Problem) -> bool {
    failures >= FAILURES_TO_TELL || !problem.reason.is_outage()
}

/// What is said of values that are too old. The age itself is not: it moves.
fn overdue(found: &[(Source, Timestamp)], max_age: Option<Timeout>) -> Option<String> {
    let named = found.iter().take(NAMED).map(|(source, since)| {
        let since = Timestamp::from_second(since.as_second()).unwrap_or(*since);
        format!("{source} has been the same since {since}")
    });
    let named: Vec<_> = named.collect();
    let more = found.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    let most = max_age.and_then(|most| serde_json::to_value(most).ok());
    let most = most.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default();
    (!found.is_empty()).then(|| {
        format!(
            "{}{more}, longer than rotation.maxAge ({most}) allows: rotate it at its source, or have it rotated (rotation.every)",
            named.join(", ")
        )
    })
}

/// A moment of the day on the process's own clock.
fn instant(at: Timestamp, now: Timestamp) -> Option<Instant> {
    let wait = Duration::try_from(at.duration_since(now)).unwrap_or_default();
    Instant::now().checked_add(wait)
}

/// Says in the status how old the values are.
pub(super) fn report(object: &BotSecret, memory: &Memory, next: &mut BotSecretStatus, now: Timestamp) {
    if object.spec.suspend == Some(true) {
        return;
    }
    if object.spec.rotation.is_none() {
        return rotated(next, object.metadata.generation, None, now);
    }
    let Some(notes) = &memory.rotation else { return };
    let problem = notes.problem.as_ref().filter(|problem| is_told(notes.failures, problem));
    let told = Rotated { overdue: notes.overdue.as_deref(), problem };
    // The source may have told of a greater age than the Secret does.
    let is_overdue = |one: &Condition| one.type_ == "Rotated" && one.reason == Reason::RotationOverdue.name();
    if !notes.is_assumed || !next.conditions.iter().any(is_overdue) {
        rotated(next, object.metadata.generation, Some(&told), now);
    }
}
