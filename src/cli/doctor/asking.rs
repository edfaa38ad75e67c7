//! Asks the API server, as long as there is time.

use std::time::Duration;

use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};

/// How long any answer may take …
const PATIENCE: Duration = Duration::from_secs(10);
/// … and how long all those of a look may take at least, however little time is left.
const LEAST: Duration = Duration::from_secs(2);

/// Why something is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// Whoever asks may not.
    Forbidden(String),
    /// No answer.
    Failed(String),
    /// An answer that cannot be read.
    Unreadable(String),
}

pub(super) type Known<T> = Result<T, Unknown>;

/// The API server, and until when it is asked.
pub(super) struct Cluster {
    pub(super) client: Client,
    until: Option<Instant>,
}

impl Cluster {
    /// For one look.
    pub(super) fn new(client: Client, until: Option<Instant>) -> Self {
        Self { client, until: until.map(|until| until.max(Instant::now() + LEAST)) }
    }

    pub(super) async fn asked<T>(&self, what: &str, answer: impl Future<Output = kube::Result<T>>) -> Known<T> {
        let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        match timeout(left.map_or(PATIENCE, |left| left.min(PATIENCE)), answer).await {
            Ok(answer) => answer.map_err(|error| sorted(what, &error)),
            Err(_) => Err(Unknown::Failed(format!("{what}: no answer in time"))),
        }
    }

    pub(super) async fn get<K>(&self, api: Api<K>, name: &str, what: &str) -> Known<Option<K>>
    where
        K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
    {
        self.asked(what, api.get_opt(name)).await
    }
}

/// None of the words of a parser: they may quote what it read.
fn sorted(what: &str, error: &kube::Error) -> Unknown {
    match error {
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => Unknown::Forbidden(what.to_owned()),
        kube::Error::Api(status) => Unknown::Failed(format!("{what}: {}", status.message)),
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => {
            Unknown::Unreadable(format!("{what}: something in the answer is not as this botsecret knows it"))
        }
        kube::Error::Service(_) | kube::Error::HyperError(_) => {
            Unknown::Failed(format!("{what}: no connection to the API server"))
        }
        kube::Error::Auth(_) => Unknown::Failed(format!("{what}: the kubeconfig's credentials cannot be had")),
        _ => Unknown::Failed(format!("{what}: the API server cannot be asked")),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        time::{Duration, Instant},
    };

    use botsecret_testbed::BlackHole;
    use kube::{Client, Config, core::Status};

    use super::{
        super::{
            facts::{Where, facts},
            findings::{Stage, State, examine},
        },
        Cluster, Unknown, sorted,
    };

    #[test]
    fn what_cannot_be_read_is_told_from_no_connection_and_quotes_nothing() {
        let unreadable = serde_json::from_str::<u8>(r#""canary""#).expect_err("no number");
        let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "canary");
        let status = |code| kube::Error::Api(Box::new(Status::failure("too many requests", "").with_code(code)));
        let readable = "list botsecrets: something in the answer is not as this botsecret knows it";
        for (error, wanted) in [
            (kube::Error::SerdeError(unreadable), Unknown::Unreadable(readable.to_owned())),
            (
                kube::Error::Service(Box::new(refused)),
                Unknown::Failed("list botsecrets: no connection to the API server".to_owned()),
            ),
            (status(429), Unknown::Failed("list botsecrets: too many requests".to_owned())),
            (status(403), Unknown::Forbidden("list botsecrets".to_owned())),
        ] {
            assert_eq!(sorted("list botsecrets", &error), wanted, "{error:?}");
        }
    }

    #[tokio::test]
    async fn an_api_server_that_never_answers_takes_no_more_time_than_there_is() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let hole = BlackHole::start().await.expect("a listener");
        let config = Config::new(format!("http://{}", hole.address()).parse().expect("a URL"));
        let client = Client::try_from(config).expect("a client");
        let began = Instant::now();
        let cluster = Cluster::new(client, Some(tokio::time::Instant::now() + Duration::from_millis(100)));
        let place = Where { namespace: "botsecret-system", name: "botsecret" };
        let found = examine(&facts(&cluster, place, Stage::Live).await, Stage::Live);
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        let silent = found.iter().filter(|one| one.message.ends_with("no answer in time"));
        assert!(silent.count() > 5 && found.iter().any(|one| one.state == State::Wrong), "{found:?}");
        assert!(hole.accepted() > 0, "it was asked");
    }
}
