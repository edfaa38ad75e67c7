//! Rotations under load: how many requests of real bots fail. Run by `make
//! rotations`; the figures are printed and written to
//! `target/bench/rotations.json`.
//!
//! Bots that ask PostgreSQL five times a second, on a new connection each time,
//! with a user that OpenBao's database engine made: 6 Deployments of 3, a
//! StatefulSet with a partition, and a Job. Each rotation issues another user,
//! rolls the bots and drops the old one, while the operator is killed at random.
//! Beside it, the same by a policy that rolls everything at once and drops the
//! old user at once, so that this benchmark is seen to be able to fail.
//!
//! Then the same bots on two static users that take turns.
//!
//! `ROTATIONS` (60), `TURNS` (40) and `BASELINE_ROTATIONS` (10) make it smaller.

mod bots;
mod naive;
#[path = "../sync/progress.rs"]
mod progress;
mod rotations;
mod turns;

#[path = "../../tests/leases/bank.rs"]
#[allow(dead_code, clippy::unwrap_used, clippy::format_push_string, reason = "as in the tests of leases")]
mod bank;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::{fs, path::Path, process::ExitCode};

use anyhow::Context as _;
use serde_json::json;

use self::{bots::Requests, progress::say, support::Result};

fn main() -> ExitCode {
    // `cargo test --all-targets` runs benchmarks too, without this word.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("this is a benchmark: run `make rotations`");
        return ExitCode::SUCCESS;
    }
    let result = tokio::runtime::Runtime::new().map_err(Into::into).and_then(|runtime| {
        runtime.block_on(async {
            // Dropped at Ctrl-C, the scene takes every program along.
            tokio::select! {
                result = run() => result,
                _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
            }
        })
    });
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn number(name: &str, otherwise: u32) -> Result<u32> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} must be a whole number, not {text:?}")),
        Err(_) => Ok(otherwise),
    }
}

/// Whether no request failed but by the naive policy.
async fn run() -> Result<bool> {
    let (count, turns) = (number("ROTATIONS", 60)?, number("TURNS", 40)?);
    let baseline_count = number("BASELINE_ROTATIONS", 10)?;
    let ours = rotations::run(count).await?;
    let in_turns = if turns > 0 { Some(turns::run(turns).await?) } else { None };
    let of_turns = in_turns.as_ref().map_or(Requests::default(), |outcome| outcome.requests);
    let (all, failed) = (ours.requests.all + of_turns.all, ours.requests.failed + of_turns.failed);
    let Requests { all: baseline_requests, failed: baseline_failed } = naive::run(baseline_count).await?;
    let figures = json!({
        "rotations": count + turns,
        "rotations_of_leased_users": count,
        "turns_of_static_users": turns,
        "kills": ours.kills + in_turns.map_or(0, |outcome| outcome.kills),
        "requests": all,
        "failed_requests": failed,
        "users_left": ours.users_left,
        "baseline_rotations": baseline_count,
        "baseline_requests": baseline_requests,
        "baseline_failed_requests": baseline_failed,
    });
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
    fs::create_dir_all(&folder)?;
    let file = folder.join("rotations.json");
    fs::write(&file, format!("{figures:#}\n"))?;
    println!("\n{figures:#}");
    say(&format!("written to {}", file.display()));
    Ok(failed == 0 && ours.users_left == 0 && (baseline_count == 0 || baseline_failed > 0))
}
