//! The loop: takes in what the watches report, sends out passes, takes back
//! what they found. It alone owns the index, the queue and the memories.

use std::{
    collections::{HashMap, HashSet},
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use tokio::{
    sync::{broadcast::error::RecvError, mpsc, watch::Sender},
    time::Instant,
};
use tracing::Instrument as _;

use super::{
    Context, RunError,
    done::Done,
    leader::{Leadership, Standing},
    pass::{after_fault, pass},
    referred::ReferredWatches,
    rolling::underway,
    successes::Successes,
};
use crate::{
    audit,
    plan::{Memory, Queue},
    report::Reason,
    traces,
    watch::{Change, Departed, ObjectKey, Observed, Scoped, Wake, World, streams},
};

/// How often BotSecrets are counted by readiness, and what nobody uses is looked for.
const COUNT_EVERY: Duration = Duration::from_secs(10);
/// How long the first passes wait for news of the Secrets that stores refer
/// to. Without them a store's credentials are read as they are, and once more
/// when the news come: one that cannot be watched must not hold up the rest.
const REFERRED_PATIENCE: Duration = Duration::from_secs(10);

struct Engine {
    context: Arc<Context>,
    world: World,
    queue: Queue,
    memories: HashMap<ObjectKey, Box<Memory>>,
    /// Reads that fell due while a pass over the object was running.
    wanted: HashMap<ObjectKey, Instant>,
    done: mpsc::UnboundedSender<(ObjectKey, Option<Box<Done>>)>,
    referred: ReferredWatches,
    successes: Successes,
    /// Whether passes are sent out.
    sending: bool,
}

/// One pass. A fault must cost one pass over one object, no more; the object
/// says so. The panic's message is not shown anywhere: it may quote a value.
async fn contained(context: &Context, observed: Observed, memory: Box<Memory>) -> Option<Box<Done>> {
    let object = observed.bot_secret.clone();
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let (span, started) = (traces::pass(&object), Instant::now());
    let pass = audit::asking(name, Box::pin(pass(context, observed, memory))).instrument(span.clone());
    if let Ok(done) = AssertUnwindSafe(pass).catch_unwind().await {
        return Some(Box::new(done));
    }
    context.metrics.panics.inc();
    context.metrics.passed(started.elapsed().as_secs_f64(), Some(Reason::InternalError));
    traces::note_fault(&span);
    tracing::error!(
        namespace = object.metadata.namespace,
        bot_secret = object.metadata.name,
        "a pass ended in a fault of the operator's own; it is tried again in a minute"
    );
    AssertUnwindSafe(Box::pin(after_fault(context, &object))).catch_unwind().await.ok().map(Box::new)
}

pub(super) async fn run(
    context: Arc<Context>,
    watching: &kube::Client,
    namespaces: &[String],
    successes: Successes,
    leadership: &Leadership,
    ready: Sender<bool>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RunError> {
    let mut changes = pin!(streams::all(watching, namespaces).ready_chunks(512));
    let mut lists_to_come = streams::count(namespaces);
    let mut listed = HashSet::new();
    let mut recoveries = context.fetcher.recoveries();
    let (done, mut finished) = mpsc::unbounded_channel();
    let (referred, mut referred_changes) = ReferredWatches::new(watching.clone());
    let mut engine = Engine {
        world: World::new(&context.operator_namespace),
        context,
        queue: Queue::default(),
        memories: HashMap::new(),
        wanted: HashMap::new(),
        done,
        referred,
        successes,
        sending: false,
    };
    let (mut started, mut patience) = (false, None);
    let mut standing = leadership.standing.clone();
    engine.context.metrics.lead(*standing.borrow() == Standing::Leading);
    let mut shutdown = pin!(shutdown);
    let mut count = tokio::time::interval(COUNT_EVERY);
    loop {
        // Decisions from a part of the world would be wrong ones: nothing is
        // sent out before every first list is complete.
        if !started && lists_to_come == 0 && *standing.borrow() == Standing::Leading {
            let until = *patience.get_or_insert_with(|| Instant::now() + REFERRED_PATIENCE);
            started = Instant::now() >= until || engine.referred.has_answers(&engine.world);
        }
        if started {
            if !std::mem::replace(&mut engine.sending, true) {
                engine.count_rollouts();
                engine.count_successes();
            }
            engine.send_out_due();
        }
        let next = if started { engine.queue.next_time() } else { patience };
        tokio::select! {
            () = &mut shutdown => break,
            Ok(()) = standing.changed() => {
                let now = *standing.borrow_and_update();
                if now == Standing::Deposed {
                    return Err(RunError::Deposed);
                }
                engine.context.metrics.lead(now == Standing::Leading);
            }
            chunk = changes.next() => {
                let mut stores_changed = false;
                for (scope, change) in chunk.ok_or(RunError::WatchesEnded)? {
                    // A watch may list again before another has listed at all.
                    let ended = ends_a_list(&change).filter(|_| lists_to_come > 0);
                    if ended.is_some_and(|kind| listed.insert((scope.clone(), kind))) {
                        lists_to_come -= 1;
                        if lists_to_come == 0 {
                            let _ = ready.send(true);
                            tracing::info!(bot_secrets = engine.world.bot_secret_count(), "every list is complete");
                        }
                    }
                    stores_changed |= matches!(change, Change::Store(_) | Change::ClusterStore(_));
                    engine.take(&scope, change);
                }
                if stores_changed {
                    engine.referred.follow(&mut engine.world);
                }
            }
            Some(change) = referred_changes.recv() => {
                if engine.referred.is_of_one(&change) {
                    engine.take("", change);
                }
            }
            Some((key, result)) = finished.recv() => {
                engine.take_back(key, result);
                while let Ok((key, result)) = finished.try_recv() {
                    engine.take_back(key, result);
                }
            }
            recovered = recoveries.recv() => match recovered {
                Ok(store) => engine.store_recovered(Some(&store)),
                Err(RecvError::Lagged(_)) => engine.store_recovered(None),
                Err(RecvError::Closed) => {}
            },
            () = sleep_until(next) => {}
            _ = count.tick() => engine.count(),
        }
    }
    tracing::info!(passes = engine.queue.running(), "stopping: what is under way may finish");
    engine.context.stop.send_replace(true);
    let deadline = Instant::now() + leadership.grace();
    while engine.queue.running() > 0 {
        match tokio::time::timeout_at(deadline, finished.recv()).await {
            Ok(Some((key, _))) => engine.queue.finished(&key),
            _ => break,
        }
    }
    Ok(())
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Which list is complete with this change.
fn ends_a_list(change: &Change) -> Option<&'static str> {
    match change {
        Change::BotSecret(Scoped::End) => Some("BotSecret"),
        Change::Store(Scoped::End) => Some("BotSecretStore"),
        Change::ClusterStore(Scoped::End) => Some("ClusterBotSecretStore"),
        Change::ServiceAccount(Scoped::End) => Some("ServiceAccount"),
        Change::Secret(Scoped::End) => Some("Secret"),
        Change::MergedSecret(Scoped::End) => Some("merged Secret"),
        Change::Workload(kind, Scoped::End) | Change::Absent(kind) => Some(kind.name()),
        _ => None,
    }
}

impl Engine {
    fn take(&mut self, scope: &str, change: Change) {
        let now = Instant::now();
        for (key, wake) in self.world.take(scope, change) {
            self.wake(key, wake, now);
        }
        for gone in self.world.take_departed() {
            match gone {
                Departed::Account(uid) => self.context.fetcher.forget_account(&uid),
                Departed::Store(uid) => {
                    self.context.fetcher.forget_store(&uid);
                    self.context.lanes.forget(&uid);
                }
            }
        }
    }

    fn wake(&mut self, key: ObjectKey, wake: Wake, now: Instant) {
        if wake == Wake::Read {
            self.wanted.entry(key.clone()).or_insert(now);
        }
        self.queue.wake(key, now);
    }

    fn send_out_due(&mut self) {
        let now = Instant::now();
        while let Some(key) = self.queue.take_due(now) {
            let Some(observed) = self.world.observe(&key) else {
                self.context.places.hold((key.namespace.clone(), key.name.clone()), 0);
                self.memories.remove(&key);
                self.wanted.remove(&key);
                self.queue.finished(&key);
                continue;
            };
            let uid = &observed.bot_secret.metadata.uid;
            let mut memory = self.memories.remove(&key).filter(|memory| memory.uid == *uid).unwrap_or_default();
            memory.uid.clone_from(uid);
            if let Some(since) = self.wanted.remove(&key) {
                memory.wanted_since.get_or_insert(since);
                // Whoever changed something does not wait for a back-off.
                memory.next_read = None;
            }
            let (context, done) = (self.context.clone(), self.done.clone());
            tokio::spawn(async move {
                let result = contained(&context, observed, memory).await;
                let _ = done.send((key, result));
            });
        }
    }

    fn take_back(&mut self, key: ObjectKey, result: Option<Box<Done>>) {
        self.queue.finished(&key);
        let Some(done) = result else {
            self.queue.wake(key, Instant::now() + Duration::from_secs(60));
            return;
        };
        let Done { memory, secret, object, again } = *done;
        if let Some((facts, policy)) = secret {
            self.world.wrote_secret(facts, policy);
        }
        if let Some(object) = object {
            for (key, wake) in self.world.wrote_bot_secret(object) {
                self.wake(key, wake, Instant::now());
            }
        }
        if self.world.contains(&key) {
            self.memories.insert(key.clone(), memory);
            if let Some(at) = again {
                self.queue.wake(key, at);
            }
        }
    }

    /// A store works again: whoever waits for it is tried at once.
    fn store_recovered(&mut self, store: Option<&str>) {
        let now = Instant::now();
        let waiting = self.memories.iter().filter(|(_, memory)| match (&memory.waits_for, store) {
            (Some(waits_for), Some(store)) => waits_for == store,
            (waits_for, None) => waits_for.is_some(),
            (None, _) => false,
        });
        let keys: Vec<_> = waiting.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.wake(key, Wake::Read, now);
        }
    }

    /// What rolls already, before anything else begins to.
    fn count_rollouts(&self) {
        for object in self.world.bot_secrets().filter(|object| object.spec.suspend != Some(true)) {
            let (key, running) = underway(object);
            self.context.places.hold(key, running);
        }
    }

    /// First while statuses say what another process left there.
    fn count_successes(&mut self) {
        let beyond = self.successes.count(&self.world, &self.memories);
        self.context.metrics.count_successes(self.successes.times(), beyond);
    }

    fn count(&mut self) {
        // Reads do so too, but who knows whether there will be one.
        self.context.fetcher.sweep_now_and_then();
        let (ready, not_ready) = self.world.count_ready();
        self.context.metrics.count_objects(ready, not_ready);
        self.context.metrics.count_reasons(&self.world.reasons());
        // A process that stands by reads nothing.
        if self.sending {
            self.count_successes();
        }
        let now = Instant::now();
        let held = self.memories.values().flat_map(|memory| &memory.leases.held);
        let near = held.filter(|held| held.is_near_end(now)).count();
        self.context.metrics.leases_near_end.set(i64::try_from(near).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
