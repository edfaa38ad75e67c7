//! The operator: one pass at a time, which stops wherever something may come in
//! between.
//!
//! The half that rolls is the shipped one, `src/runtime/rolling/`, compiled into
//! this test with a world in memory for its requests. The half that writes the
//! Secret calls `next_state`, as `apply` does.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    pin::pin,
    sync::Arc,
    task::{Context as Wakes, Poll, Waker},
    time::Duration,
};

use botsecret::{
    api::BotSecret,
    apply::{Desired, Known, next_state},
    plan::{Memory, Retry},
    report::{Outcome, Problem, Reason, RolloutReport, SyncReport, status},
    rollout::Requirement,
    secret::SecretData,
    watch::Observed,
};
use jiff::Timestamp;
use kube::Client;
use serde_json::json;

use super::{
    Mutant,
    record::{Status, Stored, target},
    rolling,
    rollout::{Answer, DESK, Reply},
    world::{KEY, NAMES, Notes, Rev, SECRET, Secret, Shown, World, Write, at, digest, second},
};

/// What a pass reads besides the API: as `botsecret::runtime` has it.
pub struct Context {
    pub client: Client,
    pub digest_key: DigestKey,
    pub places: rolling::Places,
    pub metrics: Metrics,
    pub now: Timestamp,
}

impl Context {
    pub fn now(&self) -> Timestamp {
        self.now
    }
}

pub struct DigestKey;

impl DigestKey {
    #[allow(clippy::unused_self, reason = "as the one that it replaces")]
    pub fn fingerprint(&self, digests: &BTreeMap<String, String>) -> String {
        digests.get(KEY).cloned().unwrap_or_default()
    }
}

pub struct Metrics {
    pub rollouts: Nobody,
}

/// Counts for nobody.
pub struct Nobody;

impl Nobody {
    #[allow(clippy::unused_self, reason = "as the one that it replaces")]
    pub fn inc(&self) {}
}

/// What passes share in one thread of the search.
pub struct Shop {
    context: Context,
    object: BotSecret,
    mutant: Option<Mutant>,
    _runtime: tokio::runtime::Runtime,
}

impl Shop {
    /// The API takes whatever it is sent.
    pub fn unguarded(&self) -> bool {
        self.mutant == Some(Mutant::NoPrecondition)
    }

    /// A patch is put on record before it is made.
    pub fn records_first(&self) -> bool {
        self.mutant == Some(Mutant::RecordFirst)
    }

    pub fn open(mutant: Option<Mutant>) -> Self {
        DESK.with_borrow_mut(|desk| desk.mutant = mutant);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let entered = runtime.enter();
        let nobody = tower::service_fn(async |_: hyper::Request<kube::client::Body>| {
            Err::<hyper::Response<kube::client::Body>, _>(std::io::Error::other("nobody is there"))
        });
        let object = json!({
            "apiVersion": "botsecret.dev/v1alpha1", "kind": "BotSecret",
            "metadata": { "name": SECRET, "namespace": "n", "uid": "u", "generation": 1 },
            "spec": { "serviceAccountName": "bot", "rollout": { "healthyFor": "1s" } },
        });
        let context = Context {
            client: Client::new(nobody, "n"),
            digest_key: DigestKey,
            places: rolling::Places::default(),
            metrics: Metrics { rollouts: Nobody },
            now: at(0),
        };
        drop(entered);
        let object = serde_json::from_value(object).expect("a BotSecret");
        Self { context, object, mutant, _runtime: runtime }
    }
}

/// What a pass began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Eyes {
    pub status: (u32, Status),
    pub workloads: [Shown; 2],
    pub secret: Secret,
    pub notes: Notes,
    /// Whether a look is due, or something else began the pass.
    pub due: bool,
}

/// A pass that stands before its next request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// The Secret is to be written.
    Sync { eyes: Eyes, write: Write },
    /// That was done or failed; the workloads are to be looked at.
    Look { eyes: Eyes, synced: bool },
    /// A workload is to be patched.
    Roll { eyes: Eyes, synced: bool, began: i64, log: Vec<Reply>, write: Write },
    /// The status is to be written.
    Report { notes: Notes, write: Write },
}

impl Pass {
    pub fn next(&self) -> Option<&Write> {
        match self {
            Self::Look { .. } => None,
            Self::Sync { write, .. } | Self::Roll { write, .. } | Self::Report { write, .. } => Some(write),
        }
    }
}

impl Shop {
    /// A pass begins: the source is read, and the Secret if that is called for.
    pub fn begin(&mut self, world: &mut World, mut eyes: Eyes) {
        let recorded = eyes.status.1.target;
        if eyes.secret.version == recorded.0 && eyes.secret.state.value == world.source {
            return self.look(world, &eyes, true);
        }
        let (live, source) = (world.secret, world.source);
        let state = live.state.real();
        let differing = || (live.value != source).then(|| KEY.to_owned()).into_iter().collect::<BTreeSet<_>>();
        let delivered = eyes.status.1.rollout == Some((recorded.1, true));
        let known = Known {
            state: Some(&state),
            written_at: Some(at(live.written)),
            live_differences: Some(differing()),
            live_lacks: BTreeSet::new(),
            recorded: Some(recorded.1.real()),
            changed_since_handed: None,
            delivered,
            as_recorded: recorded.1.value == source,
        };
        let desired = Desired::new(&self.object, SecretData::new(), World::digests(source), BTreeMap::new());
        let desired = desired.expect("it has a name and UID");
        let next = next_state(&desired, "k", &digest(source), &known, at(world.now));
        if live.value == source && state.says_the_same_as(&next) {
            eyes.secret = live;
            return self.look(world, &eyes, true);
        }
        let write = Write::Secret { version: live.version, value: source, state: Stored::of(&next) };
        world.pass = Some(Pass::Sync { eyes, write });
    }

