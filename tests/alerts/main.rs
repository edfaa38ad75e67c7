//! Each alert fires where that is broken which it tells of, and no other does: a real
//! operator, real managers and a real API server, and what the operator really answered
//! to whoever asked for its metrics. Where a rule waits longer than a test can, what was
//! answered goes on as it was (promtool.rs).
#![allow(clippy::needless_pass_by_value, reason = "json!(…) reads better without a borrow")]
#![allow(clippy::format_push_string, reason = "a test may allocate")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../leases/bank.rs"]
#[allow(dead_code, reason = "tests of leases use the rest")]
mod bank;
#[path = "../rollouts/common.rs"]
#[allow(dead_code, unused_imports, reason = "tests of rollouts use the rest")]
mod common;
mod identities;
mod leases;
mod managers;
mod operators;
mod promtool;
mod rotations;
mod scenes;
mod scraper;
#[path = "../support/mod.rs"]
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde_yaml::Value;

use crate::{
    promtool::Check,
    scenes::{Broken, every_scene, scene},
    support::Result,
};

/// What breaks, and what fires so many minutes after the last answer of the operator.
struct Case {
    test: &'static str,
    alert: &'static str,
    broken: Broken,
    minutes: u64,
    /// Exactly these, with their reason where they have one.
    fires: &'static [(&'static str, &'static str)],
}

macro_rules! cases {
    ($($test:ident: $alert:literal, $broken:ident, $minutes:literal, [$($fires:literal $(($reason:literal))?),+];)*) => {
        const CASES: &[Case] = &[$(Case {
            test: stringify!($test),
            alert: $alert,
            broken: Broken::$broken,
            minutes: $minutes,
            fires: &[$(($fires, concat!("" $(, $reason)?))),+],
        }),*];

        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() -> Result {
                fires(stringify!($test)).await
            }
        )*
    };
}

cases! {
    an_operator_that_is_killed_raises_operator_down_and_nothing_else:
        "BotSecretOperatorDown", OperatorDead, 7, ["BotSecretOperatorDown"];
    a_lease_that_somebody_else_holds_raises_no_leader_and_nothing_else:
        "BotSecretNoLeader", LeaseOfAnother, 4, ["BotSecretNoLeader"];
    a_manager_that_is_stopped_raises_store_down_before_anything_else:
        "BotSecretStoreDown", ManagerDown, 12, ["BotSecretStoreDown"];
    a_manager_that_stays_away_makes_botsecrets_not_ready:
        "BotSecretNotReady", ManagerDown, 20, ["BotSecretStoreDown", "BotSecretNotReady"("StoreUnavailable")];
    a_manager_that_stays_away_for_three_hours_raises_nothing_read:
        "BotSecretNothingRead", ManagerDown, 196,
        ["BotSecretStoreDown", "BotSecretNotReady"("StoreUnavailable"), "BotSecretNothingRead"];
    a_manager_that_answers_429_raises_store_throttled_and_nothing_else:
        "BotSecretStoreThrottled", ManagerThrottles, 20, ["BotSecretStoreThrottled"];
    a_policy_that_is_taken_back_raises_denied_burst_and_nothing_else:
        "BotSecretDeniedBurst", PolicyTakenBack, 4, ["BotSecretDeniedBurst"];
    an_identity_that_asks_for_the_first_time_raises_first_use_and_nothing_else:
        "BotSecretFirstUse", IdentityIsNew, 4, ["BotSecretFirstUse"];
    a_workload_that_ends_on_a_new_value_raises_rotation_halted_and_nothing_else:
        "BotSecretRotationHalted", WorkloadFails, 4, ["BotSecretRotationHalted"];
    a_workload_that_may_not_be_patched_raises_rollout_stuck_and_nothing_else:
        "BotSecretRolloutStuck", PatchRefused, 12, ["BotSecretRolloutStuck"("RolloutRefused")];
    a_value_that_is_taken_back_raises_rolled_back_and_nothing_else:
        "BotSecretRolledBack", ValueTakenBack, 4, ["BotSecretRolledBack"];
    a_value_that_fails_its_trial_raises_candidate_rejected_and_nothing_else:
        "BotSecretCandidateRejected", CandidateFails, 4, ["BotSecretCandidateRejected"];
    a_value_that_nobody_rotates_raises_rotation_overdue_and_nothing_else:
        "BotSecretRotationOverdue", ValueTooOld, 65, ["BotSecretRotationOverdue"];
    a_credential_that_cannot_be_renewed_raises_lease_near_end_and_nothing_else:
        "BotSecretLeaseNearEnd", LeaseUnrenewed, 4, ["BotSecretLeaseNearEnd"];
    a_credential_that_ended_while_no_operator_ran_raises_lease_lost_and_nothing_else:
        "BotSecretLeaseLost", LeaseEnded, 4, ["BotSecretLeaseLost"];
    a_credential_that_may_not_be_revoked_raises_lease_left_to_end_and_nothing_else:
        "BotSecretLeaseLeftToEnd", LeaseKept, 4, ["BotSecretLeaseLeftToEnd"];
    a_pass_that_ends_in_a_panic_raises_fault_and_nothing_else:
        "BotSecretFault", OperatorPanics, 4, ["BotSecretFault"];
}

