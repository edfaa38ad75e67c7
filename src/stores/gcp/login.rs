//! Where access tokens come from: the Security Token Service and, for an
//! impersonation, IAM Credentials; the OAuth 2 endpoint for a key; the
//! metadata server for the operator's own identity.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use reqwest::{
    Method, Request, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue},
};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::{
    bare_url, bearer,
    errors::{self, Doing},
    identity::{Identities, Who},
    invalid,
    key::Key,
    unavailable,
};
use crate::{
    api::{GcpStore, GcpTokenEndpoints, TokenEndpoint},
    secret::SecretText,
    stores::{
        DecodedText, Login, Opening, Pace, StoreError,
        form::Form,
        http::{Answer, Pool},
    },
};

pub(super) const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// What is enough to impersonate: the token in between can do nothing else.
const IAM_SCOPE: &str = "https://www.googleapis.com/auth/iam";
const STS: &str = "https://sts.googleapis.com";
const IAM_CREDENTIALS: &str = "https://iamcredentials.googleapis.com";
const OAUTH2: &str = "https://oauth2.googleapis.com";
const METADATA: &str = "http://metadata.google.internal";
const METADATA_FLAVOR: HeaderName = HeaderName::from_static("metadata-flavor");
/// What an impersonation lasts, without a special right.
const IMPERSONATION: Duration = Duration::from_secs(3600);
/// No token of Google's lives longer.
const LONGEST: Duration = Duration::from_secs(12 * 3600);
/// A clock that is off must not make every token look ended.
const SHORTEST: Duration = Duration::from_secs(60);

/// The endpoints that the store's way to log in needs.
pub(super) enum TokenIssuers {
    Exchange { sts: Issuer, iam_credentials: Issuer },
    Key { oauth2: Issuer, key: Box<Key> },
    Ambient { metadata: Issuer },
}

/// One endpoint.
pub(super) struct Issuer {
    url: Url,
    pool: Arc<Pool>,
}

/// An access token.
pub(super) struct Granted {
    pub(super) token: SecretText,
    /// `None`: Google did not say.
    pub(super) expires: Option<Instant>,
}

impl TokenIssuers {
    pub(super) fn new(spec: &GcpStore, opening: &Opening<'_>) -> Result<Self, StoreError> {
        let named = spec.token_endpoints.clone().unwrap_or_default();
        let GcpTokenEndpoints { sts, iam_credentials, oauth2, metadata } = &named;
        if let Some(auth) = &spec.auth.secret_ref {
            let key = Key::new(opening.credentials.text(&auth.secret_access_key_secret_ref)?)?;
            return Ok(Self::Key { oauth2: Issuer::new(oauth2.as_ref(), OAUTH2, opening)?, key: Box::new(key) });
        }
        if spec.auth.ambient.is_some() {
            return Ok(Self::Ambient { metadata: Issuer::local(metadata.as_ref(), METADATA, opening)? });
        }
        Ok(Self::Exchange {
            sts: Issuer::new(sts.as_ref(), STS, opening)?,
            iam_credentials: Issuer::new(iam_credentials.as_ref(), IAM_CREDENTIALS, opening)?,
        })
    }

    pub(super) async fn log_in(
        &self,
        identities: &Identities,
        who: &Who,
        login: &Login<'_>,
    ) -> Result<Granted, StoreError> {
        let pace = &login.pace;
        match (self, identities) {
            (Self::Exchange { sts, iam_credentials }, Identities::Exchange(exchange)) => {
                let token = login.service_account_token()?;
                let scope = if who.impersonated.is_some() { IAM_SCOPE } else { SCOPE };
                let federated = sts.exchange(&exchange.sts_audience, scope, token, pace).await?;
                match &who.impersonated {
                    Some(email) => iam_credentials.impersonate(email, who, &federated.token, pace).await,
                    None => Ok(federated),
                }
            }
            (Self::Key { oauth2, key }, _) => oauth2.use_key(&key.assertion()?, pace).await,
            (Self::Ambient { metadata }, _) => metadata.ask_machine(pace).await,
            (Self::Exchange { .. }, _) => Err(invalid("auth must name exactly one way to log in")),
        }
    }
}

