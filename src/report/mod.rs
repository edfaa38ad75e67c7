//! Turns one typed outcome of a pass into conditions, events, metrics and log
//! lines. No other stage writes status.

mod candidate;
mod emergency;
mod emitter;
mod events;
mod gauges;
mod metrics;
mod outcome;
mod reason;
mod rolled_out;
mod rotated;
mod status;

pub use candidate::CandidateReport;
pub use emergency::{News, OldCredentials, report_emergency};
pub use emitter::Emitter;
pub use events::{Notice, notices};
pub use metrics::{Metrics, Reasons};
pub(crate) use outcome::named_store;
pub use outcome::{Outcome, Problem, RolloutReport, SyncReport, WorkloadReport};
pub use reason::Reason;
pub use rotated::{Rotated, rotated};
pub use status::status;
