//! One writer: leader election by a `coordination.k8s.io` Lease.
//!
//! The Lease is only ever written with the `resourceVersion` of what was seen,
//! so of two candidates one is refused. A holder that could not renew for
//! [`RENEW_WITHIN`] writes nothing more, [`LASTS`] before which nobody else
//! believes it gone: there is time in which nobody leads, and none in which two do.

mod decide;
mod fence;

use std::{pin::pin, time::Duration};

use futures::StreamExt;
use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use tokio::{
    sync::watch::{self, Receiver, Sender},
    task::JoinHandle,
    time::Instant,
};

use self::decide::{Sighting, Step, Watcher};
pub use self::fence::Fence;

/// How long a leader is believed that gives no sign of life, as in client-go.
const LASTS: Duration = Duration::from_secs(15);
/// How long a leader goes on after the last renewal that it knows of.
const RENEW_WITHIN: Duration = Duration::from_secs(10);
/// How often it renews.
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// How soon a request that failed is made again.
const RETRY: Duration = Duration::from_millis(500);
/// How long passes may go on after the signal to stop.
const GRACE: Duration = Duration::from_secs(10);
/// The same where another replica may wait for the Lease.
const GRACE_BEFORE_ANOTHER: Duration = Duration::from_secs(1);
/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(3);

/// Which Lease, and who asks for it.
#[derive(Clone, Debug)]
pub struct Election {
    /// The Lease's name, in the operator's own namespace.
    pub lease: String,
    /// Unique to this process, or to its pod: a container that is started again
    /// in the same pod takes up its own Lease at once.
    pub identity: String,
}

/// What a process is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Another leads, or nobody yet.
    Standby,
    /// This process writes.
    Leading,
    /// It led, and may not write any more.
    Deposed,
}

/// This process's part in the election, if there is one.
pub struct Leadership {
    candidate: Option<(Elector, JoinHandle<()>)>,
    /// What the process is.
    pub standing: Receiver<Standing>,
    /// Without an election nothing changes, and nobody else keeps it.
    _sender: Sender<Standing>,
}

impl Leadership {
    /// Begins to campaign; without an election this process leads. `client` is
    /// one that no fence holds back.
    pub fn begin(client: Client, namespace: &str, election: Option<Election>, fence: Fence) -> Self {
        let first = if election.is_some() { Standing::Standby } else { Standing::Leading };
        let (sender, standing) = watch::channel(first);
        let candidate = election.map(|election| {
            let elector = Elector { api: Api::namespaced(client, namespace), election, fence };
            (elector.clone(), tokio::spawn(elector.run(sender.clone())))
        });
        Self { candidate, standing, _sender: sender }
    }

    /// How long what is under way may go on after the signal to stop. What
    /// another replica waits for, it takes up where it stands.
    pub fn grace(&self) -> Duration {
        if self.candidate.is_some() { GRACE_BEFORE_ANOTHER } else { GRACE }
    }

    /// Lets another lead, if this process does.
    pub async fn end(self) {
        if let Some((elector, campaign)) = self.candidate {
            campaign.abort();
            if *self.standing.borrow() == Standing::Leading {
                elector.release().await;
            }
        }
    }
}

/// Campaigns for the Lease and keeps it.
#[derive(Clone)]
struct Elector {
    api: Api<Lease>,
    election: Election,
    fence: Fence,
}

impl Elector {
    /// Becomes the leader, stays it as long as it can, and tells what it is.
    async fn run(self, standing: Sender<Standing>) {
        let mut held = self.campaign().await;
        tracing::info!(lease = %self.election.lease, identity = %self.election.identity, "this replica leads");
        standing.send_replace(Standing::Leading);
        while !self.fence.left(Instant::now()).is_zero() {
            tokio::time::sleep(RENEW_EVERY).await;
            match self.renew(held).await {
                Some(renewed) => held = renewed,
                None => break,
            }
        }
        self.fence.close();
        standing.send_replace(Standing::Deposed);
    }

    /// Waits until the Lease is ours.
    async fn campaign(&self) -> Lease {
        let only = watcher::Config::default().fields(&format!("metadata.name={}", self.election.lease));
        let mut changes = pin!(watcher(self.api.clone(), only).default_backoff());
        let mut watcher = Watcher::default();
        let mut seen = self.look().await;
        loop {
            let again = match &seen {
                Err(_) => Instant::now() + RETRY,
                Ok(seen) => match self.next_step(&mut watcher, seen.as_ref()) {
                    Step::WaitUntil(at) => at,
                    Step::Take => match self.write(self.taken(seen.as_ref())).await {
                        Ok(held) => return held,
                        Err(_) => Instant::now() + RETRY,
                    },
                },
            };
            // A leader that ends says so in the Lease: the watch brings it.
            tokio::select! {
                () = tokio::time::sleep_until(again) => seen = self.look().await,
                change = changes.next() => match change {
                    Some(Ok(watcher::Event::Apply(lease) | watcher::Event::InitApply(lease))) => seen = Ok(Some(lease)),
                    Some(Ok(watcher::Event::Delete(_))) => seen = Ok(None),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => tokio::time::sleep(RETRY).await,
                },
            }
        }
    }

