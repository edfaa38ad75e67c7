//! Writes the Secret, in one guarded request, or not at all.
//!
//! A Secret that is ours is created, or replaced with the resourceVersion of a
//! fresh read; one that we only share (`creationPolicy: Merge`) is applied by a
//! field manager of this BotSecret's own, with uid and resourceVersion in the
//! body. A bare server-side apply would be no precondition: a late replay puts
//! old data back, and an absent object is created.

mod aside;
mod decide;
mod desired;
mod error;
#[cfg(test)]
mod loss_tests;
mod next;
mod overlap;
mod previous;
mod recorded;
mod write;

pub use aside::{Aside, AsideError};
pub use decide::{Known, differences, next_state};
pub use desired::{Desired, Origin};
#[cfg(any(test, fuzzing))]
pub(crate) use error::quotable;
pub use error::{ApplyError, ApplyProblem};
pub use next::{Next, NextFound, NextNote, Room};
pub use overlap::{KeepPrevious, Overlap, overlap_ends};
pub use previous::{Kept, Previous};
pub use recorded::{is_as_recorded, rolling_digest};
pub use write::{Applied, Before, Effect, apply, delete, differs, may_be_written};
