//! Traces: what a pass did, and how long each part of it took. Never a value.
//!
//! Spans are made in this folder alone, so that what they carry is seen in one place:
//! names, as in the audit log, and the class of what came of it. They are spans of the
//! crate `tracing`. Without an endpoint nothing takes them, and making one is a look at a
//! static. Log lines do not show them (`cli/logging.rs`).

mod call;
mod endpoint;
mod export;
mod losses;
mod sender;
#[cfg(test)]
mod tests;

use futures::FutureExt as _;
use tracing::{Instrument as _, Span, field::Empty};

use crate::{
    api::BotSecret,
    apply::{Applied, ApplyError, Effect},
    audit::Why,
    report::{Problem, Reason, RolloutReport},
    rollout::RollOutError,
    stores::{ServiceAccount, StoreError},
    watch::WorkloadId,
};

pub(crate) use call::Call;
pub(crate) use losses::lost as spans_lost;

pub use endpoint::{Endpoint, Fault, Ratio};
pub use export::{Settings, Traces};

/// One pass over a BotSecret: the root of a trace.
pub(crate) fn pass(object: &BotSecret) -> Span {
    tracing::info_span!(
        "pass",
        botsecret.namespace = object.metadata.namespace,
        botsecret.name = object.metadata.name,
        botsecret.service_account = object.spec.service_account_name,
        botsecret.why = Empty,
        botsecret.outcome = Empty,
        otel.status_code = Empty,
    )
}

/// Why the pass that this runs in reads.
pub(crate) fn note_why(why: Option<Why>) {
    if let Some(why) = why {
        Span::current().record("botsecret.why", why.name());
    }
}

/// What came of the pass that this runs in.
pub(crate) fn note_outcome(failure: Option<Reason>) {
    ended(&Span::current(), failure.map(Reason::name));
}

/// A pass ended in a fault of the operator's own.
pub(crate) fn note_fault(pass: &Span) {
    ended(pass, Some(Reason::InternalError.name()));
}

/// Waits for the write of this Secret, if one is needed at all.
pub(crate) fn applying(
    secret: &str,
    write: impl Future<Output = Result<Applied, ApplyError>>,
) -> impl Future<Output = Result<Applied, ApplyError>> {
    let span = tracing::info_span!(
        "apply",
        botsecret.secret = secret,
        botsecret.outcome = Empty,
        botsecret.rotated = Empty,
        otel.status_code = Empty,
    );
    write.instrument(span.clone()).inspect(move |result| match result {
        Ok(applied) => {
            let outcome = match applied.effect {
                Effect::Unchanged => "unchanged",
                Effect::Created => "created",
                Effect::Updated => "updated",
            };
            span.record("botsecret.outcome", outcome);
            span.record("botsecret.rotated", applied.rotated);
        }
        Err(error) => ended(&span, Some(Problem::of_apply(error).reason.name())),
    })
}

/// Waits until it is decided who is to roll and whose turn it is, and that is done.
pub(crate) fn rolling(roll: impl Future<Output = RolloutReport>) -> impl Future<Output = RolloutReport> {
    let span = tracing::info_span!(
        "rollout",
        botsecret.outcome = Empty,
        botsecret.phase = Empty,
        botsecret.revision = Empty,
        botsecret.workloads = Empty,
        otel.status_code = Empty,
    );
    roll.instrument(span.clone()).inspect(move |report| match report {
        RolloutReport::NotLooked => {
            span.record("botsecret.outcome", "not_looked");
        }
        RolloutReport::Off => {
            span.record("botsecret.outcome", "off");
        }
        RolloutReport::Standing { revision, workloads, rotation, problem } => {
            span.record("botsecret.revision", revision.as_str());
            span.record("botsecret.workloads", i64::try_from(workloads.len()).unwrap_or(i64::MAX));
            if let Some(rotation) = rotation {
                span.record("botsecret.phase", rotation.phase.name());
            }
            ended(&span, problem.as_ref().map(|problem| problem.reason.name()));
        }
    })
}

/// Waits for the patch that rolls this workload.
pub(crate) fn patching(
    workload: &WorkloadId,
    patch: impl Future<Output = Result<(), RollOutError>>,
) -> impl Future<Output = Result<(), RollOutError>> {
    let span = tracing::info_span!(
        "patch",
        botsecret.workload.kind = workload.kind.name(),
        botsecret.workload.name = workload.name,
        botsecret.outcome = Empty,
        otel.status_code = Empty,
    );
    patch.instrument(span.clone()).inspect(move |result| {
        let failure = result.as_ref().err().map(|error| match error {
            RollOutError::Conflict { .. } => "conflict",
            RollOutError::Refused { .. } => "refused",
            RollOutError::Unfit { .. } => "unfit",
            RollOutError::Unavailable { .. } => "unavailable",
        });
        ended(&span, failure);
    })
}

/// Waits for the deletion of this Secret.
pub(crate) fn deleting(
    secret: &str,
    delete: impl Future<Output = Result<(), ApplyError>>,
) -> impl Future<Output = Result<(), ApplyError>> {
    let span =
        tracing::info_span!("delete", botsecret.secret = secret, botsecret.outcome = Empty, otel.status_code = Empty);
    delete.instrument(span.clone()).inspect(move |result| {
        ended(&span, result.as_ref().err().map(|error| Problem::of_apply(error).reason.name()));
    })
}

/// Waits until the status of the pass's BotSecret is written.
pub(crate) fn telling<T>(write: impl Future<Output = kube::Result<T>>) -> impl Future<Output = kube::Result<T>> {
    let span = tracing::info_span!("status", botsecret.outcome = Empty, otel.status_code = Empty);
    write.instrument(span.clone()).inspect(move |result| {
        let failure = result.as_ref().err().map(|error| match error {
            kube::Error::Api(status) if matches!(status.code, 404 | 409) => "conflict",
            kube::Error::Api(status) if (400..500).contains(&status.code) && status.code != 429 => "refused",
            _ => "unavailable",
        });
        ended(&span, failure);
    })
}

/// Waits for the API server's token of this account.
pub(crate) fn minting<T>(
    account: &ServiceAccount,
    request: impl Future<Output = Result<T, StoreError>>,
) -> impl Future<Output = Result<T, StoreError>> {
    let span = tracing::info_span!(
        "token",
        otel.kind = "client",
        botsecret.namespace = account.namespace,
        botsecret.service_account = account.name,
        botsecret.outcome = Empty,
        otel.status_code = Empty,
    );
    request.instrument(span.clone()).inspect(move |result| {
        ended(&span, result.as_ref().err().map(|error| error.class.name()));
    })
}

/// `ok`, or the name of what went wrong; never the words of an error.
fn ended(span: &Span, failure: Option<&str>) {
    span.record("botsecret.outcome", failure.unwrap_or("ok"));
    if failure.is_some() {
        span.record("otel.status_code", "error");
    }
}
