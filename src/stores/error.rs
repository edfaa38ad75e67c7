//! What can go wrong when a manager is asked, sorted by what to do about it.

use std::time::Duration;

/// Classes of failure; each decides how soon to try again and which reason a
/// BotSecret shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The identity may not log in (role, audience, trust).
    LoginDenied,
    /// The identity may not read this secret.
    Denied,
    /// The remote secret, or the pinned version, is not there.
    Missing,
    /// The store or the reference cannot be right as written.
    Invalid,
    /// The ServiceAccount does not exist, or no token could be had for it.
    Identity,
    /// The manager is down, sealed, unreachable or talks nonsense.
    Unavailable,
    /// The manager did not answer in time.
    Timeout,
    /// The manager asked for patience.
    Throttled,
    /// The answer is larger than may be read.
    TooLarge,
    /// Somebody else wrote the remote secret since it was read.
    Conflict,
}

impl ErrorClass {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::LoginDenied,
        Self::Denied,
        Self::Missing,
        Self::Invalid,
        Self::Identity,
        Self::Unavailable,
        Self::Timeout,
        Self::Throttled,
        Self::TooLarge,
        Self::Conflict,
    ];

    /// Its name in metrics and in the audit log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LoginDenied => "login_denied",
            Self::Denied => "denied",
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::Identity => "identity",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Throttled => "throttled",
            Self::TooLarge => "too_large",
            Self::Conflict => "conflict",
        }
    }

    /// Whether the manager refuses this to the identity.
    #[must_use]
    pub fn is_denial(self) -> bool {
        matches!(self, Self::Denied | Self::LoginDenied)
    }

    /// Whether waiting may cure it, without anybody changing anything.
    #[must_use]
    pub fn is_outage(self) -> bool {
        matches!(self, Self::Unavailable | Self::Timeout | Self::Throttled)
    }
}

/// A failure to read. Never carries bytes of a manager's answer: they may be
/// part of a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    /// What kind of failure.
    pub class: ErrorClass,
    /// What happened and what to do, for people.
    pub message: String,
    /// How long the manager asked to be left alone.
    pub retry_after: Option<Duration>,
    /// The manager answered, and what fails may be this one secret alone: no
    /// sign that it is down.
    pub about_one: bool,
    /// No connection could be made, whoever asks and whatever for.
    pub unconnected: bool,
    /// The session's login no longer counts: log in again and retry once.
    pub session_dead: bool,
}

impl StoreError {
    /// A failure of this class.
    #[must_use]
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
            retry_after: None,
            about_one: false,
            unconnected: false,
            session_dead: false,
        }
    }

    /// With the time that the manager asked for.
    #[must_use]
    pub fn after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// Says whether it is no connection that could be made.
    #[must_use]
    pub fn unconnected(mut self, unconnected: bool) -> Self {
        self.unconnected = unconnected;
        self
    }

    /// Says that the failure may be one secret's alone.
    #[must_use]
    pub fn about_one(mut self) -> Self {
        self.about_one = true;
        self
    }

    /// Says that it is the login that fails, and where, so that nobody looks
    /// for it at the secret.
    #[must_use]
    #[allow(dead_code, reason = "each store uses its part")]
    pub(crate) fn at_login(mut self, place: &str) -> Self {
        if self.class.is_outage() && !self.message.contains(place) {
            self.message = format!("the login at {place} failed: {}", self.message);
        }
        self.about_one = false;
        self
    }

    /// Marks the login as no longer good.
    #[must_use]
    pub fn ending_session(mut self) -> Self {
        self.session_dead = true;
        self
    }
}

/// What the store or the reference says cannot be right.
pub(super) fn invalid(message: impl Into<String>) -> StoreError {
    StoreError::new(ErrorClass::Invalid, message)
}

/// The manager is down, or what answers is not the manager.
pub(super) fn unavailable(message: impl Into<String>) -> StoreError {
    StoreError::new(ErrorClass::Unavailable, message)
}
