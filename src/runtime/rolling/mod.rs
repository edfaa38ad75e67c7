//! The half of a pass that rolls workloads: who is concerned, whose turn it is,
//! one step on.

mod concerned;
mod judged;
mod places;
mod schedule;
mod seen;
mod stuck;

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};

pub(super) use self::places::{Key, Places};
use self::{
    concerned::{Concerned, concerned},
    schedule::{LOOK_IDLE, LOOK_LONGEST, schedule},
    seen::{Eye, Seen, is_watched, kept_report, look_is_due, search_is_due},
};
use super::Context;
use crate::{
    api::{
        BotSecret, Rollout, RolloutState, RotationPhase, RotationStatus, State, WorkloadChoice, WorkloadStatus,
        previous_secret,
    },
    plan::{Memory, Retry, emergency},
    report::{Problem, Reason, RolloutReport, WorkloadReport},
    rollout::{Bounds, Course, Place, RollOutError, Standing, Turns, WorkloadState, is_open, next_rotation, turns},
    watch::Observed,
};

/// How soon to ask again for a place of the operator's own limit.
const PLACES_AGAIN: SignedDuration = SignedDuration::from_secs(2);

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
        let_go(context, object);
        return RolloutReport::NotLooked;
    }
    if object.spec.workload_choice() == WorkloadChoice::Selector && is_of(object, state) && !look_is_due(memory) {
        return RolloutReport::NotLooked;
    }
    let concerned = match concerned(context, observed, state).await {
        Ok(Some(concerned)) => concerned,
        Ok(None) => {
            memory.next_look = None;
            let_go(context, object);
            return RolloutReport::Off;
        }
        Err(problem) => {
            memory.next_look = Some(tokio::time::Instant::now() + LOOK_LONGEST);
            return Standings::kept(object, state).report(Some(problem));
        }
    };
    if by_use {
        forget_the_gone(observed, memory);
    }
    let nothing = Rollout::default();
    let rollout = object.spec.rollout.as_ref().unwrap_or(&nothing);
    let eye = Eye { context, object, rollout, state, shared: &observed.shared, now: context.now() };
    if memory.found_again.is_some_and(|at| at < eye.now) {
        memory.found_current.clear();
    }
    let (mut scene, kept, problem) = see_all(eye, &concerned, memory).await;
    let unseen = problem.is_some();
    let (turns, problem) = take_turns(eye, &mut scene, is_urgent(object, state), problem, memory).await;
    if search_is_due(memory) && scene.iter().any(|seen| seen.report.state == WorkloadState::Missing) {
        memory.next_search = Some(tokio::time::Instant::now() + LOOK_IDLE);
    }
    let standings = Standings::after(eye, &scene, kept, unseen, &turns);
    memory.found_again = concerned.iter().filter_map(|one| one.requirement.settles()).filter(|at| *at >= eye.now).max();
    let again = turns.again.into_iter().chain(memory.found_again).min();
    schedule(eye, &standings, problem.as_ref(), again, memory);
    context.places.hold(key_of(object), standings.underway);
    standings.report(problem)
}

/// Nothing rolls for this BotSecret that counts against the operator's limits.
pub(super) fn let_go(context: &Context, object: &BotSecret) {
    context.places.hold(key_of(object), 0);
}

/// What the status will say, sorted.
struct Standings {
    revision: String,
    workloads: Vec<WorkloadReport>,
    rotation: Option<RotationStatus>,
    underway: usize,
    /// Whether one that waits has an earlier rollout under way.
    held_up: bool,
}

impl Standings {
    /// As it was.
    fn kept(object: &BotSecret, state: &State) -> Self {
        let status = object.status.as_ref();
        let rollout = status.and_then(|status| status.rollout.as_ref());
        Self {
            // Not of the new revision: nobody has looked for that yet.
            revision: rollout.map_or_else(|| state.revision.to_string(), |rollout| rollout.revision.clone()),
            workloads: rollout.into_iter().flat_map(|rollout| &rollout.workloads).map(kept_report).collect(),
            rotation: status.and_then(|status| status.rotation.clone()),
            underway: 0,
            held_up: false,
        }
    }

