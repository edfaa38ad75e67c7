//! When a value is too old or its successor due, and what becomes of a successor
//! that was made. Pure.
//!
//! A value is as old as its source says. So one that has been written is due no
//! more, whoever wrote it and whether or not the answer came.

use std::{collections::BTreeMap, ops::ControlFlow};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::pace::{Pace, ScheduleError, after};
use crate::{
    api::{BotSecretSpec, Rotation, State},
    build::{Source, generated, keys_filled_by, rotated},
    report::Problem,
};

/// How far a manager's clock may be behind ours. What came later than that was late.
const FARTHEST: SignedDuration = SignedDuration::from_hours(1);

/// What is remembered of the rotation of a BotSecret's values.
#[derive(Debug, Default)]
pub struct RotationNotes {
    /// Under which generation of the spec.
    pub generation: Option<i64>,
    /// The remote secrets that were read last, and since when each has been what
    /// it is, where its manager says so.
    pub seen: BTreeMap<Source, Option<Timestamp>>,
    /// Whether nothing was read, so that what the Secret tells must do.
    pub is_assumed: bool,
    /// Whether a value that was made is kept. Not known after a restart.
    pub keeps: Option<bool>,
    /// The Secret to keep one in, be it empty. Not known after a restart.
    pub room: Option<String>,
    /// What managers were asked to rotate, and have not yet.
    pub asked: BTreeMap<Source, Asked>,
    /// When somebody wanted new values at once, and which are still to come: since
    /// when each had been the same by then.
    pub demanded: Option<(Timestamp, BTreeMap<Source, Option<Timestamp>>)>,
    /// When there was a new value of what, by our own clock.
    pub renewed: BTreeMap<Source, Timestamp>,
    /// What was refused, and that others were due that need not wait for it: until
    /// they have had their turn.
    pub put_off: BTreeMap<Source, Problem>,
    /// How often in a row a value that is kept was written and not read since.
    pub repeats: u32,
    /// Failures in a row.
    pub failures: u32,
    /// Not to be tried again before.
    pub retry: Option<Instant>,
    /// Why the last try failed.
    pub problem: Option<Problem>,
    /// Which values are too old.
    pub overdue: Option<String>,
    /// When to look again.
    pub again: Option<Instant>,
}

/// That a manager was asked to make a new value.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// When.
    pub at: Instant,
    /// Since when the value had been the same by then.
    pub since: Option<Timestamp>,
    /// How often it was looked for since.
    pub looks: u32,
}

/// That somebody wanted a value replaced: since when it had been the same by then,
/// where its manager says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted(Option<Timestamp>);

/// What is to be done at a moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Values that are too old, and since when each has been what it is.
    pub overdue: Vec<(Source, Timestamp)>,
    /// Remote secrets whose next value is due.
    pub due: Vec<Source>,
    /// One of which nobody says how old it is.
    pub ageless: Option<Source>,
    /// When one of the others is too old or due.
    pub next: Option<Timestamp>,
}

impl RotationNotes {
    /// Takes in a request for new values that is under way since then. One that is
    /// seen for the first time wants all; of one that another process was busy with,
    /// those may be there already, at the source or on the Secret.
    pub fn demand(
        &mut self,
        spec: &BotSecretSpec,
        state: Option<&State>,
        since: Option<Timestamp>,
        is_begun: bool,
        now: Timestamp,
    ) {
        let Some(at) = since else {
            self.demanded = None;
            return;
        };
        let has_come = |(source, asked): (&Source, &Asked)| {
            self.seen.get(source).is_some_and(|told| *told != asked.since).then(|| source.clone())
        };
        for source in self.asked.iter().filter_map(has_come).collect::<Vec<_>>() {
            self.note_renewed(&source, now);
            self.asked.remove(&source);
        }
        let rotated = rotated(spec);
        match &mut self.demanded {
            Some((before, to_come)) if *before == at => {
                to_come.retain(|source, was| match self.seen.get(source) {
                    Some(Some(told)) if *was != Some(*told) => {
                        // A newer one, and still none that was made for this.
                        *was = Some(*told);
                        *told < at
                    }
                    _ => rotated.contains(source),
                });
            }
            _ => {
                let is_new = |source, told: &Option<Timestamp>| match told {
                    Some(told) => {
                        *told >= at && (is_begun || made_here(spec, source, state).is_some_and(|here| here > at))
                    }
                    None => is_begun,
                };
                let all = rotated.iter().filter_map(|source| self.seen.get_key_value(source));
                let to_come = all.filter(|(source, told)| !is_new(source, told));
                self.demanded = Some((at, to_come.map(|(source, told)| (source.clone(), *told)).collect()));
            }
        }
    }

