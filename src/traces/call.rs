//! The span of one call of a manager: what the audit is told of it, as far as it is known
//! before.

use futures::FutureExt as _;
use tracing::{Instrument as _, Span, field::Empty};

use crate::{
    audit::{Event, Remote, Why},
    stores::StoreError,
};

/// A call of a manager that is about to be made.
pub(crate) struct Call(Span);

impl Call {
    /// Of the pass that this runs in.
    pub(crate) fn of(event: &Event<'_>) -> Self {
        Self::within(&Span::current(), event)
    }

    /// Part of this span, wherever it is made.
    pub(crate) fn within(parent: &Span, event: &Event<'_>) -> Self {
        Self(tracing::info_span!(
            parent: parent,
            "call",
            otel.name = event.kind.name(),
            otel.kind = "client",
            botsecret.namespace = event.account.map(|account| account.namespace.as_str()),
            botsecret.service_account = event.account.map(|account| account.name.as_str()),
            botsecret.store.kind = event.store.kind_name(),
            botsecret.store.name = event.store.name,
            botsecret.remote = event.remote.as_ref().map(Remote::name),
            botsecret.why = event.asker.why.map(Why::name),
            botsecret.version = Empty,
            botsecret.shared = Empty,
            botsecret.outcome = Empty,
            otel.status_code = Empty,
        ))
    }

    /// Waits for the answer, and notes what came of it.
    pub(crate) fn around<T>(
        &self,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> impl Future<Output = Result<T, StoreError>> {
        let failure = |answer: &Result<T, StoreError>| answer.as_ref().err().map(|error| error.class.name());
        answer.instrument(self.0.clone()).inspect(move |answer| super::ended(&self.0, failure(answer)))
    }

    /// The version that was read, where the manager tells it.
    pub(crate) fn note_version(&self, version: Option<&str>) {
        self.0.record("botsecret.version", version);
    }

    /// Whether the answer is another's, who asked for the same.
    pub(crate) fn note_shared(&self, is_shared: bool) {
        self.0.record("botsecret.shared", is_shared);
    }
}
