//! Writes of new values, and requests to make one. Nobody shares them.

use super::{
    Fetcher, ResolvedStore, ServiceAccount, audited::Caller, breaker::Evidence, lane::Pass, logins::Live, seat::Seat,
};
use crate::{
    audit::{Kind, Remote, Request},
    stores::{RemoteKey, StoreError, WriteBack},
};

/// What is asked of a manager.
#[derive(Clone, Copy)]
enum Asked<'a> {
    Write(&'a WriteBack<'a>),
    Rotate(&'a RemoteKey, &'a str),
}

impl<'a> Asked<'a> {
    fn kind(self) -> Kind {
        match self {
            Self::Write(_) => Kind::Write,
            Self::Rotate(..) => Kind::Rotate,
        }
    }

    fn key(self) -> &'a RemoteKey {
        match self {
            Self::Write(write) => write.key,
            Self::Rotate(key, _) => key,
        }
    }
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
        let caller = Caller::of(account);
        let result = match self.seat(store, account).await {
            Ok(seat) => {
                let call = seat.call(&caller, asked.kind(), Remote::of(asked.key()));
                call.around(seat.ask_for(&caller, asked)).await
            }
            Err(error) => {
                self.note_unseated(store, &caller, asked.kind(), &error, asked.key());
                Err(error)
            }
        };
        result.map_err(|error| {
            self.counters.failed(error.class);
            StoreError { session_dead: false, ..error }
        })
    }
}

impl Seat {
    async fn ask_for(&self, caller: &Caller, asked: Asked<'_>) -> Result<(), StoreError> {
        let kind = asked.kind();
        let unsent = |error: &StoreError| self.note(caller, kind, asked.key(), Some(error), Request::None, false);
        let (live, pass) = self.ready(caller).await.inspect_err(unsent)?;
        let (result, request) = self.ask_with(&live, pass, asked).await;
        // The login may be dead: one new login, one more try. What was refused has
        // taken no effect.
        let is_suspect = matches!(&result, Err(error) if error.session_dead);
        let again = is_suspect && self.logins.replace(&live);
        self.note(caller, kind, asked.key(), result.as_ref().err(), request, again);
        if !again {
            return result;
        }
        let (live, pass) = self.ready(caller).await.inspect_err(unsent)?;
        let (result, request) = self.ask_with(&live, pass, asked).await;
        self.note(caller, kind, asked.key(), result.as_ref().err(), request, false);
        self.logins.learn_from_retry(result.is_ok());
        result
    }

    async fn ask_with(&self, live: &Live, pass: Pass, asked: Asked<'_>) -> (Result<(), StoreError>, Request) {
        let request = async {
            match asked {
                Asked::Write(write) => live.session.write(write).await,
                Asked::Rotate(key, attempt) => live.session.rotate(key, attempt).await,
            }
        };
        let provider = self.logins.store.provider;
        let (result, sent) = self.logins.counters.timed(asked.kind(), provider, &pass, request).await;
        let result = result.flatten();
        pass.done(result.as_ref().err().map_or(Evidence::Alive, Evidence::of));
        if result.is_ok() {
            live.prove();
        }
        (result, sent)
    }
}
