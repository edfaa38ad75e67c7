//! The stores, through `fetch`, against a real API server and a real OpenBao.

#![allow(clippy::needless_pass_by_value, reason = "json!(…) reads better without a borrow")]
#![allow(clippy::format_push_string, reason = "a test may allocate")]
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

mod aws;
mod aws_accounts;
mod aws_ambient;
mod aws_identity;
mod aws_logs;
mod aws_moto;
mod aws_parameters;
mod aws_world;
mod aws_writes;
mod azure;
mod azure_clients;
mod azure_login;
mod azure_logs;
mod azure_world;
mod azure_writes;
mod bulkheads;
mod cloud_logins;
mod cloud_oddities;
mod cloud_searches;
mod gcp;
mod gcp_clients;
mod gcp_login;
mod gcp_world;
mod gcp_writes;
mod kubernetes;
mod log;
mod logs;
mod oauth2;
mod python;
mod session;
mod trouble;
mod vault;
mod vault_auth;
mod vault_find;
mod world;
