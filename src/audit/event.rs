//! The event, and its line.

use std::{borrow::Cow, time::Duration};

use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use super::{Asker, anomalies::Anomaly};
use crate::{
    api::{StoreKind, StoreRef},
    stores::{ErrorClass, FindQuery, RemoteKey, ServiceAccount},
};

/// What a manager was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To let an identity in.
    Login,
    /// For a remote secret.
    Read,
    /// For the names of remote secrets.
    Search,
    /// To take a new value.
    Write,
    /// To make a new value.
    Rotate,
    /// For a leased credential.
    Issue,
    /// To let a leased credential, or the login that it hangs on, live on.
    Renew,
    /// To end one.
    Revoke,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Login, Self::Read, Self::Search, Self::Write, Self::Rotate, Self::Issue, Self::Renew, Self::Revoke];

    /// Its name in the log and in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Read => "read",
            Self::Search => "search",
            Self::Write => "write",
            Self::Rotate => "rotate",
            Self::Issue => "issue",
            Self::Renew => "renew",
            Self::Revoke => "revoke",
        }
    }
}

/// Whose request it was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Request {
    /// One of its own, that took so long.
    Own(Duration),
    /// Another's, whose answer was shared.
    Shared,
    /// None was made.
    None,
}

impl Request {
    pub(crate) fn is_own(self) -> bool {
        matches!(self, Self::Own(_))
    }
}

/// A store, as its BotSecrets name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoreName {
    pub(crate) kind: StoreKind,
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl StoreName {
    pub(crate) fn of(reference: &StoreRef, uid: &str) -> Self {
        Self { kind: reference.kind.unwrap_or_default(), name: reference.name.clone(), uid: uid.to_owned() }
    }

    pub(crate) fn kind_name(&self) -> &'static str {
        match self.kind {
            StoreKind::BotSecretStore => "BotSecretStore",
            StoreKind::ClusterBotSecretStore => "ClusterBotSecretStore",
        }
    }
}

/// What the call was about: names alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Remote<'a> {
    key: Cow<'a, str>,
    pinned: Option<&'a str>,
    version: Option<Cow<'a, str>>,
    metadata: bool,
}

impl<'a> Remote<'a> {
    /// As the BotSecret names it, or what it looks for.
    pub(crate) fn name(&self) -> &str {
        &self.key
    }

    pub(crate) fn of(key: &'a RemoteKey) -> Self {
        Self { key: Cow::Borrowed(&key.key), pinned: key.version.as_deref(), version: None, metadata: key.metadata }
    }

    /// The version that was read, where the manager tells it.
    pub(crate) fn at(self, version: Option<Cow<'a, str>>) -> Self {
        Self { version, ..self }
    }

    /// The path that issues a credential.
    pub(crate) fn path(path: &'a str) -> Option<Self> {
        (!path.is_empty()).then(|| Self { key: Cow::Borrowed(path), ..Self::default() })
    }

    /// What is looked for.
    pub(crate) fn searched(query: &'a FindQuery) -> Self {
        let tags = || query.tags.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",");
        let wanted = query.path.as_deref().or(query.name.as_deref());
        Self { key: wanted.map_or_else(|| Cow::Owned(tags()), Cow::Borrowed), ..Self::default() }
    }
}

/// A call of a manager that has ended, or was not made.
#[derive(Clone, Debug)]
pub(crate) struct Event<'a> {
    pub(crate) kind: Kind,
    /// Whose identity; `None` where the store's own credentials log in.
    pub(crate) account: Option<&'a ServiceAccount>,
    pub(crate) asker: Asker,
    pub(crate) store: &'a StoreName,
    pub(crate) remote: Option<Remote<'a>>,
    /// `None`: it went well.
    pub(crate) failure: Option<ErrorClass>,
    pub(crate) request: Request,
    /// It is asked once more with a new login, since the old one may be dead.
    pub(crate) retried: bool,
    /// The same request has denied this identity another remote secret, on a line before.
    pub(crate) denied_before: bool,
}

impl<'a> Event<'a> {
    /// Of this kind at this store; what else is known is filled in by the caller.
    pub(crate) fn at(kind: Kind, store: &'a StoreName) -> Self {
        Self {
            kind,
            account: None,
            asker: Asker::default(),
            store,
            remote: None,
            failure: None,
            request: Request::None,
            retried: false,
            denied_before: false,
        }
    }

    /// Whether remote secrets, or their names, are read.
    pub(super) fn is_read(&self) -> bool {
        matches!(self.kind, Kind::Read | Kind::Search)
    }

