//! What unit tests of backends share.

use std::sync::LazyLock;

use super::{Credentials, HttpClients, LARGEST_ANSWER, Login, Opening, Pace, RemoteKey, Scope, ServiceAccount};
use crate::secret::SecretText;

/// A namespace's store, without credentials.
pub(super) fn opening(clients: &HttpClients) -> Opening<'_> {
    Opening {
        scope: Scope::Namespace,
        credentials: Credentials::default(),
        clients,
        proxy: None,
        largest_answer: LARGEST_ANSWER,
    }
}

/// The ServiceAccount `bot` of namespace `trading`.
pub(super) fn account() -> &'static ServiceAccount {
    static ACCOUNT: LazyLock<ServiceAccount> = LazyLock::new(|| ServiceAccount {
        namespace: "trading".into(),
        name: "bot".into(),
        uid: "uid-bot".into(),
        ..ServiceAccount::default()
    });
    &ACCOUNT
}

/// A login of that account.
pub(super) fn login(token: &SecretText) -> Login<'_> {
    Login { account: account(), token: Some(token), pace: Pace::default() }
}

/// A remote key.
pub(super) fn key(name: &str, version: Option<&str>) -> RemoteKey {
    RemoteKey { key: name.into(), version: version.map(Into::into), metadata: false, dated: false }
}
