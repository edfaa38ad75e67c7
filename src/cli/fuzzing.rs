//! What people write on the command line (see [`crate::fuzzing`]).
#![allow(clippy::expect_used, reason = "a finding is a panic")]

use std::time::Duration;

use super::{operator::Namespaces, parse_patience};
use crate::api::Timeout;

pub(crate) use super::doctor::fuzzing::answers as doctor;

/// Longer than any name of the API server's.
const LONGEST_NAME: usize = 63;

/// A flag's value: lists never come to mean more than they say, and waits have an end.
pub(crate) fn flags(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(Namespaces(names)) = text.parse::<Namespaces>() {
        assert_eq!(names.is_empty(), text.is_empty(), "only nothing at all means the whole cluster");
        let is_label = |name: &String| {
            let letters = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
            (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(letters)
        };
        assert!(names.iter().all(is_label), "{names:?}");
        let again: Namespaces = names.join(",").parse().expect("what was written is read");
        assert_eq!(again.0, names);
    }
    if let Ok(patience) = parse_patience(text) {
        assert!(patience > Duration::ZERO);
        let written = serde_json::to_value(Timeout(patience)).expect("text");
        assert_eq!(parse_patience(written.as_str().expect("text")), Ok(patience));
    }
}
