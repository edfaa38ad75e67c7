//! What to do about one credential. Pure.

use std::time::Duration;

use tokio::time::Instant;

use super::Stage;

/// A login may live for seconds, a rollout rarely ends in these: with at least
/// this life in mind a credential is replaced whose login's token ends.
const LEAST_FOR_TOKEN: Duration = Duration::from_secs(3600);

/// One of the clocks that end a credential: its login's or its lease's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// When it ends unless it is renewed.
    pub ends: Instant,
    /// How long it was good for when it was granted.
    pub life: Duration,
    /// Whether renewing may help. Not so where the manager refuses it, grants
    /// less than was asked, or knows no renewal.
    pub open: bool,
    /// A renewal granted less than was asked: its longest life is nearly over.
    pub last: bool,
    /// Whether its end is known, not merely the earliest that it can be.
    pub sure: bool,
}

impl Part {
    fn left(&self, now: Instant) -> Duration {
        self.ends.saturating_duration_since(now)
    }

    /// When its renewal falls due: at half its life, or sooner where a rollout
    /// takes longer.
    fn renewal(&self, rollout: Duration) -> Instant {
        let spare = (self.life / 2).max(rollout.min(self.life / 4 * 3));
        self.ends.checked_sub(spare).unwrap_or(self.ends)
    }

    /// From when on its credential must be replaced.
    fn replacement(&self, need: impl Fn(Duration) -> Duration) -> Instant {
        self.ends.checked_sub(need(self.life)).unwrap_or(self.ends)
    }
}

/// The ServiceAccount's token that a login was made with and is renewed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// When it ends.
    pub ends: Instant,
    /// How long it was good for.
    pub life: Duration,
}

impl Token {
    /// From when on a credential must be replaced because of it. A login that
    /// outlasts it needs no renewal before its own end. Otherwise there is time
    /// for a rollout, through which the old login is renewed still.
    fn replacement(&self, login: &Part, need: impl Fn(Duration) -> Duration) -> Instant {
        let ends = self.ends.max(login.ends);
        let life = self.life.min(login.life.max(LEAST_FOR_TOKEN));
        ends.checked_sub(need(life)).unwrap_or(ends)
    }
}

/// How much of a life must be left for its replacement to be rolled out: a
/// third, or what the last rollout took. Never so much that a new credential
/// would be due at once.
#[must_use]
pub fn need(life: Duration, rollout: Duration) -> Duration {
    (life / 3).max(rollout.min(life / 3 * 2))
}

/// The same of a credential that came back: what took its place has failed, so
/// half of that time is left for the next try.
#[must_use]
pub fn need_again(life: Duration, rollout: Duration) -> Duration {
    need(life, rollout) / 2
}

/// What is known of one credential.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Its stage.
    pub stage: Stage,
    /// Whether an entry of the spec asks for it, and no newer one stands for
    /// that entry.
    pub wanted: bool,
    /// Whether its values are known.
    pub has_values: bool,
    /// Its clocks; none: not known, as after a restart.
    pub parts: Option<&'a [Part]>,
    /// The token that its login was made with, where that is renewed no longer.
    pub token: Option<Token>,
    /// A renewal that failed is not tried again before this.
    pub retry: Option<Instant>,
    /// Whether no pod that may hold it is left, or its grace is over.
    pub released: bool,
    /// Whether it came back, since a workload failed on what had taken its place:
    /// then it is replaced later, once more.
    pub came_back: bool,
    /// Whether somebody wants it to end now, whoever holds it.
    pub condemned: bool,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing before then.
    Wait(Option<Instant>),
    /// Renew it, login and lease.
    Renew,
    /// Issue another in its place.
    Replace,
    /// End it for good.
    Revoke,
    /// It has ended by itself.
    Ended,
}

/// Decides about one credential. `rollout` is how long the last rollout took.
#[must_use]
pub fn decide(facts: &Facts<'_>, now: Instant, rollout: Duration) -> Step {
    if facts.condemned {
        return Step::Revoke;
    }
    match facts.stage {
        // An operator that died in mid-issue left its login and perhaps a lease,
        // of which nobody has the values.
        Stage::Issuing if !facts.has_values => return Step::Revoke,
        Stage::Retiring if facts.released => return Step::Revoke,
        _ => {}
    }
    let replaceable = facts.wanted && facts.stage != Stage::Retiring;
    if replaceable && !facts.has_values {
        return Step::Replace;
    }
    let Some(parts) = facts.parts else {
        return match facts.retry.filter(|at| *at > now) {
            Some(at) => Step::Wait(Some(at)),
            None => Step::Renew,
        };
    };
    if replaceable && parts.iter().any(|part| part.ends <= now) {
        return Step::Replace;
    }
    // One that may live is kept on record until it can be revoked.
    if parts.iter().any(|part| part.sure && part.ends <= now) {
        return Step::Ended;
    }
    // Before a replacement: until that is issued, which may fail or be suspended
    // for as long, the credential is in use.
    let due = renewal(facts, rollout);
    if due.is_some_and(|due| due <= now) {
        return Step::Renew;
    }
    let need = |life| if facts.came_back { need_again(life, rollout) } else { need(life, rollout) };
    let by_token = facts.token.zip(parts.first()).map(|(token, login)| token.replacement(login, need));
    let is_last = |part: &Part| part.last && !facts.came_back;
    if replaceable
        && (parts.iter().any(|part| is_last(part) || !part.open && part.replacement(need) <= now)
            || by_token.is_some_and(|at| at <= now))
    {
        return Step::Replace;
    }
    // A part that cannot be renewed makes renewing the others no less useful:
    // the credential must live until its replacement is rolled out.
    let closed = parts.iter().filter(|part| !part.open).map(|part| {
        let turn = if replaceable { part.replacement(need) } else { part.ends };
        if turn > now { turn } else { part.ends }
    });
    let ends = parts.iter().map(|part| part.ends);
    Step::Wait(closed.chain(due).chain(ends).chain(by_token.filter(|_| replaceable)).filter(|at| *at > now).min())
}

/// When the next renewal of a credential falls due, whatever else is due.
#[must_use]
pub fn renewal(facts: &Facts<'_>, rollout: Duration) -> Option<Instant> {
    let parts = facts.parts.unwrap_or_default();
    let due = parts.iter().filter(|part| part.open).map(|part| part.renewal(rollout)).min();
    due.map(|due| facts.retry.map_or(due, |retry| retry.max(due)))
}

/// How much of what was asked must be granted to count as all of it: managers
/// round down, and time passes on the way.
fn slack(asked: Duration) -> Duration {
    (asked / 50).max(Duration::from_secs(1))
}

impl Part {
    /// As it stands after a renewal at `at` for which `asked` was asked and
    /// `granted` was given. Less than asked means that its last life has begun.
    #[must_use]
    pub fn renewed(at: Instant, asked: Duration, granted: Duration) -> Self {
        let open = granted + slack(asked) >= asked;
        Self { ends: at + granted, life: asked.max(granted), open, last: !open, sure: true }
    }

    /// Whether it is worth renewing together with another that is due.
    #[must_use]
    pub fn is_renewable_early(&self, now: Instant) -> bool {
        self.open && self.left(now) <= self.life / 4 * 3
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
