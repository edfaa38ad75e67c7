//! ServiceAccounts' tokens as a manager sees them: checked against the keys
//! that the cluster publishes; and tokens that no manager may accept.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode,
    errors::ErrorKind,
    jwk::{Jwk, JwkSet},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Cluster;

/// What a manager learns from a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BotClaims {
    /// Who issued it.
    pub issuer: String,
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub subject: String,
    /// The ServiceAccount's namespace.
    pub namespace: String,
    /// Its name.
    pub service_account: String,
    /// Whom the token is for.
    pub audiences: Vec<String>,
    /// When it ends, in seconds since 1970.
    pub expires: u64,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenProblem {
    /// It is no JWT of a ServiceAccount.
    Malformed,
    /// No published key made its signature.
    Signature,
    /// Another issuer.
    Issuer,
    /// Another audience, or several.
    Audience,
    /// It has ended.
    Expired,
    /// It has not begun.
    NotYet,
}

/// What the cluster publishes: its issuer and its keys.
#[derive(Clone, Debug)]
pub struct ClusterKeys {
    issuer: String,
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    aud: Audiences,
    exp: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Several(Vec<String>),
}

impl ClusterKeys {
    /// As discovery and the JWKS endpoint of this cluster say.
    pub async fn fetch(cluster: &Cluster) -> Result<Self> {
        let client = cluster.client()?;
        let get = |path: &str| http::Request::get(path).body(Vec::new());
        let discovery: Value = client.request(get("/.well-known/openid-configuration")?).await?;
        let published = client.request_text(get("/openid/v1/jwks")?).await?;
        let keys: JwkSet = serde_json::from_str(&published)?;
        let issuer = discovery["issuer"].as_str().context("discovery names no issuer")?.to_owned();
        Ok(Self { issuer, keys: keys.keys })
    }

    /// The issuer.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Checks signature, issuer, audience (this one alone) and times.
    pub fn verify(&self, token: &str, audience: &str) -> Result<BotClaims, TokenProblem> {
        let header = decode_header(token).map_err(|_| TokenProblem::Malformed)?;
        let key = self.keys.iter().find(|key| key.common.key_id == header.kid).ok_or(TokenProblem::Signature)?;
        let key = DecodingKey::from_jwk(key).map_err(|_| TokenProblem::Signature)?;
        // Only what a cluster signs with: never "none", never a shared secret.
        let algorithm = Some(header.alg).filter(|one| matches!(one, Algorithm::ES256 | Algorithm::RS256));
        let mut validation = Validation::new(algorithm.ok_or(TokenProblem::Signature)?);
        validation.leeway = 0;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let claims = decode::<Claims>(token, &key, &validation).map_err(|error| match error.kind() {
            ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => TokenProblem::Signature,
            ErrorKind::InvalidIssuer => TokenProblem::Issuer,
            ErrorKind::InvalidAudience => TokenProblem::Audience,
            ErrorKind::ExpiredSignature => TokenProblem::Expired,
            ErrorKind::ImmatureSignature => TokenProblem::NotYet,
            _ => TokenProblem::Malformed,
        })?;
        let claims = claims.claims;
        let audiences = match claims.aud {
            Audiences::One(one) => vec![one],
            Audiences::Several(several) => several,
        };
        // A token that others accept too is not this manager's alone.
        if audiences != [audience] {
            return Err(TokenProblem::Audience);
        }
        let account = claims.sub.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
        let (namespace, name) = account.ok_or(TokenProblem::Malformed)?;
        Ok(BotClaims {
            issuer: self.issuer.clone(),
            namespace: namespace.to_owned(),
            service_account: name.to_owned(),
            subject: claims.sub,
            audiences,
            expires: claims.exp,
        })
    }
}

/// The claims of a token for this ServiceAccount that ends in so many seconds;
/// negative: it has ended.
#[must_use]
pub fn claims(issuer: &str, namespace: &str, name: &str, audience: &str, ends_in: i64) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs().cast_signed();
    json!({
        "iss": issuer, "sub": format!("system:serviceaccount:{namespace}:{name}"), "aud": [audience],
        "iat": now - 7200, "nbf": now - 7200, "exp": now + ends_in,
        "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": "00000000-0000-0000-0000-000000000000"}},
    })
}

/// Signs with the cluster's own key what the API server would never issue.
pub(crate) async fn sign(cluster: &Cluster, claims: &Value) -> Result<String> {
    let published = cluster.client()?.request_text(http::Request::get("/openid/v1/jwks").body(Vec::new())?).await?;
    let keys: JwkSet = serde_json::from_str(&published)?;
    let key = keys.keys.first().context("the cluster publishes no key")?;
    let pem = std::fs::read(cluster.folder().join("tokens.key"))?;
    signed(claims, &pem, key.common.key_id.clone())
}

/// The same with a key that nobody publishes, under the key id of one that is.
pub async fn foreign_token(cluster: &Cluster, claims: &Value) -> Result<String> {
    let published = cluster.client()?.request_text(http::Request::get("/openid/v1/jwks").body(Vec::new())?).await?;
    let keys: JwkSet = serde_json::from_str(&published)?;
    let id = keys.keys.first().and_then(|key| key.common.key_id.clone());
    signed(claims, crate::pki::token_signing_key()?.as_bytes(), id)
}

fn signed(claims: &Value, pem: &[u8], id: Option<String>) -> Result<String> {
    let header = Header { kid: id, ..Header::new(Algorithm::RS256) };
    Ok(encode(&header, claims, &EncodingKey::from_rsa_pem(pem)?)?)
}
