//! Managers that make new values themselves. They may take their time.

use std::{fmt::Write as _, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use tokio::time::Instant;

use super::{super::syncing::version_name, Progress, scene::Scene};
use crate::{
    build::Source,
    plan::{Asked, Memory, RotationNotes},
    report::Problem,
    stores::{ErrorClass, RemoteSecret},
};

/// A manager that has not rotated after this time is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(300);
/// How soon a look is taken whether it has, at first and at most.
const FIRST_LOOK: Duration = Duration::from_secs(1);
const LONGEST_LOOK: Duration = Duration::from_secs(60);

/// Asks for each that is due, or looks whether what was asked for has come.
pub(super) async fn step(
    scene: &Scene<'_>,
    memory: &mut Memory,
    notes: &mut RotationNotes,
    due: &[Source],
) -> Result<Progress, Problem> {
    let (mut first, mut again) = (None, None::<Duration>);
    for source in due {
        match ask(scene, memory, notes, source).await {
            Ok(wait) => again = again.into_iter().chain([wait]).min(),
            Err(problem) => drop(first.get_or_insert(problem)),
        }
    }
    match (first, again) {
        // What was rotated is read first: the failure comes again by itself.
        (Some(_), Some(Duration::ZERO)) => Ok(Progress::Again(Duration::ZERO)),
        (Some(problem), _) => Err(problem),
        (None, Some(wait)) => Ok(Progress::Again(wait)),
        (None, None) => Ok(Progress::Rest),
    }
}

/// Answers when to look again.
async fn ask(
    scene: &Scene<'_>,
    memory: &mut Memory,
    notes: &mut RotationNotes,
    source: &Source,
) -> Result<Duration, Problem> {
    let fresh = scene.read(source).await?;
    let has_come = notes.asked.get(source).is_some_and(|asked| asked.since != fresh.changed);
    if has_come || !scene.is_due(notes, source, &fresh)? {
        notes.note_renewed(source, scene.context.now());
        // It has come, or somebody else was sooner.
        notes.asked.remove(source);
        memory.wanted_since.get_or_insert_with(Instant::now);
        return Ok(Duration::ZERO);
    }
    if let Some(asked) = notes.asked.get_mut(source).filter(|asked| asked.at.elapsed() < ASK_AGAIN) {
        asked.looks = asked.looks.saturating_add(1);
        return Ok(FIRST_LOOK.saturating_mul(1 << asked.looks.min(6)).min(LONGEST_LOOK));
    }
    let (store, rotator) = scene.way(source)?;
    let attempt = attempt(scene, source, &fresh);
    let context = scene.context;
    context.fetcher.rotate(store, rotator, &source.key, &attempt).await.or_else(|error| match error.class {
        // It may be at it still.
        ErrorClass::Timeout => Ok(()),
        _ => Err(scene.problem(store, source, &error)),
    })?;
    let meta = &scene.observed.bot_secret.metadata;
    let (namespace, bot_secret) = (&meta.namespace, &meta.name);
    tracing::info!(namespace, bot_secret, remote_secret = %source.key, attempt, "manager asked to rotate");
    context.metrics.rotations_triggered.inc();
    notes.asked.insert(source.clone(), Asked { at: Instant::now(), since: fresh.changed, looks: 0 });
    // One that does it at once has ended the old value: the new one is read at once.
    memory.wanted_since.get_or_insert_with(Instant::now);
    Ok(Duration::ZERO)
}

/// Names the attempt to take the place of this very value: the same for whoever
/// repeats it, after a restart too. Of names and times alone.
fn attempt(scene: &Scene<'_>, source: &Source, read: &RemoteSecret) -> String {
    let uid = scene.observed.bot_secret.metadata.uid.as_deref().unwrap_or_default();
    let text = format!("{uid}\n{}\n{:?}\n{:?}", version_name(source), read.version, read.changed);
    let hash = digest(&SHA256, text.as_bytes());
    uuid(hash.as_ref())
}

/// A UUID of the first 16 of these bytes.
pub(super) fn uuid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().take(16).enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // Version and variant: made of anything (RFC 9562, 5.8).
        let byte = match index {
            6 => (byte & 0x0f) | 0x80,
            8 => (byte & 0x3f) | 0x80,
            _ => *byte,
        };
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
