//! The resources that there are.

use serde_json::{Value, json};

/// One resource.
#[allow(clippy::struct_excessive_bools, clippy::struct_field_names, reason = "as the API names them")]
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    pub group: &'static str,
    pub version: &'static str,
    pub plural: &'static str,
    pub kind: &'static str,
    pub namespaced: bool,
    /// Has a status that only its subresource writes.
    pub status: bool,
    /// Counts changes of its spec.
    pub generation: bool,
    /// Takes a PUT that names no resourceVersion.
    pub unconditional: bool,
}

const fn core(plural: &'static str, kind: &'static str) -> Kind {
    Kind {
        group: "",
        version: "v1",
        plural,
        kind,
        namespaced: true,
        status: false,
        generation: false,
        unconditional: true,
    }
}

const fn workload(plural: &'static str, kind: &'static str) -> Kind {
    Kind { group: "apps", status: true, generation: true, ..core(plural, kind) }
}

const fn custom(plural: &'static str, kind: &'static str, namespaced: bool, status: bool) -> Kind {
    Kind {
        group: "botsecret.dev",
        version: "v1alpha1",
        namespaced,
        status,
        generation: true,
        unconditional: false,
        ..core(plural, kind)
    }
}

pub static KINDS: [Kind; 11] = [
    core("secrets", "Secret"),
    core("serviceaccounts", "ServiceAccount"),
    Kind { status: true, ..core("pods", "Pod") },
    workload("deployments", "Deployment"),
    workload("statefulsets", "StatefulSet"),
    workload("daemonsets", "DaemonSet"),
    custom("botsecrets", "BotSecret", true, true),
    custom("botsecretstores", "BotSecretStore", true, false),
    custom("clusterbotsecretstores", "ClusterBotSecretStore", false, false),
    Kind { group: "coordination.k8s.io", unconditional: false, ..core("leases", "Lease") },
    Kind { group: "events.k8s.io", ..core("events", "Event") },
];

impl Kind {
    /// The resource of this group and plural name.
    pub fn find(group: &str, plural: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.group == group && kind.plural == plural)
    }

    /// The resource of this plural name; no two groups share one here.
    pub fn named(plural: &str) -> &'static Self {
        KINDS.iter().find(|kind| kind.plural == plural).expect("a known resource")
    }

    /// The status that its definition gives one that nobody has written a status for.
    pub fn unobserved(&self) -> Option<Value> {
        (self.kind == "BotSecret").then(|| json!({ "observedGeneration": -1 }))
    }

    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// As errors name it.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }
}
