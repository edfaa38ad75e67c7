//! The status that an outcome amounts to. Pure: kstatus conditions, and no
//! change where nothing of meaning changed.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use super::{
    Outcome, Reason, RolloutReport, SyncReport,
    candidate::rotation,
    rolled_out::{Kept, report_rollout},
};
use crate::api::{BotSecret, BotSecretStatus, RotationPhase, RotationStatus};

/// The status after this outcome. Equal to the present one where there is
/// nothing to write.
#[must_use]
pub fn status(object: &BotSecret, outcome: &Outcome, now: Timestamp) -> BotSecretStatus {
    let mut next = object.status.clone().unwrap_or_default();
    let mut conditions = Conditions { list: &mut next.conditions, generation: object.metadata.generation, now };
    let target = object.target_name();
    let mut told = true;
    match &outcome.sync {
        SyncReport::Synced(synced) => {
            conditions.set("Ready", true, Reason::Synced, &format!("Secret {target} holds the current values"));
            conditions.set("Synced", true, Reason::Synced, &format!("Secret {target} holds the current values"));
            conditions.clear_stalled();
            next.target = Some(synced.clone());
        }
        SyncReport::NotDue => told = false,
        SyncReport::Failed { problem, stale } => {
            // One outage flips nothing while the data is young enough. What
            // needs somebody to act is said at once.
            if *stale || !problem.reason.is_outage() {
                conditions.set("Ready", false, problem.reason, &problem.message);
                conditions.set("Synced", false, problem.reason, &problem.message);
                if problem.reason.is_outage() {
                    conditions.clear_stalled();
                } else {
                    conditions.set("Stalled", true, problem.reason, &problem.message);
                }
            } else {
                told = false;
            }
        }
        SyncReport::TakenBack { target, problem } => {
            conditions.set("Ready", false, problem.reason, &problem.message);
            conditions.set("Synced", false, problem.reason, &problem.message);
            conditions.set("Stalled", true, problem.reason, &problem.message);
            next.target = Some(target.clone());
        }
        SyncReport::Trying { message } => {
            // What is there stays good until this is decided.
            if next.target.is_none() {
                let message = format!("{message}; Secret {target} is made once it has passed");
                conditions.set("Ready", false, Reason::CandidatePending, &message);
            } else if !conditions.holds("Ready") {
                let message = format!("{message}; Secret {target} keeps the last one until it has passed");
                conditions.set("Ready", false, Reason::CandidatePending, &message);
            }
            conditions.set("Synced", false, Reason::CandidatePending, message);
            conditions.clear_stalled();
        }
        SyncReport::Suspended { ended } => {
            let mut message = "suspended: nothing is read, written or rolled until spec.suspend is false".to_owned();
            if *ended {
                let told =
                    format!("; meanwhile a leased credential in Secret {target} has ended: resume to replace it");
                message.push_str(&told);
            }
            conditions.set("Ready", false, Reason::Suspended, &message);
            if conditions.list.iter().any(|one| one.type_ == "Synced" && is_tried(one)) {
                conditions.set("Synced", false, Reason::Suspended, &message);
            }
            conditions.clear_stalled();
        }
        SyncReport::Deleted(problem) => {
            conditions.set("Ready", false, problem.reason, &problem.message);
            conditions.set("Synced", false, problem.reason, &problem.message);
            conditions.set("Stalled", true, problem.reason, &problem.message);
            next.target = None;
        }
    }
    let mut conditions = Conditions { list: &mut next.conditions, generation: object.metadata.generation, now };
    let mut kept = Kept { rollout: &mut next.rollout, rotation: &mut next.rotation };
    report_rollout(&mut conditions, &mut kept, &outcome.rollout);
    if let Some(why) = &outcome.not_rolled_back {
        conditions.add_to_halt(&mut next.rotation, why);
    }
    conditions.derive_stalled();
    conditions.derive_reconciling();
    let before = object.status.as_ref().and_then(|status| status.rotation.as_ref());
    next.rotation = rotation(before, next.rotation.take(), &outcome.candidate, outcome.rotated, now);
    if let Some(rotation) = next.rotation.as_mut().filter(|_| outcome.forgot_previous) {
        rotation.previous.clear();
    }
    if outcome.rollout == RolloutReport::Off {
        next.rotation = next.rotation.filter(|rotation| !rotation.previous.is_empty());
    }
    // Without conditions for it, a generation counts as not looked at: kstatus
    // would take it for done.
    if told {
        next.observed_generation = object.metadata.generation;
    }
    if let Some(handled) = &outcome.handled_refresh {
        next.last_handled_refresh = Some(handled.clone());
    }
    next
}

pub(super) struct Conditions<'a> {
    list: &'a mut Vec<Condition>,
    generation: Option<i64>,
    now: Timestamp,
}

