#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
//! What templates make of values, and what they cannot do.

mod bounds;
mod documentation;
mod failures;
mod helpers;
mod pkcs12;
mod properties;

use std::collections::{BTreeMap, BTreeSet};

use super::rendered;
use crate::{
    api::Template,
    build::BuildError,
    secret::{SecretBytes, SecretData},
};

fn keys(members: &[(&str, &[u8])]) -> SecretData {
    members.iter().map(|(key, value)| ((*key).to_owned(), SecretBytes::new(value.to_vec()))).collect()
}

fn bytes(template: &str, data: &[(&str, &[u8])]) -> Result<Vec<u8>, BuildError> {
    let templates = Template { data: BTreeMap::from([("OUT".to_owned(), template.to_owned())]), merge_policy: None };
    let (mut made, _) = rendered(&templates, &keys(data), &BTreeSet::new())?;
    Ok(made.remove("OUT").unwrap().into_exposed())
}

fn text(template: &str, data: &[(&str, &str)]) -> Result<String, BuildError> {
    let data: Vec<_> = data.iter().map(|(key, value)| (*key, value.as_bytes())).collect();
    bytes(template, &data).map(|made| String::from_utf8(made).unwrap())
}

/// A key and its certificate.
fn pair(kind: &'static rcgen::SignatureAlgorithm) -> (String, String) {
    let key = rcgen::KeyPair::generate_for(kind).unwrap();
    let certificate = rcgen::CertificateParams::new(["bot".to_owned()]).unwrap().self_signed(&key).unwrap();
    (key.serialize_pem().replace("\r\n", "\n"), certificate.pem().replace("\r\n", "\n"))
}
