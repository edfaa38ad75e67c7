//! Asks an operator for its metrics once a second, as Prometheus would, and keeps what
//! it answers.

use std::{
    pin::pin,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::ensure;
use tokio::time::{Interval, interval};

use crate::{
    promtool::{Recording, Scrape},
    support::{Bench, Result},
};

const EVERY: Duration = Duration::from_secs(1);
/// How long a metric may take to tell of what is so. Machines are slow at times.
const PATIENCE: Duration = Duration::from_secs(150);
/// How long is recorded what it is like when all is well.
pub const HEALTHY: Duration = Duration::from_secs(10);

/// One target of Prometheus.
pub struct Scraper {
    http: reqwest::Client,
    url: String,
    namespace: String,
    pod: &'static str,
    scrapes: Mutex<Vec<Scrape>>,
}

/// Something that broke, and all that was answered before and after.
pub struct Scene {
    pub namespace: String,
    /// Since 1970: until then all was well.
    pub healthy_until: Duration,
    pub recordings: Vec<Recording>,
}

impl Scene {
    /// What was answered while all was well.
    pub fn healthy(&self) -> Vec<Recording> {
        let until = |recording: &Recording| {
            let scrapes = recording.scrapes.iter().filter(|scrape| scrape.at <= self.healthy_until);
            Recording { scrapes: scrapes.cloned().collect(), rhythm: HEALTHY, ..recording.clone() }
        };
        self.recordings.iter().map(until).filter(|recording| !recording.scrapes.is_empty()).collect()
    }

    /// When the last answer came, or was waited for.
    pub fn end(&self) -> Duration {
        let scrapes = self.recordings.iter().flat_map(|recording| &recording.scrapes);
        scrapes.map(|scrape| scrape.at).max().unwrap_or_default()
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn seconds() -> Interval {
    interval(EVERY)
}

/// One number of an answer; 0 where it is not there.
pub fn number(answer: &str, series: &str) -> f64 {
    let of_it = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
    answer.lines().find_map(of_it).unwrap_or_default()
}

/// Whether a condition of a BotSecret gives this reason.
pub fn tells(answer: &str, condition: &str, reason: &str) -> bool {
    number(answer, &format!("botsecret_conditions{{condition=\"{condition}\",reason=\"{reason}\"}}")) >= 1.0
}

/// How many reads and logins failed in such a way.
pub fn errors(answer: &str, class: &str) -> f64 {
    number(answer, &format!("botsecret_store_errors_total{{class=\"{class}\"}}"))
}

impl Scraper {
    /// Of the operator in this pod that answers there.
    pub fn new(bench: &Bench, url: String, pod: &'static str) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        Ok(Self { http, url, namespace: bench.namespace.clone(), pod, scrapes: Mutex::default() })
    }

    /// Of the bench's own operator.
    pub fn of(bench: &Bench) -> Result<Self> {
        Self::new(bench, bench.operator.url("/metrics"), "operator-1")
    }

    async fn scrape(&self) -> Option<String> {
        let answer = async { self.http.get(&self.url).send().await?.error_for_status()?.text().await };
        let scrape = Scrape { at: now(), answer: answer.await.ok() };
        let answer = scrape.answer.clone();
        self.scrapes.lock().unwrap_or_else(PoisonError::into_inner).push(scrape);
        answer
    }

    /// Asks until an answer is such.
    pub async fn until(&self, what: &str, is_such: impl Fn(&str) -> bool) -> Result {
        let (began, mut ticks) = (Instant::now(), seconds());
        loop {
            ticks.tick().await;
            if self.scrape().await.as_deref().is_some_and(&is_such) {
                return Ok(());
            }
            ensure!(began.elapsed() < PATIENCE, "the metrics of {} never told of {what}", self.namespace);
        }
    }

    /// Asks for so long.
    pub async fn go_on(&self, time: Duration) {
        let (began, mut ticks) = (Instant::now(), seconds());
        while began.elapsed() < time {
            ticks.tick().await;
            self.scrape().await;
        }
    }

    /// As if so much time had passed since the last answer, in which all stayed as it was:
    /// everything so far was so much earlier.
    pub fn let_pass(&self, time: Duration) {
        for scrape in self.scrapes.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            scrape.at = scrape.at.saturating_sub(time);
        }
    }

    /// Asks until something else is over.
    pub async fn during<T>(&self, what: impl Future<Output = Result<T>>) -> Result<T> {
        let mut what = pin!(what);
        let mut ticks = seconds();
        loop {
            tokio::select! {
                result = &mut what => return result,
                _ = ticks.tick() => drop(self.scrape().await),
            }
        }
    }

    /// Asks until a BotSecret is counted as Ready, and for a while after that. Answers
    /// the time, since 1970.
    pub async fn healthy(&self) -> Result<Duration> {
        self.until("a BotSecret that is Ready", |answer| tells(answer, "Ready", "Synced")).await?;
        self.go_on(HEALTHY).await;
        Ok(now())
    }

    /// All answers; what grew within `rhythm` at their end goes on like that.
    pub fn recording(self, rhythm: Duration) -> Recording {
        let labels = vec![("namespace", self.namespace), ("pod", self.pod.to_owned())];
        Recording { labels, scrapes: self.scrapes.into_inner().unwrap_or_else(PoisonError::into_inner), rhythm }
    }

    /// The scene in which only this target was asked.
    pub fn scene(self, healthy_until: Duration, rhythm: Duration) -> Scene {
        Scene { namespace: self.namespace.clone(), healthy_until, recordings: vec![self.recording(rhythm)] }
    }
}
