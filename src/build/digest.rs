//! Tells whether a value changed without keeping it: a digest under a key of
//! this installation's own. Without that key the digest of a guessed value
//! cannot be computed, so a weak value cannot be searched for.

use std::{collections::BTreeMap, fmt};

use aws_lc_rs::{error::Unspecified, hmac, rand};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::ZeroizeOnDrop;

use crate::secret::{SecretBytes, SecretData};

/// How many bytes a digest key has.
const LENGTH: usize = 32;

/// The key of this installation.
#[derive(ZeroizeOnDrop)]
pub struct DigestKey {
    bytes: [u8; LENGTH],
}

impl DigestKey {
    /// A new random key.
    ///
    /// # Errors
    /// Where the system has no randomness to give.
    pub fn generate() -> Result<Self, Unspecified> {
        let mut key = Self { bytes: [0; LENGTH] };
        rand::fill(&mut key.bytes)?;
        Ok(key)
    }

    /// The key that was kept; `None` where these are not 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self { bytes: bytes.try_into().ok()? })
    }

    /// The bytes to keep, in a Secret of the operator's own namespace.
    #[must_use]
    pub fn to_bytes(&self) -> SecretBytes {
        SecretBytes::new(self.bytes.to_vec())
    }

    /// Names the key without telling it: digests of another id say nothing
    /// about whether a value changed.
    #[must_use]
    pub fn id(&self) -> String {
        self.tag(&[b"botsecret.dev/digest-key-id"], 6)
    }

    /// Digest of a whole Secret's digests: tells whether a Secret that is made
    /// again has the data that it had.
    #[must_use]
    pub fn fingerprint(&self, digests: &BTreeMap<String, String>) -> String {
        let mut parts: Vec<&[u8]> = vec![b"botsecret.dev/data-fingerprint"];
        parts.extend(digests.iter().flat_map(|(key, digest)| [key.as_bytes(), digest.as_bytes()]));
        self.tag(&parts, 8)
    }

    /// Digest of `value` as the content of `key` in Secret `namespace`/`secret`.
    /// The same value elsewhere has another digest.
    #[must_use]
    pub fn digest(&self, namespace: &str, secret: &str, key: &str, value: &[u8]) -> String {
        self.tag(&[b"botsecret.dev/value-digest", namespace.as_bytes(), secret.as_bytes(), key.as_bytes(), value], 16)
    }

    /// Digests of a whole Secret, by key.
    #[must_use]
    pub fn digests(&self, namespace: &str, secret: &str, data: &SecretData) -> BTreeMap<String, String> {
        data.iter().map(|(key, value)| (key.clone(), self.digest(namespace, secret, key, value.expose()))).collect()
    }

    /// The first `length` bytes of the HMAC over `parts`, each led by its
    /// length so that no two lists of parts read the same.
    fn tag(&self, parts: &[&[u8]], length: usize) -> String {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.bytes));
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let tag = context.sign();
        URL_SAFE_NO_PAD.encode(tag.as_ref().get(..length).unwrap_or_default())
    }
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "DigestKey({})", self.id())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::DigestKey;
    use crate::secret::{SecretBytes, SecretData};

    fn key() -> DigestKey {
        DigestKey::from_bytes(&[7; 32]).unwrap()
    }

    #[test]
    fn p4_a_digest_needs_the_key_and_shows_nothing_of_it() {
        let (one, other) = (DigestKey::generate().unwrap(), DigestKey::generate().unwrap());
        assert_ne!(one.id(), other.id());
        assert_ne!(one.digest("ns", "s", "k", b"v"), other.digest("ns", "s", "k", b"v"));
        assert_eq!(format!("{one:?}"), format!("DigestKey({})", one.id()));
        let kept = DigestKey::from_bytes(one.to_bytes().expose()).unwrap();
        assert_eq!(kept.id(), one.id());
        assert!(DigestKey::from_bytes(&[0; 31]).is_none());
    }

    #[test]
    fn a_digest_is_stable_across_versions_of_the_operator() {
        // A change here makes every installation compare all its Secrets anew.
        assert_eq!(key().id(), "tEInr8KN");
        assert_eq!(key().digest("trading", "price-bot", "KEY", b"value"), "H142daluzsQIcyfEsoIs7Q");
    }

    #[test]
    fn each_part_counts_and_so_does_where_one_ends() {
        let base = ["ns", "secret", "key", "value"];
        let digest = |parts: [&str; 4]| key().digest(parts[0], parts[1], parts[2], parts[3].as_bytes());
        let shifted = [
            ["nss", "ecret", "key", "value"],
            ["ns", "secre", "tkey", "value"],
            ["ns", "secret", "ke", "yvalue"],
            ["ns", "secret", "keyv", "alue"],
            ["n", "ssecret", "key", "value"],
            ["", "nssecret", "key", "value"],
            ["ns", "secret", "key", "value "],
            ["ns", "secret", "key2", "value"],
        ];
        for parts in shifted {
            assert_ne!(digest(base), digest(parts), "{parts:?}");
        }
    }

    #[test]
    fn a_whole_secret_by_key() {
        let data: SecretData = [("a", "1"), ("b", "1")]
            .map(|(key, value)| (key.to_owned(), SecretBytes::new(value.as_bytes().to_vec())))
            .into();
        let digests = key().digests("ns", "s", &data);
        assert_eq!(digests["a"], key().digest("ns", "s", "a", b"1"));
        assert_ne!(digests["a"], digests["b"]);
        let mut fewer = digests.clone();
        fewer.remove("b");
        assert_eq!(key().fingerprint(&digests), key().fingerprint(&digests.clone()));
        assert_ne!(key().fingerprint(&digests), key().fingerprint(&fewer));
        assert_ne!(key().fingerprint(&BTreeMap::new()), key().fingerprint(&fewer));
    }

    proptest! {
        #[test]
        fn different_parts_have_different_digests(
            one in prop::array::uniform4("[ab]{0,3}"), other in prop::array::uniform4("[ab]{0,3}"),
        ) {
            let digest = |parts: &[String; 4]| key().digest(&parts[0], &parts[1], &parts[2], parts[3].as_bytes());
            prop_assert_eq!(one == other, digest(&one) == digest(&other));
        }
    }
}
