//! Secrets that stand in JSON: zeroed also where the rest of it turns out to be
//! wrong.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, de};

use crate::secret::{SecretBytes, SecretText};

/// Text out of an answer.
#[allow(dead_code, reason = "each store uses its part")]
pub(super) struct DecodedText(pub(super) SecretText);

impl<'de> Deserialize<'de> for DecodedText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(SecretText::new(text)))
    }
}

/// Bytes decoded from base64 straight out of an answer.
pub(crate) struct Decoded(pub(crate) SecretBytes);

impl<'de> Deserialize<'de> for Decoded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Base64;
        impl de::Visitor<'_> for Base64 {
            type Value = Decoded;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("base64")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Decoded, E> {
                STANDARD.decode(text).map(|bytes| Decoded(SecretBytes::new(bytes))).map_err(|_| E::custom("not base64"))
            }
        }
        deserializer.deserialize_str(Base64)
    }
}
