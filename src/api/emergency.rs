//! A rotation that somebody wants now: the request, which lies on the BotSecret,
//! and what became of it, in the status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// How many characters of a reason are kept.
pub const LONGEST_REASON: usize = 256;
const LONGEST_ID: usize = 64;

/// The request, as annotation botsecret.dev/rotate holds it. Whoever may edit the
/// BotSecret can write one, so it is that person's word, and no more.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RotateRequest {
    /// Tells it from the request before: each is handled once.
    pub id: String,
    /// Why.
    pub reason: String,
    /// Whether the old credentials go as soon as there are new ones.
    #[serde(default)]
    pub revoke: bool,
    /// Who asked, as they say themselves.
    #[serde(default)]
    pub by: String,
}

impl RotateRequest {
    /// The request that an annotation holds; `None` where it holds none. What people
    /// wrote is bounded and shows nothing but what it shows.
    #[must_use]
    pub fn parse(annotation: &str) -> Option<Self> {
        let written: Self = serde_json::from_str(annotation).ok()?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let is_id = (1..=LONGEST_ID).contains(&written.id.len()) && written.id.bytes().all(is_plain);
        let (reason, by) = (legible(&written.reason), legible(&written.by));
        (is_id && !reason.is_empty()).then_some(Self { reason, by, ..written })
    }

    /// The annotation's text.
    #[must_use]
    pub fn to_annotation(&self) -> String {
        // Plain fields always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// One line of at most [`LONGEST_REASON`] characters that show themselves: none
/// that ends a line, steers a terminal or turns the text around.
#[must_use]
pub fn legible(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}' | '\u{61c}');
    let shown: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).filter(|c| !turns(*c)).collect();
    let kept: String = shown.trim().chars().take(LONGEST_REASON).collect();
    // The cut may fall behind a space: the same text is legible as it is.
    kept.trim_end().to_owned()
}

/// What became of the last request for a rotation at once.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmergencyStatus {
    /// The request's id.
    #[schemars(length(max = 64))]
    pub id: String,
    /// Why it was made.
    #[schemars(length(max = 256))]
    pub reason: String,
    /// Who made it, as the request says. The API server's audit log proves it.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub by: String,
    /// Whether the old credentials are to go at once.
    #[serde(default)]
    pub revoke: bool,
    /// When the operator took it up.
    pub requested_at: Time,
    /// Requested (a new value is still to be had), Written (the Secret holds what
    /// could be had, and workloads roll), or its end: RolledOut, Halted,
    /// RolledBack, WaitingForWorkload, NotRotated or Withdrawn.
    pub phase: String,
    /// When it came to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// The revision of the Secret that it began with.
    #[serde(default)]
    pub from: String,
    /// What became of the old credentials that were to go: Revoked, LeftToEnd (the
    /// manager did not revoke one, which ends with its login) or NothingToRevoke.
    #[serde(default)]
    pub revocation: String,
    /// What holds it up, or how it ended.
    #[serde(default)]
    pub message: String,
}

impl EmergencyStatus {
    /// Its phase; `None` for one of a later version.
    #[must_use]
    pub fn phase(&self) -> Option<EmergencyPhase> {
        EmergencyPhase::from_name(&self.phase)
    }

    /// Whether something is still to be done for it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.phase(), Some(EmergencyPhase::Requested | EmergencyPhase::Written))
    }
}

/// How far a rotation at once is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmergencyPhase {
    /// A new value is still to be had.
    Requested,
    /// The Secret holds what could be had.
    Written,
    /// Every workload holds it.
    RolledOut,
    /// A workload failed on it.
    Halted,
    /// A workload failed on it, and the value before is back.
    RolledBack,
    /// What is left to roll waits for a person.
    WaitingForWorkload,
    /// No new value could be made at its source.
    NotRotated,
    /// The request is no longer there.
    Withdrawn,
}

impl EmergencyPhase {
    const ALL: [Self; 8] = [
        Self::Requested,
        Self::Written,
        Self::RolledOut,
        Self::Halted,
        Self::RolledBack,
        Self::WaitingForWorkload,
        Self::NotRotated,
        Self::Withdrawn,
    ];

    /// As it stands in the status.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Requested => "Requested",
            Self::Written => "Written",
            Self::RolledOut => "RolledOut",
            Self::Halted => "Halted",
            Self::RolledBack => "RolledBack",
            Self::WaitingForWorkload => "WaitingForWorkload",
            Self::NotRotated => "NotRotated",
            Self::Withdrawn => "Withdrawn",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_REASON, RotateRequest};

    fn request(id: &str, reason: &str) -> RotateRequest {
        RotateRequest { id: id.into(), reason: reason.into(), revoke: true, by: "ann".into() }
    }

    #[test]
    fn p5_a_request_is_read_as_it_was_written_and_anything_else_is_none() {
        let written = request("20261201-1a2b", "the key was in a log");
        assert_eq!(RotateRequest::parse(&written.to_annotation()), Some(written));
        let least = RotateRequest::parse(r#"{"id":"1","reason":"leaked","later":true}"#).expect("a request");
        assert!(!least.revoke && least.by.is_empty());
        for text in
            ["", "now", "{}", "[]", "null", r#"{"id":"1"}"#, r#"{"id":"","reason":"r"}"#, r#"{"id":1,"reason":"r"}"#]
        {
            assert_eq!(RotateRequest::parse(text), None, "{text}");
        }
        for id in ["a b", "a/b", "ü", &"a".repeat(65)] {
            assert_eq!(RotateRequest::parse(&request(id, "r").to_annotation()), None, "{id}");
        }
        assert_eq!(
            RotateRequest::parse(&request("1", " \n\u{202e} ").to_annotation()),
            None,
            "a reason that shows nothing"
        );
    }

    #[test]
    fn p5_a_reason_is_one_bounded_line_that_steers_nothing() {
        let reason = format!("a\u{1b}[31m\nb\u{202e}c\0{}", "é".repeat(400));
        let read = RotateRequest::parse(&request("1", &reason).to_annotation()).expect("a request").reason;
        assert!(read.starts_with("a [31m bc é"), "{read}");
        assert_eq!(read.chars().count(), LONGEST_REASON);
        assert!(!read.chars().any(char::is_control));
        // Also where the cut falls between two words.
        let cut = RotateRequest::parse(&request("1", &format!("{} b", "a".repeat(255))).to_annotation());
        let cut = cut.expect("a request");
        assert_eq!(cut.reason, "a".repeat(255));
        assert_eq!(RotateRequest::parse(&cut.to_annotation()), Some(cut), "the same again");
    }
}
