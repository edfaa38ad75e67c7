use super::{ADD, Asked, Doing, refused_login, refused_read, seconds};
use crate::stores::{ErrorClass, StoreError, http::Answer};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::time::Duration;

fn answer(status: u16, body: &str) -> Answer {
    Answer {
        status: StatusCode::from_u16(status).expect("a status"),
        headers: reqwest::header::HeaderMap::new(),
        retry_after: None,
        body: zeroize::Zeroizing::new(body.as_bytes().to_vec()),
    }
}

fn rpc(status: u16, code: &str, message: &str, details: &Value) -> Answer {
    let body = json!({"error": {"code": status, "status": code, "message": message, "details": details}});
    answer(status, &body.to_string())
}

fn read(answer: &Answer) -> StoreError {
    let asked =
        Asked { permission: "secretmanager.versions.access", principal: "principal://bot", version: Some("blue") };
    refused_read(answer, &asked)
}

#[test]
fn a_refusal_is_sorted_by_googles_own_code_and_not_by_the_http_status() {
    for (status, code, class) in [
        (403, "PERMISSION_DENIED", ErrorClass::Denied),
        (404, "NOT_FOUND", ErrorClass::Missing),
        (400, "FAILED_PRECONDITION", ErrorClass::Missing),
        (400, "INVALID_ARGUMENT", ErrorClass::Invalid),
        (401, "UNAUTHENTICATED", ErrorClass::LoginDenied),
        (429, "RESOURCE_EXHAUSTED", ErrorClass::Throttled),
        (403, "RESOURCE_EXHAUSTED", ErrorClass::Throttled),
        (400, "UNAVAILABLE", ErrorClass::Unavailable),
        (503, "UNAVAILABLE", ErrorClass::Unavailable),
        (500, "INTERNAL", ErrorClass::Unavailable),
        (504, "DEADLINE_EXCEEDED", ErrorClass::Timeout),
        (501, "UNIMPLEMENTED", ErrorClass::Invalid),
    ] {
        let error = read(&rpc(status, code, "canary", &json!([])));
        assert_eq!(error.class, class, "{status} {code}: {error}");
        assert_eq!(error.session_dead, code == "UNAUTHENTICATED", "{code}");
        assert_eq!(error.about_one, code == "INTERNAL", "{code}");
        assert!(!error.message.contains("canary"), "{error}");
    }
}

#[test]
fn a_version_that_is_not_added_says_what_a_write_needs() {
    let added = |status, code, text| {
        let asked = Asked { permission: ADD, principal: "principal://bot", version: None };
        refused_read(&rpc(status, code, text, &json!([])), &asked)
    };
    for (status, code, text, class, part) in [
        (403, "PERMISSION_DENIED", "", ErrorClass::Denied, "roles/secretmanager.secretVersionAdder"),
        (404, "NOT_FOUND", "", ErrorClass::Missing, "no such secret"),
        (400, "FAILED_PRECONDITION", "the CryptoKey is disabled", ErrorClass::Denied, "Cloud KMS"),
        (400, "FAILED_PRECONDITION", "canary", ErrorClass::Invalid, "expired"),
        (400, "INVALID_ARGUMENT", "canary", ErrorClass::Invalid, "no new version"),
        (429, "RESOURCE_EXHAUSTED", "canary", ErrorClass::Throttled, "quota"),
        (409, "ABORTED", "canary", ErrorClass::Unavailable, "ABORTED"),
    ] {
        let error = added(status, code, text);
        assert_eq!(error.class, class, "{code}: {error}");
        assert!(error.message.contains(part) && !error.message.contains("canary"), "{code}: {error}");
    }
}

#[test]
fn an_answer_that_is_not_googles_is_sorted_by_its_status() {
    for (status, class) in [
        (302, ErrorClass::Unavailable),
        (400, ErrorClass::Invalid),
        (401, ErrorClass::LoginDenied),
        (403, ErrorClass::Denied),
        (404, ErrorClass::Invalid),
        (408, ErrorClass::Timeout),
        (429, ErrorClass::Throttled),
        (500, ErrorClass::Unavailable),
        (502, ErrorClass::Unavailable),
    ] {
        for body in ["<html>canary</html>", "", r#"{"error":7}"#, r#"{"canary":"x"}"#] {
            let error = read(&answer(status, body));
            assert_eq!(error.class, class, "{status} {body}: {error}");
            assert!(!error.message.contains("canary"), "{error}");
        }
    }
}

