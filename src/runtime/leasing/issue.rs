//! Issuing: a login, its record in the status, and only then the credential.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::jiff::SignedDuration;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{json, value::RawValue};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{
    super::Context, Entry, chosen, entries, foresee::foresee, has_finalizer, keep, names_workloads, standing, uid_of,
};
use crate::{
    api::{BotSecret, DynamicMethod, DynamicRef, StoreRef},
    audit::Kind,
    build::Inputs,
    deadline::within,
    fetch::{Desk, Holding, ServiceAccount},
    leases::{Circumstances, FINALIZER, Held, Holdings, Keys, Part, Place, Record, Stage, wait},
    plan::{Memory, Retry, emergency_due, refresh_requested},
    report::{Notice, Problem, Reason},
    secret::SecretText,
    stores::{ErrorClass, IssueRequest, Issued, IssuingLogin, Payload, RemoteKey, RemoteSecret, StoreError},
    traces,
    watch::Observed,
};

/// So many records fit the status.
const MOST: usize = 400;

/// What every dynamic entry has, by its place under dataFrom. Issued here is
/// only what is due, and of use with what was read.
pub(in crate::runtime) async fn issued(
    context: &Context,
    observed: &Observed,
    account: &ServiceAccount,
    memory: &mut Memory,
    inputs: &Inputs,
) -> Result<BTreeMap<usize, Arc<RemoteSecret>>, Problem> {
    let keys = Keys::of(&context.digest_key);
    let entries = entries(&keys, observed);
    memory.leases.refusals.keep(|known| entries.iter().any(|entry| entry.fingerprint.0 == known));
    // All of them before the first is issued: it would wait for the others.
    let due: Vec<_> = entries.iter().filter(|entry| standing(entry, &memory.leases, &entries).is_none()).collect();
    // Who asks has one try at once; a rotation at once stands for longer than that.
    let is_asked = refresh_requested(&observed.bot_secret).is_some()
        || memory.failures == 0 && emergency_due(&observed.bot_secret).is_some();
    if !is_asked {
        let refused = due.iter().find_map(|entry| {
            let circumstances = Circumstances::of(entry.store, account);
            memory.leases.refusals.standing(&entry.fingerprint, &circumstances, Instant::now())
        });
        if let Some(problem) = refused {
            return Err(problem.clone());
        }
    }
    if !due.is_empty() {
        foresee(context, observed, inputs).await?;
    }
    let mut lost = Vec::new();
    let result = supply(context, &keys, observed, account, memory, &entries, &mut lost).await;
    tell_of_loss(context, &observed.bot_secret, &lost).await;
    memory.leases.due &= result.is_err();
    result
}

