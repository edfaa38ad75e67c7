//! Renewals: of the login that a credential hangs on, and of its lease.

use std::{sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use super::{super::Context, store_of};
use crate::{
    audit::Kind,
    fetch::{Desk, ResolvedStore},
    leases::{Held, Holdings, Part, Record, Steward, Token},
    report::{Notice, Reason},
    stores::{ErrorClass, IssuingLogin, StoreError},
    watch::Observed,
};

/// A login that ends within this is not used any more.
const MOMENT: Duration = Duration::from_secs(5);
/// What OpenBao answers does not tell this from a policy that forbids.
const TOKEN_ENDED: &str = "; where the policy grants that, the ServiceAccount's token of a login by auth.kubernetes \
                           has ended, for which OpenBao refuses it too: log in by auth.jwt";

/// The clock of a credential that hangs on nothing: what its record says, since
/// nothing can move it.
pub(super) fn own_clock(record: &Record, now: Timestamp) -> Option<Vec<Part>> {
    if record.is_revocable() {
        return None;
    }
    let ends = Instant::now() + record.first_left(now);
    Some(vec![Part { ends, life: Duration::from_secs(record.seconds), open: false, last: false, sure: true }])
}

/// The token that a credential's login was made with, as its record says.
pub(super) fn token(record: &Record, now: Timestamp) -> Option<Token> {
    let (life, left) = record.token_life_and_left(now)?;
    Some(Token { ends: Instant::now() + left, life })
}

/// The store of a credential, whether or not the spec still names it. By its
/// name: one that was deleted and made again goes on where the first left off.
pub(super) fn store<'a>(observed: &'a Observed, record: &Record) -> Option<&'a Arc<ResolvedStore>> {
    store_of(observed, &record.store).or_else(|| observed.lenders.get(&record.store))
}

/// Whose steward one is: of a store as it is now, since after an edit it may
/// lead elsewhere.
pub(super) fn post(store: &ResolvedStore) -> String {
    format!("{}/{}", store.uid, store.generation)
}

/// A login that looks after what others hold: one a store, made when needed.
/// With it, whether it was made just now: what an older one is refused may be
/// because its token is gone.
pub(super) async fn steward(
    desk: &Desk,
    store: &Arc<ResolvedStore>,
    holdings: &mut Holdings,
) -> Result<(Arc<dyn IssuingLogin>, bool), StoreError> {
    let post = post(store);
    if let Some(known) = holdings.stewards.get(&post)
        && known.login.expires() > Instant::now() + MOMENT
    {
        return Ok((Arc::clone(&known.login), false));
    }
    let login = desk.log_in().await?;
    holdings.stewards.insert(post, Steward { login: Arc::clone(&login), store: Arc::clone(store) });
    Ok((login, true))
}

/// The path that issued a lease, which its id begins with.
pub(super) fn issued_by(lease: &str) -> &str {
    lease.rsplit_once('/').map_or("", |(path, _)| path)
}

/// What is renewed.
#[derive(Clone, Copy)]
enum Chore<'a> {
    Login(&'a str),
    Lease(&'a str),
}

impl Chore<'_> {
    /// The path that this came from, where it tells.
    fn path(&self) -> &str {
        match self {
            Self::Login(_) => "",
            Self::Lease(lease) => issued_by(lease),
        }
    }

    async fn by_other(self, login: &dyn IssuingLogin, asked: Duration) -> Result<Duration, StoreError> {
        match self {
            Self::Login(accessor) => login.renew_other(accessor, asked).await,
            Self::Lease(lease) => login.renew_lease(lease, asked).await,
        }
    }

    async fn by_itself(self, login: &dyn IssuingLogin, asked: Duration) -> Result<Duration, StoreError> {
        match self {
            Self::Login(_) => login.renew(asked).await,
            Self::Lease(lease) => login.renew_lease(lease, asked).await,
        }
    }

    /// By the login that it hangs on, or else by another: a login that is gone
    /// is refused everything, and only another is told so.
    async fn done(
        self,
        desk: &Desk,
        own: Option<&dyn IssuingLogin>,
        store: &Arc<ResolvedStore>,
        holdings: &mut Holdings,
        asked: Duration,
    ) -> Result<Duration, StoreError> {
        let mut refused = None;
        if let Some(own) = own {
            match desk.ask(Kind::Renew, self.path(), self.by_itself(own, asked)).await {
                Err(error) if error.class == ErrorClass::Denied => refused = Some(error),
                result => return result,
            }
        }
        loop {
            let (steward, is_new) = steward(desk, store, holdings).await?;
            match desk.ask(Kind::Renew, self.path(), self.by_other(&*steward, asked)).await {
                Err(error) if error.class == ErrorClass::Denied && !is_new => {
                    holdings.stewards.remove(&post(store));
                }
                Err(error) if error.class == ErrorClass::Denied => return Err(refused.unwrap_or(error)),
                result => return result,
            }
        }
    }
}

