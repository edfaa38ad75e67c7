//! What people and managers do, and when.

use std::{fmt, str::FromStr, time::Duration};

use serde_json::{Value, json};

use super::{
    super::store::{Store, Verb},
    BOT_SECRET, Manager, NAMESPACE, bot_secret,
};

/// What happens in a run beside the faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// Two rotations.
    #[default]
    Rotations,
    /// Rotations, and people who edit, delete, suspend and scale.
    Edits,
    /// A value on which no bot lives, which is taken back, then a good one.
    Back,
    /// Values that people want at once, which the operator makes and writes to the
    /// manager.
    Made,
    /// Credentials that the manager issues, and that end.
    Leased,
    /// As before, and the BotSecret is deleted while workloads roll, and made anew.
    Deleted,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Rotate,
    /// `botsecret rotate --now`, under this name.
    Want(&'static str),
    /// Somebody has the credential issued by another path.
    IssueBy(&'static str),
    DeleteSecret,
    DeleteBotSecret,
    /// Made as at first, but that another path issues its credential.
    CreateBotSecret(&'static str),
    Suspend(bool),
    /// Somebody edits the spec while workloads roll.
    WatchFor(&'static str),
    Scale(&'static str, u64),
}

const fn at(seconds: u64, act: Act) -> (Duration, Act) {
    (Duration::from_millis(seconds * 1000 + 300), act)
}

/// Far enough apart that one fault's delay does not carry over to the next act.
const ROTATIONS: [(Duration, Act); 2] = [at(100, Act::Rotate), at(300, Act::Rotate)];
const EDITS: [(Duration, Act); 9] = [
    at(60, Act::Rotate),
    at(75, Act::WatchFor("20s")),
    at(130, Act::DeleteSecret),
    at(190, Act::Suspend(true)),
    at(200, Act::Rotate),
    at(230, Act::Suspend(false)),
    at(300, Act::Scale("worker", 0)),
    at(310, Act::Rotate),
    at(400, Act::Scale("worker", 2)),
];

const BACK: [(Duration, Act); 2] = [at(100, Act::Rotate), at(300, Act::Rotate)];

const MADE: [(Duration, Act); 2] = [at(100, Act::Want("first")), at(300, Act::Want("last"))];

const LEASED: [(Duration, Act); 4] = [
    at(100, Act::IssueBy("second")),
    at(200, Act::Want("first")),
    at(300, Act::IssueBy(LAST_PATH)),
    at(400, Act::Want("last")),
];

/// When the BotSecret of [`Scenario::Deleted`] goes: one workload rolls, the other
/// has not begun.
pub const DELETED_AT: Duration = Duration::from_millis(110_300);
/// When it is there again: later than the longest that its going may be held up.
pub const MADE_ANEW_AT: Duration = Duration::from_millis(250_300);

/// When its last rotation begins.
const LAST_ISSUED_AT: Duration = Duration::from_millis(350_300);

const DELETED: [(Duration, Act); 4] = [
    at(100, Act::IssueBy("second")),
    (DELETED_AT, Act::DeleteBotSecret),
    (MADE_ANEW_AT, Act::CreateBotSecret("second")),
    (LAST_ISSUED_AT, Act::IssueBy(LAST_PATH)),
];

/// The path that issues the credential at the end of a scenario that
/// [is leased](Scenario::is_leased).
pub const LAST_PATH: &str = "third";

/// The whole of a Secret, as this path issues it.
pub fn issued_by(path: &str) -> Value {
    json!([{ "dynamic": { "path": path } }])
}

impl Scenario {
    pub const ALL: [Self; 6] = [Self::Rotations, Self::Edits, Self::Back, Self::Made, Self::Leased, Self::Deleted];

    /// Whether its credentials are issued, and end.
    pub fn is_leased(self) -> bool {
        matches!(self, Self::Leased | Self::Deleted)
    }

    /// Since when its BotSecret is the one that is there at the end.
    pub fn made_at(self) -> Duration {
        if self == Self::Deleted { MADE_ANEW_AT } else { Duration::ZERO }
    }

    /// Since when each rollout is one that the same scenario without a fault has too.
    /// What rolls before a BotSecret is deleted depends on how far it got: the first
    /// sync of the next rolls only who is known to hold something older.
    pub fn counted_from(self) -> Duration {
        if self == Self::Deleted { LAST_ISSUED_AT } else { Duration::ZERO }
    }

    /// Which of the manager's versions no bot lives on.
    pub fn bad_version(self) -> Option<usize> {
        (self == Self::Back).then_some(2)
    }

    pub fn script(self) -> &'static [(Duration, Act)] {
        match self {
            Self::Rotations => &ROTATIONS,
            Self::Edits => &EDITS,
            Self::Back => &BACK,
            Self::Made => &MADE,
            Self::Leased => &LEASED,
            Self::Deleted => &DELETED,
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Rotations => "rotations",
            Self::Edits => "edits",
            Self::Back => "back",
            Self::Made => "made",
            Self::Leased => "leased",
            Self::Deleted => "deleted",
        })
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|one| one.to_string() == text).ok_or_else(|| format!("no scenario is called {text}"))
    }
}

impl Act {
    pub fn play(self, store: &Store, manager: &Manager) {
        let edit = |plural, name: &str, spec: Value| {
            let patch = json!({ "spec": spec });
            drop(store.ask(Verb::MergePatch, plural, (NAMESPACE, name, ""), &patch).granted());
        };
        match self {
            Self::Rotate => manager.rotate(),
            Self::Want(id) => {
                let request = json!({ "id": id, "reason": "it leaked" }).to_string();
                let patch = json!({ "metadata": { "annotations": { "botsecret.dev/rotate": request } } });
                drop(store.ask(Verb::MergePatch, "botsecrets", (NAMESPACE, BOT_SECRET, ""), &patch).granted());
            }
            Self::IssueBy(path) => edit("botsecrets", BOT_SECRET, json!({ "dataFrom": issued_by(path) })),
            // Whether it is there or not.
            Self::DeleteSecret => {
                drop(store.ask(Verb::Delete, "secrets", (NAMESPACE, BOT_SECRET, ""), &json!({})));
            }
            Self::DeleteBotSecret => {
                drop(store.ask(Verb::Delete, "botsecrets", (NAMESPACE, BOT_SECRET, ""), &json!({})).granted());
            }
            Self::CreateBotSecret(path) => {
                let mut object = bot_secret();
                object["spec"]["dataFrom"] = issued_by(path);
                drop(store.ask(Verb::Create, "botsecrets", (NAMESPACE, "", ""), &object).granted());
            }
            Self::Suspend(suspend) => edit("botsecrets", BOT_SECRET, json!({ "suspend": suspend })),
            Self::WatchFor(time) => edit("botsecrets", BOT_SECRET, json!({ "rollout": { "healthyFor": time } })),
            Self::Scale(name, replicas) => edit("deployments", name, json!({ "replicas": replicas })),
        }
    }
}