impl Issuer {
    /// Where the store says that it is, else Google's. What the store trusts
    /// for its data (`caBundle`) is not trusted here: tokens of the cloud go
    /// here, and whoever writes a namespace's store must not receive them.
    fn new(named: Option<&TokenEndpoint>, public: &str, opening: &Opening<'_>) -> Result<Self, StoreError> {
        let url = bare_url(named.map_or(public, |named| &named.url), "tokenEndpoints")?;
        let pool = opening.pool(&url, named.and_then(|named| named.ca_bundle.as_deref()))?;
        Ok(Self { url, pool })
    }

    /// The same, never through a proxy: it is the machine itself that answers.
    fn local(named: Option<&TokenEndpoint>, public: &str, opening: &Opening<'_>) -> Result<Self, StoreError> {
        let url = bare_url(named.map_or(public, |named| &named.url), "tokenEndpoints")?;
        let bundle = named.and_then(|named| named.ca_bundle.as_deref());
        let pool = opening.clients.pool(&url, bundle, None, opening.largest_answer)?;
        Ok(Self { url, pool })
    }

    async fn exchange(
        &self,
        audience: &str,
        scope: &str,
        token: &SecretText,
        pace: &Pace,
    ) -> Result<Granted, StoreError> {
        let form = form(&[
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("audience", audience),
            ("scope", scope),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
            ("subject_token", token.expose()),
        ]);
        self.post_form("/v1/token", form, &Doing::Exchange { audience }, pace).await
    }

    async fn use_key(&self, assertion: &SecretText, pace: &Pace) -> Result<Granted, StoreError> {
        let form =
            form(&[("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", assertion.expose())]);
        self.post_form("/token", form, &Doing::UseKey, pace).await
    }

    async fn post_form(&self, path: &str, form: Form, doing: &Doing<'_>, pace: &Pace) -> Result<Granted, StoreError> {
        let mut request = self.request(Method::POST, path)?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        *request.body_mut() = Some(form.into_body());
        let asked = Instant::now();
        let answer = self.sent(request, doing, pace).await?;
        granted(&answer.body, asked)
    }

    async fn impersonate(
        &self,
        email: &str,
        who: &Who,
        federated: &SecretText,
        pace: &Pace,
    ) -> Result<Granted, StoreError> {
        let path = format!("/v1/projects/-/serviceAccounts/{email}:generateAccessToken");
        let mut request = self.request(Method::POST, &path)?;
        request.headers_mut().insert(AUTHORIZATION, bearer(federated)?);
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let wanted = json!({"scope": [SCOPE], "lifetime": format!("{}s", IMPERSONATION.as_secs())});
        *request.body_mut() = Some(wanted.to_string().into());
        let asked = Instant::now();
        let doing = Doing::Impersonate { email, federated: &who.federated };
        let answer = self.sent(request, &doing, pace).await?;
        impersonated(&answer.body, asked)
    }

    async fn ask_machine(&self, pace: &Pace) -> Result<Granted, StoreError> {
        let path = "/computeMetadata/v1/instance/service-accounts/default/token";
        let mut request = self.request(Method::GET, path)?;
        request.headers_mut().insert(METADATA_FLAVOR, HeaderValue::from_static("Google"));
        let asked = Instant::now();
        let answer = self.sent(request, &Doing::AskMachine, pace).await?;
        granted(&answer.body, asked)
    }

    fn request(&self, method: Method, path: &str) -> Result<Request, StoreError> {
        let url = self.url.join(path).map_err(|_| invalid("the token endpoint's URL cannot be built"))?;
        Ok(Request::new(method, url))
    }

    async fn sent(&self, request: Request, doing: &Doing<'_>, pace: &Pace) -> Result<Answer, StoreError> {
        let place = self.url.as_str().trim_end_matches('/');
        let answer = self.pool.send(request, pace).await.map_err(|error| StoreError {
            // The store's own caBundle does not count here.
            message: error
                .message
                .replace("into caBundle", "into tokenEndpoints (caBundle) of a ClusterBotSecretStore"),
            ..error.at_login(place)
        })?;
        if answer.status.is_success() { Ok(answer) } else { Err(errors::refused_login(&answer, doing).at_login(place)) }
    }
}

