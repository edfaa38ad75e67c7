//! Google's answers, keys of service accounts, and names.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    dates::made,
    errors::{ADD, Asked, Doing, refused_login, refused_read},
    find::page,
    key::Key,
    login::{granted, impersonated},
    names::{Parent, is_email, is_location, is_project, version},
    read::accessed,
};
use crate::stores::fuzzing::{answer, silent, told};

/// The longest that a login is believed to live.
const LONGEST: Duration = Duration::from_secs(12 * 3600);

/// A status and a body, as the answer to everything that is asked.
pub(crate) fn answers(input: &[u8]) {
    let Some(answer) = answer(input) else { return };
    let (body, now) = (answer.body.as_slice(), Instant::now());
    for version in ["latest", "3"] {
        if let Some(read) = told(accessed(body, "bot", version)) {
            assert!(read.version.is_some_and(|number| number > 0));
        }
    }
    if let Some(at) = made(body) {
        assert_eq!(made(format!(r#"{{"createTime":"{at}"}}"#).as_bytes()), Some(at));
    }
    told(page(body));
    for login in [granted(body, now), impersonated(body, now)] {
        if let Some(login) = told(login) {
            assert!(login.expires.is_none_or(|expires| expires <= now + LONGEST) && !login.token.expose().is_empty());
        }
    }
    if let Ok(text) = std::str::from_utf8(body) {
        told(Key::new(text));
    }
    for permission in ["secretmanager.versions.access", "secretmanager.secrets.list", ADD] {
        silent(&refused_read(&answer, &Asked { permission, principal: "principal://bot", version: Some("3") }));
    }
    for doing in [
        Doing::Exchange { audience: "audience" },
        Doing::Impersonate { email: "bot@p.iam.gserviceaccount.com", federated: "principal://bot" },
        Doing::UseKey,
        Doing::AskMachine,
    ] {
        silent(&refused_login(&answer, &doing));
    }
}

/// A name that passes is one segment of a URL, or more that are named as such.
pub(in crate::stores) fn names(text: &str) {
    let plain = |text: &str| !text.contains(['/', '?', '#', '%', ' ']) && !text.chars().any(char::is_control);
    for fits in [is_project(text), is_location(text), is_email(text), version(Some(text)).is_ok()] {
        assert!(!fits || plain(text), "{text}");
    }
    let Ok(parent) = Parent::new("p", Some("europe-west1")) else { return };
    if let Ok(secret) = parent.secret(text) {
        assert!(plain(&secret.id) && plain(&secret.parent.project), "{secret}");
        let full = secret.to_string();
        assert_eq!(parent.secret(&full), Ok(secret), "{full}");
    }
}
