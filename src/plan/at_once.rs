//! A rotation that somebody wants now (`botsecret rotate --now`).
//!
//! The request lies on the BotSecret, how far it is in the status. Both must name
//! it for it to have any effect: the one is what people who may edit the BotSecret
//! say, the other makes that each request is handled once.

use k8s_openapi::jiff::Timestamp;

use crate::api::{ANNOTATION_ROTATE, BotSecret, EmergencyPhase, EmergencyStatus, RotateRequest};

use super::refresh_requested;

/// The request that lies on the BotSecret, whatever became of it.
#[must_use]
pub fn rotation_requested(object: &BotSecret) -> Option<RotateRequest> {
    RotateRequest::parse(object.metadata.annotations.as_ref()?.get(ANNOTATION_ROTATE)?)
}

fn on_record(object: &BotSecret) -> Option<&EmergencyStatus> {
    object.status.as_ref()?.emergency.as_ref()
}

/// Whether anything is done for it at all.
fn is_served(object: &BotSecret) -> bool {
    object.spec.suspend != Some(true) && object.metadata.deletion_timestamp.is_none()
}

/// A request that is to be taken up. A suspended BotSecret's waits.
#[must_use]
pub fn unrecorded(object: &BotSecret) -> Option<RotateRequest> {
    let request = rotation_requested(object).filter(|_| is_served(object))?;
    (on_record(object).is_none_or(|record| record.id != request.id)).then_some(request)
}

/// The request that is being handled: windows and pauses count no more for what it
/// brings.
#[must_use]
pub fn emergency(object: &BotSecret) -> Option<RotateRequest> {
    let record = on_record(object).filter(|record| record.is_open() && is_served(object))?;
    rotation_requested(object).filter(|request| request.id == record.id)
}

/// The same, while the new value is still to be had: what can be replaced is to be,
/// and whoever can make a new value is to.
#[must_use]
pub fn emergency_due(object: &BotSecret) -> Option<RotateRequest> {
    let is_due = on_record(object)?.phase() == Some(EmergencyPhase::Requested);
    emergency(object).filter(|_| is_due)
}

/// Since when values that are rotated are wanted anew: each once for this request.
#[must_use]
pub fn demanded_since(object: &BotSecret) -> Option<Timestamp> {
    emergency(object)?;
    on_record(object).filter(|_| object.spec.rotator().is_some()).map(|record| record.requested_at.0)
}

/// Whether somebody wants the values read now, and what was refused to be tried
/// again.
#[must_use]
pub fn is_forced(object: &BotSecret) -> bool {
    refresh_requested(object).is_some() || emergency_due(object).is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{emergency, emergency_due, is_forced, unrecorded};
    use crate::api::BotSecret;

    fn object(asked: Option<&str>, record: Option<(&str, &str)>, change: &Value) -> BotSecret {
        let request = asked.map(|id| json!({ "id": id, "reason": "leaked" }).to_string());
        let annotations = request.map(|text| json!({ "botsecret.dev/rotate": text }));
        let record = record.map(|(id, phase)| {
            json!({ "id": id, "phase": phase, "reason": "leaked", "requestedAt": "2026-01-01T00:00:00Z" })
        });
        let mut object = json!({
            "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret",
            "metadata": { "name": "bot", "annotations": annotations },
            "spec": { "serviceAccountName": "bot" },
            "status": { "emergency": record },
        });
        object["spec"]["suspend"] = change["suspend"].clone();
        object["metadata"]["deletionTimestamp"] = change["deleted"].clone();
        serde_json::from_value(object).expect("a BotSecret")
    }

    #[test]
    fn p11_a_request_is_taken_up_once_and_has_effect_until_its_end() {
        // Asked for, on record; taken up, handled, a new value due.
        for (asked, record, wanted) in [
            (None, None, [false, false, false]),
            (Some("1"), None, [true, false, false]),
            (Some("1"), Some(("1", "Requested")), [false, true, true]),
            (Some("1"), Some(("1", "Written")), [false, true, false]),
            (Some("1"), Some(("1", "RolledOut")), [false, false, false]),
            (Some("1"), Some(("1", "Halted")), [false, false, false]),
            (Some("1"), Some(("1", "SomethingNew")), [false, false, false]),
            // Another takes its place, at whatever point.
            (Some("2"), Some(("1", "Requested")), [true, false, false]),
            (Some("2"), Some(("1", "RolledOut")), [true, false, false]),
            // A record that nobody asked for is none, as is one that was taken back.
            (None, Some(("1", "Requested")), [false, false, false]),
        ] {
            let object = object(asked, record, &Value::Null);
            let found = [unrecorded(&object), emergency(&object), emergency_due(&object)].map(|one| one.is_some());
            assert_eq!(found, wanted, "{asked:?}, {record:?}");
            assert_eq!(is_forced(&object), wanted[2]);
        }
    }

    #[test]
    fn a_suspended_or_deleted_botsecret_takes_up_nothing() {
        for change in [json!({ "suspend": true }), json!({ "deleted": "2026-01-01T00:00:00Z" })] {
            let asked = object(Some("1"), None, &change);
            assert_eq!(unrecorded(&asked), None, "{change}");
            let begun = object(Some("1"), Some(("1", "Requested")), &change);
            assert_eq!((emergency(&begun), emergency_due(&begun)), (None, None), "{change}");
        }
    }
}
