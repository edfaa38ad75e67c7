//! Leased credentials: when to renew, replace and revoke what a manager issued
//! for one BotSecret alone.
//!
//! [`decide`] is pure. What the status keeps of a lease ([`Record`]) carries a
//! keyed MAC, since whoever can edit a status must not choose what is renewed
//! or revoked (P5). The values lie in the Secret, and beside them, sealed, what
//! they came from ([`Keys::seal`]): so an operator that is started again goes on
//! with them.

mod align;
mod decide;
mod demand;
mod holdings;
mod place;
mod record;
mod refusals;
mod sealed;

pub use align::{Shown, align};
pub use decide::{Facts, Part, Step, Token, decide, need, need_again, renewal};
pub use demand::Demand;
pub use holdings::{Held, Holdings, Steward};
pub use place::{Judge, Place, Rollouts, may_hold};
pub use record::{Fingerprint, Record, Stage};
pub use refusals::{Circumstances, Refusals, wait};
pub use sealed::{Keys, Sealed};

/// The finalizer of a BotSecret for which something is to be revoked.
pub const FINALIZER: &str = "botsecret.dev/leases";
