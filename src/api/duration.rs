//! Durations as Go and so Kubernetes write them, such as `1m30s`.

use std::{borrow::Cow, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Hours, minutes, seconds and milliseconds; `0` alone needs no unit. The
/// library's own parser takes more, and panics on what is too large or below
/// zero; one such object must not end a watch.
fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    loop {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, after) = after.split_at(after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len()));
        let milliseconds: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let whole: u64 = whole.parse().ok()?;
        let (digits, scale): (u64, u64) =
            (fraction.parse().ok()?, 10_u64.checked_pow(fraction.len().try_into().ok()?)?);
        let nanoseconds = digits.checked_mul(milliseconds)?.checked_mul(1_000_000)?.checked_div(scale)?;
        let part =
            Duration::from_millis(whole.checked_mul(milliseconds)?).checked_add(Duration::from_nanos(nanoseconds))?;
        total = total.checked_add(part)?;
        if after.is_empty() {
            // No longer than what is read again where it is written in seconds.
            return u64::try_from(total.as_millis()).is_ok().then_some(total);
        }
        rest = after;
    }
}

fn as_text<S: Serializer>(duration: Duration, serializer: S) -> Result<S::Ok, S::Error> {
    if duration.is_zero() {
        // kube writes "0ns", whose unit the definitions do not take.
        return serializer.serialize_str("0s");
    }
    if duration < Duration::from_millis(1) {
        // kube writes "µs" and "ns", which they do not take either.
        let digits = format!("{:06}", duration.subsec_nanos());
        return serializer.serialize_str(&format!("0.{}ms", digits.trim_end_matches('0')));
    }
    kube::core::Duration::from(duration).serialize(serializer)
}

/// How long something may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timeout(pub Duration);

impl From<Timeout> for Duration {
    fn from(timeout: Timeout) -> Self {
        timeout.0
    }
}

impl Serialize for Timeout {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        as_text(self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Timeout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).map(Self).ok_or_else(|| D::Error::custom("not a duration such as \"10s\""))
    }
}

impl JsonSchema for Timeout {
    fn schema_name() -> Cow<'static, str> {
        "Timeout".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// How long to wait between refreshes; zero means "read once".
///
/// Written as a Go duration. The bare number `0` is accepted too, since
/// `refreshInterval: 0` is what people write in YAML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval(pub Duration);

impl Interval {
    /// One hour, the default of External Secrets as well.
    pub const DEFAULT: Self = Self(Duration::from_hours(1));

    /// `None` when the value is to be read only once.
    #[must_use]
    pub fn period(self) -> Option<Duration> {
        (!self.0.is_zero()).then_some(self.0)
    }
}

impl Serialize for Interval {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        as_text(self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(0) => Ok(Self(Duration::ZERO)),
            Written::Number(n) => Err(D::Error::custom(format!("write a unit, such as \"{n}s\""))),
            Written::Text(text) => {
                parse(&text).map(Self).ok_or_else(|| D::Error::custom("not a duration such as \"1m30s\""))
            }
        }
    }
}

impl JsonSchema for Interval {
    fn schema_name() -> Cow<'static, str> {
        "Interval".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "x-kubernetes-int-or-string": true })
    }
}

#[cfg(test)]
mod tests {
    use super::{Interval, parse};
    use std::time::Duration;

    #[test]
    fn zero_may_be_written_as_a_number_or_as_text() {
        for text in ["0", "\"0\"", "\"0s\""] {
            let interval: Interval = serde_json::from_str(text).expect(text);
            assert_eq!(interval.period(), None, "{text}");
            assert_eq!(serde_json::to_value(interval).expect(text), "0s");
        }
    }

    #[test]
    fn a_go_duration_is_read_and_a_bare_number_or_a_negative_one_is_refused() {
        let cases = [("1m30s", 90_000), ("1.5h", 5_400_000), ("100ms", 100), ("0.25s", 250), ("1h1m1s1ms", 3_661_001)];
        for (text, milliseconds) in cases {
            let interval: Interval = serde_json::from_value(text.into()).expect(text);
            assert_eq!(interval.period(), Some(Duration::from_millis(milliseconds)), "{text}");
            let again = serde_json::to_value(interval).expect(text);
            assert_eq!(serde_json::from_value::<Interval>(again).expect(text), interval);
        }
        for text in
            ["30", "\"-1s\"", "\"1d\"", "\"\"", "true", "\"1\"", "\"s\"", "\".5s\"", "\"1.s\"", "\"1.2.3s\"", "null"]
        {
            assert!(serde_json::from_str::<Interval>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_again_however_short_or_long_it_is() {
        for (text, again) in
            [("0.5ms", "0.5ms"), ("0.000001ms", "0.000001ms"), ("0.0001s", "0.1ms"), ("1.5ms", "1.5ms")]
        {
            let interval: Interval = serde_json::from_value(text.into()).expect(text);
            let written = serde_json::to_value(interval).expect(text);
            assert_eq!(written, again, "{text}");
            assert_eq!(serde_json::from_value::<Interval>(written).expect(text), interval);
        }
        let longest = format!("{}ms", u64::MAX);
        let interval: Interval = serde_json::from_value(longest.clone().into()).expect("the longest");
        let written = serde_json::to_value(interval).expect("text");
        assert_eq!(serde_json::from_value::<Interval>(written).expect("read again"), interval);
        assert!(parse(&format!("{longest}1ms")).is_none());
    }

    #[test]
    fn a_hostile_duration_is_an_error_and_no_panic() {
        let digits = "9".repeat(30);
        for text in
            [format!("{digits}s"), format!("1.{digits}s"), format!("{}h", u64::MAX), "1s-3s".into(), "1é".into()]
        {
            assert!(parse(&text).is_none(), "{text}");
        }
    }
}
