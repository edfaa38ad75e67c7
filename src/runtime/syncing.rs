//! The half of a pass that makes the Secret true: fetch, build, apply.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{Context, leasing, overlapping, rotating, taking_back, trying};
use crate::{
    api::{BotSecret, CreationPolicy, DeletionPolicy, Revision, State, StoreKind, StoreRef, TargetStatus},
    apply::{Applied, Before, Desired, apply, delete, rolling_digest},
    build::{self, DigestKey, Inputs, Source},
    fetch::{ResolvedStore, ServiceAccount},
    plan::{Memory, Renewal, Retry},
    report::{CandidateReport, Problem, Reason, named_store},
    rollout::Delivery,
    stores::RemoteSecret,
    traces,
    watch::{Observed, SecretFacts},
};

/// An older version, or the disappearance of everything, counts only when it
/// is still so after this time: managers are eventually consistent.
const SECOND_LOOK: Duration = Duration::from_secs(60);

/// What became of the Secret.
pub(super) enum Synced {
    /// It is true.
    Applied(Box<Applied>),
    /// It was deleted, as the deletionPolicy asks.
    Deleted(Problem),
    /// New data is being tried, or was rejected: nothing was written.
    Tried(CandidateReport),
    /// It could not be tried, or not be written; with the keyed fingerprint of
    /// new data.
    Unwritten(Problem, Option<String>),
    /// The operator is to stop: nothing was read, nothing written.
    GivenUp,
}

/// Reads, builds and writes. A thousand of these may wait for their reads at
/// once: each step after that is boxed, so that it takes no room before.
pub(super) async fn sync(
    context: &Context,
    observed: &Observed,
    memory: &mut Memory,
    since: Instant,
    urgent: bool,
) -> Result<Synced, Problem> {
    let object = &observed.bot_secret;
    if let Some(rival) = &observed.older_rival {
        let message = format!(
            "BotSecret {rival} is older and writes Secret {} too: give one of the two another target.name",
            object.target_name()
        );
        return Err(Problem::new(Reason::TargetConflict, Retry::Slow, message));
    }
    trying::check(object)?;
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    for (reference, store) in &observed.stores {
        if let Err(problem) = store {
            return Err(Problem::of_store(reference, namespace, problem));
        }
    }
    let account = observed.account.as_ref().ok_or_else(|| {
        let name = &object.spec.service_account_name;
        Problem::new(
            Reason::IdentityUnavailable,
            Retry::Slow,
            format!("ServiceAccount {name} does not exist in namespace {namespace}: create it, or correct serviceAccountName"),
        )
    })?;
    let inputs = tokio::select! {
        biased;
        inputs = fetch(context, observed, account, memory, since, urgent) => inputs,
        // Whoever waits for a dead manager must not hold up the operator's end.
        () = context.stopping() => return Ok(Synced::GivenUp),
    };
    let mut inputs = match inputs {
        Ok(inputs) => inputs,
        Err(Unread { problem, all_missing }) => {
            return Box::pin(on_failed_read(context, observed, memory, problem, all_missing)).await;
        }
    };
    memory.missing_since = None;
    let versions = versions(observed, memory, &inputs.reads, since)?;
    rotating::note(object, &inputs, memory);
    // Last, and only when all the rest could be read: each is made to be used.
    inputs.issued = Box::pin(leasing::issued(context, observed, account, memory, &inputs)).await?;
    let built = build::data(&object.spec, &inputs).map_err(|error| Problem::of_build(&error))?;
    memory.renewal = renewal(memory, &inputs.reads, Instant::now());
    let keep_previous = Box::pin(overlapping::keep_previous(context, observed, account, &inputs)).await;
    drop(inputs);
    let data = built.data;
    let digests = context.digest_key.digests(namespace, object.target_name(), &data);
    let mut desired = Desired::new(object, data, digests, versions).ok_or_else(Problem::nameless)?;
    desired.quiet = built.quiet;
    desired.keep_previous = keep_previous;
    desired.renewal = memory.renewal.and_then(|renewal| renewal.to_times(Instant::now(), context.now()));
    desired.annotations.extend(leasing::annotation(context, observed, memory));
    desired.takes_over.clone_from(&observed.younger_rivals);
    if let Some(applied) = Box::pin(taking_back::hold_off(context, observed, &desired)).await? {
        Box::pin(trying::clean(context, observed, &desired, memory)).await;
        return Ok(Synced::Applied(Box::new(applied)));
    }
    desired.origin = leasing::origin(object);
    match Box::pin(try_and_write(context, observed, memory, &desired)).await {
        // A lost race is run again at once.
        Err(problem) if problem.retry != Retry::Soon => {
            let found = trying::detected(context, observed, &desired);
            Ok(Synced::Unwritten(problem, found))
        }
        result => result,
    }
}

