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
    stores::{Audience, ErrorClass, Identity, Issuer, IssuingLogin, Login, Pace, StoreError},
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
        let caller = Caller::of(account);
        let opened = self.opened_for(resolved, account).await.inspect_err(|error| {
            self.counters.failed(error.class);
            self.note_unopened(resolved, &caller, error);
        });
        let (store, identity) = opened?;
        let lanes = self.lanes(resolved, &store.limits, account, &identity);
        let (tokens, counters) = (Arc::clone(&self.tokens), Arc::clone(&self.counters));
        Ok(Desk { store, lanes, caller, audience: identity.audience, tokens, counters })
    }

    async fn opened_for(
        &self,
        resolved: &ResolvedStore,
        account: &ServiceAccount,
    ) -> Result<(Arc<Store>, Identity), StoreError> {
        let store = self.stores.get(resolved).await?;
        if store.backend.issuer().is_none() {
            let message = "this manager issues no leased credentials: dynamic needs a vault store";
            return Err(StoreError::new(ErrorClass::Invalid, message));
        }
        let identity = store.backend.identity(account)?;
        super::guard::check(&resolved.provider, identity.audience.as_ref())?;
        Ok((store, identity))
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
        let event = self.event(Kind::Login, "");
        let made = async {
            let held = match &self.audience {
                Some(audience) => Some(self.minted(&event, self.tokens.get(&self.caller.account, audience)).await?),
                None => None,
            };
            self.log_in_with(&event, held.as_ref().map(|held| &held.token.text)).await
        };
        traces::Call::of(&event).around(made).await
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
        let event = self.event(Kind::Login, "");
        let made = async {
            // For this login alone, so that no other is made with one that is good
            // for so long; it is wiped on return.
            let token = self.minted(&event, self.tokens.fresh(&self.caller.account, audience, life)).await?;
            let login = self.log_in_with(&event, Some(&token.text)).await?;
            Ok(Holding { login, token_left: Some(token.expires.saturating_duration_since(Instant::now())) })
        };
        traces::Call::of(&event).around(made).await
    }

    /// The token of a login, which is not made without one.
    async fn minted<T>(
        &self,
        event: &Event<'_>,
        token: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        token.await.inspect_err(|error| self.note(event, Some(error), Request::None))
    }

    async fn log_in_with(
        &self,
        event: &Event<'_>,
        token: Option<&SecretText>,
    ) -> Result<Arc<dyn IssuingLogin>, StoreError> {
        let issuer = self.store.backend.issuer().ok_or_else(super::interrupted)?;
        let login = Login { account: &self.caller.account, token, pace: Pace::of(self.lanes.reads.clone()) };
        self.ask_by(&self.lanes.logins, event, issuer.log_in(login)).await.map(Arc::from)
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
        let event = self.event(kind, path);
        traces::Call::of(&event).around(self.ask_by(&self.lanes.reads, &event, request)).await
    }

    async fn ask_by<T>(
        &self,
        lane: &Arc<Lane>,
        event: &Event<'_>,
        request: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let pass = lane.enter().await.inspect_err(|error| self.note(event, Some(error), Request::None))?;
        let (result, sent) = self.counters.timed(event.kind, self.store.provider, &pass, request).await;
        let result = result.flatten();
        self.counters.logins.add(u64::from(event.kind == Kind::Login && sent.is_own()));
        self.note(event, result.as_ref().err(), sent);
        pass.done(result.as_ref().err().map_or(Evidence::Alive, Evidence::of));
        result
    }

    fn event<'a>(&'a self, kind: Kind, path: &'a str) -> Event<'a> {
        let is_own = kind != Kind::Login || self.audience.is_some();
        Event {
            account: is_own.then_some(&self.caller.account),
            remote: Remote::path(path),
            ..self.caller.event(kind, &self.store.name)
        }
    }

    /// What became of it, whether or not it was sent.
    fn note(&self, event: &Event<'_>, failure: Option<&StoreError>, request: Request) {
        let failure = failure.map(|error| error.class);
        if let Some(class) = failure {
            self.counters.failed(class);
        }
        self.counters.audit.note(&Event { failure, request, ..event.clone() });
    }
}
