//! What the facts mean. Pure.

mod bot_secrets;
mod cluster;
mod installation;

use serde::Serialize;

use self::{
    bot_secrets::bot_secrets,
    cluster::{admission, clock, definitions, installer, older_binary, pod_security, version},
    installation::{audiences, leader, operator, policies, rights},
};
use super::{
    asking::{Known, Unknown},
    facts::Facts,
    schema::Age,
};

#[cfg(test)]
pub(super) use self::bot_secrets::TROUBLES;

/// How many are named; the rest is counted.
const NAMED: usize = 3;

/// Every check, by its name in docs/doctor.md.
pub(super) const CHECKS: [&str; 17] = [
    "kubernetes",
    "clock",
    "admission",
    "definitions",
    "installer",
    "pod-security",
    "operator",
    "leader",
    "policies",
    "audiences",
    "rights",
    "botsecrets",
    "stores",
    "identities",
    "rollouts",
    "leases",
    "secrets",
];

/// Before there is an installation, or with one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Before,
    Live,
}

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum State {
    Well,
    Wrong,
    /// It could not be looked at.
    Unknown,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// The same in all versions: where docs/doctor.md explains it.
    pub(super) check: &'static str,
    pub(super) state: State,
    /// What was found.
    pub(super) message: String,
    /// One thing to do; empty where there is nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) fix: String,
}

fn well(check: &'static str, message: impl Into<String>) -> Finding {
    Finding { check, state: State::Well, message: message.into(), fix: String::new() }
}

fn wrong(check: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { check, state: State::Wrong, message: message.into(), fix: fix.into() }
}

fn unknown(check: &'static str, why: &Unknown) -> Finding {
    match why {
        Unknown::Forbidden(what) => Finding {
            check,
            state: State::Unknown,
            message: format!("not looked at: you may not do this ({what})"),
            fix: String::new(),
        },
        Unknown::Failed(what) => wrong(check, what.clone(), "see whether the API server answers: kubectl version"),
        Unknown::Unreadable(what) => wrong(
            check,
            what.clone(),
            "use the botsecret of the version that the definitions are of; see which object is not as they say: kubectl get -o yaml",
        ),
    }
}

fn found<T>(check: &'static str, known: &Known<T>, judge: impl FnOnce(&T) -> Finding) -> Finding {
    known.as_ref().map_or_else(|why| unknown(check, why), judge)
}

/// Everything, in the order in which it would be mended.
pub(super) fn examine(facts: &Facts, stage: Stage) -> Vec<Finding> {
    let mut all = vec![version(facts), clock(facts), admission(facts)];
    match stage {
        Stage::Before => {
            all.push(found("definitions", &facts.definitions, |known| {
                let newer = known.iter().any(|(_, age)| *age == Age::Newer);
                if newer { older_binary() } else { well("definitions", "nothing stands in the way of the definitions") }
            }));
            all.push(installer(facts));
            all.push(pod_security(facts));
        }
        Stage::Live => {
            all.push(definitions(facts));
            all.push(operator(facts));
            all.push(leader(facts));
            all.push(policies(facts));
            all.push(audiences(facts));
            all.push(rights(facts));
            all.extend(bot_secrets(facts));
        }
    }
    all
}

/// The first of them, and how many more.
fn counted(names: &[String]) -> String {
    let first = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}
