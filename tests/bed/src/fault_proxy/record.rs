//! What was asked.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use http::Response;
use hyper::body::Bytes;

use crate::cluster::lock;

/// So many first answers are kept.
const ANSWERS_KEPT: usize = 4096;
/// Larger ones are not kept.
const LARGEST_KEPT: usize = 64 << 10;

/// A request by its host, its line and its body.
pub(super) type Question = (String, String, Bytes);

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxiedRequest {
    /// When it had arrived whole.
    pub at: SystemTime,
    /// The name that it was for, without a port that the scheme has anyway.
    pub host: String,
    /// `GET`, `POST`, …
    pub method: String,
    /// Path and query as they were sent.
    pub path: String,
    /// The header `x-amz-target`, by which AWS names what is asked.
    pub target: Option<String>,
    /// Bytes of its body.
    pub sent: usize,
    /// The status that was answered, once one was.
    pub status: Option<u16>,
    /// Bytes of the peer's answer that came back.
    pub answered: usize,
}

/// A point in the record.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProxyMark(usize);

#[derive(Debug, Default)]
pub(super) struct Record {
    requests: Mutex<Vec<ProxiedRequest>>,
    connections: AtomicUsize,
    answers: Mutex<HashMap<Question, Response<Bytes>>>,
}

impl Record {
    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Its place, for when it is answered.
    pub(super) fn asked(&self, request: ProxiedRequest) -> usize {
        let mut requests = lock(&self.requests);
        requests.push(request);
        requests.len() - 1
    }

    pub(super) fn answered(&self, place: usize, status: u16, bytes: usize) {
        if let Some(request) = lock(&self.requests).get_mut(place) {
            (request.status, request.answered) = (Some(status), bytes);
        }
    }

    /// Keeps the first good answer to a question.
    pub(super) fn keep(&self, question: Question, answer: &Response<Bytes>) {
        let mut answers = lock(&self.answers);
        if answer.status().is_success() && answer.body().len() <= LARGEST_KEPT && answers.len() < ANSWERS_KEPT {
            answers.entry(question).or_insert_with(|| answer.clone());
        }
    }

    pub(super) fn first_answer(&self, question: &Question) -> Option<Response<Bytes>> {
        lock(&self.answers).get(question).cloned()
    }

    pub(super) fn mark(&self) -> ProxyMark {
        ProxyMark(lock(&self.requests).len())
    }

    pub(super) fn since(&self, mark: ProxyMark) -> Vec<ProxiedRequest> {
        lock(&self.requests).get(mark.0..).unwrap_or_default().to_vec()
    }
}
