//! What Google's refusals mean.
//!
//! The class comes from Google's own code (google.rpc.Status, or OAuth 2's
//! `error`), and from the HTTP status only where there is none. Of Google's
//! words only known codes and phrases are repeated, as written here: whatever
//! else an answer holds stays out.

use std::time::Duration;

use serde::Deserialize;

use super::{invalid, unavailable};
use crate::stores::{
    ErrorClass, StoreError,
    http::{Answer, LONGEST_RETRY_AFTER},
};

/// The right that a new version takes.
pub(super) const ADD: &str = "secretmanager.versions.add";

/// How a login is made.
pub(super) enum Doing<'a> {
    Exchange { audience: &'a str },
    Impersonate { email: &'a str, federated: &'a str },
    UseKey,
    AskMachine,
}

/// What was asked of Secret Manager.
pub(super) struct Asked<'a> {
    /// The right that it takes.
    pub(super) permission: &'static str,
    /// Whose it must be.
    pub(super) principal: &'a str,
    /// What was named; as the user wrote it, checked.
    pub(super) version: Option<&'a str>,
}

/// What an answer says, reduced to what is compared with known words.
#[derive(Default)]
struct Said {
    /// google.rpc.Code's name, or OAuth 2's error code.
    code: String,
    /// google.rpc.ErrorInfo's reason.
    reason: String,
    /// The text, in lower case. Only ever searched.
    text: String,
    wait: Option<Duration>,
}

