//! One identity's reads at one store, shared by all who ask at the same time.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::{sync::oneshot, time::Instant};

use super::{
    audited::{Caller, Denied, Told},
    breaker::Evidence,
    find::Find,
    held::Held,
    interrupted,
    lane::Pass,
    locked,
    logins::{Live, Logins},
};
use crate::{
    audit::{Kind, Request},
    stores::{ErrorClass, FindQuery, RemoteKey, RemoteSecret, StoreError},
};

/// How long a value that was read is there for others who are due.
pub(super) const RESULT_KEPT: Duration = Duration::from_secs(2);

/// BotSecrets of one identity fall due together, but not in one instant.
const GATHER: Duration = Duration::from_millis(100);

/// One read waits for so many logins, should each end while it queues.
const LOGINS_AT_MOST: usize = 3;

pub(super) type Answer = Result<Arc<RemoteSecret>, StoreError>;

/// One identity at one store, and what it reads there.
pub(super) struct Seat {
    pub(super) logins: Arc<Logins>,
    asked: Mutex<VecDeque<Ask>>,
    reads: Mutex<HashMap<RemoteKey, Read>>,
    pub(super) finds: Mutex<HashMap<FindQuery, Find>>,
    held: Arc<Held>,
}

/// A read as callers see it.
struct Read {
    /// When the request was sent; unset while it waits for its turn.
    began: Arc<OnceLock<Instant>>,
    answer: Shared<BoxFuture<'static, Answer>>,
}

/// A read as the worker sees it.
struct Ask {
    key: RemoteKey,
    caller: Arc<Caller>,
    began: Arc<OnceLock<Instant>>,
    answer: oneshot::Sender<Answer>,
}

impl Seat {
    pub(super) fn new(logins: Arc<Logins>, held: Arc<Held>) -> Self {
        Self { logins, asked: Mutex::default(), reads: Mutex::default(), finds: Mutex::default(), held }
    }

    /// The answer for one key: that of a read which begins, or began, at or
    /// after `fresh_since`; and whether that is another's.
    pub(super) fn ask(
        self: &Arc<Self>,
        key: &RemoteKey,
        fresh_since: Instant,
        caller: &Arc<Caller>,
    ) -> (Shared<BoxFuture<'static, Answer>>, bool) {
        let mut reads = locked(&self.reads);
        if let Some(read) = reads.get(key)
            && read.began.get().is_none_or(|began| *began >= fresh_since)
        {
            self.logins.counters.shared_reads.add(1);
            return (read.answer.clone(), true);
        }
        let (sender, receiver) = oneshot::channel();
        let began = Arc::new(OnceLock::new());
        let answer = async move { receiver.await.unwrap_or_else(|_| Err(interrupted())) }.boxed().shared();
        reads.insert(key.clone(), Read { began: Arc::clone(&began), answer: answer.clone() });
        drop(reads);
        locked(&self.asked).push_back(Ask { key: key.clone(), caller: Arc::clone(caller), began, answer: sender });
        // A task of its own: no caller that goes away takes the read along.
        let (seat, caller) = (Arc::clone(self), Arc::clone(caller));
        tokio::spawn(async move {
            if AssertUnwindSafe(Arc::clone(&seat).work(&caller)).catch_unwind().await.is_err() {
                seat.logins.counters.panics.add(1);
            }
        });
        (answer, false)
    }

    /// Takes a turn, then what has been asked by then, up to a batch. There is
    /// a worker for each ask, so none is left over. A login that this takes counts as
    /// `caller`'s, though the ask may be another's.
    async fn work(self: Arc<Self>, caller: &Caller) {
        self.gather().await;
        let ready = self.ready(caller).await;
        let asks = self.take();
        if asks.is_empty() {
            return;
        }
        // Whatever happens from here on, a panic included, the values go soon.
        let _cleaner =
            Cleaner { seat: &self, asks: asks.iter().map(|ask| (ask.key.clone(), Arc::clone(&ask.began))).collect() };
        let (live, pass) = match ready {
            Ok(ready) => ready,
            Err(error) => return self.answer_all(asks, &error),
        };
        let Tried { suspects, request, mut denied, .. } = self.read(&live, pass, asks).await;
        if suspects.is_empty() {
            return;
        }
        // The login may be dead: one new login, one more try.
        let again = self.logins.replace(&live);
        for (ask, error) in &suspects {
            let told = denied.told(&ask.caller, error, request);
            self.note_read(ask, Err(error), Told { retried: again, ..told });
        }
        if !again {
            return suspects.into_iter().for_each(|(ask, error)| self.answer(ask, Err(error)));
        }
        let asks = suspects.into_iter().map(|(ask, _)| ask).collect();
        let (live, pass) = match self.ready(caller).await {
            Ok(ready) => ready,
            Err(error) => return self.answer_all(asks, &error),
        };
        let Tried { suspects: refused, succeeded, request, mut denied } = self.read(&live, pass, asks).await;
        self.logins.learn_from_retry(succeeded && refused.is_empty());
        for (ask, error) in refused {
            self.note_read(&ask, Err(&error), denied.told(&ask.caller, &error, request));
            self.answer(ask, Err(error));
        }
    }

