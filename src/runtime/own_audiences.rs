//! Which audiences the API server calls its own, as far as the operator's own
//! token tells.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

/// `aud` is one name or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
struct Claims {
    aud: Audiences,
}

/// The audiences of a token. Not verified: it is our own, and at worst one
/// audience too many is refused.
pub(crate) fn of_token(token: &str) -> Vec<String> {
    let claims = token.trim().split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    match claims.and_then(|bytes| serde_json::from_slice::<Claims>(&bytes).ok()).map(|claims| claims.aud) {
        Some(Audiences::One(name)) => vec![name],
        Some(Audiences::Several(names)) => names,
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::of_token;
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    #[test]
    fn p5_the_operators_own_token_tells_which_audiences_no_store_may_ask_for() {
        let token = |claims: &str| format!("e30.{}.c2ln\n", URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(of_token(&token(r#"{"aud":["https://api","second"],"sub":"x"}"#)), ["https://api", "second"]);
        assert_eq!(of_token(&token(r#"{"aud":"https://api"}"#)), ["https://api"]);
        for none in ["", "opaque", "a.b.c", &token("{}"), &token("[]")] {
            assert!(of_token(none).is_empty(), "{none}");
        }
    }
}
