//! The part of a pass that looks after leased credentials: issues them when
//! they are due and never otherwise, keeps them alive, and ends them once no
//! pod may hold them.
//!
//! What is on record lies in the status, what was issued on the Secret; both
//! are looked at anew after a restart, so nothing here is lost with the process
//! but the logins' tokens.

mod demanded;
mod end;
mod first_look;
mod foresee;
mod issue;
mod keep;
mod release;
mod restore;
mod stages;

use std::{sync::Arc, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use tokio::time::Instant;

use self::{
    demanded::{condemned, is_demanded, note_demand},
    stages::{align, doubt, is_untouched, names_workloads},
};
use super::{Context, syncing};
use crate::{
    api::{
        BotSecret, BotSecretStatus, CreationPolicy, DynamicRef, LeaseStatus, RotationPhase, StoreRef, issued_annotation,
    },
    apply::Origin,
    fetch::ResolvedStore,
    leases::{FINALIZER, Facts, Fingerprint, Held, Holdings, Keys, Record, Stage, Step, decide, renewal},
    plan::Memory,
    report::{Notice, Reason},
    rollout::enter,
    secret::SecretText,
    stores::{Payload, RemoteSecret},
    watch::Observed,
};

pub(super) use demanded::old_credentials;
pub(super) use end::conclude;
pub(super) use first_look::first_look;
pub(super) use issue::issued;
pub(super) use restore::{Back, Restorable, restorable, restore};

const CONDITION: &str = "LeasesRenewable";
/// When a credential is looked at again that is due as soon as it is there.
const SOON: Duration = Duration::from_secs(1);

/// One entry of the spec that is issued.
struct Entry<'a> {
    index: usize,
    fingerprint: Fingerprint,
    reference: &'a StoreRef,
    store: &'a Arc<ResolvedStore>,
    asked: &'a DynamicRef,
}

/// Those entries whose store can be used.
fn entries<'a>(keys: &Keys, observed: &'a Observed) -> Vec<Entry<'a>> {
    let spec = &observed.bot_secret.spec;
    let dynamic = spec.data_from.iter().enumerate().filter_map(|(index, entry)| {
        let reference = entry.store_ref.as_ref().or(spec.store_ref.as_ref())?;
        Some((index, reference, entry.dynamic.as_ref()?))
    });
    let found = dynamic.filter_map(|(index, reference, asked)| {
        let store = store_of(observed, reference)?;
        let fingerprint = Fingerprint::of(keys, reference, &spec.service_account_name, asked);
        Some(Entry { index, fingerprint, reference, store, asked })
    });
    found.collect()
}

fn store_of<'a>(observed: &'a Observed, reference: &StoreRef) -> Option<&'a Arc<ResolvedStore>> {
    let same = |other: &StoreRef| {
        other.name == reference.name && other.kind.unwrap_or_default() == reference.kind.unwrap_or_default()
    };
    observed.stores.iter().find(|(other, _)| same(other)).and_then(|(_, store)| store.as_ref().ok())
}

fn has_finalizer(object: &BotSecret) -> bool {
    object.metadata.finalizers.iter().flatten().any(|name| name == FINALIZER)
}

fn uid_of(object: &BotSecret) -> &str {
    object.metadata.uid.as_deref().unwrap_or_default()
}

fn annotation_name(object: &BotSecret) -> String {
    let merges = object.spec.target().creation_policy == Some(CreationPolicy::Merge);
    issued_annotation(object.metadata.name.as_deref().unwrap_or_default(), merges)
}

/// Whether it is being deleted and waits for its credentials to end.
pub(super) fn is_ending(object: &BotSecret) -> bool {
    object.metadata.deletion_timestamp.is_some() && has_finalizer(object)
}

/// Whether there is anything to look after.
fn concerns(object: &BotSecret, holdings: &Holdings) -> bool {
    let on_record = object.status.as_ref().is_some_and(|status| !status.leases.is_empty());
    let asked = object.spec.data_from.iter().any(|entry| entry.dynamic.is_some());
    asked || on_record || !holdings.held.is_empty() || has_finalizer(object)
}

