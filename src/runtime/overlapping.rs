//! Whether the values before stay beside the new ones, and what they were where
//! only the managers know.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use super::{Context, syncing, taking_back};
use crate::{
    api::{BotSecret, State, WorkloadChoice},
    apply::{KeepPrevious, overlap_ends},
    audit::{self, Why},
    build::{self, Inputs},
    fetch::ServiceAccount,
    plan::Memory,
    secret::SecretData,
    stores::RemoteKey,
    watch::Observed,
};

/// How long a value stays where the spec does not say.
const PERIOD: Duration = Duration::from_secs(3600);
const SUFFIX: &str = "_PREVIOUS";

/// What the spec asks for.
pub(super) async fn keep_previous(
    context: &Context,
    observed: &Observed,
    account: &ServiceAccount,
    inputs: &Inputs,
) -> Option<KeepPrevious> {
    let object = &observed.bot_secret;
    let target = object.spec.target();
    let asked = target.keep_previous.as_ref()?;
    let recorded = object.status.as_ref().and_then(|status| status.target.as_ref());
    // Later the Secret itself tells.
    let is_first = observed.secret.is_none() && observed.lost.is_none() && recorded.is_none();
    let older = if is_first { older(context, observed, account, inputs).await } else { SecretData::new() };
    Some(KeepPrevious {
        suffix: asked.suffix.clone().unwrap_or_else(|| SUFFIX.to_owned()),
        period: asked.for_.map_or(PERIOD, Into::into),
        keys: asked.keys.iter().cloned().collect(),
        verified: syncing::state_of(observed).is_none_or(|state| is_verified(object, state)),
        older,
    })
}

/// Whether no workload is on its way to what the Secret holds.
fn is_verified(object: &BotSecret, state: &State) -> bool {
    object.spec.workload_choice() == WorkloadChoice::None || taking_back::is_proven(object, state)
}

/// What the managers gave before, as far as they keep that. None of it is needed,
/// so no failure is one.
async fn older(context: &Context, observed: &Observed, account: &ServiceAccount, inputs: &Inputs) -> SecretData {
    let mut before = Inputs { reads: inputs.reads.clone(), ..Inputs::default() };
    let earlier = inputs.reads.iter().filter(|(source, _)| source.key.version.is_none() && !source.key.metadata);
    let wanted = earlier.filter_map(|(source, secret)| {
        let version = match secret.version {
            Some(number) => number.checked_sub(1).filter(|number| *number > 0)?.to_string(),
            None if taking_back::gives_awsprevious(observed, source) => "AWSPREVIOUS".to_owned(),
            None => return None,
        };
        Some((source.clone(), RemoteKey { version: Some(version), dated: false, ..source.key.clone() }))
    });
    for (store, group) in syncing::by_store(observed, wanted.collect(), |(source, _)| &source.store) {
        let keys: Vec<_> = group.iter().map(|(_, key)| key.clone()).collect();
        let answers = context.fetcher.read(store, account, &keys, Instant::now());
        let answers = audit::because(Some(Why::Previous), answers).await;
        for ((source, _), answer) in group.into_iter().zip(answers) {
            if let Ok(secret) = answer {
                before.reads.insert(source, secret);
            }
        }
    }
    build::data(&observed.bot_secret.spec, &before).map(|built| built.data).unwrap_or_default()
}

/// Notes when the first of the values before is over.
pub(super) fn note(state: &State, now: Timestamp, memory: &mut Memory) {
    let left = overlap_ends(state).map(|ends| Duration::try_from(ends.duration_since(now)).unwrap_or_default());
    memory.overlap_ends = left.map(|left| Instant::now() + left);
}

/// Whether one is over and may go.
pub(super) fn is_over(object: &BotSecret, state: Option<&State>, memory: &Memory, now: Instant) -> bool {
    memory.overlap_ends.is_some_and(|at| at <= now) && state.is_some_and(|state| is_verified(object, state))
}