/// Issues what is due, and answers what each entry has. Those whose credential
/// had ended by then are `lost`, counted from 1.
async fn supply(
    context: &Context,
    keys: &Keys,
    observed: &Observed,
    account: &ServiceAccount,
    memory: &mut Memory,
    entries: &[Entry<'_>],
    lost: &mut Vec<String>,
) -> Result<BTreeMap<usize, Arc<RemoteSecret>>, Problem> {
    let mut values = BTreeMap::new();
    for entry in entries {
        if standing(entry, &memory.leases, entries).is_none() {
            let old = chosen(entry, &memory.leases, entries);
            let issue = issue(context, keys, observed, account, entry, &mut memory.leases).await;
            let new = issue.inspect_err(|problem| {
                let circumstances = Circumstances::of(entry.store, account);
                let interval = observed.bot_secret.spec.interval().period();
                let patience = |tries| wait(tries, interval, old.is_some());
                memory.leases.refusals.note(&entry.fingerprint, circumstances, problem, patience, Instant::now());
            })?;
            memory.leases.held.push(new);
            context.metrics.leases_issued.inc();
            if let Some(old) = old.and_then(|old| memory.leases.held.get_mut(old)) {
                old.superseded = true;
                context.metrics.lease_replacements.inc();
                if old.has_ended(Instant::now()) {
                    lost.push((entry.index + 1).to_string());
                }
            }
        }
        let at = chosen(entry, &memory.leases, entries);
        if let Some(secret) = at.and_then(|at| memory.leases.held.get(at)?.values.clone()) {
            values.insert(entry.index, secret);
        }
    }
    Ok(values)
}

/// Says which credentials were no more before others took their places.
async fn tell_of_loss(context: &Context, object: &BotSecret, lost: &[String]) {
    if lost.is_empty() {
        return;
    }
    context.metrics.leases_lost.inc_by(lost.len() as u64);
    let note = format!(
        "what was issued for dataFrom entry {} ended before it was replaced: it was issued anew at once, and workloads roll whatever rollout.window and rollout.minInterval say",
        lost.join(", ")
    );
    tracing::warn!(namespace = object.metadata.namespace, bot_secret = object.metadata.name, "{note}");
    let notice = Notice { warning: true, reason: Reason::LeaseLost.name(), action: "Lease", note };
    context.emitter.publish(object, &[notice]).await;
}

async fn issue(
    context: &Context,
    keys: &Keys,
    observed: &Observed,
    account: &ServiceAccount,
    entry: &Entry<'_>,
    holdings: &mut Holdings,
) -> Result<Held, Problem> {
    let failed = |error: &StoreError| {
        let key = RemoteKey { key: entry.asked.path.clone(), version: None, metadata: false, dated: false };
        Problem::of_read(entry.store, &key, &[], error)
    };
    if holdings.held.len() >= MOST {
        let message = "too many replaced credentials wait for their pods to go: see why the rollout does not end";
        return Err(Problem::new(Reason::RollingOut, Retry::Slow, message));
    }
    let desk = context.fetcher.desk(entry.store, account).await.map_err(|error| failed(&error))?;
    let Holding { login, token_left } = desk.log_in_to_hold().await.map_err(|error| failed(&error))?;
    let now = context.now();
    let record = Record {
        index: entry.index,
        entry: entry.fingerprint.clone(),
        store: StoreRef { name: entry.reference.name.clone(), kind: Some(entry.reference.kind.unwrap_or_default()) },
        store_uid: entry.store.uid.clone(),
        accessor: login.accessor().to_owned(),
        lease: String::new(),
        issued: now,
        login_seconds: login.life().as_secs(),
        seconds: login.life().as_secs(),
        renewable: false,
        stage: Stage::Issuing,
        replaced_by: 0,
        retired: None,
        places: vec![Place::at(observed.bot_secret.target_name())],
        unseen: names_workloads(&observed.bot_secret),
        token_ends: token_left.and_then(|left| now.checked_add(SignedDuration::try_from(left).ok()?).ok()),
        request: last_request(&observed.bot_secret),
    };
    if let Err(problem) = put_on_record(context, keys, observed, holdings, &record).await {
        // It holds nothing yet: should this fail, it ends by itself.
        let _ = desk.ask(Kind::Revoke, &entry.asked.path, login.revoke()).await;
        return Err(problem);
    }
    let asked = Instant::now();
    let result = ask(&desk, &*login, entry.asked).await;
    let uid = uid_of(&observed.bot_secret);
    match result.and_then(|issued| hold(keys, uid, record.clone(), &login, asked, issued)) {
        Ok(mut held) => {
            held.token = keep::token(&held.record, context.now());
            if held.record.lease.is_empty() {
                // It hangs on nothing, so the login has no use any more.
                let _ = desk.ask(Kind::Revoke, &entry.asked.path, login.revoke()).await;
                held.login = None;
            }
            Ok(held)
        }
        Err(error) => {
            // What was asked may have been done: its lease goes with the login.
            give_back(&desk, &entry.asked.path, record, login, holdings).await;
            Err(failed(&error))
        }
    }
}

/// The last rotation at once that was asked for: who tells by it whether this
/// credential came before or after needs no clock.
fn last_request(object: &BotSecret) -> String {
    let record = object.status.as_ref().and_then(|status| status.emergency.as_ref());
    record.map(|record| record.id.clone()).unwrap_or_default()
}

/// What an entry asks for: of two paths that take turns, what is good for longer.
async fn ask(desk: &Desk, login: &dyn IssuingLogin, asked: &DynamicRef) -> Result<Issued, StoreError> {
    let parameters = (asked.method == Some(DynamicMethod::Post)).then(|| asked.parameters.clone());
    let request = IssueRequest { path: asked.path.clone(), parameters };
    let first = desk.ask(Kind::Issue, &asked.path, login.issue(&request)).await?;
    let Some(alternate) = asked.alternate.clone() else { return Ok(first) };
    let request = IssueRequest { path: alternate, parameters: None };
    let second = desk.ask(Kind::Issue, &request.path, login.issue(&request)).await?;
    if first.lease.is_some() || second.lease.is_some() {
        let message = "what these paths issue is leased, and needs no turns: take alternate out";
        return Err(StoreError::new(ErrorClass::Invalid, message));
    }
    Ok(if second.life > first.life { second } else { first })
}

/// Ends a login whose credential came to nothing, or notes that it is to end.
async fn give_back(desk: &Desk, path: &str, record: Record, login: Arc<dyn IssuingLogin>, holdings: &mut Holdings) {
    if desk.ask(Kind::Revoke, path, login.revoke()).await.is_err() {
        let mut held = Held::recorded(record);
        held.login = Some(login);
        held.failed(Instant::now());
        holdings.held.push(held);
    }
}

/// What was issued, with its clocks.
fn hold(
    keys: &Keys,
    uid: &str,
    mut record: Record,
    login: &Arc<dyn IssuingLogin>,
    asked: Instant,
    issued: Issued,
) -> Result<Held, StoreError> {
    let Payload::Json(values) = issued.payload else {
        return Err(StoreError::new(ErrorClass::Invalid, "what was issued is no JSON object"));
    };
    let values = if issued.lease.is_none() { without_clock(&values).unwrap_or(values) } else { values };
    let life = issued.life.unwrap_or_else(|| Duration::from_secs(record.login_seconds));
    record.seconds = life.as_secs();
    let mut parts = Vec::new();
    if let Some(lease) = issued.lease {
        let login_life = Duration::from_secs(record.login_seconds);
        parts.push(Part { ends: login.expires(), life: login_life, open: true, last: false, sure: true });
        (record.lease, record.renewable) = (lease.id, lease.renewable);
    }
    parts.push(Part { ends: asked + life, life, open: record.renewable, last: false, sure: true });
    let live = Record { stage: Stage::Live, ..record.clone() };
    let sealed = keys.seal(uid, &live, &values).ok_or_else(|| {
        StoreError::new(ErrorClass::TooLarge, "what was issued is larger than can be kept beside the Secret's data")
    })?;
    // Without a lease there is nothing to revoke: not even a record of a login.
    let record = if record.lease.is_empty() { live } else { record };
    let mut held = Held::recorded(record);
    held.login = Some(Arc::clone(login));
    held.values = Some(super::remote(SecretText::new(values.expose().to_owned())));
    held.sealed = Some(sealed);
    held.parts = Some(parts);
    Ok(held)
}

/// What is issued without a lease, without the time that it has left: that is
/// another at each read of the same password, which is no rotation.
fn without_clock(values: &SecretText) -> Option<SecretText> {
    let mut properties: BTreeMap<String, &RawValue> = serde_json::from_str(values.expose()).ok()?;
    properties.remove("ttl")?;
    // As large as it gets: no part of it is left behind where it outgrew a place.
    let mut text = Zeroizing::new(Vec::with_capacity(values.expose().len()));
    serde_json::to_writer(&mut *text, &properties).ok()?;
    let text = std::str::from_utf8(&text).ok()?;
    Some(SecretText::new(text.to_owned()))
}

/// Writes the accessor before anything hangs on it, with the finalizer.
async fn put_on_record(
    context: &Context,
    keys: &Keys,
    observed: &Observed,
    holdings: &mut Holdings,
    record: &Record,
) -> Result<(), Problem> {
    let fresh = holdings.written.take();
    let object = fresh.as_deref().unwrap_or(&observed.bot_secret);
    let (namespace, name) = (
        object.metadata.namespace.as_deref().unwrap_or_default(),
        object.metadata.name.as_deref().unwrap_or_default().to_owned(),
    );
    let api: Api<BotSecret> = Api::namespaced(context.client.clone(), namespace);
    let params = PatchParams { field_manager: Some("botsecret".to_owned()), ..PatchParams::default() };
    let (uid, mut version) = (uid_of(object).to_owned(), object.metadata.resource_version.clone());
    if !has_finalizer(object) {
        let mut finalizers = object.metadata.finalizers.clone().unwrap_or_default();
        finalizers.push(FINALIZER.to_owned());
        let patch = json!({ "metadata": { "uid": uid, "resourceVersion": version, "finalizers": finalizers } });
        let patched =
            within(api.patch(&name, &params, &Patch::Merge(&patch))).await.map_err(|error| unrecorded(&error))?;
        version = patched.metadata.resource_version;
    }
    let records = holdings.held.iter().map(|held| &held.record).chain([record]);
    let records: Vec<_> = records.map(|record| record.to_status(keys, &uid)).collect();
    let patch = json!({ "metadata": { "uid": uid, "resourceVersion": version }, "status": { "leases": records } });
    let patch = Patch::Merge(&patch);
    let write = traces::telling(within(api.patch_status(&name, &params, &patch)));
    let mut written = write.await.map_err(|error| unrecorded(&error))?;
    written.metadata.managed_fields = None;
    holdings.written = Some(Box::new(written));
    Ok(())
}

fn unrecorded(error: &kube::Error) -> Problem {
    match error {
        kube::Error::Api(status) if status.code == 409 || status.code == 404 => Problem::new(
            Reason::KubernetesUnavailable,
            Retry::Soon,
            "the BotSecret changed in mid-issue; it is tried again",
        ),
        kube::Error::Api(status) if status.code == 403 => Problem::new(
            Reason::OperatorForbidden,
            Retry::Slow,
            "the operator may not put a credential on record: give it patch on botsecrets and botsecrets/status",
        ),
        _ => Problem::new(
            Reason::KubernetesUnavailable,
            Retry::Backoff,
            "the Kubernetes API did not take the record of a credential that was to be issued; it is tried again",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::without_clock;
    use crate::secret::SecretText;

    #[test]
    fn a_password_that_is_read_again_differs_in_nothing_though_its_time_runs_down() {
        let answer = |ttl| SecretText::new(format!(r#"{{"password":"p","ttl":{ttl},"username":"u"}}"#));
        let kept = |answer| without_clock(&answer).map(|text| text.expose().to_owned());
        assert_eq!(kept(answer(30)).as_deref(), Some(r#"{"password":"p","username":"u"}"#));
        assert_eq!(kept(answer(30)), kept(answer(7)));
        assert_eq!(kept(SecretText::new(r#"{"certificate":"c","expiration":7}"#.to_owned())), None);
    }
}
