//! What OpenBao's audit device says was asked of it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Mutex;

use anyhow::Result;
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;

use crate::cluster::lock;

/// One request that was answered.
#[derive(Clone, Debug)]
pub struct BaoRequest {
    /// When it was answered.
    pub time: Timestamp,
    /// `read`, `create`, `update`, `delete` or `list`.
    pub operation: String,
    /// The path without `/v1/`.
    pub path: String,
    /// The accessor of the token it came with, or that a login gave.
    pub accessor: Option<String>,
    /// Why it was refused, if it was.
    pub error: Option<String>,
}

impl BaoRequest {
    /// Whether it was a login, successful or not.
    #[must_use]
    pub fn is_login(&self) -> bool {
        let auth = self.path.strip_prefix("auth/");
        auth.is_some_and(|rest| rest.split('/').any(|part| part == "login"))
    }
}

/// A point in the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct BaoMark(usize);

/// The audit device's file. OpenBao writes a line before it answers, so the
/// file is complete for whatever has been answered.
pub(super) struct RequestLog {
    path: PathBuf,
    read: Mutex<SoFar>,
}

#[derive(Default)]
struct SoFar {
    offset: u64,
    rest: Vec<u8>,
    requests: Vec<BaoRequest>,
}

impl RequestLog {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, read: Mutex::default() }
    }

    pub(super) fn mark(&self) -> Result<BaoMark> {
        self.read_on()?;
        Ok(BaoMark(lock(&self.read).requests.len()))
    }

    pub(super) fn since(&self, mark: BaoMark) -> Result<Vec<BaoRequest>> {
        self.read_on()?;
        Ok(lock(&self.read).requests[mark.0..].to_vec())
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
            let entry: Entry = serde_json::from_slice(line)?;
            if entry.kind != "response" {
                continue;
            }
            read.requests.push(BaoRequest {
                time: entry.time,
                operation: entry.request.operation,
                path: entry.request.path,
                accessor: entry
                    .auth
                    .and_then(|auth| auth.accessor)
                    .or(entry.request.client_token_accessor)
                    .filter(|accessor| !accessor.is_empty()),
                error: entry.error.filter(|error| !error.is_empty()),
            });
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Entry {
    time: Timestamp,
    #[serde(rename = "type")]
    kind: String,
    auth: Option<Auth>,
    request: Request,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Auth {
    accessor: Option<String>,
}

#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    operation: String,
    #[serde(default)]
    path: String,
    client_token_accessor: Option<String>,
}
