//! One identity's login at one store: made once for everyone, renewed ahead of
//! expiry, replaced when it turns out to be dead.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::time::Instant;
use tracing::Span;

use super::{
    Lanes, ServiceAccount, breaker::Evidence, counters::FetchCounters, interrupted, locked, opened::Store,
    token::Tokens,
};
use crate::{
    audit::{Event, Kind},
    stores::{Audience, ErrorClass, Login, Pace, Session, StoreError},
    traces,
};

/// A failed login answers those who ask again this soon.
const FAILURE_KEPT: Duration = Duration::from_secs(1);
/// A renewal that failed is tried again after this; the old login still works.
const RENEWAL_PAUSE: Duration = Duration::from_secs(10);
/// A login this old may have died, even if nothing was read with it.
const MOMENT: Duration = Duration::from_secs(5);
/// A token that was refused but is newer than this is not the reason.
const TOKEN_DOUBTED_AFTER: Duration = Duration::from_secs(60);
/// After a new login that did not help, the next refusal is believed for this
/// long, and longer each time: one forbidden path must not cause logins.
const BELIEVED: Duration = Duration::from_secs(15);
const BELIEVED_AT_MOST: Duration = Duration::from_secs(120);
/// The least time between two replacements of one login: a manager that
/// refuses and answers in turn must not cause login after login.
const REPLACEMENT_PAUSE: Duration = Duration::from_secs(15);
/// How long a session without any end of its own is used.
const WITHOUT_END: Duration = Duration::from_secs(3600);
type Flight = Shared<BoxFuture<'static, Result<Arc<Live>, StoreError>>>;

/// One identity's logins at one store.
pub(super) struct Logins {
    pub(super) store: Arc<Store>,
    pub(super) lanes: Lanes,
    pub(super) counters: Arc<FetchCounters>,
    account: ServiceAccount,
    audience: Option<Audience>,
    tokens: Arc<Tokens>,
    state: Mutex<LoginState>,
}

struct LoginState {
    live: Option<Arc<Live>>,
    under_way: Option<Flight>,
    failed: Option<(Instant, StoreError)>,
    /// Until when a refusal is believed without a new login, and how long the
    /// next such time is.
    believed: Option<Instant>,
    believe_for: Duration,
    /// When a login was last given up for a refusal.
    replaced: Option<Instant>,
    used: Instant,
}

/// A login.
pub(super) struct Live {
    pub(super) session: Arc<dyn Session>,
    made: Instant,
    expires: Instant,
    /// Something was read with it.
    proven: AtomicBool,
}

impl Live {
    fn left(&self, now: Instant) -> Duration {
        self.expires.saturating_duration_since(now)
    }

    fn life(&self) -> Duration {
        self.expires.saturating_duration_since(self.made)
    }

    /// With enough left to finish a request.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        self.left(now) > (self.life() / 10).min(MOMENT)
    }

    /// Something was read with it.
    pub(super) fn prove(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    fn is_due_for_renewal(&self, now: Instant) -> bool {
        self.left(now) < self.life() / 3
    }
}

impl Logins {
    pub(super) fn new(
        store: Arc<Store>,
        lanes: Lanes,
        account: ServiceAccount,
        audience: Option<Audience>,
        tokens: Arc<Tokens>,
        counters: Arc<FetchCounters>,
    ) -> Self {
        let state = LoginState {
            live: None,
            under_way: None,
            failed: None,
            believed: None,
            believe_for: BELIEVED,
            replaced: None,
            used: Instant::now(),
        };
        Self { store, lanes, counters, account, audience, tokens, state: Mutex::new(state) }
    }

    /// Whether nothing would be lost: unused this long, or without a login.
    pub(super) fn is_idle(&self, now: Instant, longest: Duration) -> bool {
        let login = locked(&self.state);
        let unused = now.saturating_duration_since(login.used);
        let worthless = login.live.as_ref().is_none_or(|live| !live.is_usable(now));
        login.under_way.is_none() && (unused >= longest || (worthless && unused >= BELIEVED_AT_MOST))
    }

    /// The login there is, if it can be used.
    pub(super) fn usable(&self, now: Instant) -> Option<Arc<Live>> {
        locked(&self.state).live.clone().filter(|live| live.is_usable(now))
    }

