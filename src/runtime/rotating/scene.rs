//! What an attempt needs: who reads, who rotates, and through which stores.

use std::{slice, sync::Arc};

use tokio::time::Instant;

use super::super::{Context, syncing};
use crate::{
    api::{Provider, RotationPhase, StoreRef},
    build::{Source, keys_filled_by, rotated},
    fetch::{ResolvedStore, ServiceAccount},
    plan::{Memory, Retry, RotationNotes, Turn, demanded_since, turn},
    report::{Problem, Reason},
    rollout::is_open,
    stores::{ErrorClass, RemoteSecret, StoreError},
    watch::Observed,
};

pub(super) struct Scene<'a> {
    pub(super) context: &'a Context,
    pub(super) observed: &'a Observed,
    reader: &'a ServiceAccount,
    rotator: &'a ServiceAccount,
}

/// The spec or a store does not let it be done.
pub(super) fn refused(message: impl Into<String>) -> Problem {
    Problem::new(Reason::RotationRefused, Retry::Slow, message)
}

impl<'a> Scene<'a> {
    /// `None` where nothing is rotated.
    ///
    /// # Errors
    /// Where something can never be, as things are: said before it is due.
    pub(super) fn of(context: &'a Context, observed: &'a Observed) -> Result<Option<Self>, Problem> {
        let spec = &observed.bot_secret.spec;
        let (Some(name), Some(reader)) = (spec.rotator(), &observed.account) else { return Ok(None) };
        for source in rotated(spec) {
            let store = resolved(observed, writes_through(observed, &source))?;
            if !store.allows_rotation {
                return Err(refused(format!(
                    "{} does not allow rotation: whoever answers for it sets spec.allowRotation: true; or take every and schedule out of rotation",
                    shown(&store.reference)
                )));
            }
        }
        let rotator = observed.rotator.as_ref().ok_or_else(|| {
            let message =
                format!("ServiceAccount {name} does not exist: create it, or correct rotation.serviceAccountName");
            Problem::new(Reason::IdentityUnavailable, Retry::Slow, message)
        })?;
        Ok(Some(Self { context, observed, reader, rotator }))
    }

    /// Nobody says how old this is.
    pub(super) fn ageless(&self, source: &Source) -> Problem {
        let store = resolved(self.observed, &source.store);
        let remedy = if store.is_ok_and(|store| matches!(store.provider, Provider::Gcp(_))) {
            "grant secretmanager.versions.get (roles/secretmanager.viewer on the secret) to whoever reads it"
        } else {
            "rotate it at its source, and take every and schedule out of rotation"
        };
        refused(format!(
            "{source}: its manager does not say since when the value has been the same, so that nobody knows when the next one is due: {remedy}"
        ))
    }

    /// Whether what is made can be written where it goes: said before it is due.
    pub(super) async fn check_writes(&self) -> Result<(), Problem> {
        for source in rotated(&self.observed.bot_secret.spec) {
            let (store, _) = self.way(&source)?;
            let can = self.context.fetcher.can_write(store).await;
            if !can.map_err(|error| self.problem(store, &source, &error))? {
                return Err(refused(format!(
                    "{source}: nothing can be written to this manager: take rotation.generate out, and rotate it at its source"
                )));
            }
        }
        Ok(())
    }

    /// Whether nothing new is begun: what is there cannot be read or written, or
    /// the last value is still on its way to the workloads.
    pub(super) fn is_held(&self, memory: &Memory) -> bool {
        let by_values = |problem: &Problem| matches!(problem.reason, Reason::CandidateRejected | Reason::RolledBack);
        let fails = memory.failures > 0 && !memory.problem.as_ref().is_some_and(by_values);
        let rotation = self.observed.bot_secret.status.as_ref().and_then(|status| status.rotation.as_ref());
        // What is wanted at once joins the rollout that is under way.
        let is_wanted = demanded_since(&self.observed.bot_secret).is_some();
        let holds = |phase| match phase {
            RotationPhase::Detected | RotationPhase::Candidate => true,
            RotationPhase::Halted => !is_wanted,
            phase => is_open(phase) && !is_wanted,
        };
        // A read is due that this pass could not make.
        memory.wanted_since.is_some() || fails || rotation.is_some_and(|one| holds(one.phase))
    }

    /// A fresh read, by whoever always reads.
    pub(super) async fn read(&self, source: &Source) -> Result<Arc<RemoteSecret>, Problem> {
        let store = resolved(self.observed, &source.store)?;
        let keys = slice::from_ref(&source.key);
        let mut answers = self.context.fetcher.read(store, self.reader, keys, Instant::now()).await;
        let answer = answers.pop().ok_or_else(|| refused(format!("{source} was not read")))?;
        answer.map_err(|error| Problem::of_read(store, &source.key, &self.keys(source), &error))
    }

    /// Whether the successor of what was read is due.
    pub(super) fn is_due(&self, notes: &RotationNotes, source: &Source, read: &RemoteSecret) -> Result<bool, Problem> {
        let (spec, state) = (&self.observed.bot_secret.spec, syncing::state_of(self.observed));
        let turn = turn(spec, notes, source, read.changed, state, self.context.now());
        turn.map(|turn| turn == Turn::Now).map_err(|error| refused(error.to_string()))
    }

    /// The store through which a remote secret is rotated, and by whom.
    pub(super) fn way(&self, source: &Source) -> Result<(&'a ResolvedStore, &'a ServiceAccount), Problem> {
        let store = resolved(self.observed, writes_through(self.observed, source))?;
        Ok((store, self.rotator))
    }

    /// What a manager's answer to a write, or to a request to rotate, means.
    pub(super) fn problem(&self, store: &ResolvedStore, source: &Source, error: &StoreError) -> Problem {
        let problem = Problem::of_read(store, &source.key, &self.keys(source), error);
        match error.class {
            ErrorClass::Invalid | ErrorClass::Denied | ErrorClass::TooLarge => {
                Problem { reason: Reason::RotationRefused, ..problem }
            }
            ErrorClass::Conflict => Problem { retry: Retry::Soon, ..problem },
            _ => problem,
        }
    }

    fn keys(&self, source: &Source) -> Vec<String> {
        keys_filled_by(&self.observed.bot_secret.spec, source)
    }
}

fn writes_through<'a>(observed: &'a Observed, source: &'a Source) -> &'a StoreRef {
    let rotation = observed.bot_secret.spec.rotation.as_ref();
    rotation.and_then(|rotation| rotation.store_ref.as_ref()).unwrap_or(&source.store)
}

fn resolved<'a>(observed: &'a Observed, wanted: &StoreRef) -> Result<&'a ResolvedStore, Problem> {
    let is_it = |reference: &StoreRef| {
        reference.name == wanted.name && reference.kind.unwrap_or_default() == wanted.kind.unwrap_or_default()
    };
    let namespace = observed.bot_secret.metadata.namespace.as_deref().unwrap_or_default();
    match observed.stores.iter().find(|(reference, _)| is_it(reference)) {
        Some((_, Ok(store))) => Ok(store),
        Some((reference, Err(problem))) => Err(Problem::of_store(reference, namespace, problem)),
        None => Err(refused(format!("{} is not known", shown(wanted)))),
    }
}

fn shown(store: &StoreRef) -> String {
    format!("{:?} {}", store.kind.unwrap_or_default(), store.name)
}
