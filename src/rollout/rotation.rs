//! Where a rotation stands: one value, or several that came while the first was
//! on its way, from the written Secret to the last verified workload. Pure.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use super::{Place, Standing};
use crate::api::{PhaseTime, RotationPhase, RotationStatus};

/// What is known of the rotation in this pass.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug)]
pub struct Course<'a> {
    /// The Secret's revision.
    pub revision: &'a str,
    /// Whether it is another than the last one on record.
    pub is_new: bool,
    /// The workloads that it concerns, and why those which wait do.
    pub standings: &'a [Standing<'a>],
    /// Whether pods that may hold an older value are left in some workload that
    /// waits for a person.
    pub left: bool,
    /// Why something waits or how it failed, of the first that does.
    pub why: Option<&'a str>,
    /// Whether a next round began: those which rolled already roll again.
    pub next_round: bool,
    /// The revision that it took back, where a workload failed on that.
    pub taken_back: Option<&'a str>,
    /// The Secret that keeps the value before; empty where none does.
    pub previous: &'a str,
}

/// How many phases are remembered.
const TIMES: usize = 16;

/// The rotation after this pass; `None` where there never was one.
#[must_use]
pub fn next_rotation(before: Option<&RotationStatus>, course: &Course<'_>, now: Timestamp) -> Option<RotationStatus> {
    // The rotation may know the revision before the record of the Secret does.
    let begins = before.map_or(course.is_new, |before| before.revision != course.revision);
    // A value that failed and the one that takes its place are one story.
    let is_back = course.taken_back.is_some();
    let goes_on = |phase| is_open(phase) || is_back && phase == RotationPhase::Halted;
    let open = before.filter(|before| goes_on(before.phase));
    let mut next = match (before, open) {
        // One that was on its way takes the new value along.
        (_, Some(open)) if !course.next_round => {
            RotationStatus { revision: course.revision.to_owned(), ..open.clone() }
        }
        (_, Some(open)) if is_back => {
            RotationStatus { revision: course.revision.to_owned(), started: Time(now), ..open.clone() }
        }
        (Some(before), Some(_)) => begun(Some(before), course, now),
        _ if begins => begun(before, course, now),
        (Some(before), _) => before.clone(),
        (None, _) => return None,
    };
    let phase = phase(course, next.phase);
    let message = course.why.filter(|_| phase != RotationPhase::Verified).unwrap_or_default();
    course.taken_back.unwrap_or_default().clone_into(&mut next.taken_back);
    if is_back && phase != RotationPhase::Halted {
        // How the value failed stays on record.
        enter(&mut next, phase, now);
        return Some(next);
    }
    if matches!(next.phase, RotationPhase::Verified | RotationPhase::OldRetired) && phase == RotationPhase::Verified {
        // What has been verified stays so, and its old credential's end with it.
        return Some(next);
    }
    enter(&mut next, phase, now);
    message.clone_into(&mut next.message);
    Some(next)
}

/// Whether workloads may still be on their way in it.
#[must_use]
pub fn is_open(phase: RotationPhase) -> bool {
    matches!(phase, RotationPhase::Written | RotationPhase::Rolling | RotationPhase::Unknown)
}

fn begun(before: Option<&RotationStatus>, course: &Course<'_>, now: Timestamp) -> RotationStatus {
    // What is kept under another name, or no longer asked for, is still to be deleted.
    let kept = before.map_or("", |before| before.previous.as_str());
    RotationStatus {
        revision: course.revision.to_owned(),
        phase: RotationPhase::Written,
        started: Time(now),
        // It is written in the pass that reads it.
        times: [RotationPhase::Detected, RotationPhase::Written].map(|phase| PhaseTime { phase, at: Time(now) }).into(),
        message: String::new(),
        previous: if kept.is_empty() { course.previous } else { kept }.to_owned(),
        taken_back: course.taken_back.unwrap_or_default().to_owned(),
    }
}

