//! JSON and YAML, to and fro, within bounds.

use std::{cell::Cell, collections::BTreeMap, fmt, io};

use minijinja::{Error, State, Value, value::ValueKind};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{helpers::pay, trouble::refuse, values::Binary};
use crate::build::{MAX_SIZE, json};

/// How many values one text may hold. Aliases in YAML count each time.
const MOST_VALUES: usize = 100_000;

const NOT_YAML: &str = "fromyaml is given something that is not one YAML document of plain values, or too much of it";

pub(super) fn to_json(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    let mut text = Text::default();
    is_plain(value)?;
    serde_json::to_writer(&mut text, value)
        .map_err(|_| refuse("tojson is given something that JSON cannot hold, or too much"))?;
    text.paid(state)
}

pub(super) fn to_yaml(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    let mut text = Text::default();
    is_plain(value)?;
    serde_yaml::to_writer(&mut text, value)
        .map_err(|_| refuse("toyaml is given something that YAML cannot hold, or too much"))?;
    text.paid(state)
}

fn is_plain(value: &Value) -> Result<(), Error> {
    if value.kind() == ValueKind::Undefined {
        return Err(Error::from(minijinja::ErrorKind::UndefinedError));
    }
    if value.downcast_object_ref::<Binary>().is_some() {
        return Err(refuse(super::values::NOT_TEXT));
    }
    Ok(())
}

/// Text that stops growing: what is written may hold one list many times.
#[derive(Default)]
struct Text(Vec<u8>);

impl Text {
    fn paid(self, state: &State<'_, '_>) -> Result<String, Error> {
        pay(state, self.0.len())?;
        String::from_utf8(self.0).map_err(|_| refuse("it makes bytes that are no text"))
    }
}

impl io::Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_SIZE {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn from_json(state: &State<'_, '_>, text: &str) -> Result<Value, Error> {
    let not_json = || refuse("fromjson is given something that is not JSON, or nests deeper than 128 levels");
    // Each level is looked through once more.
    pay(state, text.len().saturating_mul(json::depth(text) + 1))?;
    let left = Cell::new(MOST_VALUES);
    let json = json::Json::parse(text).ok_or_else(not_json)?;
    let value = of_json(&json, &left).ok_or_else(not_json)?;
    state.consume_fuel((MOST_VALUES - left.get()) as u64)?;
    Ok(value)
}

fn of_json(json: &json::Json<'_>, left: &Cell<usize>) -> Option<Value> {
    left.set(left.get().checked_sub(1)?);
    match json.shape() {
        json::Shape::Members(members) => members
            .iter()
            .map(|(name, value)| Some((name.clone(), of_json(value, left)?)))
            .collect::<Option<BTreeMap<_, _>>>()
            .map(Value::from_pairs),
        json::Shape::Items(items) => {
            items.iter().map(|item| of_json(item, left)).collect::<Option<Vec<_>>>().map(Value::from)
        }
        json::Shape::Text(text) => Some(Value::from(text)),
        json::Shape::Null => Some(Value::from(())),
        json::Shape::Bool(value) => Some(Value::from(value)),
        json::Shape::Number(number) => Some(of_number(number)),
        json::Shape::Broken => None,
    }
}

/// A number that the engine would print otherwise stays the text that it is.
fn of_number(text: &str) -> Value {
    let whole = text.parse::<i64>().ok().map(Value::from);
    let parsed = whole.or_else(|| text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from));
    parsed.filter(|number| number.to_string() == text).unwrap_or_else(|| Value::from(text))
}

pub(super) fn from_yaml(state: &State<'_, '_>, text: &str) -> Result<Value, Error> {
    // Before anybody can stop it, the parser keeps an event of about a hundred bytes
    // for each bracket, and looks at the last thousand of them for each.
    pay(state, text.len().saturating_mul(32))?;
    let left = Cell::new(MOST_VALUES);
    let value = Plain(&left).deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|_| refuse(NOT_YAML))?;
    state.consume_fuel((MOST_VALUES - left.get()) as u64)?;
    Ok(value)
}

/// Reads plain values, as long as there are any left.
struct Plain<'a>(&'a Cell<usize>);

impl<'de> DeserializeSeed<'de> for Plain<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        use serde::de::Error as _;
        let left = self.0.get().checked_sub(1).ok_or_else(|| D::Error::custom("too much"))?;
        self.0.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Plain<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a plain value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        // An alias repeats its text.
        let cost = value.len() / 64;
        self.0.set(self.0.get().saturating_sub(cost));
        Ok(Value::from(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::from(()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Plain(self.0))? {
            list.push(item);
        }
        Ok(Value::from(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        use serde::de::Error as _;
        let mut map = BTreeMap::new();
        while let Some(name) = members.next_key_seed(Plain(self.0))? {
            if !matches!(name.kind(), ValueKind::String | ValueKind::Number | ValueKind::Bool) {
                return Err(A::Error::custom("a name that is none"));
            }
            let value = members.next_value_seed(Plain(self.0))?;
            if map.insert(name, value).is_some() {
                return Err(A::Error::custom("a name that stands twice"));
            }
        }
        Ok(Value::from_pairs(map))
    }
}
