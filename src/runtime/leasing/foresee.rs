//! What can be known before a credential is issued: whether it could come into
//! the Secret. What is issued and cannot be written is lost with the process.

use std::collections::BTreeMap;

use super::super::Context;
use crate::{
    apply::{self, Desired},
    build::{self, Inputs},
    plan::Retry,
    report::{Problem, Reason},
    secret::SecretData,
    watch::Observed,
};

/// In the order in which a pass would meet with it.
pub(super) async fn foresee(context: &Context, observed: &Observed, inputs: &Inputs) -> Result<(), Problem> {
    let object = &observed.bot_secret;
    build::foresee(&object.spec, inputs).map_err(|error| Problem::of_build(&error))?;
    let mut desired = Desired::new(object, SecretData::new(), BTreeMap::new(), BTreeMap::new())
        .ok_or_else(|| Problem::new(Reason::InternalError, Retry::Slow, "the BotSecret has no name or UID"))?;
    desired.takes_over.clone_from(&observed.younger_rivals);
    apply::may_be_written(&context.client, &desired).await.map_err(|error| Problem::of_apply(&error))
}
