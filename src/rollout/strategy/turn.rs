//! Whose turn it is to roll. Pure.

use std::{cmp::Reverse, collections::BTreeMap};

use jiff::{SignedDuration, Timestamp};

use super::{Opening, WindowError, opening};
use crate::api::{Rollout, WorkloadKind};

/// A kind and a name.
pub type Named<'a> = (WorkloadKind, &'a str);

/// Where a workload stands with regard to the value that it must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// It must roll.
    Waiting {
        /// Not before this moment.
        not_before: Option<Timestamp>,
        /// What keeps it from rolling that only events end.
        busy: Option<String>,
        /// Whether that is a rollout for another BotSecret, which it goes along with.
        joins: bool,
        /// Whether a rollout that we began, of an earlier revision, is still
        /// under way.
        underway: bool,
        /// Whether it failed on an earlier revision.
        failed_before: bool,
    },
    /// It rolls, or was rolled and is being watched.
    Underway,
    /// It holds it and stayed well.
    Verified,
    /// It failed on it.
    Failed,
    /// It says nothing about the value: paused, rolled by hand, missing.
    Aside,
}

/// One workload.
#[derive(Clone, Debug)]
pub struct Standing<'a> {
    /// Which one.
    pub named: Named<'a>,
    /// The revision that it must hold.
    pub revision: &'a str,
    /// Where it stands.
    pub place: Place,
    /// When it was last made to roll.
    pub rolled_at: Option<Timestamp>,
    /// Whether it was ill before this value.
    pub ill_before: bool,
}

/// What bounds the turns.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// When this rotation began.
    pub started: Timestamp,
    /// When the newest value was written; `None` where values end by themselves, so
    /// that the next must not wait until they settle.
    pub changed: Option<Timestamp>,
    /// Places left in the namespace and the cluster.
    pub places: usize,
    /// A value ends: windows and intervals count no more.
    pub urgent: bool,
}

/// Whose turn it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turns {
    /// These roll now, by their place in the list.
    pub go: Vec<usize>,
    /// Why the others wait, by their place in the list.
    pub waits: BTreeMap<usize, String>,
    /// When time alone may change that.
    pub again: Option<Timestamp>,
    /// Whether those who rolled already roll again from now on: a new rotation
    /// has begun.
    pub next_round: bool,
}

impl Turns {
    fn wait(&mut self, index: usize, why: impl Into<String>) {
        self.waits.insert(index, why.into());
    }

    fn look_at(&mut self, at: Timestamp) {
        self.again = Some(self.again.map_or(at, |before| before.min(at)));
    }
}

/// For how long a value must have stayed before those which rolled for an earlier
/// one roll again: changes that come in a burst are one more rollout, not several.
const SETTLED: SignedDuration = SignedDuration::from_secs(10);
/// However often it changes: the newest waits no longer after the last rollout.
const UNSETTLED_MOST: SignedDuration = SignedDuration::from_mins(1);

fn text((kind, name): Named<'_>) -> String {
    format!("{} {name}", kind.name())
}

