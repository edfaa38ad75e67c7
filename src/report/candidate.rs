//! Where the rotation stands of which the value is tried first.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use crate::{
    api::{PhaseTime, Revision, RotationPhase, RotationStatus},
    rollout::{enter, is_open},
};

/// What a pass found out about a value that is tried before it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CandidateReport {
    /// Nothing: what was reported stands.
    #[default]
    NotLooked,
    /// It could not be tried, or not be written.
    Detected {
        /// Keyed fingerprint of the data.
        fingerprint: String,
        /// Why.
        message: String,
    },
    /// It is being tried.
    Pending {
        /// Keyed fingerprint of the data.
        fingerprint: String,
        /// By what.
        message: String,
    },
    /// It does not work.
    Rejected {
        /// Keyed fingerprint of the data.
        fingerprint: String,
        /// Why.
        message: String,
    },
    /// The Secret holds the source's data, tried or not.
    Over {
        /// Keyed fingerprint of that data.
        fingerprint: String,
    },
}

/// How many phases are remembered.
const TIMES: usize = 16;

/// The rotation as the status is to show it: `rolled` is what the rollout makes
/// of it, `rotated` whether the Secret got a new value in this pass.
pub(super) fn rotation(
    before: Option<&RotationStatus>,
    rolled: Option<RotationStatus>,
    report: &CandidateReport,
    rotated: bool,
    now: Timestamp,
) -> Option<RotationStatus> {
    let candidate = before.filter(|one| is_unwritten(one.phase));
    if let Some((candidate, rolled)) = candidate.zip(rolled.as_ref()).filter(|(one, rolled)| is_on_its_way(one, rolled))
    {
        return Some(continued(candidate, rolled.clone()));
    }
    match (report, candidate) {
        // The rollout knows nothing of it, and would begin anew.
        (CandidateReport::NotLooked, Some(candidate)) => Some(candidate.clone()),
        // A trial, and its verdict, stand until the next one.
        (CandidateReport::Detected { .. }, Some(candidate)) if candidate.phase != RotationPhase::Detected => {
            Some(candidate.clone())
        }
        (CandidateReport::Detected { fingerprint, message }, _) => {
            tried(before, rolled, RotationPhase::Detected, (fingerprint, message), now)
        }
        (CandidateReport::Pending { fingerprint, message }, _) => {
            tried(before, rolled, RotationPhase::Candidate, (fingerprint, message), now)
        }
        (CandidateReport::Rejected { fingerprint, message }, _) => {
            tried(before, rolled, RotationPhase::Rejected, (fingerprint, message), now)
        }
        (CandidateReport::Over { fingerprint }, Some(candidate)) if candidate.revision == *fingerprint => {
            rolled.filter(|rolled| rolled != candidate).map(|rolled| continued(candidate, rolled))
        }
        (CandidateReport::Over { .. }, Some(candidate)) if !rotated => {
            // The source went back to what the Secret holds.
            let is_back = rolled.filter(|rolled| !rolled.taken_back.is_empty());
            is_back.or_else(|| (candidate.phase == RotationPhase::Rejected).then(|| candidate.clone()))
        }
        _ => rolled,
    }
}

/// Whether the Secret does not hold the value yet.
fn is_unwritten(phase: RotationPhase) -> bool {
    matches!(phase, RotationPhase::Detected | RotationPhase::Candidate | RotationPhase::Rejected)
}

/// Whether it was written all the same, and the record of that was lost.
fn is_on_its_way(candidate: &RotationStatus, rolled: &RotationStatus) -> bool {
    let written = rolled.revision.parse::<Revision>().is_ok_and(|revision| revision.fingerprint == candidate.revision);
    written && (is_open(rolled.phase) || rolled.phase == RotationPhase::Halted)
}

fn tried(
    before: Option<&RotationStatus>,
    rolled: Option<RotationStatus>,
    phase: RotationPhase,
    (fingerprint, message): (&str, &str),
    now: Timestamp,
) -> Option<RotationStatus> {
    let candidate = before.filter(|one| is_unwritten(one.phase));
    // One that is on its way still is told of to its end, and that it failed; what
    // depends on a halt goes on from there until the next value is tried.
    let is_known = |before: &RotationStatus| {
        is_open(before.phase) || phase == RotationPhase::Detected && before.phase == RotationPhase::Halted
    };
    let was_open = before.is_some_and(is_known);
    let is_news = |rolled: &RotationStatus| is_open(rolled.phase) || was_open && rolled.phase == RotationPhase::Halted;
    if candidate.is_none() && rolled.as_ref().is_some_and(is_news) {
        return rolled;
    }
    let same = candidate.filter(|candidate| candidate.revision == fingerprint).cloned();
    let mut next = same.unwrap_or_else(|| RotationStatus {
        revision: fingerprint.to_owned(),
        phase: RotationPhase::Detected,
        started: Time(now),
        times: vec![PhaseTime { phase: RotationPhase::Detected, at: Time(now) }],
        message: String::new(),
        previous: before.map(|before| before.previous.clone()).unwrap_or_default(),
        taken_back: String::new(),
    });
    enter(&mut next, phase, now);
    message.clone_into(&mut next.message);
    Some(next)
}

