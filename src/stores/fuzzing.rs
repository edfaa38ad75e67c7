//! What managers answer, and the names and addresses that people write (see
//! [`crate::fuzzing`]). Whatever an answer holds, no error repeats it.
#![allow(clippy::expect_used, reason = "a finding is a panic")]
#![allow(dead_code, reason = "each store uses its part")]

use std::net::IpAddr;

use reqwest::{StatusCode, header::HeaderMap};
use url::Host;
use zeroize::Zeroizing;

use super::{
    Payload, Place, Reach, RemoteSecret, StoreError, address,
    http::{Answer, LONGEST_RETRY_AFTER, retry_after},
    names::stars_match,
    writing::Change,
};
use crate::{
    build::value_of,
    fuzzing::{CANARY, split},
    secret::{SecretBytes, SecretText},
};

#[cfg(feature = "aws")]
pub(crate) use super::aws::fuzzing::{answers as aws, parameters, secrets, sts};
#[cfg(feature = "azure")]
pub(crate) use super::azure::fuzzing::{answers as azure, challenges};
#[cfg(feature = "gcp")]
pub(crate) use super::gcp::fuzzing::answers as gcp;
pub(crate) use super::http::fuzzing::bundles;
#[cfg(feature = "oauth2")]
pub(crate) use super::oauth2::fuzzing::answers as oauth2;
#[cfg(feature = "vault")]
pub(crate) use super::vault::fuzzing::answers as vault;

/// An answer: its status and Retry-After in the first line, then the body.
pub(super) fn answer(input: &[u8]) -> Option<Answer> {
    let (head, body) = split(input)?;
    let (status, wait) = head.split_once(' ').unwrap_or((head, ""));
    let retry_after = retry_after(wait);
    assert!(retry_after.is_none_or(|wait| wait <= LONGEST_RETRY_AFTER));
    let status = StatusCode::from_bytes(status.as_bytes()).ok()?;
    Some(Answer { status, headers: HeaderMap::new(), retry_after, body: Zeroizing::new(body.to_vec()) })
}

/// What was read, or nothing, and then without a word of it.
pub(super) fn told<T>(outcome: Result<T, StoreError>) -> Option<T> {
    match outcome {
        Ok(read) => Some(read),
        Err(error) => {
            silent(&error);
            None
        }
    }
}

/// An error that repeats nothing.
pub(super) fn silent(error: &StoreError) {
    assert!(!error.message.contains(CANARY), "the error quotes what was read: {error}");
    assert!(error.retry_after.is_none_or(|wait| wait <= LONGEST_RETRY_AFTER), "{:?}", error.retry_after);
}

/// A Secret of another namespace or cluster.
#[cfg(feature = "kubernetes")]
pub(crate) fn kubernetes(body: &[u8]) {
    told(super::kubernetes::parse(body));
}

/// Addresses of stores, and places that they may ask.
pub(crate) fn addresses(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some(url) = told(address::bare(text, "address", "https://vault.example")) {
        assert!(!address::has_credentials(&url) && url.path() == "/" && url.query().is_none());
        assert_eq!(address::bare(url.as_str(), "address", "https://vault.example"), Ok(url.clone()));
        if Reach::default().check(&url).is_ok() {
            let address = match url.host().expect("an address has a host") {
                Host::Ipv4(address) => Some(IpAddr::V4(address)),
                Host::Ipv6(address) => Some(IpAddr::V6(address).to_canonical()),
                Host::Domain(_) => None,
            };
            let is_local = |address: IpAddr| match address {
                IpAddr::V4(address) => address.is_link_local() || address.is_unspecified(),
                IpAddr::V6(address) => address.is_unicast_link_local() || address.is_unspecified(),
            };
            assert!(!address.is_some_and(is_local), "{url} is the machine itself");
        }
    }
    if let Ok(place) = text.parse::<Place>() {
        let written = match &place {
            Place::Host(name) => name.clone(),
            Place::Below(domain) => format!("*{domain}"),
            Place::Network(network) => network.to_string(),
        };
        assert_eq!(written.parse(), Ok(place), "{written}");
    }
}

/// A pattern or a kind of name, and the name.
pub(crate) fn names(input: &[u8]) {
    let Some((pattern, text)) = split(input) else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    assert!(stars_match("*", text) && stars_match(&text.replace('*', ""), &text.replace('*', "")));
    if stars_match(pattern, text) {
        let rest: String = pattern.split('*').collect();
        assert!(rest.len() <= text.len(), "{pattern} matches {text}");
    }
    #[cfg(feature = "aws")]
    super::aws::fuzzing::names(pattern, text);
    #[cfg(feature = "azure")]
    super::azure::fuzzing::names(text);
    #[cfg(feature = "gcp")]
    super::gcp::fuzzing::names(text);
    #[cfg(feature = "vault")]
    super::vault::fuzzing::paths(text);
}

/// A property, and the content that it is written into: a read finds what was written.
pub(crate) fn write_back(input: &[u8]) {
    let Some((property, content)) = split(input) else { return };
    let value = SecretBytes::new(b"n\"w \\ \xc3\xa9".to_vec());
    let change = Change::Properties(vec![(property, &value)]);
    let Some(new) = told(change.applied(Some(content))) else { return };
    let read = |content: &[u8]| {
        let text = std::str::from_utf8(content).expect("what was written is text").to_owned();
        RemoteSecret::of(Payload::Json(SecretText::new(text)))
    };
    // What nests too deep is not looked into.
    if value_of(&read(content), None).is_some() {
        assert_eq!(value_of(&read(new.expose()), Some(property)), Some(value.duplicate()));
    }
    assert_eq!(change.applied(Some(new.expose())), Ok(new), "written twice is written once");
}
