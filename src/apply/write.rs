//! The requests that write a Secret.

use std::collections::BTreeSet;

use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};

use super::{
    ApplyError, ApplyProblem, Desired, Known, Origin, Overlap, next_state,
    overlap::{overlap, overlap_stands},
    recorded::is_as_recorded,
};
use crate::{
    api::{CreationPolicy, Revision, SecretType, State, TargetStatus, field_manager},
    build::DigestKey,
    deadline::within,
    secret::SecretData,
    traces,
    watch::SecretFacts,
};

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing had to be written.
    Unchanged,
    /// The Secret was made.
    Created,
    /// It was written over, or merged into.
    Updated,
}

/// The Secret after the write.
#[derive(Debug)]
pub struct Applied {
    /// What was done.
    pub effect: Effect,
    /// Its metadata.
    pub facts: SecretFacts,
    /// Its state.
    pub state: State,
    /// Whether a value is another than before.
    pub rotated: bool,
    /// Whether somebody else's change to the data was undone.
    pub repaired: bool,
}

impl Applied {
    /// Nothing had to be written.
    #[must_use]
    pub fn unchanged(facts: &SecretFacts, state: &State) -> Self {
        Self { effect: Effect::Unchanged, facts: facts.clone(), state: state.clone(), rotated: false, repaired: false }
    }
}

/// What is known before the Secret is read.
#[derive(Debug, Default)]
pub struct Before<'a> {
    /// The Secret in the watch's cache.
    pub cached: Option<&'a SecretFacts>,
    /// The Secret as the status records it.
    pub recorded: Option<&'a TargetStatus>,
    /// The newest revision on record in the status.
    pub revision: Option<Revision>,
    /// As [`Known::changed_since_handed`].
    pub changed_since_handed: Option<BTreeSet<String>>,
    /// Whether its rollout is on record as complete.
    pub delivered: bool,
    /// The state of a Secret of this name that was deleted.
    pub lost: Option<&'a State>,
}

/// Makes the Secret what it is to be. Without a request where the cache and
/// the status agree that it is so already (P2).
///
/// # Errors
/// Typed as [`ApplyProblem`]; nothing was written then, or, where the answer
/// was lost, the next pass finds out.
pub async fn apply(
    client: &Client,
    desired: &Desired,
    key: &DigestKey,
    before: &Before<'_>,
    now: Timestamp,
) -> Result<Applied, ApplyError> {
    if let Some(applied) = unchanged(desired, key, before, now) {
        return Ok(applied);
    }
    let api: Api<Secret> = Api::namespaced(client.clone(), &desired.namespace);
    let fingerprint = key.fingerprint(&desired.rolling_digests());
    if before.cached.is_none() && before.recorded.is_none() && desired.policy != CreationPolicy::Merge {
        // Most likely absent: spare the read, the API server says if it is not.
        match create(&api, desired, key, &fingerprint, before, now).await {
            Err(error) if error.problem == ApplyProblem::Conflict => {}
            result => return result,
        }
    }
    let live = within(api.get_opt(&desired.name))
        .await
        .map_err(|error| ApplyError::from_read(&error, &format!("Secret {}", desired.name)))?;
    match live {
        None if desired.policy == CreationPolicy::Merge => Err(nothing_to_merge_into(desired)),
        None => create(&api, desired, key, &fingerprint, before, now).await,
        Some(live) => update(&api, desired, key, &fingerprint, before, live, now).await,
    }
}

/// Whether it could be written, as far as that shows without its data: for
/// values that are made only to be written.
///
/// # Errors
/// As [`apply`].
pub async fn may_be_written(client: &Client, desired: &Desired) -> Result<(), ApplyError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &desired.namespace);
    let live = within(api.get_opt(&desired.name))
        .await
        .map_err(|error| ApplyError::from_read(&error, &format!("Secret {}", desired.name)))?;
    match live {
        None if desired.policy == CreationPolicy::Merge => Err(nothing_to_merge_into(desired)),
        None => Ok(()),
        Some(live) => {
            may_write(desired, &live)?;
            if live.immutable == Some(true) {
                return Err(ApplyError::new(
                    ApplyProblem::Invalid,
                    format!(
                        "somebody made Secret {} immutable, which nobody can take back: delete the Secret, so that it is made anew without",
                        desired.name
                    ),
                ));
            }
            Ok(())
        }
    }
}

