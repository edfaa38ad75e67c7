//! A new PKCS#12 file, the same for the same parts.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use minijinja::{Error, State};
use zeroize::Zeroizing;

use super::{
    crypto,
    der::{BMP_STRING, EXPLICIT, IMPLICIT, NULL, OCTETS, OID, Reader, SEQUENCE, SET, element, number},
    oid,
};
use crate::{
    build::template::{
        pem::{self, Wanted},
        trouble::refuse,
    },
    secret::SecretBytes,
};

/// What goes into a file.
pub(in crate::build::template) struct Parts<'a> {
    /// PEM with the private key.
    pub(in crate::build::template) key: &'a str,
    /// PEM with the key's certificate first, then its issuers.
    pub(in crate::build::template) certificates: &'a str,
    pub(in crate::build::template) password: &'a str,
    /// What the entry is called.
    pub(in crate::build::template) name: Option<&'a str>,
}

/// Salts that are the parts' own. They must differ from file to file and be of
/// no use to who knows them: made with the private key, they are.
struct Salts<'a> {
    key: hmac::Key,
    parts: &'a Parts<'a>,
}

impl Salts<'_> {
    fn of(&self, purpose: &str) -> [u8; 16] {
        let mut context = hmac::Context::with_key(&self.key);
        let Parts { certificates, password, name, .. } = self.parts;
        for part in [purpose, certificates, password, name.unwrap_or_default()] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        context.sign().as_ref().first_chunk().copied().unwrap_or_default()
    }
}

pub(in crate::build::template) fn write(state: &State<'_, '_>, parts: &Parts<'_>) -> Result<SecretBytes, Error> {
    super::check(parts.password)?;
    let key = pkcs8(parts.key)?;
    let certificates: Vec<Vec<u8>> = pem::blocks(parts.certificates, Wanted::Certificates)
        .map(|block| der_of(&block).map(|der| der.to_vec()))
        .collect::<Option<_>>()
        .filter(|all: &Vec<_>| !all.is_empty())
        .ok_or_else(|| refuse("pkcs12 needs certificates in PEM: write certificates=…"))?;
    let salts = Salts { key: hmac::Key::new(hmac::HMAC_SHA256, &key), parts };
    let bags: Vec<Vec<u8>> = certificates
        .iter()
        .enumerate()
        .map(|(place, certificate)| {
            let holder = element(EXPLICIT, &[&element(OCTETS, &[certificate])]);
            let bag = element(SEQUENCE, &[&element(OID, &[oid::X509]), &holder]);
            let attributes = if place == 0 { attributes(&salts, parts.name) } else { Vec::new() };
            bag_of(oid::CERTIFICATE_BAG, &bag, &attributes)
        })
        .collect();
    let bags: Vec<&[u8]> = bags.iter().map(Vec::as_slice).collect();
    let certificates = element(SEQUENCE, &bags);
    let (algorithm, encrypted) =
        crypto::encrypt(state, &salts.of("certificates"), salts.of("certificates iv"), &certificates, parts.password)?;
    let info = element(SEQUENCE, &[&element(OID, &[oid::DATA]), &algorithm, &element(IMPLICIT, &[&encrypted])]);
    let certificates = content(oid::ENCRYPTED_DATA, &element(SEQUENCE, &[&number(0), &info]));

    let (algorithm, encrypted) = crypto::encrypt(state, &salts.of("key"), salts.of("key iv"), &key, parts.password)?;
    let shrouded = element(SEQUENCE, &[&algorithm, &element(OCTETS, &[&encrypted])]);
    let bag = bag_of(oid::ENCRYPTED_KEY_BAG, &shrouded, &attributes(&salts, parts.name));
    let keys = content(oid::DATA, &element(OCTETS, &[&element(SEQUENCE, &[&bag])]));

    let safe = element(SEQUENCE, &[&certificates, &keys]);
    let salt = salts.of("integrity");
    let hash = crypto::hash_of(oid::SHA256).ok_or_else(|| refuse(super::UNSUPPORTED))?;
    let integrity = crypto::integrity_key(state, hash, &salt, crypto::ITERATIONS, parts.password)?;
    let tag = hmac::sign(&integrity, &safe);
    let algorithm = element(SEQUENCE, &[&element(OID, &[oid::SHA256]), &element(NULL, &[])]);
    let tag = element(SEQUENCE, &[&algorithm, &element(OCTETS, &[tag.as_ref()])]);
    let check = element(SEQUENCE, &[&tag, &element(OCTETS, &[&salt]), &number(crypto::ITERATIONS)]);
    let safe = content(oid::DATA, &element(OCTETS, &[&safe]));
    Ok(SecretBytes::new(element(SEQUENCE, &[&number(3), &safe, &check])))
}

fn content(kind: &[u8], inside: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[&element(OID, &[kind]), &element(EXPLICIT, &[inside])])
}

fn bag_of(kind: &[u8], value: &[u8], attributes: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[&element(OID, &[kind]), &element(EXPLICIT, &[value]), attributes])
}

/// What ties key and certificate, and their name.
fn attributes(salts: &Salts<'_>, name: Option<&str>) -> Vec<u8> {
    let attribute = |kind: &[u8], value: &[u8]| element(SEQUENCE, &[&element(OID, &[kind]), &element(SET, &[value])]);
    let id = attribute(oid::LOCAL_KEY_ID, &element(OCTETS, &[&salts.of("key id")]));
    let Some(name) = name else { return element(SET, &[&id]) };
    let text: Vec<u8> = name.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let mut all = [attribute(oid::FRIENDLY_NAME, &element(BMP_STRING, &[&text])), id];
    // DER sorts what a set holds.
    all.sort();
    element(SET, &[&all[0], &all[1]])
}

fn der_of(block: &str) -> Option<Zeroizing<Vec<u8>>> {
    let body: Zeroizing<String> = Zeroizing::new(block.lines().filter(|line| !line.starts_with("-----")).collect());
    STANDARD.decode(body.as_bytes()).ok().map(Zeroizing::new)
}

/// The first private key, in the one form that PKCS#12 takes.
fn pkcs8(text: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    let wrong = || refuse("pkcs12 needs a private key in PEM that is not encrypted (PKCS#8, RSA or EC): write key=…");
    let block = Zeroizing::new(pem::blocks(text, Wanted::Keys).next().ok_or_else(wrong)?);
    let der = der_of(&block).ok_or_else(wrong)?;
    let label = block.lines().next().unwrap_or_default();
    let algorithm = match label {
        "-----BEGIN PRIVATE KEY-----" => return Ok(der),
        "-----BEGIN RSA PRIVATE KEY-----" => element(SEQUENCE, &[&element(OID, &[oid::RSA]), &element(NULL, &[])]),
        "-----BEGIN EC PRIVATE KEY-----" => {
            // The curve stands inside the key.
            let curve = || {
                let mut key = Reader::new(&der).enter(SEQUENCE)?;
                key.number()?;
                key.take(OCTETS)?;
                key.take(EXPLICIT)
            };
            element(SEQUENCE, &[&element(OID, &[oid::ELLIPTIC_CURVE]), curve().ok_or_else(wrong)?])
        }
        _ => return Err(wrong()),
    };
    Ok(Zeroizing::new(element(SEQUENCE, &[&number(0), &algorithm, &element(OCTETS, &[&der])])))
}
