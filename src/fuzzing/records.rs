//! Records that the operator reads back from annotations and the status, where others
//! may have written.

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    api::{LONGEST_REASON, LeaseStatus, Revision, RotateRequest, State},
    build::DigestKey,
    leases::{Keys, Record},
    rollout::Delivery,
    runtime::own_audiences,
    secret::SecretText,
};

const UID: &str = "uid";

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys::of(&DigestKey::from_bytes(&[7; 32]).expect("32 bytes")));

/// Each is none, or is read again as it was written.
pub(super) fn records(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some(state) = State::parse(text) {
        assert!(state.says_the_same_as(&state));
        assert_eq!(State::parse(&state.to_annotation()), Some(state));
    }
    if let Some(request) = RotateRequest::parse(text) {
        for shown in [&request.reason, &request.by] {
            assert!(shown.chars().count() <= LONGEST_REASON && !shown.chars().any(char::is_control), "{shown}");
        }
        assert_eq!(RotateRequest::parse(&request.to_annotation()), Some(request));
    }
    if let Ok(revision) = text.parse::<Revision>() {
        assert_eq!(revision.to_string().parse(), Ok(revision));
    }
    if let Some(delivery) = Delivery::parse(text) {
        assert_eq!(Delivery::parse(&delivery.to_annotation()), Some(delivery));
    }
    assert!(own_audiences::of_token(text).iter().map(String::len).sum::<usize>() <= text.len());
    leases(text);
}

/// The claims of a token: its audiences are what another parser reads there.
pub(super) fn tokens(claims: &[u8]) {
    let token = format!("e30.{}.c2ln\n", URL_SAFE_NO_PAD.encode(claims));
    let audiences = own_audiences::of_token(&token);
    assert_eq!(own_audiences::of_token(&format!(" {token}")), audiences);
    let Ok(claims) = serde_json::from_slice::<Value>(claims) else { return };
    // What is a list instead has its fields by their places.
    if audiences.is_empty() || !claims.is_object() {
        return;
    }
    let listed: Vec<&str> = match &claims["aud"] {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        name => name.as_str().into_iter().collect(),
    };
    assert_eq!(audiences, listed);
}

/// What is on record of a credential: only what was written here counts.
fn leases(text: &str) {
    let keys = &*KEYS;
    assert!(keys.open(UID, text).is_none(), "nobody else can seal");
    if let Ok(status) = serde_json::from_str::<LeaseStatus>(text) {
        assert_eq!(Record::from_status(&status, keys, UID), None, "nobody else can prove");
    }
    let Ok(record) = serde_json::from_str::<Record>(text) else { return };
    let now = Timestamp::UNIX_EPOCH;
    let _ = (record.first_left(now), record.token_life_and_left(now));
    let values = SecretText::new(text.to_owned());
    if let Some(sealed) = keys.seal(UID, &record, &values) {
        let opened = keys.open(UID, &sealed).expect("what was sealed is opened");
        assert_eq!((&opened.record, opened.values.expose()), (&record, text));
        assert!(keys.open("other", &sealed).is_none());
    }
    if fits(&record) {
        assert_eq!(Record::from_status(&record.to_status(keys, UID), keys, UID), Some(record));
    }
}

/// Whether its numbers are ones that a status can hold.
fn fits(record: &Record) -> bool {
    let Record { login_seconds, seconds, replaced_by, .. } = record;
    let after = record.places.iter().filter_map(|place| place.after);
    i32::try_from(record.index).is_ok()
        && [*login_seconds, *seconds, *replaced_by].into_iter().chain(after).all(|number| i64::try_from(number).is_ok())
}
