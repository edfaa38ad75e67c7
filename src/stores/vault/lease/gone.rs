//! What says that something is gone, and what only that it is refused.
//!
//! 403 stands for a policy's refusal and for a dead token alike, and OpenBao
//! says the same to both. So what is refused counts as gone only by Vault's own
//! words for that, and otherwise another login is to ask for it.

use serde::Deserialize;

use crate::stores::http::Answer;

/// Said of an accessor, a lease or a token that is asked for.
const GONE: &[&str] = &["invalid accessor", "invalid lease", "lease not found", "token not found", NO_TOKEN];
/// A warning with a success, too.
const NO_TOKEN: &str = "no token found with this accessor";

#[derive(Default, Deserialize)]
struct Said {
    #[serde(default)]
    errors: Option<Vec<String>>,
    #[serde(default)]
    warnings: Option<Vec<String>>,
}

fn said(list: Option<Vec<String>>) -> String {
    list.unwrap_or_default().join(" ").to_lowercase()
}

fn read(body: &[u8]) -> Said {
    serde_json::from_slice(body).unwrap_or_default()
}

/// Whether a refusal says that what was asked for is not there.
pub(in crate::stores::vault) fn is_gone(answer: &Answer) -> bool {
    says_gone(answer.status.as_u16(), &answer.body)
}

fn says_gone(status: u16, body: &[u8]) -> bool {
    let said = said(read(body).errors);
    matches!(status, 400 | 403 | 404) && GONE.iter().any(|known| said.contains(known))
}

/// Whether a success says that there was nothing to be done.
pub(in crate::stores::vault) fn was_gone(answer: &Answer) -> bool {
    says_was_gone(&answer.body)
}

fn says_was_gone(body: &[u8]) -> bool {
    said(read(body).warnings).contains(NO_TOKEN)
}

/// Whether a refusal says that the token itself is dead with which it was
/// asked. Vault does in its later versions, OpenBao does not.
pub(in crate::stores::vault) fn is_dead_token(answer: &Answer) -> bool {
    says_dead_token(answer.status.as_u16(), &answer.body)
}

fn says_dead_token(status: u16, body: &[u8]) -> bool {
    status == 403 && said(read(body).errors).contains("invalid token")
}

#[cfg(test)]
mod tests {
    use super::{says_dead_token, says_gone, says_was_gone};

    fn errors(error: &str) -> Vec<u8> {
        serde_json::json!({ "errors": [error] }).to_string().into_bytes()
    }

    #[test]
    fn p7_what_is_gone_is_told_from_what_is_refused() {
        let gone = |status, error: &str| says_gone(status, &errors(error));
        assert!(gone(400, "lease not found") && gone(400, "invalid lease ID") && gone(403, "invalid accessor"));
        // As OpenBao 2.7.2 says it.
        assert!(gone(400, "1 error occurred:\n\t* invalid accessor\n\n"));
        assert!(!gone(403, "1 error occurred:\n\t* permission denied\n\n") && !gone(403, "permission denied"));
        assert!(!gone(400, "lease is not renewable") && !gone(503, "lease not found"));
        // Not what a proxy says, nor that there is no such path or namespace.
        assert!(!gone(404, "") && !gone(404, "namespace not found") && !says_gone(404, b"<html>not found</html>"));
    }

    #[test]
    fn p7_a_success_that_found_nothing_revoked_nothing() {
        // As OpenBao 2.7.2 says it, with status 200.
        let body = r#"{"lease_id":"","data":null,"warnings":["No token found with this accessor"],"auth":null}"#;
        assert!(says_was_gone(body.as_bytes()));
        assert!(!says_was_gone(b"") && !says_was_gone(br#"{"warnings":null}"#));
    }

    #[test]
    fn p7_a_refusal_alone_is_no_sign_of_a_dead_token() {
        assert!(says_dead_token(403, &errors("2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")));
        assert!(!says_dead_token(403, &errors("permission denied")));
        assert!(!says_dead_token(400, &errors("invalid token")));
    }
}
