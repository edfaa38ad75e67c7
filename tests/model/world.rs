//! The world of the model: a Secret, a BotSecret's status and two Deployments
//! with one pod each, small enough that every state of it can be visited.

use std::collections::{BTreeMap, BTreeSet};

use botsecret::{
    api::{WorkloadKind, delivery_annotation, marker_annotation},
    rollout::{Delivery, PodFacts, PodHealth},
    watch::{KeySet, Progress, SecretUse, UpdateStrategy, WorkloadFacts, WorkloadId},
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::LabelSelector, jiff::Timestamp};

use super::{
    operator::Pass,
    record::{Status, Stored},
};

pub const SECRET: &str = "bot";
pub const KEY: &str = "KEY";
pub const NAMES: [&str; 2] = ["a", "b"];
/// The first revision's number.
const FIRST: u64 = 100;

/// A revision: its number from the first one on, and the value that it brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rev {
    pub number: u8,
    pub value: u8,
}

impl Rev {
    pub fn real(self) -> botsecret::api::Revision {
        botsecret::api::Revision {
            number: FIRST + u64::from(self.number),
            key: "k".to_owned(),
            fingerprint: digest(self.value),
        }
    }

    pub fn of(revision: &botsecret::api::Revision) -> Self {
        let value = revision.fingerprint.strip_prefix('v').and_then(|text| text.parse().ok());
        Self {
            number: u8::try_from(revision.number - FIRST).expect("few revisions"),
            value: value.expect("a fingerprint of the model"),
        }
    }

    pub fn parse(text: &str) -> Self {
        Self::of(&text.parse().expect("a revision"))
    }
}

/// What stands for the keyed digest of a value.
pub fn digest(value: u8) -> String {
    format!("v{value}")
}

/// Seconds of the model as a time of day.
pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).expect("a time")
}

pub fn second(at: Timestamp) -> i64 {
    at.as_second() - 1_000_000
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// It has no node: nothing was read for it.
    Pending,
    /// It has read the Secret, and is not ready.
    Starting,
    Ready,
    /// Its container keeps ending.
    Crashing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pod {
    pub phase: Phase,
    pub terminating: bool,
    /// What it read when it began.
    pub holds: Option<Rev>,
    /// The marker of the template that it was made from.
    pub marker: Option<Rev>,
    pub created: i64,
    pub started: i64,
    pub restarted: bool,
}

/// A Deployment of one replica. Its template differs by the marker alone, so two
/// templates with the same marker are one, as with the template's hash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Workload {
    pub version: u32,
    /// Whether its controller has seen the template.
    pub observed: bool,
    pub marker: Option<Rev>,
    /// The delivery record: revision and number of patches.
    pub record: Option<(Rev, u8)>,
    pub pods: Vec<Pod>,
}

impl Workload {
    pub fn progress(&self) -> Progress {
        let live = || self.pods.iter().filter(|pod| !pod.terminating);
        let updated = live().filter(|pod| pod.marker == self.marker).count();
        let ready = live().filter(|pod| pod.phase == Phase::Ready).count();
        Progress {
            settled: self.observed && updated >= 1 && live().count() <= updated && ready >= updated,
            serving: ready >= 1,
            failed: false,
        }
    }

    /// What a watch keeps of it.
    pub fn shown(&self) -> Shown {
        let Progress { settled, serving, .. } = self.progress();
        Shown { version: self.version, marker: self.marker, record: self.record, settled, serving }
    }

    pub fn pod_facts(&self, index: usize) -> Vec<PodFacts> {
        let facts = |pod: &Pod| PodFacts {
            name: NAMES[index].to_owned(),
            uid: String::new(),
            created: Some(at(pod.created)),
            scheduled: pod.phase != Phase::Pending,
            terminating: pod.terminating,
            finished: false,
            annotations: pod
                .marker
                .map(|rev| (marker_annotation(SECRET), rev.real().to_string()))
                .into_iter()
                .collect(),
            controller: None,
            rollout_hash: None,
            uses: uses(),
            health: PodHealth {
                ready: pod.phase == Phase::Ready,
                restarts: if pod.restarted || pod.phase == Phase::Crashing { 2 } else { 0 },
                crash_looping: pod.phase == Phase::Crashing,
                last_started: (pod.phase != Phase::Pending).then(|| at(pod.started)),
            },
            restarted: Vec::new(),
        };
        self.pods.iter().map(facts).collect()
    }
}

/// A workload without its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shown {
    pub version: u32,
    pub marker: Option<Rev>,
    pub record: Option<(Rev, u8)>,
    pub settled: bool,
    pub serving: bool,
}

impl Shown {
    pub fn facts(&self, index: usize) -> WorkloadFacts {
        let markers = self.marker.map(|rev| (marker_annotation(SECRET), rev.real().to_string()));
        let record = self.record.map(|(rev, patches)| {
            let revision = rev.real();
            let delivery = Delivery { revision, patches: patches.into(), key: "k".to_owned(), held: digest(rev.value) };
            (delivery_annotation(SECRET), delivery.to_annotation())
        });
        WorkloadFacts {
            id: id(index),
            uid: NAMES[index].to_owned(),
            resource_version: self.version.to_string(),
            generation: None,
            created: None,
            deleting: false,
            paused: false,
            strategy: UpdateStrategy::Automatic,
            progress: Progress { settled: self.settled, serving: self.serving, failed: false },
            selector: LabelSelector::default(),
            uses: uses(),
            markers: markers.into_iter().collect(),
            records: record.into_iter().collect(),
            template_from: None,
        }
    }
}

pub fn id(index: usize) -> WorkloadId {
    WorkloadId { namespace: "n".to_owned(), kind: WorkloadKind::Deployment, name: NAMES[index].to_owned() }
}

