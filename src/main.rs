//! The one binary: the operator, and what goes with it.

use std::process::ExitCode;

use botsecret::cli::Cli;
use clap::Parser as _;

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
