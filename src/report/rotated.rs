//! Whether values are as young as the spec asks. No part of Ready: what is too
//! old works as well as before.

use k8s_openapi::jiff::Timestamp;

use super::{Problem, Reason, status::Conditions};
use crate::api::BotSecretStatus;

/// What was found.
#[derive(Clone, Copy, Debug)]
pub struct Rotated<'a> {
    /// Which values are too old.
    pub overdue: Option<&'a str>,
    /// Why none is made in their place.
    pub problem: Option<&'a Problem>,
}

/// Says it by the condition Rotated; `None`: nothing is asked.
pub fn rotated(status: &mut BotSecretStatus, generation: Option<i64>, found: Option<&Rotated<'_>>, now: Timestamp) {
    let mut conditions = Conditions::new(&mut status.conditions, generation, now);
    match found {
        None => conditions.clear("Rotated"),
        Some(Rotated { overdue: None, problem: None }) => {
            conditions.set("Rotated", true, Reason::UpToDate, "no value is older than rotation allows");
        }
        Some(Rotated { overdue: Some(overdue), problem }) => {
            let why = problem.map(|problem| format!("; not rotated: {}", problem.message)).unwrap_or_default();
            conditions.set("Rotated", false, Reason::RotationOverdue, &format!("{overdue}{why}"));
        }
        Some(Rotated { overdue: None, problem: Some(problem) }) => {
            conditions.set("Rotated", false, problem.reason, &problem.message);
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::{Rotated, rotated};
    use crate::{
        api::BotSecretStatus,
        plan::Retry,
        report::{Problem, Reason},
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    /// The only condition: status, reason, message.
    fn shown(status: &BotSecretStatus) -> (&str, &str, &str) {
        let [only] = status.conditions.as_slice() else { panic!("{:?}", status.conditions) };
        (&only.status, &only.reason, &only.message)
    }

    #[test]
    fn p9_what_is_too_old_and_why_stands_in_one_condition_of_its_own_and_moves_nothing_else() {
        let refused = Problem::new(Reason::RotationRefused, Retry::Slow, "not allowed");
        for (overdue, problem, wanted) in [
            (None, None, ("True", "UpToDate", "no value is older than rotation allows")),
            (Some("old"), None, ("False", "RotationOverdue", "old")),
            (Some("old"), Some(&refused), ("False", "RotationOverdue", "old; not rotated: not allowed")),
            (None, Some(&refused), ("False", "RotationRefused", "not allowed")),
        ] {
            let mut status = BotSecretStatus::default();
            rotated(&mut status, Some(1), Some(&Rotated { overdue, problem }), at(1));
            assert_eq!(shown(&status), wanted);
            let before = status.clone();
            rotated(&mut status, Some(1), Some(&Rotated { overdue, problem }), at(900));
            assert_eq!(status, before, "nothing moves while nothing changes");
            rotated(&mut status, Some(1), None, at(901));
            assert!(status.conditions.is_empty(), "nothing is asked any more");
        }
    }
}
