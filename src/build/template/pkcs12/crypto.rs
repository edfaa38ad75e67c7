//! Keys out of passwords, and what is encrypted with them. How often a file
//! asks for a hash is the file's own choice, so that is bounded and paid for.

use std::num::NonZeroU32;

use aws_lc_rs::{
    cipher::{
        AES_128, AES_192, AES_256, Algorithm, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey,
        PaddedBlockEncryptingKey, UnboundCipherKey,
    },
    digest, hmac,
    iv::FixedLength,
    pbkdf2,
};
use minijinja::{Error, State};
use zeroize::Zeroizing;

use super::{
    NOT_ONE, UNSUPPORTED,
    der::{NULL, OCTETS, OID, Reader, SEQUENCE, element, number},
    oid,
};
use crate::build::template::{helpers, trouble::refuse};

/// What `openssl` and `keytool` write lies far below.
const MOST_ITERATIONS: u32 = 1_000_000;
/// One fuel pays for so many.
const ITERATIONS_A_FUEL: u32 = 4;
/// As the Java runtime writes it; more would cost at each refresh. The fuzzer looks at
/// what is written, and has no time for hashes.
pub(super) const ITERATIONS: u32 = if cfg!(fuzzing) { 4 } else { 10_000 };

/// Takes the fuel for the hashes of a password.
fn pay(state: &State<'_, '_>, iterations: u32, password: &str) -> Result<NonZeroU32, Error> {
    let iterations = NonZeroU32::new(iterations).filter(|count| count.get() <= MOST_ITERATIONS);
    let iterations = iterations.ok_or_else(|| {
        refuse("the PKCS#12 file asks for more than 1000000 hashes of its password, or for none: write it with fewer")
    })?;
    state.consume_fuel(u64::from(iterations.get() / ITERATIONS_A_FUEL) + 1)?;
    helpers::pay(state, password.len())?;
    Ok(iterations)
}

/// Decrypts what an algorithm identifier's content says.
pub(super) fn decrypt(
    state: &State<'_, '_>,
    algorithm: &[u8],
    data: &[u8],
    password: &str,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut algorithm = Reader::new(algorithm);
    let method = algorithm.take(OID).ok_or_else(|| refuse(NOT_ONE))?;
    if method != oid::PBES2 {
        return Err(refuse(UNSUPPORTED));
    }
    let scheme = scheme(algorithm).ok_or_else(|| refuse(UNSUPPORTED))?;
    let iterations = pay(state, scheme.iterations, password)?;
    let mut key = Zeroizing::new([0_u8; 32]);
    let key = key.get_mut(..scheme.key_length).ok_or_else(|| refuse(UNSUPPORTED))?;
    pbkdf2::derive(scheme.hash, iterations, scheme.salt, password.as_bytes(), key);
    let wrong = |_| refuse("the password does not open the PKCS#12 file, or the file is damaged");
    let key = UnboundCipherKey::new(scheme.cipher, key).map_err(wrong)?;
    let mut text = Zeroizing::new(data.to_vec());
    let length = PaddedBlockDecryptingKey::cbc_pkcs7(key)
        .and_then(|key| key.decrypt(&mut text, DecryptionContext::Iv128(FixedLength::from(scheme.iv))))
        .map_err(wrong)?
        .len();
    text.truncate(length);
    Ok(text)
}

struct Scheme<'a> {
    hash: pbkdf2::Algorithm,
    salt: &'a [u8],
    iterations: u32,
    cipher: &'static Algorithm,
    key_length: usize,
    iv: [u8; 16],
}

