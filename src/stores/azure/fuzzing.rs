//! Answers of Key Vault and Entra ID, challenges, and names.
#![allow(clippy::expect_used, reason = "a finding is a panic")]

use reqwest::Url;
use serde_json::Value;

use super::{
    errors::{Party, refusal},
    find::Wanted,
    http,
    identity::Named,
    names::{object, version},
    read::{certificate, facts, public_key, secret},
};
use crate::stores::{
    FindQuery,
    fuzzing::{answer, silent, told},
};

const RESOURCE: &str = "https://vault.azure.net";

/// A status and a body, as the answer to everything that is asked.
pub(crate) fn answers(input: &[u8]) {
    let Some(answer) = answer(input) else { return };
    let body = answer.body.as_slice();
    for only_metadata in [false, true] {
        for read in [secret(body, only_metadata), certificate(body, only_metadata), public_key(body, only_metadata)] {
            told(read);
        }
    }
    // What is a list instead has its fields by their places.
    if let (Some(at), Ok(version)) = (facts(body).made, serde_json::from_slice::<Value>(body))
        && version["attributes"].is_object()
    {
        assert_eq!(version["attributes"]["created"].as_i64(), Some(at.as_second()));
    }
    let query = FindQuery { path: Some("bot".to_owned()), name: Some("^bot-".to_owned()), ..FindQuery::default() };
    let wanted = Wanted::new(&query).expect("a pattern");
    if let Some((names, _)) = told(wanted.of_page(body)) {
        assert!(names.iter().all(|name| name.starts_with("bot-")), "{names:?}");
    }
    let named = || Named { tenant: "tenant".to_owned(), client: "client".to_owned() };
    let resource = || RESOURCE.to_owned();
    let entra = |subject, audience| Party::Entra { named: named(), subject, audience, resource: resource() };
    let parties = [
        entra(Some("system:serviceaccount:ns:bot".to_owned()), Some("api://AzureADTokenExchange".to_owned())),
        entra(None, None),
        Party::Machine,
        Party::Vault { client: "client".to_owned(), resource: resource() },
    ];
    for path in ["secrets", "secrets/bot/", "keys/bot/"] {
        let url = Url::parse(&format!("https://bots.vault.azure.net/{path}")).expect("a URL");
        for (party, writes) in parties.iter().flat_map(|party| [(party, false), (party, true)]) {
            silent(&refusal(&answer, party, &url, writes));
        }
    }
}

/// WWW-Authenticate headers: one that names another resource as well is refused.
pub(crate) fn challenges(input: &[u8]) {
    let Ok(challenge) = std::str::from_utf8(input) else { return };
    if !http::names(challenge, RESOURCE) {
        return;
    }
    assert!(challenge.contains(RESOURCE), "{challenge}");
    for other in ["resource=\"https://evil.example\"", "scope=\"https://evil.example/.default\"", "resource="] {
        assert!(!http::names(&format!("{challenge}, {other}"), RESOURCE), "{challenge}, {other}");
        assert!(!http::names(&format!("Bearer {other}, {challenge}"), RESOURCE), "{other}, {challenge}");
    }
}

/// A name that passes needs no encoding in a URL.
pub(in crate::stores) fn names(text: &str) {
    if object(text).is_ok() {
        assert!(text.matches('/').count() <= 1 && !text.contains(['.', '?', '#', '%']), "{text}");
    }
    if let Ok(version) = version(text) {
        assert!(version.len() == 32 && version == text);
    }
}
