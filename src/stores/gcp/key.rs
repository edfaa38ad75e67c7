//! A service account's key, as the JSON file that Google hands out.
//!
//! Of the file only the key and whose it is are believed. Its `token_uri`
//! would be sent what Google takes for the account: it is not looked at.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde::Deserialize;
use serde_json::json;
use zeroize::{Zeroize as _, Zeroizing};

use super::{invalid, login::SCOPE, unavailable};
use crate::{
    secret::SecretText,
    stores::{DecodedText, StoreError},
};

/// The audience of what the key signs: Google's token endpoint, wherever it is
/// reached.
const AUDIENCE: &str = "https://oauth2.googleapis.com/token";
/// As long as Google allows.
const LIFE_SECONDS: u64 = 3600;

/// A key that can sign.
pub(super) struct Key {
    pair: RsaKeyPair,
    id: String,
    email: String,
}

#[derive(Deserialize)]
struct File {
    client_email: String,
    private_key_id: String,
    private_key: DecodedText,
    universe_domain: Option<String>,
}

const NO_KEY: &str = "auth.secretRef holds no service account's key: store the JSON file as Google hands it out";

impl Key {
    /// Parse errors are dropped: they may quote the key.
    pub(super) fn new(file: &str) -> Result<Self, StoreError> {
        #[derive(Deserialize)]
        struct Kind {
            #[serde(rename = "type")]
            kind: String,
        }
        let kind = serde_json::from_str::<Kind>(file).map_err(|_| invalid(NO_KEY))?.kind;
        if kind != "service_account" {
            return Err(invalid(
                "auth.secretRef takes a service account's key only: \
                 for Workload Identity Federation write auth.workloadIdentityFederation",
            ));
        }
        let file: File = serde_json::from_str(file).map_err(|_| invalid(NO_KEY))?;
        if file.universe_domain.is_some_and(|domain| domain != "googleapis.com") {
            return Err(invalid("the key belongs to another universe than googleapis.com, which is not supported"));
        }
        let der = der(file.private_key.0.expose()).ok_or_else(|| invalid(NO_KEY))?;
        let pair = RsaKeyPair::from_pkcs8(&der).map_err(|_| invalid(NO_KEY))?;
        Ok(Self { pair, id: file.private_key_id, email: file.client_email })
    }

    /// What proves to Google's token endpoint that it is the account that asks
    /// (RFC 7523).
    pub(super) fn assertion(&self) -> Result<SecretText, StoreError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": self.id});
        let claims = json!({"iss": self.email, "scope": SCOPE, "aud": AUDIENCE, "iat": now, "exp": now + LIFE_SECONDS});
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let mut text = format!("{header}.{claims}");
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
            .map_err(|_| unavailable("the key could not sign"))?;
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(&signature, &mut text);
        signature.zeroize();
        Ok(SecretText::new(text))
    }
}

/// The bytes between the lines of a PEM file.
fn der(pem: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (_, rest) = pem.split_once("-----BEGIN PRIVATE KEY-----")?;
    let (body, _) = rest.split_once("-----END PRIVATE KEY-----")?;
    let packed: Zeroizing<String> =
        Zeroizing::new(body.chars().filter(|character| !character.is_ascii_whitespace()).collect());
    STANDARD.decode(packed.as_bytes()).ok().map(Zeroizing::new)
}

#[cfg(test)]
pub(super) mod tests {
    use super::{AUDIENCE, Key};
    use crate::stores::ErrorClass;
    use aws_lc_rs::{
        encoding::{AsDer as _, Pkcs8V1Der},
        rsa::KeySize,
        signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey},
    };
    use base64::{
        Engine as _,
        engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
    };
    use serde_json::{Value, json};

    /// A new key, as Google would hand it out.
    pub(in crate::stores::gcp) fn file(more: &Value) -> (Value, RsaKeyPair) {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
        let der: Pkcs8V1Der<'_> = pair.as_der().expect("PKCS 8");
        let pem =
            format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der.as_ref()));
        let mut file = json!({
            "type": "service_account", "client_email": "bot@p.iam.gserviceaccount.com", "private_key_id": "abc",
            "private_key": pem, "token_uri": "https://evil.example/token",
        });
        file.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        (file, pair)
    }

    #[test]
    fn an_assertion_is_signed_for_googles_token_endpoint_whatever_the_file_says() {
        let (file, pair) = file(&json!({}));
        let assertion = Key::new(&file.to_string()).expect("a key").assertion().expect("signed");
        let parts: Vec<&str> = assertion.expose().split('.').collect();
        let [header, claims, signature] = parts[..] else { panic!("a JWT") };
        let [head, body] =
            [header, claims].map(|part| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).expect("b64")));
        assert_eq!(head.expect("JSON"), json!({"alg": "RS256", "typ": "JWT", "kid": "abc"}));
        let body = body.expect("JSON");
        assert_eq!((&body["aud"], &body["iss"]), (&json!(AUDIENCE), &json!("bot@p.iam.gserviceaccount.com")));
        assert_eq!(body["exp"].as_u64().expect("a time") - body["iat"].as_u64().expect("a time"), 3600);
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref())
            .verify(format!("{header}.{claims}").as_bytes(), &URL_SAFE_NO_PAD.decode(signature).expect("b64"))
            .expect("the key's signature");
    }

    #[test]
    fn p4_what_is_no_service_accounts_key_is_refused_without_a_byte_of_it() {
        for (more, part) in [
            (json!({"type": "external_account"}), "workloadIdentityFederation"),
            (json!({"type": "authorized_user"}), "workloadIdentityFederation"),
            (json!({"private_key": "canary"}), "as Google hands it out"),
            (json!({"private_key": "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----"}), "as Google"),
            (json!({"private_key": 7}), "as Google hands it out"),
            (json!({"universe_domain": "canary.example"}), "another universe"),
        ] {
            let error = Key::new(&file(&more).0.to_string()).err().expect("refused");
            assert_eq!(error.class, ErrorClass::Invalid);
            assert!(error.message.contains(part) && !error.message.contains("canary"), "{error}");
        }
        let error = Key::new("canary").err().expect("refused");
        assert!(!error.message.contains("canary"), "{error}");
    }
}
