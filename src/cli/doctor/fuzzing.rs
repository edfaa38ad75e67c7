//! What a cluster answers that is looked at (see [`crate::fuzzing`]).
#![allow(clippy::expect_used, reason = "a finding is a panic")]

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::Deployment, coordination::v1::Lease};
use serde::Deserialize;
use serde_json::Value;

use super::{
    asking::Unknown,
    facts::{Facts, audiences_in, leader_of, operator_of, time_of},
    findings::{CHECKS, Stage, State, examine},
    schema::{Age, age},
    show::shown,
};
use crate::{api::BotSecret, cli::OutputFormat};

/// As much of a cluster as people and other programs write.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Cluster {
    /// The header of an answer.
    date: String,
    version: String,
    lease: Option<Lease>,
    deployment: Option<Deployment>,
    audiences: Option<String>,
    definition: Value,
    other_definition: Value,
    bot_secrets: Vec<BotSecret>,
}

/// A cluster in JSON: whatever it is, each finding has a name, and a thing to do where
/// something is wrong.
pub(crate) fn answers(input: &[u8]) {
    let Ok(cluster) = serde_json::from_slice::<Cluster>(input) else { return };
    compared(&cluster.definition, &cluster.other_definition);
    compared(&cluster.definition, &cluster.definition);
    let facts = facts_of(cluster);
    for stage in [Stage::Before, Stage::Live] {
        let found = examine(&facts, stage);
        for finding in &found {
            assert!(CHECKS.contains(&finding.check), "{}", finding.check);
            assert!(finding.state != State::Wrong || !finding.fix.is_empty(), "{}", finding.message);
        }
        for output in [OutputFormat::Text, OutputFormat::Json] {
            assert!(shown(&found, output, false).is_ok());
        }
    }
}

/// One is older than the other, newer, or the same, whichever is asked about.
fn compared(one: &Value, other: &Value) {
    let back = age(other, one);
    let fits = match age(one, other) {
        Age::Same => back == Age::Same,
        Age::Newer => back == Age::Older,
        // Each may lack something.
        Age::Older => back != Age::Same,
    };
    assert!(fits, "{back:?}");
}

fn facts_of(cluster: Cluster) -> Facts {
    let time = time_of(&cluster.date);
    Facts {
        place: ("botsecret-system".to_owned(), "botsecret".to_owned()),
        now: Timestamp::from_second(1_767_268_800).expect("a time"),
        server: Ok((time, cluster.version)),
        policies_served: Ok(true),
        // This build's own are made anew for each look, which takes too long.
        definitions: Err(Unknown::Forbidden("get customresourcedefinitions".to_owned())),
        installer: Ok(Vec::new()),
        namespace: Ok(None),
        operator: Ok(cluster.deployment.map(operator_of)),
        leader: Ok(cluster.lease.map(leader_of)),
        policies: Ok(BTreeSet::new()),
        audiences: Ok((cluster.audiences.as_deref().map(audiences_in), Vec::new())),
        rights: Ok(Vec::new()),
        bot_secrets: Ok(cluster.bot_secrets),
    }
}