/// Who rolls now, and why the others wait.
///
/// A first workload gets a new value alone; only when it has stayed well do
/// others follow. When one fails, nobody follows. Those which rolled in this
/// rotation already, and must again since the value changed once more, wait
/// until everybody had one turn.
///
/// # Errors
/// Where a window cannot be read.
pub fn turns(
    rollout: &Rollout,
    standings: &[Standing<'_>],
    bounds: Bounds,
    now: Timestamp,
) -> Result<Turns, WindowError> {
    let mut turns = Turns::default();
    let waiting = |one: &Standing<'_>| matches!(one.place, Place::Waiting { .. });
    if !bounds.urgent
        && standings.iter().any(waiting)
        && !standings.iter().any(|one| one.place == Place::Failed)
        && let Opening::Closed(opens) = opening(&rollout.window, now)?
    {
        let why = opens.map_or_else(
            || "no rollout.window ever opens".to_owned(),
            |at| format!("the next rollout.window opens at {}", second(at)),
        );
        for (index, _) in standings.iter().enumerate().filter(|(_, one)| waiting(one)) {
            turns.wait(index, why.clone());
        }
        turns.again = opens;
        return Ok(turns);
    }
    let ready = able(rollout, standings, bounds, now, &mut turns);
    if let Some(failed) = standings.iter().find(|one| one.place == Place::Failed) {
        for index in ready {
            turns.wait(index, format!("{} failed on the new value", text(failed.named)));
        }
        return Ok(turns);
    }
    let underway =
        |one: &Standing<'_>| one.place == Place::Underway || matches!(one.place, Place::Waiting { underway: true, .. });
    let running = standings.iter().filter(|one| underway(one)).count();
    let again = |index: &usize| {
        let one = &standings[*index];
        !failed_before(one) && one.rolled_at.is_some_and(|at| at >= bounds.started)
    };
    let (second_round, first_round): (Vec<_>, Vec<_>) = ready.into_iter().partition(again);
    grant(rollout, standings, first_round, running, (bounds, now), &mut turns);
    let is_over = turns.go.is_empty() && running == 0 && !second_round.is_empty();
    let unsettled = unsettled_until(standings, bounds, now).filter(|_| is_over);
    if is_over && unsettled.is_none() {
        grant(rollout, standings, second_round, running, (bounds, now), &mut turns);
        turns.next_round = !turns.go.is_empty();
        return Ok(turns);
    }
    for index in second_round {
        turns.wait(index, "it has this rotation's rollout; the newest value comes with the next");
    }
    if let Some(at) = unsettled {
        turns.look_at(at);
    }
    Ok(turns)
}

/// Until when the newest value may still be followed by another of its burst.
fn unsettled_until(standings: &[Standing<'_>], bounds: Bounds, now: Timestamp) -> Option<Timestamp> {
    let last = standings.iter().filter_map(|one| one.rolled_at).max()?;
    let until = bounds.changed?.checked_add(SETTLED).ok()?.min(last.checked_add(UNSETTLED_MOST).ok()?);
    (until > now && !bounds.urgent).then_some(until)
}

/// Gives as many of these their turn as there are places for.
fn grant(
    rollout: &Rollout,
    standings: &[Standing<'_>],
    mut ready: Vec<usize>,
    running: usize,
    (bounds, now): (Bounds, Timestamp),
    turns: &mut Turns,
) {
    ready.sort_by_key(|index| rank(rollout, &standings[*index]));
    let most = rollout.most_at_once();
    let mut places = most.saturating_sub(running);
    let mut granted: Vec<&str> = Vec::new();
    let able: Vec<_> = ready.iter().map(|index| &standings[*index]).collect();
    for index in ready {
        let one = &standings[index];
        let why = if places == 0 {
            Some(format!("{most} {} at once", if most == 1 { "workload rolls" } else { "workloads roll" }))
        } else if turns.go.len() >= bounds.places {
            Some("the operator's own limit of rollouts at once is reached".to_owned())
        } else {
            let canary = awaited_canary(rollout, standings, one, now).filter(|_| !bounds.urgent);
            canary.or_else(|| unproven(standings, &able, one, &granted))
        };
        if let Some(why) = why {
            turns.wait(index, why);
            continue;
        }
        places -= 1;
        granted.push(one.revision);
        turns.go.push(index);
    }
}

/// Those which nothing of their own keeps from rolling.
fn able(
    rollout: &Rollout,
    standings: &[Standing<'_>],
    bounds: Bounds,
    now: Timestamp,
    turns: &mut Turns,
) -> Vec<usize> {
    let pause = rollout.min_interval.and_then(|pause| SignedDuration::try_from(pause.0).ok());
    let mut able = Vec::new();
    for (index, one) in standings.iter().enumerate() {
        let Place::Waiting { not_before, busy, .. } = &one.place else { continue };
        let earliest =
            one.rolled_at.filter(|_| !failed_before(one)).zip(pause).and_then(|(at, pause)| at.checked_add(pause).ok());
        if let Some(busy) = busy {
            turns.wait(index, busy.clone());
        } else if let Some(at) = not_before.filter(|at| *at > now) {
            turns.wait(index, "others may change in the same moment");
            turns.look_at(at);
        } else if let Some(at) = earliest.filter(|at| *at > now && !bounds.urgent) {
            turns.wait(index, format!("rollout.minInterval is over at {}", second(at)));
            turns.look_at(at);
        } else if let Some(other) = unfinished_before(rollout, standings, one) {
            turns.wait(index, format!("{} comes before it", text(other)));
        } else {
            able.push(index);
        }
    }
    able
}

/// Whether it failed on an earlier value, so that it needs the next most.
fn failed_before(one: &Standing<'_>) -> bool {
    matches!(one.place, Place::Waiting { failed_before: true, .. })
}

/// A workload that is to be verified before this one, and is not.
fn unfinished_before<'a>(rollout: &Rollout, standings: &'a [Standing<'_>], one: &Standing<'_>) -> Option<Named<'a>> {
    let open = |other: &&Standing<'_>| !matches!(other.place, Place::Verified | Place::Aside);
    // Of those which come after each other in a circle the first goes.
    let goes_first = |other: &&Standing<'_>| {
        rank(rollout, one) < rank(rollout, other) && all_before(rollout, standings, other.named).contains(&one.named)
    };
    let before = before(rollout, one.named);
    let named = |other: &&Standing<'_>| before.contains(&other.named);
    standings.iter().filter(open).filter(named).find(|other| !goes_first(other)).map(|other| other.named)
}

/// Those which the spec names to come before this one.
fn before<'a>(rollout: &'a Rollout, named: Named<'_>) -> Vec<Named<'a>> {
    let entry = rollout.order.iter().find(|entry| (entry.kind, entry.name.as_str()) == named);
    entry.into_iter().flat_map(|entry| &entry.after).map(|other| (other.kind, other.name.as_str())).collect()
}

/// These, those which come before them, and so on.
fn all_before<'a>(rollout: &'a Rollout, standings: &[Standing<'_>], named: Named<'_>) -> Vec<Named<'a>> {
    let mut found = before(rollout, named);
    let mut next = 0;
    while let Some(one) = found.get(next).copied() {
        next += 1;
        for other in before(rollout, one) {
            if !found.contains(&other) && standings.iter().any(|standing| standing.named == other) {
                found.push(other);
            }
        }
    }
    found
}

/// Lower ones first: who failed on the last value, then the canary, then by
/// weight, and who was ill already comes last.
fn rank<'a>(rollout: &Rollout, one: &Standing<'a>) -> (bool, Reverse<bool>, Reverse<bool>, i32, &'static str, &'a str) {
    let failed = failed_before(one);
    let canary = rollout.canary.as_ref().is_some_and(|canary| (canary.kind, canary.name.as_str()) == one.named);
    let entry = rollout.order.iter().find(|entry| (entry.kind, entry.name.as_str()) == one.named);
    let weight = entry.and_then(|entry| entry.weight).unwrap_or(0);
    (one.ill_before, Reverse(failed), Reverse(canary), weight, one.named.0.name(), one.named.1)
}

