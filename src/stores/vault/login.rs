//! Login with a ServiceAccount's token or a stored credential.

use std::time::Duration;

use reqwest::Identity;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;
use vaultrs::api::auth::{
    approle::requests::LoginWithApproleRequest, kubernetes::requests::LoginWithKubernetesRequest,
    oidc::requests::JWTLoginRequest,
};
use zeroize::{Zeroize, Zeroizing};

use super::{
    answers::{self, Doing},
    invalid,
    lease::Ask,
    login_token,
    paths::clean,
    unavailable,
    wire::Wire,
};
use crate::{
    api::{VaultAppRoleAuth, VaultAuth, VaultCertAuth},
    secret::SecretText,
    stores::{Credentials, DecodedText, ErrorClass, Pace, StoreError},
};

/// What a token without an end is taken for: such tokens are left behind at
/// every new login, so there should be few.
pub(super) const ENDLESS: Duration = Duration::from_secs(30 * 24 * 3600);
const DEFAULT_AUDIENCE: &str = "vault";

enum Method {
    Kubernetes {
        role: String,
        audience: String,
    },
    Jwt {
        role: String,
        audience: String,
    },
    AppRole {
        role_id: SecretText,
        secret_id: SecretText,
    },
    /// The connection shows the certificate.
    Cert {
        role: Option<String>,
    },
    /// As it is.
    Token(SecretText),
}

/// How a store logs in.
pub(super) struct Login {
    method: Method,
    mount: String,
    /// Whose policies count, for messages: "role bots".
    pub(super) role: String,
}

/// A login that succeeded.
pub(super) struct LoggedIn {
    pub(super) token: SecretText,
    pub(super) expires: Instant,
    /// Names the token without being one. Empty for batch tokens.
    pub(super) accessor: String,
}

impl Login {
    pub(super) fn new(auth: &VaultAuth, credentials: &Credentials) -> Result<Self, StoreError> {
        let audience = |asked: &Option<String>| asked.clone().unwrap_or_else(|| DEFAULT_AUDIENCE.to_owned());
        let ways = [&auth.kubernetes.is_some(), &auth.jwt.is_some(), &auth.app_role.is_some(), &auth.cert.is_some()];
        let ways = ways.into_iter().chain([&auth.token_secret_ref.is_some()]).filter(|set| **set).count();
        if ways != 1 {
            return Err(invalid("auth must name exactly one way: kubernetes, jwt, appRole, cert or tokenSecretRef"));
        }
        let (method, mount, field, role) = if let Some(spec) = &auth.kubernetes {
            let method = Method::Kubernetes { role: spec.role.clone(), audience: audience(&spec.audience) };
            let mount = spec.mount_path.as_deref().unwrap_or("kubernetes");
            (method, mount, "auth.kubernetes.mountPath", format!("role {}", spec.role))
        } else if let Some(spec) = &auth.jwt {
            let method = Method::Jwt { role: spec.role.clone(), audience: audience(&spec.audience) };
            (method, spec.path.as_deref().unwrap_or("jwt"), "auth.jwt.path", format!("role {}", spec.role))
        } else if let Some(spec) = &auth.app_role {
            let method = app_role(spec, credentials)?;
            (method, spec.path.as_deref().unwrap_or("approle"), "auth.appRole.path", "the store's AppRole".to_owned())
        } else if let Some(spec) = &auth.cert {
            let role =
                spec.role.as_ref().map_or_else(|| "the certificate's role".to_owned(), |role| format!("role {role}"));
            let method = Method::Cert { role: spec.role.clone() };
            (method, spec.path.as_deref().unwrap_or("cert"), "auth.cert.path", role)
        } else if let Some(reference) = &auth.token_secret_ref {
            let token = SecretText::new(credentials.text(reference)?.to_owned());
            (Method::Token(token), "token", "auth.tokenSecretRef", "the store's token".to_owned())
        } else {
            return Err(invalid("auth must name exactly one way to log in"));
        };
        Ok(Self { method, mount: clean(mount.trim_matches('/'), field)?, role })
    }

