//! PKCS#12 files (`.p12`, `.pfx`; RFC 7292): what is in them as PEM, and new
//! ones made of PEM.
//!
//! Read here and not by a library: a file says how much work and memory its
//! password costs, and libraries believe it. Written here, since a library
//! takes random salts, and then each refresh would be a rotation.

mod crypto;
mod der;
mod oid;
mod write;

use std::collections::BTreeSet;

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use minijinja::{Error, State};
use zeroize::Zeroizing;

use self::der::{EXPLICIT, IMPLICIT, OCTETS, OID, Reader, SEQUENCE, SET};
use super::trouble::refuse;

pub(super) use write::{Parts, write};

const NOT_ONE: &str =
    "it is given something that is no PKCS#12 file in DER (decode Base64 first, with decodingStrategy or b64decode)";
const UNSUPPORTED: &str = "the PKCS#12 file is encrypted or signed in a way that is not read here (RC2, 3DES, scrypt, PBMAC1): export it again with AES and SHA-256, as openssl 3 and keytool do";

/// Longer than any that people or managers make.
const LONGEST_PASSWORD: usize = 1024;

/// Refuses a password whose hashes alone would be work.
fn check(password: &str) -> Result<(), Error> {
    if password.len() > LONGEST_PASSWORD {
        return Err(refuse("the password of a PKCS#12 file has at most 1024 bytes here: choose a shorter one"));
    }
    Ok(())
}

/// What a file holds that is of use: keys as PKCS#8, and certificates.
#[derive(Default)]
struct Contents {
    keys: Vec<(KeyId, Zeroizing<Vec<u8>>)>,
    certificates: Vec<(KeyId, Vec<u8>)>,
}

/// What ties a key to its certificate.
type KeyId = Option<Vec<u8>>;

/// The private keys in PEM.
pub(super) fn keys(state: &State<'_, '_>, file: &[u8], password: &str) -> Result<String, Error> {
    let contents = read(state, file, password)?;
    if contents.keys.is_empty() {
        return Err(refuse("the PKCS#12 file holds no private key"));
    }
    Ok(contents.keys.iter().map(|(_, key)| pem("PRIVATE KEY", key)).collect())
}

/// The certificates in PEM, those of the keys first.
pub(super) fn certificates(state: &State<'_, '_>, file: &[u8], password: &str) -> Result<Vec<String>, Error> {
    let mut contents = read(state, file, password)?;
    let keys: BTreeSet<&[u8]> = contents.keys.iter().filter_map(|(id, _)| id.as_deref()).collect();
    // A stable sort: the rest stays in the file's order.
    contents.certificates.sort_by_cached_key(|(id, _)| id.as_deref().is_none_or(|id| !keys.contains(id)));
    Ok(contents.certificates.iter().map(|(_, certificate)| pem("CERTIFICATE", certificate)).collect())
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines = body.as_bytes().chunks(64).flat_map(|line| line.iter().map(|byte| char::from(*byte)).chain(['\n']));
    format!("-----BEGIN {label}-----\n{}-----END {label}-----\n", lines.collect::<String>())
}

fn read(state: &State<'_, '_>, file: &[u8], password: &str) -> Result<Contents, Error> {
    check(password)?;
    super::helpers::pay(state, file.len() * 4 + password.len() * 8)?;
    let not_one = || refuse(NOT_ONE);
    let mut file = Reader::new(file).enter(SEQUENCE).ok_or_else(not_one)?;
    let _version = file.number().filter(|version| *version == 3).ok_or_else(not_one)?;
    let safe = contained(&mut file).filter(|(kind, _)| *kind == oid::DATA).and_then(|(_, mut safe)| safe.take(OCTETS));
    let safe = safe.ok_or_else(not_one)?;
    if let Some(check) = file.enter(SEQUENCE) {
        verify(state, check, safe, password)?;
    }
    let mut contents = Contents::default();
    let mut parts = Reader::new(safe).enter(SEQUENCE).ok_or_else(not_one)?;
    while !parts.is_done() {
        let (kind, mut part) = contained(&mut parts).ok_or_else(not_one)?;
        match kind {
            oid::DATA => bags(state, part.take(OCTETS).ok_or_else(not_one)?, password, &mut contents)?,
            oid::ENCRYPTED_DATA => {
                let (algorithm, data) = encrypted(part).ok_or_else(not_one)?;
                let bytes = crypto::decrypt(state, algorithm, data, password)?;
                bags(state, &bytes, password, &mut contents)?;
            }
            _ => return Err(refuse(UNSUPPORTED)),
        }
    }
    Ok(contents)
}

