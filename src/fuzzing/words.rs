//! What people write in single fields, and what may be repeated of what was said.

use std::fmt::Write as _;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};

use super::split;
use crate::{
    api::{Interval, Timeout, Window},
    apply, candidate, redact,
    rollout::{Opening, opening},
    secret::{SecretBytes, SecretData},
};

/// As the definitions have it.
const MOST_WINDOWS: usize = 10;

/// Durations: what is written is what was read.
pub(super) fn durations(input: &[u8]) {
    fn again<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(text: &str) {
        let Ok(read) = serde_json::from_value::<T>(text.into()) else { return };
        let written = serde_json::to_value(&read).expect("text");
        let read_again: T = serde_json::from_value(written).expect("what was written is read");
        assert_eq!(read_again, read);
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    again::<Interval>(text);
    again::<Timeout>(text);
    let _ = serde_json::from_str::<Interval>(text);
}

/// Windows: the moment at which workloads may roll is one, and lies ahead.
pub(super) fn windows(input: &[u8]) {
    let Some((now, windows)) = split(input) else { return };
    let Ok(now) = now.parse::<Timestamp>() else { return };
    let Ok(mut windows) = serde_json::from_slice::<Vec<Window>>(windows) else { return };
    // What the API server refuses is never looked at.
    windows.retain(|window| window.schedule.len() <= 100 && window.schedule.split(' ').count() == 5);
    windows.truncate(MOST_WINDOWS);
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
