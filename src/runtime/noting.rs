//! What a pass notes for the next one: how the read went, and when it is due again.

use tokio::time::Instant;

use super::{Context, pass::since_epoch, trying};
use crate::{
    api::BotSecret,
    apply::{Applied, Effect},
    plan::{Memory, Retry, is_synced, is_tried, retry_delay},
    report::Problem,
    watch::Observed,
};

/// How often a lost race is run again before it is reported as a failure.
const RACES: u32 = 5;

/// Counts and logs what was written.
pub(super) fn note_written(context: &Context, object: &BotSecret, applied: &Applied, memory: &mut Memory) {
    if applied.repaired {
        memory.repairs.note(Instant::now());
        context.metrics.repairs.inc();
    }
    if applied.rotated {
        context.metrics.rotations.inc();
    }
    if applied.effect != Effect::Unchanged {
        tracing::info!(
            namespace = object.metadata.namespace,
            bot_secret = object.metadata.name,
            secret = applied.facts.name,
            revision = %applied.state.revision,
            created = applied.effect == Effect::Created,
            rotated = applied.rotated,
            repaired = applied.repaired,
            "Secret written"
        );
    }
}

/// Says it once: an outage of an hour is not hundreds of news.
pub(super) fn log_failure(object: &BotSecret, problem: &Problem, failures: u32, news: bool) {
    let (namespace, bot_secret) = (&object.metadata.namespace, &object.metadata.name);
    let reason = problem.reason.name();
    if news {
        tracing::warn!(namespace, bot_secret, reason, failures, "{}", problem.message);
    } else {
        tracing::debug!(namespace, bot_secret, reason, failures, "still failing");
    }
}

/// Notes that everything was read, and is in the Secret.
pub(super) fn was_read(context: &Context, memory: &mut Memory) {
    let time = context.now();
    (memory.last_success, memory.synced_at) = (Some(Instant::now()), Some(time));
    context.metrics.last_success.set(since_epoch(time).as_secs_f64());
}

/// Notes that the Secret is as it is to be.
pub(super) fn succeeded(context: &Context, observed: &Observed, memory: &mut Memory) {
    let object = &observed.bot_secret;
    memory.failures = 0;
    memory.failed_at = None;
    memory.failing_since = None;
    memory.waits_for = None;
    memory.problem = None;
    let now = Instant::now();
    memory.read_generation = object.metadata.generation;
    let period = object.spec.interval().period();
    let tick = period.map(|period| context.clock.next_tick(now, period, &identity(observed)));
    let renewal = memory.renewal.map(|renewal| renewal.due);
    memory.next_read = tick.into_iter().chain(renewal).chain(trying::clean_again(memory)).min();
}

/// Notes a failure. Answers whether Ready must be False by now.
pub(super) fn failed(observed: &Observed, memory: &mut Memory, problem: &Problem) -> bool {
    let object = &observed.bot_secret;
    let now = Instant::now();
    memory.failures = memory.failures.saturating_add(1);
    memory.failed_at = (!matches!(problem.retry, Retry::After(_))).then_some(now);
    memory.failing_since.get_or_insert(now);
    memory.problem = Some(problem.clone());
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let has_data = object.status.as_ref().is_some_and(|status| status.target.is_some());
    let wait = retry_delay(problem.retry, memory.failures, object.spec.interval(), has_data, uid);
    memory.next_read = Some(now + wait);
    memory.read_generation = object.metadata.generation;
    let too_old = stale_from(object, memory).is_some_and(|from| from <= now);
    let lasting = problem.retry != Retry::Soon || memory.failures > RACES;
    lasting && (too_old || !is_synced(object) && !is_tried(object))
}

/// From when on the data that a failing object has is too old to be Ready.
pub(super) fn stale_from(object: &BotSecret, memory: &Memory) -> Option<Instant> {
    let failing_since = memory.failing_since?;
    let three = object.spec.interval().period().and_then(|period| period.checked_mul(3));
    let too_old = three.and_then(|three| memory.last_success.unwrap_or(failing_since).checked_add(three));
    let ended = memory.renewal.map(|renewal| renewal.ends.max(failing_since));
    too_old.into_iter().chain(ended).min()
}

/// Whose refreshes share a grid: one ServiceAccount's at one store.
fn identity(observed: &Observed) -> String {
    let store = observed.stores.values().flatten().next().map_or("", |store| store.uid.as_str());
    let account = observed.account.as_ref().map_or("", |account| account.uid.as_str());
    format!("{store}/{account}")
}
