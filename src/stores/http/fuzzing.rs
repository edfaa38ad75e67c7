//! Certificates that stores trust, and the one that is shown to Vault.
#![allow(clippy::expect_used, reason = "a finding is a panic")]

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Identity;

use super::{
    ClusterEndpoint, HttpClients,
    connections::{Trust, client},
};
use crate::stores::fuzzing::told;

/// The first makes the process have cryptography.
static CLIENTS: LazyLock<HttpClients> = LazyLock::new(|| HttpClients::new(ClusterEndpoint::default()));

/// A bundle: never taken for none at all, and the same in base64 as it is.
pub(crate) fn bundles(input: &[u8]) {
    LazyLock::force(&CLIENTS);
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Some(trust) = told(Trust::of(Some(text))) else { return };
    let pem = match &trust {
        Trust::Only(pem) => Some(pem.clone()),
        Trust::Nothing | Trust::Public => None,
    };
    let pem = pem.expect("nothing but the bundle is trusted");
    assert!(Trust::of(Some(&STANDARD.encode(&pem))).is_ok_and(|packed| packed == trust));
    // The reader lets white space stand between the dashes that end a header.
    let dense: String = pem.split_whitespace().collect();
    if told(client(&trust, None, None, false)).is_some() {
        assert!(dense.contains("-----BEGINCERTIFICATE-----"), "trusted without a certificate");
    }
    if let Ok(identity) = Identity::from_pem(pem.as_bytes()) {
        assert!(dense.contains("PRIVATEKEY-----"), "an identity without a key");
        told(client(&Trust::Nothing, None, Some(identity), false));
    }
}