    fn after(eye: Eye<'_>, scene: &[Seen<'_>], kept: Vec<WorkloadReport>, unseen: bool, turns: &Turns) -> Self {
        let places: Vec<_> = scene.iter().map(|seen| eye.place(seen)).collect();
        let underway = places.iter().filter(|place| is_running(place)).count();
        let standings: Vec<_> = scene.iter().zip(&places).map(|(seen, place)| standing(seen, place.clone())).collect();
        let left = scene.iter().any(|seen| {
            !matches!(seen.report.state, WorkloadState::RolledOut | WorkloadState::Missing | WorkloadState::Waiting)
        });
        let failed = scene.iter().find(|seen| seen.report.state == WorkloadState::Failed);
        let taken_back = eye.state.taken_back.as_ref().map(|taken| taken.revision.to_string());
        let why = failed.map(|seen| {
            let value = if taken_back.is_some() { "value that came back" } else { "new value" };
            let status = &seen.report.status;
            format!("{} {} failed on the {value}: {}", status.kind, status.name, status.message)
        });
        let why = why.or_else(|| scene.iter().find_map(|seen| joined(eye, seen)));
        let why = why.or_else(|| turns.waits.values().next().cloned());
        let revision = eye.state.revision.to_string();
        let status = eye.object.status.as_ref();
        let previous = eye.rollout.rolls_back().then(|| previous_secret(eye.object.target_name()));
        let course = Course {
            revision: &revision,
            is_new: is_new(eye.object, &revision),
            standings: &standings,
            left: left || unseen,
            why: why.as_deref(),
            next_round: turns.next_round,
            taken_back: taken_back.as_deref(),
            previous: previous.as_deref().unwrap_or_default(),
        };
        let before = status.and_then(|status| status.rotation.as_ref());
        // While one cannot be looked at, nothing is said of the whole.
        let unclear = before.filter(|before| before.revision == revision && unseen);
        let rotation = unclear.cloned().or_else(|| next_rotation(before, &course, eye.now));
        let mut workloads = kept;
        for (index, seen) in scene.iter().enumerate() {
            let mut report = seen.report.clone();
            if report.state == WorkloadState::Waiting {
                let why = joined(eye, seen).or_else(|| turns.waits.get(&index).cloned());
                report.status.message = why.unwrap_or_default();
            }
            workloads.push(report);
        }
        workloads
            .sort_by(|one, other| (&one.status.kind, &one.status.name).cmp(&(&other.status.kind, &other.status.name)));
        let held_up = places.iter().any(|place| matches!(place, Place::Waiting { underway: true, .. }));
        Self { revision, workloads, rotation, underway, held_up }
    }

    fn report(self, problem: Option<Problem>) -> RolloutReport {
        RolloutReport::Standing {
            revision: self.revision,
            workloads: self.workloads,
            rotation: self.rotation.map(Box::new),
            problem,
        }
    }
}

