//! What `remoteRef.key` names.

use super::invalid;
use crate::stores::StoreError;

const LONGEST_NAME: usize = 127;
const VERSION_LENGTH: usize = 32;

/// What a key names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Object<'a> {
    /// `NAME` or `secret/NAME`.
    Secret(&'a str),
    /// `cert/NAME`: the secret that belongs to a certificate.
    Certificate(&'a str),
    /// `key/NAME`: the public part of a key.
    Key(&'a str),
}

/// The object and its name. The SDK writes names into the path as they are, so
/// what passes here must need no encoding.
pub(super) fn object(key: &str) -> Result<Object<'_>, StoreError> {
    let object = match key.split_once('/') {
        None => Object::Secret(key),
        Some(("secret", name)) => Object::Secret(name),
        Some(("cert", name)) => Object::Certificate(name),
        Some(("key", name)) => Object::Key(name),
        Some(_) => {
            return Err(invalid(
                "remoteRef.key must be NAME, secret/NAME, cert/NAME or key/NAME: Key Vault has no paths",
            ));
        }
    };
    let (Object::Secret(name) | Object::Certificate(name) | Object::Key(name)) = object;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(fits) {
        return Err(invalid("a name in Key Vault is 1 to 127 letters, digits and '-': correct remoteRef.key"));
    }
    Ok(object)
}

/// A pinned version.
pub(super) fn version(text: &str) -> Result<String, StoreError> {
    if text.len() == VERSION_LENGTH && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_owned());
    }
    Err(invalid("remoteRef.version must be the 32 hexadecimal digits that Key Vault gives a version"))
}