    /// The pass goes on with this answer to its request.
    pub fn go_on(&mut self, world: &mut World, pass: Pass, answer: Answer) {
        match pass {
            Pass::Sync { mut eyes, .. } => {
                let synced = answer == Answer::Done;
                if synced {
                    eyes.secret = world.secret;
                }
                world.pass = Some(Pass::Look { eyes, synced });
            }
            Pass::Look { eyes, synced } => self.look(world, &eyes, synced),
            Pass::Roll { eyes, synced, began, mut log, .. } => {
                log.push(Reply::Wrote(answer));
                self.roll(world, &eyes, synced, began, log);
            }
            Pass::Report { notes, .. } => finish(world, notes),
        }
    }

    fn look(&mut self, world: &mut World, eyes: &Eyes, synced: bool) {
        self.roll(world, eyes, synced, world.now, Vec::new());
    }

    /// Runs the shipped half of the pass from its start to its first request
    /// that has no answer yet.
    fn roll(&mut self, world: &mut World, eyes: &Eyes, synced: bool, began: i64, log: Vec<Reply>) {
        self.context.now = at(began);
        let mut object = self.object.clone();
        object.status = Some(eyes.status.1.real());
        let workloads = (0..).zip(&eyes.workloads).map(|(index, shown)| Arc::new(shown.facts(index))).collect();
        let observed = Observed {
            bot_secret: Arc::new(object),
            stores: BTreeMap::new(),
            lenders: BTreeMap::new(),
            account: None,
            rotator: None,
            secret: None,
            lost: None,
            workloads,
            shared: HashMap::new(),
            rollouts_served: false,
            older_rival: None,
            younger_rivals: Vec::new(),
        };
        let mut memory = remembered(eyes);
        DESK.with_borrow_mut(|desk| {
            (desk.log, desk.told, desk.live, desk.wanted) = (log, 0, Some(world.workloads.clone()), None);
        });
        let state = eyes.secret.state.real();
        let report = {
            let written = Some(at(eyes.secret.written));
            let run = pin!(rolling::roll(&self.context, &observed, &state, written, &mut memory));
            run.poll(&mut Wakes::from_waker(Waker::noop()))
        };
        let (log, wanted) = DESK.with_borrow_mut(|desk| (std::mem::take(&mut desk.log), desk.wanted.take()));
        let report = match (report, wanted) {
            (Poll::Ready(report), None) => report,
            (_, Some(write)) => {
                world.pass = Some(Pass::Roll { eyes: *eyes, synced, began, log, write });
                return;
            }
            (Poll::Pending, None) => panic!("a pass waits for nothing but its requests"),
        };
        let notes = Notes { settled_in: true, ..noted(&memory) };
        let next = said(&observed.bot_secret, eyes, synced, report, at(began));
        if next == eyes.status.1 {
            return finish(world, notes);
        }
        world.pass = Some(Pass::Report { notes, write: Write::Status { version: eyes.status.0, status: next } });
    }
}

fn finish(world: &mut World, notes: Notes) {
    world.notes = notes;
    world.pass = None;
}

/// The status after the pass.
fn said(object: &BotSecret, eyes: &Eyes, synced: bool, rollout: RolloutReport, now: Timestamp) -> Status {
    let sync = if synced {
        SyncReport::Synced(target((eyes.secret.version, eyes.secret.state.rev)))
    } else {
        let problem = Problem::new(Reason::KubernetesUnavailable, Retry::Soon, "not written");
        SyncReport::Failed { problem, stale: false }
    };
    let outcome = Outcome { sync, rollout, ..Outcome::default() };
    Status::of(&status(object, &outcome, now))
}

fn remembered(eyes: &Eyes) -> Memory {
    let by_uid = || NAMES.into_iter().map(str::to_owned);
    let looked_at = by_uid().zip(eyes.notes.looked_at).filter_map(|(uid, version)| Some((uid, version?.to_string())));
    let found = by_uid().zip(eyes.notes.found_current).filter_map(|(uid, found)| {
        let (revision, newest, written) = found?;
        Some((
            uid,
            Requirement {
                revision: revision.real(),
                newest: newest.real(),
                written_at: at(written),
                same_before: None,
            },
        ))
    });
    let later = || tokio::time::Instant::now() + Duration::from_secs(3600);
    Memory {
        looked_at: looked_at.collect(),
        found_current: found.collect::<HashMap<_, _>>(),
        next_look: (!eyes.due).then(later),
        ..Memory::default()
    }
}

fn noted(memory: &Memory) -> Notes {
    let looked_at = NAMES.map(|uid| memory.looked_at.get(uid).map(|version| version.parse().expect("a version")));
    let found_current = NAMES.map(|uid| {
        let found = memory.found_current.get(uid)?;
        Some((Rev::of(&found.revision), Rev::of(&found.newest), second(found.written_at)))
    });
    Notes { looked_at, found_current, settled_in: false }
}
