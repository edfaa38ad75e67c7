//! Vault's answers, and paths in it.
#![allow(clippy::expect_used, reason = "a finding is a panic")]

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::jiff::Timestamp;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{
    answers::{Doing, refusal},
    find,
    lease::{
        self,
        gone::{is_dead_token, is_gone, was_gone},
        issued::issued,
    },
    login::{ENDLESS, logged_in},
    login_token,
    metadata::custom,
    mounts::{Engine, lookup},
    paths::clean,
    read::{Place, first_engine, missing, second_engine},
    write,
};
use crate::{
    secret::SecretBytes,
    stores::fuzzing::{answer, silent, told},
};

/// Nothing that is issued is taken to live longer: ten years.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A status and a body, as the answer to everything that is asked.
pub(crate) fn answers(input: &[u8]) {
    let Some(answer) = answer(input) else { return };
    let body = answer.body.as_slice();
    for read in [first_engine(body, false), first_engine(body, true), second_engine(body)] {
        told(read);
    }
    told(custom(body));
    told(lookup::parse(body, "secret/team/bot"));
    for name in told(find::parse(body)).into_iter().flatten() {
        if let Ok(path) = find::joined("folder", &name) {
            let stem = path.strip_suffix('/').unwrap_or(&path);
            assert!(path.starts_with("folder/") && clean(stem, "path").is_ok(), "{path}");
        }
    }
    let now = Instant::now();
    if let Some(login) = told(logged_in(body, now)) {
        assert!(login.expires <= now + ENDLESS && !login.token.expose().is_empty());
    }
    let clock = Timestamp::from_second(1_000_000).expect("a time");
    if let Some(issued) = told(issued(body, clock)) {
        assert!(issued.life.is_some_and(|life| life <= LONGEST), "{:?}", issued.life);
    }
    renewals(body);
    refusals(&answer);
    written(body);
}

/// What is said of a token, a lease or the login that holds it: no life is without end.
fn renewals(body: &[u8]) {
    if let Some(token) = told(login_token::looked_up(body)) {
        assert!(token.life() <= ENDLESS);
        let _ = token.is_to_be_renewed();
    }
    assert!(login_token::granted(body).is_none_or(|life| life <= ENDLESS));
    for of_lease in [true, false] {
        assert!(told(lease::granted(body, of_lease)).is_none_or(|life| life <= LONGEST));
    }
}

fn refusals(answer: &crate::stores::http::Answer) {
    let (policy_path, role) = ("secret/data/bot", "bot");
    for doing in [
        Doing::LogIn { mount: "kubernetes", check: "the role" },
        Doing::FindMount { role },
        Doing::Read { policy_path, role },
        Doing::List { policy_path, role },
        Doing::Write { policy_path, role },
        Doing::Lease,
    ] {
        silent(&refusal(answer, &doing));
    }
    for engine in [Engine::One, Engine::Two] {
        let place = Place { mount: "secret".to_owned(), path: "bot".to_owned(), engine, looked_up: false };
        silent(&missing(answer, &place, Some(3)));
    }
    let _ = (is_gone(answer), was_gone(answer), is_dead_token(answer));
}

/// What follows a version holds the new value, and everything else as it was.
fn written(body: &[u8]) {
    #[derive(serde::Deserialize)]
    struct Written<'a> {
        #[serde(borrow)]
        data: BTreeMap<String, &'a RawValue>,
    }
    let Ok(text) = std::str::from_utf8(body) else { return };
    let new = [(Some("password".to_owned()), SecretBytes::new(b"n\"w".to_vec()))];
    let Some(made) = told(write::body(text, &new, 7)) else { return };
    let Written { mut data } = serde_json::from_slice(made.expose()).expect("a body");
    assert_eq!(data.remove("password").map(RawValue::get), Some(r#""n\"w""#));
    let mut old: BTreeMap<String, &RawValue> = serde_json::from_str(text).expect("it was read");
    old.remove("password");
    let texts = |all: &BTreeMap<String, &RawValue>| -> BTreeMap<String, String> {
        all.iter().map(|(name, value)| (name.clone(), value.get().to_owned())).collect()
    };
    assert_eq!(texts(&data), texts(&old));
}

/// A path that passes leads to itself in a URL.
pub(in crate::stores) fn paths(text: &str) {
    let Ok(path) = clean(text, "path") else { return };
    assert_eq!(path, text);
    assert!(path.split('/').all(|segment| !matches!(segment, "" | "." | "..")), "{path}");
}