/// PBES2 with PBKDF2 and AES-CBC.
fn scheme(mut algorithm: Reader<'_>) -> Option<Scheme<'_>> {
    let mut parameters = algorithm.enter(SEQUENCE)?;
    let (mut derivation, mut encryption) = (parameters.enter(SEQUENCE)?, parameters.enter(SEQUENCE)?);
    (derivation.take(OID)? == oid::PBKDF2).then_some(())?;
    let mut derivation = derivation.enter(SEQUENCE)?;
    let (salt, iterations) = (derivation.take(OCTETS)?, derivation.number()?);
    let _length = derivation.number();
    let hash = match derivation.enter(SEQUENCE).map(|mut hash| hash.take(OID)) {
        None | Some(Some(oid::HMAC_SHA1)) => pbkdf2::PBKDF2_HMAC_SHA1,
        Some(Some(oid::HMAC_SHA256)) => pbkdf2::PBKDF2_HMAC_SHA256,
        Some(Some(oid::HMAC_SHA384)) => pbkdf2::PBKDF2_HMAC_SHA384,
        Some(Some(oid::HMAC_SHA512)) => pbkdf2::PBKDF2_HMAC_SHA512,
        Some(_) => return None,
    };
    let (cipher, key_length) = match encryption.take(OID)? {
        oid::AES_128_CBC => (&AES_128, 16),
        oid::AES_192_CBC => (&AES_192, 24),
        oid::AES_256_CBC => (&AES_256, 32),
        _ => return None,
    };
    let iv = encryption.take(OCTETS)?.try_into().ok()?;
    Some(Scheme { hash, salt, iterations, cipher, key_length, iv })
}

/// Encrypts; answers the algorithm identifier and the encrypted bytes.
pub(super) fn encrypt(
    state: &State<'_, '_>,
    salt: &[u8; 16],
    iv: [u8; 16],
    data: &[u8],
    password: &str,
) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let mut key = Zeroizing::new([0_u8; 32]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, pay(state, ITERATIONS, password)?, salt, password.as_bytes(), &mut *key);
    let failed = |_| refuse("the PKCS#12 file could not be encrypted");
    let key = UnboundCipherKey::new(&AES_256, &*key).map_err(failed)?;
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).map_err(failed)?;
    // Room for the padding, so that no copy of the clear text is left behind.
    let mut text = Vec::with_capacity(data.len() + 16);
    text.extend_from_slice(data);
    key.less_safe_encrypt(&mut text, EncryptionContext::Iv128(FixedLength::from(iv))).map_err(failed)?;
    let hash = element(SEQUENCE, &[&element(OID, &[oid::HMAC_SHA256]), &element(NULL, &[])]);
    let derivation = element(SEQUENCE, &[&element(OCTETS, &[salt]), &number(ITERATIONS), &hash]);
    let derivation = element(SEQUENCE, &[&element(OID, &[oid::PBKDF2]), &derivation]);
    let encryption = element(SEQUENCE, &[&element(OID, &[oid::AES_256_CBC]), &element(OCTETS, &[&iv])]);
    let parameters = element(SEQUENCE, &[&derivation, &encryption]);
    Ok((element(SEQUENCE, &[&element(OID, &[oid::PBES2]), &parameters]), text))
}

/// The hash of a file's integrity check, by its identifier.
pub(super) fn hash_of(identifier: &[u8]) -> Option<(&'static digest::Algorithm, hmac::Algorithm)> {
    Some(match identifier {
        oid::SHA1 => (&digest::SHA1_FOR_LEGACY_USE_ONLY, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        oid::SHA256 => (&digest::SHA256, hmac::HMAC_SHA256),
        oid::SHA384 => (&digest::SHA384, hmac::HMAC_SHA384),
        oid::SHA512 => (&digest::SHA512, hmac::HMAC_SHA512),
        _ => return None,
    })
}

/// The key of the integrity check (RFC 7292, appendix B).
pub(super) fn integrity_key(
    state: &State<'_, '_>,
    (hash, mac): (&'static digest::Algorithm, hmac::Algorithm),
    salt: &[u8],
    iterations: u32,
    password: &str,
) -> Result<hmac::Key, Error> {
    const PURPOSE: u8 = 3;
    let iterations = pay(state, iterations, password)?;
    let block = hash.block_len();
    let filled = |bytes: &[u8]| -> Zeroizing<Vec<u8>> {
        let length = bytes.len().div_ceil(block) * block;
        Zeroizing::new(bytes.iter().copied().cycle().take(length).collect())
    };
    let mut text: Zeroizing<Vec<u8>> = Zeroizing::new(password.encode_utf16().flat_map(u16::to_be_bytes).collect());
    text.extend([0, 0]);
    let mut context = digest::Context::new(hash);
    context.update(&vec![PURPOSE; block]);
    context.update(&filled(salt));
    context.update(&filled(&text));
    let mut key = context.finish();
    for _ in 1..iterations.get() {
        key = digest::digest(hash, key.as_ref());
    }
    Ok(hmac::Key::new(mac, key.as_ref()))
}