/// Keeps what was issued alive, ends what is to end, and says whether something
/// is to be issued.
pub(super) async fn tend(context: &Context, observed: &Observed, memory: &mut Memory) {
    let object = &observed.bot_secret;
    if !concerns(object, &memory.leases) {
        (memory.leases.next, memory.leases.due) = (None, false);
        return;
    }
    let keys = Keys::of(&context.digest_key);
    load(context, &keys, observed, &mut memory.leases).await;
    note_demand(object, memory);
    let entries = entries(&keys, observed);
    align(observed, &entries, &mut memory.leases, context.now());
    let released = release::released(context, observed, &mut memory.leases).await;
    let holdings = &mut memory.leases;
    holdings.next = holdings.look;
    let mut gone = Vec::new();
    for at in 0..holdings.held.len() {
        let released = holdings.held.get(at).is_some_and(|held| released.contains(&held.record.accessor));
        let mut step = step(&entries, holdings, at, released);
        if step == Step::Renew {
            keep::renew(context, observed, holdings, at).await;
            step = self::step(&entries, holdings, at, released);
        }
        let Some(held) = holdings.held.get(at) else { continue };
        match step {
            Step::Wait(until) => wake(&mut holdings.next, until),
            Step::Renew => wake(&mut holdings.next, held.retry),
            Step::Replace => {
                let until = facts(&entries, holdings, at, released).and_then(|facts| renewal(&facts, holdings.rollout));
                wake(&mut holdings.next, until);
            }
            Step::Ended => {
                tracing::info!(
                    bot_secret = object.metadata.name,
                    namespace = object.metadata.namespace,
                    "a replaced credential ended by itself"
                );
                gone.push(at);
            }
            Step::Revoke if held.retry.is_some_and(|retry| retry > Instant::now()) => {
                wake(&mut holdings.next, held.retry);
            }
            Step::Revoke => {
                if end::revoke(context, observed, holdings, at, false).await {
                    gone.push(at);
                } else {
                    wake(&mut holdings.next, holdings.held.get(at).and_then(|held| held.retry));
                }
            }
        }
    }
    for at in gone.into_iter().rev() {
        holdings.held.remove(at);
    }
    holdings.due = entries.iter().any(|entry| standing(entry, holdings, &entries).is_none());
    count(context, holdings);
    if holdings.held.iter().all(|held| held.login.is_some() || !held.record.is_revocable()) {
        end::dismiss(context, observed, holdings).await;
    }
    if !holdings.due || memory.failures > 0 {
        let_go_of_nothing(context, object, memory).await;
    }
}

/// Takes the finalizer off where there is nothing to revoke: also where an issue
/// failed that is to be tried again, since nobody may be there to do so.
pub(super) async fn let_go_of_nothing(context: &Context, object: &BotSecret, memory: &mut Memory) {
    let holdings = &mut memory.leases;
    if has_finalizer(object) && holdings.held.iter().all(|held| !held.record.is_revocable()) {
        end::let_go(context, object, holdings).await;
    }
}

/// The Secret was written: what lies on it now is live, and what it took the
/// place of retires.
pub(super) fn after_write(context: &Context, observed: &Observed, memory: &mut Memory) {
    if !memory.leases.loaded {
        return;
    }
    note_demand(&observed.bot_secret, memory);
    let keys = Keys::of(&context.digest_key);
    align(observed, &entries(&keys, observed), &mut memory.leases, context.now());
    if memory.leases.held.iter().any(|held| held.record.stage == Stage::Retiring) && memory.leases.look.is_none() {
        memory.leases.look = Some(Instant::now() + release::FIRST_LOOK);
    }
    let next = &mut memory.leases.next;
    wake(next, memory.leases.look);
    // What was issued in this pass has its first deadline.
    let entries = self::entries(&keys, observed);
    let suspended = observed.bot_secret.spec.suspend == Some(true);
    for at in 0..memory.leases.held.len() {
        let retry = memory.leases.held.get(at).and_then(|held| held.retry);
        let until = match step(&entries, &memory.leases, at, false) {
            Step::Wait(until) => until,
            // What failed has a wait of its own, and what is suspended none; both
            // are kept alive for as long.
            Step::Replace if memory.failures > 0 || suspended => {
                facts(&entries, &memory.leases, at, false).and_then(|facts| renewal(&facts, memory.leases.rollout))
            }
            Step::Renew | Step::Replace => retry.or_else(|| Some(Instant::now() + SOON)),
            Step::Revoke if condemned(&memory.leases, at) => retry.or_else(|| Some(Instant::now())),
            Step::Revoke | Step::Ended => retry,
        };
        wake(&mut memory.leases.next, until);
    }
    count(context, &mut memory.leases);
}

