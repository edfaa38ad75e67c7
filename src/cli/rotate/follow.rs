//! Waits until a rotation that was asked for is over.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use kube::Api;
use tokio::time::Instant;

use super::super::Error;
use crate::{
    api::{BotSecret, EmergencyStatus},
    deadline::within,
    plan::rotation_requested,
};

/// How often the status is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The record of the request at its end.
pub(super) async fn follow(
    api: &Api<BotSecret>,
    namespace: &str,
    name: &str,
    id: &str,
    patience: Duration,
) -> Result<EmergencyStatus, Error> {
    let until = Instant::now() + patience;
    let mut progress = Progress::default();
    loop {
        // An API server that fails for a moment ends no wait.
        if let Ok(object) = within(api.get_opt(name)).await {
            let object =
                object.ok_or_else(|| format!("BotSecret {name} in namespace {namespace} was deleted meanwhile"))?;
            let record = object.status.as_ref().and_then(|status| status.emergency.as_ref());
            let record = record.filter(|record| record.id == id);
            if let Some(record) = record.filter(|record| !record.is_open()) {
                return Ok(record.clone());
            }
            if rotation_requested(&object).is_none_or(|request| request.id != id) {
                return Err(
                    format!("rotation {id} was taken back, or another took its place, before it was done").into()
                );
            }
            progress.say(&standing(&object, record));
        } else {
            progress.say("the Kubernetes API does not answer; it is asked again");
        }
        if Instant::now() + LOOK > until {
            let stood = progress.last;
            return Err(format!("rotation {id} was not done in time, and goes on: {stood}").into());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Where it stands, in words.
fn standing(object: &BotSecret, record: Option<&EmergencyStatus>) -> String {
    let Some(record) = record else {
        return if object.spec.suspend == Some(true) {
            "the BotSecret is suspended, so nothing takes it up".to_owned()
        } else {
            "no operator has taken it up yet".to_owned()
        };
    };
    if !record.message.is_empty() {
        return format!("{}: {}", record.phase, record.message);
    }
    let conditions = object.status.iter().flat_map(|status| &status.conditions);
    let rolled = conditions.into_iter().find(|one| one.type_ == "RolledOut" && one.status == "False");
    rolled.map_or_else(|| record.phase.clone(), |rolled| format!("{}: {}", record.phase, rolled.message))
}

/// Lines for people who look on, each once.
#[derive(Default)]
struct Progress {
    last: String,
}

impl Progress {
    fn say(&mut self, line: &str) {
        if self.last != line && io::stderr().is_terminal() {
            eprintln!("{line}");
        }
        line.clone_into(&mut self.last);
    }
}
