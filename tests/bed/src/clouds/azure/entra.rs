//! Entra ID's token endpoint, and the machine's token service.

use axum::response::Response;
use serde_json::json;

use super::answers::{aadsts, answer as json_answer, form, now};
use super::state::{Client, State};
use super::{Asked, LOGIN, RESOURCE};
use crate::tokens::{ClusterKeys, TokenProblem};

const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Why a login is refused: status, OAuth error, code and words.
type Refusal = (u16, &'static str, u32, &'static str);

pub(super) fn answer(asked: &Asked, state: &mut State, keys: &ClusterKeys) -> Response {
    let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
    match (asked.method.as_str(), path.as_slice()) {
        ("GET", [tenant, "v2.0", ".well-known", "openid-configuration"]) => discovery(tenant, state),
        ("POST", [tenant, "oauth2", "v2.0", "token"]) => token(tenant, asked, state, keys),
        _ => json_answer(404, &json!({"error": "not_found"})),
    }
}

fn discovery(tenant: &str, state: &State) -> Response {
    if !state.tenants.contains_key(tenant) {
        return no_tenant();
    }
    let base = format!("https://{LOGIN}/{tenant}");
    json_answer(
        200,
        &json!({
            "issuer": format!("{base}/v2.0"),
            "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
            "token_endpoint": format!("{base}/oauth2/v2.0/token"),
            "device_authorization_endpoint": format!("{base}/oauth2/v2.0/devicecode"),
            "jwks_uri": format!("{base}/discovery/v2.0/keys"),
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
            "response_types_supported": ["code"],
            "subject_types_supported": ["pairwise"],
        }),
    )
}

fn no_tenant() -> Response {
    aadsts(400, "invalid_request", 90_002, "Tenant not found. Check to make sure you have the correct tenant ID.")
}

fn token(tenant: &str, asked: &Asked, state: &mut State, keys: &ClusterKeys) -> Response {
    let fields = form(&asked.body);
    let field = |name: &str| fields.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    let Some(clients) = state.tenants.get(tenant) else { return no_tenant() };
    let client = field("client_id");
    let Some(known) = clients.get(client) else {
        let words = "Application was not found in the directory.";
        return aadsts(400, "unauthorized_client", 700_016, words);
    };
    if field("grant_type") != "client_credentials" {
        return aadsts(400, "unsupported_grant_type", 70_003, "The grant type is not supported.");
    }
    let proved = if field("client_assertion_type") == ASSERTION {
        by_assertion(known, field("client_assertion"), keys)
    } else {
        by_secret(known, field("client_secret"))
    };
    if let Err((status, error, code, words)) = proved {
        return aadsts(status, error, code, words);
    }
    let Some(resource) = field("scope").strip_suffix("/.default").filter(|resource| *resource == RESOURCE) else {
        let words = "The resource principal was not found in the tenant.";
        return aadsts(400, "invalid_resource", 500_011, words);
    };
    let token = state.log_in(tenant, client, resource);
    let life = state.login_life;
    let body = json!({"token_type": "Bearer", "expires_in": life, "ext_expires_in": life, "access_token": token});
    json_answer(200, &body)
}

/// The credentials are looked through as Entra ID does: issuer, then audience,
/// then subject; and whatever fits must be signed and of this moment.
fn by_assertion(client: &Client, assertion: &str, keys: &ClusterKeys) -> Result<(), Refusal> {
    const INVALID: &str = "invalid_client";
    let here = client.federated.iter().filter(|credential| credential.issuer == keys.issuer());
    let mut last =
        (401, INVALID, 700_211, "No matching federated identity record found for presented assertion issuer.");
    for credential in here {
        match keys.verify(assertion, &credential.audience) {
            Ok(claims) if claims.subject == credential.subject => return Ok(()),
            Ok(_) => {
                last = (401, INVALID, 700_213, "No matching federated identity record found for presented subject.");
            }
            Err(TokenProblem::Issuer) => {}
            Err(TokenProblem::Audience) => {
                last = (401, INVALID, 700_212, "No matching federated identity record found for presented audience.");
            }
            Err(TokenProblem::Expired | TokenProblem::NotYet) => {
                return Err((401, INVALID, 700_024, "Client assertion is not within its valid time range."));
            }
            Err(TokenProblem::Signature) => {
                return Err((401, INVALID, 700_027, "Client assertion failed signature validation."));
            }
            Err(TokenProblem::Malformed) => return Err((400, "invalid_request", 50_027, "Invalid JWT token.")),
        }
    }
    Err(last)
}

fn by_secret(client: &Client, secret: &str) -> Result<(), Refusal> {
    if !secret.is_empty() && client.secrets.iter().any(|known| known == secret) {
        return Ok(());
    }
    Err((401, "invalid_client", 7_000_215, "Invalid client secret provided."))
}

pub(super) fn machine(asked: &Asked, state: &mut State) -> Response {
    let Some((tenant, client, header)) = state.machine.clone() else {
        return json_answer(400, &json!({"error": "invalid_request", "error_description": "Identity not found"}));
    };
    if asked.identity_header.as_deref() != Some(header.as_str()) {
        return json_answer(401, &json!({"error": "unauthorized_client"}));
    }
    if asked.query("client_id").is_some_and(|named| named != client) {
        return json_answer(400, &json!({"error": "invalid_request", "error_description": "Identity not found"}));
    }
    let resource = asked.query("resource").unwrap_or_default().to_owned();
    let token = state.log_in(&tenant, &client, &resource);
    let ends = (now() + state.login_life).to_string();
    let body = json!({"access_token": token, "expires_on": ends, "resource": resource, "token_type": "Bearer"});
    json_answer(200, &body)
}
