//! Everything that is logged while the suite runs, as far as the product lets
//! it be: our own modules at trace, other crates by its own rule.

use botsecret::cli::logging::may_speak;
use tracing_subscriber::{Layer as _, filter::filter_fn, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

pub use crate::log::Log;

/// From now on, for the whole process.
pub fn start() -> Log {
    let log = Log::default();
    let lines = fmt::layer().with_ansi(false).with_writer(log.clone()).with_filter(filter_fn(may_speak));
    tracing_subscriber::registry().with(lines).init();
    log
}