/// Whether the live Secret's bytes are others than these, in a key that rolls
/// workloads.
///
/// # Errors
/// As [`apply`].
pub async fn differs(client: &Client, desired: &Desired) -> Result<bool, ApplyError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &desired.namespace);
    let live = within(api.get_opt(&desired.name))
        .await
        .map_err(|error| ApplyError::from_read(&error, &format!("Secret {}", desired.name)))?;
    let Some(live) = live else { return Ok(true) };
    let facts = SecretFacts::of(live.metadata.clone());
    let state = facts.state_in(&desired.state_annotation());
    let differing = live_differences(desired, &Overlap::default(), &live, state);
    let is_kept = |key: &String| state.is_some_and(|state| state.kept.contains_key(key));
    Ok(differing.iter().any(|key| !desired.quiet.contains(key) && !is_kept(key)))
}

fn nothing_to_merge_into(desired: &Desired) -> ApplyError {
    ApplyError::new(
        ApplyProblem::NothingToMergeInto,
        format!(
            "Secret {} does not exist, and creationPolicy Merge only adds to one that does: create it, or use Owner",
            desired.name
        ),
    )
}

/// What can be told without a request.
fn unchanged(desired: &Desired, key: &DigestKey, before: &Before<'_>, now: Timestamp) -> Option<Applied> {
    let (facts, recorded) = (before.cached?, before.recorded?);
    let state = facts.state_in(&desired.state_annotation())?;
    let same_object = facts.uid == recorded.uid
        && facts.resource_version == recorded.resource_version
        && facts.name == recorded.name
        && !facts.deleting;
    let same_data =
        state.digest_key == key.id() && state.digests == desired.digests && state.versions == desired.versions;
    let same_data = same_data && state.quiet == desired.quiet;
    let same_data = same_data && overlap_stands(desired, state, now);
    // What was taken back is over once the source gives this again.
    let same_data = same_data && (state.taken_back.is_none() || desired.origin != Origin::Source);
    (same_object && same_data && desired.metadata_matches(facts)).then(|| Applied::unchanged(facts, state))
}

async fn create(
    api: &Api<Secret>,
    desired: &Desired,
    key: &DigestKey,
    fingerprint: &str,
    before: &Before<'_>,
    now: Timestamp,
) -> Result<Applied, ApplyError> {
    let known = Known {
        state: before.lost,
        written_at: None,
        live_differences: None,
        live_lacks: BTreeSet::new(),
        recorded: before.revision.clone(),
        changed_since_handed: before.changed_since_handed.clone(),
        delivered: before.delivered,
        as_recorded: before.recorded.is_some_and(|recorded| is_as_recorded(desired, key, recorded)),
    };
    let beside = overlap(desired, key, None, before.lost, now);
    let state = State { kept: beside.kept.clone(), ..next_state(desired, &key.id(), fingerprint, &known, now) };
    let previous = before.lost.map(|state| &state.revision).or(before.revision.as_ref());
    let rotated = previous.is_some_and(|previous| *previous != state.revision);
    let secret = desired.to_secret(&state, &beside, None);
    let made = within(api.create(&post_params(), &secret)).await.map_err(|error| refused(&error, desired, &beside))?;
    Ok(Applied {
        effect: Effect::Created,
        facts: SecretFacts::of(made.metadata),
        state,
        rotated,
        repaired: before.recorded.is_some(),
    })
}

