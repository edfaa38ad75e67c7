//! New values: random passwords and keys.

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der},
    error::Unspecified,
    rand::{self, SystemRandom},
    rsa::{self, KeySize},
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
        Ed25519KeyPair, KeyPair as _,
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    api::{Generate, KeyAlgorithm, KeyPair, Password},
    secret::SecretBytes,
};

/// A value and the property that it is for.
type Made = (Option<String>, SecretBytes);

/// What this rule makes for a property, and for the public key's.
///
/// # Errors
/// Where the system has no randomness to give.
pub(super) fn made(rule: &Generate, property: Option<&str>) -> Result<Vec<Made>, Unspecified> {
    let property = property.map(str::to_owned);
    let Some(KeyPair { algorithm, public_key_property }) = &rule.key_pair else {
        let password = rule.password.clone().unwrap_or_default();
        return Ok(vec![(property, random_password(&password)?)]);
    };
    let (private, public) = key_pair(*algorithm)?;
    let mut all = vec![(property, private)];
    all.extend(public_key_property.clone().map(|property| (Some(property), public)));
    Ok(all)
}

/// The properties that a rule fills, in the order in which [`made`] does.
pub(super) fn properties(rule: &Generate, property: Option<&str>) -> Vec<Option<String>> {
    let public = rule.key_pair.as_ref().and_then(|pair| pair.public_key_property.clone());
    std::iter::once(property.map(str::to_owned)).chain(public.map(Some)).collect()
}

fn random_password(rule: &Password) -> Result<SecretBytes, Unspecified> {
    let alphabet = rule.alphabet().as_bytes();
    // Bytes from here on would make some characters likelier than others.
    let most = 256 - 256 % alphabet.len().clamp(1, 256);
    let length = rule.characters_in_all();
    let mut password = Vec::with_capacity(length);
    let mut random = SecretBytes::new(Vec::new());
    while password.len() < length {
        if random.is_empty() {
            let mut bytes = vec![0; 256];
            rand::fill(&mut bytes)?;
            random = SecretBytes::new(bytes);
        }
        let fair = random.expose().iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < most);
        let characters = fair.filter_map(|byte| alphabet.get(byte % alphabet.len()).copied());
        let missing = length - password.len();
        password.extend(characters.take(missing));
        random = SecretBytes::new(Vec::new());
    }
    Ok(SecretBytes::new(password))
}

/// Private and public key, PEM.
fn key_pair(algorithm: KeyAlgorithm) -> Result<(SecretBytes, SecretBytes), Unspecified> {
    match algorithm {
        KeyAlgorithm::Ed25519 => {
            let pair = Ed25519KeyPair::generate()?;
            let private = pair.to_pkcs8v1()?;
            let public = pair.public_key().as_der()?;
            Ok((private_key(private.as_ref()), pem("PUBLIC KEY", public.as_ref())))
        }
        KeyAlgorithm::EcdsaP256 => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING),
        KeyAlgorithm::EcdsaP384 => ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING),
        KeyAlgorithm::Rsa2048 => rsa(KeySize::Rsa2048),
        KeyAlgorithm::Rsa3072 => rsa(KeySize::Rsa3072),
        KeyAlgorithm::Rsa4096 => rsa(KeySize::Rsa4096),
    }
}

fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm) -> Result<(SecretBytes, SecretBytes), Unspecified> {
    let private = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new())?;
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, private.as_ref()).map_err(|_| Unspecified)?;
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der()?;
    Ok((private_key(private.as_ref()), pem("PUBLIC KEY", public.as_ref())))
}

fn rsa(size: KeySize) -> Result<(SecretBytes, SecretBytes), Unspecified> {
    let pair = rsa::KeyPair::generate(size)?;
    let private: Pkcs8V1Der<'_> = pair.as_der()?;
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der()?;
    Ok((private_key(private.as_ref()), pem("PUBLIC KEY", public.as_ref())))
}

fn private_key(der: &[u8]) -> SecretBytes {
    pem("PRIVATE KEY", der)
}

fn pem(label: &str, der: &[u8]) -> SecretBytes {
    // As large as it gets, so that growing leaves no copies behind.
    let mut text = Vec::with_capacity(der.len() * 3 / 2 + 128);
    text.extend_from_slice(format!("-----BEGIN {label}-----\n").as_bytes());
    // 48 bytes are a line of 64 characters.
    for line in der.chunks(48) {
        let encoded = SecretBytes::new(STANDARD.encode(line).into_bytes());
        text.extend_from_slice(encoded.expose());
        text.push(b'\n');
    }
    text.extend_from_slice(format!("-----END {label}-----\n").as_bytes());
    SecretBytes::new(text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{made, properties};
    use crate::api::{Generate, KeyAlgorithm, KeyPair, Password};

    fn rule(password: Option<Password>, key_pair: Option<KeyPair>) -> Generate {
        Generate { secret_key: "KEY".to_owned(), password, key_pair }
    }

    fn password(length: Option<i32>, characters: Option<&str>) -> String {
        let rule = rule(Some(Password { length, characters: characters.map(str::to_owned) }), None);
        let all = made(&rule, Some("a")).expect("randomness");
        String::from_utf8(all[0].1.expose().to_vec()).expect("text")
    }

    #[test]
    fn a_password_has_its_length_and_no_other_characters_and_no_two_are_alike() {
        let made: BTreeSet<_> = (0..50).map(|_| password(None, None)).collect();
        assert_eq!(made.len(), 50);
        assert!(made.iter().all(|one| one.len() == 32 && one.chars().all(|one| one.is_ascii_alphanumeric())));
        let digits = password(Some(1000), Some("0123456789"));
        assert_eq!(digits.len(), 1000);
        for digit in '0'..='9' {
            let count = digits.chars().filter(|one| *one == digit).count();
            // Five standard deviations.
            assert!((50..150).contains(&count), "{digit} comes {count} times");
        }
    }

    #[test]
    fn a_key_pair_fits_together_whatever_its_algorithm() {
        use KeyAlgorithm::{EcdsaP256, EcdsaP384, Ed25519, Rsa2048};
        for algorithm in [Ed25519, EcdsaP256, EcdsaP384, Rsa2048] {
            let rule = rule(None, Some(KeyPair { algorithm, public_key_property: Some("public".to_owned()) }));
            let all = made(&rule, Some("private")).expect("a pair");
            let names: Vec<_> = all.iter().map(|(property, _)| property.clone()).collect();
            assert_eq!(names, properties(&rule, Some("private")));
            let text = |index: usize| String::from_utf8(all[index].1.expose().to_vec()).expect("PEM");
            // Another library makes the public key of the private one.
            let pair = rcgen::KeyPair::from_pem(&text(0)).expect("a private key");
            let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(lines(&text(1)), lines(&pair.public_key_pem()), "{algorithm:?}");
        }
    }
}