/// An operator reads without a reason only by a defect of its own, which nothing that
/// breaks around it brings about. So this is only seen to stay silent here; made-up numbers
/// raise it in tests/monitoring.
const NEVER_RAISED: [&str; 1] = ["BotSecretUnexplainedRead"];

/// When what breaks in many installations at once is looked at.
const TOGETHER: u64 = 4;

fn rules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/botsecret/monitoring/alerts.yaml")
}

/// The alerts of the chart, with their severities.
fn severities() -> Result<BTreeMap<String, String>> {
    let rules: Value = serde_yaml::from_str(&std::fs::read_to_string(rules())?)?;
    let rules = rules["groups"][0]["rules"].as_sequence().context("no rules")?;
    let text = |value: &Value| value.as_str().map(str::to_owned).context("no text");
    rules.iter().map(|rule| Ok((text(&rule["alert"])?, text(&rule["labels"]["severity"])?))).collect()
}

impl Case {
    /// The labels of what fires, in an installation of this namespace.
    fn alerts(&self, namespace: &str) -> Result<Vec<BTreeMap<String, String>>> {
        let severities = severities()?;
        let alerts = self.fires.iter().map(|(alert, reason)| {
            let severity = severities.get(*alert).with_context(|| format!("{alert} is no alert"))?;
            // What is absent has no namespace.
            let namespace = if *alert == "BotSecretOperatorDown" { "" } else { namespace };
            let labels =
                [("alertname", *alert), ("namespace", namespace), ("reason", *reason), ("severity", severity.as_str())];
            let labels = labels.into_iter().filter(|(_, value)| !value.is_empty());
            Ok(labels.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
        });
        alerts.collect()
    }
}

/// Nothing fires until it breaks, and exactly what the case says later.
async fn fires(test: &str) -> Result {
    let case = CASES.iter().find(|case| case.test == test).context("no such case")?;
    let scene = scene(case.broken).await?;
    let later = scene.end() + Duration::from_secs(60 * case.minutes);
    let checks = [
        Check { at: scene.healthy_until, fires: Vec::new() },
        Check { at: later, fires: case.alerts(&scene.namespace)? },
    ];
    promtool::run(&promtool::file(&rules(), test, &scene.recordings, &checks))
}

#[test]
fn each_alert_has_a_case_that_raises_it_and_each_case_an_alert() -> Result {
    let alerts: Vec<_> = CASES.iter().map(|case| case.alert.to_owned()).collect();
    let each: BTreeSet<_> = alerts.iter().cloned().collect();
    ensure!(each.len() == alerts.len(), "two cases of one alert: {alerts:?}");
    let mut known: BTreeSet<_> = severities()?.into_keys().collect();
    for alert in NEVER_RAISED {
        ensure!(known.remove(alert), "{alert} is no alert");
    }
    assert_eq!(each, known);
    for case in CASES {
        let raises_it = case.fires.iter().any(|(alert, _)| *alert == case.alert);
        ensure!(raises_it, "{} does not raise {}", case.test, case.alert);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_all_is_well_no_alert_fires_for_hours() -> Result {
    let scenes = every_scene().await?;
    let recordings: Vec<_> = scenes.values().flat_map(|scene| scene.healthy()).collect();
    ensure!(recordings.len() == scenes.len(), "{} of {} were well", recordings.len(), scenes.len());
    let end = scenes.values().map(|scene| scene.healthy_until).max().context("no scene")?;
    let checks =
        [5, 20, 75, 240].map(|minutes| Check { at: end + Duration::from_secs(60 * minutes), fires: Vec::new() });
    promtool::run(&promtool::file(&rules(), "all is well", &recordings, &checks))
}

#[tokio::test(flavor = "multi_thread")]
async fn in_one_prometheus_each_installation_raises_its_own_alerts_under_its_own_namespace() -> Result {
    let scenes = every_scene().await?;
    let recordings: Vec<_> = scenes.values().flat_map(|scene| scene.recordings.clone()).collect();
    let end = scenes.values().map(|scene| scene.end()).max().context("no scene")?;
    let mut fires = Vec::new();
    for case in CASES.iter().filter(|case| case.minutes == TOGETHER) {
        fires.extend(case.alerts(&scenes.get(&case.broken).context("no such scene")?.namespace)?);
    }
    ensure!(fires.len() >= 8, "{fires:?}");
    let checks = [Check { at: end + Duration::from_secs(60 * TOGETHER), fires }];
    promtool::run(&promtool::file(&rules(), "several installations", &recordings, &checks))
}
