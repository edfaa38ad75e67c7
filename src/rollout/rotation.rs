//! Where a rotation stands: one value, or several that came while the first was
//! on its way, from the written Secret to the last verified workload. Pure.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use super::{Place, Standing};
use crate::api::{PhaseTime, RotationPhase, RotationStatus};

/// What is known of the rotation in this pass.
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
}

/// How many phases are remembered.
const TIMES: usize = 16;

/// The rotation after this pass; `None` where there never was one.
#[must_use]
pub fn next_rotation(before: Option<&RotationStatus>, course: &Course<'_>, now: Timestamp) -> Option<RotationStatus> {
    // The rotation may know the revision before the record of the Secret does.
    let begins = before.map_or(course.is_new, |before| before.revision != course.revision);
    let open = before.filter(|before| is_open(before.phase));
    let mut next = match (before, open) {
        // One that was on its way takes the new value along.
        (_, Some(open)) if !course.next_round => {
            RotationStatus { revision: course.revision.to_owned(), ..open.clone() }
        }
        (_, Some(_)) => begun(course.revision, now),
        _ if begins => begun(course.revision, now),
        (Some(before), _) => before.clone(),
        (None, _) => return None,
    };
    let phase = phase(course, next.phase);
    let message = course.why.filter(|_| phase != RotationPhase::Verified).unwrap_or_default();
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

fn begun(revision: &str, now: Timestamp) -> RotationStatus {
    RotationStatus {
        revision: revision.to_owned(),
        phase: RotationPhase::Written,
        started: Time(now),
        times: vec![PhaseTime { phase: RotationPhase::Written, at: Time(now) }],
        message: String::new(),
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
        return RotationPhase::Verified;
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

    fn waits() -> Place {
        Place::Waiting { not_before: None, busy: None, underway: false, failed_before: false }
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
        let course =
            Course { revision, is_new, standings: &standings, left: false, why: Some("why"), next_round: false };
        next_rotation(before, &course, at(now))
    }

    #[test]
    fn a_rotation_goes_from_the_written_secret_to_verified_and_says_each_phase_once() {
        use RotationPhase::{Halted, Rolling, Verified, Written};
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
        assert_eq!(phases, [Written, Rolling, Halted, Rolling, Verified]);
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
        let course =
            Course { revision: "1.k.f", is_new: false, standings: &[], left: false, why: None, next_round: false };
        assert_eq!(next_rotation(None, &course, at(1)), None);
    }
}
