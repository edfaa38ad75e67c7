//! Projects, secrets and their versions.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::iam::{Iam, Role};
use crate::tokens::ClusterKeys;

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GcpRequest {
    /// sts, oauth2, iamcredentials, metadata or secretmanager.
    pub service: &'static str,
    /// The method.
    pub method: String,
    /// The path, without its query.
    pub path: String,
    /// Whose access token it carried, where it was good.
    pub principal: Option<String>,
    /// The answer's status.
    pub status: u16,
}

/// What may be done with a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionState {
    /// It may be read.
    Enabled,
    /// It may be enabled again.
    Disabled,
    /// Its data are gone.
    Destroyed,
}

impl VersionState {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Enabled => "ENABLED",
            Self::Disabled => "DISABLED",
            Self::Destroyed => "DESTROYED",
        }
    }
}

pub(super) struct Version {
    pub(super) data: Vec<u8>,
    pub(super) state: VersionState,
    created: Timestamp,
}

/// One secret; version N is at N - 1.
pub(super) struct Secret {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) aliases: BTreeMap<String, u64>,
    pub(super) versions: Vec<Version>,
    pub(super) replication: Value,
    created: Timestamp,
    /// Lists begin with the newest.
    pub(super) order: u64,
}

pub(super) struct State {
    pub(super) iam: Iam,
    pub(super) projects: BTreeMap<String, u64>,
    /// By name, the project by its id.
    pub(super) secrets: BTreeMap<String, Secret>,
    pub(super) damage: usize,
    /// How many versions `latest` is behind.
    pub(super) lag: u64,
    pub(super) requests: Vec<GcpRequest>,
    made: u64,
}

impl Secret {
    /// The number that `latest`, an alias or a number stands for.
    pub(super) fn number(&self, version: &str) -> Option<u64> {
        let number = match version {
            "latest" => self.versions.len() as u64,
            other => match other.parse() {
                Ok(number) => number,
                Err(_) => *self.aliases.get(other)?,
            },
        };
        (1..=self.versions.len() as u64).contains(&number).then_some(number)
    }

    pub(super) fn version(&self, number: u64) -> Option<&Version> {
        self.versions.get(usize::try_from(number).ok()?.checked_sub(1)?)
    }

    pub(super) fn add(&mut self, data: &[u8]) -> u64 {
        self.versions.push(Version { data: data.to_vec(), state: VersionState::Enabled, created: Timestamp::now() });
        self.versions.len() as u64
    }

    pub(super) fn set_state(&mut self, number: u64, state: VersionState) {
        let index = usize::try_from(number).unwrap_or_default().wrapping_sub(1);
        if let Some(version) = self.versions.get_mut(index) {
            version.state = state;
            if state == VersionState::Destroyed {
                version.data.clear();
            }
        }
    }

    pub(super) fn shown(&self, name: &str) -> Value {
        let mut shown = json!({
            "name": name, "replication": self.replication, "createTime": self.created.to_string(),
            "etag": format!("\"{:x}\"", self.order),
        });
        let aliases: BTreeMap<_, _> = self.aliases.iter().map(|(alias, number)| (alias, number.to_string())).collect();
        for (field, map) in [
            ("labels", json!(self.labels)),
            ("annotations", json!(self.annotations)),
            ("versionAliases", json!(aliases)),
        ] {
            // An empty map is left out, as in all of Google's JSON.
            if map.as_object().is_some_and(|map| !map.is_empty()) {
                shown[field] = map;
            }
        }
        shown
    }

    pub(super) fn shown_version(&self, name: &str, number: u64) -> Value {
        let Some(version) = self.version(number) else { return Value::Null };
        let mut shown = json!({
            "name": format!("{name}/versions/{number}"), "createTime": version.created.to_string(),
            "state": version.state.name(), "etag": format!("\"{number:x}\""),
            "replicationStatus": {"automatic": {}},
        });
        if version.state == VersionState::Destroyed {
            shown["destroyTime"] = json!(Timestamp::now().to_string());
        }
        shown
    }
}

impl State {
    pub(super) fn new(keys: ClusterKeys) -> Self {
        Self {
            iam: Iam::new(keys),
            projects: BTreeMap::new(),
            secrets: BTreeMap::new(),
            damage: 0,
            lag: 0,
            requests: Vec::new(),
            made: 0,
        }
    }

    /// The same name with the project's id where it has its number.
    pub(super) fn canonical(&self, name: &str) -> String {
        renamed(name, |project| {
            let number: u64 = project.parse().ok()?;
            self.projects.iter().find(|(_, known)| **known == number).map(|(id, _)| id.clone())
        })
    }

    /// The same name with the project's number, as answers have it.
    pub(super) fn numbered(&self, name: &str) -> String {
        renamed(name, |project| self.projects.get(project).map(u64::to_string))
    }

    pub(super) fn grant(&mut self, principal: &str, role: Role, resource: &str) {
        let resource = self.canonical(resource);
        self.iam.grants.push((principal.to_owned(), role, resource));
    }

    pub(super) fn new_secret(&mut self) -> Secret {
        self.made += 1;
        Secret {
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            aliases: BTreeMap::new(),
            versions: Vec::new(),
            replication: json!({"automatic": {}}),
            created: Timestamp::now(),
            order: self.made,
        }
    }

    pub(super) fn put(&mut self, name: &str, value: &[u8]) -> u64 {
        let name = self.canonical(name);
        let new = self.new_secret();
        self.secrets.entry(name).or_insert(new).add(value)
    }

    pub(super) fn change(&mut self, name: &str, change: impl FnOnce(&mut Secret)) -> Result<()> {
        let name = self.canonical(name);
        change(self.secrets.get_mut(&name).context("there is no such secret")?);
        Ok(())
    }
}

/// The name with another name for its project.
fn renamed(name: &str, other: impl Fn(&str) -> Option<String>) -> String {
    let mut parts: Vec<&str> = name.split('/').collect();
    let project = parts.get(1).and_then(|project| other(project));
    if let (Some("projects"), Some(project)) = (parts.first().copied(), &project) {
        parts[1] = project;
    }
    parts.join("/")
}