async fn update(
    api: &Api<Secret>,
    desired: &Desired,
    key: &DigestKey,
    fingerprint: &str,
    before: &Before<'_>,
    live: Secret,
    now: Timestamp,
) -> Result<Applied, ApplyError> {
    may_write(desired, &live)?;
    let facts = SecretFacts::of(live.metadata.clone());
    let live_state = facts.state_in(&desired.state_annotation()).cloned();
    let beside = overlap(desired, key, live.data.as_ref(), live_state.as_ref(), now);
    let differing = live_differences(desired, &beside, &live, live_state.as_ref());
    let of_values = rolling_part(&differing, &beside, live_state.as_ref());
    let known = Known {
        state: live_state.as_ref(),
        written_at: facts.written_at(desired.policy, &desired.bot_secret),
        live_lacks: of_values
            .iter()
            .filter(|key| live.data.as_ref().is_none_or(|data| !data.contains_key(*key)))
            .cloned()
            .collect(),
        live_differences: Some(of_values.clone()),
        recorded: before.revision.clone(),
        changed_since_handed: before.changed_since_handed.clone(),
        delivered: before.delivered,
        as_recorded: before.recorded.is_some_and(|recorded| is_as_recorded(desired, key, recorded)),
    };
    let state = State { kept: beside.kept.clone(), ..next_state(desired, &key.id(), fingerprint, &known, now) };
    let rotated = live_state.as_ref().is_some_and(|live| live.revision != state.revision)
        && before.revision.as_ref().is_none_or(|recorded| *recorded != state.revision);
    let same_state = live_state.as_ref().is_some_and(|live| live.says_the_same_as(&state));
    if differing.is_empty() && same_state && desired.metadata_matches(&facts) {
        let state = live_state.unwrap_or(state);
        return Ok(Applied { effect: Effect::Unchanged, facts, state, rotated: false, repaired: false });
    }
    let written = if desired.policy == CreationPolicy::Merge {
        let params = PatchParams::apply(&field_manager(&desired.bot_secret)).force();
        within(api.patch(&desired.name, &params, &Patch::Apply(&desired.to_merge(&state, &beside, &live)))).await
    } else {
        within(api.replace(&desired.name, &post_params(), &desired.to_secret(&state, &beside, Some(&live)))).await
    };
    let written = written.map_err(|error| refused(&error, desired, &beside))?;
    let repaired = !rotated && live_state.as_ref().is_some_and(|state| was_tampered(&of_values, desired, state, key));
    Ok(Applied { effect: Effect::Updated, facts: SecretFacts::of(written.metadata), state, rotated, repaired })
}

/// Sorts an answer to a write; none of what was sent is repeated (P4).
fn refused(error: &kube::Error, desired: &Desired, beside: &Overlap) -> ApplyError {
    let sent = desired.data.iter().chain(&beside.data);
    let sent: SecretData = sent.map(|(key, value)| (key.clone(), value.duplicate())).collect();
    ApplyError::from_api(error, &desired.name, &sent)
}

/// Whether somebody else made the difference. A new value that rolls nobody
/// makes one too, in a key whose digest is then another than on record.
fn was_tampered(differing: &BTreeSet<String>, desired: &Desired, state: &State, key: &DigestKey) -> bool {
    let comparable = state.digest_key == key.id();
    differing.iter().any(|key| !comparable || state.digests.get(key) == desired.digests.get(key))
}