/// Takes a rotation into a phase, if it is not in it.
pub fn enter(rotation: &mut RotationStatus, phase: RotationPhase, now: Timestamp) {
    if rotation.phase == phase && !rotation.times.is_empty() {
        return;
    }
    rotation.phase = phase;
    rotation.times.push(PhaseTime { phase, at: Time(now) });
    let excess = rotation.times.len().saturating_sub(TIMES);
    rotation.times.drain(..excess);
}

fn phase(course: &Course<'_>, before: RotationPhase) -> RotationPhase {
    let any = |wanted: fn(&Standing<'_>) -> bool| course.standings.iter().any(wanted);
    if any(|one| one.place == Place::Failed) {
        return RotationPhase::Halted;
    }
    let waiting = any(|one| matches!(one.place, Place::Waiting { .. }));
    let underway = any(|one| one.place == Place::Underway);
    if !waiting && !underway && !course.left {
        return if course.taken_back.is_some() { RotationPhase::RolledBack } else { RotationPhase::Verified };
    }
    let begun = underway || before == RotationPhase::Rolling || any(|one| one.place == Place::Verified);
    if begun { RotationPhase::Rolling } else { RotationPhase::Written }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{Course, next_rotation};
    use crate::{
        api::{RotationPhase, RotationStatus, WorkloadKind},
        rollout::{Place, Standing},
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn course() -> Course<'static> {
        Course {
            revision: "1.k.f",
            is_new: false,
            standings: &[],
            left: false,
            why: None,
            next_round: false,
            taken_back: None,
            previous: "",
        }
    }

    fn waits() -> Place {
        Place::Waiting { not_before: None, busy: None, underway: false, failed_before: false, joins: false }
    }

    fn after(before: Option<&RotationStatus>, revision: &str, places: &[Place], now: i64) -> Option<RotationStatus> {
        let standing = |place: &Place| Standing {
            named: (WorkloadKind::Deployment, "a"),
            revision,
            place: place.clone(),
            rolled_at: None,
            ill_before: false,
        };
        let standings: Vec<_> = places.iter().map(standing).collect();
        let is_new = before.is_none_or(|before| before.revision != revision);
        let course = Course { revision, is_new, standings: &standings, why: Some("why"), ..course() };
        next_rotation(before, &course, at(now))
    }

    #[test]
    fn a_rotation_goes_from_the_written_secret_to_verified_and_says_each_phase_once() {
        use RotationPhase::{Detected, Halted, Rolling, Verified, Written};
        let mut rotation = None;
        for (number, (places, phase)) in [
            (vec![waits(), waits()], Written),
            (vec![Place::Underway, waits()], Rolling),
            (vec![Place::Verified, waits()], Rolling),
            (vec![Place::Verified, Place::Failed], Halted),
            (vec![Place::Verified, Place::Underway], Rolling),
            (vec![Place::Verified, Place::Verified], Verified),
            (vec![], Verified),
        ]
        .into_iter()
        .enumerate()
        {
            rotation = after(rotation.as_ref(), "2.k.f", &places, i64::try_from(number).expect("small"));
            assert_eq!(rotation.as_ref().map(|rotation| rotation.phase), Some(phase), "{number}");
        }
        let rotation = rotation.expect("a rotation");
        let phases: Vec<_> = rotation.times.iter().map(|one| one.phase).collect();
        assert_eq!(phases, [Detected, Written, Rolling, Halted, Rolling, Verified]);
        assert_eq!((rotation.started.0, rotation.message.as_str()), (at(0), ""));
    }

    #[test]
    fn a_value_that_comes_on_the_way_joins_and_one_that_comes_afterwards_begins_anew() {
        let open = after(None, "2.k.f", &[Place::Underway], 1).expect("a rotation");
        let joined = after(Some(&open), "3.k.f", &[Place::Underway, waits()], 5).expect("a rotation");
        assert_eq!((joined.revision.as_str(), joined.started.0), ("3.k.f", at(1)));
        let done = after(Some(&joined), "3.k.f", &[Place::Verified], 9).expect("a rotation");
        let next = after(Some(&done), "4.k.f", &[waits()], 20).expect("a rotation");
        assert_eq!((next.phase, next.started.0), (RotationPhase::Written, at(20)));
        let halted = after(Some(&open), "2.k.f", &[Place::Failed], 6).expect("a rotation");
        let better = after(Some(&halted), "3.k.f", &[waits()], 30).expect("a rotation");
        assert_eq!(better.started.0, at(30));
    }

    #[test]
    fn p3_a_rotation_in_a_phase_of_a_later_version_goes_on_from_where_its_workloads_are() {
        use RotationPhase::{Rolling, Unknown, Verified, Written};
        let begun = after(None, "2.k.f", &[waits()], 1).expect("a rotation");
        for (places, phase) in [
            (vec![waits()], Written),
            (vec![Place::Verified, waits()], Rolling),
            (vec![Place::Verified, Place::Verified], Verified),
        ] {
            let later = RotationStatus { phase: Unknown, ..begun.clone() };
            let next = after(Some(&later), "2.k.f", &places, 5).expect("a rotation");
            assert_eq!((next.phase, next.started.0), (phase, at(1)));
        }
    }

    #[test]
    fn a_first_sync_is_no_rotation() {
        assert_eq!(next_rotation(None, &course(), at(1)), None);
    }

    #[test]
    fn a_value_that_is_taken_back_is_the_end_of_the_rotation_that_brought_it() {
        use RotationPhase::{Detected, Halted, RolledBack, Rolling, Verified, Written};
        let rolling = after(None, "2.k.f", &[Place::Underway, waits()], 1).expect("a rotation");
        let halted = after(Some(&rolling), "2.k.f", &[Place::Failed, waits()], 2).expect("a rotation");
        let back = |before: &RotationStatus, place: Place, now| {
            let standings = [Standing {
                named: (WorkloadKind::Deployment, "a"),
                revision: "3.k.e",
                place,
                rolled_at: None,
                ill_before: false,
            }];
            let course = Course {
                revision: "3.k.e",
                is_new: true,
                standings: &standings,
                why: Some("failed as well"),
                taken_back: Some("2.k.f"),
                ..course()
            };
            next_rotation(Some(before), &course, at(now)).expect("a rotation")
        };
        let begun = back(&halted, Place::Underway, 3);
        let done = back(&begun, Place::Verified, 4);
        assert_eq!(back(&done, Place::Verified, 5), done);
        let phases: Vec<_> = done.times.iter().map(|one| one.phase).collect();
        assert_eq!(phases, [Detected, Written, Rolling, Halted, Rolling, RolledBack]);
        assert_eq!((done.revision.as_str(), done.started.0, done.message.as_str()), ("3.k.e", at(1), "why"));
        // Others that had the failed one follow in a round of their own.
        let round = Course { revision: "3.k.e", taken_back: Some("2.k.f"), next_round: true, ..course() };
        let second = next_rotation(Some(&begun), &round, at(7)).expect("a rotation");
        assert_eq!((second.started.0, second.message.as_str(), second.times.len()), (at(7), "why", 6));
        // Should the value before fail as well, it is said and goes no further.
        let twice = back(&begun, Place::Failed, 4);
        assert_eq!((twice.phase, twice.message.as_str()), (Halted, "failed as well"));
        // The next value of the source begins anew, and the source's going back
        // to what came back ends the story.
        let next = after(Some(&done), "4.k.g", &[waits()], 9).expect("a rotation");
        assert_eq!((next.phase, next.started.0), (Written, at(9)));
        assert_eq!(after(Some(&done), "3.k.e", &[Place::Verified], 9).map(|one| one.phase), Some(Verified));
    }
}
