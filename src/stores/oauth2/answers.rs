//! What an issuer's answers mean.
//!
//! An issuer's own words are never repeated: of a refusal only known error
//! codes count, told as written here.

use std::{collections::BTreeMap, time::Duration};

use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{invalid, proof::Proof};
use crate::{
    secret::SecretBytes,
    stores::{DecodedText, ErrorClass, StoreError, http::Answer},
};

/// What a token is taken for where nobody says when it ends.
const UNSAID: Duration = Duration::from_secs(300);
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// A token as it was granted.
pub(super) struct Granted {
    pub(super) fields: BTreeMap<String, SecretBytes>,
    pub(super) life: Duration,
}

#[derive(Deserialize)]
struct Grant<'a> {
    access_token: Option<DecodedText>,
    token_type: Option<String>,
    #[serde(borrow)]
    expires_in: Option<&'a RawValue>,
    scope: Option<String>,
    issued_token_type: Option<String>,
}

fn not_an_issuers() -> StoreError {
    StoreError::new(ErrorClass::Unavailable, "the answer is not one of a token endpoint: check tokenURL")
}

/// The token in an answer to a request that was sent at `now`.
pub(super) fn granted(body: &[u8], now: Timestamp) -> Result<Granted, StoreError> {
    // Parse errors are dropped: they may quote the token.
    let grant: Grant<'_> = serde_json::from_slice(body).map_err(|_| not_an_issuers())?;
    let DecodedText(token) = grant.access_token.ok_or_else(not_an_issuers)?;
    let printable = token.expose().bytes().all(|byte| (0x20..=0x7e).contains(&byte));
    if token.expose().is_empty() || !printable {
        return Err(not_an_issuers());
    }
    let said = grant.expires_in.and_then(seconds);
    let life = said.or_else(|| left_of_jwt(token.expose(), now)).unwrap_or(UNSAID).min(LONGEST);
    let mut fields = BTreeMap::new();
    let mut put = |name: &str, value: &str| {
        fields.insert(name.to_owned(), SecretBytes::new(value.as_bytes().to_vec()));
    };
    put("access_token", token.expose());
    put("token_type", grant.token_type.as_deref().unwrap_or("Bearer"));
    if let Some(ends) = end(now, life) {
        put("expires_at", &ends);
    }
    for (name, value) in [("scope", &grant.scope), ("issued_token_type", &grant.issued_token_type)] {
        if let Some(value) = value {
            put(name, value);
        }
    }
    Ok(Granted { fields, life })
}

/// When it ends, to the second, as RFC 3339 has it.
fn end(now: Timestamp, life: Duration) -> Option<String> {
    let end = now.checked_add(SignedDuration::try_from(life).ok()?).ok()?;
    Timestamp::from_second(end.as_second()).ok().map(|end| end.to_string())
}

/// A number, or one in quotes: some issuers write it so.
fn seconds(raw: &RawValue) -> Option<Duration> {
    let number: f64 = raw.get().trim_matches('"').trim().parse().ok()?;
    Duration::try_from_secs_f64(number).ok()
}

#[derive(Deserialize)]
struct Claims {
    exp: f64,
}

/// What a JWT says of its own end.
fn left_of_jwt(token: &str, now: Timestamp) -> Option<Duration> {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    let claims = Zeroizing::new(GeneralPurpose::new(&URL_SAFE, lenient).decode(claims).ok()?);
    let exp = Duration::try_from_secs_f64(serde_json::from_slice::<Claims>(&claims).ok()?.exp).ok()?;
    let now = Duration::try_from(now.duration_since(Timestamp::UNIX_EPOCH)).ok()?;
    Some(exp.saturating_sub(now))
}

#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    error: String,
}

/// The error for an answer that is no success.
pub(super) fn refusal(answer: &Answer, proof: &Proof, scopes: &str) -> StoreError {
    let said = serde_json::from_slice::<Refusal>(&answer.body).unwrap_or_default().error;
    let status = answer.status.as_u16();
    by_code(&said, proof, scopes).unwrap_or_else(|| by_status(status, proof)).after(answer.retry_after)
}

