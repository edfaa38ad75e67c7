//! On whose behalf a manager is asked, and why. Known to the task that runs a pass,
//! so that what lies between it and the manager need not hand it on.

use std::sync::Arc;

tokio::task_local! {
    static ASKER: Asker;
}

/// Why the operator reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// Somebody asked for it: the annotation `refresh`, or a rotation at once.
    Forced,
    /// The BotSecret is new, or its spec was edited.
    Spec,
    /// The first read of a known BotSecret since the process began, or leads.
    Start,
    /// Something that it depends on came, changed or recovered, or the operator
    /// itself has rotated it.
    Event,
    /// The last read or write failed.
    Retry,
    /// A leased credential is to be issued.
    Lease,
    /// A value that lay beside its successor may go.
    Overlap,
    /// The Secret is not as it was written.
    Drift,
    /// A value ends and is had anew.
    Renewal,
    /// A new value is being tried.
    Trial,
    /// The interval is over.
    Refresh,
    /// For a rotation: how old the value is, or whether a new one has come.
    Rotation,
    /// What the manager gave before, to lie beside the new value.
    Previous,
    /// A value is to be taken back.
    RollBack,
}

impl Why {
    /// Its name in the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Forced => "forced",
            Self::Spec => "spec",
            Self::Start => "start",
            Self::Event => "event",
            Self::Retry => "retry",
            Self::Lease => "lease",
            Self::Overlap => "overlap",
            Self::Drift => "drift",
            Self::Renewal => "renewal",
            Self::Trial => "trial",
            Self::Refresh => "refresh",
            Self::Rotation => "rotation",
            Self::Previous => "previous",
            Self::RollBack => "roll_back",
        }
    }
}

/// On whose behalf, and why, as far as anybody has said so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asker {
    /// The name of a BotSecret in the ServiceAccount's namespace.
    pub(crate) bot_secret: Option<Arc<str>>,
    pub(crate) why: Option<Why>,
}

impl Asker {
    /// Of the task that this runs in.
    pub(crate) fn current() -> Self {
        ASKER.try_with(Self::clone).unwrap_or_default()
    }
}

/// What is asked of managers in there is asked for this BotSecret.
pub(crate) fn asking<F: Future>(bot_secret: &str, pass: F) -> impl Future<Output = F::Output> + use<F> {
    ASKER.scope(Asker { bot_secret: Some(bot_secret.into()), why: None }, pass)
}

/// What is asked of managers in there is asked for this reason.
pub(crate) fn because<F: Future>(why: Option<Why>, request: F) -> impl Future<Output = F::Output> + use<F> {
    ASKER.scope(Asker { why, ..Asker::current() }, request)
}

#[cfg(test)]
mod tests {
    use super::{Asker, Why, asking, because};

    #[tokio::test]
    async fn what_is_asked_is_asked_for_whose_pass_it_is_and_for_the_nearest_reason() {
        assert_eq!(Asker::current(), Asker::default());
        let asked = asking("bot", async {
            let outside = Asker::current();
            let inside = because(Some(Why::Refresh), async {
                let older = because(Some(Why::Previous), async { Asker::current() }).await;
                (Asker::current(), older)
            });
            let (refresh, older) = inside.await;
            [outside, refresh, older]
        });
        let asked = asked.await.map(|asker| (asker.bot_secret.as_deref().map(str::to_owned), asker.why));
        let bot = || Some("bot".to_owned());
        assert_eq!(asked, [(bot(), None), (bot(), Some(Why::Refresh)), (bot(), Some(Why::Previous))]);
        assert_eq!(Asker::current(), Asker::default());
    }
}
