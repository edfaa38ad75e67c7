//! Why a Secret's data could not be built.

use std::fmt;

use super::Source;

/// Classes of failure; each is one reason on a BotSecret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BuildErrorKind {
    /// The remote secret has no such property.
    PropertyMissing,
    /// The property is there, and null.
    NullValue,
    /// Something was to be looked into that is no JSON object.
    NotAnObject,
    /// A value is not encoded as the entry says.
    NotEncoded,
    /// A step of `rewrite` cannot be taken.
    Rewrite,
    /// A template cannot be rendered.
    Template,
    /// An extracted name cannot be a key of a Secret.
    InvalidKey,
    /// Two entries fill the same key.
    Collision,
    /// Keys and values together exceed what a Secret may hold.
    TooLarge,
    /// The values are not what the Secret's type, or the entry, asks for.
    TypeMismatch,
    /// There is nothing to write.
    NoData,
}

/// Why a Secret's data could not be built. It names keys, stores, remote
/// secrets and properties, and never carries a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildError {
    /// What kind of failure.
    pub kind: BuildErrorKind,
    /// The Secret's key that could not be filled.
    pub secret_key: Option<String>,
    /// The remote secret that did not hold what was asked for.
    pub source: Option<Box<Source>>,
    /// What happened and what to do, for people.
    pub message: String,
}

impl BuildError {
    pub(super) fn new(kind: BuildErrorKind, message: impl Into<String>) -> Self {
        Self { kind, secret_key: None, source: None, message: message.into() }
    }

    pub(super) fn key(mut self, secret_key: &str) -> Self {
        self.secret_key = Some(secret_key.to_owned());
        self
    }

    pub(super) fn source(mut self, source: &Source) -> Self {
        self.source = Some(Box::new(source.clone()));
        self
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

// By hand: a derive would take the field `source` for the error's cause.
impl std::error::Error for BuildError {}
