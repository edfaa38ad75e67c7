//! How it is printed.

use std::fmt::Write as _;

use serde::Serialize;

use super::{
    super::{Error, OutputFormat},
    findings::{Finding, State},
};

/// For programs.
#[derive(Serialize)]
struct Report<'a> {
    healthy: bool,
    findings: &'a [Finding],
}

pub(super) fn shown(found: &[Finding], output: OutputFormat, colours: bool) -> Result<String, Error> {
    let report = Report { healthy: found.iter().all(|one| one.state != State::Wrong), findings: found };
    Ok(match output {
        OutputFormat::Text => text(found, colours),
        OutputFormat::Json => format!("{}\n", serde_json::to_string_pretty(&report)?),
        OutputFormat::Yaml => serde_yaml::to_string(&report)?,
    })
}

fn text(found: &[Finding], colours: bool) -> String {
    let mut text = String::new();
    for Finding { check, state, message, fix } in found {
        let (mark, colour) = match state {
            State::Well => ("✓", 32),
            State::Wrong => ("✗", 31),
            State::Unknown => ("–", 33),
        };
        let mark = if colours { format!("\x1b[{colour}m{mark}\x1b[0m") } else { mark.to_owned() };
        // A String takes everything.
        let _ = writeln!(text, "{mark} {message}");
        if *state == State::Wrong {
            let _ = writeln!(text, "    do: {fix}\n    see: docs/doctor.md#{check}");
        }
    }
    text
}
