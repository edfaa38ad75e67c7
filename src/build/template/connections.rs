//! Connection strings, each part escaped for its place.

use minijinja::{Error, Value, value::Kwargs};

use super::{encodings, trouble::refuse, values::text_of};

/// One kind of URL.
pub(super) struct Scheme {
    pub(super) function: &'static str,
    name: &'static str,
    /// What the part after the host is called.
    path: &'static str,
}

pub(super) const SCHEMES: &[Scheme] = &[
    Scheme { function: "postgres_url", name: "postgresql", path: "database" },
    Scheme { function: "mysql_url", name: "mysql", path: "database" },
    Scheme { function: "mongodb_url", name: "mongodb", path: "database" },
    Scheme { function: "redis_url", name: "redis", path: "database" },
    Scheme { function: "amqp_url", name: "amqp", path: "vhost" },
];

/// `scheme://user:password@host:port/path?options`.
pub(super) fn url(scheme: &Scheme, parts: &Kwargs) -> Result<String, Error> {
    let given = |name: &str| -> Result<Option<String>, Error> {
        if !parts.has(name) {
            return Ok(None);
        }
        let value: Value = parts.get(name)?;
        text_of(&value).map(|text| Some(text.into_owned()))
    };
    let escaped = |name: &str| given(name).map(|text| text.map(|text| encodings::url(text.as_bytes())));
    let mut url = match given("scheme")? {
        // Such as rediss, amqps or postgresql+asyncpg.
        Some(own) if is_scheme(&own) => own,
        Some(_) => return Err(refuse("a connection's scheme consists of letters, digits, '+', '-' and '.'")),
        None => scheme.name.to_owned(),
    };
    url.push_str("://");
    let (user, password) = (escaped("user")?, escaped("password")?);
    if user.is_some() || password.is_some() {
        url.push_str(&user.unwrap_or_default());
        if let Some(password) = password {
            url.push(':');
            url.push_str(&password);
        }
        url.push('@');
    }
    let host = given("host")?.ok_or_else(|| refuse("a connection needs a host: write host=…"))?;
    if !is_host(&host) {
        return Err(refuse("a connection's host is a name, an IP address ([…] for version 6), or several with commas"));
    }
    url.push_str(&host);
    if let Some(port) = given("port")? {
        let port: u16 = port.trim().parse().map_err(|_| refuse("a connection's port is a number from 0 to 65535"))?;
        url.push(':');
        url.push_str(&port.to_string());
    }
    if let Some(path) = escaped(scheme.path)? {
        url.push('/');
        url.push_str(&path);
    }
    if parts.has("options") {
        let options: Value = parts.get("options")?;
        for (place, name) in options.try_iter()?.enumerate() {
            let value = options.get_item(&name)?;
            url.push(if place == 0 { '?' } else { '&' });
            url.push_str(&encodings::url(text_of(&name)?.as_bytes()));
            url.push('=');
            url.push_str(&encodings::url(text_of(&value)?.as_bytes()));
        }
    }
    parts.assert_all_used()?;
    Ok(url)
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

fn is_host(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b',' | b':' | b'[' | b']'))
}