#[test]
fn a_denial_names_what_to_grant_to_whom_or_what_else_stands_in_the_way() {
    let error = read(&rpc(403, "PERMISSION_DENIED", "Permission denied", &json!([])));
    for part in ["secretmanager.versions.access", "roles/secretmanager.secretAccessor", "principal://bot"] {
        assert!(error.message.contains(part), "{error}");
    }
    for (reason, part) in [
        ("SERVICE_DISABLED", "enable secretmanager.googleapis.com"),
        ("SECURITY_POLICY_VIOLATED", "VPC Service Controls"),
        ("ACCESS_TOKEN_SCOPE_INSUFFICIENT", "cloud-platform"),
    ] {
        let details = json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]);
        let error = read(&rpc(403, "PERMISSION_DENIED", "canary", &details));
        assert!(error.class == ErrorClass::Denied && error.message.contains(part), "{error}");
    }
    let details = json!([{"reason": "RATE_LIMIT_EXCEEDED"}]);
    assert_eq!(read(&rpc(403, "PERMISSION_DENIED", "", &details)).class, ErrorClass::Throttled);
}

#[test]
fn a_version_that_is_disabled_destroyed_or_not_there_is_missing_each_in_words() {
    for (status, code, message, part) in [
        (
            400,
            "FAILED_PRECONDITION",
            "Secret Version [projects/1/secrets/a/versions/1] is in DISABLED state.",
            "enable it",
        ),
        (
            400,
            "FAILED_PRECONDITION",
            "Secret Version [projects/1/secrets/a/versions/1] is in DESTROYED state.",
            "destroyed",
        ),
        (404, "NOT_FOUND", "Secret Version [projects/1/secrets/a/versions/9] not found.", "version blue"),
        (404, "NOT_FOUND", "Secret [projects/1/secrets/a] not found or has no versions.", "no such secret"),
    ] {
        let error = read(&rpc(status, code, message, &json!([])));
        assert!(error.class == ErrorClass::Missing && error.message.contains(part), "{error}");
    }
    let kms = read(&rpc(400, "FAILED_PRECONDITION", "Cloud KMS key is disabled", &json!([])));
    assert_eq!(kms.class, ErrorClass::Denied);
}

#[test]
fn a_wait_is_taken_from_the_header_or_from_the_body_and_is_bounded() {
    let details = json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.5s"}]);
    let mut throttled = rpc(429, "RESOURCE_EXHAUSTED", "", &details);
    assert_eq!(read(&throttled).retry_after, Some(Duration::from_secs(2)));
    throttled.retry_after = Some(Duration::from_secs(7));
    assert_eq!(read(&throttled).retry_after, Some(Duration::from_secs(7)));
    assert_eq!(seconds("99999999999s"), Some(Duration::from_secs(600)));
    assert_eq!((seconds("x"), seconds("1"), seconds("-1s")), (None, None, None));
}

#[test]
fn a_refused_login_says_why_in_words_of_ours() {
    let exchange = Doing::Exchange { audience: "//iam.googleapis.com/pool" };
    for (code, description, part) in [
        (
            "invalid_grant",
            "The audience in ID Token [canary] does not match the expected audience.",
            "allowed audiences",
        ),
        ("invalid_grant", "ID Token issued at 1 is stale to sign-in.", "has ended"),
        ("invalid_grant", "The issuer in ID Token canary does not match the expected ones.", "provider's issuer"),
        ("invalid_grant", "Error connecting to the given credential's issuer.", "upload its keys"),
        ("invalid_grant", "Invalid ID Token signature", "no key of the cluster"),
        ("invalid_grant", "canary", "invalid_grant"),
        ("invalid_target", "canary", "pool or provider"),
        ("unauthorized_client", "canary", "attribute condition"),
        ("canary", "canary", "does not say why"),
    ] {
        let body = json!({"error": code, "error_description": description}).to_string();
        let error = refused_login(&answer(400, &body), &exchange);
        assert_eq!(error.class, ErrorClass::LoginDenied, "{code}");
        assert!(error.message.contains(part) && !error.message.contains("canary"), "{error}");
    }
    let doing = Doing::Impersonate { email: "bot@p", federated: "principal://bot" };
    let error = refused_login(&rpc(403, "PERMISSION_DENIED", "canary", &json!([])), &doing);
    for part in ["bot@p", "roles/iam.workloadIdentityUser", "principal://bot"] {
        assert!(error.message.contains(part), "{error}");
    }
    for (status, class) in
        [(500, ErrorClass::Unavailable), (429, ErrorClass::Throttled), (302, ErrorClass::Unavailable)]
    {
        let error = refused_login(&answer(status, "canary"), &exchange);
        assert_eq!((error.class, error.about_one), (class, false), "{status}");
    }
}