async fn try_and_write(
    context: &Context,
    observed: &Observed,
    memory: &mut Memory,
    desired: &Desired,
) -> Result<Synced, Problem> {
    let before = before(context, observed, desired);
    if let Some(candidate) = Box::pin(trying::gate(context, observed, desired, &before)).await? {
        return Ok(Synced::Tried(candidate));
    }
    Box::pin(taking_back::keep(context, observed, desired)).await?;
    let turn = context.writes.turn().await;
    let write = Box::pin(apply(&context.client, desired, &context.digest_key, &before, context.now()));
    let applied = traces::applying(&desired.name, write).await.map_err(|error| Problem::of_apply(&error))?;
    drop(turn);
    Box::pin(trying::clean(context, observed, desired, memory)).await;
    Ok(Synced::Applied(Box::new(applied)))
}

struct Unread {
    problem: Problem,
    all_missing: bool,
}

/// Searches, then reads every remote secret, those of one store together. All
/// or nothing.
async fn fetch(
    context: &Context,
    observed: &Observed,
    account: &ServiceAccount,
    memory: &mut Memory,
    since: Instant,
    urgent: bool,
) -> Result<Inputs, Unread> {
    let spec = &observed.bot_secret.spec;
    let mut problems: Vec<Problem> = Vec::new();
    let searching = by_store(observed, build::searches(spec), |search| &search.store);
    let searching = searching.into_iter().map(|(store, searches)| async move {
        let _turn = if urgent { None } else { context.lanes.turn(store).await };
        let finds = searches.iter().map(|search| context.fetcher.find(store, account, &search.query, since));
        let answers = futures::future::join_all(finds).await;
        (store, searches.into_iter().zip(answers).collect::<Vec<_>>())
    });
    let mut inputs = Inputs::default();
    for (store, answers) in futures::future::join_all(searching).await {
        for (search, answer) in answers {
            match answer {
                Ok(keys) => drop(inputs.found.insert(search, keys)),
                Err(error) => problems.push(Problem::of_find(store, &error)),
            }
        }
    }
    if !problems.is_empty() {
        return Err(unread(memory, problems, false));
    }
    let reading = by_store(observed, build::sources(spec, &inputs.found), |source| &source.store);
    let reading = reading.into_iter().map(|(store, sources)| async move {
        let _turn = if urgent { None } else { context.lanes.turn(store).await };
        let keys: Vec<_> = sources.iter().map(|source| source.key.clone()).collect();
        let answers = context.fetcher.read(store, account, &keys, since).await;
        (store, sources.into_iter().zip(answers).collect::<Vec<_>>())
    });
    let (mut asked, mut missing) = (0, 0);
    for (store, answers) in futures::future::join_all(reading).await {
        for (source, answer) in answers {
            asked += 1;
            match answer {
                Ok(secret) => drop(inputs.reads.insert(source, secret)),
                Err(error) => {
                    let keys = build::keys_filled_by(spec, &source);
                    let problem = Problem::of_read(store, &source.key, &keys, &error);
                    missing += usize::from(problem.reason == Reason::RemoteSecretMissing);
                    problems.push(problem);
                }
            }
        }
    }
    if problems.is_empty() {
        memory.waits_for = None;
        return Ok(inputs);
    }
    Err(unread(memory, problems, missing == asked))
}

