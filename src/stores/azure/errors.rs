//! What the refusals of Key Vault and Entra ID mean.
//!
//! They are sorted by the manager's own code. Of an answer nothing is repeated
//! but such codes, in words written here.

use reqwest::Url;
use serde::Deserialize;

use super::{identity::Named, invalid, unavailable};
use crate::stores::{ErrorClass, StoreError, http::Answer};

/// Who is asked.
pub(super) enum Party {
    /// Entra ID, for a login.
    Entra {
        named: Named,
        /// The ServiceAccount's, where its token is sent.
        subject: Option<String>,
        audience: Option<String>,
        resource: String,
    },
    /// The machine's own token service.
    Machine,
    /// A vault.
    Vault { client: String, resource: String },
}

/// The error for an answer that is no success, to a read or a write.
pub(super) fn refusal(answer: &Answer, party: &Party, url: &Url, writes: bool) -> StoreError {
    match party {
        Party::Entra { named, subject, audience, resource } => {
            let subject = subject.as_deref().unwrap_or("the bot");
            entra(answer, &Asked { named, subject, audience: audience.as_deref().unwrap_or_default(), resource })
        }
        Party::Machine => machine(answer),
        Party::Vault { client, .. } => vault(answer, client, url, writes),
    }
}

/// The vault asks for a login to something else.
pub(super) fn other_resource(resource: &str) -> StoreError {
    invalid(format!(
        "the vault's challenge does not name {resource}, so that no login is sent to it: check vaultUrl and \
         environmentType"
    ))
}

#[derive(Default, Deserialize)]
struct EntraRefusal {
    #[serde(default)]
    error_codes: Vec<u32>,
}

/// Who wanted to log in, and to what.
struct Asked<'a> {
    named: &'a Named,
    subject: &'a str,
    audience: &'a str,
    resource: &'a str,
}

fn entra(answer: &Answer, asked: &Asked<'_>) -> StoreError {
    let said: Option<EntraRefusal> = serde_json::from_slice(&answer.body).ok();
    let codes = said.unwrap_or_default().error_codes;
    for code in &codes {
        if let Some(error) = outage(*code, answer) {
            return error;
        }
        if let Some(why) = why_refused(*code, asked) {
            return denied(format!("Entra ID refuses the login, {why} (AADSTS{code})"));
        }
    }
    let Named { tenant, client } = asked.named;
    let status = answer.status.as_u16();
    match status {
        429 => throttled("Entra ID asks for patience (429)", answer),
        300..=399 => unavailable(format!(
            "Entra ID redirects elsewhere ({status}), which is not followed: check authority.url and proxy"
        )),
        408 | 500.. => unavailable(format!("Entra ID answered {status}")).after(answer.retry_after),
        _ => match codes.first() {
            Some(code) => denied(format!(
                "Entra ID refuses the login of client {client} in tenant {tenant}: look up AADSTS{code}"
            )),
            // No answer of Entra ID's at all.
            None if status == 404 => invalid("there is no Entra ID at this address (404): check authority.url"),
            None => denied(format!("Entra ID refuses the login of client {client} in tenant {tenant} ({status})")),
        },
    }
}

/// What a code says in words of ours; `None` where it is not known here.
fn why_refused(code: u32, asked: &Asked<'_>) -> Option<String> {
    let Asked { named: Named { tenant, client }, subject, audience, resource } = asked;
    Some(match code {
        700_016 => format!("tenant {tenant} has no application {client}: correct the client id or tenantId"),
        700_211 => format!(
            "no federated credential of client {client} names this cluster's issuer: add one for it and subject \
             {subject}"
        ),
        700_212 => format!(
            "no federated credential of client {client} has audience {audience}: correct it there, or \
             auth.workloadIdentity.audience"
        ),
        700_213 => format!("no federated credential of client {client} names subject {subject}: add one"),
        70_021 => format!(
            "no federated credential of client {client} fits: add one for this cluster's issuer, subject \
             {subject} and audience {audience}"
        ),
        700_024 => "the ServiceAccount's token is not valid at this time: check the clocks".to_owned(),
        50_027 | 700_027 | 5_000_225 => {
            "the ServiceAccount's token is not signed by a key that the cluster's issuer publishes".to_owned()
        }
        50_166 | 501_661 => {
            "it cannot fetch the keys of this cluster's issuer: they must be published at a public URL".to_owned()
        }
        90_002 | 900_023 => {
            format!("there is no tenant {tenant} in this cloud: correct tenantId or environmentType")
        }
        7_000_215 => {
            format!("the client secret of {client} is wrong: write its value, not its id, into the Secret")
        }
        7_000_222 => format!("the client secret of {client} has expired: make a new one"),
        7_000_112 => format!("application {client} is disabled: enable it"),
        500_011 | 500_014 => format!("tenant {tenant} does not know {resource}: correct environmentType"),
        50_034 | 700_003 => {
            format!("tenant {tenant} does not know the identity {client}: correct the client id or tenantId")
        }
        50_105 | 501_051 => format!("client {client} is not assigned to what it asks for: assign it in the tenant"),
        53_003 | 530_031 => format!(
            "a conditional access policy keeps client {client} out: except it there, or allow the operator's address"
        ),
        _ => return None,
    })
}

