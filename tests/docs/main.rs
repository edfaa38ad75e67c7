//! The pages: that the reference is made of the types and of the command line, that
//! every link leads somewhere, that manifests in them are such as the definitions take,
//! and that threats name tests which there are.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod definitions;
mod generated;
mod links;
mod manifests;
mod markdown;
mod threats;
