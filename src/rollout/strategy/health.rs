//! Whether a workload is well on a value: its controller's own word, and what
//! became of the pods that hold it.

use jiff::{SignedDuration, Timestamp};

use crate::{api::WorkloadKind, rollout::PodFacts, watch::WorkloadFacts};

/// How a workload takes a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Its controller has not brought it up on it yet.
    Starting,
    /// It is up, and is watched until this moment.
    Watched(Timestamp),
    /// It stayed well for as long as it must.
    Well,
    /// It failed, and how.
    Failed(String),
}

/// Restarts of a new pod before it was ever ready that say nothing yet: many
/// a program gives up once before what it needs is there.
const RESTARTS_FORGIVEN: i32 = 1;

/// The limits within which a workload must become well.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// When it was made to roll.
    pub rolled_at: Timestamp,
    /// Since when no pod of it holds an older value; `None` while one does.
    pub new_since: Option<Timestamp>,
    /// How long it may take.
    pub deadline: SignedDuration,
    /// How long it is watched.
    pub watched_for: SignedDuration,
}

/// How this workload takes the value that `new`, its pods that hold it, began
/// with.
#[must_use]
pub fn health<'a>(
    workload: &WorkloadFacts,
    new: impl IntoIterator<Item = &'a PodFacts>,
    patience: Patience,
    now: Timestamp,
) -> Health {
    let mut ready = true;
    for pod in new {
        if pod.health.crash_looping && pod.health.restarts > RESTARTS_FORGIVEN {
            return Health::Failed(format!("pod {} keeps ending after its start", pod.name));
        }
        if let Some((since, began)) = patience.new_since.zip(pod.health.last_started)
            && pod.health.restarts > 0
            && began.as_second() > since.as_second()
        {
            return Health::Failed(format!("pod {} restarted while it was watched", pod.name));
        }
        ready &= pod.health.ready;
    }
    if workload.progress.failed {
        return Health::Failed(match workload.id.kind {
            WorkloadKind::Rollout => "Argo Rollouts gave it up: it was aborted, or exceeded its deadline".to_owned(),
            _ => "its controller gave the rollout up (progress deadline exceeded)".to_owned(),
        });
    }
    let over = |from: Timestamp, span: SignedDuration| from.checked_add(span).is_ok_and(|end| now >= end);
    let well = ready && workload.progress.settled;
    match patience.new_since {
        Some(since) if well && over(since, patience.watched_for) => Health::Well,
        Some(since) if well => Health::Watched(since.checked_add(patience.watched_for).unwrap_or(Timestamp::MAX)),
        _ if over(patience.rolled_at, patience.deadline.saturating_add(patience.watched_for)) => {
            Health::Failed("it was not ready within the progress deadline".to_owned())
        }
        None if over(patience.rolled_at, patience.deadline) => {
            Health::Failed("it did not replace its pods within the progress deadline".to_owned())
        }
        _ => Health::Starting,
    }
}

/// Whether it was ill already, so that nothing which it does next says anything
/// about a new value.
#[must_use]
pub fn was_ill<'a>(workload: &WorkloadFacts, old: impl IntoIterator<Item = &'a PodFacts>) -> bool {
    !workload.progress.serving || workload.progress.failed || old.into_iter().any(|pod| pod.health.crash_looping)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Health, Patience, health, was_ill};
    use crate::{
        rollout::{PodFacts, PodView},
        watch::{DeploymentView, WorkloadFacts, WorkloadView},
    };

    fn at(second: i64) -> jiff::Timestamp {
        jiff::Timestamp::from_second(1_000_000 + second).expect("a time")
    }

    fn deployment(status: &Value) -> WorkloadFacts {
        let view = json!({ "metadata": { "name": "d", "generation": 2 }, "spec": { "replicas": 2 }, "status": status });
        serde_json::from_value::<DeploymentView>(view).expect("a Deployment").facts()
    }

    fn settled() -> WorkloadFacts {
        deployment(&json!({ "observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2 }))
    }

    fn pod(ready: bool, restarts: i32, state: &Value) -> PodFacts {
        let pod = json!({
            "metadata": { "name": "d-1" }, "spec": { "containers": [] },
            "status": {
                "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }],
                "containerStatuses": [{ "restartCount": restarts, "state": state }],
            },
        });
        serde_json::from_value::<PodView>(pod).expect("a pod").facts()
    }

    fn running(second: i64) -> Value {
        json!({ "running": { "startedAt": at(second).to_string() } })
    }

    fn patience(new_since: Option<i64>) -> Patience {
        Patience {
            rolled_at: at(0),
            new_since: new_since.map(at),
            deadline: jiff::SignedDuration::from_secs(600),
            watched_for: jiff::SignedDuration::from_secs(30),
        }
    }

    fn judged(workload: &WorkloadFacts, pods: &[PodFacts], new_since: Option<i64>, now: i64) -> Health {
        health(workload, pods, patience(new_since), at(now))
    }

    #[test]
    fn a_workload_is_well_when_its_pods_were_ready_and_ran_through_for_as_long_as_it_is_watched() {
        let well = [pod(true, 0, &running(5)), pod(true, 1, &running(8))];
        assert_eq!(judged(&settled(), &well, Some(10), 20), Health::Watched(at(40)));
        assert_eq!(judged(&settled(), &well, Some(10), 40), Health::Well);
        assert_eq!(judged(&settled(), &[pod(false, 0, &running(5))], Some(10), 40), Health::Starting, "not ready");
        assert_eq!(judged(&deployment(&json!({})), &well, Some(10), 40), Health::Starting, "not settled");
        assert_eq!(judged(&settled(), &well, None, 20), Health::Starting, "old pods are left");
    }

    #[test]
    fn one_that_restarts_keeps_ending_or_takes_too_long_has_failed() {
        let failed = |workload: &WorkloadFacts, pods: &[PodFacts], new_since, now| {
            matches!(judged(workload, pods, new_since, now), Health::Failed(_))
        };
        let waiting = json!({ "waiting": { "reason": "CrashLoopBackOff" } });
        assert!(!failed(&settled(), &[pod(false, 1, &waiting)], None, 5), "many a program gives up once");
        assert!(failed(&settled(), &[pod(false, 2, &waiting)], None, 5));
        assert!(failed(&settled(), &[pod(true, 1, &running(12))], Some(10), 15), "while it is watched");
        assert!(failed(&settled(), &[], None, 600));
        assert!(!failed(&settled(), &[pod(false, 0, &running(5))], Some(590), 610));
        assert!(failed(&settled(), &[pod(false, 0, &running(5))], Some(590), 630));
        let given_up = json!([{ "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded" }]);
        assert!(failed(&deployment(&json!({ "observedGeneration": 2, "conditions": given_up })), &[], None, 5));
        assert!(
            !failed(&deployment(&json!({ "observedGeneration": 1, "conditions": given_up })), &[], None, 5),
            "of the template before"
        );
    }

    #[test]
    fn who_does_not_serve_or_keeps_ending_was_ill_before() {
        let waiting = json!({ "waiting": { "reason": "CrashLoopBackOff" } });
        assert!(!was_ill(&settled(), &[pod(true, 3, &running(1))]));
        assert!(was_ill(&settled(), &[pod(true, 3, &waiting)]));
        assert!(was_ill(&deployment(&json!({ "observedGeneration": 2, "availableReplicas": 1 })), &[]));
    }
}
