//! What templates can do beyond the engine's own filters. Each is a pure
//! function, and pays for its work.

use minijinja::{Environment, Error, State, Value, value::Kwargs};

use super::{
    connections, dotenv, encodings, pem, pkcs12, structured,
    values::{Marks, bytes_of, text_of},
};

/// One fuel pays for this many bytes that are worked on.
const BYTES_A_FUEL: usize = 16;

/// Takes the fuel for working on so many bytes.
pub(super) fn pay(state: &State<'_, '_>, bytes: usize) -> Result<(), Error> {
    state.consume_fuel((bytes / BYTES_A_FUEL) as u64 + 1)
}

pub(super) fn add(environment: &mut Environment<'static>, marks: &Marks) {
    add_encodings(environment, marks);
    environment.add_filter("tojson", |state: &State<'_, '_>, value: &Value| structured::to_json(state, value));
    environment.add_filter("toyaml", |state: &State<'_, '_>, value: &Value| structured::to_yaml(state, value));
    environment.add_filter("fromjson", |state: &State<'_, '_>, value: &Value| {
        let text = text_of(value)?;
        structured::from_json(state, &text)
    });
    environment.add_filter("fromyaml", |state: &State<'_, '_>, value: &Value| {
        let text = text_of(value)?;
        structured::from_yaml(state, &text)
    });
    environment.add_filter("dotenv", |state: &State<'_, '_>, value: &Value| dotenv::dotenv(state, value));
    environment.add_filter("join", join);
    environment.add_filter("replace", replace);
    for (name, wanted) in [("pem_certificates", pem::Wanted::Certificates), ("pem_keys", pem::Wanted::Keys)] {
        environment.add_filter(name, move |state: &State<'_, '_>, value: &Value| -> Result<Value, Error> {
            let text = text_of(value)?;
            pay(state, text.len())?;
            Ok(pem::blocks(&text, wanted).map(Value::from).collect())
        });
    }
    add_pkcs12(environment, marks);
    for scheme in connections::SCHEMES {
        environment.add_function(
            scheme.function,
            move |state: &State<'_, '_>, parts: Kwargs| -> Result<String, Error> {
                let url = connections::url(scheme, &parts)?;
                pay(state, url.len())?;
                Ok(url)
            },
        );
    }
}

fn add_pkcs12(environment: &mut Environment<'static>, marks: &Marks) {
    environment.add_filter("pkcs12_key", |state: &State<'_, '_>, file: &Value, password: Option<&str>| {
        pkcs12::keys(state, &bytes_of(file)?, password.unwrap_or_default())
    });
    environment.add_filter("pkcs12_certificates", |state: &State<'_, '_>, file: &Value, password: Option<&str>| {
        pkcs12::certificates(state, &bytes_of(file)?, password.unwrap_or_default())
    });
    let marks = marks.clone();
    environment.add_function("pkcs12", move |state: &State<'_, '_>, parts: Kwargs| -> Result<Value, Error> {
        let (key, certificates): (&str, &str) = (parts.get("key")?, parts.get("certificates")?);
        let (password, name): (&str, Option<&str>) = (parts.get("password")?, parts.get("name")?);
        parts.assert_all_used()?;
        pay(state, (key.len() + certificates.len() + password.len() + name.map_or(0, str::len)) * 8)?;
        Ok(marks.binary(pkcs12::write(state, &pkcs12::Parts { key, certificates, password, name })?))
    });
}

/// The engine's own joins first and charges later.
fn join(state: &State<'_, '_>, list: &Value, separator: Option<&str>) -> Result<String, Error> {
    let (separator, mut text) = (separator.unwrap_or_default(), String::new());
    for (place, item) in list.try_iter()?.enumerate() {
        if place > 0 {
            pay(state, separator.len())?;
            text.push_str(separator);
        }
        let item = text_of(&item)?;
        pay(state, item.len())?;
        text.push_str(&item);
    }
    Ok(text)
}

/// As the engine's own, but it pays as it goes.
fn replace(state: &State<'_, '_>, value: &Value, from: &str, to: &str) -> Result<String, Error> {
    let text = text_of(value)?;
    pay(state, text.len())?;
    let (mut made, mut end) = (String::new(), 0);
    for (start, found) in text.match_indices(from) {
        pay(state, to.len())?;
        made.push_str(text.get(end..start).unwrap_or_default());
        made.push_str(to);
        end = start + found.len();
    }
    made.push_str(text.get(end..).unwrap_or_default());
    Ok(made)
}

fn add_encodings(environment: &mut Environment<'static>, marks: &Marks) {
    type Encode = fn(&[u8]) -> String;
    type Decode = fn(&[u8]) -> Result<crate::secret::SecretBytes, Error>;
    let encoders: [(&str, Encode); 3] =
        [("b64encode", encodings::base64), ("b64urlencode", encodings::base64url), ("urlencode", encodings::url)];
    for (name, encode) in encoders {
        environment.add_filter(name, move |state: &State<'_, '_>, value: &Value| -> Result<String, Error> {
            let bytes = bytes_of(value)?;
            pay(state, bytes.len())?;
            Ok(encode(&bytes))
        });
    }
    let decoders: [(&str, Decode); 2] =
        [("b64decode", encodings::from_base64), ("b64urldecode", encodings::from_base64url)];
    for (name, decode) in decoders {
        let marks = marks.clone();
        environment.add_filter(name, move |state: &State<'_, '_>, value: &Value| -> Result<Value, Error> {
            let text = text_of(value)?;
            pay(state, text.len())?;
            Ok(marks.value(decode(text.as_bytes())?.expose()))
        });
    }
}
