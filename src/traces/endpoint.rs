//! What is written on the command line.

use std::{convert::Infallible, str::FromStr};

use url::Url;

/// Where traces are sent. Empty is nowhere, as in OpenTelemetry's own variables: "The SDK
/// MUST interpret an empty value of an environment variable the same way as when the
/// variable is unset" (its specification, Environment Variable Specification).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Result<Option<Url>, Fault>);

/// Why an endpoint cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is no URL of HTTP.
    NoUrl,
    /// It holds a user or a password, which a process shows in its arguments.
    Credentials,
}

/// Nothing is refused here: what is refused while arguments are parsed is printed, and this
/// may hold what proves who sends. Besides, traces may be switched off.
impl FromStr for Endpoint {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self(Ok(None)));
        }
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        Ok(Self(match url {
            Some(url) if !url.username().is_empty() || url.password().is_some() => Err(Fault::Credentials),
            Some(url) => Ok(Some(url)),
            None if text.contains('@') => Err(Fault::Credentials),
            None => Err(Fault::NoUrl),
        }))
    }
}

impl Endpoint {
    /// As it stands.
    #[must_use]
    pub fn url(&self) -> Option<Url> {
        self.0.clone().ok().flatten()
    }

    /// That of traces below it: "non-signal-specific endpoints are used as base URLs"
    /// (OpenTelemetry Protocol Exporter, Endpoint URLs for OTLP/HTTP).
    #[must_use]
    pub fn of_traces(&self) -> Option<Url> {
        let mut url = self.url()?;
        let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Some(url)
    }

    /// Why it cannot be used, if so.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        self.0.as_ref().err().copied()
    }
}

/// Which share of the traces is sent, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio(f64);

impl FromStr for Ratio {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ratio = text.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        ratio.map(Self).ok_or_else(|| "write a number from 0 (none) to 1 (all), such as 0.1".to_owned())
    }
}

impl Ratio {
    pub(super) fn get(self) -> f64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, Fault, Ratio};

    fn endpoint(text: &str) -> Endpoint {
        let Ok(endpoint) = text.parse();
        endpoint
    }

    #[test]
    fn an_endpoint_is_taken_as_it_stands_and_a_base_gets_the_path_of_traces() {
        for (text, as_it_stands, of_traces) in [
            ("http://collector:4318", "http://collector:4318/", "http://collector:4318/v1/traces"),
            ("https://c.example/otlp/", "https://c.example/otlp/", "https://c.example/otlp/v1/traces"),
            ("http://[::1]:4318/v1/traces", "http://[::1]:4318/v1/traces", "http://[::1]:4318/v1/traces/v1/traces"),
        ] {
            assert_eq!(endpoint(text).url().expect("a URL").as_str(), as_it_stands);
            assert_eq!(endpoint(text).of_traces().expect("a URL").as_str(), of_traces);
        }
        assert_eq!((endpoint("").url(), endpoint("").of_traces()), (None, None));
    }

    #[test]
    fn what_is_no_url_of_http_and_credentials_in_one_are_seen_and_not_used() {
        let (no_url, credentials) = (Some(Fault::NoUrl), Some(Fault::Credentials));
        for (text, wanted) in [
            ("collector:4318", no_url),
            ("collector", no_url),
            ("grpc://collector:4317", no_url),
            ("http://", no_url),
            ("unix:///run/otel.sock", no_url),
            (" ", no_url),
            ("https://user@c.example", credentials),
            ("https://:word@c.example", credentials),
            ("grpc://user:word@c.example:4317", credentials),
            ("user:word@c.example:4317", credentials),
            ("https://user:word@", credentials),
            ("https://c.example/a@b", None),
            ("https://c.example", None),
            ("", None),
        ] {
            assert_eq!(endpoint(text).fault(), wanted, "{text}");
            assert!(wanted.is_none() || endpoint(text).url().is_none(), "{text}");
        }
    }

    #[test]
    fn a_ratio_is_a_number_from_none_to_all() {
        for (text, wanted) in [("0", 0.0), ("1", 1.0), ("0.25", 0.25), ("1e-3", 0.001)] {
            assert_eq!(text.parse::<Ratio>(), Ok(Ratio(wanted)), "{text}");
        }
        for wrong in ["", "-0.1", "1.1", "NaN", "inf", "10%", "half"] {
            assert!(wrong.parse::<Ratio>().is_err(), "{wrong}");
        }
    }
}
