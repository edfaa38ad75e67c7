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

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, IsTerminal as _},
    panic,
};

use clap::ValueEnum;
use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry,
    filter::{LevelFilter, filter_fn},
    fmt,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use super::Error;

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

/// Sets up logs and the panic hook, once for the process.
///
/// # Errors
/// Where logs were set up before.
pub fn start(format: LogFormat, level: &str) -> Result<(), Error> {
    let terminal = io::stderr().is_terminal();
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Human => false,
        LogFormat::Json => true,
    };
    let lines = if json {
        fmt::layer::<Registry>().json().flatten_event(true).with_writer(io::stderr).boxed()
    } else {
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        fmt::layer::<Registry>().with_ansi(colours).with_writer(io::stderr).boxed()
    };
    tracing_subscriber::registry().with(lines).with(filter(level)?).with(filter_fn(may_speak)).try_init()?;
    panic::set_hook(Box::new(report_panic));
    Ok(())
}

fn filter(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder().parse(level).map_err(|_| {
        "write a level (error, warn, info, debug, trace) or directives such as info,botsecret::rollout=debug".to_owned()
    })
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

    use tracing_subscriber::{filter::filter_fn, fmt, layer::SubscriberExt as _};

    use super::{filter, may_speak};

    #[test]
    fn p4_other_crates_cannot_be_made_to_speak() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let lines = fmt::layer().with_ansi(false).with_writer({
            let written = Arc::clone(&written);
            move || Writer(Arc::clone(&written))
        });
        let subscriber =
            tracing_subscriber::registry().with(lines).with(filter("trace").unwrap()).with(filter_fn(may_speak));
        tracing::subscriber::with_default(subscriber, || {
            tracing::trace!(target: "botsecret::fetch", "ours-trace");
            tracing::warn!(target: "kube_client::client", "canary-body");
            tracing::error!(target: "kube_client::client::builder", "theirs-error");
            let span = tracing::info_span!(target: "vaultrs::auth", "login", jwt = "canary-token");
            span.in_scope(|| tracing::error!(target: "botsecret", "ours-error"));
            tracing::error!(target: "rustify::client", "canary-answer");
            tracing::error!(target: "botsecretive", "theirs-other-error");
            tracing::warn!(target: "botsecretive", "canary-prefix");
        });
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        for shown in ["ours-trace", "ours-error", "theirs-error", "theirs-other-error"] {
            assert!(text.contains(shown), "{shown} is missing: {text}");
        }
        assert!(!text.contains("canary"), "{text}");
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