/// Renews one credential, as far as that helps. What cannot be renewed is noted
/// as such, what failed is tried again later.
pub(super) async fn renew(context: &Context, observed: &Observed, holdings: &mut Holdings, at: usize) {
    let Some((store, account)) =
        holdings.held.get(at).and_then(|held| store(observed, &held.record)).zip(observed.account.as_ref())
    else {
        // Its store or its account is not to be seen, perhaps for a moment only.
        if let Some(held) = holdings.held.get_mut(at) {
            held.failed(Instant::now());
        }
        return;
    };
    let result = match context.fetcher.desk(store, account).await {
        Ok(desk) => renewed(context, &desk, store, holdings, at).await,
        Err(error) => Err(error),
    };
    let Some(held) = holdings.held.get_mut(at) else { return };
    match result {
        Ok(()) => held.succeeded(),
        Err(error) => {
            held.failed(Instant::now());
            let (namespace, bot_secret) = (&observed.bot_secret.metadata.namespace, &observed.bot_secret.metadata.name);
            tracing::warn!(namespace, bot_secret, "a credential was not renewed; it is tried again: {}", error.message);
        }
    }
    let news = held.refusal.clone().filter(|_| held.failures == 0);
    if let Some(note) = news
        && !is_told(observed, &note)
    {
        let notice = Notice { warning: true, reason: Reason::LeaseNotRenewable.name(), action: "Lease", note };
        context.emitter.publish(&observed.bot_secret, &[notice]).await;
    }
}

fn is_told(observed: &Observed, note: &str) -> bool {
    let conditions = observed.bot_secret.status.iter().flat_map(|status| &status.conditions);
    conditions
        .into_iter()
        .any(|condition| condition.reason == Reason::LeaseNotRenewable.name() && condition.message == note)
}

async fn renewed(
    context: &Context,
    desk: &Desk,
    store: &Arc<ResolvedStore>,
    holdings: &mut Holdings,
    at: usize,
) -> Result<(), StoreError> {
    let Some(held) = holdings.held.get(at) else { return Ok(()) };
    let (record, own, before) = (held.record.clone(), held.login.clone(), held.parts.clone());
    let due = |place: usize| {
        before.as_ref().is_none_or(|parts| parts.get(place).is_some_and(|part| part.is_renewable_early(Instant::now())))
    };
    let asked = Duration::from_secs(record.login_seconds);
    if due(0) {
        let began = Instant::now();
        let result = Chore::Login(&record.accessor).done(desk, own.as_deref(), store, holdings, asked).await;
        note(context, holdings, at, 0, result.map(|granted| Part::renewed(began, asked, granted)))?;
    }
    if !record.lease.is_empty() && due(1) {
        let asked = Duration::from_secs(record.seconds);
        let began = Instant::now();
        let result = if record.renewable {
            let done = Chore::Lease(&record.lease).done(desk, own.as_deref(), store, holdings, asked).await;
            done.map(|granted| Part::renewed(began, asked, granted))
        } else {
            let ends = record.issued.as_second().saturating_add_unsigned(record.seconds) - context.now().as_second();
            let left = Duration::from_secs(u64::try_from(ends).unwrap_or(0));
            Ok(Part { ends: began + left, life: asked, open: false, last: false, sure: true })
        };
        if let Err(error) = note(context, holdings, at, 1, result) {
            // Nothing is known of it as long as not both are: with the login's
            // clock alone the lease would not be asked for again.
            if let Some(held) =
                holdings.held.get_mut(at).filter(|held| held.parts.as_ref().is_some_and(|all| all.len() < 2))
            {
                held.parts = None;
            }
            return Err(error);
        }
    }
    Ok(())
}

/// Notes what came of renewing one part. What may still be cured is an error.
fn note(
    context: &Context,
    holdings: &mut Holdings,
    at: usize,
    place: usize,
    result: Result<Part, StoreError>,
) -> Result<(), StoreError> {
    let Some(held) = holdings.held.get_mut(at) else { return Ok(()) };
    let part = match result {
        Ok(part) => {
            context.metrics.lease_renewals.inc();
            part
        }
        Err(error) => match error.class {
            // It is not there any more: its end was sooner than was known.
            ErrorClass::Missing => closed(held, place, Some(Instant::now()), context.now()),
            ErrorClass::Denied | ErrorClass::Invalid => {
                held.refusal = Some(format!(
                    "a credential of dataFrom entry {} cannot be renewed, so it is replaced before its login ends: {}{}",
                    held.record.index + 1,
                    error.message,
                    if error.class == ErrorClass::Denied { TOKEN_ENDED } else { "" },
                ));
                closed(held, place, None, context.now())
            }
            _ => {
                // It may have been done all the same.
                if let Some(part) = held.parts.as_mut().and_then(|parts| parts.get_mut(place)) {
                    part.sure = false;
                }
                return Err(error);
            }
        },
    };
    let parts = held.parts.get_or_insert_with(Vec::new);
    match parts.get_mut(place) {
        Some(known) => *known = part,
        None => parts.push(part),
    }
    Ok(())
}

/// A part that is not renewed any more. Where its end is not known, it is what
/// it was at first: later renewals are nowhere on record.
fn closed(held: &Held, place: usize, ends: Option<Instant>, now: Timestamp) -> Part {
    let known = held.parts.as_ref().and_then(|parts| parts.get(place)).copied();
    let first = || {
        let record = &held.record;
        let life = Duration::from_secs(if place == 0 { record.login_seconds } else { record.seconds });
        Part { ends: Instant::now() + record.first_left(now), life, open: false, last: false, sure: false }
    };
    let part = known.unwrap_or_else(first);
    Part { ends: ends.unwrap_or(part.ends), open: false, last: false, sure: part.sure || ends.is_some(), ..part }
}
