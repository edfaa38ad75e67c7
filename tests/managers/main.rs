//! One operator before every manager at once: AWS, Google Cloud, Azure and
//! OpenBao, each reached under its own name through a proxy that counts.
#![allow(clippy::needless_pass_by_value, reason = "json!(…) reads better without a borrow")]
#![allow(clippy::format_push_string, reason = "a test may allocate")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod crowd;
mod identity;
mod sharing;
#[path = "../support/mod.rs"]
mod support;
mod together;
mod world;
mod written;
