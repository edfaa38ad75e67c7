//! Writes of new values, and requests to make one. Nobody shares them.

use super::{
    Fetcher, ResolvedStore, ServiceAccount, breaker::Evidence, counters::Call, lane::Pass, logins::Live, seat::Seat,
};
use crate::stores::{RemoteKey, StoreError, WriteBack};

/// What is asked of a manager.
#[derive(Clone, Copy)]
enum Asked<'a> {
    Write(&'a WriteBack<'a>),
    Rotate(&'a RemoteKey, &'a str),
}

impl Fetcher {
    /// Whether new values can be written to this manager at all.
    ///
    /// # Errors
    /// As one read's.
    pub async fn can_write(&self, store: &ResolvedStore) -> Result<bool, StoreError> {
        Ok(self.stores.get(store).await?.backend.capabilities().write_back)
    }

    /// Writes a new value. It may have been written even where this is an error.
    ///
    /// # Errors
    /// As one read's, and [`crate::stores::ErrorClass::Conflict`] where somebody else has written
    /// since.
    pub async fn write(
        &self,
        store: &ResolvedStore,
        account: &ServiceAccount,
        write: &WriteBack<'_>,
    ) -> Result<(), StoreError> {
        self.ask_for(store, account, Asked::Write(write)).await
    }

    /// Asks the manager to make a new value. It may do so even where this is an
    /// error.
    ///
    /// # Errors
    /// As one read's.
    pub async fn rotate(
        &self,
        store: &ResolvedStore,
        account: &ServiceAccount,
        key: &RemoteKey,
        attempt: &str,
    ) -> Result<(), StoreError> {
        self.ask_for(store, account, Asked::Rotate(key, attempt)).await
    }

    async fn ask_for(
        &self,
        store: &ResolvedStore,
        account: &ServiceAccount,
        asked: Asked<'_>,
    ) -> Result<(), StoreError> {
        let result = match self.seat(store, account).await {
            Ok(seat) => seat.ask_for(asked).await,
            Err(error) => Err(error),
        };
        result.map_err(|error| {
            self.counters.failed(error.class);
            StoreError { session_dead: false, ..error }
        })
    }
}

impl Seat {
    async fn ask_for(&self, asked: Asked<'_>) -> Result<(), StoreError> {
        let (live, pass) = self.ready().await?;
        let refused = match self.ask_with(&live, pass, asked).await {
            Err(error) if error.session_dead => error,
            result => return result,
        };
        // The login may be dead: one new login, one more try. What was refused has
        // taken no effect.
        if !self.logins.replace(&live) {
            return Err(refused);
        }
        let (live, pass) = self.ready().await?;
        let result = self.ask_with(&live, pass, asked).await;
        self.logins.learn_from_retry(result.is_ok());
        result
    }

    async fn ask_with(&self, live: &Live, pass: Pass, asked: Asked<'_>) -> Result<(), StoreError> {
        let call = match asked {
            Asked::Write(_) => Call::Write,
            Asked::Rotate(..) => Call::Rotate,
        };
        let request = async {
            match asked {
                Asked::Write(write) => live.session.write(write).await,
                Asked::Rotate(key, attempt) => live.session.rotate(key, attempt).await,
            }
        };
        let result = self.logins.counters.timed(call, pass.within(request)).await.flatten();
        pass.done(result.as_ref().err().map_or(Evidence::Alive, Evidence::of));
        if result.is_ok() {
            live.prove();
        }
        result
    }
}
