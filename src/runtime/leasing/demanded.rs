//! What somebody wants of credentials now: others in their places, or their end.

use crate::{
    api::BotSecret,
    leases::{Demand, Holdings},
    plan::{Memory, Retry, emergency, emergency_due},
    report::OldCredentials,
};

/// Takes in what is asked for.
pub(super) fn note_demand(object: &BotSecret, memory: &mut Memory) {
    let before = memory.leases.demand.take();
    let Some(request) = emergency(object) else { return };
    let before = before.filter(|before| before.id == request.id);
    // A lost race is no failure, and what passes by itself is one when it came thrice.
    let in_vain = memory.problem.as_ref().is_some_and(|problem| match problem.retry {
        Retry::Soon => false,
        Retry::Slow => memory.failures > 0,
        _ => memory.failures >= 3,
    });
    memory.leases.demand = Some(Box::new(Demand {
        id: request.id,
        revoke: request.revoke,
        open: emergency_due(object).is_some(),
        in_vain,
        ..before.map(|before| *before).unwrap_or_default()
    }));
}

/// Whether it is to end now, whoever holds it.
pub(super) fn condemned(holdings: &Holdings, at: usize) -> bool {
    let held = holdings.held.get(at);
    held.zip(holdings.demand.as_ref()).is_some_and(|(held, demand)| demand.ends(&held.record))
}

/// Whether another is to be issued in its place now.
pub(super) fn is_demanded(holdings: &Holdings, at: usize) -> bool {
    let held = holdings.held.get(at);
    held.zip(holdings.demand.as_ref()).is_some_and(|(held, demand)| demand.replaces(&held.record))
}

/// What became of those that are to end now.
pub(in crate::runtime) fn old_credentials(memory: &Memory) -> OldCredentials {
    let holdings = &memory.leases;
    let Some(demand) = &holdings.demand else { return OldCredentials::default() };
    let pending = holdings.held.iter().any(|held| demand.ends(&held.record));
    OldCredentials { pending, revoked: demand.revoked, left: demand.left }
}
