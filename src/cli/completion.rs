//! `botsecret completion`.

use clap::{Args, CommandFactory as _};
use clap_complete::{Shell, generate};

use super::{Cli, Error, print};

/// What `botsecret completion` takes.
#[derive(Debug, Args)]
#[command(after_help = "To use it in this shell: source <(botsecret completion bash)")]
pub(super) struct CompletionArguments {
    /// The shell to complete in
    shell: Shell,
}

pub(super) fn run(arguments: &CompletionArguments) -> Result<(), Error> {
    let mut script = Vec::new();
    generate(arguments.shell, &mut Cli::command(), "botsecret", &mut script);
    print(&String::from_utf8(script)?)
}