/// Why this one waits for the canary, where that one waits for what ends by itself.
fn awaited_canary(rollout: &Rollout, standings: &[Standing<'_>], one: &Standing<'_>, now: Timestamp) -> Option<String> {
    let canary = rollout.canary.as_ref()?;
    let canary = standings.iter().find(|other| (canary.kind, canary.name.as_str()) == other.named)?;
    let is_first = canary.named != one.named && canary.revision == one.revision && !canary.ill_before;
    let is_first = is_first && !failed_before(one);
    let Place::Waiting { not_before, joins, .. } = &canary.place else { return None };
    let is_soon = *joins || not_before.is_some_and(|at| at > now);
    (is_first && is_soon).then(|| format!("{} is the canary and gets the new value first", text(canary.named)))
}

/// Why this one must not get its value yet: another gets it first, alone. `able`
/// are those whose turn it could be.
fn unproven(
    standings: &[Standing<'_>],
    able: &[&Standing<'_>],
    one: &Standing<'_>,
    granted: &[&str],
) -> Option<String> {
    let same = |other: &&Standing<'_>| other.revision == one.revision && !other.ill_before;
    let of_same = || standings.iter().filter(same);
    if of_same().any(|other| other.place == Place::Verified) {
        return None;
    }
    if let Some(first) = of_same().find(|other| other.place == Place::Underway) {
        return Some(format!("{} gets the new value first", text(first.named)));
    }
    if granted.contains(&one.revision) {
        return Some("another workload gets the new value first".to_owned());
    }
    // One that was ill proves nothing, so it comes after those which can.
    let healthy = able.iter().any(|other| other.revision == one.revision && !other.ill_before);
    (one.ill_before && healthy).then(|| "it was not healthy before, so it comes last".to_owned())
}

/// To the second, as people read times.
fn second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
#[path = "turn_tests.rs"]
mod tests;
