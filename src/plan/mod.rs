//! What is due, and when next. Pure: no client, no clock, no randomness.

mod at_once;
mod backoff;
mod due;
mod memory;
mod pace;
mod queue;
mod renewal;
mod rotation;

pub use at_once::{demanded_since, emergency, emergency_due, is_forced, rotation_requested, unrecorded};
pub use backoff::{Clock, Retry, next_tick, retry_delay};
pub use due::{Due, due, is_synced, is_tried, refresh_requested, why};
pub use memory::{BackNotes, CandidateNotes, Memory, Refused, Repairs};
pub use pace::ScheduleError;
#[cfg(any(test, fuzzing))]
pub(crate) use pace::first_after;
pub use queue::Queue;
pub use renewal::Renewal;
pub use rotation::{Asked, AtSource, Look, RotationNotes, Step, Turn, Wanted, look, next_step, turn};
