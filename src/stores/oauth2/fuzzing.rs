//! An issuer's answers.
#![allow(clippy::expect_used, reason = "a finding is a panic")]

use std::time::Duration;

use jiff::Timestamp;

use super::{
    answers::{granted, refusal},
    proof::Proof,
};
use crate::{
    secret::SecretText,
    stores::fuzzing::{answer, silent, told},
};

/// The longest that a token is believed to live.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// A status and a body, as the answer to a token request.
pub(crate) fn answers(input: &[u8]) {
    let Some(answer) = answer(input) else { return };
    let now = Timestamp::from_second(1_000_000).expect("a time");
    if let Some(token) = told(granted(&answer.body, now)) {
        assert!(token.life <= LONGEST, "{:?}", token.life);
        let ends = token.fields.get("expires_at").expect("it ends within reach");
        let ends: Timestamp = std::str::from_utf8(ends.expose()).expect("text").parse().expect("a time");
        assert!(ends <= now + LONGEST);
        assert!(!token.fields.get("access_token").expect("a token").is_empty());
    }
    let client_id = || "bot".to_owned();
    let audience = || "https://issuer.example".to_owned();
    for proof in [
        Proof::Assertion { client_id: client_id(), audience: audience() },
        Proof::Exchange { client_id: None, audience: audience(), requested: None },
        Proof::Secret { client_id: client_id(), secret: SecretText::new("s".to_owned()), in_body: false },
    ] {
        for scopes in ["", "read write"] {
            silent(&refusal(&answer, &proof, scopes));
        }
    }
}
