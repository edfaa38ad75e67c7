//! What is said of data that did not work. Pure.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};

use super::{
    Trial,
    decide::{Failure, TOO_LONG},
};
use crate::{redact::quotes, secret::SecretData};

/// Longer messages are cut.
const MOST: usize = 200;

/// Why it was rejected: exit code and reason of the container that failed, and
/// what it said, unless that seems to quote a value.
pub(super) fn verdict(trial: &Trial<'_>, failure: &Failure, pods: &[Pod]) -> String {
    let (cron_job, job, data) = (&trial.verify.cron_job, trial.job(), &trial.desired.data);
    let start = format!("CronJob {cron_job}'s Job {job} failed:");
    if failure.reason == TOO_LONG {
        return format!("CronJob {cron_job}'s Job {job} was not done in time ({} s)", trial.timeout().as_secs());
    }
    let Some(ended) = newest_failure(pods) else {
        let reason = word(&failure.reason).unwrap_or("no reason given");
        return format!("{start} {reason}{}", said(&failure.message, data));
    };
    let reason = ended.reason.as_deref().and_then(word).map(|reason| format!(" ({reason})")).unwrap_or_default();
    let message = ended.message.as_deref().unwrap_or_default();
    format!("{start} exit code {}{reason}{}", ended.exit_code, said(message, data))
}

/// How the newest pod's container ended that failed.
fn newest_failure(pods: &[Pod]) -> Option<&ContainerStateTerminated> {
    let mut pods: Vec<&Pod> = pods.iter().collect();
    pods.sort_by_key(|pod| {
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (std::cmp::Reverse(created), pod.metadata.name.clone())
    });
    pods.into_iter().find_map(|pod| {
        let status = pod.status.as_ref()?;
        let containers =
            status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
        let mut ends = containers.flat_map(|container| {
            [&container.state, &container.last_state]
                .map(|state| state.as_ref().and_then(|state| state.terminated.as_ref()))
        });
        ends.find_map(|ended| ended.filter(|ended| ended.exit_code != 0))
    })
}

/// A reason as Kubernetes writes them.
fn word(reason: &str) -> Option<&str> {
    let fits = !reason.is_empty() && reason.len() <= 64 && reason.chars().all(|one| one.is_ascii_alphanumeric());
    fits.then_some(reason)
}

/// What was said, as far as it may be repeated.
pub(crate) fn said(message: &str, data: &SecretData) -> String {
    let shown = shown(message);
    if shown.is_empty() {
        return String::new();
    }
    // A value may also become one only when it is put on one line.
    if quotes(message, data) || quotes(&shown, data) {
        return " (what it said is withheld, since it seems to quote a value)".to_owned();
    }
    let mut short: String = shown.chars().take(MOST).collect();
    if short.len() < shown.len() {
        short.push('…');
    }
    format!(": {short}")
}

/// On one line, without control characters.
fn shown(message: &str) -> String {
    let spaced: String = message.chars().map(|one| if one.is_whitespace() { ' ' } else { one }).collect();
    let visible: String = spaced.chars().filter(|one| !one.is_control()).collect();
    visible.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
