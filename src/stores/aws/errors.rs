//! What AWS's refusals mean.
//!
//! The class comes from the service's own code: AWS denies with HTTP 400. Of
//! its own words only known phrases are looked for, and none is repeated.

use std::time::Duration;

use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::{invalid, unavailable};
use crate::stores::{ErrorClass, StoreError, http, writing::conflict};

/// What was asked of AWS.
#[derive(Clone, Copy, Debug)]
pub(super) enum Doing<'a> {
    /// STS, with a ServiceAccount's token.
    WebIdentity { role: &'a str, subject: &'a str, audience: &'a str },
    /// STS, with credentials that there are already.
    Hop { role: &'a str, from: &'a str },
    /// A read; the action that a policy must allow.
    Read { action: &'a str },
    /// A search.
    Find { action: &'a str },
    /// A new value; the action that a policy must allow.
    Write { action: &'a str },
    /// AWS is asked for a new value of its own.
    Rotate,
}

/// What a service said: its code, and the text that is only searched.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Said<'a> {
    pub(super) code: &'a str,
    pub(super) text: &'a str,
}

/// The error for a call that failed.
pub(super) fn refusal<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>, doing: Doing<'_>) -> StoreError {
    match error {
        SdkError::DispatchFailure(failure) => {
            transport(failure.as_connector_error().map(|error| error as &(dyn std::error::Error + 'static)))
        }
        SdkError::TimeoutError(_) => StoreError::new(ErrorClass::Timeout, "AWS did not answer in time"),
        SdkError::ConstructionFailure(_) => {
            invalid("the request cannot be written: check the key, region and endpoint")
        }
        SdkError::ServiceError(context) => {
            let metadata = context.err().meta();
            let said = Said { code: metadata.code().unwrap_or_default(), text: metadata.message().unwrap_or_default() };
            answered(context.raw(), said, doing)
        }
        _ => match error.raw_response() {
            Some(raw) => answered(raw, Said::default(), doing),
            None => unavailable("AWS could not be asked"),
        },
    }
}

/// What our own connections say, which the SDK only hands through.
pub(super) fn transport(error: Option<&(dyn std::error::Error + 'static)>) -> StoreError {
    let mut next = error;
    while let Some(error) = next {
        if let Some(own) = error.downcast_ref::<StoreError>() {
            return own.clone();
        }
        next = error.source();
    }
    unavailable("AWS could not be asked")
}

fn answered(raw: &HttpResponse, said: Said<'_>, doing: Doing<'_>) -> StoreError {
    let status = raw.status().as_u16();
    if !said.code.is_empty() {
        return by_code(said, status, doing).after(retry_after(raw));
    }
    match status {
        429 => StoreError::new(ErrorClass::Throttled, "AWS asks for patience (429)").after(retry_after(raw)),
        200..=299 => unavailable("the answer is none of the service's: check endpoint").about_one(),
        300..=399 => unavailable(format!("it redirects elsewhere ({status}), which is not followed: check endpoint")),
        500.. => server_error(status, doing).after(retry_after(raw)),
        _ => unavailable(format!("the answer ({status}) is none of AWS's: check endpoint and proxy")),
    }
}

fn retry_after(raw: &HttpResponse) -> Option<Duration> {
    http::retry_after(raw.headers().get("retry-after")?)
}

/// A read that fails may be one secret's alone; 502 to 504 come from a service
/// that is down.
fn server_error(status: u16, doing: Doing<'_>) -> StoreError {
    let error = unavailable(format!("AWS answered {status}"));
    let of_one = matches!(doing, Doing::Read { .. } | Doing::Write { .. } | Doing::Rotate);
    if of_one && matches!(status, 400..=500) { error.about_one() } else { error }
}

/// The error for a code; also for those of single secrets in a batch's answer,
/// which have no status.
pub(super) fn by_code(said: Said<'_>, status: u16, doing: Doing<'_>) -> StoreError {
    let code = bare(said.code);
    if is_throttling(code) {
        return StoreError::new(ErrorClass::Throttled, "AWS asks for patience: the account's rate is used up");
    }
    if let Some(error) = dead_login(code, said.text, doing) {
        return error;
    }
    match code {
        "InternalServiceError" | "InternalServiceErrorException" | "InternalServerError" | "InternalFailure" => {
            server_error(status, doing)
        }
        "ServiceUnavailable" | "ServiceUnavailableException" => unavailable("AWS answered that it is unavailable"),
        _ => match doing {
            Doing::WebIdentity { .. } | Doing::Hop { .. } => login_refused(code, status, doing),
            Doing::Read { action } => read_refused(code, said.text, status, action),
            Doing::Find { action } => find_refused(code, said.text, status, action),
            Doing::Write { action } => write_refused(code, &said.text.to_lowercase(), status, action),
            Doing::Rotate => rotation_refused(code, &said.text.to_lowercase(), status),
        },
    }
}

fn is_throttling(code: &str) -> bool {
    let known = [
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "TooManyUpdates",
    ];
    known.contains(&code)
}

const CLOCK: &str =
    "AWS refuses the signature's time: the clock of the operator's machine is off by more than five minutes";

/// AWS says which of the two clocks is ahead.
fn is_untimely(text: &str) -> bool {
    let text = text.to_lowercase();
    text.contains("signature expired") || text.contains("signature not yet current")
}

/// Codes that say that the credentials themselves no longer count.
fn dead_login(code: &str, text: &str, doing: Doing<'_>) -> Option<StoreError> {
    let why = match code {
        "ExpiredToken" | "ExpiredTokenException" if !matches!(doing, Doing::WebIdentity { .. }) => {
            "the credentials have expired"
        }
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "MissingAuthenticationToken" => "AWS does not know the credentials",
        "RequestExpired" | "RequestTimeTooSkewed" => CLOCK,
        "InvalidSignatureException" | "SignatureDoesNotMatch" if is_untimely(text) => CLOCK,
        "InvalidSignatureException" | "SignatureDoesNotMatch" | "IncompleteSignature" => {
            "AWS refuses the signature: check the keys, and the clock of the operator's machine"
        }
        "OptInRequired" => "the account is not subscribed to the service or region: enable it in the account",
        _ => return None,
    };
    let from = match doing {
        Doing::Hop { from, .. } => format!(" ({from})"),
        _ => String::new(),
    };
    Some(StoreError::new(ErrorClass::LoginDenied, format!("{why}{from}")).ending_session())
}

fn login_refused(code: &str, status: u16, doing: Doing<'_>) -> StoreError {
    let denied = |message: String| StoreError::new(ErrorClass::LoginDenied, message);
    match (code, doing) {
        ("AccessDenied" | "AccessDeniedException", Doing::WebIdentity { role, subject, audience }) => denied(format!(
            "login refused: role {role} must exist and trust the cluster's issuer with sub {subject} and aud {audience}"
        )),
        ("AccessDenied" | "AccessDeniedException", Doing::Hop { role, from }) => denied(format!(
            "the second hop is refused: role {role} must trust {from} (external id and tags included, \
             sts:TagSession where tags are sent), and that one must be allowed sts:AssumeRole"
        )),
        ("InvalidIdentityToken" | "InvalidIdentityTokenException", Doing::WebIdentity { role, audience, .. }) => {
            denied(format!(
                "login refused: the account of role {role} has no identity provider for the cluster's issuer with \
                 audience {audience}, or the issuer's keys do not fit the token"
            ))
        }
        ("ExpiredTokenException" | "ExpiredToken", _) => {
            denied("login refused: the token has expired: check the clocks".into())
        }
        ("IDPRejectedClaim" | "IDPRejectedClaimException", _) => {
            denied("login refused: the identity provider rejects the token's claims: check its audiences in IAM".into())
        }
        ("IDPCommunicationError" | "IDPCommunicationErrorException", _) => {
            unavailable("STS cannot reach the cluster's issuer to check the token")
        }
        ("RegionDisabledException", _) => {
            invalid("STS is not active in this region for the account: activate it there")
        }
        ("PackedPolicyTooLarge" | "PackedPolicyTooLargeException", _) => {
            invalid("the session tags are too many or too long for AWS: shorten sessionTags")
        }
        (_, Doing::WebIdentity { role, .. } | Doing::Hop { role, .. }) if status < 500 => invalid(format!(
            "STS refuses the request for role {role} as it is: check role, audience, externalID and sessionTags"
        )),
        _ => server_error(status, doing),
    }
}

fn read_refused(code: &str, text: &str, status: u16, action: &str) -> StoreError {
    let text = text.to_lowercase();
    match code {
        "AccessDeniedException" | "AccessDenied" | "NotAuthorized" => denied(&text, action),
        "DecryptionFailure" | "InvalidKeyId" | "InvalidKeyIdException" => undecryptable(),
        "ResourceNotFoundException" if text.contains("version") || text.contains("staging label") => {
            missing("this version or stage is not there: pin one that exists, or give the secret a value")
        }
        "ResourceNotFoundException" => {
            missing("there is no such secret in this account and region: create it or correct the key")
        }
        "ParameterNotFound" => {
            missing("there is no such parameter in this account and region: create it or correct the key")
        }
        "ParameterVersionNotFound" => missing("this version or label is not there: pin one that exists"),
        "InvalidRequestException" if text.contains("delet") => {
            missing("the secret is marked for deletion: restore it or correct the key")
        }
        _ if status < 500 => invalid("AWS refuses the request as it is: check the key and version"),
        _ => server_error(status, Doing::Read { action }),
    }
}

fn find_refused(code: &str, text: &str, status: u16, action: &str) -> StoreError {
    match code {
        "AccessDeniedException" | "AccessDenied" => denied(&text.to_lowercase(), action),
        _ if status < 500 => invalid("AWS refuses the search as it is: check find.path and find.tags"),
        _ => server_error(status, Doing::Find { action }),
    }
}

fn write_refused(code: &str, text: &str, status: u16, action: &str) -> StoreError {
    match code {
        "AccessDeniedException" | "AccessDenied" if !is_of_kms(text) => denied(text, action),
        "AccessDeniedException"
        | "AccessDenied"
        | "EncryptionFailure"
        | "InvalidKeyId"
        | "KMSAccessDeniedException" => StoreError::new(
            ErrorClass::Denied,
            "its KMS key refuses to encrypt the new value: allow kms:GenerateDataKey (for a parameter kms:Encrypt \
                 as well) and kms:Decrypt on the key, which must be enabled",
        ),
        "ResourceExistsException" => conflict(
            "this attempt has made a version already, and the secret was changed since: it is begun anew with what is \
             there now",
        ),
        "LimitExceededException" => StoreError::new(
            ErrorClass::Throttled,
            "the secret has as many versions as AWS keeps: those that nothing points to are dropped after a day",
        ),
        "ParameterMaxVersionLimitExceeded" => {
            invalid("the parameter's oldest version has a label and cannot be dropped: move the label")
        }
        "ParameterPatternMismatchException" => {
            invalid("the new value does not match the parameter's allowed pattern: change one of them")
        }
        "InvalidRequestException" if text.contains("managed by") => {
            invalid("the secret is managed by an AWS service, which alone writes it: let AWS rotate it")
        }
        "InvalidRequestException" if text.contains("replica") => {
            invalid("the secret is a replica: write it in its primary region")
        }
        "ResourceNotFoundException" | "ParameterNotFound" | "InvalidRequestException" => {
            read_refused(code, text, status, action)
        }
        _ if status < 500 => invalid("AWS refuses to write it as it is: check the key, and what its policies allow"),
        _ => server_error(status, Doing::Write { action }),
    }
}

fn rotation_refused(code: &str, text: &str, status: u16) -> StoreError {
    match code {
        "AccessDeniedException" | "AccessDenied" if text.contains("lambda") => StoreError::new(
            ErrorClass::Denied,
            "the rotation function cannot be invoked: allow lambda:InvokeFunction on it to the role, and in its own \
             policy to secretsmanager.amazonaws.com",
        ),
        "AccessDeniedException" | "AccessDenied" => denied(text, "secretsmanager:RotateSecret"),
        "InvalidRequestException" if text.contains("replica") => {
            invalid("the secret is a replica: rotate it in its primary region")
        }
        "InvalidRequestException" if !text.contains("delet") => invalid(
            "AWS cannot rotate the secret: give it a rotation function or managed rotation there, or let the operator \
             make the value (rotation.generate)",
        ),
        "ResourceNotFoundException" | "InvalidRequestException" => {
            read_refused(code, text, status, "secretsmanager:RotateSecret")
        }
        _ if status < 500 => invalid("AWS refuses to rotate the secret as it is: check the key and its rotation there"),
        _ => server_error(status, Doing::Rotate),
    }
}

/// Whether AWS has begun a rotation that it has not ended.
pub(super) fn is_under_way<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let text = |error: &E| error.message().unwrap_or_default().to_lowercase();
    code_of(error) == "InvalidRequestException"
        && error.as_service_error().is_some_and(|error| text(error).contains("previous rotation"))
}

/// The service's own code.
pub(super) fn code_of<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> &str {
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default();
    bare(code)
}

/// Some services write `com.amazonaws.x#Code` or `Code:http://…`.
fn bare(code: &str) -> &str {
    let code = code.rsplit('#').next().unwrap_or_default();
    code.split(':').next().unwrap_or_default()
}

fn denied(text: &str, action: &str) -> StoreError {
    if is_of_kms(text) {
        return undecryptable();
    }
    let error = StoreError::new(
        ErrorClass::Denied,
        format!(
            "permission denied: allow {action} on it in a policy of the role (and in its own policy, in another account)"
        ),
    );
    // Credentials that an administrator revoked are denied explicitly: only a
    // new login helps. A missing permission is denied implicitly.
    if text.contains("explicit deny") { error.ending_session() } else { error }
}

/// Of the key's, and not the secret's, permission. No name has a colon or a
/// space, so none of a secret is taken for these.
fn is_of_kms(text: &str) -> bool {
    ["kms:", "to kms ", "kms key", "master key", "ciphertext "].into_iter().any(|part| text.contains(part))
}

fn undecryptable() -> StoreError {
    StoreError::new(
        ErrorClass::Denied,
        "its KMS key refuses to decrypt it: allow kms:Decrypt on the key, which must be enabled",
    )
}

pub(super) fn missing(message: &str) -> StoreError {
    StoreError::new(ErrorClass::Missing, message)
}