/// Codes that waiting may cure.
fn outage(code: u32, answer: &Answer) -> Option<StoreError> {
    match code {
        50_196 => Some(throttled("Entra ID takes these logins for a loop and asks for patience (AADSTS50196)", answer)),
        90_006 | 90_012 | 90_024 | 90_033 => {
            Some(unavailable(format!("Entra ID is not well (AADSTS{code})")).after(answer.retry_after))
        }
        _ => None,
    }
}

fn machine(answer: &Answer) -> StoreError {
    match answer.status.as_u16() {
        400 => denied(
            "this machine does not have the managed identity: assign it, or correct auth.ambient.clientId".to_owned(),
        ),
        429 => throttled("the machine's token service asks for patience (429)", answer),
        status @ (401 | 403) => denied(format!("the machine's token service refuses the login ({status})")),
        status => unavailable(format!("the machine's token service answered {status}")).after(answer.retry_after),
    }
}

#[derive(Default, Deserialize)]
struct VaultRefusal {
    #[serde(default)]
    error: VaultError,
}

#[derive(Default, Deserialize)]
struct VaultError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    innererror: Option<Inner>,
}

#[derive(Default, Deserialize)]
struct Inner {
    #[serde(default)]
    code: String,
}

fn vault(answer: &Answer, client: &str, url: &Url, writes: bool) -> StoreError {
    let said: Option<VaultRefusal> = serde_json::from_slice(&answer.body).ok();
    let VaultError { code, message, innererror } = said.unwrap_or_default().error;
    let inner = innererror.unwrap_or_default().code;
    let (kind, permission) = match url.path() {
        "/secrets" => ("secrets", "list"),
        path if path.starts_with("/keys/") => ("keys", "get"),
        _ if writes => ("secrets", "set"),
        _ => ("secrets", "get"),
    };
    match (answer.status.as_u16(), code.as_str()) {
        (_, "Throttled") | (429, _) => throttled("Key Vault asks for patience (429)", answer),
        (401, _) => unauthorized(&message).ending_session(),
        (_, "SecretDisabled" | "KeyDisabled") => disabled(kind),
        (403, _) => forbidden(&inner, client, kind, permission),
        (_, "SecretNotFound" | "KeyNotFound" | "CertificateNotFound") => StoreError::new(
            ErrorClass::Missing,
            "it is not in the vault, or the version is not: write it, recover it if it was deleted, or correct \
             remoteRef",
        ),
        (409, _) => StoreError::new(
            ErrorClass::Missing,
            "it is deleted, or being recovered: recover it and wait until that is done",
        ),
        (404, _) => invalid("there is no Key Vault at this address (404): check vaultUrl"),
        (status @ 300..=399, _) => {
            unavailable(format!("the vault redirects elsewhere ({status}), which is not followed: check vaultUrl"))
        }
        // One object's alone, maybe; a dead vault says 502 to 504.
        (500, _) => unavailable("Key Vault answered 500").after(answer.retry_after).about_one(),
        (status @ (408 | 501..), _) => unavailable(format!("Key Vault answered {status}")).after(answer.retry_after),
        (status, _) if writes => invalid(format!(
            "Key Vault refuses the new value as it is ({status}): check its length and the vault's policies"
        )),
        (status, _) => {
            invalid(format!("Key Vault refuses the request as it is ({status}): check remoteRef and vaultUrl"))
        }
    }
}

fn unauthorized(message: &str) -> StoreError {
    let why = if message.contains("AKV10032") {
        "the vault belongs to another tenant: correct tenantId"
    } else if message.contains("AKV10022") {
        "the vault expects tokens for another resource: check environmentType"
    } else {
        "the vault does not accept the login: check that tenantId is the vault's own tenant"
    };
    denied(why.to_owned())
}

fn disabled(kind: &str) -> StoreError {
    let one = if kind == "keys" { "key" } else { "secret" };
    StoreError::new(ErrorClass::Missing, format!("this {one}, or its version, is disabled: enable it"))
}

fn forbidden(inner: &str, client: &str, kind: &str, permission: &str) -> StoreError {
    let role = match (kind, permission) {
        ("keys", _) => "Key Vault Crypto User",
        (_, "set") => "Key Vault Secrets Officer",
        _ => "Key Vault Secrets User",
    };
    let message = match inner {
        "SecretDisabled" | "KeyDisabled" => return disabled(kind),
        "ForbiddenByFirewall" | "ForbiddenByConnection" => {
            "the vault's firewall keeps the operator out: allow its address, or reach the vault by a private endpoint"
                .to_owned()
        }
        "ForbiddenByRbac" => {
            format!("permission denied: give {client} the role \"{role}\" on the vault or on this object")
        }
        "AccessDenied" | "ForbiddenByPolicy" => format!(
            "permission denied: grant {client} \"{permission}\" on {kind} in the vault's access policy, or the role \
             \"{role}\""
        ),
        _ => format!("permission denied: {client} may not {permission} {kind} of this vault, see its access control"),
    };
    StoreError::new(ErrorClass::Denied, message)
}

fn denied(message: String) -> StoreError {
    StoreError::new(ErrorClass::LoginDenied, message)
}

fn throttled(message: &str, answer: &Answer) -> StoreError {
    StoreError::new(ErrorClass::Throttled, message).after(answer.retry_after)
}