#[derive(Deserialize)]
struct Body {
    error: Dialect,
    #[serde(default)]
    error_description: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Dialect {
    OAuth(String),
    Rpc(Status),
}

#[derive(Deserialize)]
struct Status {
    #[serde(default, rename = "status")]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Vec<Detail>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    retry_delay: Option<String>,
}

impl Said {
    fn of(answer: &Answer) -> Self {
        let Ok(body) = serde_json::from_slice::<Body>(&answer.body) else { return Self::default() };
        match body.error {
            Dialect::OAuth(code) => Self { code, text: body.error_description.to_lowercase(), ..Self::default() },
            Dialect::Rpc(status) => {
                let details = || status.details.iter();
                let wait = details().find_map(|detail| seconds(detail.retry_delay.as_deref()?));
                let reason = details().find_map(|detail| detail.reason.clone()).unwrap_or_default();
                Self { code: status.code, reason, text: status.message.to_lowercase(), wait }
            }
        }
    }
}

/// A google.protobuf.Duration, such as `1.5s`, in whole seconds, rounded up.
fn seconds(text: &str) -> Option<Duration> {
    let number = text.strip_suffix('s')?;
    let whole: u64 = number.split('.').next()?.parse().ok()?;
    Some(Duration::from_secs(whole.saturating_add(u64::from(number.contains('.')))).min(LONGEST_RETRY_AFTER))
}

/// Failures that waiting may cure, whatever was asked.
fn outage(answer: &Answer, said: &Said) -> Option<StoreError> {
    let wait = answer.retry_after.or(said.wait);
    let status = answer.status.as_u16();
    let again = |code: &str| unavailable(format!("Google answered {status} {code}")).after(wait);
    let throttled = || {
        let message = "Google asks for patience: the project's quota is used up (RESOURCE_EXHAUSTED)";
        StoreError::new(ErrorClass::Throttled, message).after(wait)
    };
    let late = || StoreError::new(ErrorClass::Timeout, "Google itself ran out of time (DEADLINE_EXCEEDED)").after(wait);
    if said.reason == "RATE_LIMIT_EXCEEDED" {
        return Some(throttled());
    }
    match said.code.as_str() {
        "RESOURCE_EXHAUSTED" => return Some(throttled()),
        "DEADLINE_EXCEEDED" => return Some(late()),
        "UNAVAILABLE" => return Some(again("UNAVAILABLE")),
        "CANCELLED" => return Some(again("CANCELLED")),
        "INTERNAL" => return Some(again("INTERNAL").about_one()),
        "UNKNOWN" => return Some(again("UNKNOWN").about_one()),
        "DATA_LOSS" => return Some(again("DATA_LOSS").about_one()),
        "ABORTED" => return Some(again("ABORTED").about_one()),
        "server_error" | "temporarily_unavailable" | "internal_failure" => return Some(again("")),
        _ => {}
    }
    match status {
        429 => Some(throttled()),
        408 => Some(late()),
        300..=399 => Some(unavailable(format!(
            "it redirects elsewhere ({status}), which is not followed: check endpoint, tokenEndpoints and the proxy"
        ))),
        500 => Some(again("").about_one()),
        501.. => Some(again("")),
        _ => None,
    }
}

/// The error for an answer of Secret Manager that is no success.
pub(super) fn refused_read(answer: &Answer, asked: &Asked<'_>) -> StoreError {
    let said = Said::of(answer);
    if said.code != "UNIMPLEMENTED"
        && let Some(error) = outage(answer, &said)
    {
        return error;
    }
    match (said.code.as_str(), answer.status.as_u16()) {
        ("UNAUTHENTICATED", _) | (_, 401) => StoreError::new(
            ErrorClass::LoginDenied,
            "Google does not accept the access token of this login: it has ended or was revoked",
        )
        .ending_session(),
        ("PERMISSION_DENIED", _) => denied(&said, asked),
        ("NOT_FOUND", _) => StoreError::new(ErrorClass::Missing, missing(&said, asked)),
        ("FAILED_PRECONDITION" | "INVALID_ARGUMENT" | "OUT_OF_RANGE", _) if asked.permission == ADD => not_added(&said),
        ("FAILED_PRECONDITION", _) => precondition(&said),
        ("INVALID_ARGUMENT" | "OUT_OF_RANGE", _) => invalid(
            "Google refuses the request as it is (INVALID_ARGUMENT): check the key, version, projectID and location",
        ),
        ("", 403) => StoreError::new(
            ErrorClass::Denied,
            "refused (403), though not by Secret Manager: check endpoint, the proxy and the firewalls on the way",
        ),
        (_, status) => {
            invalid(format!("what answers is not Secret Manager ({status}): check endpoint, location and the proxy"))
        }
    }
}

fn denied(said: &Said, asked: &Asked<'_>) -> StoreError {
    let Asked { permission, principal, .. } = asked;
    if said.text.contains("permission 'cloudkms.") {
        return StoreError::new(ErrorClass::Denied, NO_KEY);
    }
    let message = match said.reason.as_str() {
        "SERVICE_DISABLED" => {
            "the Secret Manager API is not enabled in the secret's project: enable secretmanager.googleapis.com".into()
        }
        "BILLING_DISABLED" => "billing is disabled for the secret's project: enable it".into(),
        "CONSUMER_INVALID" | "CONSUMER_SUSPENDED" => {
            "the secret's project is not there, or is suspended: check projectID".into()
        }
        "SECURITY_POLICY_VIOLATED" => {
            "VPC Service Controls forbid it: let the cluster's network and the principal into the secret's perimeter"
                .into()
        }
        "ACCESS_TOKEN_SCOPE_INSUFFICIENT" => {
            "the machine's access scopes are too narrow: give its node pool the scope cloud-platform".into()
        }
        _ => format!(
            "permission denied: grant {permission} (role {}) on the secret to {principal}; where the secret is not there, Google says the same",
            role(permission)
        ),
    };
    StoreError::new(ErrorClass::Denied, message)
}

const NO_KEY: &str =
    "the key in Cloud KMS that the secret is encrypted with cannot be used: enable it, and let Secret Manager use it";

fn role(permission: &str) -> &'static str {
    match permission {
        "secretmanager.versions.access" => "roles/secretmanager.secretAccessor",
        ADD => "roles/secretmanager.secretVersionAdder",
        _ => "roles/secretmanager.viewer",
    }
}

fn missing(said: &Said, asked: &Asked<'_>) -> String {
    match asked.version {
        Some(version) if said.text.contains("secret version [") => {
            format!("version {version} is not there, nor an alias of that name: correct remoteRef.version")
        }
        _ => "there is no such secret, or it has no version yet: correct remoteRef.key, projectID and location, \
              or add a version"
            .to_owned(),
    }
}

fn not_added(said: &Said) -> StoreError {
    if is_of_kms(said) {
        return StoreError::new(ErrorClass::Denied, NO_KEY);
    }
    invalid("Google takes no new version of the secret as it is: see whether it has expired, and correct remoteRef.key")
}

fn is_of_kms(said: &Said) -> bool {
    said.text.contains("kms") || said.text.contains("cryptokey")
}

