//! Leased credentials: engines that issue, and the leases and tokens that what
//! they issue hangs on.
//!
//! A lease dies with the login token that made it, so each credential has a
//! login of its own. Its accessor is what an operator that was restarted still
//! has of it.

mod ask;
pub(super) mod gone;
pub(super) mod issued;

use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

pub(super) use self::ask::Ask;
use self::{
    gone::{is_dead_token, is_gone, was_gone},
    issued::{issued, seconds},
};
use super::{
    Vault,
    answers::{self, Doing},
    invalid,
    paths::clean,
    unavailable,
    wire::Wire,
};
use crate::{
    secret::SecretText,
    stores::{ErrorClass, IssueRequest, Issued, Issuer, IssuingLogin, Login, Pace, Revoked, StoreError, http::Answer},
};

/// The longest token that is asked of the API server, which may give less.
const LONGEST_TOKEN: Duration = Duration::from_secs(24 * 3600);
const NOT_VAULTS: &str = "the answer is not one of Vault's: check address";

#[async_trait]
impl Issuer for Vault {
    fn token_life(&self) -> Option<Duration> {
        self.login.is_renewed_with_its_token().then_some(LONGEST_TOKEN)
    }

    async fn log_in(&self, login: Login<'_>) -> Result<Box<dyn IssuingLogin>, StoreError> {
        let pace = login.pace;
        if self.login.is_a_stored_token() {
            return Err(invalid(
                "dynamic needs a login of its own for each credential, which a token from a Secret is not: log in with kubernetes, jwt, appRole or cert",
            ));
        }
        let asked = Instant::now();
        let logged_in = self.login.send(&self.wire, login.token, &pace).await?;
        if logged_in.accessor.is_empty() {
            let role = &self.login.role;
            return Err(invalid(format!(
                "{role} gives batch tokens, which cannot be renewed or revoked: set its token_type to service for dynamic credentials"
            )));
        }
        Ok(Box::new(Holder {
            wire: std::sync::Arc::clone(&self.wire),
            role: self.login.role.clone(),
            token: logged_in.token,
            accessor: logged_in.accessor,
            life: logged_in.expires.saturating_duration_since(asked),
            asked,
            pace,
        }))
    }
}

/// A login that holds a credential.
struct Holder {
    wire: std::sync::Arc<Wire>,
    role: String,
    token: SecretText,
    accessor: String,
    asked: Instant,
    life: Duration,
    pace: Pace,
}

impl Holder {
    async fn ask(&self, ask: &Ask) -> Result<Answer, StoreError> {
        self.wire.send(ask, Some(&self.token), &self.pace).await
    }

    fn refusal(&self, answer: &Answer, ask: &Ask, capability: &str) -> StoreError {
        let (status, role) = (answer.status.as_u16(), &self.role);
        if status == 403 {
            return StoreError::new(
                ErrorClass::Denied,
                format!("permission denied: grant \"{capability}\" on \"{}\" in a policy of {role}", ask.path),
            );
        }
        answers::refusal(answer, &Doing::Lease)
    }

    /// A renewal's answer: the seconds that were granted.
    async fn renewed(&self, ask: &Ask, of_lease: bool) -> Result<Duration, StoreError> {
        let answer = self.ask(ask).await?;
        match answer.status.as_u16() {
            200..=299 => {}
            // Known to be gone, unlike where a policy refuses.
            _ if is_gone(&answer) => {
                return Err(StoreError::new(ErrorClass::Missing, "it is not there any more"));
            }
            _ => return Err(self.refusal(&answer, ask, "update")),
        }
        granted(&answer.body, of_lease)
    }

    async fn revoked(&self, ask: &Ask) -> Result<Revoked, StoreError> {
        let answer = self.ask(ask).await?;
        match answer.status.as_u16() {
            200..=299 if was_gone(&answer) => Ok(Revoked::Before),
            200..=299 => Ok(Revoked::Now),
            // What is not there needs no revoking.
            _ if is_gone(&answer) => Ok(Revoked::Before),
            _ => Err(self.refusal(&answer, ask, "update")),
        }
    }
}

/// For how long a lease, or the login that holds it, was renewed.
pub(super) fn granted(body: &[u8], of_lease: bool) -> Result<Duration, StoreError> {
    let renewed: Renewed = serde_json::from_slice(body).map_err(|_| unavailable(NOT_VAULTS))?;
    let granted = if of_lease { Some(renewed.lease_duration) } else { renewed.auth.map(|auth| auth.lease_duration) };
    granted.map(seconds).ok_or_else(|| unavailable(NOT_VAULTS))
}

