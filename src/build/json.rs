//! JSON text, picked apart without re-printing it: a number keeps the spelling
//! that its manager gave it.

use std::{cell::OnceCell, collections::BTreeMap};

use serde_json::value::RawValue;

use crate::secret::SecretBytes;

/// How deep objects and arrays may nest, as in serde_json itself.
const MAX_DEPTH: usize = 128;

/// One value inside a JSON text. What it holds is looked at when asked for,
/// and only once, so that a thousand keys out of one text parse it once.
pub(super) struct Json<'a> {
    text: &'a str,
    inner: OnceCell<Inner<'a>>,
}

enum Inner<'a> {
    Members(BTreeMap<String, Json<'a>>),
    Items(Vec<Json<'a>>),
    Leaf,
}

/// What a value is as bytes of a Secret.
pub(super) enum Value {
    Bytes(SecretBytes),
    Null,
    /// Text with an escape that stands for no character.
    Broken,
}

/// What kind of value it is, with what it holds.
pub(super) enum Shape<'b, 'a> {
    Members(&'b BTreeMap<String, Json<'a>>),
    Items(&'b [Json<'a>]),
    Text(String),
    /// As it is written.
    Number(&'a str),
    Bool(bool),
    Null,
    /// Something that cannot be looked into.
    Broken,
}

impl<'a> Json<'a> {
    /// `None` where the text is no JSON, or nests too deep to be looked into.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let raw: &RawValue = serde_json::from_str(text).ok()?;
        is_shallow(raw.get()).then(|| Self::of(raw))
    }

    fn of(raw: &'a RawValue) -> Self {
        Self { text: raw.get(), inner: OnceCell::new() }
    }

    fn inner(&self) -> &Inner<'a> {
        self.inner.get_or_init(|| match self.text.as_bytes().first() {
            Some(b'{') => serde_json::from_str::<BTreeMap<String, &RawValue>>(self.text)
                .map_or(Inner::Leaf, |members| {
                    Inner::Members(members.into_iter().map(|(name, raw)| (name, Self::of(raw))).collect())
                }),
            Some(b'[') => serde_json::from_str::<Vec<&RawValue>>(self.text)
                .map_or(Inner::Leaf, |items| Inner::Items(items.into_iter().map(Self::of).collect())),
            _ => Inner::Leaf,
        })
    }

    /// The members, where this is an object.
    pub(super) fn members(&self) -> Option<&BTreeMap<String, Json<'a>>> {
        match self.inner() {
            Inner::Members(members) => Some(members),
            Inner::Items(_) | Inner::Leaf => None,
        }
    }

    /// The value, one level of it.
    pub(super) fn shape(&self) -> Shape<'_, 'a> {
        match self.text.as_bytes().first() {
            Some(b'{' | b'[') => match self.inner() {
                Inner::Members(members) => Shape::Members(members),
                Inner::Items(items) => Shape::Items(items),
                Inner::Leaf => Shape::Broken,
            },
            Some(b'"') => serde_json::from_str(self.text).map_or(Shape::Broken, Shape::Text),
            Some(b't' | b'f') => Shape::Bool(self.text == "true"),
            Some(b'n') => Shape::Null,
            _ => Shape::Number(self.text),
        }
    }

    /// What `property` names: at each level a member of exactly that name, dots
    /// and all, else a path whose first segment is a member's name or an
    /// array's index.
    pub(super) fn find(&self, property: &str) -> Option<&Self> {
        let (mut value, mut rest) = (self, property);
        loop {
            let (first, after) = match rest.split_once('.') {
                Some((first, after)) => (first, Some(after)),
                None => (rest, None),
            };
            let next = match value.inner() {
                Inner::Members(members) => match members.get(rest) {
                    Some(literal) => return Some(literal),
                    None => members.get(first)?,
                },
                Inner::Items(items) if first.bytes().all(|byte| byte.is_ascii_digit()) => {
                    items.get(first.parse::<usize>().ok()?)?
                }
                Inner::Items(_) | Inner::Leaf => return None,
            };
            let Some(after) = after else { return Some(next) };
            (value, rest) = (next, after);
        }
    }

    /// A string's own text; a number or boolean as it is written; an object or
    /// array as it is written, less the white space between its parts.
    pub(super) fn value(&self) -> Value {
        match self.text.as_bytes().first() {
            Some(b'"') => serde_json::from_str::<String>(self.text)
                .map_or(Value::Broken, |text| Value::Bytes(SecretBytes::new(text.into_bytes()))),
            Some(b'n') => Value::Null,
            _ => Value::Bytes(SecretBytes::new(compact(self.text))),
        }
    }
}

