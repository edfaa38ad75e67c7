//! The end of a pass: the status, where it changed, and the events.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use tokio::time::Instant;

use super::{Context, leasing, rotating};
use crate::{
    api::{BotSecret, BotSecretStatus, RotationPhase, RotationStatus},
    deadline::within,
    plan::Memory,
    report::{News, Outcome, notices, report_emergency, status},
    traces,
};

/// Writes the status where it changed, and then tells. Answers the object as
/// written, and when to try again what could not be written.
pub(super) async fn report(
    context: &Context,
    object: &BotSecret,
    outcome: Outcome,
    memory: &mut Memory,
) -> (Option<BotSecret>, Option<Instant>) {
    let mut next = status(object, &outcome, context.now());
    leasing::report(context, object, memory, &mut next);
    rotating::report(object, memory, &mut next, context.now());
    let (is_made, problem) = rotating::making(object, memory);
    let news = News { old: leasing::old_credentials(memory), is_made, problem };
    report_emergency(object, &outcome, news, &mut next, context.now());
    if object.status.as_ref() == Some(&next) {
        memory.unwritten = 0;
        return (None, None);
    }
    let told = notices(object, &next, &outcome);
    let written = {
        let _turn = context.writes.turn().await;
        Box::pin(write_status(context, object, &next)).await
    };
    let first = match written {
        Ok(mut written) => {
            // The larger half of the object, which nobody asks for.
            written.metadata.managed_fields = None;
            memory.unwritten = 0;
            if let Some(time) = verified_after(object.status.as_ref(), &next) {
                context.metrics.rolled_out(time);
            }
            Box::pin(context.emitter.publish(object, &told)).await;
            return (Some(written), None);
        }
        Err(kube::Error::Api(response)) if response.code == 404 => return (None, None),
        // The watch brings what was written in between.
        Err(kube::Error::Api(response)) if response.code == 409 => Duration::from_millis(100),
        Err(error) => {
            let said = if let kube::Error::Api(response) = &error { response.message.as_str() } else { "no answer" };
            tracing::warn!(
                namespace = object.metadata.namespace,
                bot_secret = object.metadata.name,
                "status not written: {said}"
            );
            Duration::from_secs(1)
        }
    };
    // The next pass finds nothing due: what this one found must not get lost.
    memory.unreported = Some((object.metadata.generation, Box::new(outcome)));
    let wait = first.saturating_mul(1 << memory.unwritten.min(6)).min(Duration::from_secs(30));
    memory.unwritten = memory.unwritten.saturating_add(1);
    (None, Some(Instant::now() + wait))
}

/// How long the rotation took that is verified now and was not before.
fn verified_after(before: Option<&BotSecretStatus>, next: &BotSecretStatus) -> Option<Duration> {
    fn verified(rotation: &RotationStatus) -> Option<&Time> {
        rotation.times.iter().rev().find(|time| time.phase == RotationPhase::Verified).map(|time| &time.at)
    }
    let rotation = next.rotation.as_ref()?;
    let at = verified(rotation)?;
    let before = before.and_then(|status| status.rotation.as_ref());
    if before.is_some_and(|before| before.started == rotation.started && verified(before).is_some()) {
        return None;
    }
    at.0.duration_since(rotation.started.0).try_into().ok()
}

/// What a later version calls a phase stays as it is: the schema takes no other
/// name for it.
fn leave_unknown(rotation: &mut serde_json::Map<String, serde_json::Value>) {
    let is_unknown =
        |phase: Option<&serde_json::Value>| phase.is_some_and(|phase| phase == RotationPhase::Unknown.name());
    if is_unknown(rotation.get("phase")) {
        rotation.remove("phase");
    }
    if let Some(times) = rotation.get_mut("times").and_then(serde_json::Value::as_array_mut) {
        times.retain(|time| !is_unknown(time.get("phase")));
    }
}

async fn write_status(context: &Context, object: &BotSecret, next: &BotSecretStatus) -> kube::Result<BotSecret> {
    let mut fields = serde_json::to_value(next).map_err(kube::Error::SerdeError)?;
    // In a merge patch what is left out stays: say what is gone.
    if let Some(fields) = fields.as_object_mut() {
        for name in ["target", "rollout", "rotation", "emergency", "lastHandledRefresh", "leases"] {
            fields.entry(name).or_insert(serde_json::Value::Null);
        }
        if let Some(rollout) = fields.get_mut("rollout").and_then(serde_json::Value::as_object_mut) {
            rollout.entry("workloads").or_insert_with(|| serde_json::json!([]));
        }
        if let Some(rotation) = fields.get_mut("rotation").and_then(serde_json::Value::as_object_mut) {
            leave_unknown(rotation);
        }
    }
    patch_status(context, object, &fields).await
}

/// Writes these fields of the status, if the object is as it was seen.
pub(super) async fn patch_status(
    context: &Context,
    object: &BotSecret,
    fields: &serde_json::Value,
) -> kube::Result<BotSecret> {
    let api: Api<BotSecret> =
        Api::namespaced(context.client.clone(), object.metadata.namespace.as_deref().unwrap_or_default());
    let patch = serde_json::json!({
        "metadata": { "uid": object.metadata.uid, "resourceVersion": object.metadata.resource_version },
        "status": fields,
    });
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let params = PatchParams { field_manager: Some("botsecret".to_owned()), ..PatchParams::default() };
    traces::telling(within(api.patch_status(name, &params, &Patch::Merge(&patch)))).await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::{leave_unknown, verified_after};
    use crate::api::BotSecretStatus;

    #[test]
    fn a_rotation_is_timed_once_when_every_workload_holds_it() {
        let status = |started: &str, phases: &[(&str, &str)]| -> BotSecretStatus {
            let times: Vec<_> = phases.iter().map(|(phase, at)| json!({ "phase": phase, "at": at })).collect();
            let phase = phases.last().expect("a phase").0;
            let rotation = json!({ "revision": "2.x", "phase": phase, "started": started, "times": times });
            serde_json::from_value(json!({ "rotation": rotation })).expect("a status")
        };
        let (first, later) = ("2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z");
        let rolling = status(first, &[("Written", first)]);
        let verified = status(first, &[("Written", first), ("Verified", "2026-01-01T00:01:30Z")]);
        let retired = status(first, &[("Verified", "2026-01-01T00:01:30Z"), ("OldRetired", later)]);
        let next = status(later, &[("Written", later), ("Verified", "2026-01-01T01:00:05Z")]);
        assert_eq!(verified_after(None, &rolling), None);
        assert_eq!(verified_after(Some(&rolling), &verified), Some(Duration::from_secs(90)));
        assert_eq!(verified_after(Some(&verified), &retired), None);
        assert_eq!(verified_after(Some(&retired), &next), Some(Duration::from_secs(5)));
    }

    #[test]
    fn a_phase_that_is_not_known_is_never_written() {
        let times = json!([{ "phase": "Written", "at": "t" }, { "phase": "Unknown", "at": "t" }]);
        let mut known = json!({ "phase": "Rolling", "times": times });
        let mut unknown = json!({ "phase": "Unknown", "times": times });
        for rotation in [&mut known, &mut unknown] {
            leave_unknown(rotation.as_object_mut().expect("an object"));
        }
        let times = json!([{ "phase": "Written", "at": "t" }]);
        assert_eq!((known, unknown), (json!({ "phase": "Rolling", "times": times }), json!({ "times": times })));
    }
}