fn precondition(said: &Said) -> StoreError {
    let gone = |how: &str| {
        StoreError::new(
            ErrorClass::Missing,
            format!("the version is {how}: Google goes back to no older one by itself"),
        )
    };
    if said.text.contains("disabled state") {
        gone("disabled; enable it, or add a new version")
    } else if said.text.contains("destroyed state") {
        gone("destroyed; add a new version, or pin one that is left")
    } else if is_of_kms(said) {
        StoreError::new(ErrorClass::Denied, NO_KEY)
    } else {
        StoreError::new(
            ErrorClass::Missing,
            "the secret is in a state in which it cannot be read (FAILED_PRECONDITION)",
        )
    }
}

/// Phrases of Google's token endpoints, by code, and what to tell people.
const KNOWN: &[(&str, &str, &str)] = &[
    (
        "invalid_grant",
        "audience",
        "the provider does not allow the token's audience: check its allowed audiences and tokenAudience",
    ),
    (
        "invalid_grant",
        "connecting to the given credential's issuer",
        "Google cannot reach the cluster's issuer: upload its keys (JWKS) to the provider",
    ),
    ("invalid_grant", "issuer", "the token's issuer is not the provider's: correct the provider's issuer"),
    ("invalid_grant", "stale", "the token has ended: check the clocks"),
    ("invalid_grant", "expired", "the token has ended: check the clocks"),
    ("invalid_grant", "short-lived", "the clock of this machine is off"),
    ("invalid_grant", "account not found", "the key's service account is not there: make a new key"),
    ("invalid_grant", "jwt signature", "Google does not know the key: it was deleted or disabled, make a new one"),
    ("invalid_grant", "signature", "no key of the cluster that the provider knows made the token's signature"),
    ("invalid_grant", "", "Google does not accept the token (invalid_grant)"),
    ("invalid_target", "", "the pool or provider is not there, disabled or deleted (invalid_target)"),
    ("unauthorized_client", "", "the provider's attribute condition refuses the ServiceAccount (unauthorized_client)"),
    ("invalid_request", "audience", "the provider's name is not right (invalid_request)"),
    ("invalid_request", "", "Google does not take the request (invalid_request)"),
    ("invalid_client", "", "Google does not know the client (invalid_client)"),
    ("access_denied", "", "Google denies it (access_denied)"),
    ("invalid_scope", "", "Google does not grant the scope cloud-platform (invalid_scope)"),
    ("unsupported_grant_type", "", "the token endpoint does not take this way to log in (unsupported_grant_type)"),
    ("PERMISSION_DENIED", "", "permission denied (PERMISSION_DENIED)"),
    ("NOT_FOUND", "", "there is no such account (NOT_FOUND)"),
    ("UNAUTHENTICATED", "", "Google does not accept the token (UNAUTHENTICATED)"),
    ("INVALID_ARGUMENT", "", "Google does not take the request (INVALID_ARGUMENT)"),
    ("FAILED_PRECONDITION", "", "the account is in a state in which it cannot be used (FAILED_PRECONDITION)"),
];

/// The error for a login that is no success.
pub(super) fn refused_login(answer: &Answer, doing: &Doing<'_>) -> StoreError {
    let said = Said::of(answer);
    if said.code != "UNIMPLEMENTED"
        && let Some(error) = outage(answer, &said)
    {
        // A login is nobody's alone.
        return StoreError { about_one: false, ..error };
    }
    let known = KNOWN.iter().find(|(code, phrase, _)| said.code == *code && said.text.contains(phrase));
    let why = match (said.reason.as_str(), known) {
        ("SERVICE_DISABLED", _) => "the service's API is not enabled in the project",
        (_, Some((_, _, meaning))) => meaning,
        (_, None) if said.code.is_empty() => "what answers is not Google's: check tokenEndpoints and the proxy",
        (_, None) => "Google does not say why in words that are known here",
    };
    let status = answer.status.as_u16();
    let message = match doing {
        Doing::Exchange { audience } => format!("the token exchange for {audience} was refused ({status}): {why}"),
        Doing::Impersonate { email, federated } => format!(
            "the impersonation of {email} was refused ({status}): {why}; \
             grant roles/iam.workloadIdentityUser on it to {federated}, and enable iamcredentials.googleapis.com"
        ),
        Doing::UseKey => format!("the login with the key of auth.secretRef was refused ({status}): {why}"),
        Doing::AskMachine => format!(
            "the metadata server gives no token ({status}): is the operator on Google Cloud, and has its machine or \
             ServiceAccount a service account?"
        ),
    };
    StoreError::new(ErrorClass::LoginDenied, message)
}

#[cfg(test)]
#[path = "errors_tests.rs"]
mod tests;
