//! What goes wrong, for whom, and how often.

use std::sync::Mutex;
use std::time::Duration;

use crate::cluster::lock;

/// As many times as there are requests.
pub const ALWAYS: usize = usize::MAX;

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum FaultKind {
    /// It reaches the peer; the answer comes this much later.
    Slow(Duration),
    /// It never reaches the peer, and nothing is ever answered.
    NoAnswer,
    /// It never reaches the peer; the connection is reset (RST).
    Reset,
    /// It reaches the peer; the connection ends after so many bytes of the
    /// body, and at least one byte before its announced end.
    Truncate(usize),
    /// The answer begins and goes on for ever, a byte now and then.
    Endless,
    /// The answer begins and goes on for ever, as fast as it is read.
    Flood,
    /// It never reaches the peer; this is answered.
    Status {
        /// The status.
        code: u16,
        /// Header names and values.
        headers: Vec<(String, String)>,
        /// The whole body.
        body: Vec<u8>,
    },
    /// It never reaches the peer; something that is no manager answers 200
    /// with a web page.
    Garbage,
    /// It never reaches the peer; the same request's first good answer is
    /// given again, as a replica that is behind does. Where there was none, it
    /// reaches the peer.
    Stale,
}

/// What the proxy shows instead of a certificate that is right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Certificate {
    /// For the name that was asked for, of the proxy's authority.
    #[default]
    Right,
    /// Of an authority that nobody trusts.
    UnknownAuthority,
    /// For another name.
    OtherName,
    /// One that has ended.
    Expired,
}

impl FaultKind {
    /// A status alone.
    #[must_use]
    pub fn status(code: u16) -> Self {
        Self::Status { code, headers: Vec::new(), body: Vec::new() }
    }

    /// A status with a header, and a body as managers write it.
    #[must_use]
    pub fn answer(code: u16, headers: &[(&str, &str)], body: &str) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::Status { code, headers, body: body.as_bytes().to_vec() }
    }
}

#[derive(Debug)]
struct Rule {
    name: String,
    part: String,
    kind: FaultKind,
    left: usize,
}

#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<Vec<Rule>>);

impl Faults {
    pub(super) fn add(&self, name: &str, part: &str, kind: FaultKind, times: usize) {
        lock(&self.0).push(Rule { name: name.to_owned(), part: part.to_owned(), kind, left: times });
    }

    pub(super) fn clear(&self, name: &str) {
        lock(&self.0).retain(|rule| name != "*" && rule.name != name);
    }

    /// The fault for this request, which counts as one time.
    pub(super) fn take(&self, names: &[&str], line: &str) -> Option<FaultKind> {
        let mut rules = lock(&self.0);
        let rule = rules.iter_mut().find(|rule| {
            rule.left > 0 && (rule.name == "*" || names.contains(&rule.name.as_str())) && line.contains(&rule.part)
        })?;
        if rule.left != ALWAYS {
            rule.left -= 1;
        }
        Some(rule.kind.clone())
    }
}
