//! Names of projects, secrets and versions. Each is checked before it becomes
//! part of a URL: none may lead to another object or another API.

use std::fmt;

use super::invalid;
use crate::stores::StoreError;

/// What secrets lie below: a project, or a location of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) project: String,
    pub(super) location: Option<String>,
}

/// One secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SecretName {
    pub(super) parent: Parent,
    pub(super) id: String,
}

impl Parent {
    pub(super) fn new(project: &str, location: Option<&str>) -> Result<Self, StoreError> {
        if !is_project(project) {
            return Err(invalid("write a project's id or number, such as trading-prod"));
        }
        if location.is_some_and(|location| !is_location(location)) {
            return Err(invalid("write a location such as europe-west1"));
        }
        Ok(Self { project: project.to_owned(), location: location.map(str::to_owned) })
    }

    /// The secret that a remote key names: by its id, or in full.
    pub(super) fn secret(&self, key: &str) -> Result<SecretName, StoreError> {
        let parts: Vec<&str> = key.split('/').collect();
        let (parent, id) = match parts[..] {
            [id] => (self.clone(), id),
            ["projects", project, "secrets", id] => (Self::new(project, None)?, id),
            ["projects", project, "locations", location, "secrets", id] => (Self::new(project, Some(location))?, id),
            [.., "versions", _] => return Err(invalid("write the version into remoteRef.version, not into the key")),
            _ => {
                return Err(invalid(
                    "remoteRef.key must be a secret's id, or its full name: projects/<project>/secrets/<id>",
                ));
            }
        };
        if !is_id(id, 255) {
            return Err(invalid("a secret's id consists of up to 255 letters, digits, '-' and '_'"));
        }
        Ok(SecretName { parent, id: id.to_owned() })
    }
}

impl fmt::Display for Parent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "projects/{}", self.project)?;
        self.location.iter().try_for_each(|location| write!(formatter, "/locations/{location}"))
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/secrets/{}", self.parent, self.id)
    }
}

/// A version's number, an alias, or `latest`.
pub(super) fn version(text: Option<&str>) -> Result<&str, StoreError> {
    let Some(text) = text else { return Ok("latest") };
    let number = text.parse::<u64>().is_ok_and(|number| number > 0) && !text.starts_with(['0', '+']);
    let alias = text.starts_with(|first: char| first.is_ascii_alphabetic()) && is_id(text, 63);
    if number || alias {
        Ok(text)
    } else {
        Err(invalid("remoteRef.version must be a version's number from 1, an alias, or latest"))
    }
}

/// A project's id, with the domain in front that old ones have, or its number.
pub(super) fn is_project(text: &str) -> bool {
    let (domain, id) = text.split_once(':').map_or((None, text), |(domain, id)| (Some(domain), id));
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let domain_fits = domain.is_none_or(|domain| {
        !domain.is_empty() && domain.bytes().all(|byte| plain(byte) || matches!(byte, b'.' | b'-'))
    });
    domain_fits && id.len() <= 63 && begins_plain(id) && id.bytes().all(|byte| plain(byte) || byte == b'-')
}

/// A region, a zone or a multi-region.
pub(super) fn is_location(text: &str) -> bool {
    text.len() <= 63
        && begins_plain(text)
        && !text.ends_with('-')
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn begins_plain(text: &str) -> bool {
    text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

fn is_id(text: &str, longest: usize) -> bool {
    !text.is_empty()
        && text.len() <= longest
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// A Google service account's address, which becomes part of a URL.
pub(super) fn is_email(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
    };
    text.len() <= 320 && text.split_once('@').is_some_and(|(name, domain)| part(name) && part(domain))
}

#[cfg(test)]
mod tests {
    use super::{Parent, is_email, version};

    #[test]
    fn a_remote_key_is_an_id_or_a_full_name_and_nothing_else() -> Result<(), Box<dyn std::error::Error>> {
        let global = Parent::new("trading-prod", None)?;
        let regional = Parent::new("123456", Some("europe-west1"))?;
        for (parent, key, full) in [
            (&global, "price_Bot-1", "projects/trading-prod/secrets/price_Bot-1"),
            (&regional, "a", "projects/123456/locations/europe-west1/secrets/a"),
            (&global, "projects/example.com:other/secrets/a", "projects/example.com:other/secrets/a"),
            (&regional, "projects/1/secrets/a", "projects/1/secrets/a"),
            (&global, "projects/p/locations/us/secrets/a", "projects/p/locations/us/secrets/a"),
        ] {
            assert_eq!(parent.secret(key)?.to_string(), full);
        }
        Ok(())
    }

    #[test]
    fn p5_no_name_leads_elsewhere() -> Result<(), Box<dyn std::error::Error>> {
        let parent = Parent::new("p", None)?;
        for key in [
            "",
            ".",
            "..",
            "a/b",
            "a:access",
            "a?x",
            "a#x",
            "a%2fb",
            "a b",
            "ä",
            "../../v1/projects/q/secrets/a",
            "projects/../secrets/a",
            "projects/p/secrets/",
            "projects//secrets/a",
            "projects/P/secrets/a",
            "projects/p/locations/eu.evil.example/secrets/a",
            "projects/p/locations/a@b/secrets/a",
            "projects/p/locations//secrets/a",
            "projects/p/secrets/a/versions/1",
            "/projects/p/secrets/a",
            "projects/p/secrets/a/",
            &"a".repeat(256),
        ] {
            assert!(parent.secret(key).is_err(), "{key}");
        }
        for project in ["", "p/q", "..", ":p", "a:b:c", "P"] {
            assert!(Parent::new(project, None).is_err(), "{project}");
        }
        for location in ["", "eu/", "eu.example", "EU", "-eu", "eu-"] {
            assert!(Parent::new("p", Some(location)).is_err(), "{location}");
        }
        for wrong in ["", "0", "01", "+1", "-1", "1.5", "a:b", "a/b", "../1", "latest?", "_a", &"a".repeat(64)] {
            assert!(version(Some(wrong)).is_err(), "{wrong}");
        }
        for right in ["1", "18446744073709551615", "latest", "stable", "blue-green_2"] {
            assert_eq!(version(Some(right))?, right);
        }
        for wrong in ["", "a", "a@", "@b", "a@b@c", "a/b@c", "a@b:x", "a@b?c", "a%40b@c", "a @b"] {
            assert!(!is_email(wrong), "{wrong}");
        }
        assert!(is_email("price-bot@trading-prod.iam.gserviceaccount.com"));
        Ok(())
    }
}