fn wake(next: &mut Option<Instant>, at: Option<Instant>) {
    *next = [*next, at].into_iter().flatten().min();
}

fn count(context: &Context, holdings: &mut Holdings) {
    holdings.counted.set(&context.metrics.leases, holdings.held.len());
}

/// What is known of one of them.
fn facts<'a>(entries: &[Entry<'_>], holdings: &'a Holdings, at: usize, released: bool) -> Option<Facts<'a>> {
    let held = holdings.held.get(at)?;
    let wanted = entries.iter().any(|entry| chosen(entry, holdings, entries) == Some(at));
    Some(Facts {
        stage: held.record.stage,
        wanted,
        has_values: held.values.is_some(),
        parts: held.parts.as_deref(),
        token: held.token,
        retry: held.retry,
        released,
        came_back: holdings.came_back,
        condemned: condemned(holdings, at),
    })
}

/// What to do about one of them.
fn step(entries: &[Entry<'_>], holdings: &Holdings, at: usize, released: bool) -> Step {
    let facts = facts(entries, holdings, at, released);
    facts.map_or(Step::Wait(None), |facts| decide(&facts, Instant::now(), holdings.rollout))
}

/// Which credential is for an entry. Two entries may ask the same: then each
/// has one, in their order.
fn chosen(entry: &Entry<'_>, holdings: &Holdings, entries: &[Entry<'_>]) -> Option<usize> {
    let mut fitting: Vec<(usize, &Held)> =
        holdings.held.iter().enumerate().filter(|(_, held)| is_candidate(held, &entry.fingerprint)).collect();
    fitting.sort_by_key(|(_, held)| (held.values.is_none(), held.record.index, std::cmp::Reverse(held.record.issued)));
    let alike: Vec<_> = entries.iter().filter(|other| other.fingerprint == entry.fingerprint).collect();
    if let [_] = alike.as_slice() {
        return fitting.first().map(|(at, _)| *at);
    }
    // Those at their own place first, then whatever is left over.
    let at_home = |index: usize, fitting: &[(usize, &Held)]| {
        fitting.iter().find(|(_, held)| held.record.index == index).map(|(at, _)| *at)
    };
    let mut left = fitting.clone();
    let mut homeless = Vec::new();
    for other in alike {
        match at_home(other.index, &left) {
            Some(at) if other.index == entry.index => return Some(at),
            Some(at) => left.retain(|(held, _)| *held != at),
            None => homeless.push(other.index),
        }
    }
    let place = homeless.iter().position(|index| *index == entry.index)?;
    left.get(place).map(|(at, _)| *at)
}

fn is_candidate(held: &Held, fingerprint: &Fingerprint) -> bool {
    let stage = match held.record.stage {
        Stage::Live => true,
        Stage::Issuing => held.values.is_some(),
        Stage::Retiring => false,
    };
    stage && !held.superseded && held.record.entry == *fingerprint
}

/// The credential of an entry, if it need not be replaced.
fn standing(entry: &Entry<'_>, holdings: &Holdings, entries: &[Entry<'_>]) -> Option<usize> {
    // Not by its step: what is to be replaced now is renewed until it is.
    let good = |at: &usize| !is_demanded(holdings, *at) && step(entries, holdings, *at, false) != Step::Replace;
    chosen(entry, holdings, entries).filter(good)
}

