//! The endpoints that hand out access tokens.

use std::time::SystemTime;

use axum::http::Method;
use serde_json::{Value, json};

use super::Asked;
use super::answers::{Outcome, Refusal, good, pairs};
use super::iam::{IAM_SCOPE, SCOPE};
use super::state::State;

/// A form's fields, or a JSON body's: STS takes both.
fn field(asked: &Asked, snake: &str, camel: &str) -> String {
    let form = pairs(std::str::from_utf8(&asked.body).unwrap_or_default());
    let json = asked.json();
    let from_json = json[camel].as_str().or(json[snake].as_str()).map(str::to_owned);
    from_json.or_else(|| form.into_iter().find(|(key, _)| key == snake).map(|(_, value)| value)).unwrap_or_default()
}

/// `sts.token`
pub(super) fn exchange(state: &mut State, asked: &Asked) -> Outcome {
    if asked.method != Method::POST {
        return Err(Refusal::not_here());
    }
    let request = |text: &str| Refusal::oauth("invalid_request", text);
    if field(asked, "grant_type", "grantType") != "urn:ietf:params:oauth:grant-type:token-exchange" {
        return Err(Refusal::oauth("unsupported_grant_type", "Invalid grant type."));
    }
    let wanted = field(asked, "requested_token_type", "requestedTokenType");
    if wanted != "urn:ietf:params:oauth:token-type:access_token" {
        return Err(request("Invalid value for \"requested_token_type\"."));
    }
    let sent = field(asked, "subject_token_type", "subjectTokenType");
    if !matches!(sent.as_str(), "urn:ietf:params:oauth:token-type:jwt" | "urn:ietf:params:oauth:token-type:id_token") {
        return Err(request("Invalid value for \"subject_token_type\"."));
    }
    let scopes = field(asked, "scope", "scope");
    let scope = [SCOPE, IAM_SCOPE].into_iter().find(|known| scopes.split(' ').any(|scope| scope == *known));
    let scope = scope.ok_or_else(|| Refusal::oauth("invalid_scope", "Invalid OAuth scope."))?;
    let audience = field(asked, "audience", "audience");
    let pool = audience.starts_with("//iam.googleapis.com/projects/") && audience.contains("/providers/");
    if !pool && !audience.starts_with("identitynamespace:") {
        let text =
            "Invalid value for \"audience\". This value should be the full resource name of the Identity Provider.";
        return Err(request(text));
    }
    let principal = state.iam.federate(&audience, &field(asked, "subject_token", "subjectToken"))?;
    let (token, seconds) = state.iam.issue_for(principal, scope);
    good(json!({
        "access_token": token, "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer", "expires_in": seconds,
    }))
}

/// `iamcredentials.projects.serviceAccounts.generateAccessToken`
pub(super) fn impersonate(state: &mut State, asked: &Asked) -> Outcome {
    let email = asked.path.strip_prefix("/v1/projects/-/serviceAccounts/");
    let email = email.and_then(|rest| rest.strip_suffix(":generateAccessToken"));
    let Some(email) = email.filter(|_| asked.method == Method::POST) else { return Err(Refusal::not_here()) };
    let email = pairs(email).into_iter().next().map(|(email, _)| email).unwrap_or_default();
    let principal = state.iam.principal(&asked.headers)?;
    let wanted = asked.json();
    let scoped = wanted["scope"].as_array().is_some_and(|scopes| scopes.iter().any(|scope| scope == SCOPE));
    if !scoped {
        return Err(Refusal::invalid("Scope field is required."));
    }
    let lifetime = wanted["lifetime"].as_str().unwrap_or("3600s");
    let seconds = lifetime.strip_suffix('s').and_then(|number| number.parse::<u64>().ok());
    if !seconds.is_some_and(|seconds| (1..=3600).contains(&seconds)) {
        return Err(Refusal::invalid("The access token lifetime cannot exceed 3600s."));
    }
    if !state.iam.accounts.contains(&email) {
        return Err(Refusal::rpc(404, "NOT_FOUND", "Not found; Gaia id not found for email"));
    }
    if !state.iam.impersonations.contains(&(principal, email.clone())) {
        return Err(Refusal::Rpc {
            status: 403,
            code: "PERMISSION_DENIED",
            message: "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).".into(),
            reason: Some(("IAM_PERMISSION_DENIED", "iam.googleapis.com")),
        });
    }
    let (token, seconds) = state.iam.issue(format!("serviceAccount:{email}"));
    let ends = jiff::Timestamp::try_from(SystemTime::now() + std::time::Duration::from_secs(seconds));
    let ends = ends.map(|ends| ends.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default();
    good(json!({"accessToken": token, "expireTime": ends}))
}

/// The OAuth 2 token endpoint, for keys (RFC 7523).
pub(super) fn use_key(state: &mut State, asked: &Asked) -> Outcome {
    if asked.method != Method::POST {
        return Err(Refusal::not_here());
    }
    if field(asked, "grant_type", "") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
        return Err(Refusal::oauth("unsupported_grant_type", "Invalid grant_type"));
    }
    let principal = state.iam.signer(&field(asked, "assertion", ""))?;
    let (token, seconds) = state.iam.issue(principal);
    good(json!({"access_token": token, "token_type": "Bearer", "expires_in": seconds}))
}

/// The metadata server's token of the machine's account.
pub(super) fn machine(state: &mut State, asked: &Asked) -> Outcome {
    let flavor = asked.headers.get("metadata-flavor").is_some_and(|flavor| flavor == "Google");
    if !flavor || asked.headers.contains_key("x-forwarded-for") {
        return Err(Refusal::rpc(403, "PERMISSION_DENIED", "Missing Metadata-Flavor:Google header."));
    }
    let token = asked.path == "/computeMetadata/v1/instance/service-accounts/default/token";
    match (token, state.iam.machine.clone()) {
        (true, Some(email)) => {
            let (token, seconds) = state.iam.issue(format!("serviceAccount:{email}"));
            good(json!({"access_token": token, "expires_in": seconds, "token_type": "Bearer"}))
        }
        _ => Ok(super::answers::Answer(404, Value::Null)),
    }
}