    /// There is a new value of this, or there will be. Answers what was wanted of it.
    pub fn note_renewed(&mut self, source: &Source, now: Timestamp) -> Option<Wanted> {
        self.renewed.insert(source.clone(), now);
        self.demanded.as_mut().and_then(|(_, to_come)| to_come.remove(source)).map(Wanted)
    }

    /// What was made then is at its source. It is what somebody wants only if it was
    /// made since.
    pub fn note_arrived(&mut self, source: &Source, made: Timestamp) {
        self.renewed.insert(source.clone(), made);
        if let Some((_, to_come)) = self.demanded.as_mut().filter(|(at, _)| *at <= made) {
            to_come.remove(source);
        }
    }

    /// There will be no new value of this for now: it is due, and wanted, as before.
    pub fn note_put_off(&mut self, source: &Source, wanted: Option<Wanted>, problem: Problem) {
        self.renewed.remove(source);
        if let Some(((_, to_come), Wanted(told))) = self.demanded.as_mut().zip(wanted) {
            to_come.insert(source.clone(), told);
        }
        self.put_off.insert(source.clone(), problem);
    }

    /// Whether nobody waits for a value that is made here or asked for.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.keeps != Some(true) && self.demanded.as_ref().is_none_or(|(_, to_come)| to_come.is_empty())
    }

    fn is_demanded(&self, source: &Source, told: Option<Timestamp>) -> bool {
        self.demanded.as_ref().is_some_and(|(_, to_come)| to_come.get(source) == Some(&told))
    }
}

/// When the next value of a remote secret is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Now.
    Now,
    /// Then; `None`: never.
    At(Option<Timestamp>),
    /// Nobody knows how old it is.
    Ageless,
}

/// When the successor of a value is due that has been the same since `told`.
///
/// # Errors
/// Where the schedule is of no use.
pub fn turn(
    spec: &BotSecretSpec,
    notes: &RotationNotes,
    source: &Source,
    told: Option<Timestamp>,
    state: Option<&State>,
    now: Timestamp,
) -> Result<Turn, ScheduleError> {
    let Some(rotation) = &spec.rotation else { return Ok(Turn::At(None)) };
    match counts_since(spec, notes, source, told, state) {
        ControlFlow::Break(turn) => Ok(turn),
        ControlFlow::Continue(since) => Ok(Pace::of(rotation)?.turn(since, now)),
    }
}

/// Since when a value counts as what it is, where that decides.
fn counts_since(
    spec: &BotSecretSpec,
    notes: &RotationNotes,
    source: &Source,
    told: Option<Timestamp>,
    state: Option<&State>,
) -> ControlFlow<Turn, Timestamp> {
    if notes.is_demanded(source, told) {
        return ControlFlow::Break(Turn::Now);
    }
    let Some(told) = told else { return ControlFlow::Break(Turn::Ageless) };
    // A manager whose clock is behind ours tells of a new value what makes it due.
    let by_ours = arrived_here(spec, source, state).into_iter().chain(notes.renewed.get(source).copied()).max();
    let since = by_ours.filter(|ours| ours.duration_since(told) < FARTHEST).map_or(told, |ours| ours.max(told));
    ControlFlow::Continue(since)
}

/// When a value came into the Secret that was there before with another.
fn arrived_here(spec: &BotSecretSpec, source: &Source, state: Option<&State>) -> Option<Timestamp> {
    changed_among(&keys_filled_by(spec, source), state)
}

/// The same of what is rotated, where that is not all.
fn made_here(spec: &BotSecretSpec, source: &Source, state: Option<&State>) -> Option<Timestamp> {
    let made: Vec<_> = generated(spec, source).into_iter().map(|(rule, _)| rule.secret_key.clone()).collect();
    if made.is_empty() { arrived_here(spec, source, state) } else { changed_among(&made, state) }
}

