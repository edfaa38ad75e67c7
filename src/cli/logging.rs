//! Logs: to standard error, for people on a terminal and as JSON elsewhere.
//!
//! P4 holds at every level, so what other crates may say is capped here,
//! whatever the user asks for. Read in their sources:
//!
//! - kube_client 5.0.0 warns with the whole body of an answer that it cannot
//!   decode (`client/mod.rs`, `request` and `request_status`): a Secret, once
//!   written by something newer, would be in the log. At debug it prints error
//!   bodies, at trace response headers. At error: a status code, or the
//!   transport's error, which holds no body.
//! - rustify 0.7.0 and vaultrs 0.8.0 open spans at info whose fields are the
//!   arguments that were not listed to skip, and print their errors, which
//!   carry the manager's answer, in places.
//! - hyper, hyper-util, h2 and tower print at debug and trace, h2 with frames.
//! - reqwest, rustls and others use the crate `log`, which nothing here reads.
//!
//! So: our own modules at the level asked for, others at error, the two
//! clients of Vault not at all: their errors come back to us as values.
//!
//! Spans are for traces (`crate::traces`). Lines show none, so that they are the same with
//! and without; what a line is about it says itself.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, IsTerminal as _},
    iter, panic,
};

use clap::ValueEnum;
use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry,
    filter::{FilterExt, LevelFilter, filter_fn},
    fmt,
    layer::{Filter, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

use super::Error;
use crate::traces::Traces;

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people on a terminal, as JSON elsewhere
    #[default]
    Auto,
    /// For people
    Human,
    /// One JSON object a line
    Json,
}

/// Sets up logs, traces if there are any, and the panic hook, once for the process.
///
/// # Errors
/// Where logs were set up before.
pub fn start(format: LogFormat, level: &str, traces: Option<&Traces>) -> Result<(), Error> {
    let terminal = io::stderr().is_terminal();
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Human => false,
        LogFormat::Json => true,
    };
    let lines = lines(level)?;
    let lines = if json {
        let json = fmt::layer::<Registry>().json().flatten_event(true).with_current_span(false).with_span_list(false);
        json.with_writer(io::stderr).with_filter(lines).boxed()
    } else {
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        fmt::layer::<Registry>().with_ansi(colours).with_writer(io::stderr).with_filter(lines).boxed()
    };
    let layers: Vec<_> = iter::once(lines).chain(traces.map(Traces::layer)).collect();
    tracing_subscriber::registry().with(layers).try_init()?;
    panic::set_hook(Box::new(report_panic));
    Ok(())
}

fn filter(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder().parse(level).map_err(|_| {
        "write a level (error, warn, info, debug, trace) or directives such as info,botsecret::rollout=debug".to_owned()
    })
}

/// Which lines are written. Of the lines alone: traces are the same at every level.
fn lines(level: &str) -> Result<impl Filter<Registry> + Send + Sync + 'static + use<>, String> {
    let allowed = filter_fn(may_be_a_line).with_max_level_hint(LevelFilter::TRACE);
    Ok(FilterExt::<Registry>::and(filter(level)?, allowed))
}

fn may_be_a_line(metadata: &Metadata<'_>) -> bool {
    metadata.is_event() && may_speak(metadata)
}

/// Takes a level such as `debug`, or directives such as
/// `info,botsecret::rollout=debug`, as they are.
pub(super) fn parse_level(text: &str) -> Result<String, String> {
    // A bare word that is no level would be taken for a module's name, and
    // silence everything else.
    let misspelt = |part: &str| !part.contains('=') && part.trim().parse::<LevelFilter>().is_err();
    match text.split(',').find(|part| misspelt(part)) {
        Some(part) => Err(format!("{part:?} is no level: write error, warn, info, debug, trace or off")),
        None => filter(text).map(|_| text.to_owned()),
    }
}

/// Whether a crate may say something at this level at all.
#[must_use]
pub fn may_speak(metadata: &Metadata<'_>) -> bool {
    let package = metadata.target().split("::").next().unwrap_or_default();
    match package {
        "botsecret" => true,
        "vaultrs" | "rustify" => false,
        _ => *metadata.level() == Level::ERROR,
    }
}

/// Where it panicked, but not with which words: they may hold a value.
fn report_panic(info: &panic::PanicHookInfo<'_>) {
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
    // Holds names of functions, no arguments. Only with RUST_BACKTRACE set.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(
        location,
        thread,
        backtrace,
        "panicked: please report this at the project's page; the panic's own words are withheld, since they may hold a value"
    );
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::{Layer as _, fmt, layer::SubscriberExt as _};

    use super::lines;

    #[test]
    fn p4_other_crates_cannot_be_made_to_speak() {
        let text = written_while("trace", || {
            tracing::trace!(target: "botsecret::fetch", "ours-trace");
            tracing::warn!(target: "kube_client::client", "canary-body");
            tracing::error!(target: "kube_client::client::builder", "theirs-error");
            let span = tracing::info_span!(target: "vaultrs::auth", "login", jwt = "canary-token");
            span.in_scope(|| tracing::error!(target: "botsecret", "ours-error"));
            tracing::error!(target: "rustify::client", "canary-answer");
            tracing::error!(target: "botsecretive", "theirs-other-error");
            tracing::warn!(target: "botsecretive", "canary-prefix");
        });
        for shown in ["ours-trace", "ours-error", "theirs-error", "theirs-other-error"] {
            assert!(text.contains(shown), "{shown} is missing: {text}");
        }
        assert!(!text.contains("canary"), "{text}");
    }

    #[test]
    fn a_line_shows_nothing_of_the_span_that_it_is_written_in() {
        let text = written_while("trace", || {
            let span = tracing::info_span!(target: "botsecret::traces", "in-a-pass", botsecret.name = "of-a-bot");
            span.in_scope(|| tracing::info!(target: "botsecret::runtime", "a-line"));
            let theirs = tracing::error_span!(target: "kube_client", "in-a-request", url = "an-address");
            theirs.in_scope(|| tracing::error!(target: "kube_client", "their-line"));
        });
        assert!(text.contains("a-line") && text.contains("their-line"), "{text}");
        for span in ["in-a-pass", "of-a-bot", "in-a-request", "an-address"] {
            assert!(!text.contains(span), "{span}: {text}");
        }
    }

    #[test]
    fn a_level_is_that_of_lines_alone() {
        let text = written_while("warn,botsecret::rollout=debug", || {
            tracing::info!(target: "botsecret::fetch", "too-low");
            tracing::warn!(target: "botsecret::fetch", "high-enough");
            tracing::debug!(target: "botsecret::rollout", "asked-for");
        });
        assert!(!text.contains("too-low"), "{text}");
        assert!(text.contains("high-enough") && text.contains("asked-for"), "{text}");
    }

    /// The lines that come of this.
    fn written_while(level: &str, work: impl FnOnce()) -> String {
        let written = Arc::new(Mutex::new(Vec::new()));
        let writer = {
            let written = Arc::clone(&written);
            move || Writer(Arc::clone(&written))
        };
        let layer = fmt::layer().with_ansi(false).with_writer(writer).with_filter(lines(level).unwrap());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        let bytes = written.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    struct Writer(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Writer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
}
