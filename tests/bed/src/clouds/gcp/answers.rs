//! Answers in Google's shapes.

use axum::body::Body;
use axum::http::{StatusCode, header::CONTENT_TYPE};
use axum::response::Response;
use serde_json::{Value, json};

pub(super) type Outcome = Result<Answer, Refusal>;

/// Status and body.
pub(super) struct Answer(pub u16, pub Value);

impl Answer {
    pub(super) fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.1.to_string()));
        *response.status_mut() = StatusCode::from_u16(self.0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json; charset=UTF-8"));
        response
    }
}

#[allow(clippy::unnecessary_wraps, reason = "what every service ends with")]
pub(super) fn good(body: Value) -> Outcome {
    Ok(Answer(200, body))
}

/// A refusal.
pub(super) enum Refusal {
    /// As google.rpc.Status, with ErrorInfo's reason and domain.
    Rpc { status: u16, code: &'static str, message: String, reason: Option<(&'static str, &'static str)> },
    /// As OAuth 2 has it.
    OAuth { code: &'static str, description: String },
}

impl Refusal {
    pub(super) fn rpc(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self::Rpc { status, code, message: message.into(), reason: None }
    }

    pub(super) fn oauth(code: &'static str, description: impl Into<String>) -> Self {
        Self::OAuth { code, description: description.into() }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::rpc(400, "INVALID_ARGUMENT", message)
    }

    pub(super) fn not_here() -> Self {
        Self::rpc(404, "NOT_FOUND", "The requested URL was not found on this server.")
    }

    pub(super) fn denied(permission: &str, resource: &str) -> Self {
        Self::Rpc {
            status: 403,
            code: "PERMISSION_DENIED",
            message: format!("Permission '{permission}' denied for resource '{resource}' (or it may not exist)."),
            reason: Some(("IAM_PERMISSION_DENIED", "iam.googleapis.com")),
        }
    }

    pub(super) fn unauthenticated() -> Self {
        Self::Rpc {
            status: 401,
            code: "UNAUTHENTICATED",
            message: "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or \
                      other valid authentication credential."
                .to_owned(),
            reason: Some(("ACCESS_TOKEN_EXPIRED", "googleapis.com")),
        }
    }

    pub(super) fn into_answer(self) -> Answer {
        match self {
            Self::OAuth { code, description } => Answer(400, json!({"error": code, "error_description": description})),
            Self::Rpc { status, code, message, reason } => {
                let details = reason.map(|(reason, domain)| {
                    json!({
                        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                        "reason": reason, "domain": domain, "metadata": {},
                    })
                });
                let details: Vec<Value> = details.into_iter().collect();
                Answer(
                    status,
                    json!({"error": {"code": status, "message": message, "status": code, "details": details}}),
                )
            }
        }
    }
}

/// The pairs of a query or a form.
pub(super) fn pairs(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key), decoded(value))
        })
        .collect()
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match (escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()), bytes[at]) {
            (Some(byte), _) => {
                out.push(byte);
                at += 2;
            }
            (None, b'+') => out.push(b' '),
            (None, byte) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}
