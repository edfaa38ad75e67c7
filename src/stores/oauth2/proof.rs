//! How the client proves who it is.

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::invalid;
use crate::{
    api::OAuth2Auth,
    secret::SecretText,
    stores::{
        Opening, StoreError,
        form::{Form, encode},
    },
};

const CLIENT_CREDENTIALS: &str = "client_credentials";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Parameters that only the operator writes.
pub(super) fn is_reserved(name: &str) -> bool {
    matches!(
        name,
        "grant_type"
            | "client_id"
            | "client_secret"
            | "client_assertion"
            | "client_assertion_type"
            | "scope"
            | "subject_token"
            | "subject_token_type"
            | "requested_token_type"
    )
}

pub(super) enum Proof {
    /// The ServiceAccount's token as client assertion.
    Assertion { client_id: String, audience: String },
    /// The ServiceAccount's token, exchanged.
    Exchange { client_id: Option<String>, audience: String, requested: Option<String> },
    /// A client secret.
    Secret { client_id: String, secret: SecretText, in_body: bool },
}

impl Proof {
    pub(super) fn new(auth: &OAuth2Auth, opening: &Opening<'_>) -> Result<Self, StoreError> {
        match (&auth.federated_assertion, &auth.token_exchange, &auth.client_secret) {
            (Some(spec), None, None) => {
                Ok(Self::Assertion { client_id: spec.client_id.clone(), audience: spec.audience.clone() })
            }
            (None, Some(spec), None) => Ok(Self::Exchange {
                client_id: spec.client_id.clone(),
                audience: spec.audience.clone(),
                requested: spec.requested_token_type.clone(),
            }),
            (None, None, Some(spec)) => Ok(Self::Secret {
                client_id: spec.client_id.clone(),
                secret: SecretText::new(opening.credentials.text(&spec.secret_ref)?.to_owned()),
                in_body: spec.in_body == Some(true),
            }),
            _ => Err(invalid("auth must name exactly one of federatedAssertion, tokenExchange and clientSecret")),
        }
    }

    /// The audience of the ServiceAccount's token, where one is sent.
    pub(super) fn audience(&self) -> Option<&str> {
        match self {
            Self::Assertion { audience, .. } | Self::Exchange { audience, .. } => Some(audience),
            Self::Secret { .. } => None,
        }
    }

    pub(super) fn client_id(&self) -> Option<&str> {
        match self {
            Self::Assertion { client_id, .. } | Self::Secret { client_id, .. } => Some(client_id),
            Self::Exchange { client_id, .. } => client_id.as_deref(),
        }
    }

    /// Writes the grant and the proof; answers the `Authorization` header.
    pub(super) fn write(&self, form: &mut Form, token: Option<&SecretText>) -> Result<Option<SecretText>, StoreError> {
        let token = || token.ok_or_else(|| invalid("a login needs the ServiceAccount's token"));
        match self {
            Self::Assertion { client_id, .. } => {
                form.put("grant_type", CLIENT_CREDENTIALS);
                form.put("client_id", client_id);
                form.put("client_assertion_type", ASSERTION);
                form.put("client_assertion", token()?.expose());
            }
            Self::Exchange { client_id, requested, .. } => {
                form.put("grant_type", EXCHANGE);
                form.put("subject_token_type", JWT);
                form.put("subject_token", token()?.expose());
                if let Some(requested) = requested {
                    form.put("requested_token_type", requested);
                }
                if let Some(client_id) = client_id {
                    form.put("client_id", client_id);
                }
            }
            Self::Secret { client_id, secret, in_body: true } => {
                form.put("grant_type", CLIENT_CREDENTIALS);
                form.put("client_id", client_id);
                form.put("client_secret", secret.expose());
            }
            Self::Secret { client_id, secret, in_body: false } => {
                form.put("grant_type", CLIENT_CREDENTIALS);
                return Ok(Some(basic(client_id, secret)));
            }
        }
        Ok(None)
    }
}

/// RFC 6749, 2.3.1: both are form-encoded before they become user and password.
fn basic(client_id: &str, secret: &SecretText) -> SecretText {
    let mut pair = Zeroizing::new(Vec::with_capacity(1 + 3 * (client_id.len() + secret.expose().len())));
    encode(client_id, &mut pair);
    pair.push(b':');
    encode(secret.expose(), &mut pair);
    let mut text = String::with_capacity(6 + pair.len().div_ceil(3) * 4);
    text.push_str("Basic ");
    STANDARD.encode_string(pair.as_slice(), &mut text);
    SecretText::new(text)
}
