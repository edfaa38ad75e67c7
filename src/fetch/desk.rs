//! Logins that are not shared: each leased credential hangs on one of its own.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Fetcher, Lanes, ResolvedStore, ServiceAccount, audited::Caller, breaker::Evidence, counters::FetchCounters,
    lane::Lane, opened::Store, token::Tokens,
};
use crate::{
    audit::{Event, Kind, Remote, Request},
    secret::SecretText,
    stores::{Audience, ErrorClass, Issuer, IssuingLogin, Login, Pace, StoreError},
    traces,
};

/// One ServiceAccount at one store that issues.
pub struct Desk {
    store: Arc<Store>,
    lanes: Lanes,
    caller: Caller,
    audience: Option<Audience>,
    tokens: Arc<Tokens>,
    counters: Arc<FetchCounters>,
}

impl Fetcher {
    /// Where this account is issued credentials.
    ///
    /// # Errors
    /// As one read's, and [`ErrorClass::Invalid`] where this manager issues
    /// none.
    pub async fn desk(&self, resolved: &ResolvedStore, account: &ServiceAccount) -> Result<Desk, StoreError> {
        let store = self.stores.get(resolved).await?;
        if store.backend.issuer().is_none() {
            let message = "this manager issues no leased credentials: dynamic needs a vault store";
            return Err(StoreError::new(ErrorClass::Invalid, message));
        }
        let identity = store.backend.identity(account)?;
        super::guard::check(&resolved.provider, identity.audience.as_ref())?;
        let lanes = self.lanes(resolved, &store.limits, account, &identity);
        let (tokens, counters) = (Arc::clone(&self.tokens), Arc::clone(&self.counters));
        Ok(Desk { store, lanes, caller: Caller::of(account), audience: identity.audience, tokens, counters })
    }
}

/// A login that is to hold a credential.
pub struct Holding {
    /// The login.
    pub login: Arc<dyn IssuingLogin>,
    /// How long the ServiceAccount's token is good for that it was made with,
    /// where it is renewed no longer than that.
    pub token_left: Option<Duration>,
}

impl Desk {
    /// A new login, for a short time.
    ///
    /// # Errors
    /// As one read's.
    pub async fn log_in(&self) -> Result<Arc<dyn IssuingLogin>, StoreError> {
        let held = match &self.audience {
            Some(audience) => Some(self.tokens.get(&self.caller.account, audience).await?),
            None => None,
        };
        self.log_in_with(held.as_ref().map(|held| &held.token.text)).await
    }

    /// A new login that is to hold a credential for as long as possible.
    ///
    /// # Errors
    /// As one read's.
    pub async fn log_in_to_hold(&self) -> Result<Holding, StoreError> {
        let life = self.store.backend.issuer().and_then(Issuer::token_life);
        let Some((audience, life)) = self.audience.as_ref().zip(life) else {
            return Ok(Holding { login: self.log_in().await?, token_left: None });
        };
        // For this login alone, so that no other is made with one that is good
        // for so long; it is wiped on return.
        let token = self.tokens.fresh(&self.caller.account, audience, life).await?;
        let login = self.log_in_with(Some(&token.text)).await?;
        Ok(Holding { login, token_left: Some(token.expires.saturating_duration_since(Instant::now())) })
    }

    async fn log_in_with(&self, token: Option<&SecretText>) -> Result<Arc<dyn IssuingLogin>, StoreError> {
        let issuer = self.store.backend.issuer().ok_or_else(super::interrupted)?;
        let login = Login { account: &self.caller.account, token, pace: Pace::of(self.lanes.reads.clone()) };
        let result = self.ask_by(&self.lanes.logins, Kind::Login, "", issuer.log_in(login)).await;
        result.map(Arc::from)
    }

    /// One request in its turn, within the store's deadline: of which kind, and about
    /// what this path issues, if that is known. What was asked may have been done even
    /// where this is an error.
    ///
    /// # Errors
    /// The request's own, and those of a lane.
    pub async fn ask<T>(
        &self,
        kind: Kind,
        path: &str,
        request: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.ask_by(&self.lanes.reads, kind, path, request).await
    }

    async fn ask_by<T>(
        &self,
        lane: &Arc<Lane>,
        kind: Kind,
        path: &str,
        request: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let is_own = kind != Kind::Login || self.audience.is_some();
        let event = Event {
            account: is_own.then_some(&self.caller.account),
            remote: Remote::path(path),
            ..self.caller.event(kind, &self.store.name)
        };
        let note = |failure: Option<&StoreError>, request| {
            let failure = failure.map(|error| error.class);
            self.counters.audit.note(&Event { failure, request, ..event.clone() });
        };
        let asked = async {
            let pass = lane.enter().await.inspect_err(|error| note(Some(error), Request::None))?;
            let (result, sent) = self.counters.timed(kind, self.store.provider, &pass, request).await;
            let result = result.flatten();
            self.counters.logins.add(u64::from(kind == Kind::Login && sent.is_own()));
            note(result.as_ref().err(), sent);
            pass.done(result.as_ref().err().map_or(Evidence::Alive, Evidence::of));
            result.inspect_err(|error| self.counters.failed(error.class))
        };
        traces::Call::of(&event).around(asked).await
    }
}
