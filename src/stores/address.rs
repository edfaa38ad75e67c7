//! Addresses as stores write them.

use reqwest::Url;

use super::{StoreError, error::invalid};

/// An http or https URL that says scheme, host and port only: credentials in
/// it would be shown in messages, and paths are the backend's to write.
pub(super) fn bare(text: &str, field: &str, example: &str) -> Result<Url, StoreError> {
    let wrong = || invalid(format!("{field} must be scheme, host and port only, such as {example}"));
    let url = Url::parse(text).map_err(|_| wrong())?;
    let only = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let is_web = matches!(url.scheme(), "http" | "https") && url.has_host();
    if is_web && only && !has_credentials(&url) { Ok(url) } else { Err(wrong()) }
}

/// The same, for https alone.
pub(super) fn bare_https(text: &str, field: &str, example: &str) -> Result<Url, StoreError> {
    let url = bare(text, field, example)?;
    if url.scheme() == "https" {
        return Ok(url);
    }
    Err(invalid(format!("{field} must be an https URL, such as {example}")))
}

/// Whether a user or a password stands in it.
pub(super) fn has_credentials(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

#[cfg(test)]
mod tests {
    use super::{bare, bare_https};
    use crate::stores::ErrorClass;

    #[test]
    fn p5_an_address_is_scheme_host_and_port_and_nothing_else() {
        for text in ["https://vault.example", "http://127.0.0.1:8200", "https://[::1]:8200/"] {
            assert!(bare(text, "address", "https://a.example").is_ok(), "{text}");
        }
        for text in [
            "",
            "vault.example",
            "ftp://vault.example",
            "https://bot@vault.example",
            "https://bot:hunter2@vault.example",
            "https://vault.example/v1",
            "https://vault.example?hunter2",
            "https://vault.example#hunter2",
            "file:///etc/passwd",
        ] {
            let error = bare(text, "address", "https://a.example").expect_err(text);
            assert_eq!(error.class, ErrorClass::Invalid, "{text}");
            assert!(error.message.starts_with("address must be scheme, host and port only"), "{error}");
            assert!(!error.message.contains("hunter2"), "{error}");
        }
        assert!(bare_https("https://vault.example", "address", "https://a.example").is_ok());
        assert!(bare_https("http://vault.example", "address", "https://a.example").is_err());
    }
}
