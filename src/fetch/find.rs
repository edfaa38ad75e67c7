//! Searches, shared by all who ask the same at the same time.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::time::Instant;

use super::{
    audited::Caller,
    breaker::Evidence,
    interrupted,
    lane::Pass,
    locked,
    logins::Live,
    seat::{RESULT_KEPT, Seat},
};
use crate::{
    audit::{Event, Kind, Remote, Request},
    stores::{FindQuery, Progress, StoreError},
};

type Found = Result<Arc<Vec<String>>, StoreError>;

/// A search as callers see it.
pub(super) struct Find {
    /// When the request was sent; unset while it waits for its turn.
    began: Arc<OnceLock<Instant>>,
    found: Shared<BoxFuture<'static, Found>>,
}

impl Seat {
    /// The keys that a search finds which begins, or began, at or after
    /// `fresh_since`, and whether it is another's.
    pub(super) fn find(
        self: &Arc<Self>,
        query: &FindQuery,
        fresh_since: Instant,
        caller: &Arc<Caller>,
    ) -> (Shared<BoxFuture<'static, Found>>, bool) {
        let mut finds = locked(&self.finds);
        if let Some(find) = finds.get(query)
            && find.began.get().is_none_or(|began| *began >= fresh_since)
        {
            self.logins.counters.shared_finds.add(1);
            return (find.found.clone(), true);
        }
        let began = Arc::new(OnceLock::new());
        // A task of its own: no caller that goes away takes the search along.
        let task = tokio::spawn(Arc::clone(self).search_once(query.clone(), Arc::clone(&began), Arc::clone(caller)));
        let found = async move { task.await.unwrap_or_else(|_| Err(interrupted())) }.boxed().shared();
        finds.insert(query.clone(), Find { began, found: found.clone() });
        (found, false)
    }

    async fn search_once(
        self: Arc<Self>,
        query: FindQuery,
        began: Arc<OnceLock<Instant>>,
        caller: Arc<Caller>,
    ) -> Found {
        let found = AssertUnwindSafe(self.search(&query, &began, &caller)).catch_unwind().await.unwrap_or_else(|_| {
            self.logins.counters.panics.add(1);
            Err(interrupted())
        });
        let _ = began.set(Instant::now());
        let seat = Arc::downgrade(&self);
        tokio::spawn(async move {
            tokio::time::sleep(RESULT_KEPT).await;
            let Some(seat) = seat.upgrade() else { return };
            let mut finds = locked(&seat.finds);
            if finds.get(&query).is_some_and(|find| Arc::ptr_eq(&find.began, &began)) {
                finds.remove(&query);
            }
        });
        match found {
            Ok(keys) => Ok(Arc::new(keys)),
            Err(error) => {
                self.logins.counters.failed(error.class);
                Err(StoreError { session_dead: false, ..error })
            }
        }
    }

    async fn search(
        &self,
        query: &FindQuery,
        began: &OnceLock<Instant>,
        caller: &Caller,
    ) -> Result<Vec<String>, StoreError> {
        let unsent = |error: &StoreError| self.note_search(caller, query, Some(error), Request::None, false);
        let (live, pass) = self.ready(caller).await.inspect_err(unsent)?;
        let (result, request) = self.search_with(&live, pass, query, began).await;
        // The login may be dead: one new login, one more try.
        let is_suspect = matches!(&result, Err(error) if error.session_dead);
        let again = is_suspect && self.logins.replace(&live);
        self.note_search(caller, query, result.as_ref().err(), request, again);
        if !again {
            return result;
        }
        let (live, pass) = self.ready(caller).await.inspect_err(unsent)?;
        let (result, request) = self.search_with(&live, pass, query, began).await;
        self.note_search(caller, query, result.as_ref().err(), request, false);
        self.logins.learn_from_retry(result.is_ok());
        result
    }

    pub(super) fn note_search(
        &self,
        caller: &Caller,
        query: &FindQuery,
        failure: Option<&StoreError>,
        request: Request,
        retried: bool,
    ) {
        self.logins.counters.audit.note(&Event {
            remote: Some(Remote::searched(query)),
            failure: failure.map(|error| error.class),
            request,
            retried,
            ..caller.event(Kind::Search, &self.logins.store.name)
        });
    }

    async fn search_with(
        &self,
        live: &Live,
        pass: Pass,
        query: &FindQuery,
        began: &OnceLock<Instant>,
    ) -> (Result<Vec<String>, StoreError>, Request) {
        // Of two tries the first counts: fewer may share it, never more.
        let _ = began.set(Instant::now());
        let (progress, counters) = (Progress::default(), &self.logins.counters);
        let found = progress.of(live.session.find(query));
        let (result, request) = counters.timed(Kind::Search, self.logins.store.provider, &pass, found).await;
        counters.finds.add(u64::from(request.is_own()));
        let result = result.flatten().map_err(|error| progress.explain(error));
        pass.done(result.as_ref().err().map_or(Evidence::Alive, Evidence::of));
        if result.is_ok() {
            live.prove();
        }
        (result, request)
    }
}