    /// Where one request may name several secrets, leaves others who are due
    /// with this one a moment to ask too.
    async fn gather(&self) {
        let batch = self.logins.store.backend.capabilities().batch;
        if batch > 1 && locked(&self.asked).len() < batch {
            tokio::time::sleep(GATHER).await;
        }
    }

    fn take(&self) -> Vec<Ask> {
        let mut asked = locked(&self.asked);
        let batch = self.logins.store.backend.capabilities().batch.max(1).min(asked.len());
        asked.drain(..batch).collect()
    }

    /// A login and leave to use it.
    pub(super) async fn ready(&self, caller: &Caller) -> Result<(Arc<Live>, Pass), StoreError> {
        for _ in 0..LOGINS_AT_MOST {
            let live = self.logins.session(&caller.span).await?;
            let pass = self.logins.lanes.reads.enter().await?;
            let now = Instant::now();
            if live.is_usable(now) {
                return Ok((live, pass));
            }
            // It ran out in the queue; others may have renewed it meanwhile.
            if let Some(live) = self.logins.usable(now) {
                return Ok((live, pass));
            }
        }
        Err(StoreError::new(
            ErrorClass::LoginDenied,
            "the logins that it grants end before they can be used: lengthen the role's token TTL",
        ))
    }

    /// Reads and answers, but for those where the login may be dead.
    async fn read(&self, live: &Live, pass: Pass, asks: Vec<Ask>) -> Tried {
        let now = Instant::now();
        for ask in &asks {
            // Of two tries the first counts: fewer may share it, never more.
            let _ = ask.began.set(now);
        }
        let keys: Vec<RemoteKey> = asks.iter().map(|ask| ask.key.clone()).collect();
        let (provider, counters) = (self.logins.store.provider, &self.logins.counters);
        let (results, request) = counters.timed(Kind::Read, provider, &pass, live.session.read(&keys)).await;
        if request.is_own() {
            counters.reads.add(keys.len() as u64);
        }
        let results = match results {
            Ok(results) => results,
            Err(error) => keys.iter().map(|_| Err(error.clone())).collect(),
        };
        pass.done(evidence(&results));
        let (mut suspects, mut succeeded, mut denied) = (Vec::new(), false, Denied::default());
        for (ask, result) in asks.into_iter().zip(results) {
            match result {
                Err(error) if error.session_dead => suspects.push((ask, error)),
                Err(error) => {
                    self.note_read(&ask, Err(&error), denied.told(&ask.caller, &error, request));
                    self.answer(ask, Err(error));
                }
                Ok(secret) => {
                    live.prove();
                    succeeded = true;
                    self.note_read(&ask, Ok(secret.version_name()), Told::of(request));
                    self.answer(ask, self.held.keep(&self.logins.lanes.reads.party.store, secret));
                }
            }
        }
        Tried { suspects, succeeded, request, denied }
    }

    fn answer_all(&self, asks: Vec<Ask>, error: &StoreError) {
        for ask in asks {
            self.note_read(&ask, Err(error), Told::of(Request::None));
            self.answer(ask, Err(error.clone()));
        }
    }

    fn note_read(&self, ask: &Ask, result: Result<Option<Cow<'_, str>>, &StoreError>, told: Told) {
        self.note_of(&ask.caller, Kind::Read, &ask.key, result, told);
    }

    fn answer(&self, ask: Ask, answer: Answer) {
        let _ = ask.began.set(Instant::now());
        let answer = answer.map_err(|error| StoreError { session_dead: false, ..error });
        if let Err(error) = &answer {
            self.logins.counters.failed(error.class);
        }
        // Everyone who asked may be gone.
        let _ = ask.answer.send(answer);
    }
}

/// What came of a try.
struct Tried {
    /// Those where the login may be dead.
    suspects: Vec<(Ask, StoreError)>,
    /// Whether any succeeded.
    succeeded: bool,
    request: Request,
    /// Whom it has denied something, the suspects left out.
    denied: Denied,
}

/// Takes the values of these reads out of the shared ones soon after they end.
struct Cleaner<'a> {
    seat: &'a Arc<Seat>,
    asks: Vec<(RemoteKey, Arc<OnceLock<Instant>>)>,
}

impl Drop for Cleaner<'_> {
    fn drop(&mut self) {
        let (seat, asks) = (Arc::downgrade(self.seat), std::mem::take(&mut self.asks));
        // None is left when the process ends.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            tokio::time::sleep(RESULT_KEPT).await;
            let Some(seat) = seat.upgrade() else { return };
            let mut reads = locked(&seat.reads);
            for (key, began) in asks {
                if reads.get(&key).is_some_and(|read| Arc::ptr_eq(&read.began, &began)) {
                    reads.remove(&key);
                }
            }
        });
    }
}

/// One answer of any kind shows that the store lives.
fn evidence(results: &[Result<RemoteSecret, StoreError>]) -> Evidence {
    let mut shown = Evidence::None;
    for result in results {
        match result.as_ref().err().map_or(Evidence::Alive, Evidence::of) {
            Evidence::Throttled(error) => return Evidence::Throttled(error),
            Evidence::Alive => shown = Evidence::Alive,
            outage if matches!(shown, Evidence::None) => shown = outage,
            _ => {}
        }
    }
    shown
}