/// The rotation goes on with what the rollout found, from where it began.
fn continued(candidate: &RotationStatus, rolled: RotationStatus) -> RotationStatus {
    let mut times = candidate.times.clone();
    times.extend(rolled.times.into_iter().filter(|time| time.phase != RotationPhase::Detected));
    let excess = times.len().saturating_sub(TIMES);
    times.drain(..excess);
    RotationStatus { started: candidate.started.clone(), times, ..rolled }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

    use super::{CandidateReport, rotation};
    use crate::{
        api::{PhaseTime, RotationPhase, RotationStatus},
        rollout::enter,
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn in_phases(revision: &str, phases: &[RotationPhase]) -> RotationStatus {
        let mut rotation = RotationStatus {
            revision: revision.to_owned(),
            phase: RotationPhase::Written,
            started: Time(at(1)),
            times: Vec::new(),
            message: String::new(),
            previous: String::new(),
            taken_back: String::new(),
        };
        for (second, phase) in (1..).zip(phases) {
            enter(&mut rotation, *phase, at(second));
        }
        rotation
    }

    fn pending(fingerprint: &str) -> CandidateReport {
        CandidateReport::Pending { fingerprint: fingerprint.to_owned(), message: "tried".to_owned() }
    }

    fn rejected(fingerprint: &str) -> CandidateReport {
        CandidateReport::Rejected { fingerprint: fingerprint.to_owned(), message: "why".to_owned() }
    }

    fn over(fingerprint: &str) -> CandidateReport {
        CandidateReport::Over { fingerprint: fingerprint.to_owned() }
    }

    /// Revision and phase of what is shown.
    fn shown(rotation: Option<&RotationStatus>) -> Option<(&str, RotationPhase)> {
        rotation.map(|rotation| (rotation.revision.as_str(), rotation.phase))
    }

    #[test]
    fn a_value_that_passes_goes_through_one_rotation_from_candidate_to_verified() {
        use RotationPhase::{Candidate, Detected, Verified, Written};
        let last = in_phases("1.a.b", &[Written, Verified]);
        let first = rotation(Some(&last), Some(last.clone()), &pending("new"), false, at(10)).expect("one");
        assert_eq!(shown(Some(&first)), Some(("new", Candidate)));
        let begun = in_phases("1.a.b", &[Written, Verified]);
        let same = rotation(Some(&first), Some(begun.clone()), &pending("new"), false, at(20));
        assert_eq!(same.as_ref(), Some(&first), "nothing moves while it is tried");
        assert_eq!(rotation(Some(&first), Some(begun), &CandidateReport::NotLooked, false, at(20)), same);
        let written = in_phases("2.a.c", &[Detected, Written]);
        let done = rotation(Some(&first), Some(written), &over("new"), true, at(30)).expect("one");
        assert_eq!(shown(Some(&done)), Some(("2.a.c", Written)));
        assert_eq!(done.started, first.started);
        assert_eq!(done.times.iter().map(|time| time.phase).collect::<Vec<_>>(), [Detected, Candidate, Written]);
        let later = in_phases("2.a.c", &[Written, Verified]);
        assert_eq!(rotation(Some(&done), Some(later.clone()), &over("new"), false, at(40)), Some(later));
    }

    #[test]
    fn a_rejection_stays_on_record_until_the_next_value() {
        use RotationPhase::{Candidate, Rejected, Verified, Written};
        let tried = in_phases("bad", &[Candidate]);
        let rolled = || Some(in_phases("1.a.b", &[Written, Verified]));
        let bad = rotation(Some(&tried), rolled(), &rejected("bad"), false, at(10)).expect("one");
        assert_eq!((shown(Some(&bad)), bad.message.as_str()), (Some(("bad", Rejected)), "why"));
        assert_eq!(bad.times.last(), Some(&PhaseTime { phase: Rejected, at: Time(at(10)) }));
        for report in [rejected("bad"), CandidateReport::NotLooked, over("last good")] {
            assert_eq!(rotation(Some(&bad), rolled(), &report, false, at(20)).as_ref(), Some(&bad), "{report:?}");
        }
        let next = rotation(Some(&bad), rolled(), &pending("next"), false, at(20));
        assert_eq!(shown(next.as_ref()), Some(("next", Candidate)));
        // Without a trial, as when verify was taken out of the spec.
        let written = rotation(Some(&bad), Some(in_phases("2.a.c", &[Written])), &over("other"), true, at(20));
        assert_eq!(shown(written.as_ref()), Some(("2.a.c", Written)));
    }

    fn detected(fingerprint: &str) -> CandidateReport {
        CandidateReport::Detected { fingerprint: fingerprint.to_owned(), message: "the quota is used up".to_owned() }
    }

    #[test]
    fn a_value_that_cannot_be_written_is_told_of_and_its_rotation_goes_on_from_there() {
        use RotationPhase::{Detected, Verified, Written};
        let last = in_phases("1.a.b", &[Written, Verified]);
        let first = rotation(Some(&last), Some(last.clone()), &detected("new"), false, at(10)).expect("one");
        assert_eq!((shown(Some(&first)), first.message.as_str()), (Some(("new", Detected)), "the quota is used up"));
        assert_eq!(rotation(Some(&first), Some(last.clone()), &detected("new"), false, at(20)).as_ref(), Some(&first));
        let written = in_phases("2.a.c", &[Detected, Written]);
        let done = rotation(Some(&first), Some(written), &over("new"), true, at(30)).expect("one");
        assert_eq!(done.times.iter().map(|time| time.phase).collect::<Vec<_>>(), [Detected, Written]);
        assert_eq!((done.started.0, done.times[0].at.0), (at(10), at(10)));
        // The source went back to what the Secret holds.
        assert_eq!(rotation(Some(&first), Some(last), &over("last good"), false, at(30)), None);
    }

    #[test]
    fn a_verdict_a_rollout_on_its_way_and_a_halt_stay_on_record_where_a_value_cannot_be_written() {
        use RotationPhase::{Candidate, Detected, Halted, Rejected, Rolling, Written};
        for phases in [&[Detected, Candidate][..], &[Detected, Candidate, Rejected]] {
            let tried = in_phases("bad", phases);
            let rolled = Some(in_phases("1.a.b", &[Written]));
            for report in [detected("bad"), detected("another")] {
                assert_eq!(rotation(Some(&tried), rolled.clone(), &report, false, at(9)).as_ref(), Some(&tried));
            }
        }
        for phases in [&[Written, Rolling][..], &[Written, Rolling, Halted]] {
            let rolled = in_phases("1.a.b", phases);
            let shown = rotation(Some(&rolled), Some(rolled.clone()), &detected("new"), false, at(9));
            assert_eq!(shown.as_ref(), Some(&rolled));
        }
    }

    #[test]
    fn p3_a_value_that_was_written_though_its_record_was_lost_is_no_candidate_any_more() {
        use RotationPhase::{Candidate, Detected, Halted, Rolling, Written};
        for (on_record, found) in [(Detected, Rolling), (Candidate, Halted)] {
            let tried = in_phases("c", &[on_record]);
            let rolled = in_phases("2.a.c", &[Written, found]);
            for report in [detected("next"), pending("next"), CandidateReport::NotLooked] {
                let shown = rotation(Some(&tried), Some(rolled.clone()), &report, false, at(9)).expect("one");
                assert_eq!((shown.phase, shown.revision.as_str(), shown.started.0), (found, "2.a.c", at(1)));
            }
        }
    }

    #[test]
    fn a_candidate_that_the_source_took_back_leaves_nothing_behind() {
        let tried = in_phases("bad", &[RotationPhase::Candidate]);
        let rolled = Some(in_phases("1.a.b", &[RotationPhase::Written, RotationPhase::Verified]));
        assert_eq!(rotation(Some(&tried), rolled, &over("last good"), false, at(9)), None);
    }

    #[test]
    fn a_value_that_failed_while_the_next_is_tried_is_told_of_first() {
        let rolling = in_phases("1.a.b", &[RotationPhase::Written, RotationPhase::Rolling]);
        let halted = in_phases("1.a.b", &[RotationPhase::Written, RotationPhase::Rolling, RotationPhase::Halted]);
        for report in [pending("new"), rejected("new")] {
            let first = rotation(Some(&rolling), Some(halted.clone()), &report, false, at(9));
            assert_eq!(first.as_ref(), Some(&halted), "{report:?}");
            let then = rotation(first.as_ref(), Some(halted.clone()), &report, false, at(10));
            assert_eq!(shown(then.as_ref()).map(|shown| shown.0), Some("new"), "{report:?}");
        }
    }

    #[test]
    fn a_value_that_came_back_stays_on_record_when_the_next_one_is_withdrawn() {
        let tried = in_phases("new", &[RotationPhase::Candidate]);
        let mut back = in_phases("3.a.b", &[RotationPhase::RolledBack]);
        back.taken_back = "2.a.c".to_owned();
        assert_eq!(rotation(Some(&tried), Some(back.clone()), &over("last good"), false, at(9)), Some(back));
    }

    #[test]
    fn a_rollout_that_is_on_its_way_is_told_of_to_its_end() {
        let rolling = in_phases("1.a.b", &[RotationPhase::Written, RotationPhase::Rolling]);
        for report in [pending("new"), rejected("new")] {
            let shown = rotation(Some(&rolling), Some(rolling.clone()), &report, false, at(9));
            assert_eq!(shown.as_ref(), Some(&rolling), "{report:?}");
        }
    }
}
