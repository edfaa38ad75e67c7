//! The end: of one credential, and of a BotSecret.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use k8s_openapi::{api::events::v1::Event, apimachinery::pkg::apis::meta::v1::MicroTime, jiff::SignedDuration};
use kube::{
    Api, Resource,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::time::Instant;

use super::{
    super::{Context, done::Stopped},
    count, has_finalizer, keep, load, uid_of,
};
use crate::{
    api::BotSecret,
    audit::{self, Asker, Kind, Remote, StoreName},
    deadline::within,
    fetch::{Desk, ResolvedStore, ServiceAccount},
    leases::{FINALIZER, Holdings, Keys, Record, Steward},
    plan::Memory,
    report::Reason,
    stores::{ErrorClass, IssuingLogin, Revoked, StoreError},
    watch::Observed,
};

/// How long a deletion waits for a manager that does not answer.
const PATIENCE: SignedDuration = SignedDuration::from_mins(5);
/// The same where the namespace goes, whose controller looks again only every so
/// often.
const PATIENCE_OF_NAMESPACE: SignedDuration = SignedDuration::from_secs(10);
/// How long the last try may take there.
const LAST_TRY_OF_NAMESPACE: Duration = Duration::from_secs(2);
/// A revocation without a store to say how long it may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// The same of a login that only looked after others.
const DISMISSAL: Duration = Duration::from_secs(8);
/// How seldom at most the finalizer is tried to be taken off.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Ends one credential. Whether it is off our hands: gone, or left to end with
/// its login because nothing lets us end it.
pub(super) async fn revoke(
    context: &Context,
    observed: &Observed,
    holdings: &mut Holdings,
    at: usize,
    deleting: bool,
) -> bool {
    let Some(record) = holdings.held.get(at).map(|held| held.record.clone()) else { return true };
    if !record.is_revocable() {
        return true;
    }
    let object = &observed.bot_secret;
    let (namespace, bot_secret) = (&object.metadata.namespace, &object.metadata.name);
    let error = match revoked(context, observed, holdings, at, &record).await {
        Ok(how) => {
            context.metrics.lease_revocations.inc();
            note_end(holdings, &record, true);
            let before = how == Revoked::Before;
            tracing::info!(namespace, bot_secret, stage = ?record.stage, ended_before = before, "a credential was revoked");
            return true;
        }
        Err(error) => error,
    };
    let lasting = match error.class {
        ErrorClass::Denied | ErrorClass::Invalid | ErrorClass::Missing => true,
        // A namespace that is being deleted gives no tokens any more. Otherwise
        // store, ServiceAccount and right may be there again in a moment.
        ErrorClass::Identity | ErrorClass::LoginDenied => deleting || record.is_over(context.now()),
        _ => false,
    };
    if lasting {
        context.metrics.leases_left_to_end.inc();
        note_end(holdings, &record, false);
        tracing::warn!(
            namespace,
            bot_secret,
            "a credential cannot be revoked; it is not renewed any more and ends with its login: {}",
            error.message
        );
        return true;
    }
    tracing::warn!(namespace, bot_secret, "a credential was not revoked; it is tried again: {}", error.message);
    if let Some(held) = holdings.held.get_mut(at) {
        held.failed(Instant::now());
    }
    false
}

fn note_end(holdings: &mut Holdings, record: &Record, revoked: bool) {
    if let Some(demand) = &mut holdings.demand {
        demand.note_end(record, revoked);
    }
}

async fn revoked(
    context: &Context,
    observed: &Observed,
    holdings: &mut Holdings,
    at: usize,
    record: &Record,
) -> Result<Revoked, StoreError> {
    let own = holdings.held.get(at).and_then(|held| held.login.clone());
    let store = keep::store(observed, record).zip(observed.account.as_ref());
    let desk = match store {
        Some((store, account)) => Some(context.fetcher.desk(store, account).await),
        None => None,
    };
    if let Some(login) = own {
        let result = match &desk {
            Some(Ok(desk)) => desk.ask(Kind::Revoke, keep::issued_by(&record.lease), login.revoke()).await,
            _ => revoked_by_itself(context, observed, record, &*login).await,
        };
        // One that is gone is refused as well: only another is told which it is.
        if desk.is_none() || !matches!(&result, Err(error) if error.class == ErrorClass::Denied) {
            return result;
        }
    }
    let gone = || StoreError::new(ErrorClass::Identity, "its store or its ServiceAccount is gone");
    let (store, _) = store.ok_or_else(gone)?;
    by_accessor(&desk.ok_or_else(gone)??, store, holdings, record).await
}

/// Where its store or its ServiceAccount is gone, and with them the lanes.
async fn revoked_by_itself(
    context: &Context,
    observed: &Observed,
    record: &Record,
    login: &dyn IssuingLogin,
) -> Result<Revoked, StoreError> {
    let store = StoreName::of(&record.store, &record.store_uid);
    revoked_alone(context, observed, &store, keep::issued_by(&record.lease), login).await
}

/// A login that ends itself past the lanes, and with it what it issued by this path.
async fn revoked_alone(
    context: &Context,
    observed: &Observed,
    store: &StoreName,
    path: &str,
    login: &dyn IssuingLogin,
) -> Result<Revoked, StoreError> {
    let object = &observed.bot_secret;
    let account = ServiceAccount {
        namespace: object.metadata.namespace.clone().unwrap_or_default(),
        name: object.spec.service_account_name.clone(),
        ..ServiceAccount::default()
    };
    let event = audit::Event {
        account: Some(&account),
        asker: Asker::current(),
        remote: Remote::path(path),
        ..audit::Event::at(Kind::Revoke, store)
    };
    context.fetcher.ask_alone(&event, login.provider(), DEADLINE, login.revoke()).await
}

/// Through a login that was not there when it was issued.
async fn by_accessor(
    desk: &Desk,
    store: &Arc<ResolvedStore>,
    holdings: &mut Holdings,
    record: &Record,
) -> Result<Revoked, StoreError> {
    loop {
        let (steward, is_new) = keep::steward(desk, store, holdings).await?;
        let error = match desk
            .ask(Kind::Revoke, keep::issued_by(&record.lease), steward.revoke_other(&record.accessor))
            .await
        {
            Err(error) if error.class == ErrorClass::Denied => error,
            result => return result,
        };
        // The right to end one engine's leases may have been given instead.
        let error = if record.lease.is_empty() {
            error
        } else {
            match desk.ask(Kind::Revoke, keep::issued_by(&record.lease), steward.revoke_lease(&record.lease)).await {
                Err(other) if other.class == ErrorClass::Denied => error,
                result => return result,
            }
        };
        if is_new {
            return Err(error);
        }
        // Its token may be gone: another is asked before that is the answer.
        holdings.stewards.remove(&keep::post(store));
    }
}

/// A BotSecret is being deleted: ends what was issued for it, and lets it go.
pub(in crate::runtime) async fn conclude(
    context: &Context,
    observed: &Observed,
    memory: &mut Memory,
) -> Result<(), Stopped> {
    let object = &observed.bot_secret;
    if !has_finalizer(object) {
        return Ok(());
    }
    load(context, &Keys::of(&context.digest_key), observed, &mut memory.leases).await;
    let holdings = &mut memory.leases;
    let asked = object.metadata.deletion_timestamp.as_ref().map_or_else(|| context.now(), |time| time.0);
    holdings.namespace_ends = holdings.namespace_ends || namespace_ends(context, object).await;
    let (patience, last_try) =
        if holdings.namespace_ends { (PATIENCE_OF_NAMESPACE, LAST_TRY_OF_NAMESPACE) } else { (PATIENCE, DEADLINE) };
    let left = patience.saturating_sub(context.now().duration_since(asked));
    let patience_over = !left.is_positive();
    // However many there are, and each as slow as a deadline allows.
    let until = Instant::now() + Duration::try_from(left).unwrap_or_default().max(last_try);
    let _ = tokio::time::timeout_at(until, revoke_all(context, observed, holdings, patience_over)).await;
    if patience_over && !holdings.held.is_empty() {
        context.metrics.leases_left_to_end.inc_by(holdings.held.len() as u64);
        tracing::warn!(
            namespace = object.metadata.namespace,
            bot_secret = object.metadata.name,
            left = holdings.held.len(),
            "credentials of a deleted BotSecret could not be revoked in time; they are not renewed any more and end with their logins"
        );
        holdings.held.clear();
    }
    count(context, holdings);
    if !holdings.held.is_empty() {
        let now = Instant::now();
        let again = holdings.held.iter().map(|held| held.retry.unwrap_or(now).min(until)).min().unwrap_or(now);
        return Err(Stopped { reason: Reason::StoreUnavailable, again });
    }
    dismiss(context, observed, holdings).await;
    let gone = let_go(context, object, holdings).await;
    // No pass follows that would go on from it.
    holdings.written = None;
    if gone {
        holdings.unreleased = 0;
        return Ok(());
    }
    let wait = Duration::from_secs(1).saturating_mul(1 << holdings.unreleased.min(6)).min(LONGEST_WAIT);
    holdings.unreleased = holdings.unreleased.saturating_add(1);
    Err(Stopped { reason: Reason::KubernetesUnavailable, again: Instant::now() + wait })
}

/// Whether the namespace is being deleted: then it takes nothing new, which the
/// API server says before anything else. Asked by an event that is not written,
/// so that no further right is needed.
async fn namespace_ends(context: &Context, object: &BotSecret) -> bool {
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let event = Event {
        metadata: ObjectMeta { generate_name: Some("botsecret-".to_owned()), ..ObjectMeta::default() },
        event_time: Some(MicroTime(context.now())),
        action: Some("Lease".to_owned()),
        reason: Some("Deleted".to_owned()),
        regarding: Some(object.object_ref(&())),
        reporting_controller: Some("botsecret".to_owned()),
        reporting_instance: Some("botsecret".to_owned()),
        type_: Some("Normal".to_owned()),
        ..Event::default()
    };
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let api: Api<Event> = Api::namespaced(context.client.clone(), namespace);
    let refused = within(api.create(&params, &event)).await;
    matches!(refused, Err(kube::Error::Api(status)) if status.code == 403 && status.message.contains("because it is being terminated"))
}

/// Ends whatever does not wait for its next try. May be left at any point.
async fn revoke_all(context: &Context, observed: &Observed, holdings: &mut Holdings, even_waiting: bool) {
    for at in (0..holdings.held.len()).rev() {
        let waits = holdings.held.get(at).is_some_and(|held| held.retry.is_some_and(|retry| retry > Instant::now()));
        if (even_waiting || !waits) && revoke(context, observed, holdings, at, true).await {
            holdings.held.remove(at);
        }
    }
}

/// Ends the logins that looked after what others held. One that cannot be ended
/// holds nothing, and ends by itself.
pub(super) async fn dismiss(context: &Context, observed: &Observed, holdings: &mut Holdings) {
    let stewards = std::mem::take(&mut holdings.stewards);
    let dismissals = stewards.values().map(|steward| dismissed(context, observed, steward));
    let _ = tokio::time::timeout(DEADLINE, join_all(dismissals)).await;
}

async fn dismissed(context: &Context, observed: &Observed, Steward { login, store }: &Steward) {
    let post = keep::post(store);
    let mut known = observed.stores.values().flatten().chain(observed.lenders.values());
    let desk = match known.find(|known| keep::post(known) == post).zip(observed.account.as_ref()) {
        Some((store, account)) => context.fetcher.desk(store, account).await.ok(),
        None => None,
    };
    let result = if let Some(desk) = desk {
        desk.ask(Kind::Revoke, "", in_time(login.revoke())).await
    } else {
        let store = StoreName::of(&store.reference, &store.uid);
        revoked_alone(context, observed, &store, "", &**login).await
    };
    if let Err(error) = result {
        tracing::debug!("a login that looked after credentials was not revoked: {}", error.message);
    }
}

/// An end that comes before that of all of them, so that it is told of.
async fn in_time(revocation: impl Future<Output = Result<Revoked, StoreError>>) -> Result<Revoked, StoreError> {
    tokio::time::timeout(DISMISSAL, revocation).await.unwrap_or_else(|_| Err(StoreError::late(DISMISSAL)))
}

/// Takes the finalizer off. Whether that worked, or was done before.
pub(super) async fn let_go(context: &Context, object: &BotSecret, holdings: &mut Holdings) -> bool {
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<BotSecret> = Api::namespaced(context.client.clone(), namespace);
    let rest: Vec<_> = object.metadata.finalizers.iter().flatten().filter(|name| *name != FINALIZER).collect();
    let patch = json!({ "metadata": {
        "uid": uid_of(object), "resourceVersion": object.metadata.resource_version, "finalizers": rest,
    } });
    let params = PatchParams { field_manager: Some("botsecret".to_owned()), ..PatchParams::default() };
    let name = object.metadata.name.as_deref().unwrap_or_default();
    match within(api.patch(name, &params, &Patch::Merge(&patch))).await {
        Ok(mut written) => {
            written.metadata.managed_fields = None;
            holdings.written = Some(Box::new(written));
            true
        }
        Err(kube::Error::Api(status)) => status.code == 404,
        Err(_) => false,
    }
}
