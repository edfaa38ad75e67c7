//! `.env` files: one `NAME=value` a line, quoted so that a shell reads exactly
//! the value.

use minijinja::{Error, State, Value, value::ValueKind};

use super::{helpers::pay, trouble::refuse, values::text_of};

pub(super) fn dotenv(state: &State<'_, '_>, map: &Value) -> Result<String, Error> {
    if map.kind() != ValueKind::Map {
        return Err(refuse("dotenv is given something that is no map: use it as secrets | dotenv"));
    }
    let mut lines = String::new();
    for name in map.try_iter()? {
        let value = map.get_item(&name)?;
        let (name, value) = (text_of(&name)?, text_of(&value)?);
        pay(state, name.len() + value.len() * 2)?;
        if !is_variable(&name) {
            return Err(refuse(
                "dotenv is given a name that no environment variable can have: use letters, digits and '_' only, or rename it with rewrite",
            ));
        }
        if value.contains('\0') {
            return Err(refuse("dotenv is given a value with a zero byte, which no environment variable can hold"));
        }
        lines.push_str(&name);
        lines.push('=');
        quote(&value, &mut lines);
        lines.push('\n');
    }
    Ok(lines)
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn quote(value: &str, line: &mut String) {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:@%+,".contains(&byte);
    if !value.is_empty() && value.bytes().all(is_plain) {
        line.push_str(value);
    } else if !value.contains(['\'', '\\', '\n', '\r']) {
        // Readers of .env files take single quotes literally, as shells do.
        line.push('\'');
        line.push_str(value);
        line.push('\'');
    } else {
        line.push('"');
        for letter in value.chars() {
            if matches!(letter, '"' | '\\' | '$' | '`') {
                line.push('\\');
            }
            line.push(letter);
        }
        line.push('"');
    }
}
