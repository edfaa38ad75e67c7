//! Whether traces are sent, and where: by options or by OpenTelemetry's own variables.

use clap::{Args, CommandFactory as _, error::ErrorKind};
use url::Url;

use super::Cli;
use crate::traces::{Endpoint, Fault, Ratio, Settings};

/// What `botsecret operator` takes for traces.
#[derive(Debug, Args)]
pub(super) struct TracesArguments {
    /// Send traces to this URL, as it stands, by OTLP over HTTP, never with a value: http://collector:4318/v1/traces [default: nowhere]
    #[arg(long, env = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", value_name = "URL", hide_env_values = true)]
    traces_endpoint: Option<Endpoint>,

    /// The same by the collector's base URL, to which /v1/traces is added. --traces-endpoint comes before it
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL", hide_env_values = true)]
    otlp_endpoint: Option<Endpoint>,

    /// Which share of the traces is sent, from 0 to 1 [default: as OTEL_TRACES_SAMPLER says, else all]
    #[arg(long, env = "BOTSECRET_TRACES_SAMPLE_RATIO", value_name = "RATIO")]
    traces_sample_ratio: Option<Ratio>,
}

impl TracesArguments {
    /// What is to be sent where; `None`: nothing. Ends the process where an endpoint cannot
    /// be used. Not while they are parsed: what is refused there is printed.
    pub(super) fn settings(&self, place: Vec<(&'static str, String)>) -> Option<Settings> {
        if is_off(|name| std::env::var(name).ok()) {
            return None;
        }
        let endpoints = [&self.traces_endpoint, &self.otlp_endpoint];
        if let Some(fault) = endpoints.into_iter().flatten().find_map(Endpoint::fault) {
            wrong_usage(match fault {
                Fault::NoUrl => {
                    "the endpoint of traces is no URL of http or https: write one, such as http://collector:4318/v1/traces"
                }
                Fault::Credentials => {
                    "the endpoint of traces holds a user or a password: write it without, and what proves who sends as a header in OTEL_EXPORTER_OTLP_HEADERS"
                }
            });
        }
        Some(Settings { endpoint: self.endpoint()?, ratio: self.traces_sample_ratio, place })
    }

    fn endpoint(&self) -> Option<Url> {
        let own = self.traces_endpoint.as_ref().and_then(Endpoint::url);
        own.or_else(|| self.otlp_endpoint.as_ref().and_then(Endpoint::of_traces))
    }
}

/// Whether OpenTelemetry's variables switch traces off, wherever they would be sent: the
/// library itself reads neither of the two (its specification, Environment Variable
/// Specification).
fn is_off(variable: impl Fn(&str) -> Option<String>) -> bool {
    // A Boolean is "true only by the case-insensitive string "true"" (same place).
    let is_disabled = variable("OTEL_SDK_DISABLED").is_some_and(|said| said.eq_ignore_ascii_case("true"));
    is_disabled || variable("OTEL_TRACES_EXPORTER").is_some_and(|said| said.eq_ignore_ascii_case("none"))
}

fn wrong_usage(wrong: &str) -> ! {
    let mut command = Cli::command();
    command.build();
    let command = match command.find_subcommand_mut("operator") {
        Some(operator) => operator,
        None => &mut command,
    };
    command.error(ErrorKind::ValueValidation, wrong).exit()
}

#[cfg(test)]
mod tests {
    use super::is_off;

    #[test]
    fn traces_are_off_where_opentelemetrys_own_variables_say_so() {
        for (name, said, wanted) in [
            ("OTEL_SDK_DISABLED", "true", true),
            ("OTEL_SDK_DISABLED", "TRUE", true),
            ("OTEL_SDK_DISABLED", "1", false),
            ("OTEL_SDK_DISABLED", "false", false),
            ("OTEL_SDK_DISABLED", "", false),
            ("OTEL_TRACES_EXPORTER", "none", true),
            ("OTEL_TRACES_EXPORTER", "otlp", false),
            ("OTEL_TRACES_EXPORTER", "", false),
            ("OTEL_METRICS_EXPORTER", "none", false),
        ] {
            let variable = |asked: &str| (asked == name).then(|| said.to_owned());
            assert_eq!(is_off(variable), wanted, "{name}={said}");
        }
        assert!(!is_off(|_| None));
    }
}