/// Takes in what is on record, in the status and on the Secret.
async fn load(context: &Context, keys: &Keys, observed: &Observed, holdings: &mut Holdings) {
    if holdings.loaded {
        return;
    }
    holdings.loaded = true;
    let object = &observed.bot_secret;
    let uid = uid_of(object);
    let mut ignored = 0;
    for status in object.status.iter().flat_map(|status| &status.leases) {
        match Record::from_status(status, keys, uid) {
            Some(record) => holdings.held.push(Held::recorded(record)),
            None => ignored += 1,
        }
    }
    for text in on_secret(observed).split(' ').filter(|text| !text.is_empty()) {
        let Some(sealed) = keys.open(uid, text) else { continue };
        let accessor = &sealed.record.accessor;
        let known = holdings.held.iter().position(|held| held.record.accessor == *accessor);
        let held = if let Some(at) = known {
            holdings.held.get_mut(at)
        } else {
            holdings.held.push(Held::recorded(sealed.record.clone()));
            holdings.held.last_mut()
        };
        let Some(held) = held else { continue };
        if held.record.stage == Stage::Issuing {
            // The Secret was written, and the operator died before the status.
            held.record = sealed.record;
        }
        let came_back = syncing::state_of(observed).is_some_and(|state| state.taken_back.is_some());
        held.values = (came_back || held.record.stage != Stage::Retiring).then(|| remote(sealed.values));
        held.sealed = Some(text.to_owned());
    }
    if !is_untouched(observed) {
        doubt(observed, holdings, context.now());
    }
    for held in &mut holdings.held {
        held.parts = keep::own_clock(&held.record, context.now());
        held.token = keep::token(&held.record, context.now());
    }
    if ignored > 0 {
        context.metrics.lease_records_ignored.inc_by(ignored);
        let note = format!(
            "{ignored} records under status.leases are not the operator's own and were ignored: nothing was renewed or revoked for them"
        );
        tracing::warn!(namespace = object.metadata.namespace, bot_secret = object.metadata.name, "{note}");
        let notice = Notice { warning: true, reason: "LeaseRecordIgnored", action: "Lease", note };
        context.emitter.publish(object, &[notice]).await;
    }
}

fn remote(values: SecretText) -> Arc<RemoteSecret> {
    Arc::new(RemoteSecret::of(Payload::Json(values)))
}

/// What lies sealed on the Secret.
fn on_secret(observed: &Observed) -> String {
    let facts = observed.secret.as_ref().filter(|facts| !facts.deleting);
    let text = facts.and_then(|facts| facts.annotations.get(&annotation_name(&observed.bot_secret)));
    text.cloned().unwrap_or_default()
}

/// The annotation that the Secret is to have: name and text.
pub(super) fn annotation(context: &Context, observed: &Observed, memory: &Memory) -> Option<(String, String)> {
    let holdings = &memory.leases;
    if !holdings.loaded {
        return None;
    }
    let keys = Keys::of(&context.digest_key);
    let entries = entries(&keys, observed);
    let sealed = entries.iter().filter_map(|entry| chosen(entry, holdings, &entries));
    let sealed: Vec<&str> = sealed.filter_map(|at| holdings.held.get(at)?.sealed.as_deref()).collect();
    let text = sealed.join(" ");
    // What lay there for entries that are gone goes too.
    (!text.is_empty() || !on_secret(observed).is_empty()).then(|| (annotation_name(&observed.bot_secret), text))
}

/// The same of credentials that come back.
pub(super) fn sealed(object: &BotSecret, text: &str) -> Option<(String, String)> {
    (!text.is_empty()).then(|| (annotation_name(object), text.to_owned()))
}

/// Where data comes from of which a credential is part: as long as that is given
/// which came back, what took its place stays on record as taken back.
pub(super) fn origin(object: &BotSecret) -> Origin {
    let is_leased = object.spec.data_from.iter().any(|entry| entry.dynamic.is_some());
    if is_leased { Origin::Pinned } else { Origin::Source }
}

/// What the status says of them.
pub(super) fn report(context: &Context, object: &BotSecret, memory: &Memory, next: &mut BotSecretStatus) {
    let holdings = &memory.leases;
    if !holdings.loaded {
        return;
    }
    let keys = Keys::of(&context.digest_key);
    next.leases = holdings.held.iter().map(|held| held.record.to_status(&keys, uid_of(object))).collect();
    let retiring = |leases: &[LeaseStatus]| leases.iter().any(|lease| lease.state == Stage::Retiring.name());
    let had = object.status.as_ref().is_some_and(|status| retiring(&status.leases));
    if let Some(rotation) = next.rotation.as_mut().filter(|one| one.phase == RotationPhase::Verified)
        && had
        && !retiring(&next.leases)
    {
        enter(rotation, RotationPhase::OldRetired, context.now());
    }
    let refusal = holdings.held.iter().find_map(|held| held.refusal.clone());
    let before = next.conditions.iter().find(|condition| condition.type_ == CONDITION).cloned();
    next.conditions.retain(|condition| condition.type_ != CONDITION);
    if let Some(message) = refusal {
        next.conditions.push(Condition {
            type_: CONDITION.to_owned(),
            status: "False".to_owned(),
            reason: Reason::LeaseNotRenewable.name().to_owned(),
            message,
            last_transition_time: before.map_or_else(|| Time(context.now()), |before| before.last_transition_time),
            observed_generation: object.metadata.generation,
        });
    }
}
