//! Base64 and percent-encoding.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use minijinja::Error;

use super::trouble::refuse;
use crate::{build::decode, secret::SecretBytes};

pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(super) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn from_base64(text: &[u8]) -> Result<SecretBytes, Error> {
    decode::base64(text).ok_or_else(|| refuse("b64decode is given something that is not Base64"))
}

pub(super) fn from_base64url(text: &[u8]) -> Result<SecretBytes, Error> {
    decode::base64url(text).ok_or_else(|| refuse("b64urldecode is given something that is not Base64 for URLs"))
}

/// Every byte but RFC 3986's unreserved ones as %XX, so that the result can
/// stand in any part of a URL.
pub(super) fn url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(bytes.len() * 3);
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(*byte));
        } else {
            let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().map_or('0', char::from);
            encoded.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    encoded
}
