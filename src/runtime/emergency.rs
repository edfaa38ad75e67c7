//! Takes up a rotation that somebody wants now: puts it on record, so that it is
//! handled once, and clears the way for it.

use std::{sync::Arc, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Context, done::Stopped, telling::patch_status};
use crate::{
    api::{BotSecret, EmergencyPhase, EmergencyStatus, RotateRequest},
    plan::{Memory, unrecorded},
    report::{Notice, Reason},
    watch::Observed,
};

/// Puts the request on record before anything is done for it.
pub(super) async fn take_up(context: &Context, observed: &mut Observed, memory: &mut Memory) -> Result<(), Stopped> {
    let object = &observed.bot_secret;
    let Some(request) = unrecorded(object) else { return Ok(()) };
    // First: the record may be written though nobody hears of it. Whoever asks does not
    // wait for a back-off, a tick or the next look at pods, and failures before it are
    // none of it.
    (memory.failures, memory.failed_at) = (0, None);
    (memory.wanted_since, memory.next_read, memory.next_look) = (None, None, None);
    if let Some(notes) = &mut memory.rotation {
        notes.retry = None;
    }
    let (namespace, bot_secret) = (object.metadata.namespace.clone(), object.metadata.name.clone());
    let written = match patch_status(context, object, &json!({ "emergency": record(context, object, &request) })).await
    {
        Ok(written) => written,
        // The watch brings what was written in between.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
            let again = Instant::now() + Duration::from_millis(100);
            return Err(Stopped { reason: Reason::KubernetesUnavailable, again });
        }
        Err(error) => {
            let said = if let kube::Error::Api(status) = &error { status.message.as_str() } else { "no answer" };
            tracing::warn!(namespace, bot_secret, "a rotation that was asked for is not on record yet: {said}");
            let wait = Duration::from_secs(1).saturating_mul(1 << memory.unwritten.min(5));
            memory.unwritten = memory.unwritten.saturating_add(1);
            let is_forbidden = matches!(&error, kube::Error::Api(status) if status.code == 403);
            let reason = if is_forbidden { Reason::OperatorForbidden } else { Reason::KubernetesUnavailable };
            return Err(Stopped { reason, again: Instant::now() + wait });
        }
    };
    memory.unwritten = 0;
    context.metrics.emergency_rotations.inc();
    let RotateRequest { id, reason, revoke, by } = request;
    tracing::info!(namespace, bot_secret, id, by, revoke, "a rotation at once was asked for");
    let by = if by.is_empty() { String::new() } else { format!(" by {by}, as the request says") };
    let also = if revoke { ", and to revoke the old credentials" } else { "" };
    let note = format!("a rotation at once was asked for{by}{also}: {reason}");
    let notice = Notice { warning: false, reason: "RotationRequested", action: "Rotate", note };
    context.emitter.publish(&written, &[notice]).await;
    let mut written = written;
    written.metadata.managed_fields = None;
    observed.bot_secret = Arc::new(written);
    Ok(())
}

fn record(context: &Context, object: &BotSecret, request: &RotateRequest) -> Value {
    let target = object.status.as_ref().and_then(|status| status.target.as_ref());
    let record = EmergencyStatus {
        id: request.id.clone(),
        reason: request.reason.clone(),
        by: request.by.clone(),
        revoke: request.revoke,
        requested_at: Time(context.now()),
        phase: EmergencyPhase::Requested.name().to_owned(),
        finished_at: None,
        from: target.map(|target| target.revision.clone()).unwrap_or_default(),
        revocation: String::new(),
        message: String::new(),
    };
    let mut fields = serde_json::to_value(record).unwrap_or_default();
    // In a merge patch the end of the request before would stay.
    if let Some(fields) = fields.as_object_mut() {
        fields.insert("finishedAt".to_owned(), Value::Null);
    }
    fields
}
