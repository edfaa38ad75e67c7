//! P7 and P8: leased credentials, issued by OpenBao in a real PostgreSQL.
#![allow(clippy::needless_pass_by_value, reason = "json!(…) reads better without a borrow")]
#![allow(clippy::format_push_string, reason = "a test may allocate")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod audited;
mod away;
mod back;
mod bank;
mod clocks;
mod emergency;
mod ends;
mod issues;
mod jobs;
mod kills;
mod lives;
mod logins;
mod lost;
mod namespace;
mod refusals;
mod release;
mod rotating;
mod scenario;
mod settings;
mod stewards;
#[path = "../support/mod.rs"]
mod support;
mod tokens;
mod triggered;
mod turns;
mod unwritable;
mod versions;
