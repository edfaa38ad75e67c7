//! Reads values: what all managers share.
//!
//! Sessions are one per (store UID, generation and state of its credentials,
//! ServiceAccount UID and identity annotations, audience, role), logged in to
//! once, renewed ahead of expiry. Where a store has credentials of its own, one
//! session serves every account. Reads of the same remote secret by the same
//! session are shared.

mod audited;
mod breaker;
mod counters;
mod credentials;
mod desk;
mod domains;
mod find;
mod guard;
mod held;
mod kube_credentials;
mod kube_tokens;
mod lane;
mod logins;
mod opened;
mod patient;
mod seat;
mod token;
mod way;
mod write;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesOrdered};
use tokio::{sync::broadcast, time::Instant};

use self::{
    audited::Caller,
    breaker::Party,
    domains::Domains,
    held::{Held, weight_of},
    lane::{Lane, StoreLimits},
    logins::Logins,
    opened::Stores,
    seat::{Answer, Seat},
    token::Tokens,
    way::Routes,
};
use crate::{
    api::{Limits, Provider, StoreRef},
    audit::{AuditLog, Kind, Remote, Request},
    stores::{self, Audience, ErrorClass, FindQuery, HttpClients, Identity, Opening, RemoteKey, Scope, StoreError},
};

pub use crate::stores::ServiceAccount;
pub use counters::{ByCall, CallTimes, FetchCounters};
pub use credentials::{CredentialSecret, CredentialSource, ReferredSecrets, SecretVersion};
pub use desk::{Desk, Holding};
pub use kube_credentials::KubeCredentials;
#[cfg(any(test, fuzzing))]
pub(crate) use kube_credentials::parse as credential_secret;
pub use kube_tokens::KubeTokens;
#[cfg(any(test, fuzzing))]
pub(crate) use kube_tokens::{granted as granted_token, refused as refused_token};
pub use opened::Open;
pub use token::{Token, TokenSource};

/// A login not used for this long is dropped, even if it is still good.
const IDLE: Duration = Duration::from_secs(2 * 3600);
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// What the values of one [`Fetcher::read`] may weigh together. A Secret holds
/// 1 MiB; what is picked from may be larger.
const LARGEST_READ: usize = 8 << 20;
/// So many requests' worth of its reads are asked for at a time. A multiple
/// of what is under way at once, so that none is sent half full.
const ASKED_AT_ONCE: usize = 64;

/// A store as `plan` resolved it from the watch's index.
#[derive(Clone, Debug)]
pub struct ResolvedStore {
    /// How BotSecrets name it, for messages.
    pub reference: StoreRef,
    /// Its UID.
    pub uid: String,
    /// Its generation: an edit makes a new session.
    pub generation: i64,
    /// Who wrote it.
    pub scope: Scope,
    /// What it speaks to.
    pub provider: Provider,
    /// The proxy before it.
    pub proxy: Option<String>,
    /// How hard it may be asked.
    pub limits: Limits,
    /// Whether values may be rotated through it.
    pub allows_rotation: bool,
    /// The Secrets that hold its own credentials, as the watch sees them.
    pub credentials: ReferredSecrets,
}

#[derive(PartialEq, Eq, Hash)]
struct SeatKey {
    /// The store's UID and the number of its opening.
    store: (String, u64),
    /// `None` where the store's own credentials serve every account.
    account: Option<ServiceAccount>,
    audience: Option<Audience>,
    role: String,
    quota: String,
}

/// Reads remote secrets for everyone.
///
/// Needs a Tokio runtime. Callers may go away at any time; what they began
/// goes on for the others.
pub struct Fetcher {
    tokens: Arc<Tokens>,
    stores: Stores,
    domains: Domains,
    held: Arc<Held>,
    seats: Mutex<HashMap<SeatKey, Arc<Seat>>>,
    swept: Mutex<Instant>,
    recovered: broadcast::Sender<String>,
    counters: Arc<FetchCounters>,
}

impl Fetcher {
    /// With where tokens and stores' credentials come from, and the
    /// connections.
    #[must_use]
    pub fn new(tokens: Arc<dyn TokenSource>, credentials: Arc<dyn CredentialSource>, clients: HttpClients) -> Self {
        let open = move |store: &ResolvedStore, credentials| {
            let largest = store.limits.max_response_bytes.map_or(stores::LARGEST_ANSWER, |most| most as usize);
            let opening = Opening {
                scope: store.scope,
                credentials,
                clients: &clients,
                proxy: store.proxy.clone(),
                largest_answer: largest,
            };
            stores::open(&store.provider, &opening)
        };
        Self::opening(tokens, credentials, Box::new(open))
    }