    fn next_step(&self, watcher: &mut Watcher, seen: Option<&Lease>) -> Step {
        seen.map_or(Step::Take, |lease| watcher.decide(&Sighting::of(lease, LASTS), self.us(), Instant::now()))
    }

    /// One renewal, tried for as long as the fence is open; `None` where the
    /// Lease is another's.
    async fn renew(&self, mut held: Lease) -> Option<Lease> {
        while !self.fence.left(Instant::now()).is_zero() {
            match self.write(self.renewed(held.clone())).await {
                Ok(renewed) => return Some(renewed),
                // Somebody wrote it, or the answer to our own write was lost.
                Err(Trouble::Changed) => match self.look().await {
                    Ok(Some(now)) if Sighting::of(&now, LASTS).holder == self.us() => held = now,
                    Ok(Some(now)) => {
                        let holder = Sighting::of(&now, LASTS).holder;
                        tracing::error!(lease = %self.election.lease, holder, "another replica took the Lease");
                        return None;
                    }
                    // Somebody deleted it: whoever makes it first leads.
                    Ok(None) => held.metadata.resource_version = None,
                    Err(_) => tokio::time::sleep(RETRY).await,
                },
                Err(Trouble::Unanswered) => tokio::time::sleep(RETRY).await,
            }
        }
        tracing::error!(lease = %self.election.lease, "the Lease could not be renewed in time");
        None
    }

    /// Hands the Lease back, so that a standby need not wait for its end.
    /// Nothing is written afterwards.
    async fn release(&self) {
        self.fence.close();
        for _ in 0..3 {
            let Ok(Some(mut lease)) = self.look().await else { continue };
            if Sighting::of(&lease, LASTS).holder != self.us() {
                return;
            }
            if let Some(spec) = &mut lease.spec {
                (spec.holder_identity, spec.lease_duration_seconds) = (None, Some(1));
            }
            if request(self.api.replace(&self.election.lease, &PostParams::default(), &lease)).await.is_ok() {
                tracing::info!(lease = %self.election.lease, "the Lease is released");
                return;
            }
        }
        tracing::warn!(lease = %self.election.lease, "the Lease could not be released: it ends by itself");
    }

    fn us(&self) -> &str {
        &self.election.identity
    }

    async fn look(&self) -> Result<Option<Lease>, Trouble> {
        request(self.api.get_opt(&self.election.lease)).await
    }

    /// Writes this over what was seen, and opens the fence from the moment at
    /// which that was asked for.
    async fn write(&self, lease: Lease) -> Result<Lease, Trouble> {
        let (asked, params) = (Instant::now(), PostParams::default());
        let written = match &lease.metadata.resource_version {
            Some(_) => request(self.api.replace(&self.election.lease, &params, &lease)).await?,
            None => request(self.api.create(&params, &lease)).await?,
        };
        self.fence.open_until(asked + RENEW_WITHIN);
        Ok(written)
    }

    /// The Lease as it is while this process holds it.
    fn taken(&self, seen: Option<&Lease>) -> Lease {
        let metadata = ObjectMeta { name: Some(self.election.lease.clone()), ..ObjectMeta::default() };
        let mut lease = seen.cloned().unwrap_or(Lease { metadata, spec: None });
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(self.us()) {
            spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |transitions| transitions + 1));
            spec.acquire_time = Some(MicroTime(Timestamp::now()));
        }
        self.renewed(lease)
    }

    fn renewed(&self, mut lease: Lease) -> Lease {
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(self.election.identity.clone());
        spec.lease_duration_seconds = i32::try_from(LASTS.as_secs()).ok();
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        lease
    }
}

/// Why a request to the Lease came to nothing.
enum Trouble {
    /// It is not as it was seen.
    Changed,
    /// No answer, or a failure that may pass.
    Unanswered,
}

async fn request<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Trouble> {
    match tokio::time::timeout(REQUEST, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Err(Trouble::Changed),
        Ok(Err(error)) => {
            if let kube::Error::Api(status) = &error {
                tracing::warn!(code = status.code, said = status.message, "the Lease could not be read or written");
            }
            Err(Trouble::Unanswered)
        }
        Err(_) => Err(Trouble::Unanswered),
    }
}
