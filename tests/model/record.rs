//! What lies on the Secret and in the status, as few plain numbers that are
//! quick to hash, and as the types that the library reads and writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use botsecret::{
    api::{
        BotSecretStatus, KeyChange, PhaseTime, RolloutState, RotationPhase, RotationStatus, State, TargetStatus,
        WorkloadStatus,
    },
    rollout::WorkloadState,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::world::{KEY, NAMES, Rev, SECRET, World, at, digest, second};

/// The same text is kept once, so that a state is plain data.
fn kept(text: &str) -> &'static str {
    static TEXTS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut texts = TEXTS.lock().expect("nobody panics with it");
    if let Some(known) = texts.get(text) {
        return known;
    }
    let text: &'static str = Box::leak(text.to_owned().into_boxed_str());
    texts.insert(text);
    text
}

/// The state that lies on the Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stored {
    pub rev: Rev,
    pub since: Option<i64>,
    /// The last change of the one key.
    pub changed: Option<(Rev, i64)>,
    pub settled: bool,
    /// Whose digest it bears.
    pub value: u8,
}

impl Stored {
    pub fn real(self) -> State {
        let change = |(rev, time): (Rev, i64)| KeyChange {
            revision: rev.real(),
            at: at(time),
            initial: false,
            added: false,
            same_before: None,
        };
        State {
            digest_key: "k".to_owned(),
            revision: self.rev.real(),
            since: self.since.map(at),
            digests: World::digests(self.value),
            changed: self.changed.map(|changed| (KEY.to_owned(), change(changed))).into_iter().collect(),
            settled: self.settled,
            versions: BTreeMap::new(),
            quiet: BTreeSet::new(),
            renewal: None,
            taken_back: None,
            kept: BTreeMap::new(),
        }
    }

    pub fn of(state: &State) -> Self {
        let change = state.changed.get(KEY).map(|change| {
            assert!(!change.initial && !change.added, "the key was always there");
            (Rev::of(&change.revision), second(change.at))
        });
        let value = state.digests.get(KEY).and_then(|digest| digest.strip_prefix('v')?.parse().ok());
        Self {
            rev: Rev::of(&state.revision),
            since: state.since.map(second),
            changed: change,
            settled: state.settled,
            value: value.expect("the key's digest"),
        }
    }
}

/// One workload in the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Told {
    pub rev: Rev,
    pub state: &'static str,
    pub patches: u8,
    pub since: Option<i64>,
    pub rolled_at: Option<i64>,
    /// Verified, unhealthy before, failed before.
    pub flags: [bool; 3],
    pub message: &'static str,
}

/// The status, without conditions: no decision reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status {
    /// The Secret's version and revision.
    pub target: (u32, Rev),
    pub rollout: Option<(Rev, bool)>,
    pub workloads: [Option<Told>; 2],
    /// Revision, phase, start and message; no decision reads the times of the
    /// phases before.
    pub rotation: Option<(Rev, RotationPhase, i64, &'static str)>,
}

impl Status {
    pub fn first(rev: Rev) -> Self {
        Self { target: (0, rev), rollout: Some((rev, true)), workloads: [None, None], rotation: None }
    }

    /// The revision on which a workload failed.
    pub fn failed(&self, index: usize) -> Option<Rev> {
        self.workloads[index].filter(|told| told.state == WorkloadState::Failed.name()).map(|told| told.rev)
    }

    pub fn real(&self) -> BotSecretStatus {
        let workload = |(index, told): (usize, Told)| WorkloadStatus {
            kind: "Deployment".to_owned(),
            name: NAMES[index].to_owned(),
            uid: NAMES[index].to_owned(),
            revision: told.rev.real().to_string(),
            state: told.state.to_owned(),
            patches: told.patches.into(),
            since: told.since.map(|time| Time(at(time))),
            rolled_at: told.rolled_at.map(|time| Time(at(time))),
            verified: told.flags[0],
            unhealthy_before: told.flags[1],
            failed_before: told.flags[2],
            message: told.message.to_owned(),
        };
        BotSecretStatus {
            observed_generation: Some(1),
            target: Some(target(self.target)),
            rollout: self.rollout.map(|(rev, complete)| RolloutState {
                revision: rev.real().to_string(),
                complete,
                workloads: (0..)
                    .zip(self.workloads)
                    .filter_map(|(index, told)| Some(workload((index, told?))))
                    .collect(),
            }),
            rotation: self.rotation.map(|(rev, phase, started, message)| RotationStatus {
                revision: rev.real().to_string(),
                phase,
                started: Time(at(started)),
                times: vec![PhaseTime { phase, at: Time(at(0)) }],
                message: message.to_owned(),
                previous: String::new(),
                taken_back: String::new(),
            }),
            ..BotSecretStatus::default()
        }
    }

    pub fn of(status: &BotSecretStatus) -> Self {
        let mut workloads = [None, None];
        for told in status.rollout.iter().flat_map(|rollout| &rollout.workloads) {
            let index = NAMES.iter().position(|name| *name == told.name).expect("one of the two");
            workloads[index] = Some(Told {
                rev: Rev::parse(&told.revision),
                state: WorkloadState::from_name(&told.state).expect("a state").name(),
                patches: u8::try_from(told.patches).expect("few"),
                since: told.since.as_ref().map(|time| second(time.0)),
                rolled_at: told.rolled_at.as_ref().map(|time| second(time.0)),
                flags: [told.verified, told.unhealthy_before, told.failed_before],
                message: kept(&told.message),
            });
        }
        let target = status.target.as_ref().expect("a Secret");
        Self {
            target: (target.resource_version.parse().expect("a version"), Rev::parse(&target.revision)),
            rollout: status.rollout.as_ref().map(|rollout| (Rev::parse(&rollout.revision), rollout.complete)),
            workloads,
            rotation: status
                .rotation
                .as_ref()
                .map(|one| (Rev::parse(&one.revision), one.phase, second(one.started.0), kept(&one.message))),
        }
    }
}

/// What the status records of the Secret.
pub fn target((version, rev): (u32, Rev)) -> TargetStatus {
    TargetStatus {
        name: SECRET.to_owned(),
        uid: SECRET.to_owned(),
        resource_version: version.to_string(),
        revision: rev.real().to_string(),
        rolling: digest(rev.value),
        quiet: Vec::new(),
    }
}
