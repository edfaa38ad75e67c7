//! What is written on the command line.

use std::str::FromStr;

use url::Url;

/// Where traces are sent. Empty is nowhere, as in OpenTelemetry's own variables: "The SDK
/// MUST interpret an empty value of an environment variable the same way as when the
/// variable is unset" (its specification, Environment Variable Specification).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    url: Option<Url>,
    has_credentials: bool,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self { url: None, has_credentials: false });
        }
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        match url {
            Some(url) => {
                let has_credentials = !url.username().is_empty() || url.password().is_some();
                Ok(Self { url: Some(url), has_credentials })
            }
            // Not refused here: what is refused while arguments are parsed is printed.
            None if text.contains('@') => Ok(Self { url: None, has_credentials: true }),
            None => Err("write a URL of http or https, such as http://collector:4318/v1/traces".to_owned()),
        }
    }
}

impl Endpoint {
    /// As it stands.
    #[must_use]
    pub fn url(&self) -> Option<Url> {
        self.url.clone()
    }

    /// That of traces below it: "non-signal-specific endpoints are used as base URLs"
    /// (OpenTelemetry Protocol Exporter, Endpoint URLs for OTLP/HTTP).
    #[must_use]
    pub fn of_traces(&self) -> Option<Url> {
        let mut url = self.url.clone()?;
        let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Some(url)
    }

    /// Whether it holds a user or a password, which a process shows in its arguments. It
    /// may be no URL of HTTP then, either.
    #[must_use]
    pub fn has_credentials(&self) -> bool {
        self.has_credentials
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
    use super::{Endpoint, Ratio};

    fn endpoint(text: &str) -> Endpoint {
        text.parse().expect("an endpoint")
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
    fn what_is_no_url_of_http_is_refused_with_what_to_write() {
        for wrong in ["collector:4318", "collector", "grpc://collector:4317", "http://", "unix:///run/otel.sock", " "] {
            let said = wrong.parse::<Endpoint>().expect_err(wrong);
            assert!(said.contains("http://collector:4318/v1/traces"), "{wrong}: {said}");
        }
    }

    #[test]
    fn credentials_in_an_endpoint_are_seen() {
        for (text, holds) in [
            ("https://user@c.example", true),
            ("https://:word@c.example", true),
            ("grpc://user:word@c.example:4317", true),
            ("user:word@c.example:4317", true),
            ("https://user:word@", true),
            ("https://c.example/a@b", false),
            ("https://c.example", false),
            ("", false),
        ] {
            assert_eq!(endpoint(text).has_credentials(), holds, "{text}");
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