/// Whether the live Secret is one that this BotSecret may write.
fn may_write(desired: &Desired, live: &Secret) -> Result<(), ApplyError> {
    let meta = &live.metadata;
    let name = &desired.name;
    if meta.deletion_timestamp.is_some() {
        return Err(ApplyError::new(
            ApplyProblem::Terminating,
            format!("Secret {name} is being deleted; it is made again once it is gone"),
        ));
    }
    // No value from outside may end up as a ServiceAccount's or a node's
    // credential, whoever made the Secret; and a type cannot be changed.
    let type_ = live.type_.as_deref().unwrap_or(SecretType::Opaque.name());
    let writable = SecretType::from_name(type_);
    let fits = writable.is_some_and(|type_| desired.policy == CreationPolicy::Merge || type_ == desired.type_);
    let label = meta.labels.as_ref().and_then(|labels| labels.get(crate::api::LABEL_OWNER));
    let wrong_type = || {
        let wanted = if writable.is_none() {
            "which is not written from remote values"
        } else {
            "and a Secret's type cannot be changed"
        };
        ApplyError::new(
            ApplyProblem::Invalid,
            format!("Secret {name} is of type {type_}, {wanted}: choose another target.name, or delete that Secret"),
        )
    };
    if desired.policy == CreationPolicy::Merge {
        return match label {
            _ if !fits => Err(wrong_type()),
            Some(owner) if *owner == crate::api::owner_label(&desired.bot_secret) => Err(ApplyError::new(
                ApplyProblem::OwnedByOther,
                format!(
                    "Secret {name} was made whole by this BotSecret, so there is nothing to merge into: use creationPolicy Owner or Orphan, or another target.name"
                ),
            )),
            Some(owner) => Err(ApplyError::new(
                ApplyProblem::OwnedByOther,
                format!(
                    "Secret {name} is written whole by BotSecret {owner}: merge into a Secret that no BotSecret owns"
                ),
            )),
            None => Ok(()),
        };
    }
    let taken_over = |label: &String| desired.takes_over.iter().any(|name| crate::api::owner_label(name) == *label);
    let ours = label == desired.labels.get(crate::api::LABEL_OWNER) || label.is_some_and(taken_over);
    let controller = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    match (ours, controller) {
        (true, _) if !fits => Err(wrong_type()),
        (true, None) => Ok(()),
        (true, Some(controller)) if desired.is_botsecret_of_our_name(controller) => Ok(()),
        (false, _) if label.is_some() => Err(ApplyError::new(
            ApplyProblem::OwnedByOther,
            format!(
                "Secret {name} belongs to BotSecret {}: give one of the two another target.name",
                label.map_or("", String::as_str)
            ),
        )),
        _ => Err(ApplyError::new(
            ApplyProblem::Foreign,
            format!(
                "Secret {name} exists and is not BotSecret's: delete it, choose another target.name, or use creationPolicy Merge to add to it"
            ),
        )),
    }
}

/// Keys of the live data that are not as desired. Of a shared Secret only this
/// BotSecret's keys count.
fn live_differences(desired: &Desired, beside: &Overlap, live: &Secret, state: Option<&State>) -> BTreeSet<String> {
    let empty = std::collections::BTreeMap::new();
    let data = live.data.as_ref().unwrap_or(&empty);
    let wanted = desired.data.iter().chain(&beside.data);
    let changed = wanted.filter(|(key, value)| data.get(*key).is_none_or(|have| have.0 != value.expose()));
    let is_wanted = |key: &&String| desired.data.contains_key(*key) || beside.data.contains_key(*key);
    let ours = |state: &State, key: &String| state.digests.contains_key(key) || state.kept.contains_key(key);
    let gone = data
        .keys()
        .filter(|key| !is_wanted(key))
        .filter(|key| desired.policy != CreationPolicy::Merge || state.is_some_and(|state| ours(state, key)));
    changed.map(|(key, _)| key).chain(gone).cloned().collect()
}

/// Those of them that are about what rolls workloads: not the values that keys
/// had before.
fn rolling_part(differing: &BTreeSet<String>, beside: &Overlap, state: Option<&State>) -> BTreeSet<String> {
    let is_kept = |key: &String| state.is_some_and(|state| state.kept.contains_key(key));
    differing.iter().filter(|key| !beside.data.contains_key(*key) && !is_kept(key)).cloned().collect()
}

/// Deletes the Secret that these facts describe, and no other.
///
/// # Errors
/// As [`apply`].
pub async fn delete(client: &Client, facts: &SecretFacts) -> Result<(), ApplyError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &facts.namespace);
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(facts.uid.clone()),
            resource_version: Some(facts.resource_version.clone()),
        }),
        ..DeleteParams::default()
    };
    let delete = async {
        match within(api.delete(&facts.name, &params)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(ApplyError::from_api(&error, &facts.name, &SecretData::new())),
        }
    };
    traces::deleting(&facts.name, delete).await
}

fn post_params() -> PostParams {
    PostParams { field_manager: Some(crate::watch::SECRET_FIELD_MANAGER.to_owned()), ..PostParams::default() }
}
