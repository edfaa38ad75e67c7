//! Who is who, and who may do what.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use anyhow::Result;
use axum::http::HeaderMap;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answers::Refusal;
use crate::tokens::{ClusterKeys, TokenProblem};

/// The scope that every service takes.
pub(super) const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// The scope that IAM Credentials takes as well.
pub(super) const IAM_SCOPE: &str = "https://www.googleapis.com/auth/iam";

/// Roles on projects and secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// roles/secretmanager.secretAccessor
    Accessor,
    /// roles/secretmanager.secretVersionAdder
    Adder,
    /// roles/secretmanager.viewer
    Viewer,
    /// roles/secretmanager.admin
    Admin,
}

impl Role {
    fn holds(self, permission: &str) -> bool {
        let last = permission.rsplit('.').next().unwrap_or_default();
        match self {
            Self::Accessor => permission == "secretmanager.versions.access",
            Self::Adder => permission == "secretmanager.versions.add",
            Self::Viewer => matches!(last, "get" | "list"),
            Self::Admin => true,
        }
    }
}

/// What STS trusts.
struct Provider {
    audiences: Vec<String>,
    namespace: Option<String>,
    kind: Kind,
}

enum Kind {
    Federation { pool: String },
    Gke { pool: String },
}

/// An access token.
pub(super) struct Issued {
    principal: String,
    iam_only: bool,
    until: Instant,
}

struct Key {
    email: String,
    verifier: DecodingKey,
}

/// All of it.
pub(super) struct Iam {
    keys: ClusterKeys,
    providers: BTreeMap<String, Provider>,
    pub(super) accounts: BTreeSet<String>,
    account_keys: BTreeMap<String, Key>,
    pub(super) machine: Option<String>,
    pub(super) impersonations: BTreeSet<(String, String)>,
    pub(super) grants: Vec<(String, Role, String)>,
    pub(super) tokens: HashMap<String, Issued>,
    pub(super) token_life: Duration,
    issued: u64,
    random: RandomState,
}

#[derive(Deserialize)]
struct Assertion {
    iss: String,
    scope: String,
    iat: u64,
    exp: u64,
}

impl Iam {
    pub(super) fn new(keys: ClusterKeys) -> Self {
        Self {
            keys,
            providers: BTreeMap::new(),
            accounts: BTreeSet::new(),
            account_keys: BTreeMap::new(),
            machine: None,
            impersonations: BTreeSet::new(),
            grants: Vec::new(),
            tokens: HashMap::new(),
            token_life: Duration::from_secs(3600),
            issued: 0,
            random: RandomState::new(),
        }
    }

    pub(super) fn provider(&mut self, name: &str, audiences: &[&str]) {
        let mut audiences: Vec<String> = audiences.iter().map(|one| (*one).to_owned()).collect();
        if audiences.is_empty() {
            audiences = vec![format!("https:{name}"), name.to_owned()];
        }
        let pool = name.trim_start_matches("//iam.googleapis.com/").split("/providers/").next().unwrap_or_default();
        let kind = Kind::Federation { pool: pool.to_owned() };
        self.providers.insert(name.to_owned(), Provider { audiences, namespace: None, kind });
    }

    pub(super) fn condition(&mut self, provider: &str, namespace: &str) {
        if let Some(provider) = self.providers.get_mut(provider) {
            provider.namespace = Some(namespace.to_owned());
        }
    }

    pub(super) fn gke_cluster(&mut self, project: &str, location: &str, name: &str) {
        let pool = format!("{project}.svc.id.goog");
        let cluster =
            format!("https://container.googleapis.com/v1/projects/{project}/locations/{location}/clusters/{name}");
        let provider =
            Provider { audiences: vec![pool.clone()], namespace: None, kind: Kind::Gke { pool: pool.clone() } };
        self.providers.insert(format!("identitynamespace:{pool}:{cluster}"), provider);
    }

