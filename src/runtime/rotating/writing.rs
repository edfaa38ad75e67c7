//! Values that are made here and written back to where they are read from.
//!
//! Kept first, then compared with the source, then written with the version that
//! they follow as precondition. Each step can be lost or repeated at any point:
//! one value is made for one version, and written once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_lc_rs::rand;
use tokio::time::Instant;

use super::{
    super::{Context, syncing::version_name},
    Progress,
    asking::uuid,
    made::{NotMade, made, properties},
    scene::{Scene, refused},
};
use crate::{
    api::{BotSecret, SecretType},
    apply::{AsideError, Desired, Next, NextFound, NextNote, Room},
    build::{Source, generated, rotated, value_of},
    plan::{AtSource, Memory, Retry, RotationNotes, Step, Wanted, next_step},
    report::{Problem, Reason},
    secret::{SecretBytes, SecretData},
    stores::{RemoteSecret, WriteBack},
};

/// An older version than the one that a value is to follow counts when it was seen so
/// often, with a back-off in between.
const LOOKS_AT_OLDER: u32 = 8;
/// A value that was written so often and is not read is said to be lost.
const REPEATS_TO_TELL: u32 = 6;
/// How soon a value that is kept is written again, at first and at most.
const FIRST_REPEAT: Duration = Duration::from_millis(500);
const LONGEST_REPEAT: Duration = Duration::from_secs(30);

/// A value and the property that it is for.
type Value = (Option<String>, SecretBytes);

/// One step of what is due, or of what is kept.
pub(super) async fn step(
    scene: &Scene<'_>,
    memory: &mut Memory,
    notes: &mut RotationNotes,
    due: &[Source],
) -> Result<Progress, Problem> {
    if due.is_empty() {
        notes.put_off.clear();
        if notes.keeps == Some(false) {
            return Ok(Progress::Rest);
        }
    }
    let due: Vec<_> = due.iter().filter(|source| !notes.put_off.contains_key(source)).cloned().collect();
    let object = &scene.observed.bot_secret;
    let beside = beside(object).ok_or_else(Problem::nameless)?;
    let next = Next::of(&scene.context.client, &beside, &scene.context.digest_key);
    if notes.room.as_deref().is_some_and(|room| room != next.name()) {
        clear_away(scene.context, object, notes).await;
    }
    let (kept, room) = kept(&next).await?;
    notes.keeps = Some(kept.is_some());
    if kept.is_some() || room.is_there() {
        notes.room = Some(next.name().to_owned());
    }
    let Some(source) = whose(object, kept.as_ref(), &due) else {
        if kept.is_some() {
            // For what the spec said before.
            drop_kept(&next, notes).await?;
        }
        // The others have had their turn.
        if let Some((_, problem)) = due.is_empty().then(|| notes.put_off.pop_first()).flatten() {
            notes.put_off.clear();
            return Err(problem);
        }
        return Ok(if due.is_empty() { Progress::Rest } else { Progress::Again(Duration::ZERO) });
    };
    let fresh = scene.read(&source).await?;
    let news = notes.seen.get(&source) != Some(&fresh.changed);
    if news {
        memory.wanted_since.get_or_insert_with(Instant::now);
    }
    let is_there = kept.as_ref().is_some_and(|(_, values)| holds(&fresh, values));
    let is_due = due.contains(&source) && scene.is_due(notes, &source, &fresh)?;
    let at_source = AtSource { version: fresh.version, changed: fresh.changed };
    let follows = kept.as_ref().map(|(note, _)| AtSource { version: note.version, changed: note.changed });
    let job = Job { scene, next: &next, source: &source, room };
    match next_step(follows, is_there, at_source, is_due) {
        Step::Rest if news => return Ok(Progress::Again(Duration::ZERO)),
        Step::Rest => return Ok(Progress::Rest),
        // What was put back there, by a backup perhaps, stays.
        Step::Wait if notes.failures >= LOOKS_AT_OLDER => drop_kept(&next, notes).await?,
        Step::Wait => {
            let message = format!("{source}: an older version than before was read: it is read again");
            return Err(Problem::new(Reason::StaleRead, Retry::Backoff, message));
        }
        Step::Forget => {
            if is_there {
                // Whoever wrote it may have died before it said so.
                if let Some(made) = kept.as_ref().and_then(|(note, _)| note.made) {
                    notes.note_arrived(&source, made);
                }
            } else {
                job.tell("somebody else has written meanwhile: the value that was made is dropped");
            }
            drop_kept(&next, notes).await?;
            notes.repeats = 0;
        }
        Step::Make => {
            // Also where the answer is lost.
            (notes.keeps, notes.room) = (None, Some(next.name().to_owned()));
            let written = match job.make(at_source).await {
                Ok((note, values)) => {
                    notes.keeps = Some(true);
                    let wanted = notes.note_renewed(&source, scene.context.now());
                    (job.write(&note, &values, memory).await, wanted)
                }
                Err(problem) => (Err(problem), None),
            };
            if let (Err(problem), wanted) = written {
                return job.put_off(notes, &due, wanted, problem).await;
            }
        }
        Step::Write => {
            if let Some((note, values)) = &kept
                && let Err(problem) = job.write(note, values, memory).await
            {
                return job.put_off(notes, &due, None, problem).await;
            }
            if notes.repeats >= REPEATS_TO_TELL {
                let message = format!(
                    "{source}: what was written does not come back: rotation.storeRef must lead to where it is read from"
                );
                return Err(Problem::new(Reason::RotationRefused, Retry::Slow, message));
            }
            notes.note_renewed(&source, scene.context.now());
            // Where reads lag behind writes, it is written already.
            notes.repeats = notes.repeats.saturating_add(1);
            return Ok(Progress::Later(FIRST_REPEAT.saturating_mul(1 << notes.repeats.min(6)).min(LONGEST_REPEAT)));
        }
    }
    Ok(Progress::Again(Duration::ZERO))
}

