//! What can be told of the data before anything is issued for it. What is
//! issued is made to be used, so what would come to nothing is not asked for.

use std::sync::Arc;

use super::{BuildError, BuildErrorKind, Inputs, gather, sources, template};
use crate::{
    api::{BotSecretSpec, DataFromEntry, OnCollision, StoreRef},
    secret::SecretText,
    stores::{Payload, RemoteSecret},
};

/// Whether this makes a Secret, as far as spec and reads show it. What a
/// template makes of values is not among it.
///
/// # Errors
/// As [`super::data`]'s.
pub fn foresee(spec: &BotSecretSpec, inputs: &Inputs) -> Result<(), BuildError> {
    let nothing = RemoteSecret::of(Payload::Json(SecretText::new("{}".to_owned())));
    let nothing = Arc::new(nothing);
    let dynamic = spec.data_from.iter().enumerate().filter(|(_, entry)| entry.dynamic.is_some());
    let inputs = Inputs {
        reads: inputs.reads.clone(),
        found: inputs.found.clone(),
        issued: dynamic.map(|(index, _)| (index, Arc::clone(&nothing))).collect(),
    };
    gather::gather(spec, &inputs)?;
    template::check(spec)?;
    twins(spec)
}

/// Two entries that ask the same and name its properties alike cannot both fill
/// their keys.
fn twins(spec: &BotSecretSpec) -> Result<(), BuildError> {
    let store = |entry: &DataFromEntry| entry.store_ref.as_ref().or(spec.store_ref.as_ref()).map(said);
    for (index, later) in spec.data_from.iter().enumerate() {
        let Some(asked) = later.dynamic.as_ref().filter(|_| later.on_collision != Some(OnCollision::Replace)) else {
            continue;
        };
        let same = |earlier: &DataFromEntry| {
            earlier.dynamic.as_ref().is_some_and(|other| {
                other.path == asked.path
                    && other.alternate == asked.alternate
                    && other.method.unwrap_or_default() == asked.method.unwrap_or_default()
                    && other.parameters == asked.parameters
            }) && earlier.rewrite == later.rewrite
                && store(earlier) == store(later)
        };
        if let Some(first) = spec.data_from.iter().take(index).position(same) {
            return Err(BuildError::new(
                BuildErrorKind::Collision,
                format!(
                    "dataFrom entries {} and {} are both issued by {} and fill the same keys: rewrite the names of one of them, or set its onCollision to Replace",
                    first + 1,
                    index + 1,
                    asked.path
                ),
            ));
        }
    }
    Ok(())
}

fn said(store: &StoreRef) -> String {
    sources::store_name(store)
}

#[cfg(test)]
#[path = "foresee_tests.rs"]
mod tests;
