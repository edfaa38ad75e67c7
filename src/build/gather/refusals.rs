//! Where a value was read, and what is said of one that cannot be taken.

use std::fmt;

use crate::{
    api::DecodingStrategy,
    build::{BuildError, BuildErrorKind, MAX_SIZE, Source, property::Refusal},
};

/// Where a value was read.
#[derive(Clone)]
pub(super) enum Origin {
    Remote(Source),
    Issued(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remote(source) => source.fmt(formatter),
            Self::Issued(path) => write!(formatter, "the credential issued by {path}"),
        }
    }
}

impl Origin {
    fn mark(&self, error: BuildError) -> BuildError {
        match self {
            Self::Remote(source) => error.source(source),
            Self::Issued(_) => error,
        }
    }
}

pub(super) fn no_store() -> BuildError {
    BuildError::new(BuildErrorKind::NoData, "no store: set storeRef, or a storeRef on every entry of data and dataFrom")
}

pub(super) fn not_read(source: &Source) -> BuildError {
    BuildError::new(BuildErrorKind::NoData, format!("{source} was not read")).source(source)
}

/// "key A: property b of remote secret c of BotSecretStore d is not there: …".
pub(super) fn refused((kind, what): Refusal, lead: &str, property: Option<&str>, origin: &Origin) -> BuildError {
    let whole = property.map_or_else(String::new, |property| format!("property {property} of "));
    let advice = match kind {
        BuildErrorKind::PropertyMissing => "add it there, or correct the property's name",
        BuildErrorKind::NullValue => "give it a value there, or remove the reference to it",
        BuildErrorKind::NotAnObject if property.is_some() => {
            "leave out property to take the whole value, or store JSON there"
        }
        BuildErrorKind::NotAnObject => "store a JSON object there, or use an entry under data instead",
        _ => "correct the value there, or name one property of it",
    };
    origin.mark(BuildError::new(kind, format!("{lead}{whole}{origin} {what}: {advice}")))
}

pub(super) fn not_encoded(key: &str, strategy: Option<DecodingStrategy>, origin: &Origin) -> BuildError {
    let encoding = match strategy {
        Some(DecodingStrategy::Base64URL) => "Base64URL",
        _ => "Base64",
    };
    origin.mark(
        BuildError::new(
            BuildErrorKind::NotEncoded,
            format!(
                "key {key}: the value from {origin} is not {encoding}: correct it there, or set decodingStrategy to what it is (None takes it as it is)"
            ),
        )
        .key(key),
    )
}

/// Each with the property that it comes from, where it is one.
pub(super) fn collision(
    key: &str,
    one: (&Origin, Option<&str>),
    other: (&Origin, Option<&str>),
    same_entry: bool,
) -> BuildError {
    let place = |(origin, property): (&Origin, Option<&str>)| match property {
        Some(property) => format!("property \"{}\" of {origin}", shown(property)),
        None => origin.to_string(),
    };
    let (one, origin, other) = (place(one), other.0, place(other));
    let message = if same_entry {
        format!(
            "key {key} is filled twice by one entry under dataFrom, from {one} and from {other}: give the two different names with rewrite, or rename one of them there"
        )
    } else {
        format!(
            "key {key} is filled twice under dataFrom, by {one} and by {other}: rename it in one of them, set onCollision to Replace where the later one counts, or say which one counts with an entry under data"
        )
    };
    origin.mark(BuildError::new(BuildErrorKind::Collision, message).key(key))
}

/// A manager's or a rewritten name for people: escaped and cut, since nobody
/// has checked it.
pub(in crate::build) fn shown(name: &str) -> String {
    name.chars().take(253).flat_map(char::escape_default).collect()
}

pub(super) fn invalid_key(key: &str, name: Option<&str>, origin: &Origin) -> BuildError {
    let from = match name {
        Some(name) if name != key => format!(" (made of \"{}\")", shown(name)),
        _ => String::new(),
    };
    let key = shown(key);
    origin.mark(
        BuildError::new(
            BuildErrorKind::InvalidKey,
            format!(
                "property \"{key}\"{from} of {origin} cannot be a key of a Secret (letters, digits, '-', '_' and '.', at most 253): rename it there or with rewrite, or pick properties one by one under data"
            ),
        )
        .key(&key),
    )
}

pub(super) fn too_large(key: &str, origin: &Origin) -> BuildError {
    origin.mark(
        BuildError::new(
            BuildErrorKind::TooLarge,
            format!(
                "with key {key}, from {origin}, keys and values exceed the {MAX_SIZE} bytes that a Secret can hold: read less into this BotSecret, or split it into two"
            ),
        )
        .key(key),
    )
}
