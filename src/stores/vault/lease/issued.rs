//! What was issued, and how long it is good for.

use std::time::Duration;

use k8s_openapi::jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    super::{invalid, unavailable},
    NOT_VAULTS,
};
use crate::{
    secret::SecretText,
    stores::{Issued, Lease, Payload, StoreError},
};

/// Nothing that is issued is taken to live longer.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Nor is anything issued again sooner than this would be.
const SHORTEST: Duration = Duration::from_secs(10);

/// So many, within reason.
pub(super) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count).min(LONGEST)
}

#[derive(Deserialize)]
struct Answered<'a> {
    #[serde(default)]
    lease_id: String,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    wrap_info: Option<&'a RawValue>,
}

/// Where engines without leases say how long a credential lives.
#[derive(Deserialize)]
struct Clocks {
    #[serde(default)]
    expiration: Option<serde_json::Value>,
    #[serde(default)]
    ttl: Option<serde_json::Value>,
}

/// What an answer holds.
pub(in crate::stores::vault) fn issued(body: &[u8], now: Timestamp) -> Result<Issued, StoreError> {
    let answer: Answered<'_> = serde_json::from_slice(body).map_err(|_| unavailable(NOT_VAULTS).about_one())?;
    if answer.wrap_info.is_some_and(|wrapped| wrapped.get() != "null") {
        return Err(invalid("this path answers with a wrapped response, which is not unwrapped: leave wrapping out"));
    }
    let data = answer.data.filter(|data| data.get().starts_with('{'));
    let data = data.ok_or_else(|| invalid("this path answers without data: correct dynamic.path or its method"))?;
    let lease = (!answer.lease_id.is_empty()).then_some(Lease { id: answer.lease_id, renewable: answer.renewable });
    let life = match &lease {
        Some(_) => Some(seconds(answer.lease_duration)),
        None => clock(data.get(), now)?,
    };
    if lease.is_none() && life.is_none() {
        return Err(invalid(
            "what this path answers has neither a lease nor an end (expiration, ttl), so nothing says when to issue \
             the next: use extract for what is only stored",
        ));
    }
    Ok(Issued { payload: Payload::Json(SecretText::new(data.get().to_owned())), lease, life })
}

/// What is left by the answer's own clock. Never so little that the next one
/// would be due at once.
fn clock(data: &str, now: Timestamp) -> Result<Option<Duration>, StoreError> {
    let Ok(clocks) = serde_json::from_str::<Clocks>(data) else { return Ok(None) };
    if let Some(end) = clocks.expiration.as_ref().and_then(moment) {
        let left = seconds(u64::try_from(end.as_second().saturating_sub(now.as_second())).unwrap_or(0));
        if left < SHORTEST {
            let message = "what was issued had ended, or was to within 10 seconds, by the operator's clock: check the clocks, or ask for a longer ttl";
            return Err(unavailable(message).about_one());
        }
        return Ok(Some(left));
    }
    // A static role's password: `ttl` says when it is changed next, which may be
    // this very second.
    Ok(clocks.ttl.as_ref().and_then(number).map(|left| seconds(left).max(SHORTEST)))
}

fn number(value: &serde_json::Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim_end_matches('s').parse().ok())
}

/// Seconds since the epoch (PKI), or RFC 3339.
fn moment(value: &serde_json::Value) -> Option<Timestamp> {
    if let Some(seconds) = value.as_i64() {
        return Timestamp::from_second(seconds).ok();
    }
    let text = value.as_str()?;
    let civil = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    text.parse().ok().or_else(civil)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use k8s_openapi::jiff::Timestamp;

    use super::issued;
    use crate::stores::{ErrorClass, Lease};

    fn now() -> Timestamp {
        Timestamp::from_second(1_000_000).expect("a time")
    }

    fn life(body: &str) -> Option<u64> {
        issued(body.as_bytes(), now()).expect("issued").life.map(|life| life.as_secs())
    }

    #[test]
    fn a_lease_is_a_lease_id_that_is_not_empty_and_the_rest_goes_by_its_own_clock() {
        let body =
            r#"{"lease_id":"database/creds/bot/x","lease_duration":30,"renewable":true,"data":{"password":"p"}}"#;
        let leased = issued(body.as_bytes(), now()).expect("issued");
        assert_eq!(leased.lease, Some(Lease { id: "database/creds/bot/x".into(), renewable: true }));
        assert_eq!(leased.life, Some(Duration::from_secs(30)));
        // What KV v1 says for its values is no lease.
        assert_eq!(life(r#"{"lease_id":"","lease_duration":2764800,"data":{"expiration":1000060}}"#), Some(60));
        assert_eq!(life(r#"{"lease_id":"","data":{"ttl":45,"password":"p"}}"#), Some(45));
        assert_eq!(life(r#"{"data":{"expiration":"1970-01-12T13:47:00Z"}}"#), Some(20));
    }

    #[test]
    fn p2_what_has_no_life_left_is_no_reason_to_issue_in_a_loop() {
        // A static role that is about to be rotated.
        assert_eq!(life(r#"{"data":{"ttl":0,"password":"p"}}"#), Some(10));
        // A certificate that had ended: clocks are apart, and trying at once would not help.
        for end in [999_000, 1_000_000, 1_000_009] {
            let error = issued(format!(r#"{{"data":{{"expiration":{end}}}}}"#).as_bytes(), now()).expect_err("ended");
            assert_eq!(error.class, ErrorClass::Unavailable);
        }
        assert_eq!(life(r#"{"data":{"expiration":1000010}}"#), Some(10));
    }

    #[test]
    fn what_has_neither_lease_nor_end_is_no_dynamic_credential() {
        for body in [r#"{"data":{"a":"b"}}"#, r#"{"lease_duration":2764800,"data":{"a":1}}"#, r#"{"data":null}"#] {
            assert_eq!(issued(body.as_bytes(), now()).err().map(|error| error.class), Some(ErrorClass::Invalid));
        }
        let wrapped = r#"{"wrap_info":{"token":"hunter2"},"data":null}"#;
        let error = issued(wrapped.as_bytes(), now()).expect_err("wrapped");
        assert!(!error.message.contains("hunter2"));
    }
}