/// RFC 6749 section 5.2, RFC 8693 section 2.2.2, RFC 8707 section 2, and the
/// codes that issuers borrow from RFC 6749 section 4.1.2.1 and RFC 8628.
fn by_code(code: &str, proof: &Proof, scopes: &str) -> Option<StoreError> {
    let error = |class, message: &str| Some(StoreError::new(class, format!("{code}: {message}")));
    let login = |message: &str| {
        let error = StoreError::new(ErrorClass::LoginDenied, format!("{code}: {message}"));
        // A ServiceAccount's token that was refused may have died; a secret
        // stays the same.
        Some(if proof.audience().is_some() { error.ending_session() } else { error })
    };
    match code {
        "invalid_client" => login(&format!("the issuer does not accept the client, {}", check(proof))),
        "invalid_grant" => login(&format!("the issuer does not accept the proof, {}", check(proof))),
        "invalid_request" if matches!(proof, Proof::Exchange { .. }) => {
            login(&format!("the issuer does not accept the token or the request, {}", check(proof)))
        }
        "invalid_request" => error(
            ErrorClass::Invalid,
            "the issuer misses a parameter or knows one not: correct the store's parameters and auth",
        ),
        "unauthorized_client" => error(
            ErrorClass::LoginDenied,
            "the client may not use this grant: allow it at the issuer, or use another way under auth",
        ),
        "unsupported_grant_type" => {
            error(ErrorClass::Invalid, "the issuer does not know this grant: use another way under auth")
        }
        "invalid_scope" => {
            let asked = if scopes.is_empty() { "no scope".to_owned() } else { format!("scope {scopes}") };
            let message = format!(
                "the client is not granted {asked}: correct remoteRef.key or the store's scopes, or allow it at the issuer"
            );
            error(ErrorClass::Denied, &message)
        }
        "invalid_target" => error(
            ErrorClass::Denied,
            "the issuer gives no token for this audience or resource: correct the store's parameters, or allow it there",
        ),
        "access_denied" | "insufficient_scope" => {
            error(ErrorClass::Denied, "the issuer denies the client this token: allow it there")
        }
        "slow_down" => error(ErrorClass::Throttled, "the issuer asks for patience"),
        "temporarily_unavailable" => error(ErrorClass::Unavailable, "the issuer is overloaded or under maintenance"),
        // It may be this client alone.
        "server_error" => error(ErrorClass::Unavailable, "the issuer itself failed").map(StoreError::about_one),
        _ => None,
    }
}

fn by_status(status: u16, proof: &Proof) -> StoreError {
    let unavailable = |message| StoreError::new(ErrorClass::Unavailable, message);
    match status {
        429 => StoreError::new(ErrorClass::Throttled, "the issuer asks for patience (429)"),
        300..=399 => unavailable(format!("it redirects elsewhere ({status}), which is not followed: correct tokenURL")),
        500 => unavailable("the issuer answered 500".to_owned()).about_one(),
        408 | 425 | 501.. => unavailable(format!("the issuer answered {status}")),
        401 | 403 => {
            let message = format!("the issuer refuses the client ({status}), {}", check(proof));
            let error = StoreError::new(ErrorClass::LoginDenied, message);
            if proof.audience().is_some() { error.ending_session() } else { error }
        }
        404 | 405 => invalid(format!("there is no token endpoint ({status}): correct tokenURL")),
        413 | 414 | 431 => invalid(format!("the request is too large for the issuer ({status}): ask for fewer scopes")),
        _ => {
            invalid(format!("the issuer refuses the request as it is ({status}): check tokenURL, auth and parameters"))
        }
    }
}

/// What to look at where the client is refused.
fn check(proof: &Proof) -> String {
    match proof {
        Proof::Assertion { client_id, audience } => format!(
            "check that client {client_id} trusts this cluster's issuer, this ServiceAccount and audience {audience}"
        ),
        Proof::Exchange { audience, .. } => format!(
            "check that it trusts this cluster's issuer, this ServiceAccount and audience {audience}, and what \
             parameters it expects"
        ),
        Proof::Secret { client_id, .. } => {
            format!("check client {client_id} and its secret in the Secret that the store names")
        }
    }
}
