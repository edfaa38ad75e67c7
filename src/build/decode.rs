//! Values that lie encoded at their source.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use crate::{api::DecodingStrategy, secret::SecretBytes};

/// With or without the `=` at the end: managers and people leave it out.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const FOR_URLS: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
/// What is only guessed to be encoded has to be so to the letter.
const STRICT: [GeneralPurpose; 2] = [
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new()),
    GeneralPurpose::new(&alphabet::URL_SAFE, GeneralPurposeConfig::new()),
];

/// The decoded value; `None` where it is not encoded that way.
pub(super) fn decoded(value: SecretBytes, strategy: DecodingStrategy) -> Option<SecretBytes> {
    match strategy {
        DecodingStrategy::None => Some(value),
        DecodingStrategy::Base64 => base64(value.expose()),
        DecodingStrategy::Base64URL => base64url(value.expose()),
        DecodingStrategy::Auto => {
            let guess =
                STRICT.iter().find_map(|engine| decode(value.expose(), engine, |byte| matches!(byte, b'\r' | b'\n')));
            Some(guess.unwrap_or(value))
        }
    }
}

/// Base64 as in RFC 4648 section 4. Line breaks and white space around it
/// count for nothing: `base64` and PEM tools write them.
pub(super) fn base64(text: &[u8]) -> Option<SecretBytes> {
    decode(text, &STANDARD, |byte| byte.is_ascii_whitespace())
}

/// Base64 as in RFC 4648 section 5.
pub(super) fn base64url(text: &[u8]) -> Option<SecretBytes> {
    decode(text, &FOR_URLS, |byte| byte.is_ascii_whitespace())
}

fn decode(text: &[u8], engine: &GeneralPurpose, ignored: impl Fn(u8) -> bool) -> Option<SecretBytes> {
    let mut bare = Vec::with_capacity(text.len());
    bare.extend(text.iter().copied().filter(|byte| !ignored(*byte)));
    // The encoded value is a secret too: zeroed when it goes.
    let bare = SecretBytes::new(bare);
    let mut bytes = vec![0; bare.len().div_ceil(4) * 3];
    let length = engine.decode_slice(bare.expose(), &mut bytes);
    let mut bytes = zeroize::Zeroizing::new(bytes);
    bytes.truncate(length.ok()?);
    Some(SecretBytes::new(std::mem::take(&mut *bytes)))
}

#[cfg(test)]
mod tests {
    use super::decoded;
    use crate::{api::DecodingStrategy, secret::SecretBytes};

    #[test]
    fn each_strategy_and_what_it_refuses() {
        use DecodingStrategy::{Auto, Base64, Base64URL, None as Plain};
        let cases: &[(DecodingStrategy, &str, Option<&[u8]>)] = &[
            (Plain, "aGk=", Some(b"aGk=")),
            (Base64, "aGk=", Some(b"hi")),
            (Base64, "aGk", Some(b"hi")),
            (Base64, "aG\nk=\r\n", Some(b"hi")),
            (Base64, "", Some(b"")),
            (Base64, "+/8=", Some(b"\xfb\xff")),
            (Base64, "-_8=", Option::None),
            (Base64, "a", Option::None),
            (Base64, "aGl", Option::None),
            (Base64, "aGk==", Option::None),
            (Base64, "hunter2!", Option::None),
            (Base64URL, "-_8", Some(b"\xfb\xff")),
            (Base64URL, "+/8=", Option::None),
            (Auto, "+/8=", Some(b"\xfb\xff")),
            (Auto, "-_8=", Some(b"\xfb\xff")),
            (Auto, "-_8=\n", Some(b"\xfb\xff")),
            (Auto, "hunter2!", Some(b"hunter2!")),
            (Auto, "aGk", Some(b"aGk")),
            (Auto, "aGk aGk=", Some(b"aGk aGk=")),
            (Auto, " as it is \n", Some(b" as it is \n")),
        ];
        for (strategy, text, wanted) in cases {
            let value = decoded(SecretBytes::new(text.as_bytes().to_vec()), *strategy);
            assert_eq!(value.as_ref().map(SecretBytes::expose), *wanted, "{strategy:?} {text:?}");
        }
    }
}
