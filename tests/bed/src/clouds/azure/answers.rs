//! Answers in both services' shapes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

/// JSON with a status.
pub(super) fn answer(status: u16, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    response
}

/// A refusal as Entra ID writes it.
pub(super) fn aadsts(status: u16, error: &str, code: u32, words: &str) -> Response {
    let description = format!("AADSTS{code}: {words} Trace ID: 0 Correlation ID: 0 Timestamp: 2026-11-22 00:00:00Z");
    answer(status, &json!({"error": error, "error_description": description, "error_codes": [code]}))
}

/// A refusal as Key Vault writes it.
pub(super) fn refused(status: u16, code: &str, inner: Option<&str>, words: &str) -> Response {
    let mut error = json!({"code": code, "message": words});
    if let Some(inner) = inner {
        error["innererror"] = json!({"code": inner});
    }
    answer(status, &json!({"error": error}))
}

/// The pairs of a form or a query.
pub(super) fn form(bytes: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(bytes);
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (decoded(k), decoded(v))).collect()
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match (byte, hex.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(value)) => {
                out.push(value);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            _ => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