fn uses() -> Vec<SecretUse> {
    let required = KeySet::Some(BTreeSet::from([KEY.to_owned()]));
    vec![SecretUse { secret: SECRET.to_owned(), required, optional: KeySet::Nothing }]
}

/// The Secret: its data is one value, beside the state in the annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Secret {
    pub version: u32,
    pub value: u8,
    pub written: i64,
    pub state: Stored,
}

/// A request that changes something, with the version that it was decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Write {
    Secret { version: u32, value: u8, state: Stored },
    Patch { index: usize, version: u32, rev: Rev, number: u8 },
    Status { version: u32, status: Status },
}

/// What the operator remembers between passes, as far as rollouts read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Notes {
    pub looked_at: [Option<u32>; 2],
    /// Revision, newest revision and the time of the write.
    pub found_current: [Option<(Rev, Rev, i64)>; 2],
    /// Whether the process has finished a pass.
    pub settled_in: bool,
}

/// What was done, by the API's own book: the properties speak of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Ledger {
    /// Patches by workload and revision number.
    pub patches: [[u8; 5]; 2],
    /// Of these, how many a strip gave reason for.
    pub excused: [[u8; 5]; 2],
    /// Revisions, as bits, on which a workload was well for as long as it is watched.
    pub proven: u8,
    /// Revisions on which the status said that a workload failed.
    pub failed: [u8; 2],
}

/// How large a world is, and what is special about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Setup {
    pub rotations: u8,
    pub strips: u8,
    pub faults: u8,
    /// Which Deployments end their pod before they make the next.
    pub recreates: [bool; 2],
    /// Whether each pass is one whose look is due.
    pub always_due: bool,
    /// Whether every new value is a good one.
    pub all_good: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub now: i64,
    pub source: u8,
    /// Values, as bits, on which no pod becomes ready.
    pub bad: u8,
    pub values: u8,
    pub secret: Secret,
    pub secret_before: Option<Secret>,
    pub status: (u32, Status),
    pub status_before: Option<(u32, Status)>,
    pub workloads: [Workload; 2],
    pub workloads_before: [Option<Shown>; 2],
    pub notes: Notes,
    pub pass: Option<Pass>,
    /// The write of a deposed replica that is still on its way.
    pub late: Option<Write>,
    pub deposed: bool,
    pub rotations: u8,
    pub strips: u8,
    pub faults: u8,
    pub ledger: Ledger,
    pub setup: Setup,
}

impl World {
    /// Long after the first sync: everybody holds the first value.
    pub fn new(setup: Setup) -> Self {
        let Setup { rotations, strips, faults, .. } = setup;
        let rev = Rev { number: 0, value: 0 };
        let state = Stored { rev, since: Some(0), changed: None, settled: false, value: 0 };
        let pod = Pod {
            phase: Phase::Ready,
            terminating: false,
            holds: Some(rev),
            marker: None,
            created: 1,
            started: 1,
            restarted: false,
        };
        let workload = Workload { version: 0, observed: true, marker: None, record: None, pods: vec![pod] };
        Self {
            now: 2,
            source: 0,
            bad: 0,
            values: 1,
            secret: Secret { version: 0, value: 0, written: 0, state },
            secret_before: None,
            status: (0, Status::first(rev)),
            status_before: None,
            workloads: [workload.clone(), workload],
            workloads_before: [None, None],
            notes: Notes::default(),
            pass: None,
            late: None,
            deposed: false,
            rotations,
            strips,
            faults,
            ledger: Ledger { proven: 1, ..Ledger::default() },
            setup,
        }
    }

    pub fn is_bad(&self, value: u8) -> bool {
        self.bad & (1 << value) != 0
    }

    /// Changes a workload; its version moves where something of it shows.
    pub fn edit(&mut self, index: usize, change: impl FnOnce(&mut Workload)) {
        let before = self.workloads[index].clone();
        change(&mut self.workloads[index]);
        let after = &mut self.workloads[index];
        let shown = |one: &Workload| (one.observed, one.marker, one.record, one.progress());
        let live = |one: &Workload| one.pods.iter().filter(|pod| !pod.terminating).count();
        if shown(&before) != shown(after) || live(&before) != live(after) {
            after.version = before.version + 1;
            self.workloads_before[index] = Some(before.shown());
        }
    }

    /// Whether the API server takes it: only what was decided on the newest
    /// version is taken.
    pub fn takes(&self, write: &Write) -> bool {
        match write {
            Write::Secret { version, .. } => *version == self.secret.version,
            Write::Patch { index, version, .. } => *version == self.workloads[*index].version,
            Write::Status { version, .. } => *version == self.status.0,
        }
    }

    /// Does what a request asks.
    pub fn write(&mut self, write: Write) {
        match write {
            Write::Secret { value, state, .. } => {
                self.secret_before = Some(self.secret);
                self.secret = Secret { version: self.secret.version + 1, value, written: self.now, state };
            }
            Write::Patch { index, rev, number, .. } => {
                self.edit(index, |workload| {
                    workload.observed &= workload.marker == Some(rev);
                    workload.marker = Some(rev);
                    workload.record = Some((rev, number));
                });
                self.ledger.patches[index][usize::from(rev.number)] += 1;
            }
            Write::Status { status, .. } => {
                self.status_before = Some(self.status);
                self.status = (self.status.0 + 1, status);
                for (failed, index) in self.ledger.failed.iter_mut().zip(0..) {
                    *failed |= status.failed(index).map_or(0, |rev| 1 << rev.number);
                }
            }
        }
    }

    /// The digests of a value, as the operator builds them.
    pub fn digests(value: u8) -> BTreeMap<String, String> {
        BTreeMap::from([(KEY.to_owned(), digest(value))])
    }
}