    /// The audience of the ServiceAccount's token, where that is logged in
    /// with.
    pub(super) fn audience(&self) -> Option<&str> {
        match &self.method {
            Method::Kubernetes { audience, .. } | Method::Jwt { audience, .. } => Some(audience),
            Method::AppRole { .. } | Method::Cert { .. } | Method::Token(_) => None,
        }
    }

    /// Whether every login is the same token.
    pub(super) fn is_a_stored_token(&self) -> bool {
        matches!(self.method, Method::Token(_))
    }

    /// Whether a login is renewed only while the token is good that it was made
    /// with: `OpenBao` asks the API server about it at each renewal of a login by
    /// `auth.kubernetes`, and about none by `auth.jwt`.
    pub(super) fn is_renewed_with_its_token(&self) -> bool {
        matches!(self.method, Method::Kubernetes { .. })
    }

    pub(super) async fn send(
        &self,
        wire: &Wire,
        token: Option<&SecretText>,
        pace: &Pace,
    ) -> Result<LoggedIn, StoreError> {
        let mount = self.mount.clone();
        let jwt = || {
            let token = token.ok_or_else(|| invalid("a login needs the ServiceAccount's token"))?;
            Ok::<_, StoreError>(token.expose().to_owned())
        };
        // The token's validity counts from before the question, never from
        // after a slow answer.
        let asked = Instant::now();
        let answer = match &self.method {
            Method::Kubernetes { role, .. } => {
                let mut endpoint = LoginWithKubernetesRequest { mount, role: role.clone(), jwt: jwt()? };
                let answer = wire.send(&endpoint, None, pace).await;
                endpoint.jwt.zeroize();
                answer
            }
            Method::Jwt { role, .. } => {
                let mut endpoint = JWTLoginRequest { mount, role: Some(role.clone()), jwt: jwt()? };
                let answer = wire.send(&endpoint, None, pace).await;
                endpoint.jwt.zeroize();
                answer
            }
            Method::AppRole { role_id, secret_id } => {
                let (role_id, secret_id) = (role_id.expose().to_owned(), secret_id.expose().to_owned());
                let mut endpoint = LoginWithApproleRequest { mount, role_id, secret_id };
                let answer = wire.send(&endpoint, None, pace).await;
                endpoint.role_id.zeroize();
                endpoint.secret_id.zeroize();
                answer
            }
            Method::Cert { role } => {
                let body = role.as_ref().map_or_else(|| json!({}), |role| json!({ "name": role }));
                wire.send(&Ask::post(format!("auth/{mount}/login"), body), None, pace).await
            }
            Method::Token(token) => return login_token::adopt(wire, token, pace).await,
        }?;
        if !answer.status.is_success() {
            return Err(answers::refusal(&answer, &Doing::LogIn { mount: &self.mount, check: &self.check() }));
        }
        logged_in(&answer.body, asked)
    }

    /// What to look at where a login is refused.
    fn check(&self) -> String {
        match &self.method {
            Method::Kubernetes { role, audience } | Method::Jwt { role, audience } => format!(
                "that its role {role} exists, is bound to this ServiceAccount and namespace, and expects audience {audience}"
            ),
            Method::AppRole { .. } => {
                "that the role id and the secret id are those of one AppRole and the secret id has not ended".to_owned()
            }
            Method::Cert { role: Some(role) } => {
                format!("that its certificate role {role} exists and trusts the store's client certificate")
            }
            Method::Cert { role: None } => {
                "that one of its certificate roles trusts the store's client certificate".to_owned()
            }
            Method::Token(_) => "that the token has not ended".to_owned(),
        }
    }
}

