//! Known defects, planted between the operator and the API server: a campaign
//! that does not find them proves nothing.

use std::time::Duration;

use serde_json::{Value, json};

/// Changes what the operator writes, as a defect of its own would.
pub type Mutate = fn(&str, &mut Value);

/// A defect, and the fault that brings it to light (none: it shows by itself).
pub struct Mutant {
    pub name: &'static str,
    pub mutate: Mutate,
    pub planned: &'static str,
    /// What is to be said of it: that a run ended in vain alone may be the
    /// machine's doing.
    pub shows: &'static str,
}

const MARKER: &str = "/spec/template/metadata/annotations/rollout.botsecret.dev~1price-bot";

pub const MUTANTS: [Mutant; 4] = [
    Mutant {
        name: "nothing is written with uid and resourceVersion: a late replay puts old data back",
        mutate: |_, body| {
            if let Some(metadata) = body["metadata"].as_object_mut() {
                metadata.remove("resourceVersion");
                metadata.remove("uid");
            }
        },
        planned: "update/secrets/price-bot@1:late",
        shows: "took effect though it came late",
    },
    Mutant {
        name: "the marker carries the time: what is patched again rolls again",
        mutate: |_, body| {
            if let Some(marker) = body.pointer_mut(MARKER) {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                *marker =
                    json!(format!("{}{}", marker.as_str().unwrap_or_default(), now.unwrap_or_default().as_millis()));
            }
        },
        planned: "patch/deployments/web@1:crash-after",
        shows: "bears a revision that never was",
    },
    Mutant {
        name: "one key is left out of the Secret",
        mutate: |write, body| {
            if let Some(data) = body["data"].as_object_mut()
                && write == "update/secrets/price-bot"
            {
                data.remove("TOKEN");
            }
        },
        planned: "",
        shows: "the Secret was something half written",
    },
    Mutant {
        name: "delivery is recorded, the template is not patched",
        mutate: |write, body| {
            if let Some(fields) = body.as_object_mut()
                && write.starts_with("patch/deployments/")
            {
                fields.remove("spec");
            }
        },
        planned: "",
        shows: "P9: RolledOut is",
    },
];

/// How long a step may take with a defect in it: some never come to rest.
pub const PATIENCE: Duration = Duration::from_secs(40);
