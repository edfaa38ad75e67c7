//! OAuth 2 issuers.

#![allow(rustdoc::bare_urls, reason = "kubectl explain shows these texts, where Markdown is noise")]

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::SecretKeyRef;

/// An OAuth 2 issuer, of which short-lived access tokens are had.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OAuth2Store {
    /// The token endpoint, such as https://login.example/oauth2/token.
    #[serde(rename = "tokenURL")]
    #[schemars(length(min = 8, max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^/?#@ ]+(/[^?# ]*)?$')")
        .message("write a URL without credentials, query and fragment, such as https://login.example/oauth2/token"))]
    pub token_url: String,
    /// The scopes that remoteRef.key "default" asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub scopes: Vec<String>,
    /// Further parameters of the token request, such as audience or resource.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = Rule::new("self.all(k, !(k in ['grant_type', 'client_id', 'client_secret', 'client_assertion', 'client_assertion_type', 'scope', 'subject_token', 'subject_token_type', 'requested_token_type']))")
        .message("this parameter is the operator's to write: use the fields of auth and scopes"))]
    pub parameters: BTreeMap<String, String>,
    /// How the client proves who it is.
    pub auth: OAuth2Auth,
    /// Certificates to trust, PEM or base64 of PEM. The public roots when not
    /// set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 131_072))]
    pub ca_bundle: Option<String>,
}

/// How the client proves who it is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.federatedAssertion), has(self.tokenExchange), has(self.clientSecret)].filter(set, set).size() == 1")
    .message("write exactly one way to log in: federatedAssertion, tokenExchange or clientSecret"))]
pub struct OAuth2Auth {
    /// The ServiceAccount's token as client assertion (RFC 7523), for issuers
    /// that take federated ones: Entra ID, Keycloak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub federated_assertion: Option<OAuth2Assertion>,
    /// The ServiceAccount's token, exchanged (RFC 8693).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_exchange: Option<OAuth2Exchange>,
    /// A client secret from a Secret, as the last resort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<OAuth2ClientSecret>,
}

/// The ServiceAccount's token as client assertion.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OAuth2Assertion {
    /// The client id.
    #[serde(rename = "clientID")]
    #[schemars(length(min = 1, max = 512))]
    pub client_id: String,
    /// The audience of the token that is sent.
    #[schemars(length(min = 1, max = 512))]
    pub audience: String,
}

/// Token exchange.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OAuth2Exchange {
    /// The client id, where the issuer wants one.
    #[serde(default, rename = "clientID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub client_id: Option<String>,
    /// The audience of the token that is sent.
    #[schemars(length(min = 1, max = 512))]
    pub audience: String,
    /// The type of token to ask for; the issuer's choice when not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub requested_token_type: Option<String>,
}

/// A client secret.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OAuth2ClientSecret {
    /// The client id.
    #[serde(rename = "clientID")]
    #[schemars(length(min = 1, max = 512))]
    pub client_id: String,
    /// The client secret.
    pub secret_ref: SecretKeyRef,
    /// true: the secret goes into the request's body, for issuers that do not
    /// take the Authorization header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_body: Option<bool>,
}

impl OAuth2Auth {
    pub(super) fn secret_refs(&self) -> Vec<&SecretKeyRef> {
        self.client_secret.iter().map(|auth| &auth.secret_ref).collect()
    }
}