/// What each of these asks of which store.
pub(super) fn by_store<T>(
    observed: &Observed,
    wanted: Vec<T>,
    store_of: impl Fn(&T) -> &StoreRef,
) -> Vec<(&Arc<ResolvedStore>, Vec<T>)> {
    let mut by_store: BTreeMap<&str, (&Arc<ResolvedStore>, Vec<T>)> = BTreeMap::new();
    for one in wanted {
        let wanted = store_of(&one);
        let store = observed.stores.iter().find(|(reference, _)| {
            reference.name == wanted.name && reference.kind.unwrap_or_default() == wanted.kind.unwrap_or_default()
        });
        if let Some((_, Ok(store))) = store {
            by_store.entry(&store.uid).or_insert_with(|| (store, Vec::new())).1.push(one);
        }
    }
    by_store.into_values().collect()
}

fn unread(memory: &mut Memory, problems: Vec<Problem>, all_missing: bool) -> Unread {
    memory.waits_for = problems.iter().find_map(|problem| problem.store_out.clone());
    // What somebody must mend is said before what passes by itself.
    let first = problems.into_iter().min_by_key(|problem| problem.reason.is_outage());
    let problem = first.unwrap_or_else(|| Problem::new(Reason::InternalError, Retry::Slow, "nothing failed"));
    Unread { problem, all_missing }
}

/// A read that failed ends the pass, unless everything is gone for good and
/// the deletionPolicy says that the Secret goes too.
async fn on_failed_read(
    context: &Context,
    observed: &Observed,
    memory: &mut Memory,
    problem: Problem,
    all_missing: bool,
) -> Result<Synced, Problem> {
    let wanted = observed.bot_secret.spec.target().deletion_policy == Some(DeletionPolicy::Delete);
    if !all_missing {
        memory.missing_since = None;
        return Err(problem);
    }
    let since = *memory.missing_since.get_or_insert_with(Instant::now);
    let Some(facts) = observed.secret.as_ref().filter(|_| wanted) else { return Err(problem) };
    let ours = observed.bot_secret.metadata.name.as_deref().map(crate::api::owner_label);
    if facts.owner() != ours.as_deref() {
        return Err(problem);
    }
    if since.elapsed() < SECOND_LOOK {
        return Err(Problem { retry: Retry::Within(SECOND_LOOK.saturating_sub(since.elapsed())), ..problem });
    }
    delete(&context.client, facts).await.map_err(|error| Problem::of_apply(&error))?;
    Ok(Synced::Deleted(problem))
}

/// The versions that were read. One older than the applied one counts only
/// when it is seen again after [`SECOND_LOOK`].
fn versions(
    observed: &Observed,
    memory: &mut Memory,
    reads: &BTreeMap<Source, Arc<RemoteSecret>>,
    now: Instant,
) -> Result<BTreeMap<String, u64>, Problem> {
    let applied = state_of(observed).map(|state| &state.versions);
    let mut versions = BTreeMap::new();
    for (source, secret) in reads.iter().filter(|(source, _)| source.key.version.is_none() && !source.key.metadata) {
        let Some(version) = secret.version else { continue };
        let name = version_name(source);
        if applied.and_then(|applied| applied.get(&name)).is_some_and(|applied| version < *applied) {
            let (_, first) = *memory
                .older_seen
                .entry(name.clone())
                .and_modify(|seen| {
                    if seen.0 != version {
                        *seen = (version, now);
                    }
                })
                .or_insert((version, now));
            let seen_for = now.saturating_duration_since(first);
            if seen_for < SECOND_LOOK {
                let message = format!(
                    "{}, remote secret {}: it answers with version {version}, older than the applied one; that counts if it still does so in a minute",
                    named_store(&source.store),
                    source.key
                );
                return Err(Problem::new(
                    Reason::StaleRead,
                    Retry::Within(SECOND_LOOK.saturating_sub(seen_for)),
                    message,
                ));
            }
        } else {
            memory.older_seen.remove(&name);
        }
        versions.insert(name, version);
    }
    Ok(versions)
}

/// Under which name the version of a remote secret is on record.
pub(super) fn version_name(source: &Source) -> String {
    match source.store.kind.unwrap_or_default() {
        StoreKind::BotSecretStore => format!("{}:{}", source.store.name, source.key.key),
        StoreKind::ClusterBotSecretStore => format!("cluster/{}:{}", source.store.name, source.key.key),
    }
}

