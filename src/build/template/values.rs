//! Values as templates see them: text, and bytes that are none.

use std::{
    borrow::Cow,
    fmt, mem,
    sync::{Arc, Mutex, PoisonError},
};

use minijinja::{
    Error, Value,
    value::{Object, ObjectRepr},
};

use super::trouble::refuse;
use crate::secret::SecretBytes;

pub(super) const NOT_TEXT: &str = "it uses bytes that are no UTF-8 text as text: encode them with b64encode";

/// What stands in the output for bytes. That it is all that stands there is
/// checked at the end.
pub(super) const STAND_IN: &str = "\u{fffc}";

/// What happened to bytes while a template was rendered.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// How many times they were put out, and those of the last time.
    pub(super) emitted: usize,
    pub(super) last: Option<SecretBytes>,
    /// The engine asked for their text, where it takes no refusal.
    pub(super) taken_for_text: bool,
}

/// Shared by one renderer and the bytes that its templates work on.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks(Arc<Mutex<Noted>>);

/// Bytes that are no UTF-8 text.
pub(super) struct Binary {
    bytes: SecretBytes,
    marks: Marks,
}

impl fmt::Debug for Binary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes.fmt(formatter)
    }
}

impl Object for Binary {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An error here would be a panic in whoever asks for the text.
        self.marks.note(|noted| noted.taken_for_text = true);
        Ok(())
    }
}

impl Marks {
    /// Text where the bytes are text.
    pub(super) fn value(&self, bytes: &[u8]) -> Value {
        match std::str::from_utf8(bytes) {
            Ok(text) => Value::from(text),
            Err(_) => self.binary(SecretBytes::new(bytes.to_vec())),
        }
    }

    pub(super) fn binary(&self, bytes: SecretBytes) -> Value {
        Value::from_object(Binary { bytes, marks: self.clone() })
    }

    fn note<T>(&self, note: impl FnOnce(&mut Noted) -> T) -> T {
        note(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was noted; it begins anew.
    pub(super) fn take(&self) -> Noted {
        self.note(mem::take)
    }
}

impl Binary {
    /// The bytes stand in the output.
    pub(super) fn put_out(&self) {
        self.marks.note(|noted| {
            noted.emitted += 1;
            noted.last = Some(self.bytes.duplicate());
        });
    }
}

/// A value's bytes.
pub(super) fn bytes_of(value: &Value) -> Result<Cow<'_, [u8]>, Error> {
    if let Some(binary) = value.downcast_object_ref::<Binary>() {
        return Ok(Cow::Borrowed(binary.bytes.expose()));
    }
    match text_of(value)? {
        Cow::Borrowed(text) => Ok(Cow::Borrowed(text.as_bytes())),
        Cow::Owned(text) => Ok(Cow::Owned(text.into_bytes())),
    }
}

/// A value's text: its own, or that of a number or boolean.
pub(super) fn text_of(value: &Value) -> Result<Cow<'_, str>, Error> {
    use minijinja::value::ValueKind;
    if let Some(text) = value.as_str() {
        return Ok(Cow::Borrowed(text));
    }
    match value.kind() {
        ValueKind::Bool => Ok(Cow::Borrowed(if value.is_true() { "true" } else { "false" })),
        ValueKind::Number => Ok(Cow::Owned(value.to_string())),
        ValueKind::Undefined => Err(Error::from(minijinja::ErrorKind::UndefinedError)),
        ValueKind::None => Err(refuse("it uses null as text")),
        _ if value.downcast_object_ref::<Binary>().is_some() => Err(refuse(NOT_TEXT)),
        _ => Err(refuse("it uses a list or map as text: use tojson, toyaml or join")),
    }
}
