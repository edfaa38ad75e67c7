//! Makes what is held agree with what the Secret and the spec show. Pure.

use k8s_openapi::jiff::Timestamp;

use super::{Fingerprint, Held, Stage, place};

/// What the Secret and the spec show.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The Secret.
    pub secret: &'a str,
    /// What lies sealed on it.
    pub sealed: &'a str,
    /// The number of its revision.
    pub revision: u64,
    /// The same as the status has it on record, which is older where a write of the
    /// Secret was followed by nothing more.
    pub recorded: Option<u64>,
    /// The API server's time of the operator's last write of it.
    pub written: Timestamp,
    /// Our own, for what is not known to have been written.
    pub now: Timestamp,
    /// What the spec asks for, as often as it does.
    pub asked: &'a [Fingerprint],
    /// Whether that is all: a store out of sight for now is no reason to give
    /// anything up.
    pub in_sight: bool,
    /// Whether it names workloads, which may use the Secret unseen.
    pub named: bool,
    /// Whether the Secret holds the value before, since a workload failed on the
    /// one that came after.
    pub taken_back: bool,
}

/// What lies on the Secret is live, and what it took the place of retires.
/// Whether anything did.
pub fn align(all: &mut [Held], shown: &Shown<'_>) -> bool {
    let is_there =
        |held: &Held| held.sealed.as_ref().is_some_and(|sealed| shown.sealed.split(' ').any(|one| one == sealed));
    for held in all.iter_mut() {
        held.record.unseen |= shown.named;
        if is_there(held) {
            let came_back = shown.taken_back && held.record.stage == Stage::Retiring;
            if held.record.stage == Stage::Issuing || came_back {
                held.record.stage = Stage::Live;
            }
            if came_back {
                (held.record.replaced_by, held.record.retired, held.superseded) = (0, None, false);
            }
            place::found(&mut held.record.places, shown.secret);
            held.seen = Some(shown.revision);
        } else if held.record.stage == Stage::Retiring {
            // The Secret was another when it retired, or an old copy came back.
            place::taken_out(&mut held.record.places, shown.secret, shown.written, held.seen);
        }
    }
    let there: Vec<_> = all.iter().filter(|held| is_there(held)).map(|held| held.record.entry.clone()).collect();
    let mut retired = false;
    for held in all.iter_mut().filter(|held| !is_there(held)) {
        let count = |of: &[Fingerprint]| of.iter().filter(|other| **other == held.record.entry).count();
        let written = match held.record.stage {
            Stage::Live if count(&there) >= count(shown.asked) => shown.written,
            // Its write may have taken effect though nobody heard so.
            Stage::Issuing if held.values.is_some() && count(shown.asked) == 0 => shown.written.max(shown.now),
            _ => continue,
        };
        if shown.in_sight {
            retire(held, shown, written);
            retired = true;
        }
    }
    retired
}

fn retire(held: &mut Held, shown: &Shown<'_>, written: Timestamp) {
    // It lay there at the revision on record, and no more at the one that is shown,
    // which is a later one: whoever bears its marker has what came after.
    let is_later = shown.recorded.is_some_and(|recorded| recorded < shown.revision);
    let before = shown.revision.checked_sub(1).filter(|_| is_later && held.record.stage == Stage::Live);
    let after = held.seen.or(before);
    let record = &mut held.record;
    (record.stage, record.replaced_by, record.retired) = (Stage::Retiring, shown.revision, Some(written));
    place::taken_out(&mut record.places, shown.secret, written, after);
    held.values = None;
}

#[cfg(test)]
#[path = "align_tests.rs"]
mod tests;