fn changed_among(keys: &[String], state: Option<&State>) -> Option<Timestamp> {
    let changed = state?.changed.iter().filter(|(key, change)| keys.contains(key) && !change.initial && !change.added);
    changed.map(|(_, change)| change.at).max()
}

/// Looks at the ages of what was read.
///
/// # Errors
/// Where the schedule is of no use.
pub fn look(
    spec: &BotSecretSpec,
    notes: &RotationNotes,
    state: Option<&State>,
    now: Timestamp,
) -> Result<Look, ScheduleError> {
    let mut look = Look::default();
    let Some(rotation) = &spec.rotation else { return Ok(look) };
    let mut next = Vec::new();
    for (source, told) in &notes.seen {
        let Some(since) = told.or_else(|| changed_here(spec, source, state)) else { continue };
        match too_old_at(rotation, since) {
            Some(at) if at <= now => look.overdue.push((source.clone(), since)),
            at => next.extend(at),
        }
    }
    // Read once for all; a schedule that is of no use does not matter where nothing waits for it.
    let pace = Pace::of(rotation);
    for source in rotated(spec) {
        let Some(told) = notes.seen.get(&source) else { continue };
        let turn = match counts_since(spec, notes, &source, *told, state) {
            ControlFlow::Break(turn) => turn,
            ControlFlow::Continue(since) => pace.as_ref().map_err(ScheduleError::clone)?.turn(since, now),
        };
        match turn {
            Turn::Now => look.due.push(source),
            Turn::At(at) => next.extend(at),
            Turn::Ageless => look.ageless = look.ageless.or(Some(source)),
        }
    }
    look.next = next.into_iter().min();
    Ok(look)
}

/// When the keys that a source fills last changed on the Secret.
fn changed_here(spec: &BotSecretSpec, source: &Source, state: Option<&State>) -> Option<Timestamp> {
    let state = state?;
    let keys = keys_filled_by(spec, source);
    // Which keys the others fill is not on record: no more is said than is sure.
    let is_its = |key: &String| keys.is_empty() || keys.contains(key);
    let changed = state.changed.iter().filter(|(key, _)| is_its(key)).map(|(_, change)| change.at).max();
    changed.or(state.since)
}

fn too_old_at(rotation: &Rotation, since: Timestamp) -> Option<Timestamp> {
    after(since, rotation.max_age?.0)
}

/// A version of a remote secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtSource {
    /// Its number, where the manager counts.
    pub version: Option<u64>,
    /// When it was made.
    pub changed: Option<Timestamp>,
}

impl AtSource {
    /// The number says it, where nobody told the time.
    fn is(self, other: Self) -> bool {
        match (self.changed.zip(other.changed), self.version.zip(other.version)) {
            (None, Some((this, other))) => this == other,
            _ => self == other,
        }
    }

    /// One that was made anew counts from 1 again, so the time says more.
    fn is_older_than(self, other: Self) -> bool {
        match (self.changed.zip(other.changed), self.version.zip(other.version)) {
            (Some((this, other)), _) => this < other,
            (None, Some((this, other))) => this < other,
            (None, None) => false,
        }
    }
}

/// What to do about a value that is to be written to its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Rest,
    /// Make one, and keep it.
    Make,
    /// Write the one that is kept.
    Write,
    /// Keep it no longer: it is at its source, or somebody else has written there.
    Forget,
    /// Look again: the manager answered with something older than it did before.
    Wait,
}

/// The next step, given which version the value that is kept is to follow, if one
/// is, and whether the source holds that very value.
#[must_use]
pub fn next_step(follows: Option<AtSource>, is_there: bool, source: AtSource, is_due: bool) -> Step {
    match follows {
        None if is_due => Step::Make,
        None => Step::Rest,
        Some(_) if is_there => Step::Forget,
        Some(base) if base.is(source) => Step::Write,
        Some(base) if source.is_older_than(base) => Step::Wait,
        Some(_) => Step::Forget,
    }
}

#[cfg(test)]
#[path = "rotation_tests.rs"]
mod tests;
