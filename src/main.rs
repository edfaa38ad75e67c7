//! The one binary: the operator, and what goes with it.

use std::{alloc::System, process::ExitCode};

use botsecret::cli::Cli;
use clap::Parser as _;
use zeroizing_alloc::ZeroAlloc;

/// Types that wipe themselves cannot reach the copies that parsers, SDKs and buffers
/// make of a value. What is freed anywhere is wiped here.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    // Ends by itself, with code 2, where the words make no sense.
    let cli = Cli::parse();
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
