//! After a death in mid-issue: whether the Secret was written that the credential
//! was for.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use super::super::Context;
use crate::{
    api::CreationPolicy,
    apply::ApplyError,
    deadline::within,
    leases::{Holdings, Stage},
    secret::SecretData,
    watch::{Observed, SecretFacts},
};

/// Looks at the Secret itself where a credential was being issued when an earlier
/// process died: the watch may not show yet that it was written, and what no Secret
/// holds is revoked. Answers what there is to know of it.
///
/// # Errors
/// Where the API server did not answer: nothing may be concluded then.
pub(in crate::runtime) async fn look_again(
    context: &Context,
    observed: &mut Observed,
    holdings: &Holdings,
) -> Result<Option<(SecretFacts, CreationPolicy)>, ApplyError> {
    let object = &observed.bot_secret;
    let records = object.status.iter().flat_map(|status| &status.leases);
    if holdings.loaded || records.into_iter().all(|record| record.state != Stage::Issuing.name()) {
        return Ok(None);
    }
    let name = object.target_name();
    let secrets: Api<Secret> =
        Api::namespaced(context.client.clone(), object.metadata.namespace.as_deref().unwrap_or_default());
    let live = within(secrets.get_metadata_opt(name))
        .await
        .map_err(|error| ApplyError::from_api(&error, name, &SecretData::new()))?;
    let policy = object.spec.target().creation_policy.unwrap_or_default();
    Ok(live.map(|live| {
        let facts = SecretFacts::of(live.metadata);
        observed.secret = Some(Arc::new(facts.clone()));
        (facts, policy)
    }))
}
