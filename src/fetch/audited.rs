//! What the audit is told when a call of a manager has ended.

use std::{borrow::Cow, collections::HashSet, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};
use tracing::Span;

use super::{
    Fetcher, ResolvedStore, ServiceAccount,
    seat::{Answer, Seat},
};
use crate::{
    audit::{Asker, Event, Kind, Remote, Request, StoreName},
    stores::{ErrorClass, FindQuery, RemoteKey, StoreError},
    traces::Call,
};

/// Who calls: with whose identity, on whose behalf, and why.
pub(super) struct Caller {
    pub(super) account: ServiceAccount,
    asker: Asker,
    /// What it is part of, for logins, which run in tasks of their own.
    pub(super) span: Span,
}

impl Caller {
    /// With this account's identity, for the task that this runs in.
    pub(super) fn of(account: &ServiceAccount) -> Self {
        Self { account: account.clone(), asker: Asker::current(), span: Span::current() }
    }

    pub(super) fn event<'a>(&'a self, kind: Kind, store: &'a StoreName) -> Event<'a> {
        Event { account: Some(&self.account), asker: self.asker.clone(), ..Event::at(kind, store) }
    }
}

/// What a line says of a request, besides what came of it.
#[derive(Clone, Copy)]
pub(super) struct Told {
    pub(super) request: Request,
    /// As [`Event::retried`].
    pub(super) retried: bool,
    /// As [`Event::denied_before`].
    pub(super) denied_before: bool,
}

impl Told {
    /// The request, and no more.
    pub(super) fn of(request: Request) -> Self {
        Self { request, retried: false, denied_before: false }
    }
}

/// Whom one request has denied something so far. Where stores have credentials of their
/// own, it may be for several identities.
#[derive(Default)]
pub(super) struct Denied(HashSet<String>);

impl Denied {
    /// The request has failed for one of those whom it was for.
    pub(super) fn told(&mut self, caller: &Caller, error: &StoreError, request: Request) -> Told {
        let denied_before = error.class.is_denial() && !self.0.insert(caller.account.uid.clone());
        Told { denied_before, ..Told::of(request) }
    }
}

impl Fetcher {
    /// Nothing was asked, since the store cannot be used.
    pub(super) fn note_unseated(
        &self,
        store: &ResolvedStore,
        caller: &Caller,
        kind: Kind,
        error: &StoreError,
        key: &RemoteKey,
    ) {
        self.note_unasked(store, caller, kind, error, Some(Remote::of(key)));
    }

    /// The same of a search.
    pub(super) fn note_unseated_search(
        &self,
        store: &ResolvedStore,
        caller: &Caller,
        error: &StoreError,
        query: &FindQuery,
    ) {
        self.note_unasked(store, caller, Kind::Search, error, Some(Remote::searched(query)));
    }

    /// The same of what concerns a lease: a login comes first.
    pub(super) fn note_unopened(&self, store: &ResolvedStore, caller: &Caller, error: &StoreError) {
        self.note_unasked(store, caller, Kind::Login, error, None);
    }

    fn note_unasked(
        &self,
        store: &ResolvedStore,
        caller: &Caller,
        kind: Kind,
        error: &StoreError,
        remote: Option<Remote<'_>>,
    ) {
        let store = StoreName::of(&store.reference, &store.uid);
        let event = Event { remote, failure: Some(error.class), ..caller.event(kind, &store) };
        self.counters.audit.note(&event);
    }

    /// One call past the lanes of a store, since it or the ServiceAccount is gone, and
    /// with them the lanes. It has so long.
    pub(crate) async fn ask_alone<T>(
        &self,
        event: &Event<'_>,
        provider: &'static str,
        limit: Duration,
        request: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let asked = Instant::now();
        let in_time = async {
            let late = |_| Err(StoreError::new(ErrorClass::Timeout, "the manager did not answer in time"));
            timeout(limit, request).await.unwrap_or_else(late)
        };
        let result = Call::of(event).around(in_time).await;
        let took = asked.elapsed();
        self.counters.called(event.kind, provider, took);
        let failure = result.as_ref().err().map(|error| error.class);
        if let Some(class) = failure {
            self.counters.failed(class);
        }
        self.counters.audit.note(&Event { failure, request: Request::Own(took), ..event.clone() });
        result
    }
}

impl Seat {
    /// The span of a call that is about to be made.
    pub(super) fn call(&self, caller: &Caller, kind: Kind, remote: Remote<'_>) -> Call {
        Call::of(&Event { remote: Some(remote), ..caller.event(kind, &self.logins.store.name) })
    }

    pub(super) fn note(
        &self,
        caller: &Caller,
        kind: Kind,
        key: &RemoteKey,
        failure: Option<&StoreError>,
        request: Request,
        retried: bool,
    ) {
        self.note_of(caller, kind, key, failure.map_or(Ok(None), Err), Told { retried, ..Told::of(request) });
    }

    /// The same with the version that was read.
    pub(super) fn note_of(
        &self,
        caller: &Caller,
        kind: Kind,
        key: &RemoteKey,
        result: Result<Option<Cow<'_, str>>, &StoreError>,
        told: Told,
    ) {
        let Told { request, retried, denied_before } = told;
        let failure = result.as_ref().err().map(|error| error.class);
        self.logins.counters.audit.note(&Event {
            remote: Some(Remote::of(key).at(result.ok().flatten())),
            failure,
            request,
            retried,
            denied_before,
            ..caller.event(kind, &self.logins.store.name)
        });
    }

    /// As [`Seat::ask`]. An answer that is another's is noted once it is there.
    pub(super) fn answer_to(
        self: &Arc<Self>,
        key: &RemoteKey,
        fresh_since: Instant,
        caller: &Arc<Caller>,
    ) -> impl Future<Output = Answer> + Send + use<> {
        let call = self.call(caller, Kind::Read, Remote::of(key));
        let (answer, is_shared) = self.ask(key, fresh_since, caller);
        call.note_shared(is_shared);
        let shared_by = is_shared.then(|| (Arc::clone(self), Arc::clone(caller), key.clone()));
        async move {
            let answer = call.around(answer).await;
            call.note_version(answer.as_ref().ok().and_then(|secret| secret.version_name()).as_deref());
            if let Some((seat, caller, key)) = shared_by {
                let result = answer.as_ref().map(|secret| secret.version_name());
                seat.note_of(&caller, Kind::Read, &key, result, Told::of(Request::Shared));
            }
            answer
        }
    }
}
