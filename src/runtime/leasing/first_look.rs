//! What an earlier process left behind, before anything is concluded from it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::ListParams};

use super::{
    super::{Context, taking_back},
    concerns,
};
use crate::{
    api::{BotSecret, CreationPolicy, LABEL_MERGED, LABEL_OWNER},
    apply::ApplyError,
    deadline::within,
    plan::Memory,
    watch::{Observed, SecretFacts},
};

/// What was found.
pub(in crate::runtime) struct Found {
    pub(in crate::runtime) object: Option<BotSecret>,
    pub(in crate::runtime) secret: Option<(SecretFacts, CreationPolicy)>,
}

/// Looks at the BotSecret and its Secret themselves before what is on record there
/// is taken in: a watch that is behind may show neither the last record nor the last
/// write. Then what nobody seems to hold would be revoked, and a value that was taken
/// back be written once more. Once for each process.
///
/// # Errors
/// Where the API server did not answer: nothing may be concluded then.
pub(in crate::runtime) async fn first_look(
    context: &Context,
    observed: &mut Observed,
    memory: &mut Memory,
) -> Result<Option<Found>, ApplyError> {
    let of_leases = !memory.leases.loaded && concerns(&observed.bot_secret, &memory.leases);
    let of_values = !memory.back.looked && taking_back::rolls_back(&observed.bot_secret);
    if !of_leases && !of_values {
        return Ok(None);
    }
    let shown = Arc::clone(&observed.bot_secret);
    let meta = &shown.metadata;
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let name = meta.name.as_deref().unwrap_or_default();
    let objects: Api<BotSecret> = Api::namespaced(context.client.clone(), namespace);
    // Not by a get, for which the operator has no right.
    let itself = ListParams::default().fields(&format!("metadata.name={name}"));
    let found = within(objects.list(&itself))
        .await
        .map_err(|error| ApplyError::from_read(&error, &format!("BotSecret {name}")))?;
    let same = |object: &BotSecret| object.metadata.uid == meta.uid;
    let fresh = found.items.into_iter().find(same).map(|mut object| {
        object.metadata.managed_fields = None;
        object
    });
    if let Some(fresh) = &fresh {
        observed.bot_secret = Arc::new(fresh.clone());
    }
    let object = &observed.bot_secret;
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let target = object.target_name();
    let live = within(secrets.get_metadata_opt(target))
        .await
        .map_err(|error| ApplyError::from_read(&error, &format!("Secret {target}")))?;
    let policy = object.spec.target().creation_policy.unwrap_or_default();
    let facts = live.map(|live| SecretFacts::of(live.metadata)).filter(|facts| is_watched(facts, policy));
    observed.secret = facts.clone().map(Arc::new);
    memory.back.looked = true;
    Ok(Some(Found { object: fresh, secret: facts.map(|facts| (facts, policy)) }))
}

/// Whether the watch shows such a Secret: others are nobody's whose credentials
/// could lie there.
fn is_watched(facts: &SecretFacts, policy: CreationPolicy) -> bool {
    let label = if policy == CreationPolicy::Merge { LABEL_MERGED } else { LABEL_OWNER };
    facts.labels.contains_key(label)
}
