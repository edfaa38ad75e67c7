//! The command line. Each command is a file; `main` only picks one.
//!
//! Exit codes: 0 done, 1 failed, 2 asked for something that does not exist.

mod cluster;
mod completion;
pub mod crds;
mod doctor;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod logging;
pub mod operator;
mod rotate;
mod sealed;
mod traces;
mod version;

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::{Parser, Subcommand, ValueEnum};

use crate::api::Timeout;

/// What any command may fail with. Its text goes to people, so it holds no
/// values.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Keeps Kubernetes Secrets true to external secret managers, read with each
/// bot's own identity, and rolls workloads when a value rotates.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage.")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator until it is told to stop
    Operator(Box<operator::OperatorArguments>),
    /// Rotate what a BotSecret gives its bots now, whatever windows and pauses say
    Rotate(rotate::RotateArguments),
    /// Say what is wrong with an installation, or would be, and what to do about it
    Doctor(doctor::DoctorArguments),
    /// Print the custom resource definitions, or write them to a folder
    Crds(crds::CrdsArguments),
    /// Print the version and what this build can speak to
    Version(version::VersionArguments),
    /// Print a completion script for a shell
    Completion(completion::CompletionArguments),
}

impl Cli {
    /// Does what was asked for.
    ///
    /// # Errors
    /// What went wrong, for people.
    pub fn run(self) -> Result<(), Error> {
        match self.command {
            Command::Operator(arguments) => operator::run(*arguments),
            Command::Rotate(arguments) => rotate::run(arguments),
            Command::Doctor(arguments) => doctor::run(arguments),
            Command::Crds(arguments) => crds::run(&arguments),
            Command::Version(arguments) => version::run(&arguments),
            Command::Completion(arguments) => completion::run(&arguments),
        }
    }
}

/// How data is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    /// For people
    #[default]
    Text,
    /// One JSON document
    Json,
    /// One YAML document
    Yaml,
}

/// Prints to standard output. A reader that has seen enough, such as `head`,
/// is no failure.
fn print(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// How long a command is to wait.
fn parse_patience(text: &str) -> Result<Duration, String> {
    let read: Result<Timeout, _> = serde_json::from_value(text.into());
    read.ok()
        .map(|Timeout(patience)| patience)
        .filter(|patience| !patience.is_zero())
        .ok_or_else(|| "write a duration of more than nothing, such as 90s or 10m".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::parse_patience;

    #[test]
    fn patience_is_a_duration_of_more_than_nothing() {
        assert_eq!(parse_patience("1m30s"), Ok(Duration::from_secs(90)));
        for wrong in ["", "0", "0s", "soon", "-1s", "90"] {
            assert!(parse_patience(wrong).is_err(), "{wrong}");
        }
    }
}
