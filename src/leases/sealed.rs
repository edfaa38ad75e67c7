//! Keys derived from the installation's own: one proves records, one seals what
//! was issued.
//!
//! The Secret holds keys made of a credential: renamed, templated, perhaps not
//! all of it. To make them again after a restart without issuing anew, what was
//! issued lies beside them in an annotation of that Secret, sealed: of no use
//! to whoever sees the metadata, nor in another BotSecret's Secret.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, RandomizedNonceKey},
    constant_time, hmac,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::Record;
use crate::{build::DigestKey, secret::SecretText};

/// How much sealed text an annotation may hold; the API server takes 256 KiB
/// for all of them.
const MOST: usize = 192 << 10;
const NONCE: usize = 12;

/// The two keys.
pub struct Keys {
    records: hmac::Key,
    /// 32 bytes are what the cipher takes, so there always is one.
    seal: Option<RandomizedNonceKey>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Keys").finish_non_exhaustive()
    }
}

/// What was issued, and its record.
#[derive(Debug)]
pub struct Sealed {
    /// As it was when it was sealed.
    pub record: Record,
    /// The JSON object that was issued.
    pub values: SecretText,
}

#[derive(Serialize)]
struct Plain<'a> {
    record: &'a Record,
    values: &'a str,
}

#[derive(Deserialize)]
struct PlainRead {
    record: Record,
    values: String,
}

impl Keys {
    /// Derived from the installation's key.
    #[must_use]
    pub fn of(key: &DigestKey) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, key.to_bytes().expose());
        let derived = |label: &[u8]| hmac::sign(&root, label);
        let records = hmac::Key::new(hmac::HMAC_SHA256, derived(b"botsecret.dev/lease-records").as_ref());
        let mut bytes = Zeroizing::new([0_u8; 32]);
        bytes.copy_from_slice(derived(b"botsecret.dev/lease-values").as_ref());
        Self { records, seal: RandomizedNonceKey::new(&AES_256_GCM, &*bytes).ok() }
    }

    /// Keyed digest of these parts, each led by its length.
    pub(super) fn tag(&self, parts: &[&[u8]]) -> String {
        URL_SAFE_NO_PAD.encode(self.sign(parts).as_ref().get(..18).unwrap_or_default())
    }

    fn sign(&self, parts: &[&[u8]]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.records);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.sign()
    }

    /// Proof that this installation made a record for the object of this UID.
    #[must_use]
    pub fn mac(&self, uid: &str, record: &Record) -> String {
        URL_SAFE_NO_PAD.encode(self.sign_record(uid, record).as_ref())
    }

    pub(super) fn proves(&self, uid: &str, record: &Record, mac: &str) -> bool {
        let Ok(given) = URL_SAFE_NO_PAD.decode(mac) else { return false };
        constant_time::verify_slices_are_equal(self.sign_record(uid, record).as_ref(), &given).is_ok()
    }

    fn sign_record(&self, uid: &str, record: &Record) -> hmac::Tag {
        // Strings and numbers in fields of fixed order always serialise, and
        // JSON quotes what would blur their boundaries.
        let text = serde_json::to_vec(record).unwrap_or_default();
        self.sign(&[b"record", uid.as_bytes(), &text])
    }

    /// What was issued, sealed for the object of this UID. `None` where it is
    /// too large to be kept.
    #[must_use]
    pub fn seal(&self, uid: &str, record: &Record, values: &SecretText) -> Option<String> {
        let mut bytes = Zeroizing::new(serde_json::to_vec(&Plain { record, values: values.expose() }).ok()?);
        let nonce = self.seal.as_ref()?.seal_in_place_append_tag(Aad::from(uid.as_bytes()), &mut *bytes).ok()?;
        let mut whole = nonce.as_ref().to_vec();
        whole.extend_from_slice(&bytes);
        Some(URL_SAFE_NO_PAD.encode(whole)).filter(|text| text.len() <= MOST)
    }

    /// What lies in such a text; `None` where it is not from here, or for
    /// another object.
    #[must_use]
    pub fn open(&self, uid: &str, text: &str) -> Option<Sealed> {
        if text.len() > MOST {
            return None;
        }
        let mut bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).ok()?);
        let (nonce, rest) = bytes.split_at_mut_checked(NONCE)?;
        let nonce = aws_lc_rs::aead::Nonce::try_assume_unique_for_key(nonce).ok()?;
        let plain = self.seal.as_ref()?.open_in_place(nonce, Aad::from(uid.as_bytes()), rest).ok()?;
        let PlainRead { record, values } = serde_json::from_slice(plain).ok()?;
        plain.zeroize();
        Some(Sealed { record, values: SecretText::new(values) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{keys, record};
    use crate::secret::SecretText;

    #[test]
    fn p4_what_is_sealed_shows_nothing_and_opens_only_for_its_own_object_and_installation() {
        let values = r#"{"username":"bot","password":"hunter2"}"#;
        let seal = || keys(1).seal("uid", &record(), &SecretText::new(values.into())).expect("sealed");
        let text = seal();
        assert!(!text.contains("hunter2") && text != seal(), "the same twice would show that it is the same");
        let opened = keys(1).open("uid", &text).expect("opened");
        assert_eq!((opened.record, opened.values.expose()), (record(), values));
        assert!(keys(1).open("other", &text).is_none());
        assert!(keys(2).open("uid", &text).is_none());
        for damaged in ["", "x", &text[1..], &text[..text.len() - 4]] {
            assert!(keys(1).open("uid", damaged).is_none(), "{damaged}");
        }
    }

    #[test]
    fn what_is_too_large_for_an_annotation_is_not_sealed() {
        assert!(keys(1).seal("uid", &record(), &SecretText::new("x".repeat(200 << 10))).is_none());
    }
}
