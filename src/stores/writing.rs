//! New values for what a manager holds already: what is written back is made
//! here, and every byte that is not to be replaced stays as it is.

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{ErrorClass, StoreError, WriteBack, error::invalid};
use crate::secret::SecretBytes;

/// What is to be replaced.
#[derive(Debug)]
pub(super) enum Change<'a> {
    /// The whole content.
    Whole(&'a SecretBytes),
    /// Properties of a JSON object.
    Properties(Vec<(&'a str, &'a SecretBytes)>),
}

impl<'a> Change<'a> {
    pub(super) fn of(write: &WriteBack<'a>) -> Result<Self, StoreError> {
        newest_only(write.key.version.is_some(), write.key.metadata)?;
        match write.properties {
            [] => Err(invalid("there is nothing to write")),
            [(None, value)] => Ok(Self::Whole(value)),
            all => {
                let named = all.iter().map(|(property, value)| property.as_deref().map(|property| (property, value)));
                named.collect::<Option<_>>().map(Self::Properties).ok_or_else(|| {
                    invalid(
                        "the whole and a property of one remote secret cannot both be written: refer to one of them",
                    )
                })
            }
        }
    }

    /// Whether it can be written where there is no content yet.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self, Self::Whole(_))
    }

    /// The new content.
    pub(super) fn applied(&self, content: Option<&[u8]>) -> Result<SecretBytes, StoreError> {
        match self {
            Self::Whole(value) => Ok(value.duplicate()),
            Self::Properties(properties) => {
                let mut new = SecretBytes::new(content.unwrap_or_default().to_vec());
                for (property, value) in properties {
                    new = replaced(new.expose(), property, value)?;
                }
                Ok(new)
            }
        }
    }
}

/// Only the newest version of a secret's value can be followed by another.
pub(super) fn newest_only(pinned: bool, metadata: bool) -> Result<(), StoreError> {
    match (pinned, metadata) {
        (true, _) => Err(invalid("a pinned version stays as it is: leave remoteRef.version out of what is rotated")),
        (_, true) => Err(invalid("metadata is not rotated: leave remoteRef.metadataPolicy out")),
        _ => Ok(()),
    }
}

/// Refuses before it is sent what the manager would not take.
pub(super) fn sized(value: &SecretBytes, largest: usize, manager: &str) -> Result<(), StoreError> {
    if value.is_empty() {
        return Err(invalid(format!("{manager} takes no empty value")));
    }
    if value.len() > largest {
        return Err(invalid(format!(
            "with the new value it would have {} bytes, and {manager} takes {largest}: write a shorter one, or split \
             the remote secret",
            value.len()
        )));
    }
    Ok(())
}

/// Somebody else was faster.
pub(super) fn conflict(message: impl Into<String>) -> StoreError {
    StoreError::new(ErrorClass::Conflict, message)
}

/// A body that holds a value of this length: written without leaving copies
/// behind, and zeroed once it is sent.
pub(super) fn sealed(body: &impl Serialize, value: usize) -> Result<Bytes, StoreError> {
    // A byte takes six at most, as an escape.
    let mut bytes = Zeroizing::new(Vec::with_capacity(6 * value + 4096));
    serde_json::to_writer(&mut *bytes, body).map_err(|_| invalid("the new value cannot be written as JSON"))?;
    Ok(Bytes::from_owner(bytes))
}

/// Where a property is, or is to be.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    There(Range<usize>),
    /// A new member of an object, of the rest of the property's name: after its
    /// last one, if there is any.
    New {
        at: usize,
        first: bool,
        name: &'a str,
    },
}

/// The JSON text with another text as the property.
fn replaced(content: &[u8], property: &str, value: &SecretBytes) -> Result<SecretBytes, StoreError> {
    let root: Option<(&str, &RawValue)> = std::str::from_utf8(content)
        .ok()
        .and_then(|text| Some((text, serde_json::from_str(text).ok()?)))
        .filter(|(_, root): &(_, &RawValue)| root.get().starts_with('{'));
    let (text, root) = root.ok_or_else(|| {
        invalid("a property is to be written, but the remote secret is no JSON object: make it one, or write the whole")
    })?;
    let place = place(text, root.get(), property).ok_or_else(|| {
        invalid(
            "the property lies in something that holds no properties: correct remoteRef.property, or make it an object",
        )
    })?;
    let value = std::str::from_utf8(value.expose())
        .map_err(|_| invalid("the new value is no text, which a property of a JSON object must be"))?;
    let value = quoted(value)?;
    let (span, before) = match place {
        Place::There(span) => (span, Zeroizing::new(String::new())),
        Place::New { at, first, name } => {
            let name = quoted(name)?;
            let comma = if first { "" } else { "," };
            (at..at, Zeroizing::new(format!("{comma}{}:", name.as_str())))
        }
    };
    let parts = [&text[..span.start], before.as_str(), value.as_str(), &text[span.end..]];
    // Sized at once: growing would leave copies of the value behind.
    let mut new = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
    for part in parts {
        new.extend_from_slice(part.as_bytes());
    }
    Ok(SecretBytes::new(new))
}

/// As a string of JSON.
fn quoted(text: &str) -> Result<Zeroizing<String>, StoreError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(6 * text.len() + 2));
    serde_json::to_writer(&mut *bytes, text).map_err(|_| invalid("the new value cannot be written as JSON"))?;
    String::from_utf8(std::mem::take(&mut *bytes))
        .map(Zeroizing::new)
        .map_err(|_| invalid("the new value cannot be written as JSON"))
}

/// As a reference finds it: at each level a member of exactly that name, dots
/// and all, else a path whose first segment is a member's name or an array's
/// index.
fn place<'a>(text: &str, root: &str, property: &'a str) -> Option<Place<'a>> {
    if property.is_empty() {
        return None;
    }
    let (mut value, mut rest) = (root, property);
    loop {
        let (first, after) = match rest.split_once('.') {
            Some((first, after)) => (first, Some(after)),
            None => (rest, None),
        };
        let next: &RawValue = match value.as_bytes().first()? {
            b'{' => {
                let members: BTreeMap<String, &RawValue> = serde_json::from_str(value).ok()?;
                match (members.get(rest), members.get(first)) {
                    (Some(literal), _) => return Some(Place::There(span(text, literal.get()))),
                    (None, Some(outer)) => outer,
                    (None, None) => {
                        let last = members.values().map(|member| span(text, member.get()).end).max();
                        let at = last.unwrap_or_else(|| span(text, value).start + 1);
                        return Some(Place::New { at, first: members.is_empty(), name: rest });
                    }
                }
            }
            b'[' if first.bytes().all(|byte| byte.is_ascii_digit()) => {
                let items: Vec<&RawValue> = serde_json::from_str(value).ok()?;
                items.get(first.parse::<usize>().ok()?).copied()?
            }
            _ => return None,
        };
        let Some(after) = after else { return Some(Place::There(span(text, next.get()))) };
        (value, rest) = (next.get(), after);
    }
}

/// Where a part of a text is in it.
fn span(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr().addr() - text.as_ptr().addr();
    start..start + part.len()
}

#[cfg(test)]
#[path = "writing_tests.rs"]
mod tests;