#[derive(Deserialize)]
struct Renewed {
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    auth: Option<RenewedAuth>,
}

#[derive(Deserialize)]
struct RenewedAuth {
    #[serde(default)]
    lease_duration: u64,
}

/// Whether a path may lead to what Vault runs itself with. It may begin with
/// namespaces, of which nothing tells how many, so only a last segment may
/// have one of these names.
fn is_vaults_own(path: &str) -> bool {
    let before_last = path.rsplit_once('/').map_or(path, |(before, _)| before);
    before_last.split('/').any(|segment| ["sys", "auth", "identity", "cubbyhole"].contains(&segment))
}

#[async_trait]
impl IssuingLogin for Holder {
    fn provider(&self) -> &'static str {
        "vault"
    }

    fn accessor(&self) -> &str {
        &self.accessor
    }

    fn expires(&self) -> Instant {
        self.asked + self.life
    }

    fn life(&self) -> Duration {
        self.life
    }

    async fn issue(&self, request: &IssueRequest) -> Result<Issued, StoreError> {
        let path = clean(&request.path, "dynamic.path")?;
        if is_vaults_own(&path) {
            return Err(invalid(
                "dynamic.path must be one of a secrets engine, such as database/creds/bot: sys, auth, identity and \
                 cubbyhole are none, in a namespace neither",
            ));
        }
        let ask = match &request.parameters {
            None => Ask::get(path),
            Some(parameters) => Ask::post(path, json!(parameters)),
        };
        let answer = self.ask(&ask).await?;
        match answer.status.as_u16() {
            200 => issued(&answer.body, Timestamp::now()),
            404 => {
                let message =
                    format!("nothing answers at {}: correct dynamic.path, or mount the engine there", ask.path);
                Err(StoreError::new(ErrorClass::Missing, message))
            }
            405 => Err(invalid("this path takes another method: set dynamic.method")),
            _ => Err(self.refusal(&answer, &ask, if ask.body.is_some() { "update" } else { "read" })),
        }
    }

    async fn renew(&self, asked: Duration) -> Result<Duration, StoreError> {
        self.renewed(&Ask::post("auth/token/renew-self", json!({ "increment": asked.as_secs() })), false).await
    }

    async fn renew_other(&self, accessor: &str, asked: Duration) -> Result<Duration, StoreError> {
        let body = json!({ "accessor": accessor, "increment": asked.as_secs() });
        self.renewed(&Ask::post("auth/token/renew-accessor", body), false).await
    }

    async fn renew_lease(&self, lease: &str, asked: Duration) -> Result<Duration, StoreError> {
        let body = json!({ "lease_id": lease, "increment": asked.as_secs() });
        self.renewed(&Ask::post("sys/leases/renew", body), true).await
    }

    async fn revoke(&self) -> Result<Revoked, StoreError> {
        let ask = Ask::post("auth/token/revoke-self", json!({}));
        let answer = self.ask(&ask).await?;
        match answer.status.as_u16() {
            200..=299 => Ok(Revoked::Now),
            _ if is_dead_token(&answer) => Ok(Revoked::Before),
            _ => Err(self.refusal(&answer, &ask, "update")),
        }
    }

    async fn revoke_other(&self, accessor: &str) -> Result<Revoked, StoreError> {
        self.revoked(&Ask::post("auth/token/revoke-accessor", json!({ "accessor": accessor }))).await
    }

    async fn revoke_lease(&self, lease: &str) -> Result<Revoked, StoreError> {
        // By path, so that a policy can grant it for one engine's leases alone.
        // Otherwise it is but noted, and answered before it is done.
        let path = format!("sys/leases/revoke/{}", clean(lease, "the lease's id")?);
        self.revoked(&Ask::post(path, json!({ "sync": true }))).await
    }
}

#[cfg(test)]
mod tests {
    use super::is_vaults_own;

    #[test]
    fn p5_a_dynamic_path_leads_to_no_part_of_vault_itself_in_a_namespace_neither() {
        for path in [
            "sys",
            "auth/token/create",
            "identity/oidc/token/bot",
            "cubbyhole/bot",
            "team-a/auth/token/create",
            "team-a/sys/policies/acl/x",
            "team-a/desk/b/identity/entity",
            "team-a/cubbyhole/bot",
        ] {
            assert!(is_vaults_own(path), "{path}");
        }
        for path in ["database/creds/bot", "team-a/pki/issue/auth", "system/creds/bot", "authority/issue/sys"] {
            assert!(!is_vaults_own(path), "{path}");
        }
    }
}