fn form(fields: &[(&str, &str)]) -> Form {
    let mut form = Form::default();
    for (name, value) in fields {
        form.put(name, value);
    }
    form
}

const NO_TOKEN: &str = "the answer to the login is not one of Google's: check tokenEndpoints and the proxy";

/// The token's life counts from before the question, never from after a slow
/// answer.
pub(super) fn granted(body: &[u8], asked: Instant) -> Result<Granted, StoreError> {
    #[derive(Deserialize)]
    struct Body {
        access_token: DecodedText,
        expires_in: Option<u64>,
    }
    let Body { access_token: DecodedText(token), expires_in } =
        serde_json::from_slice(body).map_err(|_| unavailable(NO_TOKEN))?;
    if token.expose().is_empty() || expires_in == Some(0) {
        return Err(unavailable(NO_TOKEN));
    }
    Ok(Granted { token, expires: expires_in.map(|seconds| asked + Duration::from_secs(seconds).min(LONGEST)) })
}

pub(super) fn impersonated(body: &[u8], asked: Instant) -> Result<Granted, StoreError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        access_token: DecodedText,
        expire_time: jiff::Timestamp,
    }
    let Body { access_token: DecodedText(token), expire_time } =
        serde_json::from_slice(body).map_err(|_| unavailable(NO_TOKEN))?;
    if token.expose().is_empty() {
        return Err(unavailable(NO_TOKEN));
    }
    let left = SystemTime::from(expire_time).duration_since(SystemTime::now()).unwrap_or_default();
    Ok(Granted { token, expires: Some(asked + left.clamp(SHORTEST, IMPERSONATION)) })
}

#[cfg(test)]
mod tests {
    use super::{granted, impersonated};
    use crate::stores::ErrorClass;
    use std::time::Duration;
    use tokio::time::Instant;

    #[test]
    fn a_token_lives_as_long_as_google_says() {
        let now = Instant::now();
        let expires =
            |body: &str| granted(body.as_bytes(), now).map(|granted| granted.expires).map_err(|error| error.class);
        assert_eq!(expires(r#"{"access_token":"t","expires_in":60}"#), Ok(Some(now + Duration::from_secs(60))));
        assert_eq!(expires(r#"{"access_token":"t"}"#), Ok(None));
        assert_eq!(
            expires(r#"{"access_token":"t","expires_in":18446744073709551615}"#),
            Ok(Some(now + Duration::from_secs(12 * 3600)))
        );
        for body in ["", "{}", r#"{"access_token":""}"#, r#"{"access_token":"t","expires_in":0}"#, "<html>"] {
            assert_eq!(expires(body), Err(ErrorClass::Unavailable), "{body}");
        }
        let impersonated = |time: &str| {
            let body = format!(r#"{{"accessToken":"t","expireTime":"{time}"}}"#);
            impersonated(body.as_bytes(), now).map(|granted| granted.expires).map_err(|error| error.class)
        };
        assert_eq!(impersonated("2014-10-02T15:01:23.045123456Z"), Ok(Some(now + Duration::from_secs(60))));
        assert_eq!(impersonated("9999-01-01T00:00:00Z"), Ok(Some(now + Duration::from_secs(3600))));
        assert_eq!(impersonated("soon"), Err(ErrorClass::Unavailable));
    }

    #[test]
    fn p4_an_answer_that_is_no_login_is_an_error_without_any_bytes_of_it() {
        let error = granted(br#"{"access_token":canary}"#, Instant::now()).err().expect("refused");
        assert!(!error.message.contains("canary"), "{error}");
        let error = impersonated(br#"{"accessToken":"canary","expireTime":"canary"}"#, Instant::now());
        assert!(!error.err().expect("refused").message.contains("canary"));
    }
}