/// Looks at each. What could not be looked at stays as it is on record.
async fn see_all<'a>(
    eye: Eye<'a>,
    concerned: &'a [Concerned<'a>],
    memory: &mut Memory,
) -> (Vec<Seen<'a>>, Vec<WorkloadReport>, Option<Problem>) {
    let (mut scene, mut kept, mut problem) = (Vec::new(), Vec::new(), None);
    for one in concerned {
        match eye.see(one, memory).await {
            Ok(Some(seen)) => scene.push(seen),
            Ok(None) => {}
            Err(error) => {
                // Of whatever revision: when it was rolled, and whether it failed.
                kept.extend(eye.earlier(one).map(kept_report));
                problem = Some(problem_of(&error));
            }
        }
    }
    // One order in all messages, whatever the watch brought first.
    scene.sort_by(|one: &Seen<'_>, other| one.name().cmp(&other.name()));
    (scene, kept, problem)
}

/// Rolls those whose turn it is. Who turns out to stand elsewhere than was known,
/// or is refused, gives its turn to the next.
async fn take_turns<'a>(
    eye: Eye<'a>,
    scene: &mut [Seen<'a>],
    urgent: bool,
    mut problem: Option<Problem>,
    memory: &mut Memory,
) -> (Turns, Option<Problem>) {
    let rotation = eye.object.status.as_ref().and_then(|status| status.rotation.as_ref());
    let started = rotation.filter(|rotation| is_open(rotation.phase)).map_or(eye.now, |rotation| rotation.started.0);
    let mut next_round = false;
    // Each time round one is looked at, refused or rolled.
    for _ in 0..=2 * scene.len() {
        let standings: Vec<_> = scene.iter().map(|seen| standing(seen, eye.place(seen))).collect();
        let running = standings.iter().filter(|one| is_running(&one.place)).count();
        let changed = scene.iter().map(|seen| seen.one.requirement.written_at).max();
        let changed = changed.filter(|_| eye.state.renewal.is_none());
        let started = if next_round { eye.now } else { started };
        let bounds = Bounds { started, changed, places: usize::MAX, urgent };
        let mut turns = match turns(eye.rollout, &standings, bounds, eye.now) {
            Ok(turns) => turns,
            Err(error) => {
                problem = Some(Problem::new(Reason::RolloutRefused, Retry::Slow, error.to_string()));
                return (Turns::default(), problem);
            }
        };
        next_round |= turns.next_round;
        turns.next_round = next_round;
        let is_halted = standings.iter().any(|one| one.place == Place::Failed);
        let undone: Vec<_> = (0..scene.len()).filter(|index| !is_halted && is_undone(scene, *index)).collect();
        if !undone.is_empty() {
            turns.go = undone;
        }
        if turns.go.is_empty() || problem.as_ref().is_some_and(|problem| problem.retry != Retry::Slow) {
            return (turns, problem);
        }
        let granted = eye.context.places.reserve(key_of(eye.object), running, turns.go.len());
        if granted == 0 {
            for index in std::mem::take(&mut turns.go) {
                turns.waits.insert(index, "the operator's own limit of rollouts at once is reached".to_owned());
            }
            // Nothing tells when another BotSecret's are over.
            turns.again = eye.now.checked_add(PLACES_AGAIN).ok().into_iter().chain(turns.again).min();
            return (turns, problem);
        }
        for index in turns.go.into_iter().take(granted) {
            let Some(seen) = scene.get_mut(index) else { continue };
            match step(eye, seen, memory).await {
                Ok(true) => {}
                // What is known has changed: decide again.
                Ok(false) => break,
                Err(error @ (RollOutError::Refused { .. } | RollOutError::Unfit { .. })) => {
                    problem = Some(problem_of(&error));
                    seen.refused = Some(error.to_string());
                    break;
                }
                Err(error) => {
                    problem = Some(problem_of(&error));
                    break;
                }
            }
        }
    }
    (Turns { next_round, ..Turns::default() }, problem)
}

/// Whether its rollout was begun and then undone by somebody, so that it goes on
/// with the place that it has.
fn is_undone(scene: &[Seen<'_>], index: usize) -> bool {
    scene.get(index).is_some_and(|seen| {
        seen.report.state == WorkloadState::Waiting && seen.report.status.patches > 0 && seen.refused.is_none()
    })
}

/// Why one is halted that failed while it rolled for another BotSecret.
fn joined(eye: Eye<'_>, seen: &Seen<'_>) -> Option<String> {
    let bot_secret = eye.halted_with(seen)?;
    let (kind, name) = seen.name();
    Some(format!(
        "{kind} {name} failed in the rollout for BotSecret {bot_secret}, which takes this value along: it goes on when that one does",
    ))
}

/// Rolls one whose turn it is. False where a fresh look shows it elsewhere than
/// it was thought to be.
async fn step<'a>(eye: Eye<'a>, seen: &mut Seen<'a>, memory: &mut Memory) -> Result<bool, RollOutError> {
    if seen.looked.is_none() {
        let before = (eye.place(seen), seen.report.status.unhealthy_before);
        if let Some(now) = eye.look(seen.one, memory).await? {
            *seen = now;
        } else {
            // Nothing is left to be done for it.
            seen.report.state = WorkloadState::RolledOut;
            WorkloadState::RolledOut.name().clone_into(&mut seen.report.status.state);
            seen.report.status.since = None;
            seen.report.status.verified = true;
        }
        if (eye.place(seen), seen.report.status.unhealthy_before) != before {
            return Ok(false);
        }
    }
    eye.roll(seen, memory).await?;
    Ok(true)
}

/// Whether a rollout that we began is under way.
fn is_running(place: &Place) -> bool {
    matches!(place, Place::Underway | Place::Waiting { underway: true, .. })
}

fn standing<'a>(seen: &'a Seen<'_>, place: Place) -> Standing<'a> {
    let status = &seen.report.status;
    Standing {
        named: (seen.one.id.kind, &seen.one.id.name),
        revision: &status.revision,
        place,
        rolled_at: status.rolled_at.as_ref().map(|at| at.0),
        ill_before: status.unhealthy_before,
    }
}

/// Whether a value of it ends by itself, what is rolled is to mend what a workload
/// failed on, or somebody wants it now: then no window and no interval holds it up.
fn is_urgent(object: &BotSecret, state: &State) -> bool {
    let is_wanted = || emergency(object).is_some();
    state.taken_back.is_some() || is_wanted() || object.status.as_ref().is_some_and(|status| !status.leases.is_empty())
}

fn key_of(object: &BotSecret) -> Key {
    (object.metadata.namespace.clone().unwrap_or_default(), object.metadata.name.clone().unwrap_or_default())
}

/// How many workloads a BotSecret's status says are being rolled.
pub(super) fn underway(object: &BotSecret) -> (Key, usize) {
    let rollout = object.status.as_ref().and_then(|status| status.rollout.as_ref());
    let rolling = |workload: &&WorkloadStatus| workload.state == WorkloadState::Rolling.name() || is_watched(workload);
    (key_of(object), rollout.map_or(0, |rollout| rollout.workloads.iter().filter(rolling).count()))
}

/// Whether the status does not speak of this revision of the Secret yet, or only
/// says that it was written.
fn is_new(object: &BotSecret, revision: &str) -> bool {
    let status = object.status.as_ref();
    let target = status.and_then(|status| status.target.as_ref());
    let rolled = status.and_then(|status| status.rollout.as_ref());
    target.is_some_and(|target| {
        target.name == object.target_name()
            && (target.revision != revision || rolled.is_some_and(|rolled| rolled.revision != revision))
    })
}

/// Whether the status speaks of workloads for this revision.
fn is_of(object: &BotSecret, state: &State) -> bool {
    let rollout = object.status.as_ref().and_then(|status| status.rollout.as_ref());
    rollout.is_some_and(|rollout| !rollout.workloads.is_empty() && rollout.revision == state.revision.to_string())
}

/// Whether the status says that this revision is rolled out, for this spec, and
/// that nothing it names is missing or watched; in words of this version.
fn is_over(object: &BotSecret, state: &State) -> bool {
    let status = object.status.as_ref();
    let rollout = status.and_then(|status| status.rollout.as_ref());
    let is_open = |workload: &WorkloadStatus| workload.state == WorkloadState::Missing.name() || is_watched(workload);
    let of_revision = |rollout: &&RolloutState| rollout.revision == state.revision.to_string();
    let rotation = status.and_then(|status| status.rotation.as_ref());
    if rotation.is_some_and(|rotation| rotation.phase == RotationPhase::Unknown) {
        return false;
    }
    rollout.filter(of_revision).is_some_and(|rollout| rollout.complete && !rollout.workloads.iter().any(is_open))
        && status.and_then(|status| status.observed_generation) == object.metadata.generation
}

/// Notes on workloads that no longer use the Secret.
fn forget_the_gone(observed: &Observed, memory: &mut Memory) {
    let known: HashSet<&str> = observed.workloads.iter().map(|facts| facts.uid.as_str()).collect();
    memory.found_current.retain(|uid, _| known.contains(uid.as_str()));
    memory.looked_at.retain(|uid, _| known.contains(uid.as_str()));
}

fn problem_of(error: &RollOutError) -> Problem {
    let (reason, retry) = match error {
        RollOutError::Conflict { .. } => (Reason::RollingOut, Retry::Soon),
        RollOutError::Refused { .. } | RollOutError::Unfit { .. } => (Reason::RolloutRefused, Retry::Slow),
        RollOutError::Unavailable { .. } => (Reason::KubernetesUnavailable, Retry::Backoff),
    };
    Problem::new(reason, retry, error.to_string())
}
