//! What the API server's audit log says was asked of it, and by whom.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde::Deserialize;

use super::lock;
use crate::{runtime, wait_for};

/// One request, once: a watch when it starts, all others when they end.
#[derive(Clone, Debug)]
pub struct AuditRecord {
    /// When it ended; a watch: when it started.
    pub time: Timestamp,
    /// From its arrival to `time`.
    pub latency: Duration,
    /// The user's name, as the API server knows it.
    pub user: String,
    /// What the client calls itself.
    pub user_agent: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` …
    pub verb: String,
    /// The API group; empty for the core.
    pub api_group: String,
    /// The plural resource; empty for a path such as `/version`.
    pub resource: String,
    /// `status`, `token` …; mostly empty.
    pub subresource: String,
    /// The namespace asked about; empty for all and for cluster-wide objects.
    pub namespace: String,
    /// The object's name; empty for lists and generated names.
    pub name: String,
    /// Path and query.
    pub uri: String,
    /// The HTTP status.
    pub code: u16,
}

/// A point in the log: what is after it was asked after it was taken.
#[derive(Clone, Copy, Debug)]
pub struct AuditMark(usize);

/// The audit log of one API server.
pub struct AuditLog {
    path: PathBuf,
    client: Client,
    read: Arc<Mutex<ReadSoFar>>,
}

impl std::fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditLog").field("path", &self.path).finish_non_exhaustive()
    }
}

/// How far the file has been read, and what was in it.
#[derive(Default)]
struct ReadSoFar {
    offset: u64,
    rest: Vec<u8>,
    watches: HashSet<String>,
    records: Vec<AuditRecord>,
    markers: HashSet<String>,
}

const MARKER: &str = "/version?testbed-marker=";

impl AuditLog {
    pub(super) fn new(path: PathBuf, client: Client) -> Self {
        Self { path, client, read: Arc::default() }
    }

    /// The point that lies after everything asked and answered until now.
    pub async fn mark(&self) -> Result<AuditMark> {
        self.catch_up().await?;
        Ok(AuditMark(lock(&self.read).records.len()))
    }

    /// Everything that this user has asked for.
    pub async fn requests_by(&self, user: &str) -> Result<Vec<AuditRecord>> {
        self.requests_by_since(user, &AuditMark(0)).await
    }

    /// Everything that this user has asked for since then.
    pub async fn requests_by_since(&self, user: &str, mark: &AuditMark) -> Result<Vec<AuditRecord>> {
        self.catch_up().await?;
        let read = lock(&self.read);
        let records = read.records[mark.0..].iter();
        Ok(records.filter(|record| record.user == user).cloned().collect())
    }

    /// Everything that anyone has asked for since then.
    pub async fn since(&self, mark: &AuditMark) -> Result<Vec<AuditRecord>> {
        self.catch_up().await?;
        Ok(lock(&self.read).records[mark.0..].to_vec())
    }

    /// Reads on until a request of our own, made now, is in the log.
    ///
    /// The log is written before a request's handler returns, so whatever was
    /// answered before ours was made is in it by then.
    async fn catch_up(&self) -> Result<()> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let marker = format!("{MARKER}{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let (client, uri) = (self.client.clone(), marker.clone());
        let asked = runtime::run(async move {
            let request = http::Request::get(uri).body(Vec::new())?;
            let answer = client.request_text(request);
            tokio::time::timeout(Duration::from_secs(20), answer).await??;
            Ok(())
        })
        .await;
        if asked.is_err() {
            // The API server is down: what it wrote is all there is.
            return self.read_on();
        }
        wait_for("our own request in the audit log", Duration::from_secs(20), || async {
            self.read_on()?;
            Ok(lock(&self.read).markers.remove(&marker).then_some(()))
        })
        .await
    }

    fn read_on(&self) -> Result<()> {
        let mut read = lock(&self.read);
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(read.offset))?;
        let mut text = std::mem::take(&mut read.rest);
        read.offset += u64::try_from(file.read_to_end(&mut text)?)?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        read.rest = text.split_off(whole);
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            read.take_in(serde_json::from_slice(line)?);
        }
        Ok(())
    }
}

impl ReadSoFar {
    fn take_in(&mut self, event: Event) {
        if event.request_uri.starts_with(MARKER) {
            self.markers.insert(event.request_uri);
            return;
        }
        // A watch is logged when it starts and when it ends; one that is
        // refused may have only one of the two.
        if event.stage == "ResponseStarted" {
            self.watches.insert(event.audit_id);
        } else if self.watches.remove(&event.audit_id) {
            return;
        }
        let object = event.object_ref.unwrap_or_default();
        let latency = event.stage_timestamp.duration_since(event.request_received_timestamp);
        self.records.push(AuditRecord {
            time: event.stage_timestamp,
            latency: Duration::try_from(latency).unwrap_or_default(),
            user: event.user.username,
            user_agent: event.user_agent,
            verb: event.verb,
            api_group: object.api_group,
            resource: object.resource,
            subresource: object.subresource,
            namespace: object.namespace,
            name: object.name,
            uri: event.request_uri,
            code: event.response_status.map_or(0, |status| status.code),
        });
    }
}

/// <https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/>
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(rename = "auditID")]
    audit_id: String,
    stage: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: String,
    user: User,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<ObjectRef>,
    response_status: Option<Status>,
    request_received_timestamp: Timestamp,
    stage_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ObjectRef {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
    api_group: String,
}