    /// The principal that a ServiceAccount's token stands for.
    pub(super) fn federate(&self, audience: &str, token: &str) -> Result<String, Refusal> {
        let provider = self.providers.get(audience).ok_or_else(|| {
            Refusal::oauth(
                "invalid_target",
                "The target service indicated by the \"audience\" parameters is invalid. This might either be because \
                 the pool or provider is disabled or deleted or because it doesn't exist.",
            )
        })?;
        let mut problem = TokenProblem::Audience;
        let mut claims = None;
        for audience in &provider.audiences {
            match self.keys.verify(token, audience) {
                Ok(found) => claims = Some(found),
                Err(TokenProblem::Audience) => {}
                Err(other) => problem = other,
            }
        }
        let grant = |text: &str| Refusal::oauth("invalid_grant", text);
        let claims = claims.ok_or_else(|| match problem {
            TokenProblem::Malformed => Refusal::oauth("invalid_request", "Invalid value for \"subject_token\"."),
            TokenProblem::Signature => grant("Invalid ID Token signature."),
            TokenProblem::Issuer => grant("The issuer in ID Token does not match the expected ones."),
            TokenProblem::Audience => grant("The audience in ID Token does not match the expected audience."),
            TokenProblem::Expired => grant("ID Token is stale to sign-in."),
            TokenProblem::NotYet => grant("ID Token is issued in the future."),
        })?;
        if provider.namespace.as_ref().is_some_and(|namespace| *namespace != claims.namespace) {
            return Err(Refusal::oauth(
                "unauthorized_client",
                "The given credential is rejected by the attribute condition.",
            ));
        }
        Ok(match &provider.kind {
            Kind::Federation { pool } => format!("principal://iam.googleapis.com/{pool}/subject/{}", claims.subject),
            Kind::Gke { pool } => {
                format!("serviceAccount:{pool}[{}/{}]", claims.namespace, claims.service_account)
            }
        })
    }

    pub(super) fn new_key(&mut self, email: &str) -> Result<Value> {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        let id = format!("{:016x}", self.random.hash_one((email, self.account_keys.len())));
        let verifier = DecodingKey::from_rsa_pem(pair.public_key_pem().as_bytes())?;
        self.account_keys.insert(id.clone(), Key { email: email.to_owned(), verifier });
        Ok(json!({
            "type": "service_account", "project_id": "testbed", "private_key_id": id,
            "private_key": pair.serialize_pem(), "client_email": email, "client_id": "1",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": "https://oauth2.googleapis.com/token", "universe_domain": "googleapis.com",
        }))
    }

    pub(super) fn delete_keys(&mut self, email: &str) {
        self.account_keys.retain(|_, key| key.email != email);
    }

    /// The account that signed an assertion.
    pub(super) fn signer(&self, assertion: &str) -> Result<String, Refusal> {
        let grant = |text: &str| Refusal::oauth("invalid_grant", text);
        let header = decode_header(assertion).map_err(|_| grant("Invalid JWT: cannot be parsed."))?;
        let key = header.kid.and_then(|id| self.account_keys.get(&id));
        let key = key.ok_or_else(|| grant("Invalid JWT Signature."))?;
        let mut validation = Validation::new(Algorithm::RS256);
        validation.leeway = 0;
        validation.set_audience(&["https://oauth2.googleapis.com/token"]);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        let claims = decode::<Assertion>(assertion, &key.verifier, &validation)
            .map_err(|_| grant("Invalid JWT Signature."))?
            .claims;
        if claims.exp.saturating_sub(claims.iat) > 3600 {
            return Err(grant(
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.",
            ));
        }
        if claims.iss != key.email || !self.accounts.contains(&key.email) {
            return Err(grant("Invalid grant: account not found"));
        }
        if claims.scope != SCOPE {
            return Err(Refusal::oauth("invalid_scope", "Invalid OAuth scope."));
        }
        Ok(format!("serviceAccount:{}", key.email))
    }

    /// A new access token, and for how many seconds.
    pub(super) fn issue(&mut self, principal: String) -> (String, u64) {
        self.issue_for(principal, SCOPE)
    }

    /// The same, of this scope.
    pub(super) fn issue_for(&mut self, principal: String, scope: &str) -> (String, u64) {
        self.issued += 1;
        let token = format!("ya29.{}.{:016x}", self.issued, self.random.hash_one(self.issued));
        let until = Instant::now() + self.token_life;
        self.tokens.insert(token.clone(), Issued { principal, iam_only: scope == IAM_SCOPE, until });
        (token, self.token_life.as_secs())
    }

    /// Whose access token it is, while it lives.
    pub(super) fn holder(&self, token: &str) -> Option<String> {
        let issued = self.tokens.get(token)?;
        (Instant::now() < issued.until).then(|| issued.principal.clone())
    }

    /// Who asks, by the access token.
    pub(super) fn principal(&self, headers: &HeaderMap) -> Result<String, Refusal> {
        bearer(headers).and_then(|token| self.holder(token)).ok_or_else(Refusal::unauthenticated)
    }

    /// Whether the access token is of a scope that Secret Manager takes.
    pub(super) fn scope_suffices(&self, headers: &HeaderMap) -> bool {
        bearer(headers).and_then(|token| self.tokens.get(token)).is_some_and(|issued| !issued.iam_only)
    }

    /// Whether a principal has a right on a resource or on what it lies below.
    pub(super) fn may(&self, principal: &str, permission: &str, resource: &str) -> bool {
        self.grants.iter().any(|(holder, role, on)| {
            let below = resource.strip_prefix(on.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            holder == principal && below && role.holds(permission)
        })
    }
}

/// The token in the Authorization header.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")
}