    /// The login: the one there is, or a new one that all who ask share, made as part of
    /// this span.
    pub(super) async fn session(self: &Arc<Self>, within: &Span) -> Result<Arc<Live>, StoreError> {
        let under_way = {
            let mut login = locked(&self.state);
            let now = Instant::now();
            login.used = now;
            let failed_within =
                |login: &LoginState, time| login.failed.as_ref().filter(|(at, _)| now < *at + time).cloned();
            if let Some(live) = login.live.clone().filter(|live| live.is_usable(now)) {
                let due = live.is_due_for_renewal(now) && login.under_way.is_none();
                if due && failed_within(&login, RENEWAL_PAUSE).is_none() {
                    // In the background: the old one is still good.
                    drop(self.begin_login(&mut login, within));
                }
                return Ok(live);
            }
            login.live = None;
            match (&login.under_way, failed_within(&login, FAILURE_KEPT)) {
                (Some(flight), _) => flight.clone(),
                (None, Some((_, error))) => return Err(error),
                (None, None) => self.begin_login(&mut login, within),
            }
        };
        under_way.await
    }

    fn begin_login(self: &Arc<Self>, login: &mut LoginState, within: &Span) -> Flight {
        let logins = Arc::clone(self);
        let call = traces::Call::within(within, &self.event());
        let task = tokio::spawn(async move {
            let result = AssertUnwindSafe(call.around(logins.log_in())).catch_unwind().await.unwrap_or_else(|_| {
                logins.counters.panics.add(1);
                Err(interrupted())
            });
            let mut login = locked(&logins.state);
            login.under_way = None;
            match &result {
                Ok(live) => (login.live, login.failed) = (Some(Arc::clone(live)), None),
                Err(error) => login.failed = Some((Instant::now(), error.clone())),
            }
            result
        });
        let flight = async move { task.await.unwrap_or_else(|_| Err(interrupted())) }.boxed().shared();
        login.under_way = Some(flight.clone());
        flight
    }

    /// Whose login it is, not on whose behalf: it is for all who read with it.
    fn event(&self) -> Event<'_> {
        Event { account: self.audience.is_some().then_some(&self.account), ..Event::at(Kind::Login, &self.store.name) }
    }

    async fn log_in(&self) -> Result<Arc<Live>, StoreError> {
        let held = match &self.audience {
            Some(audience) => Some(self.tokens.get(&self.account, audience).await?),
            None => None,
        };
        let pass = self.lanes.logins.enter().await?;
        let made = Instant::now();
        let token = held.as_ref().map(|held| &held.token.text);
        let login = Login { account: &self.account, token, pace: Pace::of(self.lanes.reads.clone()) };
        let session = self.store.backend.login(login);
        let (result, request) = self.counters.timed(Kind::Login, self.store.provider, &pass, session).await;
        let result = result.flatten();
        self.counters.logins.add(u64::from(request.is_own()));
        self.counters.audit.note(&Event {
            failure: result.as_ref().err().map(|error| error.class),
            request,
            ..self.event()
        });
        // A login that succeeds shows nothing: some need no request.
        pass.done(result.as_ref().err().map_or(Evidence::None, Evidence::of));
        match result {
            Ok(session) => {
                let token_ends = held.map_or(made + WITHOUT_END, |held| held.token.expires);
                let expires = session.expires().unwrap_or(token_ends);
                Ok(Arc::new(Live { session, made, expires, proven: AtomicBool::new(false) }))
            }
            Err(error) => {
                if error.class == ErrorClass::LoginDenied {
                    self.doubt_token(TOKEN_DOUBTED_AFTER);
                }
                Err(StoreError { session_dead: false, ..error })
            }
        }
    }

    /// A read with this login was refused as if it were dead. Whether to try
    /// once more, with a new one.
    pub(super) fn replace(&self, refused: &Arc<Live>) -> bool {
        let mut login = locked(&self.state);
        let now = Instant::now();
        match &login.live {
            Some(live) if Arc::ptr_eq(live, refused) => {}
            // Another read has seen to it.
            _ => return true,
        }
        let worked = refused.proven.load(Ordering::Relaxed) || now >= refused.made + MOMENT;
        let lately = login.replaced.is_some_and(|at| now < at + REPLACEMENT_PAUSE);
        if !worked || lately || login.believed.is_some_and(|until| now < until) {
            return false;
        }
        (login.live, login.replaced) = (None, Some(now));
        self.doubt_token(TOKEN_DOUBTED_AFTER);
        true
    }

    fn doubt_token(&self, age: Duration) {
        if let Some(audience) = &self.audience {
            self.tokens.doubt(&self.account, audience, age);
        }
    }

    /// Whether reads succeeded with the new login. One that was not answered
    /// shows nothing of the kind.
    pub(super) fn learn_from_retry(&self, helped: bool) {
        let mut login = locked(&self.state);
        if helped {
            (login.believed, login.believe_for) = (None, BELIEVED);
        } else {
            login.believed = Some(Instant::now() + login.believe_for);
            login.believe_for = (login.believe_for * 2).min(BELIEVED_AT_MOST);
        }
    }
}
