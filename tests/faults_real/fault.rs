//! What goes wrong, and at which write.

use std::{fmt, str::FromStr};

/// What happens to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// kill -9 before the request reaches the API server.
    CrashBefore,
    /// kill -9 after it took effect, before the answer.
    CrashAfter,
    /// kill -9 while it is on its way: it arrives after the next rotation.
    Late,
    /// SIGTERM to the leader while it is on its way; another replica takes over.
    HandOver,
    /// It took effect; the connection is reset instead of an answer.
    ReplyLost,
    /// It did not take effect; the connection is reset.
    Reset,
    /// It did not take effect, and is not answered before the operator gives up.
    Hang,
    /// It took effect, and is not answered before the operator gives up.
    HangAfter,
    /// It did not take effect; this is the answer.
    Status(u16),
}

impl Fault {
    pub const ALL: [Self; 12] = [
        Self::CrashBefore,
        Self::CrashAfter,
        Self::Late,
        Self::HandOver,
        Self::ReplyLost,
        Self::Reset,
        Self::Hang,
        Self::HangAfter,
        Self::Status(409),
        Self::Status(429),
        Self::Status(500),
        Self::Status(503),
    ];
    /// What is tried at events, which nothing depends on.
    pub const OF_EVENTS: [Self; 2] = [Self::CrashAfter, Self::Status(500)];
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::CrashBefore => "crash-before",
            Self::CrashAfter => "crash-after",
            Self::Late => "late",
            Self::HandOver => "hand-over",
            Self::ReplyLost => "reply-lost",
            Self::Reset => "reset",
            Self::Hang => "hang",
            Self::HangAfter => "hang-after",
            Self::Status(code) => return write!(formatter, "{code}"),
        };
        formatter.write_str(name)
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|fault| fault.to_string() == text);
        found.ok_or_else(|| format!("no fault is called {text}"))
    }
}

/// A place in a run: the n-th write of one kind to one object, counted from 1
/// over all lives of the operator. On a real server the order of different
/// objects' writes is not the same in each run; that of one object's is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// Such as `update/secrets/price-bot`.
    pub write: String,
    pub number: usize,
}

impl Point {
    pub fn is_event(&self) -> bool {
        self.write.ends_with("/events")
    }
}

impl fmt::Display for Point {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", self.write, self.number)
    }
}

/// A fault at a point, such as `update/secrets/price-bot@2:crash-after`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Planned {
    pub point: Point,
    pub fault: Fault,
}

impl fmt::Display for Planned {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.point, self.fault)
    }
}

impl FromStr for Planned {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once(':').and_then(|(point, fault)| Some((point.rsplit_once('@')?, fault)));
        let ((write, number), fault) = parts.ok_or("a fault is written as update/secrets/price-bot@2:crash-after")?;
        let number = number.parse().map_err(|_| format!("{number} is not a number"))?;
        Ok(Self { point: Point { write: write.to_owned(), number }, fault: fault.parse()? })
    }
}

/// As `FAULTS_REAL_CASE` takes it.
pub fn name(planned: &[Planned]) -> String {
    planned.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