/// Keeps nothing ever again, if that can be done: nothing depends on it.
pub(super) async fn clear_away(context: &Context, object: &BotSecret, notes: &mut RotationNotes) {
    notes.keeps = None;
    let Some((beside, room)) = beside(object).zip(notes.room.as_ref()) else { return };
    match Next::named(&context.client, &beside, &context.digest_key, room.clone()).clear_away().await {
        Ok(()) => notes.room = None,
        Err(error) => {
            let (namespace, bot_secret) = (&object.metadata.namespace, &object.metadata.name);
            tracing::debug!(namespace, bot_secret, "a value that is no longer wanted was not deleted: {error}");
        }
    }
}

/// What the Secret that keeps values lies beside. Of no type that asks for keys.
fn beside(object: &BotSecret) -> Option<Desired> {
    let bare = Desired::new(object, SecretData::new(), BTreeMap::new(), BTreeMap::new())?;
    Some(Desired { type_: SecretType::Opaque, ..bare })
}

/// What is kept, or the room that there is for it.
async fn kept(next: &Next<'_>) -> Result<(Option<(NextNote, Vec<Value>)>, Room), Problem> {
    match next.get().await.map_err(|error| Problem::of_apply(&error))? {
        NextFound::Nothing(room) => Ok((None, room)),
        NextFound::Foreign => Err(Problem::new(
            Reason::TargetForeign,
            Retry::Slow,
            format!(
                "Secret {} exists and is not this BotSecret's: delete it or choose another target.name, so that a new value can be kept in it",
                next.name()
            ),
        )),
        NextFound::Unproven => {
            next.forget().await.map_err(|error| Problem::of_apply(&error))?;
            let message = format!("Secret {} was changed by somebody else and emptied", next.name());
            Err(Problem::new(Reason::KubernetesUnavailable, Retry::Soon, message))
        }
        NextFound::Values(note, values) => {
            let values = note.properties.iter().cloned().zip(values).collect();
            Ok((Some((note, values)), Room::default()))
        }
    }
}

async fn drop_kept(next: &Next<'_>, notes: &mut RotationNotes) -> Result<(), Problem> {
    next.forget().await.map_err(|error| Problem::of_apply(&error))?;
    notes.keeps = Some(false);
    Ok(())
}

