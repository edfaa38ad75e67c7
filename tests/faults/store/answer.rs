//! What a request comes to.

use serde_json::{Value, json};

use super::{Key, Kind, watch::Watch};

/// An answer of the API.
#[derive(Debug)]
pub enum Answer {
    /// An object, a list or a status.
    Object(u16, Value),
    /// A watch, to be streamed.
    Watch(Box<Watch>),
}

impl Answer {
    pub fn code(&self) -> u16 {
        match self {
            Self::Object(code, _) => *code,
            Self::Watch(_) => 200,
        }
    }

    /// The object, where the request was granted.
    pub fn granted(self) -> Value {
        match self {
            Self::Object(200..300, body) => body,
            other => panic!("refused: {other:?}"),
        }
    }
}

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: u16,
    pub reason: &'static str,
    pub message: String,
}

impl Refusal {
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into() }
    }

    pub fn missing(kind: &Kind, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} \"{name}\" not found", kind.qualified()))
    }

    pub fn exists(key: &Key) -> Self {
        let message = format!("{} \"{}\" already exists", key.kind().qualified(), key.name);
        Self::new(409, "AlreadyExists", message)
    }

    pub fn conflict(key: &Key, why: &str) -> Self {
        let what = key.kind().qualified();
        Self::new(409, "Conflict", format!("Operation cannot be fulfilled on {what} \"{}\": {why}", key.name))
    }

    pub fn modified(key: &Key) -> Self {
        Self::conflict(
            key,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    pub fn invalid(key: &Key, why: &str) -> Self {
        let kind = key.kind();
        let what = if kind.group.is_empty() { kind.kind.to_owned() } else { format!("{}.{}", kind.kind, kind.group) };
        Self::new(422, "Invalid", format!("{what} \"{}\" is invalid: {why}", key.name))
    }

    pub fn bad(why: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", why)
    }

    pub fn to_status(&self) -> Value {
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        })
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Self::Object(refusal.code, refusal.to_status())
    }
}