    /// Its line in the log.
    pub(super) fn line(&self, time: Timestamp, anomalies: &[Anomaly]) -> Vec<u8> {
        let remote = self.remote.as_ref();
        let version = remote.and_then(|remote| remote.version.as_deref().or(remote.pinned));
        let line = Line {
            log: "audit",
            time: format!("{time:.3}"),
            event: self.kind.name(),
            namespace: self.account.map(|account| account.namespace.as_str()),
            service_account: self.account.map(|account| account.name.as_str()),
            bot_secret: self.asker.bot_secret.as_deref(),
            store: StoreLine { kind: self.store.kind_name(), name: &self.store.name },
            remote: remote.map(|remote| &*remote.key),
            version,
            metadata: remote.is_some_and(|remote| remote.metadata),
            outcome: self.failure.map_or("ok", ErrorClass::name),
            request: match self.request {
                Request::Own(_) => "own",
                Request::Shared => "shared",
                Request::None => "none",
            },
            seconds: match self.request {
                Request::Own(took) => Some(milliseconds(took)),
                Request::Shared | Request::None => None,
            },
            retried: self.retried,
            why: match self.asker.why {
                Some(why) => Some(why.name()),
                None => self.is_read().then_some("unexplained"),
            },
            anomalies: anomalies.iter().map(|anomaly| anomaly.name()).collect(),
        };
        // Strings and numbers always are JSON.
        let mut text = serde_json::to_vec(&line).unwrap_or_default();
        text.push(b'\n');
        text
    }
}

/// In seconds, to the millisecond.
fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1000.0).round() / 1000.0
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    log: &'static str,
    time: String,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bot_secret: Option<&'a str>,
    store: StoreLine<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "is_false")]
    metadata: bool,
    outcome: &'static str,
    request: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "is_false")]
    retried: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    anomalies: Vec<&'static str>,
}

#[derive(Serialize)]
struct StoreLine<'a> {
    kind: &'static str,
    name: &'a str,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it so")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use k8s_openapi::jiff::Timestamp;

    use super::{super::Why, Anomaly, Asker, Event, Kind, Remote, Request, StoreName};
    use crate::{
        api::{StoreKind, StoreRef},
        stores::{ErrorClass, FindQuery, RemoteKey, ServiceAccount},
    };

    fn lines(event: &Event<'_>, anomalies: &[Anomaly]) -> String {
        let time: Timestamp = "2026-07-01T08:30:00.0421Z".parse().expect("a time");
        String::from_utf8(event.line(time, anomalies)).expect("UTF-8")
    }

    #[test]
    fn a_read_is_one_line_of_json_with_who_what_why_and_what_came_of_it() {
        let store = StoreName::of(&StoreRef { name: "vault".into(), kind: None }, "uid");
        let account =
            ServiceAccount { namespace: "trading".into(), name: "price-bot".into(), ..ServiceAccount::default() };
        let key = RemoteKey { key: "kv/\"price\nbot".into(), version: None, metadata: false, dated: false };
        let event = Event {
            account: Some(&account),
            asker: Asker { bot_secret: Some("price".into()), why: Some(Why::Refresh) },
            remote: Some(Remote::of(&key).at(Some("7".into()))),
            request: Request::Own(Duration::from_micros(12_345)),
            ..Event::at(Kind::Read, &store)
        };
        let wanted = concat!(
            r#"{"log":"audit","time":"2026-07-01T08:30:00.042Z","event":"read","namespace":"trading","#,
            r#""serviceAccount":"price-bot","botSecret":"price","store":{"kind":"BotSecretStore","name":"vault"},"#,
            r#""remote":"kv/\"price\nbot","version":"7","outcome":"ok","request":"own","seconds":0.012,"#,
            r#""why":"refresh"}"#,
            "\n"
        );
        assert_eq!(lines(&event, &[]), wanted);
    }

    #[test]
    fn what_is_not_known_is_left_out_and_a_read_without_a_reason_says_so() {
        let reference = StoreRef { name: "platform".into(), kind: Some(StoreKind::ClusterBotSecretStore) };
        let store = StoreName::of(&reference, "uid");
        let key = RemoteKey { key: "a".into(), version: Some("3".into()), metadata: true, dated: false };
        let denied = Event {
            remote: Some(Remote::of(&key)),
            failure: Some(ErrorClass::Denied),
            request: Request::Shared,
            ..Event::at(Kind::Read, &store)
        };
        let beginning = r#"{"log":"audit","time":"2026-07-01T08:30:00.042Z","event":"#;
        let place = r#""store":{"kind":"ClusterBotSecretStore","name":"platform"}"#;
        assert_eq!(
            lines(&denied, &[Anomaly::UnexplainedRead]),
            format!(
                "{beginning}\"read\",{place},\"remote\":\"a\",\"version\":\"3\",\"metadata\":true,\
                 \"outcome\":\"denied\",\"request\":\"shared\",\"why\":\"unexplained\",\
                 \"anomalies\":[\"unexplained_read\"]}}\n"
            )
        );
        let login = Event { retried: true, ..Event::at(Kind::Login, &store) };
        assert_eq!(
            lines(&login, &[]),
            format!("{beginning}\"login\",{place},\"outcome\":\"ok\",\"request\":\"none\",\"retried\":true}}\n")
        );
    }

    #[test]
    fn a_search_is_named_by_the_first_of_what_it_looks_for() {
        let query = |path: Option<&str>, name: Option<&str>| FindQuery {
            path: path.map(str::to_owned),
            name: name.map(str::to_owned),
            tags: [("team".to_owned(), "a".to_owned()), ("tier".to_owned(), "1".to_owned())].into(),
        };
        for (query, wanted) in [
            (query(Some("bots/"), Some("^x")), "bots/"),
            (query(None, Some("^x")), "^x"),
            (query(None, None), "team=a,tier=1"),
        ] {
            assert_eq!(Remote::searched(&query).key, wanted);
        }
        assert_eq!(Remote::path(""), None);
    }
}