impl<'a> Conditions<'a> {
    pub(super) fn new(list: &'a mut Vec<Condition>, generation: Option<i64>, now: Timestamp) -> Self {
        Self { list, generation, now }
    }
}

impl Conditions<'_> {
    /// Sets a condition; its transition time moves only with its status.
    pub(super) fn set(&mut self, type_: &str, holds: bool, reason: Reason, message: &str) {
        let status = if holds { "True" } else { "False" };
        let same = |condition: &&Condition| condition.type_ == type_ && condition.status == status;
        let since =
            self.list.iter().find(same).map_or(Time(self.now), |condition| condition.last_transition_time.clone());
        let condition = Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.name().to_owned(),
            message: bounded(message),
            last_transition_time: since,
            observed_generation: self.generation,
        };
        match self.list.iter_mut().find(|known| known.type_ == type_) {
            Some(known) => *known = condition,
            None => self.list.push(condition),
        }
    }

    /// Says of a rollout that was halted why its value was not taken back.
    fn add_to_halt(&mut self, rotation: &mut Option<RotationStatus>, why: &str) {
        const WORDS: &str = "; not rolled back: ";
        let with_why = |message: &str| {
            let before = message.split_once(WORDS).map_or(message, |(before, _)| before);
            bounded(&format!("{before}{WORDS}{why}"))
        };
        if let Some(rotation) = rotation.as_mut().filter(|one| one.phase == RotationPhase::Halted) {
            rotation.message = with_why(&rotation.message);
        }
        let halted =
            self.list.iter().find(|one| one.type_ == "RolledOut" && one.reason == Reason::RolloutHalted.name());
        if let Some(message) = halted.map(|one| with_why(&one.message)) {
            self.set("RolledOut", false, Reason::RolloutHalted, &message);
        }
    }

    fn holds(&self, type_: &str) -> bool {
        self.list.iter().any(|condition| condition.type_ == type_ && condition.status == "True")
    }

    pub(super) fn clear(&mut self, type_: &str) {
        self.list.retain(|condition| condition.type_ != type_);
    }

    /// What was wrong with the Secret is no more: a rollout that waits for somebody
    /// does so still.
    fn clear_stalled(&mut self) {
        self.list.retain(|one| one.type_ != "Stalled" || stalls_a_rollout(one).is_some());
    }

    /// A rollout may wait for somebody, as does what could not be read or written.
    fn derive_stalled(&mut self) {
        let find = |type_: &str| self.list.iter().find(|one| one.type_ == type_);
        let rollout = find("RolledOut").and_then(|one| Some((stalls_a_rollout(one)?, one.message.clone())));
        match (rollout, find("Stalled").map(|one| stalls_a_rollout(one).is_some())) {
            (Some((reason, message)), None | Some(true)) => self.set("Stalled", true, reason, &message),
            (None, Some(true)) => self.clear("Stalled"),
            _ => {}
        }
    }

    /// Reconciling follows from the others: an outage that is waited for, a value
    /// that is being tried, or pods that are being replaced. It is never there beside
    /// Stalled, of which kstatus takes whichever stands first, nor on what is
    /// suspended, where nothing goes on.
    fn derive_reconciling(&mut self) {
        let is_outage = |condition: &Condition| Reason::from_name(&condition.reason).is_some_and(Reason::is_outage);
        let waiting = |condition: &&Condition| match condition.type_.as_str() {
            "Ready" => is_outage(condition),
            "RolledOut" => condition.reason == Reason::RollingOut.name() || is_outage(condition),
            // Ready stands meanwhile.
            "Synced" => is_tried(condition),
            _ => false,
        };
        let is_still =
            |one: &Condition| one.type_ == "Stalled" || one.type_ == "Ready" && one.reason == Reason::Suspended.name();
        if self.list.iter().any(is_still) {
            self.clear("Reconciling");
            return;
        }
        let found = self.list.iter().filter(|condition| condition.status == "False").find(waiting);
        match found.map(|condition| (Reason::from_name(&condition.reason), condition.message.clone())) {
            Some((Some(reason), message)) => self.set("Reconciling", true, reason, &message),
            _ => self.clear("Reconciling"),
        }
    }
}

/// The reason with which it says that a rollout waits for somebody.
fn stalls_a_rollout(condition: &Condition) -> Option<Reason> {
    let reason = Reason::from_name(&condition.reason)?;
    matches!(reason, Reason::RolloutHalted | Reason::RolloutRefused | Reason::Reverted).then_some(reason)
}

/// Whether it says that a new value is being tried.
fn is_tried(condition: &Condition) -> bool {
    condition.reason == Reason::CandidatePending.name()
}

/// The schema of a Condition takes 32,768 characters; nobody reads so many.
pub(super) fn bounded(message: &str) -> String {
    const MOST: usize = 1024;
    if message.chars().count() <= MOST {
        return message.to_owned();
    }
    message.chars().take(MOST - 1).chain(['…']).collect()
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
