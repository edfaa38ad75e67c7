//! What people write in single fields, and what may be repeated of what was said.

use std::{fmt::Write as _, sync::LazyLock, time::Duration};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jiff::{SignedDuration, Timestamp};
use regex::Regex;
use serde::{Serialize, de::DeserializeOwned};

use super::split;
use crate::{
    api::{self, Interval, RotationSchedule, Timeout, Window},
    apply, candidate, plan, redact,
    rollout::{Opening, opening},
    secret::{SecretBytes, SecretData},
};

/// Fewer than the definitions take: each is looked at for a year of moments.
const MOST_WINDOWS: usize = 3;

/// 200 years; what is longer in microseconds is no duration of the API server's.
const LONGEST_ADMITTED: Duration = Duration::from_secs(200 * 365 * 24 * 3600);

static ADMITTED: LazyLock<Regex> = LazyLock::new(|| Regex::new(api::ADMITTED).expect("a pattern"));

/// Durations: what is written is what was read, in a form that the definitions take.
pub(super) fn durations(input: &[u8]) {
    fn again<T>(text: &str, life: impl FnOnce(T) -> Duration)
    where
        T: Serialize + DeserializeOwned + PartialEq + Copy + std::fmt::Debug,
    {
        let Ok(read) = serde_json::from_value::<T>(text.into()) else { return };
        let written = serde_json::to_value(read).expect("text");
        if ADMITTED.is_match(text) && life(read) <= LONGEST_ADMITTED {
            assert!(written.as_str().is_some_and(|written| ADMITTED.is_match(written)), "{text} became {written}");
        }
        let read_again: T = serde_json::from_value(written).expect("what was written is read");
        assert_eq!(read_again, read);
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    again(text, |Interval(life)| life);
    again(text, |Timeout(life)| life);
    let _ = serde_json::from_str::<Interval>(text);
}

/// Longer ones the definitions do not take.
const LONGEST_CRON: usize = 100;

/// Schedules of rotations: the next one lies ahead, and is the next one until it comes. What
/// is not refused does come.
pub(super) fn schedules(input: &[u8]) {
    let Some((since, schedule)) = split(input) else { return };
    let Ok(since) = since.parse::<Timestamp>() else { return };
    let Ok(schedule) = serde_json::from_slice::<RotationSchedule>(schedule) else { return };
    if schedule.cron.len() > LONGEST_CRON {
        return;
    }
    let Ok(next) = plan::first_after(&schedule, since) else { return };
    let Some(next) = next else {
        // No time zone has left a whole day out since Samoa did, and the library ends in 5000.
        let [from, to] =
            ["2012-01-02T00:00:00Z", "4900-01-01T00:00:00Z"].map(|text| text.parse::<Timestamp>().expect("a time"));
        assert!(!(from..to).contains(&since), "{schedule:?} never comes after {since}");
        return;
    };
    assert!(next > since, "{next} is not after {since}");
    if let Ok(before) = next.checked_sub(SignedDuration::from_secs(1)) {
        assert_eq!(plan::first_after(&schedule, before), Ok(Some(next)));
    }
}

/// Windows: the moment at which workloads may roll is one, and lies ahead.
pub(super) fn windows(input: &[u8]) {
    let Some((now, windows)) = split(input) else { return };
    let Ok(now) = now.parse::<Timestamp>() else { return };
    let Ok(mut windows) = serde_json::from_slice::<Vec<Window>>(windows) else { return };
    windows.truncate(MOST_WINDOWS);
    // What the API server refuses is never looked at.
    windows.retain(|window| window.schedule.len() <= LONGEST_CRON);
    if let Ok(Opening::Closed(Some(opens))) = opening(&windows, now) {
        assert!(opens > now, "{opens} is not after {now}");
        assert_eq!(opening(&windows, opens), Ok(Opening::Open));
    }
}

/// What programs and API servers say: no value of the Secret is repeated, in whatever
/// form it is quoted.
pub(super) fn redaction(input: &[u8]) {
    let Some((value, message)) = split(input) else { return };
    let Ok(message) = std::str::from_utf8(message) else { return };
    let data = SecretData::from([("KEY".to_owned(), SecretBytes::new(value.into()))]);
    let said = candidate::said(message, &data);
    assert!(said.chars().count() <= 210 && !said.chars().any(char::is_control), "{said}");
    let repeated = apply::quotable(message, &data);
    // Shorter ones are no secrets.
    if value.len() < 4 {
        return;
    }
    if let Some(shown) = said.strip_prefix(": ") {
        assert!(!shown.strip_suffix('…').unwrap_or(shown).contains(value), "{shown}");
    }
    // Otherwise these are words written here.
    if repeated.as_ptr() == message.as_ptr() {
        assert!(!repeated.contains(value), "{repeated}");
    }
    for form in forms(value) {
        assert!(redact::quotes(&format!("{message}{form}{message}"), &data), "{form}");
    }
}

/// A value as programs print it.
fn forms(value: &str) -> Vec<String> {
    let hex = value.bytes().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    vec![
        value.to_owned(),
        STANDARD.encode(value),
        URL_SAFE_NO_PAD.encode(value),
        hex.to_uppercase(),
        hex,
        serde_json::to_string(value).expect("text"),
    ]
}

/// A defect that nobody meets by chance.
pub(super) fn planted(input: &[u8]) {
    if input.first() == Some(&b'b') && input.get(1) == Some(&b'u') && input.get(2) == Some(&b'g') {
        assert_ne!(input.get(3), Some(&b'!'), "the planted defect");
    }
}
