//! A token from a Secret: used as it is, and kept alive where it may be.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::{
    answers::{self, Doing},
    lease::Ask,
    login::{ENDLESS, LoggedIn},
    unavailable,
    wire::Wire,
};
use crate::{
    secret::SecretText,
    stores::{ErrorClass, Pace, StoreError},
};

const NOT_VAULTS: &str = "the answer about the token is not one of Vault's: check address";

#[derive(Deserialize)]
struct Found {
    data: Token,
}

/// What a token says of itself.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Token {
    ttl: u64,
    creation_ttl: u64,
    period: Option<u64>,
    renewable: Option<bool>,
    expire_time: Option<serde::de::IgnoredAny>,
    accessor: String,
}

#[derive(Deserialize)]
struct Renewed {
    auth: Option<Granted>,
}

#[derive(Deserialize)]
struct Granted {
    lease_duration: u64,
}

/// Looks at the token, and renews it once a third of its life is over.
pub(super) async fn adopt(wire: &Wire, token: &SecretText, pace: &Pace) -> Result<LoggedIn, StoreError> {
    let asked = Instant::now();
    let answer = wire.send(&Ask::get("auth/token/lookup-self"), Some(token), pace).await?;
    match answer.status.as_u16() {
        200 => {}
        401 | 403 => {
            let message = "the store's token is refused: it has ended, or lacks \"read\" on \"auth/token/lookup-self\", \
                           which the policy default grants; put a good one into its Secret";
            return Err(StoreError::new(ErrorClass::LoginDenied, message));
        }
        _ => {
            let doing = Doing::LogIn { mount: "token", check: "that the token has not ended" };
            return Err(answers::refusal(&answer, &doing));
        }
    }
    let data = looked_up(&answer.body)?;
    let mut life = data.life();
    if data.is_to_be_renewed() {
        // Where that fails it is used for as long as it lives.
        life = renew(wire, token, pace).await.map_or(life, |renewed| renewed.max(life));
    }
    if life.is_zero() {
        return Err(StoreError::new(
            ErrorClass::LoginDenied,
            "the store's token has ended: put a good one into its Secret",
        ));
    }
    let token = SecretText::new(token.expose().to_owned());
    Ok(LoggedIn { token, expires: asked + life, accessor: data.accessor })
}

/// Parse errors are dropped: they may quote the token, which the answer repeats.
pub(super) fn looked_up(body: &[u8]) -> Result<Token, StoreError> {
    let Found { data } = serde_json::from_slice(body).map_err(|_| unavailable(NOT_VAULTS))?;
    Ok(data)
}

async fn renew(wire: &Wire, token: &SecretText, pace: &Pace) -> Option<Duration> {
    let answer = wire.send(&Ask::post("auth/token/renew-self", json!({})), Some(token), pace).await.ok()?;
    granted(&answer.body).filter(|_| answer.status.is_success())
}

/// For how long a token was renewed.
pub(super) fn granted(body: &[u8]) -> Option<Duration> {
    let renewed: Renewed = serde_json::from_slice(body).ok()?;
    Some(Duration::from_secs(renewed.auth?.lease_duration).min(ENDLESS))
}

impl Token {
    pub(super) fn life(&self) -> Duration {
        // Root tokens and their like.
        if self.ttl == 0 && self.expire_time.is_none() {
            return ENDLESS;
        }
        Duration::from_secs(self.ttl).min(ENDLESS)
    }

    pub(super) fn is_to_be_renewed(&self) -> bool {
        let whole = self.period.unwrap_or(0).max(self.creation_ttl);
        self.renewable == Some(true) && self.ttl.saturating_mul(3) < whole.saturating_mul(2)
    }
}

#[cfg(test)]
mod tests {
    use super::{ENDLESS, Token};
    use std::time::Duration;

    fn token(text: &str) -> Token {
        serde_json::from_str(text).expect("a token")
    }

    #[test]
    fn a_token_is_renewed_once_a_third_of_its_life_is_over_and_only_where_it_may_be() {
        for (text, renewed) in [
            (r#"{"ttl":3000,"creation_ttl":3600,"renewable":true,"expire_time":"x"}"#, false),
            (r#"{"ttl":2399,"creation_ttl":3600,"renewable":true,"expire_time":"x"}"#, true),
            (r#"{"ttl":2399,"creation_ttl":3600,"renewable":false,"expire_time":"x"}"#, false),
            (r#"{"ttl":3000,"creation_ttl":3600,"period":7200,"renewable":true,"expire_time":"x"}"#, true),
            (r#"{"ttl":0,"creation_ttl":0,"renewable":true,"expire_time":null}"#, false),
        ] {
            assert_eq!(token(text).is_to_be_renewed(), renewed, "{text}");
        }
        assert_eq!(token(r#"{"ttl":0,"expire_time":null}"#).life(), ENDLESS);
        assert_eq!(token(r#"{"ttl":60,"expire_time":"x"}"#).life(), Duration::from_secs(60));
        assert_eq!(token(r#"{"ttl":0,"expire_time":"x"}"#).life(), Duration::ZERO);
    }
}