/// Where what is kept goes, as far as the spec still says so; else what is due.
fn whose(object: &BotSecret, kept: Option<&(NextNote, Vec<Value>)>, due: &[Source]) -> Option<Source> {
    let Some((note, values)) = kept else { return due.first().cloned() };
    let is_it = |source: &Source| {
        version_name(source) == note.place
            && wanted(object, source) == note.properties
            && values.len() == note.properties.len()
    };
    rotated(&object.spec).into_iter().find(is_it)
}

/// The properties of a remote secret that are made.
fn wanted(object: &BotSecret, source: &Source) -> Vec<Option<String>> {
    generated(&object.spec, source).into_iter().flat_map(|(rule, property)| properties(rule, property)).collect()
}

fn holds(read: &RemoteSecret, values: &[Value]) -> bool {
    values.iter().all(|(property, value)| value_of(read, property.as_deref()).as_ref() == Some(value))
}

/// What is done for one remote secret.
struct Job<'a> {
    scene: &'a Scene<'a>,
    next: &'a Next<'a>,
    room: Room,
    source: &'a Source,
}

impl Job<'_> {
    /// Makes values that follow this version, and keeps them.
    async fn make(&self, follows: AtSource) -> Result<(NextNote, Vec<Value>), Problem> {
        let object = &self.scene.observed.bot_secret;
        let properties = wanted(object, self.source);
        if properties.iter().collect::<BTreeSet<_>>().len() < properties.len() {
            return Err(refused(format!(
                "{}: two keys of rotation.generate go to one property: take one of them out",
                self.source
            )));
        }
        let not_made = |error: NotMade| Problem::new(Reason::InternalError, Retry::Backoff, error.to_string());
        let mut values = Vec::new();
        for (rule, property) in generated(&object.spec, self.source) {
            values.extend(made(rule, property).await.map_err(not_made)?);
        }
        let mut bytes = [0; 16];
        rand::fill(&mut bytes).map_err(|error| not_made(error.into()))?;
        let note = NextNote {
            place: version_name(self.source),
            properties,
            version: follows.version,
            changed: follows.changed,
            attempt: uuid(&bytes),
            made: Some(self.scene.context.now()),
        };
        let bare: Vec<_> = values.iter().map(|(_, value)| value.duplicate()).collect();
        self.next.keep(&self.room, &note, &bare).await.map_err(|error| match error {
            AsideError::Secret(error) => Problem::of_apply(&error),
            AsideError::Foreign | AsideError::Changed | AsideError::Leaving => {
                let message = format!("Secret {} changed in between", self.next.name());
                Problem::new(Reason::KubernetesUnavailable, Retry::Soon, message)
            }
        })?;
        Ok((note, values))
    }

    /// What was refused took no effect: the value is kept no longer, if others are
    /// due that need not wait for it.
    async fn put_off(
        &self,
        notes: &mut RotationNotes,
        due: &[Source],
        wanted: Option<Wanted>,
        problem: Problem,
    ) -> Result<Progress, Problem> {
        // The last one, too: those that were put off before it have their turn with it.
        let others = !notes.put_off.is_empty() || due.iter().any(|other| other != self.source);
        if problem.reason != Reason::RotationRefused || !others {
            return Err(problem);
        }
        drop_kept(self.next, notes).await?;
        notes.note_put_off(self.source, wanted, problem);
        Ok(Progress::Again(Duration::ZERO))
    }

    async fn write(&self, note: &NextNote, values: &[Value], memory: &mut Memory) -> Result<(), Problem> {
        let (store, rotator) = self.scene.way(self.source)?;
        let key = &self.source.key;
        let write = WriteBack { key, properties: values, base: note.version, attempt: &note.attempt };
        let written = self.scene.context.fetcher.write(store, rotator, &write).await;
        // Also where it failed: it may have been written all the same.
        memory.wanted_since.get_or_insert_with(Instant::now);
        written.map_err(|error| self.scene.problem(store, self.source, &error))?;
        self.scene.context.metrics.rotations_triggered.inc();
        self.tell("new value written to its source");
        Ok(())
    }

    fn tell(&self, what: &str) {
        let meta = &self.scene.observed.bot_secret.metadata;
        let (namespace, bot_secret) = (&meta.namespace, &meta.name);
        tracing::info!(namespace, bot_secret, remote_secret = %self.source.key, "{what}");
    }
}
