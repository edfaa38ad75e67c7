//! Durations as Go and so Kubernetes write them, such as `1m30s`.

use std::{borrow::Cow, fmt::Write as _, time::Duration};

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

/// As the definitions' rules have it, some of them without hours.
#[cfg(any(test, fuzzing))]
pub(crate) const ADMITTED: &str = "^([0-9]{1,6}([.][0-9]{1,3})?(ms|s|m|h)){1,4}$";

/// The largest number that the definitions take with a unit.
const MOST: u64 = 999_999;

fn as_text<S: Serializer>(duration: Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&written(duration))
}

/// In seconds, as kube writes durations, wherever the definitions take that: numbers of
/// six digits, and three after the point. Otherwise in as many parts as it needs.
fn written(duration: Duration) -> String {
    let is_whole = duration.subsec_nanos().is_multiple_of(1_000_000);
    if duration.as_secs() <= MOST && (is_whole || duration.as_secs() == 0) {
        return in_one_unit(duration);
    }
    let (mut hours, seconds) = (duration.as_secs() / 3600, duration.as_secs() % 3600);
    let mut text = String::new();
    while hours > 0 {
        // The rules of the definitions know no more than 292 years, however written.
        let part = if hours > 3 * MOST { hours } else { hours.min(MOST) };
        let _ = write!(text, "{part}h");
        hours -= part;
    }
    let below = Duration::from_nanos(duration.subsec_nanos().into());
    let seconds = Duration::from_secs(seconds);
    let rest = if is_whole { vec![seconds + below] } else { vec![seconds, below] };
    for part in rest.into_iter().filter(|part| !part.is_zero()) {
        text.push_str(&in_one_unit(part));
    }
    text
}

fn in_one_unit(duration: Duration) -> String {
    if duration.is_zero() {
        // kube writes "0ns", whose unit the definitions do not take.
        return "0s".to_owned();
    }
    if duration < Duration::from_millis(1) {
        // kube writes "µs" and "ns", which they do not take either.
        let digits = format!("{:06}", duration.subsec_nanos());
        return format!("0.{}ms", digits.trim_end_matches('0'));
    }
    kube::core::Duration::from(duration).to_string()
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
    use std::{fmt::Write as _, time::Duration};

    use proptest::prelude::*;
    use regex::Regex;

    use super::{ADMITTED, Interval, parse, written};
    use crate::api::definitions;

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

    #[test]
    fn the_definitions_admit_durations_of_the_form_that_is_written() {
        let rules = serde_json::to_string(&definitions()).expect("JSON");
        let without_hours = ADMITTED.replace("|h)", ")");
        let all = rules.matches("[0-9]{1,6}([.][0-9]{1,3})?").count();
        let (known, short) = (rules.matches(ADMITTED).count(), rules.matches(&without_hours).count());
        assert!(known > 0 && short > 0 && known + short == all, "{known} and {short} of {all}");
    }

    #[test]
    fn what_is_too_long_to_be_written_in_seconds_is_written_in_hours_as_well() {
        for (text, again) in [
            ("999999s", "999999s"),
            ("1000000s", "277h2800s"),
            ("2160h", "2160h"),
            ("999999.999ms", "999s999.999ms"),
            ("1h0.001ms", "1h0.001ms"),
            ("277h46m39.001s", "999999.001s"),
            ("277h46m40.5s", "277h2800.5s"),
            ("999999h999999m999999s999999.999ms", "999999h16944h2538s999.999ms"),
        ] {
            let duration = parse(text).expect(text);
            assert_eq!(written(duration), again, "{text}");
            assert_eq!(parse(again), Some(duration), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_the_definitions_admit_is_written_as_they_admit_it(
            parts in prop::collection::vec((0_u32..1_000_000, 0_usize..4, 0_u32..1000, "ms|s|m"), 1..4),
            hours in 0_u32..1_000_000,
        ) {
            let mut text = format!("{hours}h");
            for (whole, digits, fraction, unit) in parts {
                let fraction = format!(".{fraction:03}");
                let fraction = if digits == 0 { "" } else { &fraction[..=digits] };
                let _ = write!(text, "{whole}{fraction}{unit}");
            }
            let admitted = Regex::new(ADMITTED).expect("a pattern");
            prop_assert!(admitted.is_match(&text), "{}", text);
            let duration = parse(&text).expect("a duration");
            let again = written(duration);
            prop_assert!(admitted.is_match(&again), "{} became {}", text, again);
            prop_assert_eq!(parse(&again), Some(duration));
        }

        #[test]
        fn every_duration_is_read_as_it_was_written(milliseconds: u64, nanoseconds in 0_u32..1_000_000) {
            let duration = Duration::from_millis(milliseconds >> 1) + Duration::from_nanos(nanoseconds.into());
            prop_assert_eq!(parse(&written(duration)), Some(duration));
        }
    }
}