fn app_role(spec: &VaultAppRoleAuth, credentials: &Credentials) -> Result<Method, StoreError> {
    let role_id = match (&spec.role_id, &spec.role_ref) {
        (Some(role_id), None) => role_id,
        (None, Some(reference)) => credentials.text(reference)?,
        _ => return Err(invalid("auth.appRole must name one of roleId and roleRef")),
    };
    let secret_id = SecretText::new(credentials.text(&spec.secret_ref)?.to_owned());
    Ok(Method::AppRole { role_id: SecretText::new(role_id.to_owned()), secret_id })
}

/// The client certificate with its key, which stays in memory.
pub(super) fn client_certificate(spec: &VaultCertAuth, credentials: &Credentials) -> Result<Identity, StoreError> {
    let (chain, key) = (credentials.text(&spec.client_cert)?, credentials.text(&spec.secret_ref)?);
    let mut pem = Zeroizing::new(Vec::with_capacity(chain.len() + key.len() + 2));
    for part in [chain, key] {
        pem.extend_from_slice(part.as_bytes());
        pem.push(b'\n');
    }
    // Its error may quote what it read.
    Identity::from_pem(&pem).map_err(|_| {
        let (chain, key) = (&spec.client_cert, &spec.secret_ref);
        invalid(format!(
            "the client certificate cannot be read: key {} of Secret {} must hold it with its chain, and key {} of \
             Secret {} its private key, both as PEM and the key without a password",
            chain.key, chain.name, key.key, key.name
        ))
    })
}

#[derive(Deserialize)]
struct Granted {
    auth: Option<Auth>,
}

#[derive(Deserialize)]
struct Auth {
    client_token: DecodedText,
    lease_duration: u64,
    #[serde(default)]
    accessor: String,
}

pub(super) fn logged_in(body: &[u8], asked: Instant) -> Result<LoggedIn, StoreError> {
    let granted: Granted = serde_json::from_slice(body)
        .map_err(|_| unavailable("the answer to the login is not one of Vault's: check address"))?;
    let auth = granted.auth.ok_or_else(|| unavailable("Vault answered the login without a token: check address"))?;
    let DecodedText(token) = auth.client_token;
    if token.expose().is_empty() {
        let message = "Vault asks for a second factor, which a bot does not have: use another role";
        return Err(StoreError::new(ErrorClass::LoginDenied, message));
    }
    let life = match auth.lease_duration {
        0 => ENDLESS,
        seconds => Duration::from_secs(seconds).min(ENDLESS),
    };
    Ok(LoggedIn { token, expires: asked + life, accessor: auth.accessor })
}

#[cfg(test)]
mod tests {
    use super::{ENDLESS, logged_in};
    use crate::stores::ErrorClass;
    use std::time::Duration;
    use tokio::time::Instant;

    fn answer(token: &str, seconds: u64) -> String {
        format!(r#"{{"auth":{{"client_token":"{token}","lease_duration":{seconds},"renewable":true}}}}"#)
    }

    #[test]
    fn a_login_lives_as_long_as_vault_says_and_a_month_where_it_says_for_ever() {
        let now = Instant::now();
        let expires = |seconds| match logged_in(answer("s.x", seconds).as_bytes(), now) {
            Ok(login) => login.expires,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(expires(60), now + Duration::from_secs(60));
        assert_eq!(expires(0), now + ENDLESS);
        assert_eq!(expires(u64::MAX), now + ENDLESS);
    }

    #[test]
    fn an_answer_without_a_token_is_an_error_without_any_bytes_of_it() {
        let class = |body: &str| logged_in(body.as_bytes(), Instant::now()).err().expect("refused").class;
        assert_eq!(class(&answer("", 60)), ErrorClass::LoginDenied);
        assert_eq!(class(r#"{"auth":null}"#), ErrorClass::Unavailable);
        let error = logged_in(br#"{"auth":{"client_token":hunter2"#, Instant::now()).err().expect("refused");
        assert!(!error.message.contains("hunter2"), "{error}");
    }
}