/// The bytes of a JSON text, each with whether it lies inside a string.
fn scan(text: &str) -> impl Iterator<Item = (u8, bool)> {
    let (mut quoted, mut escaped) = (false, false);
    text.bytes().map(move |byte| {
        let inside = quoted;
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        (byte, inside)
    })
}

fn compact(text: &str) -> Vec<u8> {
    // Sized at once: growing would leave copies of the value behind.
    let mut bytes = Vec::with_capacity(text.len());
    bytes.extend(
        scan(text)
            .filter(|(byte, inside)| *inside || !matches!(byte, b' ' | b'\n' | b'\r' | b'\t'))
            .map(|(byte, _)| byte),
    );
    bytes
}

fn is_shallow(text: &str) -> bool {
    depth(text) <= MAX_DEPTH
}

/// How deep objects and arrays nest.
pub(super) fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for (byte, _) in scan(text).filter(|(_, inside)| !inside) {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use super::{Json, MAX_DEPTH, Value};

    fn text_of(json: &Json<'_>) -> String {
        match json.value() {
            Value::Bytes(bytes) => String::from_utf8(bytes.expose().to_vec()).unwrap(),
            Value::Null => "<null>".to_owned(),
            Value::Broken => "<broken>".to_owned(),
        }
    }

    #[test]
    fn numbers_and_booleans_keep_the_managers_own_text() {
        for number in ["1.0", "1e400", "12345678901234567890", "-0", "0.1000", "1E+2", "true", "false"] {
            let text = format!("{{\"n\": {number} }}");
            let json = Json::parse(&text).unwrap();
            assert_eq!(text_of(json.find("n").unwrap()), number);
        }
    }

    #[test]
    fn objects_and_arrays_lose_the_white_space_between_their_parts_and_nothing_else() {
        let json = Json::parse(" { \"a b\" : [ 1.0 ,\n\t\" x \\\" y \\\\\" , {} ] } ").unwrap();
        assert_eq!(text_of(&json), r#"{"a b":[1.0," x \" y \\",{}]}"#);
    }

    #[test]
    fn a_property_is_a_literal_name_first_and_a_path_second() {
        let json = Json::parse(
            r#"{"tls.crt": "literal", "tls": {"crt": "path", "key": "k"}, "list": [{"id": 7}], "a": {"b.c": "deep"}}"#,
        )
        .unwrap();
        let found = |property: &str| json.find(property).map(text_of);
        assert_eq!(found("tls.crt").as_deref(), Some("literal"));
        assert_eq!(found("tls.key").as_deref(), Some("k"));
        assert_eq!(found("list.0.id").as_deref(), Some("7"));
        assert_eq!(found("list.0").as_deref(), Some(r#"{"id":7}"#));
        assert_eq!(found("a.b.c").as_deref(), Some("deep"));
        for absent in ["list.1", "list.+0", "list.-1", "list.x", "list.", "tls.crt.x", "", ".", "tls.", "tls..key"] {
            assert_eq!(found(absent), None, "{absent}");
        }
    }

    #[test]
    fn strings_are_their_text_nulls_are_told_apart_and_broken_escapes_do_not_panic() {
        let json = Json::parse(r#"{"s": "zażółć \u00e9\n", "null": null, "broken": "\ud800"}"#).unwrap();
        assert_eq!(text_of(json.find("s").unwrap()), "zażółć é\n");
        assert_eq!(text_of(json.find("null").unwrap()), "<null>");
        assert_eq!(text_of(json.find("broken").unwrap()), "<broken>");
        // A broken name makes the object one that cannot be looked into.
        assert!(Json::parse(r#"{"\ud800": 1, "a": 2}"#).unwrap().find("a").is_none());
    }

    #[test]
    fn what_nests_too_deep_is_refused_without_recursion() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Json::parse(&nested(MAX_DEPTH)).is_some());
        assert!(Json::parse(&nested(MAX_DEPTH + 1)).is_none());
        assert!(Json::parse(&nested(1_000_000)).is_none());
        assert!(Json::parse(&format!("\"{}\"", "[".repeat(1000))).is_some(), "brackets in a string do not nest");
        let path = vec!["0"; MAX_DEPTH].join(".");
        assert!(Json::parse(&nested(MAX_DEPTH)).unwrap().find(&path).is_none());
    }
}
