//! What Vault's refusals mean.
//!
//! The class comes from the status. Of Vault's own words only known phrases
//! are repeated, as written here: whatever else an answer holds stays out.

use serde::Deserialize;

use super::{invalid, unavailable};
use crate::stores::{ErrorClass, StoreError, http::Answer};

/// What was asked of Vault.
pub(super) enum Doing<'a> {
    LogIn {
        mount: &'a str,
        check: &'a str,
    },
    FindMount {
        role: &'a str,
    },
    Read {
        policy_path: &'a str,
        role: &'a str,
    },
    List {
        policy_path: &'a str,
        role: &'a str,
    },
    /// A new value is written, or the engine asked to make one.
    Write {
        policy_path: &'a str,
        role: &'a str,
    },
    /// Credentials are issued, renewed or revoked.
    Lease,
}

/// Vault's and OpenBao's phrases, and what to tell people.
const KNOWN: &[(&str, &str)] = &[
    ("invalid role name", "there is no such role"),
    ("could not be found", "there is no such role"),
    ("service account name not authorized", "the role is not bound to this ServiceAccount's name"),
    ("namespace not authorized", "the role is not bound to this namespace"),
    ("invalid audience", "the role expects another audience"),
    ("aud claim", "the role expects another audience"),
    ("error validating token", "the token does not meet the role's conditions, such as its audience"),
    ("sub claim", "the role expects another subject"),
    ("claim", "the token's claims are not what the role expects"),
    ("token is expired", "the token has expired: check the clocks"),
    ("invalid role or secret id", "the role id or the secret id is not valid (any more)"),
    ("invalid role_id", "there is no AppRole with this role id"),
    ("invalid role id", "there is no AppRole with this role id"),
    ("invalid secret", "the secret id is not valid (any more): put a new one into its Secret"),
    ("client certificate must be supplied", "no client certificate reached Vault: nothing before it may end TLS"),
    ("no client certificate supplied", "no client certificate reached Vault: nothing before it may end TLS"),
    ("login certificate", "the certificate meets no certificate role's conditions"),
    ("invalid certificate", "the certificate meets no certificate role's conditions"),
    ("could not load configuration", "the auth method is not configured"),
    ("lookup failed", "Vault could not have the token reviewed: check the auth method's reviewer"),
    ("permission denied", "permission denied"),
];

#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    errors: Vec<String>,
}

/// The error for an answer that is no success.
pub(super) fn refusal(answer: &Answer, doing: &Doing<'_>) -> StoreError {
    let said = serde_json::from_slice::<Refusal>(&answer.body).unwrap_or_default().errors.join(" ").to_lowercase();
    match answer.status.as_u16() {
        429 => StoreError::new(ErrorClass::Throttled, "Vault asks for patience (429)").after(answer.retry_after),
        503 if said.contains("sealed") => unavailable("Vault is sealed: unseal it"),
        503 if said.contains("initialized") => unavailable("Vault is not initialized: initialize and unseal it"),
        status @ 300..=399 => unavailable(format!(
            "it redirects elsewhere ({status}), which is not followed: write the address of the active node"
        )),
        status @ (408 | 412 | 472 | 473 | 500..) => match doing {
            // Some versions answer 500 where a role does not fit.
            Doing::LogIn { .. } if status == 500 && known(&said).is_some() => denied_login(&said, doing),
            // Its storage or a plugin failed on this path; a dead one says 502
            // to 504.
            Doing::Read { .. } | Doing::Write { .. } | Doing::Lease if status == 500 => {
                unavailable("Vault answered 500").after(answer.retry_after).about_one()
            }
            _ => unavailable(format!("Vault answered {status}")).after(answer.retry_after),
        },
        status => client_error(status, &said, doing),
    }
}

fn client_error(status: u16, said: &str, doing: &Doing<'_>) -> StoreError {
    match (doing, status) {
        (Doing::LogIn { mount, .. }, 404 | 405) => {
            let message = format!("no auth method of this kind is mounted at auth/{mount}");
            StoreError::new(ErrorClass::LoginDenied, message)
        }
        (Doing::LogIn { .. }, _) => denied_login(said, doing),
        // The lookup refuses with these words where the login is good but has
        // no right at all below the mount, or where nothing is mounted.
        (Doing::FindMount { role }, 403) if said.contains("preflight capability check") => StoreError::new(
            ErrorClass::Denied,
            format!("nothing is mounted there, or no policy of {role} grants anything below the mount"),
        ),
        (Doing::FindMount { role }, 403) => StoreError::new(
            ErrorClass::Denied,
            format!("{role} may not look up the mount: set path and version in the store, or grant read below it"),
        )
        .ending_session(),
        (Doing::Read { policy_path, role }, 403) => StoreError::new(
            ErrorClass::Denied,
            format!("permission denied: grant \"read\" on \"{policy_path}\" in a policy of {role}"),
        )
        .ending_session(),
        (Doing::List { policy_path, role }, 403) => StoreError::new(
            ErrorClass::Denied,
            format!("permission denied: grant \"list\" on \"{policy_path}\" in a policy of {role}"),
        )
        .ending_session(),
        (Doing::Write { policy_path, role }, 403) => StoreError::new(
            ErrorClass::Denied,
            format!("permission denied: grant \"update\" on \"{policy_path}\" in a policy of {role}"),
        )
        .ending_session(),
        (Doing::Write { .. }, 400) if said.contains("check-and-set") => {
            StoreError::new(ErrorClass::Conflict, "somebody else has written a new version since it was read")
        }
        // A new mount of version 2, for its first moments.
        (_, 400) if said.contains("upgrading") => unavailable("the key/value engine is being upgraded to version 2"),
        (Doing::FindMount { .. }, 404) => {
            StoreError::new(ErrorClass::Missing, "nothing is mounted there: correct remoteRef.key or the store's path")
        }
        (Doing::Lease, _) => invalid(format!(
            "Vault refuses the request as it is ({status}): check dynamic.path, method and parameters, and the store's namespace"
        )),
        _ => invalid(format!(
            "Vault refuses the request as it is ({status}): check the key, path, version and namespace"
        )),
    }
}

fn known(said: &str) -> Option<&'static str> {
    KNOWN.iter().find(|(phrase, _)| said.contains(phrase)).map(|(_, meaning)| *meaning)
}

fn denied_login(said: &str, doing: &Doing<'_>) -> StoreError {
    let why = known(said).unwrap_or("Vault does not say why");
    let check = match doing {
        Doing::LogIn { mount, check } => format!(": check that auth/{mount} is mounted, and {check}"),
        _ => String::new(),
    };
    StoreError::new(ErrorClass::LoginDenied, format!("login refused, {why}{check}"))
}
