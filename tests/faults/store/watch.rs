//! Watches: the revisions after one, as they come.

use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, stream};
use hyper::body::Frame;
use serde_json::{Value, json};
use tower::BoxError;

use super::{
    super::clock,
    Inner, Refusal, Request, Revision, Store,
    list::{Selection, shown},
};

/// How long a watch lasts that does not say.
const LASTS: Duration = Duration::from_secs(1800);

/// A place in history, and what is looked for from there on.
#[derive(Debug)]
pub struct Watch {
    plural: &'static str,
    kind: &'static str,
    api_version: String,
    selection: Selection,
    metadata_only: bool,
    bookmarks: bool,
    /// The last revision that was told.
    told: u64,
    /// As [`Inner::expired`] was when it began.
    expired: u64,
    ends: Duration,
    over: bool,
}

/// What to do next about a watch.
enum Next {
    Tell(Vec<u8>),
    Wait(Duration),
    End,
}

impl Inner {
    pub(super) fn watch(&self, request: &Request) -> Result<Watch, Refusal> {
        let from = request.asked("resourceVersion").unwrap_or_default();
        let told = match from {
            "" | "0" => 0,
            number => number.parse().map_err(|_| Refusal::bad("resourceVersion"))?,
        };
        let lasts = request.asked("timeoutSeconds").and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        Ok(Watch {
            plural: request.kind.plural,
            kind: request.kind.kind,
            api_version: request.kind.api_version(),
            selection: Selection::of(request)?,
            metadata_only: request.metadata_only,
            bookmarks: request.asked("allowWatchBookmarks") == Some("true"),
            told,
            expired: self.expired,
            ends: clock::elapsed() + lasts.unwrap_or(LASTS),
            over: false,
        })
    }

    fn next(&self, watch: &mut Watch) -> Next {
        if watch.over {
            return Next::End;
        }
        if watch.expired < self.expired {
            watch.over = true;
            let status = Refusal::new(410, "Expired", "too old resource version").to_status();
            return Next::Tell(line("ERROR", &status));
        }
        let (visible, until) = self.visible();
        while watch.told < visible {
            // Revisions are numbered without a gap, from 1.
            let Some(revision) = usize::try_from(watch.told).ok().and_then(|index| self.revisions.get(index)) else {
                break;
            };
            watch.told = revision.number;
            if let Some(line) = watch.event(revision) {
                return Next::Tell(line);
            }
        }
        if clock::elapsed() >= watch.ends {
            watch.over = true;
            return if watch.bookmarks { Next::Tell(watch.bookmark()) } else { Next::End };
        }
        Next::Wait(until.map_or(watch.ends, |until| until.min(watch.ends)))
    }
}

impl Watch {
    fn event(&self, revision: &Revision) -> Option<Vec<u8>> {
        if revision.key.plural != self.plural {
            return None;
        }
        let takes = |object: &Value| self.selection.takes(&revision.key, object);
        let was = revision.before.as_deref().is_some_and(takes);
        let is = !revision.deleted && takes(&revision.after);
        let type_ = match (was, is) {
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
            (false, false) => return None,
        };
        Some(line(type_, &shown(&revision.after, self.metadata_only)))
    }

    fn bookmark(&self) -> Vec<u8> {
        let (kind, version) = if self.metadata_only {
            ("PartialObjectMetadata", "meta.k8s.io/v1")
        } else {
            (self.kind, self.api_version.as_str())
        };
        let metadata = json!({ "resourceVersion": self.told.to_string(), "creationTimestamp": null });
        line("BOOKMARK", &json!({ "kind": kind, "apiVersion": version, "metadata": metadata }))
    }
}

fn line(type_: &str, object: &Value) -> Vec<u8> {
    let mut line = json!({ "type": type_, "object": object }).to_string().into_bytes();
    line.push(b'\n');
    line
}

/// The watch as the body of an answer.
pub fn stream(store: Store, watch: Watch) -> impl Stream<Item = Result<Frame<Bytes>, BoxError>> + Send {
    let changed = store.changes();
    stream::unfold((store, watch, changed), |(store, mut watch, mut changed)| async move {
        loop {
            changed.borrow_and_update();
            let next = store.lock().next(&mut watch);
            match next {
                Next::Tell(line) => return Some((Ok(Frame::data(Bytes::from(line))), (store, watch, changed))),
                Next::End => return None,
                Next::Wait(until) => tokio::select! {
                    _ = changed.changed() => {}
                    () = tokio::time::sleep_until(clock::instant(until)) => {}
                },
            }
        }
    })
}
