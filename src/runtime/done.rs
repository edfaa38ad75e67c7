//! How a pass ends.

use tokio::time::Instant;

use crate::{
    api::{BotSecret, CreationPolicy},
    plan::Memory,
    report::Reason,
    watch::SecretFacts,
};

/// What a pass leaves behind.
pub(super) struct Done {
    /// Notes for the next one.
    pub(super) memory: Box<Memory>,
    /// The Secret, if it was read or written.
    pub(super) secret: Option<(SecretFacts, CreationPolicy)>,
    /// The BotSecret, if its status was written.
    pub(super) object: Option<BotSecret>,
    /// When to look again, if nothing happens before.
    pub(super) again: Option<Instant>,
}

/// Why a pass could not go on, and when to try again.
pub(super) struct Stopped {
    pub(super) reason: Reason,
    pub(super) again: Instant,
}

impl Stopped {
    /// What a pass leaves behind that did nothing else.
    pub(super) fn done(self, memory: Box<Memory>) -> (Done, Option<Reason>) {
        (Done { memory, secret: None, object: None, again: Some(self.again) }, Some(self.reason))
    }
}
