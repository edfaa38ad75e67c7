//! Paths of mounts and secrets, checked before they become part of a URL.

use super::invalid;
use crate::stores::StoreError;

const LONGEST_PATH: usize = 1024;

/// The path as it is, if every segment names exactly itself. What URLs treat
/// specially (`?`, `#`, `%`, spaces) is encoded later and may stay; dots and
/// empty segments would lead elsewhere, and URL parsers drop control
/// characters.
pub(super) fn clean(path: &str, field: &str) -> Result<String, StoreError> {
    let problem = if path.is_empty() {
        "is empty"
    } else if path.len() > LONGEST_PATH {
        "is longer than 1024 bytes"
    } else if path.chars().any(char::is_control) {
        "has a control character in it"
    } else if path.starts_with('/') || path.ends_with('/') {
        "must not begin or end with a slash"
    } else if path.split('/').any(str::is_empty) {
        "has two slashes in a row"
    } else if path.split('/').any(|segment| segment == "." || segment == "..") {
        "must not have . or .. as a segment"
    } else {
        return Ok(path.to_owned());
    };
    Err(invalid(format!("{field} {problem}")))
}

/// The static role of a database engine that a path, which begins with its mount,
/// leads to.
pub(super) fn static_role<'a>(path: &'a str, mount: &str) -> Option<&'a str> {
    static_role_below(path.strip_prefix(mount)?.strip_prefix('/')?)
}

/// The same of a path below the mount.
pub(super) fn static_role_below(path: &str) -> Option<&str> {
    path.strip_prefix("static-creds/")
}
