//! What a reference picks from a remote secret, whatever shape it came in.

use std::{cell::OnceCell, collections::BTreeMap};

use super::{
    BuildErrorKind,
    json::{Json, Value},
};
use crate::{
    secret::SecretBytes,
    stores::{Payload, RemoteSecret},
};

/// A remote secret that is looked into: each text in it is parsed once, and
/// only when something inside it is asked for.
pub(super) enum Content<'a> {
    Json(Option<Json<'a>>),
    Fields(BTreeMap<&'a str, Text<'a>>),
    Bytes(Text<'a>),
}

/// Bytes that may turn out to be JSON.
pub(super) struct Text<'a> {
    bytes: &'a SecretBytes,
    json: OnceCell<Option<Json<'a>>>,
}

impl<'a> Text<'a> {
    fn of(bytes: &'a SecretBytes) -> Self {
        Self { bytes, json: OnceCell::new() }
    }

    fn json(&self) -> Option<&Json<'a>> {
        self.json.get_or_init(|| Json::parse(std::str::from_utf8(self.bytes.expose()).ok()?)).as_ref()
    }
}

/// Why nothing could be picked: the kind, and half a sentence without values.
pub(super) type Refusal = (BuildErrorKind, &'static str);

const NO_JSON: Refusal = (BuildErrorKind::NotAnObject, "is not JSON, or nests deeper than 128 levels");
const NO_OBJECT: Refusal = (BuildErrorKind::NotAnObject, "is not a JSON object");
const MISSING: Refusal = (BuildErrorKind::PropertyMissing, "is not there");
const NULL: Refusal = (BuildErrorKind::NullValue, "is null");
const BROKEN: Refusal = (BuildErrorKind::TypeMismatch, "has an escape that stands for no character");
const NOT_TEXT: Refusal =
    (BuildErrorKind::TypeMismatch, "holds bytes that are no UTF-8 text, so that it cannot become one JSON object");

impl<'a> Content<'a> {
    pub(super) fn of(remote: &'a RemoteSecret) -> Self {
        match &remote.payload {
            Payload::Json(text) => Self::Json(Json::parse(text.expose())),
            Payload::Fields(fields) => {
                Self::Fields(fields.iter().map(|(name, bytes)| (name.as_str(), Text::of(bytes))).collect())
            }
            Payload::Bytes(bytes) => Self::Bytes(Text::of(bytes)),
        }
    }

    /// One value: the property, or the whole where none is named.
    pub(super) fn value(&self, property: Option<&str>) -> Result<SecretBytes, Refusal> {
        match (self, property) {
            (Self::Json(json), None) => bytes_of(json.as_ref().ok_or(NO_JSON)?),
            (Self::Fields(fields), None) => whole(fields),
            (Self::Bytes(text), None) => Ok(text.bytes.duplicate()),
            (Self::Fields(fields), Some(property)) => match fields.get(property) {
                Some(field) => Ok(field.bytes.duplicate()),
                None => bytes_of(self.json_at(property)?),
            },
            (_, Some(property)) => bytes_of(self.json_at(property)?),
        }
    }

    /// Every member of the whole, or of the object that the property holds,
    /// handed to `each` by name.
    pub(super) fn members<E>(
        &self,
        property: Option<&str>,
        mut each: impl FnMut(&str, &dyn Fn() -> Result<SecretBytes, Refusal>) -> Result<(), E>,
    ) -> Result<Result<(), E>, Refusal> {
        let object = match (self, property) {
            (Self::Fields(fields), None) => {
                return Ok(fields.iter().try_for_each(|(name, text)| each(name, &|| Ok(text.bytes.duplicate()))));
            }
            (Self::Json(json), None) => json.as_ref().ok_or(NO_JSON)?,
            (Self::Bytes(text), None) => text.json().ok_or(NO_OBJECT)?,
            (Self::Fields(fields), Some(property)) if fields.contains_key(property) => {
                fields.get(property).and_then(Text::json).ok_or(NO_OBJECT)?
            }
            (_, Some(property)) => self.json_at(property)?,
        };
        let members = object.members().ok_or(NO_OBJECT)?;
        Ok(members.iter().try_for_each(|(name, json)| each(name, &|| bytes_of(json))))
    }

    /// What a property names inside JSON.
    fn json_at(&self, property: &str) -> Result<&Json<'a>, Refusal> {
        match self {
            Self::Json(json) => {
                let json = json.as_ref().ok_or(NO_JSON)?;
                json.members().ok_or(NO_OBJECT)?;
                json.find(property).ok_or(MISSING)
            }
            Self::Bytes(text) => {
                let json = text.json().ok_or((
                    BuildErrorKind::NotAnObject,
                    "cannot be looked up: the remote secret is one value that is no JSON object",
                ))?;
                json.members().ok_or(NO_OBJECT)?;
                json.find(property).ok_or(MISSING)
            }
            Self::Fields(fields) => {
                // The path's first segment names the field, the rest lies in it.
                let (field, rest) = property.split_once('.').ok_or(MISSING)?;
                let text = fields.get(field).ok_or(MISSING)?;
                let json = text.json().ok_or((
                    BuildErrorKind::NotAnObject,
                    "cannot be looked up: the field that it starts with is no JSON",
                ))?;
                json.find(rest).ok_or(MISSING)
            }
        }
    }
}

fn bytes_of(json: &Json<'_>) -> Result<SecretBytes, Refusal> {
    match json.value() {
        Value::Bytes(bytes) => Ok(bytes),
        Value::Null => Err(NULL),
        Value::Broken => Err(BROKEN),
    }
}

/// Named byte strings as one JSON object.
fn whole(fields: &BTreeMap<&str, Text<'_>>) -> Result<SecretBytes, Refusal> {
    let texts: BTreeMap<&str, &str> = fields
        .iter()
        .map(|(name, text)| std::str::from_utf8(text.bytes.expose()).map(|text| (*name, text)))
        .collect::<Result<_, _>>()
        .map_err(|_| NOT_TEXT)?;
    // Text under text keys always has a JSON form; the error would be none of
    // the value's fault, and quotes nothing.
    serde_json::to_vec(&texts).map(SecretBytes::new).map_err(|_| NOT_TEXT)
}
