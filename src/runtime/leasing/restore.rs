//! Credentials that were replaced and are to come back, since a workload failed
//! on what took their place.

use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use super::{super::Context, entries, keep, remote, uid_of};
use crate::{
    leases::{Held, Holdings, Keys, Record, Stage, need_again},
    plan::Memory,
    secret::SecretText,
    watch::Observed,
};

/// Whether the credentials that a value was made from are good.
pub(in crate::runtime) enum Restorable {
    /// They live, and long enough.
    Yes(Vec<Back>),
    /// It is not known yet: they are asked about first.
    NotKnown,
    /// Why not.
    No(&'static str),
}

/// One that may come back.
pub(in crate::runtime) struct Back {
    sealed: String,
    record: Record,
    values: SecretText,
}

/// Whether every entry's credential among these, as they lay sealed on the
/// Secret, is good still.
pub(in crate::runtime) fn restorable(
    context: &Context,
    observed: &Observed,
    memory: &Memory,
    issued: &str,
) -> Restorable {
    let keys = Keys::of(&context.digest_key);
    let (uid, asked) = (uid_of(&observed.bot_secret), entries(&keys, observed));
    let texts = issued.split(' ').filter(|text| !text.is_empty());
    let opened: Option<Vec<_>> = texts
        .map(|text| {
            let sealed = keys.open(uid, text)?;
            Some(Back { sealed: text.to_owned(), record: sealed.record, values: sealed.values })
        })
        .collect();
    let Some(back) = opened else { return Restorable::No("its credentials were issued for another installation") };
    let dynamic = observed.bot_secret.spec.data_from.iter().filter(|entry| entry.dynamic.is_some());
    if dynamic.count() != asked.len() {
        return Restorable::NotKnown;
    }
    let fits = |one: &Back| asked.iter().any(|entry| entry.fingerprint == one.record.entry);
    if back.len() != asked.len() || !back.iter().all(fits) {
        return Restorable::No("the spec asks for other credentials by now");
    }
    let last = observed.bot_secret.status.as_ref().and_then(|status| status.emergency.as_ref());
    if last.is_some_and(|last| last.revoke && back.iter().any(|one| one.record.request != last.id)) {
        return Restorable::No("a rotation at once was to revoke a credential of it");
    }
    for one in &back {
        match lives(one, &memory.leases, context.now()) {
            Some(true) => {}
            Some(false) => return Restorable::No("a credential of it has ended, or ends soon"),
            None => return Restorable::NotKnown,
        }
    }
    Restorable::Yes(back)
}

/// Whether it lives for longer than its replacement takes; `None` where nobody
/// has heard yet.
fn lives(one: &Back, holdings: &Holdings, wall: Timestamp) -> Option<bool> {
    let held = holdings.held.iter().find(|held| held.record.accessor == one.record.accessor);
    let own = keep::own_clock(&one.record, wall);
    let parts = match held {
        Some(held) => held.parts.as_ref()?,
        // What hangs on nothing is not looked after once it is replaced, and
        // has its own clock; anything else is gone.
        None => match &own {
            Some(parts) => parts,
            None => return Some(false),
        },
    };
    let now = Instant::now();
    let enough = |part: &crate::leases::Part| part.ends > now + need_again(part.life, holdings.rollout);
    // One that is renewed is asked about in time.
    Some(parts.iter().all(|part| if part.open { part.ends > now } else { enough(part) }))
}

/// Takes them up again, so that they are live as soon as the Secret shows them.
pub(in crate::runtime) fn restore(memory: &mut Memory, back: Vec<Back>, now: Timestamp) {
    let held = &mut memory.leases.held;
    for Back { sealed, record, values } in back {
        let known = held.iter().position(|held| held.record.accessor == record.accessor);
        let at = known.unwrap_or_else(|| {
            let parts = keep::own_clock(&record, now);
            held.push(Held { parts, ..Held::recorded(Record { stage: Stage::Retiring, ..record }) });
            held.len() - 1
        });
        if let Some(held) = held.get_mut(at) {
            (held.sealed, held.values) = (Some(sealed), Some(remote(values)));
        }
    }
}