/// A ContentInfo: its kind, and what it holds.
fn contained<'a>(from: &mut Reader<'a>) -> Option<(&'a [u8], Reader<'a>)> {
    let mut info = from.enter(SEQUENCE)?;
    Some((info.take(OID)?, info.enter(EXPLICIT)?))
}

/// The algorithm of an EncryptedData, and the encrypted bytes.
fn encrypted(mut part: Reader<'_>) -> Option<(&[u8], &[u8])> {
    let mut data = part.enter(SEQUENCE)?;
    data.number()?;
    let mut info = data.enter(SEQUENCE)?;
    info.take(OID)?;
    Some((info.take(SEQUENCE)?, info.take(IMPLICIT)?))
}

fn verify(state: &State<'_, '_>, mut check: Reader<'_>, safe: &[u8], password: &str) -> Result<(), Error> {
    let mut parts = || {
        let mut info = check.enter(SEQUENCE)?;
        let (hash, tag) = (info.enter(SEQUENCE)?.take(OID)?, info.take(OCTETS)?);
        let salt = check.take(OCTETS)?;
        Some((hash, tag, salt, if check.is_done() { 1 } else { check.number()? }))
    };
    let (hash, tag, salt, iterations) = parts().ok_or_else(|| refuse(NOT_ONE))?;
    let hash = crypto::hash_of(hash).ok_or_else(|| refuse(UNSUPPORTED))?;
    let key = crypto::integrity_key(state, hash, salt, iterations, password)?;
    hmac::verify(&key, safe, tag)
        .map_err(|_| refuse("the password does not open the PKCS#12 file, or the file is damaged"))
}

fn bags(state: &State<'_, '_>, bytes: &[u8], password: &str, contents: &mut Contents) -> Result<(), Error> {
    let not_one = || refuse(NOT_ONE);
    let mut bags = Reader::new(bytes).enter(SEQUENCE).ok_or_else(not_one)?;
    while !bags.is_done() {
        let mut bag = bags.enter(SEQUENCE).ok_or_else(not_one)?;
        let kind = bag.take(OID).ok_or_else(not_one)?;
        let mut value = bag.enter(EXPLICIT).ok_or_else(not_one)?;
        let id = bag.enter(SET).and_then(key_id);
        match kind {
            oid::KEY_BAG => {
                let (_, _, key) = value.next().ok_or_else(not_one)?;
                contents.keys.push((id, Zeroizing::new(key.to_vec())));
            }
            oid::ENCRYPTED_KEY_BAG => {
                let mut key = value.enter(SEQUENCE).ok_or_else(not_one)?;
                let (algorithm, data) = key.take(SEQUENCE).zip(key.take(OCTETS)).ok_or_else(not_one)?;
                contents.keys.push((id, crypto::decrypt(state, algorithm, data, password)?));
            }
            oid::CERTIFICATE_BAG => {
                let mut inside = value.enter(SEQUENCE).ok_or_else(not_one)?;
                let (kind, mut holder) = inside.take(OID).zip(inside.enter(EXPLICIT)).ok_or_else(not_one)?;
                if kind == oid::X509 {
                    contents.certificates.push((id, holder.take(OCTETS).ok_or_else(not_one)?.to_vec()));
                }
            }
            // Lists of revoked certificates and the like.
            _ => {}
        }
    }
    Ok(())
}

fn key_id(mut attributes: Reader<'_>) -> KeyId {
    while !attributes.is_done() {
        let mut attribute = attributes.enter(SEQUENCE)?;
        if attribute.take(OID)? == oid::LOCAL_KEY_ID {
            return Some(attribute.enter(SET)?.take(OCTETS)?.to_vec());
        }
    }
    None
}