/// When the first of the values that were read is to be had anew. The same as
/// before where it is the same value still.
fn renewal(memory: &Memory, reads: &BTreeMap<Source, Arc<RemoteSecret>>, now: Instant) -> Option<Renewal> {
    let due = reads.values().filter_map(|secret| secret.renew).min()?;
    Some(memory.renewal.filter(|before| before.due == due).unwrap_or_else(|| Renewal::of_new(due, now)))
}

/// The state that lies on the Secret for this BotSecret.
pub(super) fn state_of(observed: &Observed) -> Option<&State> {
    let facts = observed.secret.as_deref()?;
    facts.state_in(&state_annotation(&observed.bot_secret))
}

/// Whether the Secret is older than the revision on record: a backup was restored,
/// and this could not be put right yet. Its state says nothing about what pods are
/// to hold.
pub(super) fn is_outdated(object: &BotSecret, state: &State) -> bool {
    let target = object.status.as_ref().and_then(|status| status.target.as_ref());
    let recorded = target.filter(|target| target.name == object.target_name());
    let recorded = recorded.and_then(|target| target.revision.parse::<Revision>().ok());
    recorded.is_some_and(|recorded| recorded.number > state.revision.number)
}

pub(super) fn state_annotation(object: &BotSecret) -> String {
    match object.spec.target().creation_policy {
        Some(CreationPolicy::Merge) => {
            crate::api::state_annotation(object.metadata.name.as_deref().unwrap_or_default())
        }
        _ => crate::api::ANNOTATION_STATE.to_owned(),
    }
}

/// What is on record of the Secret and of what pods hold.
pub(super) fn before<'a>(context: &Context, observed: &'a Observed, desired: &Desired) -> Before<'a> {
    let object = &observed.bot_secret;
    let status = object.status.as_ref();
    let recorded =
        status.and_then(|status| status.target.as_ref()).filter(|target| target.name == object.target_name());
    let rollout = status.and_then(|status| status.rollout.as_ref());
    // A Secret that was deleted because everything at the source was gone left
    // its revision with the rollout: pods may hold it still.
    let left = rollout.filter(|_| status.is_some_and(|status| status.target.is_none()));
    let revision = recorded.map(|target| &target.revision).or(left.map(|rollout| &rollout.revision));
    let revision = revision.and_then(|revision| revision.parse::<Revision>().ok());
    let delivered = revision.as_ref().is_some_and(|revision| {
        rollout.is_some_and(|rollout| rollout.complete && rollout.revision == revision.to_string())
    });
    Before {
        cached: observed.secret.as_deref(),
        recorded,
        revision,
        changed_since_handed: changed_since_handed(&context.digest_key, observed, desired),
        delivered,
        lost: observed.lost.as_deref(),
    }
}

/// Keys of which the workloads' own records say that pods hold another value:
/// these records outlive a BotSecret that was deleted together with its Secret.
/// `None` where there is no record.
fn changed_since_handed(key: &DigestKey, observed: &Observed, desired: &Desired) -> Option<BTreeSet<String>> {
    let annotation = crate::api::delivery_annotation(&desired.name);
    let (mut any, mut same, mut changed) = (false, BTreeSet::new(), BTreeSet::new());
    for workload in &observed.workloads {
        let record = workload.records.get(&annotation).and_then(|text| Delivery::parse(text));
        let Some((record, usage)) = record.zip(workload.uses(&desired.name)) else { continue };
        any = true;
        // Made with a digest key that was lost, it cannot be compared: losing
        // the key must roll nothing.
        if record.key != key.id() {
            continue;
        }
        let used = desired.digests.keys().filter(|key| usage.uses(key) && !desired.quiet.contains(*key)).cloned();
        if record.held == key.fingerprint(&usage.used_of(&desired.rolling_digests())) {
            same.extend(used);
        } else {
            changed.extend(used);
        }
    }
    any.then(|| &changed - &same)
}

/// What the status records of a Secret.
pub(super) fn target_status(key: &DigestKey, facts: &SecretFacts, state: &State) -> TargetStatus {
    TargetStatus {
        name: facts.name.clone(),
        uid: facts.uid.clone(),
        resource_version: facts.resource_version.clone(),
        revision: state.revision.to_string(),
        rolling: rolling_digest(key, &state.digests, &state.quiet),
        quiet: state.quiet.iter().cloned().collect(),
    }
}
