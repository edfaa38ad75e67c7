//! Tokens of ServiceAccounts.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use super::{ServiceAccount, counters::FetchCounters, interrupted, locked};
use crate::{
    secret::SecretText,
    stores::{Audience, ErrorClass, StoreError},
    traces,
};

/// TokenRequests under way at once, over all stores: each costs the API server
/// a signature.
const IN_FLIGHT: usize = 32;
const DEADLINE: Duration = Duration::from_secs(10);

/// A ServiceAccount's token for one audience.
#[derive(Debug)]
pub struct Token {
    /// The token.
    pub text: SecretText,
    /// When it ends.
    pub expires: Instant,
}

/// Where tokens come from.
#[async_trait]
pub trait TokenSource: Send + Sync {
    /// A new token for this account and audience.
    async fn token(&self, account: &ServiceAccount, audience: &Audience) -> Result<Token, StoreError>;

    /// A new token that is to live this long, as far as the source gives such:
    /// what it says of its end counts.
    async fn token_for(
        &self,
        account: &ServiceAccount,
        audience: &Audience,
        _life: Duration,
    ) -> Result<Token, StoreError> {
        self.token(account, audience).await
    }
}

/// A token in use, and since when.
pub(super) struct Held {
    pub(super) token: Token,
    made: Instant,
}

impl Held {
    /// Good for a login: a third of its life is left.
    fn is_fresh(&self, now: Instant) -> bool {
        let life = self.token.expires.saturating_duration_since(self.made);
        self.token.expires.saturating_duration_since(now) > life / 3
    }
}

/// One account and audience. The lock is held while a token is asked for, so
/// that it is asked for once.
type Cell = Arc<tokio::sync::Mutex<Option<Arc<Held>>>>;

/// Tokens, each used by all stores of its audience until a third of its life
/// is left.
pub(super) struct Tokens {
    source: Arc<dyn TokenSource>,
    turns: Semaphore,
    cells: Mutex<HashMap<(String, Audience), Cell>>,
    counters: Arc<FetchCounters>,
}

impl Tokens {
    pub(super) fn new(source: Arc<dyn TokenSource>, counters: Arc<FetchCounters>) -> Self {
        Self { source, turns: Semaphore::new(IN_FLIGHT), cells: Mutex::default(), counters }
    }

    pub(super) async fn get(&self, account: &ServiceAccount, audience: &Audience) -> Result<Arc<Held>, StoreError> {
        let cell = Arc::clone(locked(&self.cells).entry((account.uid.clone(), audience.clone())).or_default());
        let mut held = cell.lock().await;
        if let Some(held) = &*held
            && held.is_fresh(Instant::now())
        {
            return Ok(Arc::clone(held));
        }
        let made = Instant::now();
        let token = self.asked(account, self.source.token(account, audience)).await?;
        let new = Arc::new(Held { token, made });
        *held = Some(Arc::clone(&new));
        Ok(new)
    }

    /// A token for one login alone: it is kept nowhere.
    pub(super) async fn fresh(
        &self,
        account: &ServiceAccount,
        audience: &Audience,
        life: Duration,
    ) -> Result<Token, StoreError> {
        self.asked(account, self.source.token_for(account, audience, life)).await
    }

    async fn asked(
        &self,
        account: &ServiceAccount,
        request: impl Future<Output = Result<Token, StoreError>>,
    ) -> Result<Token, StoreError> {
        let in_time = async {
            let _turn = self.turns.acquire().await.map_err(|_| interrupted())?;
            self.counters.token_requests.add(1);
            timeout(DEADLINE, request).await.map_err(|_| {
                StoreError::new(ErrorClass::Timeout, "the API server did not answer the TokenRequest in time")
            })?
        };
        traces::minting(account, in_time).await
    }

    /// This token was not accepted: the next login takes a new one, unless it
    /// is newer than `age` and so the same would come of it.
    pub(super) fn doubt(&self, account: &ServiceAccount, audience: &Audience, age: Duration) {
        let mut cells = locked(&self.cells);
        let key = (account.uid.clone(), audience.clone());
        let old = cells.get(&key).is_some_and(|cell| match cell.try_lock() {
            Ok(held) => held.as_ref().is_some_and(|held| held.made.elapsed() >= age),
            // A new one is under way.
            Err(_) => false,
        });
        if old {
            cells.remove(&key);
        }
    }

    pub(super) fn forget_account(&self, uid: &str) {
        locked(&self.cells).retain(|(account, _), _| account != uid);
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        locked(&self.cells).is_empty()
    }

    /// Drops tokens that no login would use again.
    pub(super) fn sweep(&self, now: Instant) {
        locked(&self.cells).retain(|_, cell| match cell.try_lock() {
            Ok(held) => held.as_ref().is_some_and(|held| held.is_fresh(now)),
            Err(_) => true,
        });
    }
}