    /// The same, with another way to make a backend of a store.
    #[must_use]
    pub fn opening(tokens: Arc<dyn TokenSource>, credentials: Arc<dyn CredentialSource>, open: Box<Open>) -> Self {
        let counters = Arc::new(FetchCounters::default());
        let recovered = broadcast::channel(256).0;
        Self {
            tokens: Arc::new(Tokens::new(tokens, Arc::clone(&counters))),
            stores: Stores::new(credentials, open),
            domains: Domains::new(recovered.clone()),
            held: Arc::default(),
            seats: Mutex::default(),
            swept: Mutex::new(Instant::now()),
            recovered,
            counters,
        }
    }

    /// One answer for each key, in order.
    ///
    /// A read that begins at or after `fresh_since` satisfies the caller, so
    /// those whose refreshes fall due together share it when each passes its
    /// own due time; an older one does not.
    ///
    /// Once the values together weigh more than 8 MiB, no more are read, and
    /// the rest are [`ErrorClass::TooLarge`].
    pub async fn read(
        &self,
        store: &ResolvedStore,
        account: &ServiceAccount,
        keys: &[RemoteKey],
        fresh_since: Instant,
    ) -> Vec<Answer> {
        self.sweep_now_and_then();
        let caller = Arc::new(Caller::of(account));
        match self.seat(store, account).await {
            Ok(seat) => self.read_at(&seat, keys, fresh_since, &caller).await,
            Err(error) => {
                self.counters.failed(error.class);
                for key in keys {
                    self.note_unseated(store, &caller, Kind::Read, &error, key);
                }
                keys.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }

    async fn read_at(
        &self,
        seat: &Arc<Seat>,
        keys: &[RemoteKey],
        fresh_since: Instant,
        caller: &Arc<Caller>,
    ) -> Vec<Answer> {
        let capabilities = seat.logins.store.backend.capabilities();
        // Managers that take several at a time keep only small secrets.
        let at_once = ASKED_AT_ONCE * capabilities.batch.max(1);
        // Where a date comes with every value, nobody who wants it reads alone.
        let undated: Vec<_>;
        let keys = if capabilities.dates_apart || !keys.iter().any(|key| key.dated) {
            keys
        } else {
            undated = keys.iter().map(|key| RemoteKey { dated: false, ..key.clone() }).collect();
            &undated
        };
        let (now, later) = keys.split_at(keys.len().min(at_once));
        let mut reads: FuturesOrdered<_> = now.iter().map(|key| seat.answer_to(key, fresh_since, caller)).collect();
        let mut later = later.iter();
        let mut answers = Vec::with_capacity(keys.len());
        let mut weight = 0;
        while let Some(answer) = reads.next().await {
            weight += answer.as_ref().map_or(0, |secret| weight_of(&secret.payload));
            if weight > LARGEST_READ {
                let message =
                    format!("what is read from this store weighs more than {} MiB in all", LARGEST_READ >> 20);
                let error = StoreError::new(ErrorClass::TooLarge, message);
                self.counters.failed(error.class);
                answers.resize(keys.len(), Err(error));
                break;
            }
            answers.push(answer);
            if let Some(key) = later.next() {
                reads.push_back(seat.answer_to(key, fresh_since, caller));
            }
        }
        answers
    }

    /// The keys of the remote secrets that are looked for, in their order.
    /// Shared as reads are.
    ///
    /// # Errors
    /// As one read's.
    pub async fn find(
        &self,
        store: &ResolvedStore,
        account: &ServiceAccount,
        query: &FindQuery,
        fresh_since: Instant,
    ) -> Result<Vec<String>, StoreError> {
        self.sweep_now_and_then();
        let caller = Arc::new(Caller::of(account));
        let seat = self.seat(store, account).await.inspect_err(|error| {
            self.counters.failed(error.class);
            self.note_unseated_search(store, &caller, error, query);
        })?;
        let call = seat.call(&caller, Kind::Search, Remote::searched(query));
        let (found, is_shared) = seat.find(query, fresh_since, &caller);
        call.note_shared(is_shared);
        let found = call.around(found).await;
        if is_shared {
            seat.note_search(&caller, query, found.as_ref().err(), Request::Shared, false);
        }
        Ok(found?.as_ref().clone())
    }

    /// Tells the UID of a store that answers again after it was taken for
    /// dead: whoever waits for it may try at once.
    #[must_use]
    pub fn recoveries(&self) -> broadcast::Receiver<String> {
        self.recovered.subscribe()
    }

    /// The store is gone: its logins go too.
    pub fn forget_store(&self, uid: &str) {
        locked(&self.seats).retain(|key, _| key.store.0 != uid);
        self.stores.forget(uid);
    }

    /// The ServiceAccount is gone: its tokens and logins go too.
    pub fn forget_account(&self, uid: &str) {
        locked(&self.seats).retain(|key, _| key.account.as_ref().is_none_or(|account| account.uid != uid));
        self.tokens.forget_account(uid);
    }

    /// Drops logins and tokens that have expired or are not used, if that was not done
    /// within the last minute. Each read and search does so first; where none may come,
    /// whoever holds this calls it.
    pub fn sweep_now_and_then(&self) {
        {
            let mut swept = locked(&self.swept);
            if swept.elapsed() < SWEEP_EVERY {
                return;
            }
            *swept = Instant::now();
        }
        self.sweep();
    }

    fn sweep(&self) {
        let now = Instant::now();
        locked(&self.seats).retain(|_, seat| !seat.logins.is_idle(now, IDLE));
        self.stores.sweep();
        self.domains.sweep(now);
        self.tokens.sweep(now);
    }

    /// Has each call of a manager from now on written to this log. The first log stays.
    pub fn audit_to(&self, log: AuditLog) {
        self.counters.audit.write_to(log);
    }

    /// What was asked of managers so far.
    #[must_use]
    pub fn counters(&self) -> &FetchCounters {
        &self.counters
    }

    /// Whether neither a store is open nor a token or login kept.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        locked(&self.seats).is_empty() && self.stores.is_empty() && self.tokens.is_empty()
    }

    /// Where this account sits at this store.
    async fn seat(&self, resolved: &ResolvedStore, account: &ServiceAccount) -> Result<Arc<Seat>, StoreError> {
        let store = self.stores.get(resolved).await?;
        let identity = store.backend.identity(account)?;
        guard::check(&resolved.provider, identity.audience.as_ref())?;
        let key = SeatKey {
            store: (resolved.uid.clone(), store.number),
            account: identity.audience.is_some().then(|| account.clone()),
            audience: identity.audience.clone(),
            role: identity.role.clone(),
            quota: identity.quota.name.clone(),
        };
        let mut seats = locked(&self.seats);
        if let Some(seat) = seats.get(&key) {
            return Ok(Arc::clone(seat));
        }
        // Logins with what the store said before, or with credentials that
        // were replaced, are of no use any more.
        seats.retain(|known, _| known.store.0 != key.store.0 || known.store.1 >= key.store.1);
        let lanes = self.lanes(resolved, &store.limits, account, &identity);
        let (tokens, counters) = (Arc::clone(&self.tokens), Arc::clone(&self.counters));
        let logins = Logins::new(store, lanes, account.clone(), identity.audience, tokens, counters);
        let seat = Arc::new(Seat::new(Arc::new(logins), Arc::clone(&self.held)));
        seats.insert(key, Arc::clone(&seat));
        Ok(seat)
    }

    fn lanes(
        &self,
        resolved: &ResolvedStore,
        limits: &Arc<StoreLimits>,
        account: &ServiceAccount,
        identity: &Identity,
    ) -> Lanes {
        let own = identity.audience.is_some();
        let party = Arc::new(Party {
            tenant: if own { account.namespace.clone() } else { resolved.uid.clone() },
            store: resolved.uid.clone(),
            account: own.then(|| account.uid.clone()),
            role: identity.role.clone(),
        });
        let Routes { reads, logins } = Routes::of(resolved, identity);
        let lane = |route| self.domains.lane(&party, limits, route);
        Lanes { reads: lane(&reads), logins: lane(&logins) }
    }
}

/// The lanes of one identity at one store.
struct Lanes {
    reads: Arc<Lane>,
    logins: Arc<Lane>,
}

/// Nothing here panics while it holds a lock; should it, the data is still
/// whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The task that should have answered is gone.
fn interrupted() -> StoreError {
    StoreError::new(ErrorClass::Unavailable, "the operator's own read was interrupted")
}

#[cfg(test)]
mod tests;
